"""Risk control against exact probabilities and simulation: the bound holds as often as it says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from medret_nb.evaluation import risk_control as rc
from medret_nb.evaluation.coverage import judge_sets


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 200), st.floats(0.01, 0.6), st.floats(0.001, 0.4))
def test_allowed_misses_by_counting(n, bound, delta):
    most = max([k for k in range(n + 1) if binom.cdf(k, n, bound) <= delta], default=-1)
    assert rc.allowed_misses(n, bound, delta) == most
    assert (most >= 0) == (n >= rc.fewest_patients(bound, delta)) or abs((1 - bound) ** n - delta) < 1e-6


def test_the_upper_end_is_scipys():
    for misses, n in ((0, 29), (3, 60), (60, 60)):
        judge = binomtest(misses, n, alternative="less").proportion_ci(0.95, "exact").high
        assert rc.upper_risk(misses, n) == pytest.approx(judge)


@pytest.mark.parametrize(("n", "bound", "delta"), [(40, 0.1, 0.05), (120, 0.05, 0.1), (59, 0.05, 0.05)])
def test_the_risk_exceeds_the_bound_as_often_as_it_says(n, bound, delta):
    values = np.random.default_rng(n).random((8000, n))
    risk = 1 - np.array([rc.risk_limit(row, bound, delta) for row in values])
    exact = binom.cdf(rc.allowed_misses(n, bound, delta), n, bound)
    assert exact <= delta and np.mean(risk > bound) == pytest.approx(exact, abs=4 * np.sqrt(exact / 8000))


def test_ties_make_it_safer():
    values = np.random.default_rng(1).integers(0, 6, (4000, 60)).astype(float)
    limits = np.array([rc.risk_limit(row, 0.1, 0.05) for row in values])
    assert np.mean((5 - limits) / 6 > 0.1 + 1e-9) <= 0.05


@pytest.mark.parametrize("kind", ["top_k", "threshold", "adaptive"])
def test_critical_misses_of_new_patients_stay_below_the_bound(kind):
    """Films with a finding, reports that name it; patients with two alike studies count once, with the worse."""
    rng = np.random.default_rng(2)
    above = []
    for _ in range(150):
        scores = rng.normal(size=(300, 40))
        scores[:, :4] += np.repeat(rng.normal(1.2, 1, 150), 2)[:, None]
        saves = np.where(np.arange(40) < 4, 0, -1)
        patients = np.arange(120) // 2
        sets = rc.control_risk(scores[:120], (np.zeros(120, int), saves), 0.1, 0.1, kind, patients)
        assert len(sets.values) == 60 and sets.misses <= rc.allowed_misses(60, 0.1, 0.1)
        judged = judge_sets(sets, scores[120:], (np.zeros(180, int), saves))
        assert (judged["covered"] == (sets.sets(scores[120:])[:, :4]).any(1)).all()
        missed = (judged["covered"] == 0).to_numpy().reshape(-1, 2).any(1)
        above.append(missed.mean() > 0.1 + 2 * np.sqrt(0.09 / 90))
    assert np.mean(above) < 0.06


def test_too_few_patients_promise_the_gallery():
    scores = np.random.default_rng(0).normal(size=(28, 6))
    sets = rc.control_risk(scores, (np.zeros(28, int), np.zeros(6, int)), 0.1)
    assert sets.limit == np.inf and sets.misses == 0 and sets.sets(scores).all()
    assert rc.risk_limit([], 0.1, 0.05) == np.inf


def test_hoeffding_and_bentkus_hold_their_level_and_are_monotone():
    rng = np.random.default_rng(3)
    for shape in ((0.5, 4.5), (1, 9), (20, 180)):
        losses = rng.beta(*shape, (3000, 80))  # each has the mean 0.1
        p = np.array([rc.hoeffding_bentkus(mean, 80, 0.1) for mean in losses.mean(1)])
        assert np.mean(p <= 0.1) <= 0.1
    means = np.linspace(0, 1, 101)
    p = np.array([rc.hoeffding_bentkus(mean, 50, 0.2) for mean in means])
    assert (np.diff(p) >= -1e-12).all() and p[0] == pytest.approx(0.8**50) and p[-1] == 1


def test_learn_then_test_stops_at_the_first_that_fails():
    losses = np.zeros((100, 4))
    losses[:30, 2] = 1
    assert rc.learn_then_test(losses, 0.1) == 1  # the fourth would pass, and is not reached
    assert rc.learn_then_test(losses[:5], 0.1) == -1
    assert rc.learn_then_test(losses[:, :2], 0.1) == 1
    with pytest.raises(ValueError, match="losses"):
        rc.learn_then_test(losses + 1, 0.1)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 80), st.integers(0, 2**31), st.sampled_from([0.05, 0.1, 0.3]))
def test_for_misses_both_ways_agree(n, seed, bound):
    values = np.random.default_rng(seed).integers(0, 40, n).astype(float)
    limits = np.unique(values)[::-1]
    last = rc.learn_then_test(values[:, None] > limits, bound, 0.1)
    limit = rc.risk_limit(values, bound, 0.1)
    assert (limit == np.inf) if last < 0 else (limits[last] == limit)


def test_learn_then_test_keeps_the_risk_of_partial_losses():
    rng = np.random.default_rng(4)
    limits = np.linspace(1, 0, 60)
    above = []
    for _ in range(400):
        values = rng.random((150, 3))
        values[rng.random((150, 3)) < 0.3] = np.nan
        last = rc.learn_then_test(rc.losses_at(values, limits), 0.2, 0.1)
        above.append(1 - limits[last] > 0.2 / (1 - 0.3**3) + 1e-9)
    assert np.mean(above) <= 0.1


def test_losses_by_hand():
    found = rc.losses_at([[0.1, 0.9, np.nan], [np.nan] * 3], [1, 0.5, 0])
    assert found.tolist() == [[0, 0.5, 1], [0, 0, 0]]


def test_wrong_arguments_are_named():
    scores = np.zeros((3, 2))
    relevant = np.ones((3, 2), bool)
    for changed, word in (({"bound": 2}, "alpha"), ({"delta": 0}, "delta"), ({"patients": [1]}, "patients")):
        with pytest.raises(ValueError, match=word):
            rc.control_risk(**{"scores": scores, "relevant": relevant, "bound": 0.1} | changed)
