"Layouts of the image backbones, invisible padding, dropped patches, and backbones from folders."

import pytest
import torch
from transformers import (
    AutoModel,
    BertConfig,
    BertModel,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DistilBertConfig,
    DistilBertModel,
    ResNetConfig,
    ResNetModel,
    SwinConfig,
    SwinModel,
    ViTConfig,
    ViTModel,
)

from medret_nb.data.files import DataError
from medret_nb.methods.backbones import backbone_from_config, load_backbone, quiet_transformers
from medret_nb.methods.encoders import (
    ImageEncoder,
    TextEncoder,
    drop_tokens,
    last_piece,
    position_options,
    token_grid,
    token_pixels,
    vit_layers,
)
from medret_nb.methods.families import feature_width

SMALL = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)


def backbones():
    yield (
        "vit",
        ViTModel(ViTConfig(image_size=32, patch_size=8, num_channels=1, **SMALL), add_pooling_layer=True),
        32,
        4,
    )
    yield "dinov2", Dinov2Model(Dinov2Config(image_size=28, patch_size=7, **SMALL)), 28, 4
    yield (
        "registers",
        Dinov2WithRegistersModel(
            Dinov2WithRegistersConfig(image_size=28, patch_size=7, num_register_tokens=4, **SMALL)
        ),
        28,
        4,
    )
    yield (
        "swin",
        SwinModel(SwinConfig(image_size=32, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[2, 2], window_size=4)),
        32,
        4,
    )
    yield "resnet", ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])), 32, 4


@pytest.mark.parametrize("name,backbone,size,side", list(backbones()), ids=lambda x: x if isinstance(x, str) else "")
def test_every_layout_gives_a_grid_and_its_mean(name, backbone, size, side):
    torch.manual_seed(0)
    encoder = ImageEncoder(backbone).eval()
    pooled, patches = encoder(torch.rand(2, 1, size, size))
    assert patches.shape == (2, side, side, 16) and encoder.width == 16
    assert torch.allclose(pooled, patches.mean((1, 2)), atol=1e-6)


@pytest.mark.parametrize(
    "name,backbone,size,side",
    [b for b in backbones() if b[0] in ("vit", "dinov2", "registers")],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_the_grid_is_where_the_pixels_are(name, backbone, size, side):
    "A change in one corner of the film changes that corner's vector most: no class token or register is a patch."
    torch.manual_seed(0)
    encoder = ImageEncoder(backbone).eval()
    black, spot = torch.zeros(1, 1, size, size), torch.zeros(1, 1, size, size)
    spot[..., -size // side :, : size // side] = 1.0
    change = (encoder(spot)[1] - encoder(black)[1]).norm(dim=-1)[0]
    assert divmod(int(change.argmax()), side) == (side - 1, 0)


@pytest.mark.parametrize(
    "name,backbone,size,side",
    [b for b in backbones() if b[0] in ("vit", "dinov2", "registers")],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_dropped_patches_are_gone(name, backbone, size, side):
    torch.manual_seed(0)
    encoder = ImageEncoder(backbone).eval()
    pixels = torch.rand(2, 1, size, size)
    every = torch.stack([torch.randperm(side * side), torch.randperm(side * side)])
    assert torch.allclose(encoder(pixels, every)[0], encoder(pixels)[0], atol=1e-5)
    keep = every[:, :5]
    changed = pixels.clone()
    patch = size // side
    for b in range(2):  # scribble over every patch that is not kept
        for n in set(range(side * side)) - set(keep[b].tolist()):
            r, c = divmod(n, side)
            changed[b, :, r * patch : (r + 1) * patch, c * patch : (c + 1) * patch] = 7.0
    assert torch.allclose(encoder(pixels, keep)[1], encoder(changed, keep)[1], atol=1e-5)


@pytest.mark.parametrize("name", ["swin", "resnet"])
def test_backbones_that_cannot_drop_patches_say_so(name):
    _, backbone, size, _ = next(b for b in backbones() if b[0] == name)
    with pytest.raises(DataError, match=f"{name} cannot drop patches"):
        ImageEncoder(backbone)(torch.rand(1, 1, size, size), torch.zeros(1, 3, dtype=torch.long))
    with pytest.raises(DataError, match="class token"):
        ImageEncoder(backbone, pool="first")


def test_larger_films_than_the_pretrained_ones():
    _, backbone, _, _ = next(backbones())
    assert ImageEncoder(backbone)(torch.rand(1, 1, 48, 48))[1].shape == (1, 6, 6, 16)


@pytest.mark.parametrize("pool", ["mean", "first", "last"])
@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_padding_is_invisible(kind, pool):
    torch.manual_seed(0)
    backbone = (
        BertModel(BertConfig(vocab_size=30, **SMALL))
        if kind == "bert"
        else DistilBertModel(DistilBertConfig(vocab_size=30, dim=16, n_layers=2, n_heads=2, hidden_dim=32))
    )
    encoder = TextEncoder(backbone, pool).eval()
    tokens = torch.tensor([[2, 5, 6, 3]])
    padded = torch.tensor([[2, 5, 6, 3, 9, 9, 9]])  # what stands under the padding must not matter either
    mask = torch.tensor([[True] * 4 + [False] * 3])
    alone, filled = encoder(tokens, torch.ones_like(tokens, dtype=torch.bool))[0], encoder(padded, mask)[0]
    assert torch.allclose(alone, filled, atol=1e-5)


def test_pools_of_a_text():
    torch.manual_seed(0)
    backbone = BertModel(BertConfig(vocab_size=30, **SMALL)).eval()
    tokens, mask = torch.tensor([[2, 5, 6, 3, 0]]), torch.tensor([[True, True, True, True, False]])
    words = TextEncoder(backbone)(tokens, mask)[1]
    for pool, expected in (("mean", words[:, :4].mean(1)), ("first", words[:, 0]), ("last", words[:, 3])):
        assert torch.allclose(TextEncoder(backbone, pool)(tokens, mask)[0], expected, atol=1e-6)


def test_runs_on_the_meta_device():
    with torch.device("meta"):
        image, text = (
            ImageEncoder(
                backbone_from_config(ViTConfig(image_size=32, patch_size=8, num_channels=1, **SMALL).to_dict())
            ),
            TextEncoder(backbone_from_config(BertConfig(vocab_size=30, **SMALL).to_dict())),
        )
        assert image(torch.empty(2, 1, 32, 32))[0].shape == (2, 16)
        assert text(torch.empty(2, 5, dtype=torch.long), torch.empty(2, 5, dtype=torch.bool))[0].shape == (2, 16)


def test_a_local_folder_and_a_shipped_name(tmp_path):
    backbone = ViTModel(ViTConfig(image_size=32, patch_size=8, **SMALL), add_pooling_layer=False)
    backbone.save_pretrained(tmp_path / "vit")
    loaded = load_backbone(str(tmp_path / "vit"), "image")
    assert all(torch.equal(v, loaded.state_dict()[k]) for k, v in backbone.state_dict().items())
    for kind, dtype in (("image", torch.float32), ("text", torch.float32)):
        assert next(load_backbone("tiny", kind).parameters()).dtype == dtype


def test_what_cannot_be_loaded_is_named_in_one_line(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    torch_only = tmp_path / "pickled"
    AutoModel.from_config(BertConfig(vocab_size=30, **SMALL)).config.save_pretrained(torch_only)
    (torch_only / "pytorch_model.bin").write_bytes(b"not safetensors")
    for name in (str(tmp_path / "nowhere"), str(tmp_path), str(torch_only)):
        with pytest.raises(DataError) as caught:
            load_backbone(name, "image")
        assert name in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(DataError, match="no_such_kind"):
        backbone_from_config({"model_type": "no_such_kind"})


def test_patches_are_the_last_tokens_row_by_row():
    tokens = torch.randn(2, 3 + 2 * 4, 5)
    grid = token_grid(tokens, 2, 4)
    for row in range(2):
        for column in range(4):
            assert torch.equal(grid[:, row, column], tokens[:, 3 + 4 * row + column])


def test_dropping_keeps_what_stands_in_front_and_the_chosen_patches():
    tokens, keep = torch.randn(2, 2 + 6, 3), torch.tensor([[0, 5, 2], [1, 2, 3]])
    found = drop_tokens(tokens, keep, extra=2)
    for b in range(2):
        expected = [tokens[b, 0], tokens[b, 1], *[tokens[b, 2 + n] for n in keep[b].tolist()]]
        assert torch.equal(found[b], torch.stack(expected))


def test_the_last_piece_is_the_last_that_the_mask_knows():
    words = torch.randn(3, 4, 2)
    mask = torch.tensor([[True, True, False, False], [True] * 4, [False, True, True, False]])
    for b, place in enumerate((1, 3, 2)):
        assert torch.equal(last_piece(words, mask)[b], words[b, place])


def test_what_the_families_differ_in_is_read_from_their_settings():
    found = {name: (backbone, size, side) for name, backbone, size, side in backbones()}
    for name, (backbone, size, side) in found.items():
        assert feature_width(backbone.config) == 16
        assert (vit_layers(backbone) is None) == (name in ("swin", "resnet"))
        if name != "resnet":
            assert token_pixels(backbone.config) == size // side
    vit = found["vit"][0].config
    assert position_options(vit, 32) == {} and position_options(vit, 48) == {"interpolate_pos_encoding": True}
    assert position_options(found["dinov2"][0].config, 48) == {}


def test_transformers_is_quiet_for_a_moment_only():
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    with pytest.raises(RuntimeError), quiet_transformers():
        assert logging.get_verbosity() == logging.ERROR and not logging.is_progress_bar_enabled()
        raise RuntimeError
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == (level, bars)


def test_the_table_of_word_vectors_is_the_backbones():
    encoder = TextEncoder(BertModel(BertConfig(vocab_size=30, **SMALL)))
    assert encoder.table is encoder.backbone.embeddings.word_embeddings.weight and encoder.table.shape == (30, 16)
