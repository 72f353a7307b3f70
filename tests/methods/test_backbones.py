"Where backbones come from: no code runs, nothing is missing; and every family of texts is exact or refused."

import json
import shutil

import pytest
import torch
from families import DECODERS, ENCODERS, HALF, PATCHES, REFUSED, backbone, image_settings, text_settings
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AutoModel,
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    SiglipConfig,
    SiglipModel,
    T5Config,
    T5EncoderModel,
    T5Model,
    ViTConfig,
    ViTModel,
)

from medret_nb.data.files import DataError, write_json
from medret_nb.data.tokens import load_tokenizer, save_tokenizer, tokenize, train_tokenizer
from medret_nb.methods.backbones import (
    FOREIGN,
    asks_for,
    backbone_from_config,
    error_in_a_line,
    films_of,
    load_backbone,
    load_network,
    network_config,
    part_of,
    plain_settings,
    preprocessor_of,
    weights_source,
    whole_network,
)
from medret_nb.methods.building import check_encoder, text_trial
from medret_nb.methods.clip import CLIP
from medret_nb.methods.clip import CLIPConfig as Settings
from medret_nb.methods.encoders import TextEncoder
from medret_nb.methods.families import NORMALISATIONS
from medret_nb.methods.table import load_method

EVIL = "open({!r}, 'w').write('ran')\nraise SystemExit('ran')\n"
made = {}


def text_encoder(kind):
    "The text encoder of a family, made once."
    if kind not in made:
        made[kind] = TextEncoder(backbone(text_settings(kind), "text")).eval()
    return made[kind]


@pytest.mark.parametrize("kind", [*ENCODERS, *DECODERS])
@settings(max_examples=4, deadline=None)
@given(length=st.integers(3, 30), padding=st.integers(1, 30), seed=st.integers(0, 99))
def test_a_texts_vectors_are_the_backbones_own_whatever_the_padding(kind, length, padding, seed):
    "Alone and without any mask the backbone finds what we find in company; longer texts than its window, too."
    encoder = text_encoder(kind)
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(6, 60, (3, length + padding), generator=generator)
    mask = torch.ones_like(tokens, dtype=torch.bool)
    mask[1, length:] = False
    tokens[1, length:] = encoder.backbone.config.pad_token_id or 0
    with torch.no_grad():
        own = encoder.backbone(input_ids=tokens[1:2, :length]).last_hidden_state[0]
        pooled, words = encoder(tokens, mask)
    assert torch.allclose(words[1, :length], own, atol=2e-5)
    assert torch.allclose(pooled[1], own.mean(0), atol=2e-5)


@pytest.mark.parametrize("kind", DECODERS)
def test_causal_backbones_stay_causal(kind):
    "A piece does not see what stands after it; and the last one sees all."
    encoder = text_encoder(kind)
    tokens = torch.arange(6, 30)[None].repeat(2, 1)
    tokens[1, 12] = 55
    with torch.no_grad():
        change = encoder(tokens, torch.ones_like(tokens, dtype=torch.bool))[1].diff(dim=0)[0].norm(dim=-1)
    assert change[:12].max() < 1e-5 < change[12]


@pytest.mark.parametrize("kind", [*ENCODERS, *DECODERS])
def test_the_trial_passes_every_family_that_is_exact(kind):
    check_encoder(text_encoder(kind), kind, text_trial, 40, 0)


@pytest.mark.parametrize("kind", REFUSED)
def test_the_others_are_refused_in_one_line(kind):
    with pytest.raises(DataError, match="backbone") as caught:
        check_encoder(TextEncoder(backbone(text_settings(kind), "text")), "backbone", text_trial, 40, 0)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


@pytest.mark.parametrize("kind", ["resnet", "vit", "siglip2_vision_model", "hubert"])
def test_what_reads_no_word_pieces_is_no_text_backbone(kind):
    own = image_settings(kind) if kind != "hubert" else {"model_type": kind, **HALF}
    with pytest.raises(DataError, match="does not read word pieces"):
        TextEncoder(backbone(own, "text"))


def test_first_says_nothing_in_a_causal_network():
    encoder = TextEncoder(backbone(text_settings("gpt2"), "text"), "first")
    with pytest.raises(DataError, match="text_pool must be mean or last"):
        check_encoder(encoder, "gpt2", text_trial, 20, 0)
    for pool in ("mean", "last"):
        check_encoder(TextEncoder(backbone(text_settings("gpt2"), "text"), pool), "gpt2", text_trial, 20, 0)


def test_a_tokenizer_that_pads_on_the_left_is_told_not_to():
    tok = train_tokenizer(["no effusion is seen", "the heart is large"], 80)
    tok.padding_side = tok.truncation_side = "left"
    tokens, mask, _ = tokenize(tok, ["no effusion", "the heart is large"], 6)
    assert mask[0].tolist() == sorted(mask[0].tolist(), reverse=True) and tokens[0, 0] == tok.cls_token_id
    cut = tokenize(tok, ["no effusion is seen the heart"], 4)[0][0]
    assert tok.convert_ids_to_tokens(cut.tolist())[1:3] == ["no", "effusion"]


def test_a_tokenizer_without_padding_takes_what_ends_a_text(tmp_path):
    tok = train_tokenizer(["no effusion is seen"], 60)
    save_tokenizer(tok, tmp_path)
    write_json({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "[SEP]"}, tmp_path / "tokenizer_config.json")
    assert load_tokenizer(tmp_path).pad_token == "[SEP]"
    write_json({"tokenizer_class": "PreTrainedTokenizerFast"}, tmp_path / "tokenizer_config.json")
    with pytest.raises(DataError, match="padding token"):
        load_tokenizer(tmp_path)


def evil_folder(folder, kind):
    "A backbone's folder whose settings name code beside them, in every way there is, and that code."
    (folder / "mod.py").write_text(EVIL.format(str(folder / "ran")))
    code = f"{folder}--mod.Evil"
    named = {name: code for name in ("AutoConfig", "AutoModel")} | {"AutoTokenizer": [code, code]}
    for file in ("config.json", "tokenizer_config.json", "preprocessor_config.json"):
        held = json.loads((folder / file).read_text()) if (folder / file).is_file() else {}
        write_json({**held, "auto_map": named, "attn_implementation": "somebody/kernel", **kind}, folder / file)


@pytest.fixture
def questions(monkeypatch):
    "What anybody is asked; the answer is always yes."
    asked = []
    monkeypatch.setattr("builtins.input", lambda *said: asked.append(said) or "y")
    return asked


def test_code_beside_a_model_never_runs_and_nobody_is_asked(tmp_path, questions):
    BertModel(BertConfig(vocab_size=80, **HALF)).save_pretrained(tmp_path)
    save_tokenizer(train_tokenizer(["no effusion is seen"], 60), tmp_path)
    evil_folder(tmp_path, {})
    CLIP.create(text=str(tmp_path), image="tiny-random")
    evil_folder(tmp_path, {"model_type": "strange", "tokenizer_class": "Evil"})
    with pytest.raises(DataError, match="it needs code of its own, which is never run"):
        load_backbone(str(tmp_path), "text")
    load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").rename(tmp_path / "vocab.txt")
    with pytest.raises(DataError, match="it needs code of its own, which is never run"):
        load_tokenizer(tmp_path)
    assert not (tmp_path / "ran").exists() and not questions


def test_code_that_a_run_names_never_runs(tmp_path, questions):
    "A run's config.json, its tokenizer, and both backbones in it."
    run = tmp_path / "run"
    CLIP.create(Settings(dim=8), image="tiny-random", text="tiny-random").save_pretrained(run)
    held = json.loads((run / "config.json").read_text())
    held.pop("files")  # whoever plants code vouches for nothing
    for side in ("image_backbone", "text_backbone"):
        held[side] |= {"auto_map": {"AutoModel": f"{run}--mod.Evil"}, "_attn_implementation": "somebody/kernel"}
    (run / "config.json").write_text(json.dumps(held))
    (run / "mod.py").write_text(EVIL.format(str(run / "ran")))
    tokens = json.loads((run / "tokenizer_config.json").read_text())
    write_json({**tokens, "auto_map": {"AutoTokenizer": [None, f"{run}--mod.Evil"]}}, run / "tokenizer_config.json")
    load_method(run)
    assert not (run / "ran").exists() and not questions


def test_whatever_names_code_is_taken_out_of_settings_at_every_depth():
    inner = {name: "x" for name in FOREIGN} | {"hidden_size": 8}
    assert plain_settings({**inner, "vision_config": inner}) == {"hidden_size": 8, "vision_config": {"hidden_size": 8}}
    config = network_config({"model_type": "bert", **inner, **HALF})
    assert "auto_map" not in vars(config) and config._attn_implementation != "x" and not config._name_or_path
    assert error_in_a_line(ValueError("set trust_remote_code=True")) == "it needs code of its own, which is never run"
    assert error_in_a_line(ValueError()) == "ValueError" and "\n" not in error_in_a_line(ValueError("a\nb"))


def test_weights_of_the_half_that_nobody_asks_may_be_missing(tmp_path):
    small = {"vocab_size": 40, "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    encoder = T5EncoderModel(T5Config(**small)).eval()
    encoder.save_pretrained(tmp_path)  # without T5's decoder
    words = torch.tensor([[3, 5, 7]])
    with torch.no_grad():
        ours = load_backbone(str(tmp_path), "text").eval()(input_ids=words).last_hidden_state
        torch.testing.assert_close(ours, encoder(input_ids=words).last_hidden_state)
    with pytest.raises(DataError, match="its weights lack"):
        load_network(str(tmp_path), "whole network")


def test_weights_that_are_missing_or_no_safetensors_are_refused(tmp_path):
    BertModel(BertConfig(vocab_size=40, **HALF)).save_pretrained(tmp_path)
    deeper = BertConfig(vocab_size=40, **{**HALF, "num_hidden_layers": 3}).to_dict()
    write_json(deeper, tmp_path / "config.json")
    with pytest.raises(DataError, match="its weights lack 16 parts, encoder.layer.2") as caught:
        load_backbone(str(tmp_path), "text")
    assert "\n" not in str(caught.value)
    write_json({**deeper, "model_type": "vit", **PATCHES}, tmp_path / "config.json")
    with pytest.raises(DataError, match="cannot be loaded"):
        load_network(str(tmp_path), "image backbone")


@pytest.mark.parametrize(
    "found", [{}, [], {"model_type": 3}, {"model_type": "no_such_kind"}, {"model_type": "bert", "hidden_size": "x"}]
)
def test_settings_without_sense_are_one_line(found):
    with pytest.raises(DataError, match="backbone") as caught:
        whole_network(found)
    assert "\n" not in str(caught.value)


def halves():
    "Whole models with the settings of their halves."
    text = {**HALF, "vocab_size": 60, "max_position_embeddings": 64}
    clip = CLIPConfig(text_config=text | {"eos_token_id": 5}, vision_config=PATCHES, projection_dim=8)
    siglip = SiglipConfig(text_config=text | {"projection_size": 32}, vision_config=PATCHES)
    return {"clip": CLIPModel(clip), "siglip": SiglipModel(siglip)}


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_of_a_pair_each_half_is_taken_with_its_weights(tmp_path, name):
    whole = halves()[name].eval()
    whole.save_pretrained(tmp_path)
    for kind, half in (("image", whole.vision_model), ("text", whole.text_model)):
        found = load_backbone(str(tmp_path), kind)
        assert all(torch.equal(value, found.state_dict()[key]) for key, value in half.state_dict().items())
        again = backbone_from_config(found.config.to_dict(), kind)
        assert again.state_dict().keys() == found.state_dict().keys()
    method = CLIP.create(image=str(tmp_path), tokenizer=train_tokenizer(["no effusion"], 60))
    film = torch.randint(0, 256, (1, 32, 32), dtype=torch.uint8)
    mean, std = (torch.tensor(x)[:, None, None] for x in NORMALISATIONS["clip" if name == "clip" else "half"])
    with torch.no_grad():
        theirs = whole.vision_model((film[:, None].expand(-1, 3, -1, -1) / 255 - mean) / std).last_hidden_state
        ours = method.eval().image_encoder(method.prepare_pixels(film))[1]
    assert method.config.size == 32
    assert torch.allclose(ours.flatten(1, 2), theirs[:, -16:], atol=1e-5)


def test_the_encoder_of_a_t5_is_taken_and_built_again(tmp_path):
    own = text_settings("t5")
    whole = T5Model(T5Config(**{key: value for key, value in own.items() if key != "model_type"}))
    whole.save_pretrained(tmp_path)
    found = load_backbone(str(tmp_path), "text")
    assert not asks_for(found, "decoder_input_ids") and asks_for(whole, "decoder_input_ids")
    assert part_of(whole, "text") is whole.get_encoder()
    assert backbone_from_config(found.config.to_dict()).state_dict().keys() == found.state_dict().keys()


def test_a_vision_transformer_trains_at_its_own_size_and_scale(tmp_path):
    "A ViT of 48 pixels is not fed films of 64; a size that is asked for wins, and its places are stretched."
    ViTModel(ViTConfig(**{**PATCHES, "image_size": 48}), add_pooling_layer=False).save_pretrained(tmp_path)
    assert films_of(str(tmp_path), AutoModel.from_pretrained(tmp_path)).size == 48
    own = CLIP.create(image=str(tmp_path))
    assert (own.config.size, own.config.mean, own.config.std) == (48, 0.5, 0.5)
    asked = CLIP.create(Settings(size=64, mean=0.4, std=0.25), image=str(tmp_path))
    assert (asked.config.size, asked.config.mean, asked.config.std) == (64, 0.4, 0.25)
    with pytest.raises(DataError, match="size: 52 is no multiple of the 8 pixels of a patch"):
        CLIP.create(Settings(size=52), image=str(tmp_path))


def test_a_preprocessor_is_read_and_saved_with_the_method(tmp_path):
    ViTModel(ViTConfig(**PATCHES), add_pooling_layer=False).save_pretrained(tmp_path / "vit")
    told = {"size": {"height": 40, "width": 40}, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.2, 0.2]}
    write_json(told, tmp_path / "vit" / "preprocessor_config.json")
    method = CLIP.create(image=str(tmp_path / "vit")).eval()
    assert method.config.size == 40 and method.config.normalisation["mean"] == [0.4, 0.5, 0.6]
    method.save_pretrained(tmp_path / "run")
    again = CLIP.from_pretrained(tmp_path / "run")
    film = torch.randint(0, 256, (2, 40, 40), dtype=torch.uint8)
    seen = again.image_encoder.in_channels(again.prepare_pixels(film))
    three = film[:, None].expand(-1, 3, -1, -1) / 255
    assert torch.allclose(seen, (three - torch.tensor([0.4, 0.5, 0.6])[:, None, None]) / 0.2, atol=1e-5)
    pixels = method.prepare_pixels(film)
    assert torch.equal(method.encode_image(pixels).mu, again.encode_image(pixels).mu)
    (tmp_path / "vit" / "preprocessor_config.json").write_text("{")
    with pytest.raises(DataError, match="preprocessor_config.json"):
        CLIP.create(image=str(tmp_path / "vit"))
    write_json({"image_processor": told}, tmp_path / "vit" / "processor_config.json")
    (tmp_path / "vit" / "preprocessor_config.json").unlink()
    assert preprocessor_of(str(tmp_path / "vit")) == told


def test_the_shipped_encoders_keep_their_scale(tmp_path):
    for name in ("tiny", "tiny-vit", "tiny-random"):
        found = CLIP.create(Settings(dim=8), image=name).config
        assert (found.size, found.mean, found.std, found.normalisation) == (64, 0.5, 0.25, {})
    shutil.copytree(weights_source("tiny", "image"), tmp_path / "copy")
    assert CLIP.create(image=str(tmp_path / "copy")).config.std == 0.25
