"One process at a time in a folder: refused in one line, freed by a kill, nothing left behind."

import signal
import subprocess
import sys

import pytest
from support import child_environment

from medret_nb.data.files import DataError
from medret_nb.data.locks import LOCK_FILE, alone_in, check_empty, taking_turns

HOLDS = """
import sys, time
from medret_nb.data.locks import alone_in
with alone_in(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    "A process that holds tmp_path/run."
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path / "run")],
        stdout=subprocess.PIPE,
        text=True,
        env=child_environment(),
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_process_is_refused_in_one_line_and_a_kill_frees_the_folder(holder, tmp_path):
    with (
        pytest.raises(DataError, match="run: another process is working in this folder") as refused,
        alone_in(tmp_path / "run"),
    ):
        pass
    assert "\n" not in str(refused.value)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with alone_in(tmp_path / "run"):
        assert (tmp_path / "run" / LOCK_FILE).exists()


def test_nothing_is_left_behind(tmp_path):
    with alone_in(tmp_path / "a" / "b"):
        pass
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RuntimeError), alone_in(tmp_path / "a" / "b"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with alone_in(tmp_path / "a"):
        (tmp_path / "a" / "work").touch()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["work"]
    (tmp_path / "mine").mkdir()
    with alone_in(tmp_path / "mine"):
        pass
    assert (tmp_path / "mine").is_dir()  # an empty folder that was there stays


def test_many_who_come_and_go_are_never_two_at_once(tmp_path):
    "Each holder removes the lock's file, which must not split those who wait into two camps."
    code = """
import sys
from pathlib import Path
from medret_nb.data.files import DataError
from medret_nb.data.locks import alone_in
folder, done = Path(sys.argv[1]), 0
while done < 60:
    try:
        with alone_in(folder):
            (folder / "inside").touch(exist_ok=False)
            (folder / "inside").unlink()
            done += 1
    except DataError:
        pass
"""
    command = [sys.executable, "-c", code, str(tmp_path / "f")]
    crowd = [subprocess.Popen(command, env=child_environment()) for _ in range(3)]
    assert [process.wait(60) for process in crowd] == [0, 0, 0]


def test_a_folder_of_somebody_else_is_refused_and_hidden_files_are_not_counted(tmp_path):
    check_empty(tmp_path / "new")
    (tmp_path / ".DS_Store").touch()
    check_empty(tmp_path)
    (tmp_path / "b").touch()
    (tmp_path / "a").touch()
    with pytest.raises(DataError, match=r"holds other files \(a and 1 more\)"):
        check_empty(tmp_path)
    with pytest.raises(DataError, match="is a file"):
        check_empty(tmp_path / "a")
    with pytest.raises(DataError, match="cannot write"), alone_in(tmp_path / "a" / "run"):
        pass


TURNS = """
import sys, time
from pathlib import Path
from medret_nb.data.locks import taking_turns
for _ in range(5):
    with taking_turns(sys.argv[1]):
        counter = Path(sys.argv[2])
        seen = int(counter.read_text())
        time.sleep(0.02)
        counter.write_text(str(seen + 1))
"""


def test_processes_take_turns_and_leave_nothing(tmp_path):
    counter = tmp_path / "counter"
    counter.write_text("0")
    words = [sys.executable, "-c", TURNS, str(tmp_path / ".turn"), str(counter)]
    processes = [subprocess.Popen(words, env=child_environment()) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert counter.read_text() == "15"
    assert [path.name for path in tmp_path.iterdir()] == ["counter"]


def test_a_turn_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot write"), taking_turns(tmp_path / "file" / ".turn"):
        pass
