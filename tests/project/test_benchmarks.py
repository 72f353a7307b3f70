"""What the benchmarks measure is what the library draws and counts."""

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm
from support import child_environment

from medret_nb.data.files import shipped_data
from medret_nb.phantom.rendering import render
from medret_nb.phantom.scenes import Acquisition, Finding, Patient, Scene
from medret_nb.phantom.truth import visibility_of

ROOT = Path(__file__).parents[2]
SCENE = Scene(
    Patient(11, "F", 64),
    (Finding("pleural effusion", "left", severity=2, seed=1), Finding("nodule", "right", "upper", 3, 22.0, seed=8)),
    (Acquisition("PA", seed=3),),
)


@pytest.fixture(scope="module")
def detectability():
    spec = importlib.util.spec_from_file_location("detectability", ROOT / "benchmarks" / "detectability.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_nothing_faded_is_the_film_and_the_dprime_of_the_phantom(detectability):
    full = np.ones(len(detectability.NAMES))
    film, dprime, boxes = detectability.examine((SCENE, full, 96))
    expected, where = visibility_of(SCENE, SCENE.acquisitions[0])
    kinds = [detectability.finding_index(f) for f in SCENE.findings]
    assert np.abs(film.astype(int) - render(SCENE, SCENE.acquisitions[0], 96)).max() <= 1
    assert np.allclose(dprime[kinds], list(expected.values()), rtol=1e-3)
    assert np.isnan(np.delete(dprime, kinds)).all()
    assert np.allclose(boxes[kinds, 0], list(where.values()))


def test_a_faded_finding_is_fainter_and_the_others_stay(detectability):
    effusion, nodule = (detectability.finding_index(f) for f in SCENE.findings)
    contrast = np.ones(len(detectability.NAMES))
    _, whole, _ = detectability.examine((SCENE, contrast, 96))
    contrast[nodule] = 0.1
    _, faded, _ = detectability.examine((SCENE, contrast, 96))
    assert faded[nodule] == pytest.approx(0.1 * whole[nodule], rel=0.15)  # linear but for the exponent in Beer's law
    assert faded[effusion] == pytest.approx(whole[effusion], rel=0.02)
    contrast[nodule] = 0.0
    film, gone, _ = detectability.examine((SCENE, contrast, 96))
    assert gone[nodule] == 0
    without = replace(SCENE, findings=SCENE.findings[:1])
    assert np.abs(film.astype(int) - render(without, without.acquisitions[0], 96)).max() <= 1


def test_the_stored_result_says_that_detectability_orders(detectability):
    stored = json.loads(shipped_data("results/detectability.json").read_text())
    assert [row["finding"] for row in stored["findings"]] == detectability.NAMES
    assert stored["mean_rank_correlation"] == pytest.approx(
        np.mean([row["rank_correlation"] for row in stored["findings"]])
    )
    assert stored["mean_rank_correlation"] >= 0.9
    assert min(row["area"][-1] for row in stored["findings"]) >= 0.9


def test_fifths_of_a_reader_that_sees_dprime(detectability):
    rng = np.random.default_rng(0)
    n, k = 4000, len(detectability.NAMES)
    dprime = np.where(rng.random((n, k)) < 0.3, rng.uniform(0, 3, (n, k)), np.nan)
    rows = detectability.by_fifths(np.nan_to_num(dprime) + rng.standard_normal((n, k)), dprime)
    for row in rows:
        assert row["films"] == (~np.isnan(dprime[:, rows.index(row)])).sum()
        assert row["rank_correlation"] == pytest.approx(1.0)
        assert np.allclose(
            row["area"], norm.cdf(np.array(row["dprime"]) / np.sqrt(2)), atol=0.05
        )  # the textbook relation of d' and area


def test_drawing_is_timed_with_each_number_of_processes(tmp_path):
    command = [sys.executable, "-P", ROOT / "benchmarks" / "drawing.py", "--studies", "4", "--size", "32"]
    command += ["--workers", "1", "2", "--json", tmp_path / "drawn.json"]
    done = subprocess.run(command, capture_output=True, text=True, env=child_environment(), timeout=200)
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "drawn.json").read_text())
    assert [run["workers"] for run in told["runs"]] == [1, 2] and "foretold for 16 processes" in done.stdout
    for run in told["runs"]:
        assert run["studies"] == 4 and run["films_per_second"] >= run["studies_per_second"] > 0
        assert 0 < run["start_seconds"] + run["rest_seconds"] < run["seconds"]
