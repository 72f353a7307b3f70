"""Drafts judged: counts by hand, makers that lie, data with labels alone, and data without anything."""

import numpy as np
import pandas as pd
import pytest

from medret_nb.data.files import DataError
from medret_nb.data.reports import section_text
from medret_nb.data.studies import StudySet
from medret_nb.methods.clip import CLIP, CLIPConfig
from medret_nb.phantom.records import read_truth
from medret_nb.probes.draft_quality import (
    Counts,
    LabelKey,
    PhantomKey,
    commonest_sentences,
    count_items,
    draft_cases,
    evaluate_drafts,
    items_of,
    key_to,
    whole_report,
)
from medret_nb.retrieval.drafts import Draft, Quote, SourceReport, draft_of


@pytest.fixture(scope="module")
def method():
    return CLIP.create(CLIPConfig(dim=16), seed=1)


@pytest.fixture(scope="module")
def judged(method, small_phantom):
    "Drafts of an untrained model's neighbours, and of makers that lie in known ways."
    truths = read_truth("truth", small_phantom.folder).groupby("study_id").size()

    def inventor(sources):
        made = draft_of(sources)
        invented = [
            Quote(sources[0].study_id, 0, 22, "Large left pneumothorax", 1.0),  # nobody's words
            Quote("nobody", 0, 5, "Clear", 1.0),  # nobody's report
            Quote(sources[0].study_id, 1, 9, sources[0].text[:8], 1.0),  # another place
        ]
        return Draft([*made.quotes, *invented], made.sources)

    makers = {"inventor": inventor, "silent": lambda sources: Draft([], list(sources))}
    results = evaluate_drafts(method, small_phantom, "test", k=4, tower=False, makers=makers, draws=20, verbose=False)
    return results, truths


def test_items_are_counted_once_and_by_what_they_may_mean():
    effusion = items_of(("pleural effusion",), "bilateral")
    assert len(effusion) == 2 and items_of(("edema",), "bilateral") == [(frozenset(["edema"]), "")]
    opacity = items_of(("consolidation", "pneumonia"), "right")
    there = items_of(("pneumonia",), "right")
    assert count_items([*opacity, *opacity], [], there, "finding, side") == Counts(1, 1, 1, 1, 0)
    vague = items_of(("pneumonia",), "")
    assert count_items(vague, [], there, "finding") == Counts(1, 1, 1, 1, 0)
    assert count_items(vague, [], there, "finding, side") == Counts(0, 0, 1, 0, 0)
    denial = items_of(("pneumonia", "consolidation"), "left")
    assert count_items([], denial, there, "finding, side").denied == 0
    assert count_items([], denial, items_of(("pneumonia",), "left"), "finding, side").denied == 1


def test_what_nobody_wrote_is_caught_and_counts_for_nothing(judged):
    results, _ = judged
    table = results.table().set_index(["reference", "level", "maker"])
    films = results.report["films"]
    for reference, level in (("report", "finding"), ("truth", "finding, side")):
        lied = table.loc[(reference, level, "inventor")]
        honest = table.loc[(reference, level, "draft")]
        assert lied["misquoted"] == 3 * films and honest["misquoted"] == 0
        assert (
            lied[["precision", "recall", "F1"]].fillna(-1) == honest[["precision", "recall", "F1"]].fillna(-1)
        ).all()
    assert f"{3 * films} sentences nobody wrote" in str(results)


def test_the_table_is_what_its_films_add_up_to(judged):
    results, _ = judged
    part = results.cases.query("maker == 'nearest report' and reference == 'truth' and level == 'finding'")
    row = results.table().set_index(["reference", "level", "maker"]).loc[("truth", "finding", "nearest report")]
    assert row["precision"] == pytest.approx(part["right"].sum() / part["claimed"].sum())
    assert row["recall"] == pytest.approx(part["found"].sum() / part["wanted"].sum())
    assert not results.cases["unknown"].any(), "each quoted sentence is known to the tables"
    silent = results.table().query("maker == 'silent'")
    assert (silent["recall"] == 0).all() and silent["precision"].isna().all() and (silent["false denials"] == 0).all()


def test_the_own_report_is_nearly_true_and_own_patients_do_not_answer(judged, small_phantom):
    results, _ = judged
    table = results.table().set_index(["reference", "level", "maker"])
    assert table.loc[("truth", "finding", "own report"), "precision"] > 0.8
    assert ("report", "finding", "own report") not in table.index


def test_within_one_split_the_own_patient_is_left_out(method, small_phantom):
    "The split as its own gallery: no film is drafted from its own patient's reports."
    from medret_nb.probes.draft_quality import draft_task

    task = draft_task(method, small_phantom, "train", "train", k=3)
    patient = dict(zip(small_phantom.studies["study_id"], small_phantom.studies["patient_id"]))
    for study, sources in zip(task.studies, task.sources):
        assert sources and patient[study] not in {patient[source.study_id] for source in sources}


def test_the_phantoms_key_knows_each_sentence(small_phantom):
    key = PhantomKey(small_phantom)
    texts = section_text(small_phantom, "both")
    told = [key.told(whole_report(SourceReport(s, t, 0, 1))) for s, t in zip(small_phantom.studies["study_id"], texts)]
    assert (
        sum(one.unknown for one in told) == 0 and any(one.claimed for one in told) and any(one.denied for one in told)
    )


def labelled(labels):
    "Two studies with one report each, without any truth."
    studies = pd.DataFrame(
        {
            "study_id": ["a", "b"],
            "patient_id": ["a", "b"],
            "findings": ["Small right pleural effusion. No pneumothorax.", "Cardiomegaly."],
            "labels": labels,
        }
    )
    images = pd.DataFrame({"image_id": ["a", "b"], "study_id": ["a", "b"], "path": ["a", "b"], "view": "PA"})
    return StudySet(studies, images)


def test_with_labels_alone_a_quote_claims_what_its_study_is_labelled_with():
    studies = labelled([{"Pleural Effusion": 1, "Pneumothorax": 0}, {"Cardiomegaly": -1}])
    key = key_to(studies)
    assert isinstance(key, LabelKey) and key.levels == ("finding",)
    texts = dict(zip("ab", section_text(studies)))
    told = key.told(whole_report(SourceReport("a", texts["a"], 0, 1)))
    assert told.claimed == [(frozenset(["Pleural Effusion"]), "")]
    assert told.denied == [(frozenset(["Pneumothorax"]), "")]
    assert key.told(whole_report(SourceReport("b", texts["b"], 0, 1))).claimed == [], "uncertain is not present"
    assert key.wanted("a", told, "labels") == told.claimed


def test_without_labels_nothing_is_measured_and_said_so(method):
    with pytest.raises(DataError, match="not measured, the studies have neither a truth nor labels"):
        evaluate_drafts(method, labelled([{}, None]))


def test_the_commonest_sentences_are_of_named_reports():
    texts = {"a": "Heart normal. Heart normal. Effusion.", "b": "heart normal", "c": "Clear. Effusion."}
    made = commonest_sentences(list(texts), texts, 2)
    assert [quote.text for quote in made.quotes] == ["Effusion.", "Heart normal."]
    assert all(texts[q.study_id][q.start : q.end] == q.text for q in made.quotes)


def test_cases_for_the_board(method, small_phantom):
    cases = draft_cases(method, small_phantom, "test", k=4)
    assert list(cases.columns) == ["case", "patient", "value", "control", "group"]
    assert cases["case"].is_unique and cases[["value", "control"]].stack().between(0, 1).all()
    assert set(cases["group"]) <= {"abnormal", "normal"} and np.isfinite(cases["value"]).all()
    with pytest.raises(DataError, match="not known of these studies"):
        draft_cases(method, small_phantom, "test", reference="labels")


def test_a_saved_result_is_read_back(judged, tmp_path):
    results, _ = judged
    results.save(tmp_path)
    assert type(results).there(tmp_path) and type(results).read_report(tmp_path)["k"] == 4
