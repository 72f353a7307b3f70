"""Measures of cases: every one that a claim may name answers for a trained run, or says why it cannot."""

import shutil

import numpy as np
import pandas as pd
import pytest

from medret_nb.data.files import DataError, shipped_data
from medret_nb.data.runs import shipped_run
from medret_nb.data.studies import StudySet
from medret_nb.methods.table import load_method
from medret_nb.training import case_measures
from medret_nb.training.case_effects import case_effects, checked_cases
from medret_nb.training.case_measures import CASE_MEASURES, AskedOf, share_kept
from medret_nb.training.claims import ArmRuns, event_of, load_claims

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


def noted(function, calls):
    """The function, which notes its name and its named arguments at every call."""

    def noting(*given, **named):
        calls.append((function.__name__, *named.values()))
        return function(*given, **named)

    return noting


def test_measures_that_read_the_same_cases_share_one_draw(asked, monkeypatch, tmp_path):
    """Seven measures of one run need five draws of cases, although the run is loaded anew for each measure."""
    shutil.copytree(shipped_run("rra_vl"), tmp_path / "rra_vl" / "seed-0")
    names = ["located", "located, both over image", "located, both over report"]
    names += ["R@10, ambiguous", "R@10, ambiguous over clear", "draft", "draft over nearest"]
    method = load_method(shipped_run("rra_vl"), device="cpu")
    alone = CASE_MEASURES["located, both over image"].cases(method, AskedOf(asked.studies))
    drawn = []
    for name in ("located_query_cases", "ambiguity_cases", "draft_cases"):
        monkeypatch.setattr(case_measures, name, noted(getattr(case_measures, name), drawn))
    runs = ArmRuns(tmp_path, asked.studies, "test", asked=AskedOf(asked.studies))
    found = {name: runs.cases("rra_vl", name)[0] for name in names}
    located = [("located_query_cases", asker) for asker in ("both", "image", "report")]
    assert sorted(drawn) == sorted([*located, ("ambiguity_cases",), ("draft_cases",)])
    pd.testing.assert_frame_equal(found["located, both over image"], alone)


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
