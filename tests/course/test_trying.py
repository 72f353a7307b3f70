"""The checks of lessons fail on stubs and on wrong answers, and pass on solutions."""

import json

import pytest
from support import ROOT

from medret_nb.course.exercises import lessons_of
from medret_nb.course.grading import Limits
from medret_nb.course.trying import Tried, try_lesson

LESSONS = lessons_of(ROOT / "nbs")
QUICK = ("losses/320_contrastive", "retrieval/430_scoring")


def lesson(folder, check, solution="double = 2 * 21"):
    """A lesson of one exercise with this check and this solution."""
    cells = [
        {"cell_type": "markdown", "source": "**1. Twice.** What is twice 21?"},
        {"cell_type": "code", "source": "double = ..."},
        {"cell_type": "code", "source": f"### BEGIN SOLUTION\n{solution}\n### END SOLUTION"},
        {"cell_type": "code", "source": check},
        {"cell_type": "code", "source": "later = double"},
    ]
    file = folder / "1_small.ipynb"
    file.write_text(json.dumps({"cells": cells, "metadata": {}}))
    return file


def test_a_good_check_has_no_fault(tmp_path):
    (tried,), errors = try_lesson(lesson(tmp_path, "assert double == 42"), "1_small")
    assert not tried.faults and not errors
    assert tried.wrong == 5 and not tried.passed and "AssertionError" in tried.stub


@pytest.mark.parametrize(
    "check, solution, fault",
    [
        ("pass", "double = 2 * 21", "its stub passes"),
        ("assert isinstance(double, int | float)", "double = 2 * 21", "none of 5 wrong answers"),
        ("assert double == 43", "double = 2 * 21", "its solution fails"),
    ],
)
def test_a_bad_check_is_named(tmp_path, check, solution, fault):
    (tried,), _ = try_lesson(lesson(tmp_path, check, solution), "1_small")
    assert any(fault in told for told in tried.faults)


def test_errors_of_other_cells_are_told(tmp_path):
    file = lesson(tmp_path, "assert double == 42")
    file.write_text(file.read_text().replace("later = double", "later = doubled"))
    _, errors = try_lesson(file, "1_small", Limits(cell=20))
    assert len(errors) == 1 and "NameError" in errors[0]


def faults(name):
    """What is wrong with a lesson's exercises, and the errors of its other cells."""
    tried, errors = try_lesson(LESSONS[name], name)
    assert all(isinstance(one, Tried) for one in tried) and tried
    return [fault for one in tried for fault in one.faults] + errors


@pytest.mark.parametrize("name", QUICK)
def test_the_checks_of_the_short_way(name):
    assert not faults(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in LESSONS if name not in QUICK])
def test_the_checks_of_all_lessons(name):
    assert not faults(name)
