"""Measures of cases: every one that a claim may name answers for a trained run, or says why it cannot."""

import numpy as np
import pandas as pd
import pytest

from medret_nb.data.files import DataError, shipped_data
from medret_nb.data.runs import shipped_run
from medret_nb.data.studies import StudySet
from medret_nb.methods.table import load_method
from medret_nb.training.case_effects import case_effects, checked_cases
from medret_nb.training.case_measures import CASE_MEASURES, AskedOf, share_kept
from medret_nb.training.claims import event_of, load_claims

ANSWERS = ("fine pairs", "consistency", "R@10, ambiguous", "draft", "draft over nearest")


@pytest.fixture(scope="module")
def asked():
    return AskedOf(StudySet.load(shipped_data("phantom-small")))


@pytest.mark.parametrize("name", ANSWERS)
def test_a_trained_run_answers(asked, name):
    measure = CASE_MEASURES[name]
    cases = measure.cases(load_method(shipped_run("clip"), device="cpu"), asked)
    kept = checked_cases(cases, measure.reading)
    assert len(kept) and np.isfinite(kept["value"]).any()
    if measure.reading.paired:
        for effect in case_effects([cases], [cases], measure.reading, draws=10).values():
            assert effect.value == pytest.approx(0) or np.isnan(effect.value)
    else:
        assert -1 <= case_effects(None, [cases], measure.reading, draws=10)["cases"].value <= 1


def test_questions_are_drawn_once(asked):
    drawn = []

    def draw(studies, split, policy, most):
        drawn.append(policy)
        return len(drawn)

    mine = AskedOf(asked.studies)
    methods = [load_method(shipped_run(name), device="cpu") for name in ("clip", "pecm", "cxr_clip")]
    assert [mine.questions(draw, method) for method in methods] == [1, 1, 2]
    assert drawn == ["both", "findings"]


def test_without_another_site_there_is_no_answer(asked):
    with pytest.raises(DataError, match="no studies of another site"):
        CASE_MEASURES["R@10, site B"].cases(load_method(shipped_run("clip"), device="cpu"), asked)


def test_batches_are_of_train_where_there_is_one(asked):
    assert asked.taught == "train"
    rows = asked.studies.studies
    alone = asked.studies.select(rows.loc[rows["split"] == "test", "study_id"])
    assert AskedOf(alone).taught == "test"


def test_the_share_that_is_kept():
    cases = pd.DataFrame({"value": [0.3, 0.3], "clean": [0.6, 0.4], "control": [0.1, 0.1]})
    assert share_kept(cases) == pytest.approx(0.5)
    assert np.isnan(share_kept(cases.assign(clean=0.1)))


def test_every_measure_of_the_claims_has_words():
    for claim in load_claims(shipped_data("results/claims/claims.toml")):
        assert event_of(claim.measure)
    assert all(measure.event for measure in CASE_MEASURES.values())
