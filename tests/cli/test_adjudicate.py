"""`medret adjudicate`: a sheet from runs, the readers' files, and what is printed of them."""

import json
import shutil
import subprocess

import pytest

from medret_nb.cli.adjudicate import run_names
from medret_nb.cli.main import main
from medret_nb.data.files import DataError
from medret_nb.evaluation.adjudication import JudgedPairs, Sheet, SheetReader


@pytest.fixture
def typed(capsys):
    """A command in this process, as a user types it -> its code, output and errors."""

    def run(*words):
        code = main([str(word) for word in words])
        return subprocess.CompletedProcess(words, code, *capsys.readouterr())

    return run


def test_from_runs_to_bounds(way, typed, refused, tmp_path):
    home, sheet = way[0], tmp_path / "sheet"
    run = tmp_path / "first"
    shutil.copytree(home / "run", run)
    refused(typed("adjudicate", run, "--out", sheet, "--split", "val"), "medret evaluate", "--split val")
    measured = typed("evaluate", run, "--split", "train", "--protocol", "exact")
    assert measured.returncode == 0, measured.stderr
    shutil.copytree(run, tmp_path / "second")
    words = ("--out", sheet, "--split", "train", "--k", 3, "--queries", 20)
    made = typed("adjudicate", run, tmp_path / "second", *words)
    assert made.returncode == 0, made.stderr
    assert "20 queries" in made.stdout and "adjudication_view" in made.stdout
    pairs = Sheet.load(sheet)
    assert pairs.methods == ["first", "second"]
    refused(typed("adjudicate", "--out", sheet), "nobody has judged")
    for name in ("A", "B"):
        for pair in range(10):
            SheetReader(pairs, name).judge(pair, pair % 3)
    told = typed("adjudicate", "--out", sheet, "--partly")
    assert told.returncode == 0, told.stderr
    assert "kappa (A, B): 1.000 (too few)" in told.stdout and "R@3" in told.stdout
    kept = json.loads((sheet / "adjudicated-partly" / "metrics.json").read_text())
    assert kept["judged"] == 10 and len(JudgedPairs.load(sheet / "adjudicated-partly").facts["pairs"]) == len(pairs)
    other = typed("adjudicate", run, "--out", sheet, "--split", "train", "--k", 2)
    refused(other, "another sheet, which A, B has begun")
    refused(typed("adjudicate", run, run, *words), "given twice")
    refused(typed("adjudicate", "--out", tmp_path / "none"), "sheet.json")


def test_runs_are_told_apart(tmp_path):
    made = run_names((tmp_path / "a" / "clip", tmp_path / "b" / "clip", tmp_path / "pecm"))
    assert list(made) == [str(tmp_path / "a" / "clip"), str(tmp_path / "b" / "clip"), "pecm"]
    with pytest.raises(DataError, match="given twice"):
        run_names((tmp_path, tmp_path))
