"""Results as tables and in words."""

import pandas as pd
import pytest

from medret_nb.cli.summary import (
    HITS_IN_WORDS,
    findings_told,
    in_words,
    markdown,
    markdown_cell,
    overview_facts,
    save_table,
)
from medret_nb.data.studies import StudySet
from medret_nb.evaluation.results import Results


def test_markdown_escapes_bars():
    assert markdown(pd.DataFrame({"a|b": ["x|y"], "c": [0.5]})).splitlines()[2] == "| x\\|y | 0.500 |"


def test_a_table_is_saved_twice(tmp_path):
    save_table(pd.DataFrame({"metric": ["R@1"], "value": [0.12345], "ceiling": [None]}), tmp_path / "t")
    assert (tmp_path / "t.csv").read_text().splitlines()[1] == "R@1,0.12345,"
    assert (tmp_path / "t.md").read_text().splitlines()[2] == "| R@1 | 0.123 |  |"


def measured_under(protocol, low=0.1):
    "An evaluation of which only what a sentence needs is there."
    number = {"value": 0.5, "low": low, "high": None if low is None else 0.9, "chance": 0.05}
    part = {"queries": 40, "gallery": 60, "metrics": {"R@10": number}}
    report = {"protocol": protocol, "split": "test", "directions": {"image-to-text": part}}
    return Results(report, pd.DataFrame(), pd.DataFrame())


@pytest.mark.parametrize("protocol", HITS_IN_WORDS)
def test_the_sentence_says_what_the_protocol_measured_and_nothing_else(protocol):
    told = in_words(measured_under(protocol))
    assert f"{HITS_IN_WORDS[protocol]} was among the first ten of 60" in told
    assert ("own report was among" in told) == (protocol == "exact")
    assert ("the same labels" in told) == protocol.startswith("labels")
    assert ("the same words" in told) == (protocol == "text")
    assert ("abnormal films" in told) == (protocol == "labels-abnormal")


def test_too_few_for_an_interval_is_said():
    assert "too few for an interval" in in_words(measured_under("exact", low=None))


def one_study(labels):
    table = pd.DataFrame({"study_id": ["s0"], "patient_id": ["p0"], "labels": [labels]})
    return StudySet(table, pd.DataFrame(columns=["image_id", "study_id", "path"]))


def test_a_study_without_labels_is_not_said_to_have_no_finding():
    assert findings_told(one_study({})) == {"s0": "no labels given"}
    assert findings_told(one_study({"Edema": 0})) == {"s0": "report names: nothing"}
    assert findings_told(one_study({"Edema": 1})) == {"s0": "report names: Edema"}


def test_a_name_that_ends_a_line_is_one_name():
    facts = overview_facts(one_study({"a\u2028b": 1, "c\n\nd": 1}))
    assert "a\u2028b 1" in facts["labels"] and set(facts) >= {"splits", "texts", "leakage", "incomplete"}


def test_no_tag_of_a_table_reaches_a_page():
    assert markdown_cell("<img src=x>|a") == "&lt;img src=x>\\|a"
