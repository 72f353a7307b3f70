"""Effects of cases on planted tables: arms, controls, groups, contrasts, directions; and cases that do not match."""

import numpy as np
import pandas as pd
import pytest

from medret_nb.data.files import DataError
from medret_nb.training.case_effects import Reading, case_effects, same_cases


def planted(gain=0.0, seed=0, patients=60, groups=("a", "b", "c"), control=0.5):
    "Cases of one training: three groups a patient, with `gain` in the first group."
    rng = np.random.default_rng(seed)
    group = np.tile(groups, patients)
    who = np.repeat(np.arange(patients), len(groups)).astype(str)
    value = 0.5 + rng.normal(0, 0.05, len(group)) + gain * (group == groups[0])
    names = [f"{patient}/{name}" for patient, name in zip(who, group)]
    return pd.DataFrame({"case": names, "patient": who, "value": value, "group": group, "control": control})


@pytest.fixture
def arms():
    return [planted(0.0, seed) for seed in range(3)], [planted(0.3, 10 + seed) for seed in range(3)]


@pytest.mark.parametrize(
    "reading, expected",
    [
        (Reading(), 0.1),
        (Reading(macro=True), 0.1),
        (Reading(keep=("a",)), 0.3),
        (Reading(keep=("b", "c")), 0.0),
        (Reading(contrast=("a", "b")), 0.3),
        (Reading(contrast=("b", "c")), 0.0),
        (Reading(statistic=lambda cases: cases["value"].median()), None),
    ],
)
def test_what_was_planted_is_found(arms, reading, expected):
    effect = case_effects(*arms, reading, draws=200)["cases"]
    assert len(effect.by_seed) == 3 and effect.patients == 60
    if expected is not None:
        assert effect.value == pytest.approx(expected, abs=0.02)
        assert effect.low - 0.01 <= expected <= effect.high + 0.01


def test_an_arm_against_its_control(arms):
    effect = case_effects(None, arms[1], Reading(paired=False), draws=200)["cases"]
    assert effect.value == pytest.approx(0.1, abs=0.02) and effect.low > 0
    still = case_effects(None, arms[0], Reading(paired=False, macro=True), draws=200)["cases"]
    assert still.low < 0.005 and abs(still.value) < 0.01


def test_each_direction_apart(arms):
    first, second = ([table.assign(direction=table["group"]) for table in arm] for arm in arms)
    found = case_effects(first, second, Reading(apart="direction"), draws=100)
    assert list(found) == ["a", "b", "c"] and found["a"].value > 0.25 and abs(found["b"].value) < 0.05
    assert found["a"].queries == 60


def test_only_shared_cases_count_and_in_one_order(arms):
    first, second = arms
    shuffled = [table.sample(frac=1, random_state=3) for table in first]
    more = [pd.concat([table, planted(0, 9, 70).iloc[180:]]) for table in shuffled]
    same = case_effects(more, second, Reading(), draws=50)["cases"]
    plain = case_effects(first, second, Reading(), draws=50)["cases"]
    assert same.value == pytest.approx(plain.value) and same.queries == 180


def test_a_patient_counts_once_however_many_cases(arms):
    "Every case doubled under the same patient: no narrower."
    widths = []
    for times in (1, 4):
        sides = []
        for arm in arms:
            doubled = [pd.concat([t.assign(case=t["case"] + f"/{i}") for i in range(times)]) for t in arm]
            sides.append(doubled)
        effect = case_effects(*sides, Reading(), draws=400)["cases"]
        widths.append(effect.high - effect.low)
    assert widths[1] == pytest.approx(widths[0], rel=0.2)


def test_too_few_patients_have_no_interval():
    few = [planted(0.3, seed, patients=12) for seed in range(3)]
    effect = case_effects([planted(0, 5, 12)] * 3, few, Reading(macro=True), draws=50)["cases"]
    assert np.isfinite(effect.value) and np.isnan(effect.low)


@pytest.mark.parametrize(
    "change, reading, words",
    [
        (lambda t: t.drop(columns="value"), Reading(), "have no column value"),
        (lambda t: t.drop(columns="group"), Reading(macro=True), "have no column group"),
        (lambda t: t, Reading(keep=("z",)), "there is none of .*z"),
        (lambda t: t.iloc[:0], Reading(), "there is none"),
        (lambda t: pd.concat([t, t.iloc[:1]]), Reading(), "0/a is there twice"),
        (lambda t: t.assign(case=t["case"] + "!"), Reading(), "the arms share none"),
        (lambda t: t.assign(patient="x"), Reading(), "another patient for the same case"),
        (lambda t: t.assign(group=t["group"] + "!"), Reading(), "another group for the same case"),
    ],
)
def test_cases_that_cannot_be_compared_are_refused(arms, change, reading, words):
    with pytest.raises(DataError, match=words):
        case_effects(arms[0], [change(table) for table in arms[1]], reading, draws=10)


def test_other_trainings_and_idle_rivals_are_refused(arms):
    with pytest.raises(DataError, match="3 trainings of one arm, 2 of the other"):
        case_effects(arms[0][:2], arms[1], Reading())
    for first, reading in ((None, Reading()), (arms[0], Reading(paired=False))):
        with pytest.raises(ValueError, match="two arms"):
            case_effects(first, arms[1], reading)
    with pytest.raises(DataError, match="no column control"):
        case_effects(None, [arms[1][0].drop(columns="control")], Reading(paired=False))


def test_shared_cases_keep_the_first_order(arms):
    tables = [table.set_index("case", drop=False) for table in arms[0]]
    found = same_cases([tables[0], tables[1].iloc[::-1]])
    assert list(found[0].index) == list(tables[0].index) == list(found[1].index)
