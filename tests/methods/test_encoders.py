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
from medret_nb.methods.encoders import ImageEncoder, TextEncoder, backbone_from_config, load_backbone

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
    "A change in one corner of the film changes that corner's vector most, so neither class token nor registers were taken for patches."
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
