"The overview: what a person would count, said in lines and drawn in four panels."

import io

import pandas as pd
import pytest
from six_studies import collection

from medret_nb.data.overview import overview, overview_entries, overview_figure, overview_text
from medret_nb.data.splits import assign_splits
from medret_nb.data.studies import StudySet


def test_the_overview_counts_what_a_person_counts(tmp_path):
    studies = collection(tmp_path, films=7)
    facts = studies.overview()
    assert facts["studies"] == 6
    assert facts["patients"] == 3
    assert facts["splits"] == {"train": 4, "test": 2}
    assert facts["views"] == {"PA": 5, "LATERAL": 2}
    assert facts["sections"] == {"indication": 0, "findings": 5, "impression": 0, "note": 2}
    assert facts["studies_without_image"] == 1
    assert facts["labels"]["No Finding"]["present"] == 3
    assert facts["labels"]["Edema"] == {"present": 0, "absent": 0, "uncertain": 1}
    assert facts["duplicate_texts"] == 0.5
    assert facts["distinct_texts"] == 4
    assert facts["text_leakage"] == {"test": 0.5}


def test_missing_and_unreadable_films_are_counted(tmp_path):
    studies = collection(tmp_path, films=7)
    studies.image_paths()[1].unlink()
    (tmp_path / "2.png").write_bytes(b"broken")
    before = studies.overview()
    assert before["unreadable_images"] is None
    assert "not yet read" in overview_text(before)
    studies.pixels(16)
    facts = studies.overview()
    assert facts["unreadable_images"] == 2
    assert facts["missing_images"] == 1
    assert "2 unreadable" in overview_text(facts)


def test_the_overview_in_lines_and_panels(tmp_path):
    studies = collection(tmp_path)
    studies.studies["ward"] = "7B"
    facts = studies.overview()
    lines = overview_text(facts).splitlines()
    assert lines[0] == ("six (RESTRICTED): 6 studies of 3 patients in 3 connected groups, 6 images, 1 regions")
    assert [line.split()[0] for line in lines[1:8]] == [
        "splits",
        "views",
        "sections",
        "labels",
        "texts",
        "leakage",
        "incomplete",
    ]
    assert lines[5].endswith("50.0 % of the texts are shared with another study")
    assert lines[6].endswith("texts also in train: test 50.0 %")
    assert lines[8:] == [f"  note        {note}" for note in studies.notes]
    figure = studies.overview_figure()
    assert len(figure.axes) == 4
    assert all(axis.get_xlabel() for axis in figure.axes)
    widths = [bar.get_width() for bar in figure.axes[0].patches]
    assert widths == list(facts["splits"].values())


def test_an_empty_set_has_an_overview():
    empty = StudySet(pd.DataFrame(columns=["study_id"]), pd.DataFrame(columns=["image_id", "study_id", "path"]))
    facts = overview(empty)
    assert facts["studies"] == 0
    assert "no split to compare" in overview_text(facts)
    assert overview_figure(facts)


def test_real_films_make_a_set_whose_groups_join_patients(shared_data, tmp_path):
    folder = shared_data / "cxr-notes"
    tables = [pd.read_csv(folder / f"{name}.csv", dtype=str) for name in ("studies", "images", "regions")]
    real = StudySet(*tables, {"name": "cxr-notes"}, folder)
    real.studies["split"] = assign_splits(real.studies)
    real.save(tmp_path)
    facts = StudySet.load(tmp_path).overview()
    assert (facts["studies"], facts["patients"], facts["images"], facts["regions"]) == (462, 303, 502, 484)
    assert facts["groups"] < facts["patients"] and facts["missing_images"] == 0 and facts["sections"]["note"] == 150
    pixels = StudySet.load(tmp_path).pixels(64)
    assert len(pixels) == 502 and not pixels.unreadable and pixels.array.std((1, 2)).min() > 5


def test_names_of_labels_break_neither_lines_nor_drawing(tmp_path):
    strange = ["a\u2028b", "$\\frac{$", "c\n\nd", "x$y$"]
    table = pd.DataFrame({"study_id": ["s0"], "patient_id": ["p0"], "labels": [dict.fromkeys(strange, 1)]})
    studies = StudySet(table, pd.DataFrame(columns=["image_id", "study_id", "path"]))
    facts = studies.overview()
    studies.overview_figure().savefig(tmp_path / "f.svg")
    assert [name for name, _ in overview_entries(facts)][4] == "labels"


def test_a_set_without_labels_says_so():
    table = pd.DataFrame({"study_id": ["s0", "s1"], "patient_id": ["p0", "p1"], "labels": [{}, {"Edema": None}]})
    facts = dict(overview_entries(StudySet(table, pd.DataFrame(columns=["image_id", "study_id", "path"])).overview()))
    assert facts["labels"] == "no labels given" and "2 without labels" in facts["incomplete"]


@pytest.mark.parametrize("label", ["a\u2028b", r"$\frac{$", "$x$ \\", "\x1b[2Ja\nb", "long " * 60])
def test_a_label_of_any_letters_is_printed_on_its_line_and_drawn(tmp_path, label):
    studies = collection(tmp_path)
    for row in range(3):
        studies.studies.at[row, "labels"] = {label: 1, f"{label}!": 1}
    facts = studies.overview()
    lines = overview_text(facts).splitlines()
    assert len(lines) == 8 + len(facts["notes"]) and all(line.isprintable() for line in lines)
    figure = studies.overview_figure()
    figure.savefig(io.BytesIO(), format="png")
    assert len(figure.axes[3].get_yticks()) >= 2


def test_no_label_is_not_no_finding(tmp_path):
    studies = StudySet(
        pd.DataFrame({"study_id": list("abc"), "labels": ["", "Edema=", "No Finding"]}),
        pd.DataFrame(columns=["image_id", "study_id", "path"]),
    )
    assert studies.labelled.tolist() == [False, False, True]
    assert studies.overview()["studies_without_labels"] == 2
