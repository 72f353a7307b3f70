"""`medret multiverse` and `medret breakdown`: on a trained run, and on embeddings alone."""

import json
import subprocess

import numpy as np
import pandas as pd
import pytest

from medret_nb.cli.main import main


@pytest.fixture
def typed(capsys):
    """A command in this process, as a user types it -> its code, output and errors."""

    def run(*words):
        code = main([str(word) for word in words])
        return subprocess.CompletedProcess(words, code, *capsys.readouterr())

    return run


def test_a_run_under_every_specification(way, typed, refused):
    run = way[0] / "run"
    done = typed("multiverse", run, "--split", "train", "--against", run, "--draws", 50)
    assert done.returncode == 0, done.stderr
    folder = run / "evaluation" / "train" / "multiverse"
    kept = json.loads((folder / "metrics.json").read_text())
    rows = pd.DataFrame(kept["rows"])
    assert f"{len(rows)} specifications" in done.stdout and (folder / "curve.pdf").stat().st_size > 1000
    assert {"findings", "impression"} <= set(rows["policy"]) and set(rows["unit"]) == {"study", "film"}
    assert kept["summary"]["equal"] == len(rows) == len(kept["pairs"]), "against itself nobody leads"
    again = typed("multiverse", run, "--split", "train", "--policy", "impression", "--draws", 50)
    assert again.returncode == 0 and "fixed: policy impression" in again.stdout
    refused(typed("multiverse", run, "--draws", 1), "draws", "1")
    refused(typed("multiverse", way[0] / "studies"), "no run")
    refused(typed("multiverse", run, "--similarity", "csd"), "similarity", "holds a model")


def test_what_embeddings_alone_cannot_vary_is_said(way, typed, tmp_path):
    studies = pd.read_parquet(way[0] / "studies" / "studies.parquet")
    ids = studies.loc[studies["split"] == "train", "study_id"].tolist()
    (tmp_path / "embeddings").mkdir()
    for kind in ("image", "text"):
        points = pd.DataFrame({"id": ids, "study_id": ids, "mu": list(np.eye(len(ids)))})
        points.to_parquet(tmp_path / "embeddings" / f"train-{kind}.parquet")
    done = typed("multiverse", tmp_path, "--data", way[0] / "studies", "--split", "train", "--draws", 50)
    assert done.returncode == 0, done.stderr
    for fixed in ("fixed: policy findings", "fixed: unit study"):
        assert fixed in done.stdout
    table = pd.DataFrame(json.loads((tmp_path / "evaluation/train/multiverse/metrics.json").read_text())["rows"])
    assert table["R@1"].max() == 1 and set(table["direction"]) == {"image-to-text", "text-to-image"}


def test_a_breakdown_of_what_was_measured(way, typed, refused):
    run = way[0] / "run"
    refused(typed("breakdown", run, "--split", "train", "--protocol", "labels"), "medret evaluate", "--protocol labels")
    asked = typed("evaluate", run, "--split", "train", "--protocol", "exact", "--k", 1, 10)
    assert asked.returncode == 0, asked.stderr
    done = typed("breakdown", run, "--split", "train", "--by", "sex", "finding", "--minimum", 5)
    assert done.returncode == 0, done.stderr
    folder = run / "evaluation" / "train" / "breakdown-exact"
    kept = json.loads((folder / "metrics.json").read_text())
    assert {row["by"] for row in kept["rows"]} == {"sex", "finding"} and (folder / "forest.pdf").is_file()
    assert "left out" in done.stdout and "sex: F" in done.stdout
    other = typed("breakdown", run, "--split", "train", "--against", run, "--minimum", 5)
    assert other.returncode == 0 and "this run minus" in other.stdout
    assert (run / "evaluation" / "train" / "breakdown-exact-difference" / "metrics.json").is_file()
    refused(typed("breakdown", run, "--split", "train", "--metric", "R@7"), "R@7", "R@1, R@10")
    refused(typed("breakdown", run, "--split", "train", "--minimum", 1), "minimum")
    refused(typed("breakdown", run, "--split", "train", "--by", "colour"), "colour")
