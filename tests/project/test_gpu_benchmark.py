"""benchmarks/gpu.py in miniature, and what it leaves behind when a row fails, lasts too long or is killed."""

import importlib.util
import json
import signal
import subprocess
import sys
import time

import pytest
from support import ROOT, child_environment


@pytest.fixture(scope="module")
def gpu():
    path = list(sys.path)
    spec = importlib.util.spec_from_file_location("gpu_benchmark", ROOT / "benchmarks" / "gpu.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.path[:] = path
    return module


class Row:
    def __init__(self, name, rows):
        self.name = name
        self.rows = rows
        self.most = 60


DRAWN = ["drawing", "curves"]
OTHERS = ["correctness", "kernels", "training", "fit", "retrieval"]


@pytest.mark.parametrize("parts", [OTHERS, pytest.param(DRAWN, marks=pytest.mark.slow)], ids=["most", "drawn"])
def test_it_runs_in_miniature(parts, tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--quick", "--budget", "300", "--only", *parts]
    command += ["--out", str(tmp_path), "--device", "cpu"]
    ended = subprocess.run(command, env=child_environment(), capture_output=True, text=True, timeout=330)
    assert ended.returncode == 0, ended.stderr[-3000:]
    made = json.loads((tmp_path / "results.json").read_text())
    failed = [row for row in made["rows"] if row.get("failed")]
    assert made["finished"] and not failed, failed
    assert list(dict.fromkeys(row["part"] for row in made["rows"])) == parts
    wrong = [row for row in made["rows"] if row["part"] == "correctness" and not row["value"] <= row["target"]]
    assert not wrong, wrong
    table = (tmp_path / "table.md").read_text()
    assert "## Goals" in table and f"## {parts[-1].capitalize()}" in table


def report_and_watch(gpu, folder, go_on=False):
    report = gpu.Report(folder, "", False, go_on)
    return report, gpu.Watch(time.time(), 30)


def test_a_row_that_fails_or_lasts_too_long_is_noted(gpu, tmp_path, monkeypatch, capsys):
    report, watch = report_and_watch(gpu, tmp_path)
    monkeypatch.setattr(gpu, "GRACE", 0.3)
    monkeypatch.setattr(gpu, "clean", lambda: None)
    before = signal.signal(signal.SIGALRM, gpu.ring)

    def broken():
        yield {"what": "first", "value": 1.0, "unit": "ms"}
        raise ValueError("no such thing")

    def endless():
        yield {"what": "second", "value": 2.0, "unit": "ms"}
        time.sleep(60)

    try:
        for task in (Row("broken", broken), Row("endless", endless)):
            watch.part_end = time.time()
            report.begin("kernels", task.name)
            gpu.run_row(task, report, watch)
    finally:
        signal.signal(signal.SIGALRM, before)
    report.write()
    rows = json.loads(report.file.read_text())["rows"]
    assert [row["what"] for row in rows] == ["first", "broken", "second", "endless"]
    assert "no such thing" in rows[1]["failed"] and "time was up" in rows[3]["failed"]
    assert "| broken | - |" in report.table()


def test_a_killed_run_is_taken_up_behind_its_last_row(gpu, tmp_path):
    report, _ = report_and_watch(gpu, tmp_path)
    report.begin("kernels", "mls 512")
    report.add({"what": "MLS", "value": 2.0, "unit": "ms", "naive": 8.0, "target": 3.0, "goal": "mls-512"})
    report.done(time.time())
    report.write()
    again, _ = report_and_watch(gpu, tmp_path, go_on=True)
    assert again.has("kernels", "mls 512") and not again.has("kernels", "mls 2048")
    assert again.rows[0]["ratio"] == 4 and again.begun == report.begun
    assert "| MLS, N=512 D=512 | 24.6 ms | 2 ms, 4 times the naive form |" in again.table()
    fresh, _ = report_and_watch(gpu, tmp_path)
    assert not fresh.rows


def test_the_time_of_a_part_is_its_share_of_what_is_left(gpu):
    watch = gpu.Watch(time.time(), 100)
    watch.enter("kernels", ["training"])
    assert watch.part_left == pytest.approx(100 * 70 / 210, abs=0.5)
    watch.enter("training", [])
    assert watch.part_left == pytest.approx(100, abs=0.5)
