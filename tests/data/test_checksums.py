"""Checksums of films: of what they show, kept until a file changes."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medret_nb.data import checksums
from medret_nb.data.checksums import NO_FILM, cache_folder, film_checksum, film_checksums, grey_checksum
from medret_nb.data.pixels import open_pixels
from medret_nb.data.studies import StudySet


@pytest.fixture
def films(tmp_path):
    """Six films in a folder: ids, paths, folder."""
    rng = np.random.default_rng(1)
    paths = [tmp_path / f"{k}.png" for k in range(6)]
    for path in paths:
        Image.fromarray(rng.integers(0, 255, (20, 24), dtype=np.uint8)).save(path)
    return [f"film{k}" for k in range(6)], paths, tmp_path


def counted(monkeypatch):
    """The list of films that are read from now on."""
    read = []
    monkeypatch.setattr(checksums, "film_checksum", lambda path: read.append(Path(path).name) or film_checksum(path))
    return read


def test_a_film_is_its_grey_values(films):
    _, paths, folder = films
    with Image.open(paths[0]) as film:
        grey = np.array(film)
    Image.fromarray(grey).save(folder / "again.png", compress_level=0)
    assert film_checksum(folder / "again.png") == film_checksum(paths[0]) == grey_checksum(grey)
    assert grey_checksum(grey.reshape(24, 20)) != grey_checksum(grey)
    (folder / "broken.png").write_bytes(paths[0].read_bytes()[:40])
    assert film_checksum(folder / "broken.png") == film_checksum(folder / "lost.png") == NO_FILM


def test_only_what_is_new_or_changed_is_read(films, monkeypatch):
    ids, paths, folder = films
    read = counted(monkeypatch)
    first = film_checksums(ids, paths, folder)
    assert len(read) == 6 and film_checksums(ids, paths, folder) == first and len(read) == 6
    Image.fromarray(np.zeros((20, 24), np.uint8)).save(paths[4])
    again = film_checksums(ids, paths, folder)
    assert read[6:] == ["4.png"] and [i for i in ids if again[i] != first[i]] == ["film4"]


def test_building_the_pixel_cache_leaves_the_checksums(films, monkeypatch):
    ids, paths, folder = films
    (folder / "lost.png").write_bytes(b"")
    open_pixels([*ids, "lost"], [*paths, folder / "lost.png"], 16, folder)
    read = counted(monkeypatch)
    found = film_checksums([*ids, "lost"], [*paths, folder / "lost.png"], folder)
    assert not read and found["lost"] == NO_FILM and found["film2"] == film_checksum(paths[2])


def test_a_damaged_table_is_made_anew(films):
    ids, paths, folder = films
    first = film_checksums(ids, paths, folder)
    (folder / checksums.TABLE).write_bytes(b"no table")
    assert film_checksums(ids, paths, folder) == first


def test_without_a_home_the_cache_goes_to_the_temporary_files(tmp_path, monkeypatch):
    def nobody():
        raise RuntimeError("Could not determine home directory.")

    for name in ("MEDRET_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", nobody)
    monkeypatch.setattr(checksums.tempfile, "gettempdir", lambda: str(tmp_path / "tmp"))
    assert cache_folder(None, "key").parent == tmp_path / "tmp" / "medret_nb-cache"


def test_five_blackened_films_change_the_hash_of_a_set(small_phantom, tmp_path):
    shutil.copytree(small_phantom.folder, tmp_path / "set")
    before = StudySet.load(tmp_path / "set").hash()
    assert before == small_phantom.hash()
    for path in StudySet.load(tmp_path / "set").image_paths()[:5]:
        Image.fromarray(np.zeros_like(np.asarray(Image.open(path)))).save(path)
    assert StudySet.load(tmp_path / "set").hash() != before
