"""Submissions of every kind get the marks they deserve, and take nothing with them."""

import contextlib
import csv
import json
import socket
import threading

import pytest
from support import ROOT

from medret_nb.course.exercises import exercises_of, read_notebook
from medret_nb.course.grading import Limits, grade, points_of
from medret_nb.course.sheets import student_sheet

LIMITS = Limits(cell=4, submission=40, output=100_000)


def code(cell_id, *lines):
    """A cell of code."""
    return {"cell_type": "code", "id": cell_id, "metadata": {}, "outputs": [], "source": "\n".join(lines)}


def prose(cell_id, text):
    """A cell of prose."""
    return {"cell_type": "markdown", "id": cell_id, "metadata": {}, "source": text}


def exercise(number, name, factor):
    """The cells of one exercise: write a function that multiplies."""
    return [
        prose(f"task-{number}", f"**{number}. Times {factor}.** Write `{name}`."),
        code(f"stub-{number}", f"def {name}(x):", "    return ..."),
        prose(f"one-{number}", "One answer:"),
        code(
            f"solution-{number}",
            "### BEGIN SOLUTION",
            f"def {name}(x):",
            f"    return {factor} * x",
            "### END SOLUTION",
        ),
        code(
            f"check-{number}",
            f"assert {name}(1) == {factor}",
            "### BEGIN HIDDEN TESTS",
            f"assert {name}(7) == {7 * factor}",
            "### END HIDDEN TESTS",
        ),
    ]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A lesson of two exercises."""
    folder = tmp_path_factory.mktemp("lessons") / "nbs"
    (folder / "lessons").mkdir(parents=True)
    cells = [code("first", "seven = 7"), *exercise(1, "twice", 2), *exercise(2, "thrice", 3)]
    content = {"cells": cells, "metadata": {"medret": {"executed": ""}}, "nbformat": 4, "nbformat_minor": 5}
    (folder / "lessons/1_times.ipynb").write_text(json.dumps(content))
    return folder


def answered(source, first="", second="", before=""):
    """A student's sheet with these answers (each a text of code; empty: the stub stays), and a cell before them."""
    sheet = student_sheet(read_notebook(source / "lessons/1_times.ipynb"), "lessons/1_times")
    for cell in sheet["cells"]:
        told = cell["metadata"].get("medret", {})
        answer = {1: first, 2: second}.get(told.get("exercise")) if told.get("role") == "answer" else ""
        cell["source"] = answer or cell["source"]
    if before:
        sheet["cells"].insert(1, code("mine", before))
    return sheet


TWICE = "def twice(x):\n    return x + x"
THRICE = "def thrice(x):\n    return x + x + x"


def marked(source, tmp_path, sheet, limits=LIMITS):
    """The table's rows for one submission."""
    folder = tmp_path / "handed-in" / "anna"
    folder.mkdir(parents=True)
    (folder / "1_times.ipynb").write_text(sheet if isinstance(sheet, str) else json.dumps(sheet))
    grade(tmp_path / "handed-in", tmp_path / "marks.csv", source, limits=limits)
    with open(tmp_path / "marks.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["student"] for row in rows} == {"anna"}
    return rows


def points(rows):
    """Points of the exercises, in their order."""
    return [int(row["points"]) for row in rows if row["exercise"] != "0"]


def test_a_perfect_submission(source, tmp_path):
    rows = marked(source, tmp_path, answered(source, TWICE, THRICE))
    assert points(rows) == [1, 1]
    assert [(row["visible"], row["hidden"], row["note"]) for row in rows] == [("passed", "passed", "")] * 2


def test_stubs_get_no_points(source, tmp_path):
    rows = marked(source, tmp_path, answered(source))
    assert points(rows) == [0, 0] and [row["visible"] for row in rows] == ["failed"] * 2


def test_a_wrong_answer_that_passes_the_visible_check_fails_the_hidden_one(source, tmp_path):
    rows = marked(source, tmp_path, answered(source, "def twice(x):\n    return 2", THRICE))
    assert points(rows) == [0, 1]
    assert (rows[0]["visible"], rows[0]["hidden"]) == ("passed", "failed")


def test_a_crash_is_a_line_and_takes_nothing_with_it(source, tmp_path):
    rows = marked(source, tmp_path, answered(source, TWICE, "1 / 0", before="undefined_name"))
    assert points(rows) == [1, 0]
    assert rows[1]["note"].startswith("ZeroDivisionError")
    assert rows[2]["exercise"] == "0" and "NameError" in rows[2]["note"]


def test_a_kernel_that_dies_is_a_line(source, tmp_path):
    rows = marked(source, tmp_path, answered(source, TWICE, "import os\nos._exit(3)"))
    assert points(rows) == [1, 0] and "kernel died" in rows[-1]["note"]


@pytest.mark.parametrize(
    "loop",
    ["while True: pass", "while True:\n    try:\n        while True: pass\n    except BaseException: pass"],
    ids=["listens", "does not listen"],
)
def test_an_endless_cell_is_ended(source, tmp_path, loop):
    rows = marked(source, tmp_path, answered(source, TWICE, loop))
    assert points(rows) == [1, 0] and "took more than 4 s" in rows[1]["note"]


def test_an_endless_first_answer_leaves_the_second_its_point(source, tmp_path):
    rows = marked(source, tmp_path, answered(source, "while True: pass", THRICE))
    assert points(rows) == [0, 1]


def test_memory_has_a_limit(source, tmp_path):
    greedy = "import numpy as np\nmuch = np.ones(20 * 2**27)"
    rows = marked(source, tmp_path, answered(source, TWICE, greedy))
    assert points(rows) == [1, 0] and "Memory" in rows[1]["note"]


@pytest.mark.parametrize("flood", ["print('x' * 10**9)", "for _ in range(10**6): print('x' * 1000)"])
def test_printing_has_a_limit(source, tmp_path, flood):
    rows = marked(source, tmp_path, answered(source, TWICE, flood))
    assert points(rows)[0] == 1 and points(rows)[1] == 0
    assert "printed" in rows[1]["note"] or "printed" in rows[-1]["note"]


def test_the_solutions_cannot_be_read(source, tmp_path):
    lesson = source / "lessons/1_times.ipynb"
    prying = f"open({str(lesson)!r}).read()"
    rows = marked(source, tmp_path, answered(source, TWICE, prying))
    assert points(rows) == [1, 0] and "PermissionError" in rows[1]["note"]


def test_nothing_outside_its_folder_can_be_written_or_removed(source, tmp_path):
    victim = tmp_path / "victim.txt"
    victim.write_text("here")
    for number, vandal in enumerate(
        [
            f"open({str(victim)!r}, 'w')",
            f"import os\nos.remove({str(victim)!r})",
            f"import os\nos.system('rm {victim}')",
        ]
    ):
        rows = marked(source, tmp_path / str(number), answered(source, TWICE, vandal))
        assert points(rows) == [1, 0] and "PermissionError" in rows[1]["note"]
    assert victim.read_text() == "here"
    rows = marked(source, tmp_path / "own", answered(source, TWICE, "open('mine.txt', 'w').write('x')\n" + THRICE))
    assert points(rows) == [1, 1], "its own folder is its own"


def test_the_network_is_closed(source, tmp_path):
    server = socket.create_server(("127.0.0.1", 0))
    server.settimeout(8)
    reached = []

    def wait():
        with contextlib.suppress(OSError):
            reached.append(server.accept())

    waiting = threading.Thread(target=wait)
    waiting.start()
    call = f"import socket\nsocket.create_connection(('127.0.0.1', {server.getsockname()[1]}), 2)"
    rows = marked(source, tmp_path, answered(source, TWICE, call))
    server.close()
    waiting.join()
    assert points(rows) == [1, 0] and not reached
    assert "PermissionError" in rows[1]["note"] or "OSError" in rows[1]["note"]


def test_checks_are_the_lessons_own(source, tmp_path):
    sheet = answered(source, "def twice(x):\n    return 0", THRICE)
    for cell in sheet["cells"]:
        if cell["id"] == "check-1":
            cell["source"] = "pass"
    sheet["cells"] = [cell for cell in sheet["cells"] if cell["id"] != "check-2"]
    assert points(marked(source, tmp_path, sheet)) == [0, 1], "one check was emptied, the other deleted"


def test_cells_are_found_by_their_ids_without_metadata(source, tmp_path):
    sheet = answered(source, TWICE, THRICE)
    for cell in sheet["cells"]:
        cell["metadata"] = {}
    assert points(marked(source, tmp_path, sheet)) == [1, 1]


@pytest.mark.parametrize(
    "text",
    ["", "{", '{"cells": [3], "metadata": {}}', '{"cells": [{"cell_type": "code", "source": [1]}]}'],
    ids=["empty", "half", "numbers", "odd source"],
)
def test_a_file_that_cannot_be_read_is_a_row(source, tmp_path, text):
    rows = marked(source, tmp_path, text)
    assert len(rows) == 1 and rows[0]["note"] and points(rows) == []


def test_several_students_side_by_side_and_formulas_are_text(source, tmp_path):
    for name, first in (("anna", TWICE), ("=1+1", "")):
        (tmp_path / "in" / name).mkdir(parents=True)
        (tmp_path / "in" / name / "times.ipynb").write_text(json.dumps(answered(source, first, THRICE)))
    marks = grade(tmp_path / "in", tmp_path / "marks.csv", source, limits=LIMITS, workers=2)
    assert points_of(marks) == {"=1+1": (1, 2), "anna": (2, 2)}
    assert "\n'=1+1," in (tmp_path / "marks.csv").read_text()


def test_a_real_lesson_solved_and_unsolved(tmp_path):
    """The first lesson on losses: its solutions get all points, its stubs none."""
    lesson = "losses/320_contrastive"
    content = read_notebook(ROOT / "nbs" / f"{lesson}.ipynb")
    solutions = {exercise.number: exercise.solution for exercise in exercises_of(content, lesson)}
    for name in ("solved", "unsolved"):
        sheet = student_sheet(content, lesson)
        for cell in sheet["cells"]:
            told = cell["metadata"].get("medret", {})
            if name == "solved" and told.get("role") == "answer":
                cell["source"] = solutions[told["exercise"]]
        (tmp_path / "in" / name).mkdir(parents=True)
        (tmp_path / "in" / name / "320_contrastive.ipynb").write_text(json.dumps(sheet))
    marks = grade(tmp_path / "in", tmp_path / "marks.csv", ROOT / "nbs", ["320_contrastive"])
    assert points_of(marks) == {"solved": (len(solutions),) * 2, "unsolved": (0, len(solutions))}
    assert not [mark for mark in marks if mark.exercise == 0 and mark.student == "solved"], marks
