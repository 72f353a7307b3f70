"""Tiny random networks of many families of transformers, for tests: made from settings, nothing is downloaded."""

import torch

HALF = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48)
DECODER = dict(**HALF, num_key_value_heads=2, head_dim=8)
PATCHES = dict(**HALF, image_size=32, patch_size=8)
STAGES = dict(image_size=32, patch_size=4, embed_dim=16, depths=[1, 1], num_heads=[2, 2], window_size=4)
SEQ2SEQ = dict(
    d_model=32,
    encoder_layers=2,
    decoder_layers=1,
    encoder_attention_heads=4,
    decoder_attention_heads=4,
    encoder_ffn_dim=48,
    decoder_ffn_dim=48,
)
T5 = dict(d_model=32, d_ff=48, d_kv=8, num_layers=2, num_heads=4)
PYRAMID = dict(hidden_sizes=[8, 8, 16, 32], depths=[1, 1, 1, 1], num_attention_heads=[1, 1, 2, 4])
GPT = dict(n_embd=32, n_layer=2, n_head=4)
DISENTANGLED = dict(relative_attention=True, pos_att_type=["c2p", "p2c"])

ENCODERS = {
    "bert": HALF,
    "roberta": HALF,
    "xlm-roberta": HALF,
    "camembert": HALF,
    "electra": {**HALF, "embedding_size": 32},
    "ernie": HALF,
    "distilbert": dict(dim=32, n_layers=2, n_heads=4, hidden_dim=48),
    "mpnet": HALF,
    "albert": {**HALF, "embedding_size": 16},
    "modernbert": {**HALF, "local_attention": 8, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
    "deberta": {**HALF, **DISENTANGLED},
    "deberta-v2": {**HALF, **DISENTANGLED},
    "nomic_bert": HALF,
    "eurobert": {**DECODER, "pad_token_id": 0},
    "rembert": {**HALF, "input_embedding_size": 32, "output_embedding_size": 32},
    "roformer": {**HALF, "embedding_size": 32},
    "megatron-bert": HALF,
    "squeezebert": {**HALF, "embedding_size": 32},
    "longformer": {**HALF, "attention_window": 4},
    "big_bird": {**HALF, "block_size": 4, "num_random_blocks": 1},
    "xlnet": dict(d_model=32, n_layer=2, n_head=4, d_inner=48),
    "siglip_text_model": {**HALF, "projection_size": 32},
    "t5": T5,
    "umt5": T5,
    "bart": SEQ2SEQ,
    "mbart": SEQ2SEQ,
}
DECODERS = {
    "clip_text_model": {**HALF, "eos_token_id": 5},
    "gpt2": GPT,
    "gpt_neox": HALF,
    "opt": dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, ffn_dim=48, word_embed_proj_dim=32),
    "bloom": dict(hidden_size=32, n_layer=2, n_head=4),
    "llama": DECODER,
    "mistral": {**DECODER, "sliding_window": 4},
    "qwen2": DECODER,
    "qwen3": DECODER,
    "gemma": DECODER,
    "gemma3_text": {**DECODER, "sliding_window": 4},
    "phi3": {**DECODER, "pad_token_id": 0},
    "biogpt": HALF,
    "mamba": dict(hidden_size=32, num_hidden_layers=2, state_size=4),
}
REFUSED = {
    "fnet": dict(hidden_size=32, num_hidden_layers=2, intermediate_size=48),
    "convbert": HALF,
    "canine": HALF,
    "yoso": HALF,
    "funnel": dict(d_model=32, n_head=4, d_head=8, d_inner=48, block_sizes=[1, 1]),
    "nystromformer": {**HALF, "segment_means_seq_len": 16, "num_landmarks": 4},
    "perceiver": dict(d_latents=32, d_model=32),
}
IMAGES = {
    "vit": PATCHES,
    "deit": PATCHES,
    "vit_msn": PATCHES,
    "vit_mae": PATCHES,
    "dinov2": PATCHES,
    "dinov2_with_registers": {**PATCHES, "num_register_tokens": 4},
    "dinov3_vit": {**PATCHES, "num_register_tokens": 4},
    "ijepa": PATCHES,
    "beit": PATCHES,
    "data2vec-vision": PATCHES,
    "clip_vision_model": PATCHES,
    "chinese_clip_vision_model": PATCHES,
    "mlcd_vision_model": PATCHES,
    "aimv2_vision_model": PATCHES,
    "siglip_vision_model": PATCHES,
    "siglip2_vision_model": {**PATCHES, "num_patches": 16},
    "swin": STAGES,
    "swinv2": STAGES,
    "donut-swin": STAGES,
    "hiera": dict(
        embed_dim=8,
        image_size=[32, 32],
        patch_size=[7, 7],
        patch_stride=[4, 4],
        patch_padding=[3, 3],
        depths=[1, 1],
        num_heads=[1, 1],
        mlp_ratio=2.0,
        num_query_pool=1,
        masked_unit_size=[4, 4],
        masked_unit_attention=[True, False],
    ),
    "pvt_v2": dict(image_size=32, **PYRAMID),
    "segformer": dict(**PYRAMID, decoder_hidden_size=16),
    "poolformer": dict(hidden_sizes=[8, 8, 16, 32], depths=[1, 1, 1, 1]),
    "resnet": dict(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1]),
    "regnet": dict(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], groups_width=8),
    "bit": dict(embedding_size=8, hidden_sizes=[32, 64], depths=[1, 1], num_groups=4),
    "efficientnet": dict(image_size=32, width_coefficient=0.25, depth_coefficient=0.1, hidden_dim=320),
    "convnext": dict(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, image_size=32),
    "convnextv2": dict(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, image_size=32),
    "dinov3_convnext": dict(hidden_sizes=[8, 16, 16, 16], depths=[1, 1, 1, 1], image_size=32),
}


def text_settings(kind: str) -> dict:
    """The settings of a tiny text network of a family, 60 word pieces and 64 places."""
    own = {**ENCODERS, **DECODERS, **REFUSED}[kind]
    places = {} if kind in ("xlnet", "mamba", "bloom", "t5", "umt5") else {"max_position_embeddings": 64}
    return {"model_type": kind, "vocab_size": 60, **places, **own}


def image_settings(kind: str) -> dict:
    """The settings of a tiny image network of a family, for films of 32 pixels."""
    return {"model_type": kind, **IMAGES[kind]}


def backbone(settings: dict, kind: str) -> torch.nn.Module:
    """The random network of these settings, the same at every call, in eval mode; kind: image or text."""
    from medret_nb.methods.backbones import backbone_from_config

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return backbone_from_config(settings, kind).eval()


def two_towers(kind: str, folder) -> torch.nn.Module:
    """A tiny random CLIP, SigLIP or SigLIP 2 with a tokenizer, saved in `folder` as the Hub has them; in eval mode."""
    from transformers import AutoConfig, AutoModel

    from medret_nb.data.tokens import save_tokenizer, train_tokenizer

    words = ["No pleural effusion is seen.", "The heart is enlarged, small left pneumothorax."]
    tokenizer = train_tokenizer(words, size=90)
    ends = {"eos_token_id": tokenizer.sep_token_id, "bos_token_id": 2, "pad_token_id": tokenizer.pad_token_id}
    text = {**HALF, **ends, "vocab_size": 90, "max_position_embeddings": 16, "projection_size": 32}
    film = {**PATCHES, **({"num_patches": 16} if kind == "siglip2" else {})}
    own = {"projection_dim": 24} if kind == "clip" else {}
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = AutoModel.from_config(AutoConfig.for_model(kind, text_config=text, vision_config=film, **own))
        for value in network.parameters():
            torch.nn.init.normal_(value, std=0.2) if value.ndim > 1 else None
    network.save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
    return network.eval()
