"""What the page and the figures of a run begin with: its evaluations, and the sentence that they stand on."""

import pandas as pd
import pytest

from medret_nb.cli.measured_run import failure_protocol, measured, report_marks, stands_on, told_briefly
from medret_nb.data.files import DataError
from medret_nb.evaluation.results import Results


def test_what_is_not_measured_is_named_with_its_command(tmp_path):
    with pytest.raises(DataError, match="--split val --protocol text first"):
        measured(tmp_path, "val", ("text",))


def test_the_sentence_below_a_figure():
    sizes = {"image-to-text": {"queries": 9, "gallery": 10}, "text-to-image": {"queries": 8, "gallery": 9}}
    report = {
        "protocol": "exact",
        "split": "test",
        "policy": "both",
        "directions": sizes,
        "duplicate_share": 0.25,
        "interval": "by patient",
        "ties": "expectation",
        "fingerprint": {"data": "0123456789", "seed": 0, "versions": {"torch": "2"}},
    }
    assert stands_on(Results(report, pd.DataFrame(), pd.DataFrame())) == (
        "Protocol exact, split test, texts: both; image-to-text: 9 queries, gallery of 10; "
        "text-to-image: 8 queries, gallery of 9; "
        "25.0% of the texts have an identical other; interval: by patient; ties: expectation. "
        "Fingerprint: data 01234567, seed 0."
    )
    brief = told_briefly(Results(report, pd.DataFrame(), pd.DataFrame()))
    assert brief == "image-to-text, protocol exact, 9 queries, gallery of 10."
    assert report_marks(report) == {"data": "0123456789", "seed": "0"}


def test_failures_are_told_by_texts_where_they_were_measured():
    found = Results({}, pd.DataFrame(), pd.DataFrame())
    assert failure_protocol({"exact": found, "text": found}) == "text"
    assert failure_protocol({"labels": found}) == "labels"
