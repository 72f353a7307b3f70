"Files: whole or not there, whatever ends the writer; what it left is swept away; what cannot be read is named."

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medret_nb.data import files
from medret_nb.data.files import (
    DataError,
    atomic_write,
    checked_name,
    folder_hash,
    hash_of,
    read_json,
    read_parquet,
    shipped_data,
    sweep,
    unsealed,
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
    assert done.returncode == (-9 if kill_at < 4 else 0)
    words = {read_parquet(tmp_path / "set" / "a.parquet")["x"][0]}
    words |= {read_json(tmp_path / "set" / name)["x"] for name in ("b.json", "c.json")}
    assert words == ({"new"} if kill_at else {"old"})  # the first rename is that of the plan
    sweep(tmp_path / "set")
    assert names(tmp_path / "set") == ["a.parquet", "b.json", "c.json"]
    write_together(tmp_path / "set", both("third"))
    assert names(tmp_path / "set") == ["a.parquet", "b.json", "c.json"]
    assert read_json(tmp_path / "set" / "c.json") == {"x": "third"}


@pytest.mark.parametrize("plan", ["", "[1]", '[["a.json", "../b.json"]]', '[["../x", "b.json"]]', "null", "[" * 9999])
def test_a_plan_that_is_none_of_ours_renames_nothing(tmp_path, plan):
    (tmp_path / "set").mkdir()
    (tmp_path / "x").write_text("outside")
    for name in ("a.json", "b.json"):
        (tmp_path / "set" / name).write_text("1")
    (tmp_path / "set" / ".together.json").write_text(plan)
    assert read_json(tmp_path / "set" / "a.json") == 1
    assert names(tmp_path / "set") == ["a.json", "b.json"] and names(tmp_path) == ["set", "x"]


def test_shipped_data_names_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert shipped_data("phantom-small").is_dir()
    with pytest.raises(DataError, match="no-such-thing"):
        shipped_data("no-such-thing")


@pytest.mark.parametrize("text", ["CXR1", "a b", "ä.b", "x" * 150, "..a", "a..b", "-"])
def test_a_plain_name_passes_the_door(text):
    assert checked_name(text, "image_id") is text


@pytest.mark.parametrize(
    "text",
    ["", " ", ".", "..", "/a", "a/b", "a/../b", "a\\b", "C:a", "a\0", "a\nb", "a\x1b[1m", "a\u2028", "\x85", "\ud800"]
    + ["x" * 151, "ä" * 76, None, 7, ["a"], b"a", float("nan")],
)
def test_what_is_no_plain_name_is_refused_in_one_line(text):
    with pytest.raises(DataError, match="^image_id: .* is no name of a file") as caught:
        checked_name(text, "image_id")
    assert str(caught.value).isprintable() and len(str(caught.value)) < 250


@pytest.mark.skipif(os.name != "posix", reason="rights as POSIX has them")
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_files_have_the_rights_that_the_umask_gives(tmp_path, mask):
    def private(path):
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))

    before = os.umask(mask)
    try:
        with atomic_write(tmp_path / "weights.bin") as temporary:
            private(temporary)
        write_together(tmp_path / "both", {"a.json": {}, "b.parquet": pd.DataFrame({"x": [1]})})
        made = [tmp_path / "weights.bin", tmp_path / "both" / "a.json", tmp_path / "both" / "b.parquet"]
        assert {oct(path.stat().st_mode & 0o777) for path in made} == {oct(0o666 & ~mask)}
        assert os.umask(mask) == mask  # as it was
    finally:
        os.umask(before)


def test_a_seal_tells_damaged_and_mixed_files(tmp_path):
    table, text = pd.DataFrame({"x": range(50)}), "x,y\n1,2\n"
    write_together(tmp_path, {"facts.json": {"n": 50}, "t.parquet": table, "t.csv": text}, sealed=True)
    facts = read_json(tmp_path / "facts.json")
    assert unsealed(tmp_path, facts) == {"n": 50} and (tmp_path / "t.csv").read_bytes() == text.encode()
    assert unsealed(tmp_path, {"n": 1}) == {"n": 1}  # an older one has no seal
    for name in ("t.parquet", "t.csv"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(DataError, match=f"{name}: damaged, or not written with the files beside it"):
            unsealed(tmp_path, facts)
        (tmp_path / name).unlink()
        with pytest.raises(DataError, match=f"{name}: there is no such file"):
            unsealed(tmp_path, facts)
        (tmp_path / name).write_bytes(whole)
    for odd in ({"files": ["t.csv"]}, {"files": {"../t.csv": "x"}}):
        with pytest.raises(DataError):
            unsealed(tmp_path, odd)


def test_a_flipped_bit_in_a_table_never_gives_other_numbers(tmp_path):
    table = pd.DataFrame({"x": np.random.default_rng(0).normal(size=2000)})
    write_parquet(table, tmp_path / "t.parquet")
    whole, rng, refused = (tmp_path / "t.parquet").read_bytes(), np.random.default_rng(1), 0
    for _ in range(200):
        data = bytearray(whole)
        data[rng.integers(len(data) - 600)] ^= 1 << rng.integers(8)  # the pages, not what describes them
        (tmp_path / "t.parquet").write_bytes(data)
        try:
            assert read_parquet(tmp_path / "t.parquet").equals(table)
        except DataError:
            refused += 1
    assert refused > 150
