"Families of image backbones: what transformers itself computes, patches where the pixels are, films in any company."

import pytest
import torch
from families import IMAGES, backbone, image_settings
from hypothesis import given, settings
from hypothesis import strategies as st

from medret_nb.data.files import DataError
from medret_nb.methods.building import check_encoder, image_trial
from medret_nb.methods.encoders import ImageEncoder, call_options, position_options
from medret_nb.methods.families import (
    IMAGE_FAMILIES,
    NORMALISATIONS,
    Films,
    feature_width,
    film_settings,
    films_told,
    front_tokens,
    image_family,
    trained_side,
)

SIDES = {"hiera": 32, "aimv2_vision_model": 32}  # the others are asked for larger films too
made = {}


def encoder_of(kind):
    "The encoder of a family, made once."
    if kind not in made:
        made[kind] = ImageEncoder(backbone(image_settings(kind), "image")).eval()
    return made[kind]


def test_every_family_of_the_table_is_tested():
    assert set(IMAGES) == set(IMAGE_FAMILIES)


@pytest.mark.parametrize("kind", IMAGES)
def test_a_grid_of_the_backbones_own_vectors(kind):
    "Our grid holds what transformers gives for the same three-channel picture, whatever stands in front."
    encoder = encoder_of(kind)
    network = backbone(image_settings(kind), "image")
    film = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    three = film.expand(-1, 3, -1, -1)
    if kind == "vit_mae":
        network.config.mask_ratio = 0.0
    options = {"pixel_values": three}
    if kind in ("vit_mae", "siglip2_vision_model"):
        options = call_options(encoder.backbone.config, three)
    with torch.no_grad():
        theirs = network(**options).last_hidden_state
        pooled, grid = encoder(film)
    tokens = theirs.flatten(2).mT if theirs.ndim == 4 else theirs[:, front_tokens(network.config) :]
    assert torch.allclose(grid.flatten(1, 2), tokens, atol=1e-5)
    assert torch.allclose(pooled, tokens.mean(1), atol=1e-5) and pooled.shape == (2, encoder.width)


@pytest.mark.parametrize("kind", [kind for kind in IMAGES if kind != "efficientnet"])
def test_a_patch_lies_where_its_pixels_are(kind):
    "Of all vectors the corner's change most in which the film is changed (a random EfficientNet gives zeros only)."
    encoder = encoder_of(kind)
    side = 128 if IMAGE_FAMILIES[kind].layout == "map" or kind == "dinov3_convnext" else 32
    film = torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(2))
    spot = film.clone()
    spot[..., -side // 4 :, : side // 4] += 1.0
    with torch.no_grad():
        change = (encoder(spot)[1] - encoder(film)[1]).norm(dim=-1)[0]
    rows = len(change)
    row, column = divmod(int(change.argmax()), rows)
    assert row >= rows // 2 and column < (rows + 1) // 2


@pytest.mark.parametrize("kind", [kind for kind in IMAGES if not IMAGE_FAMILIES[kind].fixed])
def test_films_of_another_size_fit_or_are_refused(kind):
    encoder = encoder_of(kind)
    with torch.no_grad():
        pooled, grid = encoder(torch.rand(1, 1, 64, 64))
    assert grid.shape[1] == grid.shape[2] >= 1 and torch.isfinite(pooled).all()


def test_a_family_with_fixed_places_names_its_size():
    with pytest.raises(DataError, match="aimv2_vision_model takes films of 32 pixels, not of 48"):
        encoder_of("aimv2_vision_model")(torch.rand(1, 1, 48, 48))


@pytest.mark.parametrize("kind", IMAGES)
def test_every_parameter_that_trains_is_used(kind):
    encoder = ImageEncoder(backbone(image_settings(kind), "image"))
    pooled, grid = encoder.eval()(torch.rand(2, 1, 32, 32))
    front = encoder.backbone(**call_options(encoder.backbone.config, torch.rand(2, 3, 32, 32))).last_hidden_state
    (pooled.square().sum() + grid.square().sum() + front.square().sum()).backward()
    idle = [name for name, value in encoder.named_parameters() if value.requires_grad and value.grad is None]
    assert not idle


@settings(max_examples=30, deadline=None)
@given(kind=st.sampled_from(sorted(IMAGES)), others=st.integers(1, 4), place=st.integers(0, 4), seed=st.integers(0, 99))
def test_a_film_does_not_depend_on_its_company(kind, others, place, seed):
    "In training mode, too, dropout aside: batch norm keeps its statistics, and no mask is drawn."
    encoder = encoder_of(kind)
    films = torch.rand(others + 1, 1, 32, 32, generator=torch.Generator().manual_seed(seed))
    place = min(place, others)
    with torch.no_grad():
        alone = encoder(films[place : place + 1])
        together = encoder(films)
    for one, many in zip(alone, together, strict=True):
        assert torch.allclose(one[0], many[place], atol=1e-5)


@pytest.mark.parametrize("kind", [kind for kind, family in IMAGE_FAMILIES.items() if family.drops])
def test_families_that_drop_patches_drop_them(kind):
    encoder = encoder_of(kind)
    film = torch.rand(2, 1, 32, 32)
    order = torch.stack([torch.randperm(16), torch.randperm(16)])
    with torch.no_grad():
        assert torch.allclose(encoder(film, order)[0], encoder(film)[0], atol=1e-5)
        assert encoder(film, order[:, :5])[1].shape == (2, 5, 32)


@pytest.mark.parametrize("kind", [kind for kind, family in IMAGE_FAMILIES.items() if not family.drops])
def test_the_others_say_that_they_cannot(kind):
    with pytest.raises(DataError, match="cannot drop patches"):
        encoder_of(kind)(torch.rand(1, 1, 32, 32), torch.tensor([[0, 1]]))


@pytest.mark.parametrize("kind", [kind for kind, family in IMAGE_FAMILIES.items() if not family.front])
def test_no_class_token_is_taken_where_there_is_none(kind):
    with pytest.raises(DataError, match="has no class token"):
        ImageEncoder(backbone(image_settings(kind), "image"), pool="first")


@pytest.mark.parametrize("kind", ["bert", "gpt2", "clip", "yolos", "wav2vec2"])
def test_what_is_no_known_family_is_refused(kind):
    with pytest.raises(DataError, match="is none of the known families") as caught:
        image_family(kind)
    assert kind in str(caught.value) and "\n" not in str(caught.value)


def test_widths_sides_and_front_are_read_from_the_settings():
    for kind in IMAGES:
        config = encoder_of(kind).backbone.config
        assert feature_width(config) == encoder_of(kind)(torch.rand(1, 1, 32, 32))[0].shape[1]
    assert front_tokens(encoder_of("dinov2_with_registers").backbone.config) == 5
    assert front_tokens(encoder_of("deit").backbone.config) == 2
    for said, side in ((224, 224), ([384, 384], 384), ([224, 384], 0), (None, 0), (True, 0)):
        assert trained_side({"model_type": "vit", "image_size": said}) == side
    stretched = {"interpolate_pos_encoding": True}
    assert position_options(encoder_of("vit").backbone.config, 48) == stretched
    assert position_options(encoder_of("vit").backbone.config, 32) == {}


@pytest.mark.parametrize(
    "told,expected",
    [
        ({}, Films(224, *NORMALISATIONS["imagenet"])),
        ({"size": 384}, Films(384, *NORMALISATIONS["imagenet"])),
        (
            {"size": {"shortest_edge": 256}, "crop_size": 224, "do_center_crop": True},
            Films(224, *NORMALISATIONS["imagenet"]),
        ),
        (
            {"size": {"height": 518, "width": 518}, "image_mean": [0.5] * 3},
            Films(518, (0.5,) * 3, (0.229, 0.224, 0.225)),
        ),
        ({"do_normalize": False}, Films(224, (0.0,) * 3, (1.0,) * 3)),
        ({"rescale_factor": 2 / 255, "image_mean": 0.5, "image_std": 0.5}, Films(224, (0.25,) * 3, (0.25,) * 3)),
    ],
)
def test_size_and_scale_are_the_preprocessors_where_it_speaks(told, expected):
    found = film_settings({"model_type": "swin", "image_size": 224}, told)
    assert found.size == expected.size
    assert found.mean == pytest.approx(expected.mean) and found.std == pytest.approx(expected.std)


@pytest.mark.parametrize(
    "told",
    [{"image_mean": "half"}, {"image_mean": [0.5]}, {"image_std": [0, 1, 1]}, {"image_std": [float("nan")] * 3},
     {"rescale_factor": "x"}, {"rescale_factor": 0.0}],
)  # fmt: skip
def test_a_preprocessor_without_sense_is_one_line(told):
    with pytest.raises(DataError, match="films: ") as caught:
        film_settings({"model_type": "vit", "image_size": 224}, told)
    assert "\n" not in str(caught.value)


def test_one_channel_is_of_the_house_and_the_scale_of_a_method_is_read_back():
    assert film_settings({"model_type": "resnet", "num_channels": 1}) == Films(64, (0.5,), (0.25,))
    assert Films(64, (0.5,) * 3, (0.5,) * 3).by_channel == {}
    three = film_settings({"model_type": "clip_vision_model", "image_size": 224})
    assert films_told(224, three.by_channel, 3) == three
    for wrong in ({"mean": [0.5] * 3}, {"mean": [0.5] * 2, "std": [1.0] * 2}, {"mean": 1, "std": [0.0] * 3}):
        with pytest.raises(DataError):
            films_told(224, wrong, 3)


def test_films_that_patches_do_not_cover_are_refused():
    with pytest.raises(DataError, match="film: size: 36 is no multiple of the 8 pixels of a patch"):
        check_encoder(encoder_of("dinov2"), "film", image_trial, 36)
