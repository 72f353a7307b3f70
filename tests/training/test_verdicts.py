"""Verdicts: where an interval lies against a margin."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medret_nb.evaluation.seeds import combined_luck
from medret_nb.training.verdicts import LEAST_DISCORDANT, VERDICTS, bounds_of, claim_p, over_budgets, verdict

SUPPORTED, CONTRADICTED, UNDECIDED, NOT_THIS_MUCH, NO_DIFFERENCE, CHANGES = VERDICTS
finite = st.floats(-1, 1)


@given(finite, finite, st.floats(0.001, 0.5), st.booleans(), st.booleans())
def test_better_by_its_definition(a, b, margin, agree, sure):
    low, high = sorted((a, b))
    told = verdict(low, high, margin, agree=agree, sure=sure)
    if low > margin and agree and sure:
        assert told == SUPPORTED
    elif high < -margin and agree and sure:
        assert told == CONTRADICTED
    elif -margin < low and high < margin:
        assert told == NO_DIFFERENCE
    elif high < margin:
        assert told == NOT_THIS_MUCH
    else:
        assert told == UNDECIDED


@given(finite, finite, st.floats(0.001, 0.5), st.booleans())
def test_no_worse_by_its_definition(a, b, margin, agree):
    low, high = sorted((a, b))
    told = verdict(low, high, margin, "no worse", agree=agree)
    if low > -margin:
        assert told == SUPPORTED
    elif high < 0 and agree:
        assert told == CONTRADICTED
    else:
        assert told == UNDECIDED


def test_no_worse_needs_queries_that_came_out_differently():
    assert verdict(-0.001, 0.001, 0.02, "no worse", discordant=LEAST_DISCORDANT) == SUPPORTED
    assert verdict(-0.001, 0.001, 0.02, "no worse", discordant=LEAST_DISCORDANT - 1) == UNDECIDED
    assert verdict(np.nan, np.nan, 0.02, "no worse") == UNDECIDED, "no hit in twelve queries is no evidence"


def test_what_cannot_be_judged_is_refused():
    with pytest.raises(ValueError, match="kind: 'equal'"):
        verdict(0, 1, 0.1, "equal")
    with pytest.raises(ValueError, match="margin: -0.1"):
        verdict(0, 1, -0.1)
    with pytest.raises(ValueError, match="there is none"):
        over_budgets([])


def test_a_verdict_that_differs_changes_with_budget():
    assert over_budgets([UNDECIDED] * 3) == UNDECIDED
    assert over_budgets([SUPPORTED, NOT_THIS_MUCH]) == CHANGES


@settings(deadline=None)  # the first call loads the tables of Student's t
@given(st.floats(-0.1, 0.1), st.floats(0.001, 0.05), st.floats(0, 0.03), st.sampled_from(["better", "no worse"]))
def test_p_is_below_its_level_exactly_where_a_bound_lies_outside(value, half, spread, kind):
    found = combined_luck(value, value - half, value + half, 500, [value - spread, value, value + spread])
    above, below = bounds_of(0.02, kind)
    p = claim_p(found.p_above(above), found.p_below(below))
    decided = found.low > above or found.high < below
    if abs(p - 0.05) > 1e-6:
        assert (p < 0.05) == decided
