"The same film in two splits: found by what it shows, once for each film, and read only where it may be a copy."

import numpy as np
import pytest
from PIL import Image

from medret_nb.data.leaks import equal_sizes, film_leaks, leak_remarks, shared_films

SPLITS = {"a": "train", "b": "test", "c": "test", "d": "train", "e": ""}


@pytest.mark.parametrize(
    "checksums, pairs",
    [
        ({}, []),
        ({"a": "1", "b": "2"}, []),
        ({"a": "1", "d": "1"}, []),
        ({"a": "1", "e": "1"}, []),
        ({"a": "1", "b": "1", "c": "1"}, [("a", "b")]),
        ({"a": "1", "b": "1", "c": "2", "d": "2"}, [("a", "b"), ("c", "d")]),
        ({"unknown": "1", "b": "1", "d": "1"}, [("b", "d")]),
    ],
)
def test_pairs_of_films_in_two_splits(checksums, pairs):
    assert shared_films(SPLITS, checksums) == pairs
    assert len(leak_remarks(SPLITS, pairs)) == bool(pairs)


def test_only_files_of_equal_size_in_two_splits_are_read(tmp_path):
    paths = {name: tmp_path / f"{name}.png" for name in "abcde"}
    for name, grey in zip("abcd", (1, 1, 2, 1), strict=True):
        Image.fromarray(np.full((9, 9), grey, np.uint8)).save(paths[name])
    (tmp_path / "c.png").write_bytes(paths["c"].read_bytes() + b"longer")
    assert equal_sizes(SPLITS, paths) == ["a", "b", "d"]
    assert film_leaks(SPLITS, paths, tmp_path) == []
    (remark,) = film_leaks(SPLITS, paths, tmp_path, copies=True)
    assert remark.startswith("1 film(s) stand in two splits, e.g. a (train) and b (test)")
    for path in paths.values():
        path.unlink(missing_ok=True)
        path.write_bytes(b"none of them can be read")
    assert film_leaks(SPLITS, paths, tmp_path, copies=True) == []
