"""Candidate sets of two splits: known numbers, patients, shared and own galleries, notes where the promise is void."""

import json

import numpy as np
import pandas as pd
import pytest

from medret_nb.data.files import DataError
from medret_nb.data.studies import StudySet
from medret_nb.evaluation import candidate_sets as sets
from medret_nb.evaluation.conformal import conformal_limit, nonconformity
from medret_nb.retrieval.points import Embeddings


def clinic(count, seed=0, patients=None, noise=None):
    """A StudySet of `count` studies, half val and half test, and points by split: texts are noisy copies of films."""
    rng = np.random.default_rng(seed)
    ids = np.array([f"s{i:04d}" for i in range(count)])
    names = ids if patients is None else np.array(patients)
    split = np.where(np.arange(count) < count // 2, "val", "test")
    findings = [f"Opacity number {i}." + " More words." * int(rng.integers(3)) for i in range(count)]
    labels = [{"Edema": int(value)} for value in rng.integers(0, 2, count)]
    table = {"study_id": ids, "patient_id": names, "split": split, "findings": findings, "labels": labels}
    views = np.where(np.arange(count) % 3, "PA", "AP")
    images = pd.DataFrame({"image_id": "i" + pd.Series(ids), "study_id": ids, "view": views, "path": "none.png"})
    noise = np.ones(count) if noise is None else noise
    films = rng.normal(size=(count, 16)).astype(np.float32)
    texts = (films + noise[:, None] * rng.normal(size=films.shape)).astype(np.float32)
    points = {}
    for name in ("val", "test"):
        rows = np.flatnonzero(split == name)
        meta = {"similarity": "cosine", "logit_scale": 8.0, "policy": "findings", "split": name}
        points[name] = {
            "image": Embeddings(
                "i" + ids[rows].astype(object), ids[rows], films[rows], None, meta | {"modality": "image"}
            ),
            "text": Embeddings(ids[rows], ids[rows], texts[rows], None, meta | {"modality": "text"}),
        }
    return StudySet(pd.DataFrame(table), images), points


def cosines(points):
    films, texts = (np.concatenate([points[name][side].mu for name in ("val", "test")]) for side in ("image", "text"))
    films = films / np.linalg.norm(films, axis=1, keepdims=True)
    return films @ (texts / np.linalg.norm(texts, axis=1, keepdims=True)).T


def test_numbers_are_those_of_the_matrices():
    studies, points = clinic(200)
    found = sets.candidate_sets(points["val"], points["test"], studies, sets.SetOptions(alphas=(0.1, 0.3), draws=100))
    assert len(found.rows) == 12 and found.report["calibrate"] == "val" and found.report["split"] == "test"
    own = np.arange(200)
    for row in found.rows:
        table = cosines(points) if row["direction"] == "image-to-text" else cosines(points).T
        values = nonconformity(table, (own, own), row["kind"], 8.0)
        limit = conformal_limit(values[:100], row["alpha"])
        assert row["limit"] == pytest.approx(limit, abs=1e-5)
        assert row["coverage"]["value"] == pytest.approx((values[100:] <= limit).mean(), abs=0.011)
        assert row["gallery"] == 200 and row["queries"] == row["known"] == 100
        assert row["by_patient"]["value"] == row["coverage"]["value"]
    assert {cell["by"] for cell in found.report["cells"]} >= {"finding", "view", "length"}
    assert found.report["cells_left_out"]["image-to-text"] >= 0


def test_it_prints_saves_and_is_read(tmp_path):
    studies, points = clinic(120)
    found = sets.candidate_sets(points["val"], points["test"], studies, sets.SetOptions(draws=100))
    told = str(found)
    assert "protocol exact" in told and "search one gallery" in told and told.count("image-to-text") >= 3
    found.save(tmp_path)
    again = sets.CandidateSets.read_report(tmp_path)
    assert again["rows"] == json.loads(json.dumps(found.rows))
    table = found.table()
    assert {"coverage", "coverage_low", "coverage_high", "coverage_chance", "size", "size_90"} <= set(table)
    chance = [row["coverage"]["chance"] for row in found.rows]
    np.testing.assert_allclose(chance, [row["size"]["value"] / 120 for row in found.rows])


@pytest.mark.parametrize("rule", ["one", "worst"])
def test_patients_count_once(rule):
    patients = [f"p{i // 4}" for i in range(240)]
    studies, points = clinic(240, patients=patients)
    options = sets.SetOptions(kinds=("threshold",), per_patient=rule, draws=100)
    row = sets.candidate_sets(points["val"], points["test"], studies, options).rows[0]
    assert row["known"] == 30 and row["patients"] == 30 and row["queries"] == 120
    values = nonconformity(cosines(points), (np.arange(240), np.arange(240)), "threshold").reshape(60, 4)
    if rule == "worst":
        limit = conformal_limit(values[:30].max(1), 0.1)
        assert row["limit"] == pytest.approx(limit, abs=1e-5)
        assert row["by_patient"]["value"] == pytest.approx((values[30:].max(1) <= limit).mean())
    else:
        assert row["by_patient"]["value"] == row["coverage"]["value"]  # all have four studies


def test_a_shift_voids_the_promise_and_is_said():
    noise = np.where(np.arange(400) < 200, 0.6, 2.0)
    studies, points = clinic(400, noise=noise)
    found = sets.candidate_sets(points["val"], points["test"], studies, sets.SetOptions(draws=400))
    assert all(row["coverage"]["value"] < 0.7 and row["p_swapped"] < 0.01 for row in found.rows)
    assert all(row["p_misses"] < 1e-6 for row in found.rows)
    assert sum("promise void" in note for note in found.report["notes"]) == 6 and "below:" in str(found)
    same = sets.candidate_sets(*clinic(400)[1].values(), clinic(400)[0], sets.SetOptions(draws=400))
    assert not same.report["notes"]


def test_galleries_of_their_own_are_said_and_break_a_fixed_k():
    studies, points = clinic(400, seed=3, noise=np.full(400, 1.3))
    few = {side: part.select(np.arange(60)) for side, part in points["val"].items()}
    options = sets.SetOptions(kinds=("top_k", "threshold"), gallery="own", draws=100)
    found = sets.candidate_sets(few, points["test"], studies, options)
    assert any("different size (image-to-text 60 and 200" in note for note in found.report["notes"])
    by_kind = {row["kind"]: row for row in found.rows if row["direction"] == "image-to-text"}
    assert by_kind["top_k"]["coverage"]["value"] < 0.8 < by_kind["threshold"]["coverage"]["value"]
    alone = sets.SetOptions(kinds=("threshold",), gallery="own", draws=50)
    assert not any(
        "gallery" in note for note in sets.candidate_sets(few, points["test"], studies, alone).report["notes"]
    )


def test_few_known_patients_are_said():
    studies, points = clinic(100)
    few = {side: part.select(np.arange(8)) for side, part in points["val"].items()}
    found = sets.candidate_sets(few, points["test"], studies, sets.SetOptions(draws=50))
    assert "8 known patients are too few" in found.report["notes"][0]
    assert all(row["gallery_share"] == 1 and row["limit"] is None for row in found.rows)


@pytest.mark.parametrize("protocol", ["text", "labels", "labels-abnormal", "fits"])
def test_other_protocols(protocol):
    studies, points = clinic(80)
    fits = np.eye(80, dtype=bool) | (np.random.default_rng(0).random((80, 80)) < 0.05)
    options = sets.SetOptions(protocol=protocol, draws=50)
    found = sets.candidate_sets(points["val"], points["test"], studies, options, fits if protocol == "fits" else None)
    assert len(found.rows) == 6
    if protocol == "labels-abnormal":
        assert all(
            0 < row["left_out"] < 40 and row["known"] < 40 for row in found.rows if "image-to" in row["direction"]
        )


def test_what_cannot_be_is_refused():
    studies, points = clinic(40)
    with pytest.raises(DataError, match="both splits"):
        sets.candidate_sets(points["val"], points["val"], studies)
    for changed, word in (
        ({"protocol": "graded"}, "graded"),
        ({"kinds": ("best",)}, "kind"),
        ({"kinds": ()}, "alpha"),
        ({"gallery": "other"}, "gallery"),
        ({"alphas": (0.0,)}, "alpha"),
        ({"draws": 0}, "draws"),
    ):
        with pytest.raises(DataError, match=word):
            sets.SetOptions(**changed)
