"""Margins, smallest differences and planned sizes, each against 500 simulated comparisons with patients."""

import numpy as np
import pytest
from scipy.stats import norm

from medret_nb.evaluation.intervals import paired_bootstrap
from medret_nb.evaluation.power import (
    equivalence,
    errors_away,
    noninferiority,
    pilot,
    power_at,
    smallest_difference,
    studies_for_margin,
    studies_needed,
)

DRAWS = 200
SETS = 500


def two_runs(rng, queries, difference, discordance=0.2, alike=0.4):
    """Hits of two runs on queries of patients with one to three of them, whose outcomes are alike within a patient."""
    patient = np.repeat(np.arange(queries), rng.integers(1, 4, queries))[:queries]
    shared = rng.normal(size=queries)[patient] * np.sqrt(alike)
    place = norm.cdf(shared + rng.normal(size=queries) * np.sqrt(1 - alike))
    lost = (discordance - difference) / 2
    gained = (discordance + difference) / 2
    step = (place > 1 - gained).astype(float) - (place < lost)
    first = np.where(step < 0, 1.0, np.where(step > 0, 0.0, rng.random(queries) < 0.5))
    return first, first + step, patient


def truth(difference, discordance=0.2):
    """Discordance and design effect of such runs, from 120,000 queries."""
    first, second, patient = two_runs(np.random.default_rng(99), 120_000, difference, discordance)
    found = pilot(first, second, patient, draws=300)
    assert found.difference == pytest.approx(difference, abs=0.005)
    assert found.discordance == pytest.approx(discordance, abs=0.005)
    return found


def share(test, queries, difference, discordance=0.2):
    """In how many of 500 simulated comparisons `test(first, second, patient, seed)` says yes."""
    said = []
    for seed in range(SETS):
        rng = np.random.default_rng(seed)
        said.append(test(*two_runs(rng, queries, difference, discordance), seed))
    return np.mean(said)


def near(expected):
    """Within three standard errors of the simulation, and the half point that normal approximations cost."""
    return pytest.approx(expected, abs=3 * np.sqrt(expected * (1 - expected) / SETS) + 0.01)


@pytest.mark.parametrize("power", [0.8, 0.5])
def test_planned_comparisons_have_the_planned_power(power):
    difference = 0.06
    planned = truth(difference)
    queries = studies_needed(difference, planned.discordance, planned.design, power)

    def significant(first, second, patient, seed):
        return paired_bootstrap(first, second, patient, DRAWS, seed).p < 0.05

    assert share(significant, queries, difference) == near(power)


def test_the_smallest_difference_is_found_four_times_in_five():
    planned = truth(0.08)
    smallest = smallest_difference(planned.discordance, 400, planned.design)
    assert studies_needed(smallest, planned.discordance, planned.design) == pytest.approx(400, abs=1)

    def significant(first, second, patient, seed):
        return paired_bootstrap(first, second, patient, DRAWS, seed).p < 0.05

    assert share(significant, 400, smallest) == near(0.8)


def test_not_worse_has_the_planned_power_and_a_small_error():
    planned = truth(0.0)
    queries = studies_for_margin(0.06, planned.discordance, planned.design)

    def shown(first, second, patient, seed):
        return noninferiority(first, second, 0.06, patient, draws=DRAWS, seed=seed).shown

    assert share(shown, queries, 0.0) == near(0.8)
    assert share(shown, queries, -0.06) < 0.025 + 3 * np.sqrt(0.025 * 0.975 / SETS)


def test_equivalence_has_the_planned_power_and_a_small_error():
    planned = truth(0.0)
    queries = studies_for_margin(0.07, planned.discordance, planned.design, both_sides=True)

    def shown(first, second, patient, seed):
        return equivalence(first, second, 0.07, patient, draws=DRAWS, seed=seed).shown

    assert share(shown, queries, 0.0) == near(0.8)
    assert share(shown, queries, 0.07) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / SETS)


def test_a_test_is_shown_exactly_when_its_p_is_small():
    for seed in range(30):
        first, second, patient = two_runs(np.random.default_rng(seed), 300, -0.03)
        one = noninferiority(first, second, 0.06, patient, draws=DRAWS)
        both = equivalence(first, second, 0.06, patient, draws=DRAWS)
        assert one.shown == (one.p < 0.025) and both.shown == (both.p < 0.05)
        assert one.low < both.low < both.value < both.high < one.high
        turned = equivalence(second, first, 0.06, patient, draws=DRAWS)
        assert turned.value == pytest.approx(-both.value) and turned.p == pytest.approx(both.p, abs=0.03)


def test_formulas_by_hand():
    assert errors_away() == pytest.approx(1.959964 + 0.841621)
    assert studies_needed(0.02, 0.2) == int(np.ceil(7.848879 * (0.2 - 0.0004) / 0.0004))
    assert studies_needed(0.02, 0.2, 2.0) == pytest.approx(2 * studies_needed(0.02, 0.2), abs=1)
    assert studies_for_margin(0.02, 0.2, difference=0.02) < studies_for_margin(0.02, 0.2) / 3.9
    assert power_at(0.0, 1e9, 0.2, bound=-0.02) == 1 and power_at(0.0, 1000, 0.2) == pytest.approx(0.025)
    assert smallest_difference(0.0, 100) == 0


def test_a_pilot_sees_patients():
    rng = np.random.default_rng(0)
    delta = np.repeat(rng.choice([-1.0, 0, 1], 300, p=[0.1, 0.7, 0.2]), 2)
    found = pilot(np.zeros(600), delta, np.repeat(np.arange(300), 2))
    assert found.design == pytest.approx(2, abs=0.2) and (found.queries, found.patients) == (600, 300)
    alone = pilot(np.zeros(600), delta)
    assert alone.design == pytest.approx(1, abs=0.12) and alone.error < found.error
    same = pilot(np.ones(50), np.ones(50))
    assert same.design == 1 and same.discordance == 0
    gaps = np.r_[delta, np.nan]
    assert pilot(np.zeros(601), gaps, np.r_[np.repeat(np.arange(300), 2), 300]).patients == 300


def test_what_cannot_be_is_refused():
    for wrong in ((0.0, 0.2), (0.3, 0.2)):
        with pytest.raises(ValueError, match="difference"):
            studies_needed(*wrong)
    with pytest.raises(ValueError, match="no number of studies helps"):
        studies_for_margin(0.02, 0.2, difference=-0.02)
    with pytest.raises(ValueError, match="power, level"):
        errors_away(1.0)
    for test in (noninferiority, equivalence):
        with pytest.raises(ValueError, match="margin: 0 must be above 0"):
            test(np.zeros(50), np.ones(50), 0)
