"""`medret course` as a teacher types it."""

import csv
import json

from support import ROOT

from medret_nb.cli.main import main
from medret_nb.course.exercises import exercises_of, read_notebook

LESSON = "phantom/277_patient"


def test_sheets_and_marks(tmp_path, capsys):
    assert main(["course", "student", str(tmp_path / "student"), "--lessons", LESSON]) == 0
    assert main(["course", "solutions", str(tmp_path / "solutions"), "--lessons", "277_patient"]) == 0
    student, solutions = (read_notebook(tmp_path / kind / f"{LESSON}.ipynb") for kind in ("student", "solutions"))
    exercises = exercises_of(read_notebook(ROOT / "nbs" / f"{LESSON}.ipynb"), LESSON)
    assert len(exercises_of(solutions, LESSON)) == len(exercises) and not exercises_of(student, LESSON)
    answer = next(cell for cell in student["cells"] if cell["metadata"].get("medret", {}).get("role") == "answer")
    answer["source"] = exercises[0].solution
    handed = tmp_path / "handed in" / "anna"
    handed.mkdir(parents=True)
    (handed / "277_patient.ipynb").write_text(json.dumps(student))
    assert main(["course", "grade", str(handed.parent), str(tmp_path / "marks.csv")]) == 0
    assert f"anna: 1 of {len(exercises)}" in capsys.readouterr().out
    with open(tmp_path / "marks.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["points"] for row in rows][: len(exercises)] == ["1"] + ["0"] * (len(exercises) - 1)


def test_faults_are_one_line(tmp_path, capsys):
    assert main(["course", "student", str(tmp_path / "out"), "--lessons", "999_nothing"]) == 2
    assert main(["course", "student", str(tmp_path / "out"), "--source", str(tmp_path / "nowhere")]) == 2
    assert main(["course", "grade", str(tmp_path), str(tmp_path / "marks.csv")]) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 3 and "999_nothing" in told[0] and "nowhere" in told[1] and "no notebooks" in told[2]
    assert not (tmp_path / "marks.csv").exists()
