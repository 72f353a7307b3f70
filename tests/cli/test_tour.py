"""The tour from its first step to its page, at toy size."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from medret_nb.cli.tour import QUICK_NOTE, shuffled
from medret_nb.methods.table import METHODS
from medret_nb.retrieval.points import Embeddings


@pytest.fixture(scope="module")
def done(medret, tmp_path_factory):
    """A quick tour as typed, and its folder."""
    home = tmp_path_factory.mktemp("tour")
    return medret("tour", "here", "--quick", cwd=home, timeout=400), home / "here"


def test_tour_says_what_it_did(done):
    process, out = done
    assert process.returncode == 0, process.stderr[-3000:]
    for step in range(1, 8):
        assert f"[{step}/7]" in process.stdout
    assert QUICK_NOTE in process.stdout and "jupyter lab" in process.stdout and "index.ipynb" in process.stdout
    assert re.search(
        r"image-to-text R@10 \d\.\d{3} \[.*\], chance 0\.250 "
        r"\(protocol exact, texts: both, 40 queries, gallery of 40, \d+% duplicate texts",
        process.stdout,
    )
    assert "phantom" in process.stderr and "training clip" in process.stderr, "no progress was shown"


def test_tour_leaves_every_halt_on_disk(done):
    out = done[1]
    for file in (
        "studies/studies.parquet",
        "run/model.safetensors",
        "run/embeddings/test-image.parquet",
        "run/evaluation/test/exact/metrics.json",
        "results.csv",
        "results.md",
        "report.html",
        "times.json",
        *[f"figures/{n}.{k}" for n in ("recall", "ranks", "training") for k in ("pdf", "svg", "png")],
    ):
        assert (out / file).stat().st_size > 0, file
    studies = pd.read_parquet(out / "studies" / "studies.parquet")
    test = studies[studies["split"] == "test"]
    assert len(test) == 40 and test["patient_id"].is_unique
    assert len(json.loads((out / "times.json").read_text())) == 7


def test_every_method_is_trained_beside_the_others(done):
    out = done[1]
    table = pd.read_csv(out / "methods" / "comparison.csv")
    assert (
        list(dict.fromkeys(table["arm"])) == list(METHODS)
        and (table["queries"] == 40).all()
        and table["value"].between(0, 1).all()
    )
    for name in METHODS:
        assert (out / "methods" / name / "seed-0" / "model.safetensors").is_file()
    assert "All methods, side by side" in (out / "report.html").read_text()
    assert {f"methods.{kind}" for kind in ("pdf", "svg", "png")} <= {path.name for path in (out / "figures").iterdir()}


def test_control_is_at_chance(done):
    rows = pd.read_csv(done[1] / "results.csv")
    control = rows[
        (rows["model"] == "control, exact") & (rows["scorer"] == "model") & rows["metric"].str.startswith("R@")
    ]
    luck = 3.3 * np.sqrt(
        control["chance"] * (1 - control["chance"]) / control["queries"]
    )  # exceeded once in a thousand
    assert len(control) == 6 and ((control["value"] - control["chance"]).abs() <= luck).all(), control
    assert {"protocol", "queries", "gallery", "chance", "low", "high", "duplicate_share", "ties"} <= set(rows.columns)


def test_page_opens_without_a_network(done, page):
    page.goto((done[1] / "report.html").as_uri())
    assert not page.outside and not page.errors
    assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    text = page.inner_text("body")
    for words in (
        "In short",
        "What was found",
        "How it was made",
        "Control",
        QUICK_NOTE,
        "Large right pleural effusion.",
    ):
        assert words in text, words


def test_a_second_call_goes_on(done, medret):
    """Studies, weights and numbers stay as they are; nothing is trained again."""
    out = done[1]
    before = [(out / f).read_bytes() for f in ("run/model.safetensors", "results.csv", "run/log.jsonl")]
    again = medret("tour", "here", "--quick", cwd=out.parent)
    assert again.returncode == 0, again.stderr[-3000:]
    assert before == [(out / f).read_bytes() for f in ("run/model.safetensors", "results.csv", "run/log.jsonl")]


def test_another_plan_does_not_mix_with_this_one(done, medret):
    other = medret("tour", "here", cwd=done[1].parent)
    assert other.returncode == 2 and other.stderr.splitlines()[-1].startswith("medret: ")


def test_shuffling_keeps_vectors_and_loses_pairs():
    mu = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    points = Embeddings([str(i) for i in range(50)], [str(i) for i in range(50)], mu, mu / 2)
    mixed = shuffled(points, 3)
    assert np.array_equal(mixed.mu / 2, mixed.logvar) and (mixed.ids == points.ids).all()
    assert np.array_equal(np.sort(mixed.mu, 0), np.sort(mu, 0)) and (mixed.mu != mu).any(1).sum() > 40


def test_shuffled_pairs_are_found_by_luck_alone():
    """Perfect points, shuffled: over many shuffles R@10 is 10 / N."""
    points = Embeddings(
        [str(i) for i in range(60)], [str(i) for i in range(60)], np.random.default_rng(0).normal(size=(60, 8))
    )
    found = []
    for seed in range(200):
        text = shuffled(points, seed)
        scores = points.mu @ text.mu.T
        found.append((np.argsort(-scores, 1)[:, :10] == np.arange(60)[:, None]).any(1).mean())
    assert np.mean(found) == pytest.approx(10 / 60, abs=4 * np.std(found) / 200**0.5)
