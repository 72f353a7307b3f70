"Robustness results: rows from what was retained, the summary's columns, the printed form, saving."

import json

import numpy as np
import pytest

from medret_nb.evaluation.measured import entry, estimate
from medret_nb.probes.corruptions import CORRUPTIONS
from medret_nb.probes.robustness import retained
from medret_nb.probes.robustness_results import RobustnessResults, robust_rows

SEEN = {"augmented": True, "hiding": False}


def found(ks=(1, 10), steps=3):
    "What `retained` says of forty queries at three steps."
    rng = np.random.default_rng(0)
    clean = (rng.random(40) < 0.8).astype(float)
    hits = (rng.random((40, steps)) < 0.5).astype(float)
    return {f"R@{k}": retained(hits, clean, np.full(40, 0.1), draws=100) for k in ks}


def made():
    "Results of one kind in one direction."
    numbers = found()
    facts = [{"queries": 40, "gallery": 40}] * 3
    rows = robust_rows("rotation", (1, 2, 4), "image-to-text", numbers, SEEN, facts)
    kept = {metric: {"retained": estimate(*part["mean"]), "corruption_error": None} for metric, part in numbers.items()}
    report = {
        "method": "clip",
        "policy": "findings",
        "split": "test",
        "protocol": "exact",
        "severities": [1, 2, 4],
        "ks": [1, 10],
        "baseline": None,
        "clean": {"image-to-text": {"R@1": entry(0.7, 0.6, 0.8, 0.1), "R@10": entry(0.7, 0.6, 0.8, 0.1)}},
        "summary": {"image-to-text": {"rotation": kept}},
        "uncertainty": {"rotation": estimate(0.5, 0.4, 0.6)},
        "left_out": {"dose": "no scenes"},
        "fewer": {"rotation": "2 films (no reason)"},
        "redrawn": 3,
        "films": 40,
        "patients": 40,
        "training": "with augmentation",
        "duplicate_share": 0.25,
        "ties": "by expectation",
        "interval": "patients resampled",
        "fingerprint": "0123456789abcdef",
    }
    return RobustnessResults(report, rows)


def test_rows_hold_what_was_retained():
    numbers = found()
    rows = made().rows
    assert [row["severity"] for row in rows] == [1, 2, 4]
    assert [row["step"] for row in rows] == [CORRUPTIONS["rotation"].steps[s - 1] for s in (1, 2, 4)]
    assert [row["training"] for row in rows] == ["seen", "seen", "stronger"]
    for j, row in enumerate(rows):
        assert row["R@10"]["value"] == numbers["R@10"]["value"][j]
        assert row["R@10"]["retained"] == numbers["R@10"]["retained"][0, j]
        assert row["R@10"]["clean"] == numbers["R@10"]["clean"][0]
    nothing = found() | {"R@10": {**numbers["R@10"], "retained": None}}
    row = robust_rows("blur", (1,), "image-to-text", nothing, SEEN, [{}])[0]
    assert row["R@10"]["retained"] is None and row["training"] == "new"


def test_tables():
    results = made()
    assert results.table("R@1")["value"].tolist() == [row["R@1"]["value"] for row in results.rows]
    with pytest.raises(ValueError, match="metric: 'R@7' is none of R@1, R@10"):
        results.table("R@7")
    summary = results.summary().iloc[0]
    assert summary["kind"] == "rotation" and summary["error"] is None
    assert summary["retained_low"] <= summary["retained"] <= summary["retained_high"]


def test_the_printed_form():
    lines = made().lines()
    assert (
        lines[0]
        == "image-to-text, clean: R@1 0.700 [0.600, 0.800], chance 0.100; R@10 0.700 [0.600, 0.800], chance 0.100"
    )
    assert lines[1] == "  R@10 at severity 1, 2, 4; mean retained recall with 95 % interval"
    assert lines[2].count("*") == 2 and lines[2].count("+") == 1
    assert lines[3].endswith("rank correlation 0.500 [0.400, 0.600]")
    assert lines[4:7] == [
        "  dose: not measured, no scenes",
        "  rotation: without 2 films (no reason)",
        "  faults: beside films taken again; 3 of them differ from the stored ones",
    ]
    assert lines[7].startswith("robustness, protocol exact, clip, split test; films spoiled, texts (findings) clean; ")
    assert lines[7].endswith("fingerprint 0123456789ab") and len(lines) == 8


def test_saving(tmp_path):
    results = made()
    results.save(tmp_path)
    assert RobustnessResults.read_report(tmp_path) == json.loads(json.dumps(results.report | {"rows": results.rows}))
