"""A comparison: the numbers against a slow reading, the folder that can be killed, arms that do not fit."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from support import child_environment

from medret_nb.data.files import DataError, shipped_data
from medret_nb.data.locks import alone_in
from medret_nb.methods.table import METHODS
from medret_nb.training.arms import Arm
from medret_nb.training.compare import Budget, Comparison, compare, job_hash, seconds_of
from medret_nb.training.loop import TrainConfig

SMALL = Budget(passes=1, protocols=("exact",), ks=(1, 5), training=TrainConfig(batch_size=8))
ARMS = {"a": Arm("clip", settings={"dim": 16}), "b": Arm("clip", settings={"dim": 16, "group_texts": False})}


def test_seconds_leave_a_pause_out():
    log = pd.DataFrame(
        {
            "epoch": [0, 0, 0, 1, 1, 1],
            "loss": [1.0, 1, np.nan, 1, 1, np.nan],
            "pairs_per_second": [np.nan, np.nan, 10, np.nan, np.nan, 20],
        }
    )
    assert seconds_of(log, 5) == pytest.approx(2 * 5 / 10 + 2 * 5 / 20)


@pytest.fixture(scope="module")
def compared(small_phantom, tmp_path_factory):
    out = tmp_path_factory.mktemp("compared")
    return out, compare(ARMS, small_phantom, out, (0, 1), SMALL, workers=0, progress=False)


def test_runs_lie_where_they_should(compared):
    out, found = compared
    assert {
        p.parent.relative_to(out).as_posix() for p in out.rglob("model.safetensors") if "checkpoints" not in p.parts
    } == {f"{a}/seed-{s}" for a in "ab" for s in (0, 1)}
    assert (
        set(found.table["arm"]) == {"a", "b"}
        and (found.costs["seconds"] > 0).all()
        and (found.costs["passes"] == 1).all()
    )
    facts = json.loads((out / "comparison.json").read_text())
    assert facts["arms"]["b"]["settings"] == {"dim": 16, "group_texts": False} and "wide" in facts["seed_interval"]
    assert "one learning rate for all" in facts["tuning"] and "one metric" in facts["family"]
    assert list(found.differences("R@5").index) == ["b"]
    wide = found.wide("R@5")
    assert list(wide.index) == ["a", "b"] and "R@5 image-to-text" in wide


def test_what_is_there_is_not_done_again_and_what_is_missing_is(compared, small_phantom):
    out, found = compared
    (out / "b" / "seed-1" / "cost.json").unlink()
    kept, lost = (out / "a" / "seed-0" / "cost.json").stat().st_mtime_ns, out / "b" / "seed-1" / "cost.json"
    again = compare(ARMS, small_phantom, out, (0, 1), SMALL, workers=1, progress=False)  # in a process of its own
    pd.testing.assert_frame_equal(again.table, found.table)
    assert lost.is_file() and (out / "a" / "seed-0" / "cost.json").stat().st_mtime_ns == kept


def test_read_again_without_its_runs(compared, small_phantom, tmp_path):
    out = compared[0]
    found = compare(ARMS, small_phantom, out, (0, 1), SMALL, workers=0, progress=False)
    for name in ("comparison.csv", "comparison.json", "costs.csv"):
        (tmp_path / name).write_bytes((out / name).read_bytes())
    again = Comparison.load(tmp_path)
    assert again.wide("R@5").equals(found.wide("R@5")) and again.facts["seeds"] == [0, 1]
    (tmp_path / "costs.csv").unlink()
    with pytest.raises(DataError, match="holds no comparison"):
        Comparison.load(tmp_path)
    with pytest.raises(DataError):
        Comparison.load(tmp_path / "nowhere")


def test_the_comparison_that_comes_with_the_project():
    """Every method, three seeds, 2,000 queries of as many patients, at least ten times what guessing reaches."""
    found = Comparison.load(shipped_data("results/methods"))
    rows = found.table[(found.table["metric"] == "R@10") & (found.table["protocol"] == "exact")]
    assert set(METHODS) <= set(rows["arm"]) and (rows["seeds"] == 3).all() and (rows["queries"] == 2000).all()
    assert (
        (rows["value"] >= 10 * rows["chance"]).all()
        and (rows["low"] <= rows["value"]).all()
        and (rows["value"] <= rows["high"]).all()
    )
    assert (rows["both_low"] <= rows["low"] + 1e-3).all() and (rows["high"] <= rows["both_high"] + 1e-3).all()
    told = rows.dropna(subset=["difference"])
    outside = (told["d_both_low"] > 0) | (told["d_both_high"] < 0)
    assert ((told["p"] < 0.05) == outside).all(), "p and the interval over patients and seeds say the same"
    assert found.facts["seeds"] == [0, 1, 2] and (found.costs["passes"] == found.facts["budget"]["passes"]).all()


def test_another_budget_is_refused_in_the_same_folder(compared, small_phantom):
    out, _ = compared
    other = Budget(passes=2, protocols=("exact",), ks=(1, 5), training=TrainConfig(batch_size=8))
    with pytest.raises(DataError, match="was started with another config"):
        compare(ARMS, small_phantom, out, (0,), other, workers=0, progress=False)


def test_bad_arguments(small_phantom, tmp_path):
    with pytest.raises(DataError, match="seeds"):
        compare(ARMS, small_phantom, tmp_path, ())
    with pytest.raises(DataError, match="passes"):
        Budget(passes=0)
    with pytest.raises(DataError, match="protocols"):
        Budget(protocols=())
    for name, says in (("epochs", "passes"), ("seed", "seeds")):
        with pytest.raises(DataError, match=rf"training: {name} 7 would not hold, .*\({says}=") as caught:
            Budget(training=TrainConfig(**{name: 7}))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "budget, words",
    [
        (dict(split="nope"), "the split 'nope' has no studies"),
        (dict(ks=(0,)), "ks"),
        (dict(protocols=("nope",)), "nope"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_trained(small_phantom, tmp_path, budget, words):
    with pytest.raises(DataError, match=words):
        compare(ARMS, small_phantom, tmp_path / "out", (0,), replace(SMALL, **budget), workers=0, progress=False)
    assert not (tmp_path / "out").exists()


def test_a_folder_is_compared_in_by_one_process_and_is_no_input(small_phantom, tmp_path):
    with alone_in(tmp_path / "out"), pytest.raises(DataError, match="another process is working"):
        compare(ARMS, small_phantom, tmp_path / "out", (0,), SMALL, workers=0, progress=False)
    with pytest.raises(DataError, match="holds the studies"):
        compare(ARMS, small_phantom, small_phantom.folder, (0,), SMALL, workers=0, progress=False)
    with pytest.raises(DataError, match="workers: -1"):
        compare(ARMS, small_phantom, tmp_path / "out", (0,), SMALL, workers=-1, progress=False)
    assert not (tmp_path / "out").exists()


def test_runs_of_two_versions_of_the_code_are_no_comparison(compared, small_phantom, tmp_path, monkeypatch):
    out = tmp_path / "out"
    shutil.copytree(compared[0], out)
    monkeypatch.setattr("medret_nb.training.compare.training_code", lambda: "another version")
    again = compare(ARMS, small_phantom, out, (0, 1), SMALL, workers=0, progress=False)  # all are of one version
    pd.testing.assert_frame_equal(again.table, compared[1].table)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    for lost in ("cost.json", "log.jsonl", "fingerprint.json"):
        (out / "b" / "seed-1" / lost).unlink()
        with pytest.raises(DataError, match="differ in their code"):
            compare(ARMS, small_phantom, out, (0, 1), SMALL, workers=0, progress=False)
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}


def test_a_run_depends_on_the_code(small_phantom):
    one, other = (job_hash(ARMS["a"], 0, small_phantom, SMALL, code, 1) for code in ("one", "other"))
    assert one != other


def test_a_comparison_is_replaced_as_a_whole_and_a_mix_is_refused(compared, tmp_path):
    out, found = compared
    for name in ("comparison.csv", "comparison.json", "costs.csv"):
        shutil.copy(out / name, tmp_path / name)
    changed = Comparison(tmp_path, found.table.head(1), found.costs, found.facts)
    (tmp_path / "comparison.csv").write_text(changed.table.to_csv(index=False))
    with pytest.raises(DataError, match="comparison.csv: damaged, or not written with the files beside it"):
        Comparison.load(tmp_path)
    changed.save()
    assert len(Comparison.load(tmp_path).table) == 1


@pytest.mark.parametrize("name", ["=HYPERLINK(0)", "+1", "-1", "@A1", "../a"])
def test_an_arm_is_no_formula_and_no_way_out(compared, tmp_path, name):
    _, found = compared
    renamed = found.table.assign(arm=found.table["arm"].replace("a", name))
    Comparison(tmp_path, renamed, found.costs, found.facts).save()
    with pytest.raises(DataError, match="its name must be letters, digits"):
        Comparison.load(tmp_path)


START = """
import sys
from medret_nb.data.studies import StudySet
from medret_nb.training.arms import Arm
from medret_nb.training.compare import Budget, compare
from medret_nb.training.loop import TrainConfig
if __name__ == "__main__":
    budget = Budget(passes=5000, protocols=("exact",), ks=(1,), training=TrainConfig(batch_size=8))
    compare({"a": Arm("clip", settings={"dim": 16})}, StudySet.load(sys.argv[1]), sys.argv[2], (0,), budget)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
@pytest.mark.parametrize("end", ["SIGINT"])
def test_a_comparison_that_is_ended_trains_no_longer(small_phantom, tmp_path, end):
    (tmp_path / "start.py").write_text(START)
    run = tmp_path / "out" / "a" / "seed-0"
    command = [sys.executable, tmp_path / "start.py", small_phantom.folder, tmp_path / "out"]
    parent = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=child_environment(OMP_NUM_THREADS="1"))
    patience = time.monotonic() + 60
    while not (run / "log.jsonl").exists() and time.monotonic() < patience:
        time.sleep(0.1)
    with pytest.raises(DataError, match="another process"), alone_in(run):
        pass
    parent.send_signal(getattr(signal, end))
    assert parent.wait(30) != 0
    patience = time.monotonic() + 10
    while time.monotonic() < patience:
        with contextlib.suppress(DataError), alone_in(run):
            break
        time.sleep(0.1)
    else:
        pytest.fail("the training of a comparison that has ended goes on")
    steps = (run / "log.jsonl").read_text()
    time.sleep(0.5)
    assert (run / "log.jsonl").read_text() == steps
