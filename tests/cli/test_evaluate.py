"""The command that measures: with the model, without one, and against another run."""

import json

import numpy as np
import pandas as pd
import pytest

from medret_nb.cli.evaluate import OF_A_MODEL, Evaluate
from medret_nb.data.files import DataError


@pytest.mark.parametrize("protocol", ["zero-shot", "grounding", "corruptions", "falsified", "drafts", "first-answer"])
def test_measures_that_ask_the_model(way, medret, protocol):
    home = way[0]
    told = medret("evaluate", home / "run", "--protocol", protocol)
    assert told.returncode == 0, told.stderr
    kept = json.loads((home / "run" / "evaluation" / "test" / protocol / "metrics.json").read_text())
    assert kept["rows"] and all(
        not isinstance(v, str) or not v.replace(".", "").isdigit() for row in kept["rows"] for v in row.values()
    )


def test_points_of_another_program_are_measured(way, medret, tmp_path):
    """A folder with embeddings and no model is enough: points that find every pair but two that were exchanged."""
    studies = pd.read_parquet(way[0] / "studies" / "studies.parquet")
    ids = studies.loc[studies["split"] == "train", "study_id"].tolist()
    points = {"image": np.eye(len(ids)), "text": np.eye(len(ids))}
    points["text"][[0, 1]] = points["text"][[1, 0]]
    (tmp_path / "embeddings").mkdir()
    for kind, mu in points.items():
        pd.DataFrame({"id": ids, "study_id": ids, "mu": list(mu)}).to_parquet(
            tmp_path / "embeddings" / f"train-{kind}.parquet"
        )
    done = medret(
        "evaluate", tmp_path, "--data", way[0] / "studies", "--split", "train", "--protocol", "exact", "--k", 1
    )
    assert done.returncode == 0, done.stderr
    assert "cosine is taken" in done.stdout, "embeddings without a similarity are compared by cosine, and it is said"
    report = json.loads((tmp_path / "evaluation" / "train" / "exact" / "metrics.json").read_text())
    assert report["directions"]["image-to-text"]["metrics"]["R@1"]["value"] == pytest.approx(1 - 2 / len(ids))


def test_the_difference_to_another_run(way, medret, refused):
    home = way[0]
    first = medret("evaluate", home / "run", "--protocol", "exact", "--k", 1, "--against", home / "run")
    assert first.returncode == 0, first.stderr
    rows = [
        line
        for line in first.stdout.split("this run minus")[1].splitlines()
        if line.startswith(("image-to-text", "text-to-image"))
    ]
    assert len(rows) == 2 and all("+0.000  too few           p -" in row for row in rows)
    refused(
        medret("evaluate", home / "run", "--protocol", "exact", "--k", 1, "--against", home / "studies"),
        "is not measured on test under exact yet",
    )


@pytest.mark.parametrize("protocol", OF_A_MODEL)
def test_a_measure_of_a_model_is_of_one_split(tmp_path, protocol):
    with pytest.raises(DataError, match=f"split: {protocol} is asked of one split, train, val or test, and not of all"):
        Evaluate(tmp_path, split="all", protocol=(protocol,)).run()


@pytest.mark.parametrize("protocol", [*OF_A_MODEL, "first-answer"])
def test_a_measure_of_a_model_is_not_paired(tmp_path, protocol):
    with pytest.raises(DataError, match=f"against: there is no paired difference of {protocol}"):
        Evaluate(tmp_path, protocol=("exact", protocol), against=tmp_path).run()


def test_a_measure_of_a_model_needs_one(way, tmp_path):
    with pytest.raises(DataError, match="zero-shot needs the run's model"):
        Evaluate(tmp_path, data=way[0] / "studies", protocol=("zero-shot",)).run()
