"""Exercises are found in every lesson, and wrong answers differ from the right one."""

import ast

import pytest
from support import ROOT

from medret_nb.course.exercises import cell_source, exercises_of, lessons_of, read_notebook, wrong_answers
from medret_nb.data.files import DataError

LESSONS = lessons_of(ROOT / "nbs")


@pytest.mark.parametrize("lesson", LESSONS)
def test_every_exercise_has_its_parts(lesson):
    content = read_notebook(LESSONS[lesson])
    exercises = exercises_of(content, lesson)
    assert sorted(exercise.number for exercise in exercises) == list(range(1, len(exercises) + 1))
    for exercise in exercises:
        assert exercise.check and exercise.solution and "SOLUTION" not in exercise.stub
        assert exercise.stub_cell < exercise.check_cell
        for code in (exercise.stub, exercise.solution, exercise.check, exercise.hidden):
            ast.parse(code)
        assert wrong_answers(exercise.solution), exercise.name


def test_wrong_answers_change_one_place_each():
    made = wrong_answers('def f(x):\n    "Twice 2."\n    return 2 * x + 1 if x > 0 else True')
    assert len(made) == len(set(made)) == 11
    assert all('"""Twice 2."""' in code for code in made)
    assert wrong_answers("y = x.T") == ["y = x"]


def test_a_solution_without_a_task_or_a_check_is_refused():
    cell = {"cell_type": "code", "source": "### BEGIN SOLUTION\nx = 1\n### END SOLUTION"}
    with pytest.raises(DataError, match="no task"):
        exercises_of({"cells": [cell, {"cell_type": "code", "source": "assert x"}]}, "a")
    with pytest.raises(DataError, match="no check"):
        exercises_of({"cells": [{"cell_type": "markdown", "source": "**1. One.**"}, cell]}, "a")


@pytest.mark.parametrize("text", ["", "no json", "[]", '{"cells": 3}'])
def test_what_is_no_notebook_is_refused(tmp_path, text):
    (tmp_path / "a.ipynb").write_text(text)
    with pytest.raises(DataError, match=r"a\.ipynb"):
        read_notebook(tmp_path / "a.ipynb")


def test_a_source_of_anything_but_text_is_refused():
    with pytest.raises(DataError, match="no text"):
        cell_source({"id": "a", "source": [1, 2]})


def test_a_folder_without_lessons_is_refused(tmp_path):
    with pytest.raises(DataError, match="no lessons"):
        lessons_of(tmp_path)
