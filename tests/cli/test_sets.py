"""`medret sets`: candidate sets of a run and of another program's points, printed and kept; wrong words refused."""

import json

import numpy as np
import pandas as pd
import pytest

from medret_nb.cli.sets import Sets
from medret_nb.data.files import DataError


def kept(folder, split="test", protocol="exact"):
    return json.loads((folder / "evaluation" / split / f"sets-{protocol}" / "metrics.json").read_text())


def test_sets_of_a_run(way, medret):
    home = way[0]
    done = medret("sets", home / "run", "--calibrate", "train", "--alpha", "0.1", "0.2", "--kind", "top_k", "adaptive")
    assert done.returncode == 0, done.stderr
    report = kept(home / "run")
    assert report["calibrate"] == "train" and report["split"] == "test" and len(report["rows"]) == 2 * 2 * 2
    assert {row["kind"] for row in report["rows"]} == {"top_k", "adaptive"}
    assert "image-to-text  top_k          0.90" in done.stdout and "subgroups:" in done.stdout
    assert not (home / "run" / "evaluation" / "test" / "exact" / "sets").exists()
    few = medret("sets", home / "run", "--protocol", "fits-open", "--per-patient", "worst", "--gallery", "own")
    assert few.returncode == 0, few.stderr
    assert "the whole gallery" in few.stdout and "searches its own gallery" in few.stdout
    assert all(row["gallery_share"] == 1 for row in kept(home / "run", protocol="fits-open")["rows"])


def test_points_of_another_program(way, medret, tmp_path):
    """Points that find every pair: each set at 80 % holds the right one, and it alone where the kind allows."""
    studies = pd.read_parquet(way[0] / "studies" / "studies.parquet")
    (tmp_path / "embeddings").mkdir()
    for split in ("train", "test"):
        ids = studies.loc[studies["split"] == split, "study_id"].tolist()
        rows = [studies["study_id"].tolist().index(study) for study in ids]
        for kind in ("image", "text"):
            points = pd.DataFrame({"id": ids, "study_id": ids, "mu": list(np.eye(len(studies))[rows])})
            points.to_parquet(tmp_path / "embeddings" / f"{split}-{kind}.parquet")
    words = ("--data", way[0] / "studies", "--calibrate", "train", "--alpha", "0.2", "--kind", "top_k")
    done = medret("sets", tmp_path, *words)
    assert done.returncode == 0, done.stderr
    assert all(row["coverage"]["value"] == 1 and row["limit"] == 1 for row in kept(tmp_path)["rows"])


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"calibrate": "test"}, "two splits"),
        ({"split": "all"}, "split"),
        ({"calibrate": "nowhere"}, "nowhere"),
        ({"alpha": (1.5,)}, "alpha"),
        ({"alpha": ()}, "alpha"),
    ],
)
def test_what_cannot_be_promised_is_refused(way, changed, word):
    with pytest.raises(DataError, match=word):
        Sets(way[0] / "run", **changed).run()


def test_the_line_of_a_refusal(way, medret, refused):
    refused(medret("sets", way[0] / "run", "--calibrate", "test"), "calibrate", "two splits")
    refused(medret("sets", way[0] / "run", "--kind", "best"), "kind")
