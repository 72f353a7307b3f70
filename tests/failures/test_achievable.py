"""Shares of faults and of the oracle: closed form against drawing, sums against loops, real studies refused."""

import numpy as np
import pandas as pd
import pytest

from medret_nb.data.files import DataError
from medret_nb.data.studies import StudySet, choose_image
from medret_nb.evaluation.oracles import oracle_recalls
from medret_nb.evaluation.results import evaluate
from medret_nb.failures.achievable import (
    beside_oracle,
    blame_shares,
    film_doses,
    hits_in_smaller,
    share_by_dose,
    share_by_size,
)
from medret_nb.failures.causes import BLAME, explain
from medret_nb.retrieval.points import Embeddings


def drawn_hit(ahead, tied, gallery, size, k, rng, many=4000):
    """How often the own candidate is among the `k` best of drawn galleries, ties in random order."""
    hits = 0
    for _ in range(many):
        others = rng.choice(gallery - 1, size - 1, replace=False)  # the first `ahead` are before it, the next tied
        before = (others < ahead).sum()
        level = ((others >= ahead) & (others < ahead + tied - 1)).sum()
        hits += before + rng.integers(level + 1) < k
    return hits / many


@pytest.mark.parametrize(("ahead", "tied", "size", "k"), [(0, 1, 5, 1), (3, 4, 9, 2), (0, 12, 6, 3), (5, 2, 12, 5)])
def test_the_closed_form_is_that_of_drawn_galleries(ahead, tied, size, k):
    found = hits_in_smaller(np.array([ahead]), np.array([tied]), 12, size, k)[0]
    assert found == pytest.approx(drawn_hit(ahead, tied, 12, size, k, np.random.default_rng(0)), abs=0.03)


@pytest.mark.parametrize(("size", "k"), [(0, 1), (13, 1), (5, 0)])
def test_sizes_that_are_none_are_refused(size, k):
    with pytest.raises(ValueError, match="size, k"):
        hits_in_smaller(np.array([0]), np.array([1]), 12, size, k)


@pytest.fixture(scope="module")
def measured_phantom(small_phantom):
    """Random points, a film near its text: the evaluation of a whole phantom under exact, and its studies."""
    rng = np.random.default_rng(0)
    names = small_phantom.studies["study_id"].to_numpy(object)
    films = choose_image(small_phantom.images).set_index("study_id").loc[list(names), "image_id"].to_numpy(object)
    mu = rng.normal(size=(len(names), 8)).astype(np.float32)
    near = mu + 0.7 * rng.normal(size=mu.shape).astype(np.float32)
    meta = {"similarity": "cosine", "split": "all", "policy": "both"}
    points = {
        "image": Embeddings(films, names, near, None, meta | {"modality": "image"}),
        "text": Embeddings(names, names, mu, None, meta | {"modality": "text"}),
    }
    return evaluate(points, small_phantom, "exact", draws=20, verbose=False), small_phantom


@pytest.mark.parametrize("direction", ["image-to-text", "text-to-image"])
def test_the_whole_gallery_gives_the_numbers_of_the_evaluation(measured_phantom, direction):
    results, studies = measured_phantom
    gallery = results.report["directions"][direction]["gallery"]
    row = share_by_size(results, studies, (gallery,), 5, direction, draws=20).iloc[0]
    assert row["recall"] == pytest.approx(results.value("R@5", direction)["value"])
    ids = studies.studies["study_id"].tolist()
    assert row["oracle"] == pytest.approx(oracle_recalls(studies, ids, "both", "exact", (5,))[direction]["R@5"])
    assert row["share"] == pytest.approx(row["recall"] / row["oracle"])


def test_a_small_gallery_is_easier_for_both(measured_phantom):
    found = share_by_size(*measured_phantom, (5, 10, 20), k=3, draws=20)
    assert found["recall"].is_monotonic_decreasing and found["oracle"].is_monotonic_decreasing


def test_bands_of_dose_hold_every_query_once(measured_phantom):
    results, studies = measured_phantom
    found = share_by_dose(results, studies, bands=3, k=5, draws=20)
    both = beside_oracle(results, studies)
    assert found["queries"].sum() == len(both) and len(found) == 3
    assert (found["highest"].iloc[:-1].to_numpy() <= found["lowest"].iloc[1:].to_numpy()).all()
    whole = np.average(found["recall"], weights=found["queries"])
    assert whole == pytest.approx(results.value("R@5")["value"])
    assert set(film_doses(results, studies)) == set(both["study_id"])


def test_the_three_faults_are_all_of_the_misses(measured_phantom):
    results, studies = measured_phantom
    why = explain(results, studies)
    found = blame_shares(why, studies, draws=50)
    for direction, part in found.groupby("direction"):
        failed = why.failures[why.failures["direction"] == direction]
        assert part["blame"].tolist() == list(BLAME) and part["misses"].sum() == len(failed)
        assert part["share"].sum() == pytest.approx(1)
        assert part["of_all"].sum() == pytest.approx(len(failed) / why.asked[direction])
        known = part.dropna()
        assert ((known["low"] <= known["share"]) & (known["share"] <= known["high"])).all()


def test_a_planted_model_without_fault(measured_phantom):
    results, studies = measured_phantom
    why = explain(results, studies)
    why.failures = why.failures.assign(blame=BLAME[0])
    found = blame_shares(why, studies, draws=20).set_index("blame")
    assert (found.loc[BLAME[0], "share"] == 1).all() and (found.loc[BLAME[2], "misses"] == 0).all()
    why.failures = why.failures.head(0)
    assert blame_shares(why, studies)["share"].isna().all()


def test_real_studies_have_nothing_to_share(measured_phantom, tmp_path):
    results, studies = measured_phantom
    real = StudySet.load(studies.folder).save(tmp_path / "real")
    with pytest.raises(DataError, match="phantom only"):
        beside_oracle(results, real)
    with pytest.raises(DataError, match="phantom only"):
        blame_shares(explain(results, real), real)
    with pytest.raises(DataError, match="not in the data"):
        beside_oracle(results, studies.select(studies.studies["study_id"].head(10)))
    results.report["protocol"] = "text"
    try:
        with pytest.raises(DataError, match="needs exact"):
            beside_oracle(results, studies)
    finally:
        results.report["protocol"] = "exact"
    assert isinstance(beside_oracle(results, studies), pd.DataFrame)
