"""Notes on failed queries: a file that holds them, and a table that no spreadsheet takes for a program."""

import json

import pandas as pd
import pytest

from medret_nb.views.notes import Notes

FAILURES = pd.DataFrame(
    {"direction": ["image-to-text", "text-to-image"], "study_id": ["s1", "s1"], "relation": ["wrong side", "denied"]}
)


def test_a_note_belongs_to_its_direction_and_study(tmp_path):
    book = Notes(tmp_path / "n.json", FAILURES)
    book.write(1, " the model took right for left ", "side")
    assert json.loads((tmp_path / "n.json").read_text()) == {
        "1/s1": {"note": "the model took right for left", "tags": "side"}
    }
    again = Notes(tmp_path / "n.json", FAILURES.iloc[::-1])
    assert again.of(0)["tags"] == "side"
    assert again.of(1) == {"note": "", "tags": ""}
    assert again.table()["relation"].tolist() == ["denied"]


def test_a_note_without_words_is_taken_away(tmp_path):
    book = Notes(tmp_path / "n.json", FAILURES)
    book.write(0, "gone", "")
    book.write(0, " ", "\n")
    assert book.kept == {} and book.table().empty


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t"])
def test_no_cell_of_the_table_is_a_formula(tmp_path, start):
    book = Notes(tmp_path / "n.json", FAILURES)
    book.kept = {"0/s1": {"note": f"{start}HYPERLINK(1)", "tags": "a"}}
    table = pd.read_csv(book.export())
    assert table["note"].item().startswith("'") and table["tags"].item() == "a"
