"The pixel cache: equal to decoding, rebuilt when anything changed, whole or absent, never black."

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from support import child_environment

from medret_nb.data import pixels as module
from medret_nb.data.checksums import cache_folder
from medret_nb.data.files import DataError
from medret_nb.data.images import letterbox, read_image
from medret_nb.data.pixels import open_pixels, pixels_key
from medret_nb.data.studies import StudySet

KILLED = """
import json, os, signal, sys, time
from pathlib import Path
from medret_nb.data import pixels
fast = pixels._square
def slow(path, size):
    time.sleep(0.01)
    return fast(path, size)
folder = Path(sys.argv[1])
paths = sorted(folder.glob("*.png"))
for wait in (0.02, 0.2, 0.5, 1.0):
    child = os.fork()
    if child == 0:
        pixels._square = slow
        pixels.open_pixels([p.stem for p in paths], paths, 24, folder)
        os._exit(0)
    time.sleep(wait)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    print(json.dumps(sorted(p.name for p in folder.glob("pixels-*"))), flush=True)
"""


@pytest.fixture
def films(tmp_path):
    """Ids and paths of 300 small films, each of its own brightness pattern."""
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"f{i:03d}.png" for i in range(300)]
    for path in paths:
        Image.fromarray(rng.integers(1, 255, (int(rng.integers(20, 40)), 30), dtype=np.uint8)).save(path)
    return [path.stem for path in paths], paths


def test_the_cache_equals_decoding_each_film(films, tmp_path):
    ids, paths = films
    expected = [letterbox(read_image(path), 24) for path in paths]
    for _ in range(2):  # built, then read
        pixels = open_pixels(ids, paths, 24, tmp_path)
        assert isinstance(pixels.array, np.memmap)
        assert pixels.array.shape == (300, 24, 24)
        assert len(pixels) == 300
        assert (pixels.array == [square for square, _ in expected]).all()
        assert np.array_equal(pixels.boxes, [box for _, box in expected])
    assert (pixels.take(["f200", "f003", "f200"]) == np.stack([expected[i][0] for i in (200, 3, 200)])).all()
    assert pixels.take([]).shape == (0, 24, 24)


def test_unreadable_films_are_left_out_named_and_never_black(films, tmp_path, capsys):
    ids, paths = films
    paths[0].write_bytes(b"")
    paths[150].unlink()
    paths[299].write_bytes(paths[299].read_bytes()[:80])
    pixels = open_pixels(ids, paths, 24, tmp_path)
    assert set(pixels.unreadable) == {"f000", "f150", "f299"}
    assert pixels.array.shape == (297, 24, 24)
    assert (pixels.array.max((1, 2)) > 0).all()
    assert (pixels.take(["f298"])[0] == letterbox(read_image(paths[298]), 24)[0]).all()
    assert "3 of 300 images cannot be read" in capsys.readouterr().err
    with pytest.raises(DataError, match="f150.*no such file"):
        pixels.take(["f001", "f150"])
    with pytest.raises(DataError, match="zzz.*no such image"):
        pixels.take(["zzz"])
    assert open_pixels(ids, paths, 24, tmp_path).unreadable == pixels.unreadable
    with pytest.raises(DataError, match="none of the 2 images"):
        open_pixels(ids[:1] + ids[150:151], [paths[0], paths[150]], 24, tmp_path)


@pytest.mark.parametrize("change", ["content", "order", "fewer", "repaired"])
def test_a_stale_cache_is_rebuilt(films, tmp_path, change):
    ids, paths = films[0][:20], films[1][:20]
    if change == "repaired":
        paths[4].rename(tmp_path / "away")
    old = open_pixels(ids, paths, 24, tmp_path)
    if change == "content":
        Image.fromarray(np.full((30, 30), 77, np.uint8)).save(paths[4])
    if change == "order":
        ids, paths = ids[::-1], paths[::-1]
    if change == "fewer":
        ids, paths = ids[3:], paths[3:]
    if change == "repaired":
        (tmp_path / "away").rename(paths[4])
    new = open_pixels(ids, paths, 24, tmp_path)
    assert (new.take(ids) == [letterbox(read_image(path), 24)[0] for path in paths]).all()
    assert new.rows != old.rows or not (np.asarray(new.array) == old.array).all()


@pytest.mark.parametrize("damage", ["no facts", "no array", "half array", "broken facts", "other facts", "zeros"])
def test_a_damaged_cache_is_rebuilt(films, tmp_path, damage):
    ids, paths = films[0][:20], films[1][:20]
    good = open_pixels(ids, paths, 24, tmp_path).take(ids)
    array, facts = tmp_path / "pixels-24.npy", tmp_path / "pixels-24.json"
    if damage == "no facts":
        facts.unlink()
    if damage == "no array":
        array.unlink()
    if damage == "half array":
        array.write_bytes(array.read_bytes()[:3000])
    if damage == "broken facts":
        facts.write_text("{")
    if damage == "other facts":
        facts.write_text(json.dumps([1, 2]))
    if damage == "zeros":
        array.write_bytes(b"")
    assert (open_pixels(ids, paths, 24, tmp_path).take(ids) == good).all()


def test_killed_at_any_moment_leaves_no_cache_or_a_whole_one(films, tmp_path):
    ids, paths = films
    reference = np.stack([letterbox(read_image(path), 24)[0] for path in paths])
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
    )
    left = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(left) == 4
    whole = ["pixels-24.json", "pixels-24.npy"]
    assert all(names in ([], ["pixels-24.npy"], whole) for names in left)
    for path in tmp_path.glob(".pixels-*"):
        os.utime(path, (0, 0))  # as if they had lain there for long
    assert (open_pixels(ids, paths, 24, tmp_path).take(ids) == reference).all()
    assert not list(tmp_path.glob(".pixels-*"))


def test_an_exception_while_building_leaves_nothing(films, tmp_path, monkeypatch):
    def fail(path, size):
        raise MemoryError("no more memory")

    monkeypatch.setattr(module, "_square", fail)
    with pytest.raises(MemoryError):
        open_pixels(*films, 24, tmp_path)
    assert not [path for path in tmp_path.iterdir() if "pixels" in path.name]


def test_a_read_only_folder_gets_its_cache_elsewhere(films, tmp_path, monkeypatch, capsys):
    ids, paths = films[0][:5], films[1][:5]
    monkeypatch.setenv("MEDRET_CACHE", str(tmp_path / "cache"))
    os.chmod(tmp_path, 0o555)
    try:
        place = cache_folder(tmp_path, "")
        os.chmod(tmp_path, 0o755)
        (tmp_path / "cache").mkdir()
        os.chmod(tmp_path, 0o555)
        pixels = open_pixels(ids, paths, 24, tmp_path)
    finally:
        os.chmod(tmp_path, 0o755)
    assert place.parent == tmp_path / "cache"
    assert (place / "pixels-24.npy").is_file()
    assert len(pixels) == 5
    assert "read-only" in capsys.readouterr().err and not (tmp_path / "pixels-24.npy").exists()
    assert cache_folder(None, "a") != cache_folder(None, "b")


def test_sizes_are_checked_and_no_films_are_no_error(films, tmp_path):
    for size in (0, -5, 7, 5000, 2.5, "64"):
        with pytest.raises(ValueError, match="size"):
            open_pixels(*films, size, tmp_path)
    assert open_pixels([], [], 24, tmp_path).take([]).shape == (0, 24, 24)


def test_the_key_follows_ids_files_and_size_but_not_the_place(films, tmp_path):
    ids, paths = films[0][:4], films[1][:4]
    key = pixels_key(ids, paths, 24, tmp_path)
    assert key == pixels_key(ids, paths, 24, tmp_path)
    assert key != pixels_key(ids, paths, 32, tmp_path)
    assert key != pixels_key(ids[::-1], paths, 24, tmp_path)
    os.utime(paths[2], (0, 0))
    assert key != pixels_key(ids, paths, 24, tmp_path)
    before = pixels_key(ids, paths, 24, tmp_path)
    moved = tmp_path.with_name(tmp_path.name + "-moved")
    tmp_path.rename(moved)
    assert before == pixels_key(ids, [moved / path.name for path in paths], 24, moved)


def test_the_key_knows_what_the_file_system_knows_and_no_more(films, tmp_path):
    """A film changed without another size or time goes unnoticed: to hash all bytes would cost what is to be saved."""
    ids, paths = films[0][:4], films[1][:4]
    key = pixels_key(ids, paths, 24, tmp_path)
    facts = paths[3].stat()
    content = bytearray(paths[3].read_bytes())
    content[-40] ^= 1
    paths[3].write_bytes(content)
    os.utime(paths[3], ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert pixels_key(ids, paths, 24, tmp_path) == key
    os.utime(paths[3])
    assert pixels_key(ids, paths, 24, tmp_path) != key


def test_a_cache_of_zeros_is_never_black_films(small_phantom, tmp_path):
    shutil.copytree(small_phantom.folder, tmp_path / "set", ignore=shutil.ignore_patterns("pixels-*"))
    studies = StudySet.load(tmp_path / "set")
    ids = studies.images["image_id"].tolist()
    right = np.array(studies.pixels(32).take(ids))
    cache = tmp_path / "set" / "pixels-32.npy"
    whole = cache.read_bytes()
    head = len(whole) - right.size
    cache.write_bytes(whole[:head] + bytes(right.size))
    with pytest.raises(DataError, match=r"pixels-32.npy: the film \S+ in it is damaged; run again"):
        studies.pixels(32).take(ids[3:5])
    assert np.array_equal(studies.pixels(32).take(ids), right)


def test_one_flipped_bit_in_a_cache_is_noticed_when_its_film_is_taken(small_phantom, tmp_path):
    shutil.copytree(small_phantom.folder, tmp_path / "set", ignore=shutil.ignore_patterns("pixels-*"))
    studies = StudySet.load(tmp_path / "set")
    ids = studies.images["image_id"].tolist()
    right = np.array(studies.pixels(32).take(ids))
    array, facts = tmp_path / "set" / "pixels-32.npy", tmp_path / "set" / "pixels-32.json"
    data = bytearray(array.read_bytes())
    data[-1024 * len(ids) + 1024 * 7 + 100] ^= 4
    array.write_bytes(data)
    pixels = studies.pixels(32)
    assert np.array_equal(pixels.take(ids[:7]), right[:7])
    with pytest.raises(DataError, match=ids[7]):
        pixels.take(ids)
    assert np.array_equal(studies.pixels(32).take(ids), right)
    rng, text = np.random.default_rng(1), facts.read_bytes()
    for _ in range(30):
        spoilt = bytearray(text)
        spoilt[rng.integers(len(spoilt))] ^= 1 << rng.integers(7)
        facts.write_bytes(spoilt)
        found = studies.pixels(32)
        assert np.array_equal(found.take(ids), right) and list(found.rows) == ids


TOGETHER = """
import sys
from pathlib import Path
from medret_nb.data.pixels import open_pixels
folder = Path(sys.argv[1])
paths = sorted(folder.glob("*.png"))
sys.stdin.readline()
pixels = open_pixels([p.stem for p in paths], paths, 24, folder)
print(len(pixels), int(pixels.take([paths[3].stem]).sum()))
"""


def test_processes_that_begin_together_agree_on_one_cache(tmp_path):
    rng = np.random.default_rng(0)
    for k in range(40):
        Image.fromarray(rng.integers(0, 255, (90, 80), dtype=np.uint8)).save(tmp_path / f"film{k:02d}.png")
    words = [sys.executable, "-c", TOGETHER, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": child_environment()}
    processes = [subprocess.Popen(words, **pipes) for _ in range(4)]
    for process in processes:  # all have imported before the first begins
        process.stdin.write("go\n")
        process.stdin.flush()
    said = {process.communicate(timeout=60)[0] for process in processes}
    assert [process.returncode for process in processes] == [0] * 4
    assert len(said) == 1 and said.pop().startswith("40 ")
    assert not list(tmp_path.glob(".pixels*"))
