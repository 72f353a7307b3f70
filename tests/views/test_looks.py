"""Looks: shares against a fine grid, regions as means of patches, looks of a run against its method."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medret_nb.data.files import DataError
from medret_nb.losses.region_word import box_weights
from medret_nb.methods.clip import CLIP, CLIPConfig
from medret_nb.methods.table import METHODS
from medret_nb.views.looks import Looker, cosines, covered, look_at, share_inside, spread


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.lists(st.floats(-0.2, 1.2), min_size=4, max_size=4), st.integers(0, 99))
def test_shares_are_those_of_a_fine_grid(h, w, corners, seed):
    box = (min(corners[:2]), min(corners[2:]), max(corners[:2]), max(corners[2:]))
    weights = spread(np.random.default_rng(seed).normal(size=h * w)).reshape(h, w)
    at = (np.arange(600) + 0.5) / 600
    fine = np.kron(weights, np.ones((1, 1)))[(at * h).astype(int)][:, (at * w).astype(int)] * h * w / 600**2
    inside = fine[(at >= box[1]) & (at < box[3])][:, (at >= box[0]) & (at < box[2])].sum()
    assert share_inside(weights, box) == pytest.approx(inside, abs=0.02 * h * w)
    area = covered(box, h, w) / (h * w)
    wanted = box_weights(torch.tensor([box], dtype=torch.float64), h, w)[0].numpy()
    np.testing.assert_allclose(area / max(area.sum(), 1e-12), wanted, atol=1e-6)


def test_weights_sum_to_one_and_nan_gets_none():
    scores = np.array([[1.0, np.nan, 3.0], [np.nan] * 3, [1e5, 1e5, -1e5]])
    made = spread(scores, 0.5)
    np.testing.assert_allclose(made.sum(1), [1, 0, 1])
    assert made[0, 1] == 0 and made[0, 2] == pytest.approx(1 / (1 + np.exp(-4))) and made[2].tolist() == [0.5, 0.5, 0]
    with pytest.raises(ValueError, match="temperature"):
        spread(scores, 0)
    assert np.isnan(cosines([[0.0, 0]], [[1.0, 0]])).all()


def test_even_attention_puts_the_boxs_area_inside():
    hot = spread(np.array([2.0, 0.0, 0.0, 0.0]), 1e6).reshape(2, 2)
    assert share_inside(hot, (0.2, 0.1, 0.9, 0.5)) == pytest.approx(0.7 * 0.4, abs=1e-3)


def test_regions_without_vectors_are_means_of_patches():
    rng = np.random.default_rng(0)
    words, patches = rng.normal(size=(3, 5)), rng.normal(size=(3, 4, 5))
    look = look_at(list("abc"), words, patches, boxes=[[0, 0, 0.5, 1]])
    mean = patches[:, :2].mean((0, 1))
    np.testing.assert_allclose(
        look.places[:, 0], words @ mean / np.linalg.norm(words, axis=1) / np.linalg.norm(mean), rtol=1e-5
    )


@pytest.mark.parametrize(
    "change, word",
    [
        ({"patches": np.ones((2, 2, 3))}, "patches: 3 numbers"),
        ({"patches": None}, "patches: give"),
        ({"patches": np.ones((4, 2))}, "must be"),
        ({"boxes": [[0, 0, 1, 1]], "regions": ["a", "b"]}, "regions: 2 for 1"),
        ({"region_features": np.ones((3, 2))}, "boxes: 0 for 3"),
    ],
)
def test_shapes_that_disagree_are_refused(change, word):
    with pytest.raises(ValueError, match=word):
        look_at(**{"words": ["a"], "word_features": np.ones((1, 2)), "patches": np.ones((2, 2, 2)), **change})


@pytest.fixture(scope="module")
def looker(small_phantom):
    return Looker(CLIP.create(CLIPConfig(dim=8, data=str(small_phantom.folder))), small_phantom)


def test_a_look_of_a_run_is_what_the_method_says(looker):
    study = next(s for s in looker.ids if any(c.isalnum() for c in looker.texts[s]) and looker.look(s).truth)
    look, method = looker.look(study), looker.method
    rebuilt = "".join(g + w for g, w in zip(look.gaps, look.words)) + look.gaps[-1]
    assert (
        rebuilt == looker.texts[study]
        and look.grid.shape[0] == len(look.words)
        and look.regions[0] == "right upper lung zone"
    )
    one = looker.look(study, "Effusion.")
    tokens, mask = method.prepare_text(["Effusion."])
    words, patches = (
        method.encode_text(tokens, mask).local["words"][0].detach().numpy(),
        method.encode_image(method.prepare_pixels(look.film[None])).local["patches"][0].detach().numpy(),
    )
    numbers = [i for i, n in enumerate(method.tokenizer("Effusion.").word_ids()) if n == 0]
    np.testing.assert_allclose(
        one.grid[0].ravel(), cosines(words[numbers].mean(0)[None], patches.reshape(-1, 8))[0], atol=1e-5
    )
    assert one.words == ["Effusion", "."] and all(0 <= v <= 1 for _, box in look.truth for v in box)


@pytest.mark.parametrize("name", list(METHODS))
def test_every_method_looks_or_says_why_not(name, small_phantom):
    method = METHODS[name].create(METHODS[name].Config(dim=8, data=str(small_phantom.folder)))
    try:
        look = Looker(method, small_phantom).look(small_phantom.studies["study_id"].iloc[0], "Small left effusion.")
    except DataError as error:
        assert "keeps no vectors" in str(error)
    else:
        assert (
            look.words[:3] == ["Small", "left", "effusion"]
            and np.isfinite(look.grid if look.grid is not None else look.places).any()
        )
