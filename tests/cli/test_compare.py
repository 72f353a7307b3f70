"""The command that compares: its options, and what it shows."""

import numpy as np
import pandas as pd

from medret_nb.cli.compare import arms_of, compare_command, show_protocol, texts_in_words
from medret_nb.cli.main import main
from medret_nb.data.studies import StudySet
from medret_nb.methods import table
from medret_nb.training.compare import Comparison
from medret_nb.training.loop import TrainConfig


def test_the_training_is_an_option_of_the_comparison(tmp_path):
    job = compare_command()(tmp_path / "studies", tmp_path / "out")
    assert job.seeds == (0, 1, 2) and job.config.batch_size == TrainConfig().batch_size


def test_the_line_above_the_table(tmp_path, capsys):
    row = {"arm": "clip", "protocol": "exact", "direction": "image-to-text", "metric": "R@1", "value": 0.5}
    row |= {"low": 0.4, "high": 0.6, "chance": 0.1, "queries": 10, "gallery": 12, "seeds": 1, "policy": "both"}
    row |= {"both_low": np.nan, "both_high": np.nan}
    rows = pd.DataFrame([row, row | {"direction": "text-to-image"}])
    costs = pd.DataFrame({"arm": ["clip"], "train_seconds": [1.0], "peak_mib": [1.0], "parameters": [1]})
    found = Comparison(tmp_path, rows, costs, {"tuning": "none was tuned"})
    found.wide = lambda metric, protocol: rows[["arm", "value"]]
    show_protocol(found, "exact", "R@1", tmp_path)
    told = capsys.readouterr().out.splitlines()
    assert told[1] == (
        "protocol exact, 10 queries, gallery of 12, chance of R@1 0.100; mean over 1 seeds, "
        "in brackets the 95 % interval over patients, one training, none was tuned, texts: both"
    )
    assert {path.name for path in tmp_path.iterdir()} == {"comparison-exact.pdf", "comparison-exact.svg"}


def test_arms_that_read_other_texts_are_told():
    rows = pd.DataFrame({"arm": ["clip", "pecm", "cxr_clip", "clip"], "policy": ["both", "both", "findings", "both"]})
    told = texts_in_words(rows)
    assert told == "the texts differ, each method's are those it trains on: both (clip, pecm); findings (cxr_clip)"


def test_epochs_are_no_option_and_a_wrong_budget_is_one_line(capsys):
    for wrong in (("--epochs", "3"), ("--budget", "seconds")):
        assert main(["compare", "--data", "x", "--out", "y", *wrong]) == 2
        said = capsys.readouterr().err
        assert wrong[0] in said and said.count("\n") == 1


def test_all_arms_may_learn_their_words(tmp_path):
    (tmp_path / "arms.toml").write_text('[a]\nmethod = "clip"\n[b]\nembeddings = "there"\nsimilarity = "cosine"\n')
    job = compare_command()(tmp_path, tmp_path, tmp_path / "arms.toml", words="corpus")
    assert {name: arm.words for name, arm in arms_of(job).items()} == {"a": "corpus", "b": "encoder"}


OWN = """from medret_nb.methods.clip import CLIP


class Mine(CLIP):
    "CLIP under a name of one's own."

    name = "mine"
"""


def test_own_methods_and_points_from_elsewhere_are_arms(way, monkeypatch, capsys, tmp_path):
    "In processes of their own, at equal steps; each arm says which texts it read."
    monkeypatch.setattr(table, "_PLUGINS", {})
    (tmp_path / "own.py").write_text(OWN)
    studies = StudySet.load(way[0] / "studies")
    ids = studies.split("test").studies["study_id"].to_numpy(str)
    (tmp_path / "there" / "embeddings").mkdir(parents=True)
    for side in ("image", "text"):
        np.savez(tmp_path / "there" / "embeddings" / f"test-{side}.npz", ids=ids, mu=np.eye(len(ids)))
    (tmp_path / "arms.toml").write_text(
        '[mine]\nmethod = "mine"\ndim = 8\nviews = 2\n'
        f'[there]\nembeddings = "{tmp_path / "there"}"\nsimilarity = "cosine"\npolicy = "findings"\n'
    )
    asked = ["compare", "--data", way[0] / "studies", "--out", tmp_path / "out", "--arms", tmp_path / "arms.toml"]
    asked += ["--seeds", 0, "--passes", 1, "--budget", "steps", "--protocol", "exact", "--k", 1, "--batch-size", 8]
    asked = [str(word) for word in asked]
    assert main(asked) == 2
    said = capsys.readouterr().err
    assert "method: 'mine' is none of clip" in said and "--plugin" in said
    assert main([*asked, "--workers", "1", "--plugin", str(tmp_path / "own.py")]) == 0
    told = capsys.readouterr().out
    assert "the texts differ" in told and "both (mine); findings (there)" in told
    assert "budget: equal steps (1 epochs each" in told
    rows = pd.read_csv(tmp_path / "out" / "comparison.csv").query("metric == 'R@1'")
    assert (rows.loc[rows["arm"] == "there", "value"] == 1).all()
    costs = pd.read_csv(tmp_path / "out" / "costs.csv").set_index("arm")
    assert costs.loc["mine", ["epochs", "passes"]].tolist() == [1, 2] and costs.loc["there", "steps"] == 0
