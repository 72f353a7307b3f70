"""Verdicts and how small an effect could have been seen."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from medret_nb.training.verdicts import VERDICTS, smallest_detectable, verdict

finite = st.floats(-1, 1)


@given(finite, finite, st.floats(0, 0.5), st.booleans())
def test_a_verdict_turns_round_with_the_effect(a, b, margin, agree):
    low, high = sorted((a, b))
    told, turned = verdict(low, high, margin, agree=agree), verdict(-high, -low, margin, agree=agree)
    assert {VERDICTS[0]: VERDICTS[1], VERDICTS[1]: VERDICTS[0], VERDICTS[2]: VERDICTS[2]}[told] == turned
    assert (told == VERDICTS[2]) == (not agree or not (low > margin or high < -margin))


def test_no_worse_asks_for_less_and_no_sign():
    assert verdict(-0.01, 0.03, 0.02, "no worse", agree=False) == VERDICTS[0]
    assert verdict(-0.03, 0.03, 0.02, "no worse") == VERDICTS[2]
    assert verdict(-0.05, -0.03, 0.02, "no worse") == VERDICTS[1]
    assert verdict(np.nan, np.nan, 0.02) == VERDICTS[2]
    with pytest.raises(ValueError, match="kind: 'equal'"):
        verdict(0, 1, 0.1, "equal")
    with pytest.raises(ValueError, match="margin: -0.1"):
        verdict(0, 1, -0.1)


def test_what_is_detectable_is_detected_four_times_in_five():
    rng, n = np.random.default_rng(0), 400
    half = 1.96 / np.sqrt(n)
    effect = smallest_detectable(-half, half)
    found = rng.normal(effect, 1 / np.sqrt(n), 20_000) - half > 0
    assert found.mean() == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize("power, level", [(0.8, 0.95), (0.9, 0.95), (0.8, 0.9)])
def test_the_smallest_detectable_effect_is_its_formula(power, level):
    low, high = -0.01, 0.03
    z = stats.norm.ppf((1 + level) / 2)
    assert smallest_detectable(low, high, power, level) == pytest.approx(
        (high - low) / (2 * z) * (z + stats.norm.ppf(power))
    )
