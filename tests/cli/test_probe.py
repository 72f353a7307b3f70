"""`medret probe`: the arms of a comparison are asked, the cases kept, and what cannot be asked is said."""

import shutil

import pandas as pd

from medret_nb.cli.probe import probed_lines
from medret_nb.training.probed import probed_file


def test_arms_are_asked_as_a_user_types_it(way, medret, refused, tmp_path):
    home = way[0]
    for arm, seed in (("clip", 0), ("clip", 1), ("again", 0)):
        shutil.copytree(home / "run", tmp_path / "runs" / arm / f"seed-{seed}")
    studies = home / "studies"
    words = ("probe", tmp_path / "runs", "--data", studies, "--split", "train", "--probe", "grounding", "brier")
    done = medret(*words)
    assert done.returncode == 0, done.stderr
    rows = pd.read_csv(tmp_path / "runs" / "probed.csv")
    assert len(rows) == 6 and set(rows["arm"]) == {"clip", "again"}
    asked = rows[rows["probe"] == "grounding"]
    assert asked["value"].notna().all() and asked["value"].nunique() == 1, "three copies of one run"
    assert rows.loc[rows["probe"] == "brier", "why"].str.contains("10 are needed").all(), "too few to fit on"
    assert "not asked" in done.stdout and "grounding" in done.stdout
    kept = probed_file(tmp_path / "runs", "clip", "grounding")
    before = kept.stat().st_mtime_ns
    again = medret(*words, "--arm", "clip")
    assert again.returncode == 0 and kept.stat().st_mtime_ns == before, "what is there is not asked again"
    refused(medret("probe", tmp_path / "runs", "--data", home / "studies", "--probe", "nonsense"), "nonsense")
    refused(medret("probe", home / "studies", "--data", home / "studies"), "holds no arm with a run")


def test_seeds_are_averaged_and_a_missing_one_is_left_out():
    rows = pd.DataFrame(
        {
            "probe": ["brier", "brier", "grounding"],
            "arm": ["clip", "clip", "clip"],
            "value": [0.25, None, 0.5],
            "control": [None, None, 0.1],
            "why": ["", "no case", ""],
        }
    )
    lines = probed_lines(rows)
    assert lines[1].split() == ["clip", "0.250", "(seeds", "0.250)"]
    assert lines[3].split() == ["clip", "0.500", "(seeds", "0.500;", "control", "0.100)"]
