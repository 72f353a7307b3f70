"""What a view looks at: pairs from arrays and from runs, and answers that a loop gives too."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medret_nb.data.files import DataError
from medret_nb.retrieval.scoring import score_matrix
from medret_nb.views.items import answers_to, best_of, findings_in_words, from_arrays, items_from, named_findings


def naive_ranks(scores, groups):
    "Expected place of the first hit: those above, and halfway through those tied."
    out = []
    for i, row in enumerate(scores):
        right = groups == groups[i]
        best = row[right].max()
        out.append((row > best).sum() + ((row == best).sum() + 1) / ((row == best) & right).sum().__add__(1))
    return np.array(out)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 30),
    st.integers(1, 9),
    st.sampled_from(["cosine", "csd", "mls"]),
    st.sampled_from(["image-to-text", "text-to-image"]),
    st.integers(0, 99),
)
def test_answers_are_those_of_a_loop(n, k, similarity, direction, seed):
    rng = np.random.default_rng(seed)
    sides = [rng.normal(size=(n, 4)) for _ in range(2)]
    clouds = [rng.normal(size=(n, 4)) for _ in range(2)] if similarity != "cosine" else [None, None]
    items = from_arrays(*sides, *clouds, similarity=similarity, groups=rng.integers(0, max(1, n // 2), n))
    found, scores = answers_to(items, direction, k=k), score_matrix(*items.sides(direction))
    np.testing.assert_allclose(found.ranks, naive_ranks(scores, items.groups))
    assert found.positions.shape == (n, min(k, n))
    np.testing.assert_allclose(found.scores, -np.sort(-scores)[:, :k], rtol=1e-5)
    np.testing.assert_array_equal(found.hits, items.groups[found.positions] == items.groups[:, None])


def test_equals_come_by_position():
    positions, scores = best_of(np.array([[1.0, 3.0, 3.0, 2.0, 3.0]]), 2)
    assert positions.tolist() == [[1, 2]] and scores.tolist() == [[3.0, 3.0]]


def test_reports_of_the_same_words_are_hits():
    rng = np.random.default_rng(0)
    same = items_from(image=rng.normal(size=(6, 3)), text=rng.normal(size=(6, 3)), texts=["Normal."] * 6)
    assert (answers_to(same).ranks == 1).all()


def test_rows_with_nan_are_left_out_and_named():
    image = np.eye(4)
    image[2, 1] = np.nan
    items = from_arrays(image, np.eye(4), ids=list("abcd"), texts=list("wxyz"), findings=[["e"]] * 4, films=[None] * 4)
    assert (
        items.ids.tolist() == ["a", "b", "d"]
        and items.texts == ["w", "x", "z"]
        and len(items.findings) == len(items.films) == 3
    )
    assert items.says == ["1 of 4 studies are left out: their vectors hold NaN or infinite numbers."]
    assert len(from_arrays(np.full((2, 3), np.nan), np.zeros((2, 3)))) == 0


@pytest.mark.parametrize(
    "given, word",
    [
        ({"texts": ["a"]}, "texts: 1 for 2"),
        ({"image_logvar": np.zeros((2, 3))}, "both or neither"),
        ({"text": np.zeros((3, 3))}, "both, got"),
        ({"text": None}, "text: give"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(given, word):
    with pytest.raises(ValueError, match=word):
        items_from(**{"image": np.zeros((2, 3)), "text": np.zeros((2, 3)), **given})


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(DataError, match="no run"):
        items_from(tmp_path)
    items = from_arrays(np.eye(2), np.eye(2))
    assert items_from(items) is items
    with pytest.raises(ValueError, match="direction"):
        items.sides("sideways")


def test_a_run_gives_its_studies(small_phantom, tmp_path):
    from medret_nb.methods.clip import CLIP, CLIPConfig

    CLIP.create(CLIPConfig(dim=8, data=str(small_phantom.folder))).save_pretrained(tmp_path)
    items = items_from(tmp_path, split="train", progress=False)
    assert len(items) and len(items.texts) == len(items.films) == len(items.findings) == len(items)
    assert items.image.study_ids.tolist() == items.text.study_ids.tolist() and items.films[0].shape == (64, 64)
    again = items_from(tmp_path, split="train", progress=False)
    np.testing.assert_array_equal(again.image.mu, items.image.mu)


def test_nothing_is_said_to_be_absent_where_nobody_labelled():
    assert named_findings({}) is None and named_findings({"Edema": None}) is None
    assert named_findings({"Edema": 0}) == [] and named_findings({"Edema": 1, "Fracture": -1}) == ["Edema"]
    assert findings_in_words(None, "nothing") == "no labels given" and findings_in_words([], "nothing") == "nothing"
