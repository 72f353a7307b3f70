"""The command that embeds, as typed, and the numbers made from its points."""

import json

import pytest
from families import two_towers

from medret_nb.cli.embed import Embed
from medret_nb.cli.evaluate import Evaluate
from medret_nb.cli.search import Search
from medret_nb.data.files import DataError
from medret_nb.data.runs import Run
from medret_nb.retrieval.points import Embeddings


def test_embed_then_evaluate(way, medret):
    home = way[0]
    done = medret("embed", home / "run", "--split", "test")
    assert done.returncode == 0, done.stderr
    assert (home / "run" / "embeddings" / "test-image.parquet").is_file() and "16 dimensions" in done.stdout
    done = medret("evaluate", home / "run", "--protocol", "exact", "labels", "fits-open", "--k", 1, 5)
    assert done.returncode == 0, done.stderr
    for protocol in ("exact", "labels", "fits-open"):
        report = json.loads((home / "run" / "evaluation" / "test" / protocol / "metrics.json").read_text())
        assert report["protocol"] == protocol and report["directions"]["image-to-text"]["queries"] > 0
    for word in ("R@5", "95 % interval", "chance", "ties", "identical other", "oracle that sees the scene"):
        assert word in done.stdout, word


def test_a_finished_model_is_embedded_and_measured_as_a_run(way, medret, tmp_path, capsys):
    "medret embed --hub makes a run; what is measured on runs takes it, and a trained run is never written over."
    two_towers("siglip", tmp_path / "model")
    out = tmp_path / "run"
    done = medret("embed", "--hub", tmp_path / "model", "--data", way[0] / "studies", "--out", out)
    assert done.returncode == 0, done.stderr
    assert "reports cut at 16 word pieces: " in done.stdout and "32 dimensions" in done.stdout
    assert "[transformers]" not in done.stderr
    meta = Embeddings.load(Run(out).points_file("test", "image")).meta
    assert meta["method"] == "hub" and meta["similarity"] == "cosine" and {"logit_scale", "shift"} <= set(meta)
    Evaluate(out, protocol=("exact", "grounding"), k=(1,)).run()
    for protocol in ("exact", "grounding"):
        assert any(Run(out).result_folder("test", protocol).iterdir()), protocol
    capsys.readouterr()
    Search(out, text="No effusion", k=2).run()
    assert "films searched" in capsys.readouterr().out
    with pytest.raises(DataError, match="holds clip already"):
        Embed(hub=str(tmp_path / "model"), data=way[0] / "studies", out=way[0] / "run").run()
    with pytest.raises(DataError, match="nowhere"):
        Embed(hub=str(tmp_path / "nowhere"), data=way[0] / "studies", out=tmp_path / "x").run()
    assert not (tmp_path / "x").exists()


def test_a_run_and_a_finished_model_are_not_named_together(tmp_path):
    for wrong in (
        {},
        {"run_folder": tmp_path, "out": tmp_path},
        {"hub": "a/b", "run_folder": tmp_path},
        {"hub": "a/b"},
    ):
        with pytest.raises(DataError, match="^embed: "):
            Embed(**wrong).run()
