"""Kappa and alpha of readers against other people's numbers, and their intervals against planted truth."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from medret_nb.evaluation.agreement import cohen_kappa, distance_of, krippendorff_alpha, reader_agreement

WEIGHTS = {"nominal": None, "linear": "linear", "quadratic": "quadratic"}


def read(truth, guesses, rng):
    "A reader who says anything in a share of the units."
    return np.where(rng.random(truth.shape) < guesses, rng.integers(0, 3, truth.shape), truth)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=2, max_size=60), st.sampled_from([*WEIGHTS]))
def test_kappa_is_that_of_scikit_learn(pairs, distance):
    a, b = np.array(pairs).T
    if len({*a, *b}) < 2:
        assert cohen_kappa(a, b)["value"] is None  # nothing could be disagreed on
        return
    wanted = cohen_kappa_score(a, b, labels=[0, 1, 2], weights=WEIGHTS[distance])
    assert cohen_kappa(a, b, distance=distance)["value"] == pytest.approx(wanted)


def test_alpha_of_krippendorffs_own_example():
    "Four observers, twelve units, five values, many missing: 0.743 nominal, 0.849 interval (Krippendorff 2011)."
    said = [
        "1 2 3 3 2 1 4 1 2 . . .",
        "1 2 3 3 2 2 4 1 2 5 . 3",
        ". 3 3 3 2 3 4 2 2 5 1 .",
        "1 2 3 3 2 4 4 1 2 5 1 .",
    ]
    table = np.array([[-1 if x == "." else int(x) - 1 for x in line.split()] for line in said]).T
    assert krippendorff_alpha(table, levels=5)["value"] == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(table, levels=5, distance="quadratic")["value"] == pytest.approx(0.849, abs=5e-4)
    assert krippendorff_alpha(table, levels=5)["units"] == 11  # the twelfth was judged by one


def test_what_one_of_them_left_out_does_not_count():
    a, b = np.array([0, 1, 2, 0, -1, 2]), np.array([0, 2, 2, -1, 1, 1])
    both = (a >= 0) & (b >= 0)
    assert cohen_kappa(a, b)["value"] == pytest.approx(cohen_kappa_score(a[both], b[both]))
    assert cohen_kappa(a, b)["units"] == 4


def test_planted_readers():
    "Each guesses in a share g of the units: kappa is (1 - g)^2 where the truth is even, with its interval."
    rng = np.random.default_rng(1)
    truth, patients = rng.integers(0, 3, 4000), np.repeat(np.arange(800), 5)
    answers = np.stack([read(truth, g, rng) for g in (0.1, 0.3, 0.3)], 1)
    rows = {(r["measure"], r["readers"]): r for r in reader_agreement(answers, ["A", "B", "C"], patients, draws=300)}
    for who, wanted in (("A, B", 0.63), ("A, C", 0.63), ("B, C", 0.49)):
        assert rows["kappa", who]["value"] == pytest.approx(wanted, abs=0.03)
        assert rows["kappa", who]["low"] < wanted < rows["kappa", who]["high"]
        assert rows["same answer", who]["value"] == pytest.approx(wanted + (1 - wanted) / 3, abs=0.03)
    assert rows["alpha", "all"]["value"] == pytest.approx((0.63 + 0.63 + 0.49) / 3, abs=0.03)


def test_intervals_hold_kappa_over_patients():
    "150 groups of 50 patients whose pairs resemble each other: about 95 % of the intervals hold the planted kappa."
    rng = np.random.default_rng(0)

    def draw(count):
        "Two readers' answers (count, 6); a patient's own shares of the answers vary."
        shares = rng.dirichlet([2, 1, 3], count).cumsum(1)[:, None]
        truth = (rng.random((count, 6, 1)) > shares[:, :, :2]).sum(-1)
        return read(truth, 0.2, rng).ravel(), read(truth, 0.2, rng).ravel()

    wanted = cohen_kappa_score(*draw(60_000))
    patients = np.repeat(np.arange(50), 6)
    held = 0
    for _ in range(150):
        made = cohen_kappa(*draw(50), patients, draws=200)
        held += made["low"] <= wanted <= made["high"]
    assert 0.90 <= held / 150 <= 0.99, held / 150


def test_no_interval_where_there_is_too_little():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 400)
    few = cohen_kappa(truth, read(truth, 0.3, rng), np.repeat(np.arange(20), 20))
    assert few["few"] and few["patients"] == 20 and few["low"] is None
    assert cohen_kappa(truth, truth)["few"] and cohen_kappa(truth, truth)["value"] == 1  # they never differ
    assert krippendorff_alpha(np.full((9, 2), -1))["value"] is None
    with pytest.raises(ValueError, match="distance"):
        distance_of("cubic", 3)
