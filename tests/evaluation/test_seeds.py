"""Patients and trainings in one interval: Satterthwaite by hand, what margins say, and simulated claims."""

import numpy as np
import pytest
from scipy import stats

from medret_nb.evaluation.seeds import combined_luck, smallest_found


@pytest.mark.parametrize("by_seed", [[0.02, 0.03, 0.04], [0.03, 0.03, 0.03], [0.01, 0.06, 0.02, 0.03]])
def test_both_variances_add_up(by_seed):
    clusters = 300
    t = stats.t.ppf(0.975, clusters - 1)
    found = combined_luck(0.03, 0.03 - t * 0.006, 0.03 + t * 0.006, clusters, by_seed)
    patients = 0.006**2
    trainings = stats.sem(by_seed) ** 2
    freedom = (patients + trainings) ** 2 / (patients**2 / (clusters - 1) + trainings**2 / (len(by_seed) - 1))
    half = stats.t.ppf(0.975, freedom) * np.sqrt(patients + trainings)
    assert (found.low, found.high) == pytest.approx((0.03 - half, 0.03 + half))
    for bound in (0.0, 0.02, 0.05):
        judge = 2 * stats.t.sf(abs(0.03 - bound) / np.sqrt(patients + trainings), freedom)
        assert found.p(bound) == pytest.approx(judge)
        assert (found.p(bound) < 0.05) == (not found.low <= bound <= found.high)


def test_each_side_has_its_own_error():
    found = combined_luck(0.1, 0.08, 0.15, 100, [0.1, 0.1, 0.1])
    assert (found.low, found.high) == pytest.approx((0.08, 0.15)), "trainings without spread leave the patients' ends"


def test_one_training_says_nothing_of_another():
    found = combined_luck(0.1, 0.08, 0.12, 100, [0.1])
    assert np.isnan([found.low, found.high, found.p(), smallest_found(found)]).all()


def test_what_is_detectable_is_detected_four_times_in_five():
    rng = np.random.default_rng(0)
    margin = 0.02
    seeds = 8
    error = 0.006
    spread = 0.008
    trainings = spread * stats.zscore(np.arange(seeds), ddof=1)
    t = stats.t.ppf(0.975, 1999)
    effect = smallest_found(combined_luck(0.0, -t * error, t * error, 2000, trainings), margin)
    supported = []
    for _ in range(4000):
        patients = rng.normal(0, error)
        by_seed = effect + patients + rng.normal(0, spread, seeds)
        value = by_seed.mean()
        supported.append(combined_luck(value, value - t * error, value + t * error, 2000, by_seed).low > margin)
    assert np.mean(supported) == pytest.approx(0.8, abs=0.05)


def simulated(rng, spread, margin, queries=2000, seeds=3):
    """Two arms of three trainings; the truth is `margin` apart, the trainings' difference spreads by `spread`."""
    ease = rng.normal(0, np.sqrt(0.5), queries)
    own = rng.normal(0, np.sqrt(0.1), (2, 1, queries))
    noise = rng.normal(0, np.sqrt(0.4), (2, seeds, queries))
    recall = np.array([[0.15] * seeds, [0.15 + margin] * seeds]) + rng.normal(0, spread / np.sqrt(2), (2, seeds))
    return (ease + own + noise > stats.norm.isf(recall)[:, :, None]).astype(float)


def judged(hits):
    """The combined interval; the patients' standard error by its formula, as the bootstrap would give it."""
    each = hits[1] - hits[0]
    per_query = each.mean(0)
    half = stats.t.ppf(0.975, len(per_query) - 1) * stats.sem(per_query)
    value = per_query.mean()
    return combined_luck(value, value - half, value + half, len(per_query), each.mean(1))


@pytest.mark.parametrize("spread", [0.0, 0.006, 0.012])
def test_an_effect_of_the_margin_is_supported_once_in_forty(spread):
    """Over patients alone it is in 3, 5 and 10 of a hundred."""
    rng = np.random.default_rng(int(1000 * spread))
    found = [judged(simulated(rng, spread, 0.02)) for _ in range(700)]
    supported = np.mean([each.low > 0.02 for each in found])
    covered = np.mean([each.low <= 0.02 <= each.high for each in found])
    assert supported <= 0.045 and covered >= 0.93, (supported, covered)


@pytest.mark.parametrize("spread", [0.0, 0.006, 0.012])
def test_p_of_equal_arms_holds_its_level(spread):
    """Over patients alone, p < .05 comes up in 5, 9 and 20 of a hundred."""
    rng = np.random.default_rng(1 + int(1000 * spread))
    p = [judged(simulated(rng, spread, 0.0)).p() for _ in range(700)]
    assert np.mean(np.array(p) < 0.05) <= 0.07
