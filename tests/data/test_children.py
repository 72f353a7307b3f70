"Children end with their parent, whatever ends it."

import operator
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import child_environment

from medret_nb.data.children import each_apart, first_process, usable_cores, worker_pool

PARENT = """
import sys, time
from medret_nb.data.children import each_apart, worker_pool
if __name__ == "__main__":
    if sys.argv[1] == "apart":
        for _ in each_apart(time.sleep, [(50,), (50,), (50,)], 2):
            pass
    else:
        with worker_pool(2, "math" if sys.argv[1] == "ready" else "") as pool:
            list(pool.map(time.sleep, [float(sys.argv[2])] * 40))
"""
ENDS = [signal.SIGTERM, signal.SIGKILL, signal.SIGINT]


def children_of(process: int, begun_by: str = "spawn_main") -> list[int]:
    "The processes that a process has started, by /proc."
    found = []
    for name in os.listdir("/proc"):
        try:
            stat = Path(f"/proc/{name}/stat").read_text() if name.isdigit() else ""
            command = Path(f"/proc/{name}/cmdline").read_text() if stat else ""
        except OSError:
            continue
        if stat and int(stat.rsplit(")", 1)[1].split()[1]) == process and begun_by in command:
            found.append(int(name))
    return found


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def until(condition, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    return None


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks for processes in /proc")
@pytest.mark.parametrize("how", ["apart", "pool", "ready"])
@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.name)
def test_a_parent_that_ends_takes_its_children_along(how, end, tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    parent = subprocess.Popen(
        [sys.executable, script, how, "1" if end == signal.SIGINT else "50"],
        stderr=subprocess.PIPE,
        env=child_environment(),
    )
    children = until(lambda: len(found := children_of(parent.pid)) >= 2 and found)
    assert children
    time.sleep(0.7)  # they are at work
    parent.send_signal(end)
    assert parent.wait(20) != 0
    assert until(lambda: not any(map(alive, children)), 5), "children of a dead parent live on"


def test_results_errors_and_deaths_are_told():
    found = dict(each_apart(operator.truediv, [(6, 3), (1, 0), (8, 2)], 2))
    assert found[0] == 2 and found[2] == 4 and isinstance(found[1], ZeroDivisionError)
    assert "exit code 3" in str(dict(each_apart(os._exit, [(3,)], 1))[0])
    assert "signal 9" in str(dict(each_apart(signal.raise_signal, [(9,)], 1))[0])


def test_what_cannot_be_sent_is_told_in_words():
    error = dict(each_apart(open, [(os.devnull,)], 1))[0]
    assert isinstance(error, RuntimeError) and "TextIOWrapper" in str(error)


def test_whoever_stops_listening_ends_what_still_runs():
    begun = time.monotonic()
    ended = each_apart(time.sleep, [(0,), (60,)], 2)
    assert next(ended)[0] == 0
    ended.close()
    assert time.monotonic() - begun < 20


def test_an_error_in_a_pool_leaves_out_what_has_not_begun():
    begun = time.monotonic()
    with pytest.raises(KeyError), worker_pool(1) as pool:
        for _ in range(100):
            pool.submit(time.sleep, 1)
        raise KeyError
    assert time.monotonic() - begun < 20


@pytest.mark.parametrize("ready", ["", "json"])
def test_workers_have_one_thread_each_and_leave_the_environment(ready, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    main = vars(sys.modules["__main__"]).copy()
    with worker_pool(1, ready) as pool:
        names = ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"]
        assert list(pool.map(os.getenv, names)) == ["1"] * 4
    assert os.environ["OMP_NUM_THREADS"] == "7" and "MKL_NUM_THREADS" not in os.environ
    assert vars(sys.modules["__main__"]) == main


def test_workers_begin_with_a_module_and_do_not_import_the_program(tmp_path):
    "A script that does not ask for its own name starts its workers nevertheless."
    (tmp_path / "heavy.py").write_text("print('imported')")
    (tmp_path / "script.py").write_text(
        "import sys, heavy\nfrom medret_nb.data.children import worker_pool\n"
        "with worker_pool(2, ready='colorsys') as pool:\n"
        '    print(*pool.map(eval, [\'("heavy" in __import__("sys").modules, '
        '"colorsys" in __import__("sys").modules)\'] * 3))\n'
        "print(__file__)\n"
    )
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py"], capture_output=True, text=True, timeout=100, env=child_environment()
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["imported", " ".join(["(False, True)"] * 3), str(tmp_path / "script.py")]


def test_cores_are_those_that_may_be_used():
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)


def test_the_first_of_several_processes_is_alone_or_number_0(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    assert first_process()
    for number, first in (("0", True), ("1", False), ("10", False)):
        monkeypatch.setenv("RANK", number)
        assert first_process() is first
