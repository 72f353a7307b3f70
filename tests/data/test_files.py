"Files: whole or not there, whatever ends the writer; what it left is swept away; what cannot be read is named."

import os
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from medret_nb.data import files
from medret_nb.data.files import (
    DataError,
    atomic_write,
    folder_hash,
    hash_of,
    read_json,
    read_parquet,
    shipped_data,
    sweep,
    write_json,
    write_parquet,
    write_together,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def left_by(folder, process, machine=files._MACHINE, age=0):
    path = folder / f".table-{machine}-{process}-0123abcd.tmp.csv"
    path.write_text("half")
    os.utime(path, (time.time() - age,) * 2)
    return path.name


@pytest.fixture(scope="module")
def ended():
    "The number of a process that has ended."
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, MemoryError])
def test_a_failed_write_keeps_the_old_file(tmp_path, error):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(error), atomic_write(tmp_path / "a.txt") as temporary:
        temporary.write_text("ne")
        raise error("stop")
    assert (tmp_path / "a.txt").read_text() == "old" and names(tmp_path) == ["a.txt"]


def test_a_writer_that_is_killed_leaves_the_old_file_and_the_next_one_sweeps(tmp_path):
    code = (
        "import os, sys\nfrom medret_nb.data.files import atomic_write\n"
        "with atomic_write(sys.argv[1]) as t: t.write_text('half'); os.kill(os.getpid(), 9)"
    )
    for _ in range(2):
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "a.txt")],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        assert len(names(tmp_path)) == 1 and names(tmp_path)[0].startswith(".a-")
    with atomic_write(tmp_path / "b.txt") as temporary:
        temporary.write_text("whole")
    assert names(tmp_path) == ["b.txt"]


def test_the_sweep_takes_only_what_nobody_writes_any_more(tmp_path, ended):
    other = "0" * 8
    gone = [left_by(tmp_path, ended), left_by(tmp_path, ended, other, 4000), left_by(tmp_path, os.getpid(), age=4000)]
    kept = [left_by(tmp_path, os.getppid()), left_by(tmp_path, 17, other)]
    for name in (".hidden", ".note.tmp.csv", "table-1.tmp.csv", f".a-{files._MACHINE}-x-0123abcd.tmp.csv"):
        (tmp_path / name).write_text("mine")
        kept.append(name)
    sweep(tmp_path)
    assert names(tmp_path) == sorted(kept) and not set(gone) & set(kept)
    sweep(tmp_path / "nowhere")


def test_names_of_any_kind_are_swept_too(tmp_path, ended):
    for stem in ("a-b", "with space", "new\nline", ".dot", "[x]*"):
        (tmp_path / f".{stem}-{files._MACHINE}-{ended}-0123abcd.tmp").write_text("half")
    sweep(tmp_path)
    assert names(tmp_path) == []


def test_what_cannot_be_written_is_named_in_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for place in (tmp_path / "file" / "a.json", tmp_path / "file" / "deep" / "a.json", tmp_path / ("x" * 300)):
        with pytest.raises(DataError, match="cannot write") as caught:
            write_json({}, place)
        assert str(place) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(ValueError):
        write_json({"a": float("nan")}, tmp_path / "b.json")
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff\xfe", b"[" * 100_000, "folder"])
def test_what_is_no_json_or_table_is_named_in_one_line(tmp_path, content):
    path = tmp_path / "facts"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    for read in (read_json, read_parquet):
        with pytest.raises(DataError) as caught:
            read(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_tables_and_settings_come_back(tmp_path):
    table = pd.DataFrame({"a": ["x", None], "b": [1.5, 2.5]})
    write_parquet(table, tmp_path / "t.parquet", {"who": "me"})
    write_json({"é": [1, None]}, tmp_path / "s.json")
    pd.testing.assert_frame_equal(read_parquet(tmp_path / "t.parquet"), table)
    assert read_json(tmp_path / "s.json") == {"é": [1, None]} and names(tmp_path) == ["s.json", "t.parquet"]


def test_hashes_tell_contents_apart(tmp_path):
    assert len({hash_of("ab", "c"), hash_of("a", "bc"), hash_of("abc"), hash_of(["a", "bc"])}) == 4
    assert hash_of({"a": 1, "b": 2}) == hash_of({"b": 2, "a": 1})
    (tmp_path / "a.py").write_text("x")
    one = folder_hash(tmp_path)
    (tmp_path / "note.txt").write_text("y")
    assert folder_hash(tmp_path) == one
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    assert folder_hash(tmp_path) != one


def test_the_order_of_a_tables_rows_is_part_of_its_content():
    table = pd.DataFrame({"study_id": ["s1", "s2", "s3"], "findings": ["clear", "", "edema"]})
    turned = table.iloc[::-1].reset_index(drop=True)
    assert hash_of(turned) != hash_of(table)
    assert hash_of(turned.sort_values("study_id").reset_index(drop=True)) == hash_of(table)


@pytest.mark.parametrize("kill_at", range(5))
def test_files_that_belong_together_are_never_mixed(tmp_path, kill_at):
    def both(word):
        return {"a.parquet": pd.DataFrame({"x": [word]}), "b.json": {"x": word}, "c.json": {"x": word}}

    write_together(tmp_path / "set", both("old"))
    code = (
        "import os, sys, pandas as pd\nfrom medret_nb.data import files\nreal, left = os.replace, [int(sys.argv[2])]\n"
        "def counted(*names):\n    if left[0] == 0: os.kill(os.getpid(), 9)\n    left[0] -= 1; real(*names)\n"
        "os.replace = counted\n"
        "contents = {'a.parquet': pd.DataFrame({'x': ['new']}), 'b.json': {'x': 'new'}, 'c.json': {'x': 'new'}}\n"
        "files.write_together(sys.argv[1], contents)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "set"), str(kill_at)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == (-9 if kill_at < 3 else 0)
    if (tmp_path / "set" / "a.parquet").exists():  # the seal: what stands beside it is of the same writing
        words = {read_parquet(tmp_path / "set" / "a.parquet")["x"][0]}
        words |= {read_json(tmp_path / "set" / name)["x"] for name in ("b.json", "c.json")}
        assert words == ({"new"} if kill_at >= 3 else {"old"})
    write_together(tmp_path / "set", both("third"))
    assert names(tmp_path / "set") == ["a.parquet", "b.json", "c.json"]
    assert read_json(tmp_path / "set" / "c.json") == {"x": "third"}


def test_shipped_data_names_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert shipped_data("phantom-small").is_dir()
    with pytest.raises(DataError, match="no-such-thing"):
        shipped_data("no-such-thing")
