"""Students' sheets hold no answer; teachers', nbgrader's and otter-grader's hold what they need."""

import json
import re

import nbformat
import pytest
from support import ROOT

from medret_nb.course.exercises import SOLUTION, cell_source, exercises_of, lessons_of, read_notebook, without
from medret_nb.course.sheets import SHEETS, student_sheet, with_hints_only, with_links_among, write_sheets
from medret_nb.data.files import DataError

LESSONS = lessons_of(ROOT / "nbs")


def plain(text: str) -> str:
    """A text without blanks, so that a line is found however it is indented."""
    return re.sub(r"\s", "", text)


@pytest.mark.parametrize("lesson", LESSONS)
def test_a_students_sheet_holds_no_solution(lesson):
    content = read_notebook(LESSONS[lesson])
    exercises = exercises_of(content, lesson)
    sheet = student_sheet(content, lesson)
    nbformat.validate(nbformat.from_dict(sheet))
    text = json.dumps(sheet)
    assert "SOLUTION" not in text and "HIDDEN TESTS" not in text and "What a good answer names" not in text
    cut = {place for exercise in exercises for place in exercise.cut}
    rest = [without(cell_source(cell), SOLUTION) for i, cell in enumerate(content["cells"]) if i not in cut]
    taught = plain("".join(rest))  # a line of a solution may stand in the lesson as well
    answers = [
        cell_source(cell) for cell in sheet["cells"] if cell["metadata"].get("medret", {}).get("role") == "answer"
    ]
    assert answers == [re.sub(r"^#\| .*\n?", "", exercise.stub, flags=re.M).strip("\n") for exercise in exercises]
    whole = plain("".join(cell_source(cell) for cell in sheet["cells"]))
    for exercise in exercises:
        for line in exercise.solution.splitlines():
            new = len(plain(line)) > 25 and plain(line) not in taught
            assert not new or plain(line) not in whole, f"{exercise.name}: {line}"


@pytest.mark.parametrize("lesson", LESSONS)
def test_what_exercises_showed_is_gone_and_pictures_stay(lesson):
    content = read_notebook(LESSONS[lesson])
    sheet = student_sheet(content, lesson)
    answered = {exercise.check_cell for exercise in exercises_of(content, lesson)}
    shown = {cell["id"]: cell["outputs"] for cell in content["cells"] if cell["cell_type"] == "code"}
    for cell in sheet["cells"]:
        if cell["metadata"].get("medret"):
            assert not cell["outputs"]
        elif cell["cell_type"] == "code":
            assert cell["outputs"] == shown[cell["id"]]
    assert not {content["cells"][place]["id"] for place in answered} & {
        c["id"] for c in sheet["cells"] if c.get("outputs")
    }


@pytest.mark.parametrize("kind", SHEETS)
def test_sheets_are_notebooks(tmp_path, kind):
    out = write_sheets(ROOT / "nbs", tmp_path / kind, kind, ["320_contrastive", "phantom/277_patient"])
    files = sorted(out.rglob("*.ipynb"))
    assert [file.name for file in files] == ["320_contrastive.ipynb", "277_patient.ipynb"]
    for file in files:
        nbformat.validate(nbformat.read(file, as_version=4))


def test_nbgraders_sheet_has_an_answer_and_a_check_for_each_exercise(tmp_path):
    (file,) = write_sheets(ROOT / "nbs", tmp_path / "out", "nbgrader", ["320_contrastive"]).rglob("*.ipynb")
    told = [cell["metadata"]["nbgrader"] for cell in read_notebook(file)["cells"] if "nbgrader" in cell["metadata"]]
    assert len({one["grade_id"] for one in told}) == len(told) == 6
    assert [one["grade"] for one in told] == [False, True] * 3
    assert sum(one.get("points", 0) for one in told) == 3


def test_otters_sheet_opens_and_closes_every_block(tmp_path):
    (file,) = write_sheets(ROOT / "nbs", tmp_path / "out", "otter", ["320_contrastive"]).rglob("*.ipynb")
    raw = [cell_source(cell).splitlines()[0] for cell in read_notebook(file)["cells"] if cell["cell_type"] == "raw"]
    blocks = ["QUESTION", "PROMPT", "PROMPT", "SOLUTION", "SOLUTION", "TESTS", "TESTS", "QUESTION"]
    words = ["BEGIN", "BEGIN", "END", "BEGIN", "END", "BEGIN", "END", "END"]
    one = [f"# {word} {block}" for word, block in zip(words, blocks, strict=True)]
    assert raw == ["# ASSIGNMENT CONFIG", *one * 3]


def test_links_to_notebooks_that_are_not_there_become_words():
    prose = "See [CLIP](../methods/415_clip.ipynb#Loss) and [files](../data/010_files.ipynb)."
    sheet = {"cells": [{"cell_type": "markdown", "source": prose}]}
    told = with_links_among(sheet, "losses/320_contrastive", {"methods/415_clip"})["cells"][0]["source"]
    assert "".join(told) == "See [CLIP](../methods/415_clip.ipynb#Loss) and files."


def test_hints_stay():
    task = "<details><summary>Hint</summary>a</details>\n\n<details><summary>Second hint</summary>b</details>"
    assert with_hints_only(task) == task


def test_faults_are_named(tmp_path):
    with pytest.raises(DataError, match="not a kind"):
        write_sheets(ROOT / "nbs", tmp_path / "a", "pupil")
    with pytest.raises(DataError, match="999_nothing"):
        write_sheets(ROOT / "nbs", tmp_path / "a", lessons=["999_nothing"])
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "marks.csv").write_text("x")
    with pytest.raises(DataError, match="not empty"):
        write_sheets(ROOT / "nbs", tmp_path / "full")
    assert (tmp_path / "full" / "marks.csv").read_text() == "x"
