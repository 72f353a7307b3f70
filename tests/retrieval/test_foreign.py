"""Embeddings of other programs: four formats give the same points, and what is not said is asked for in one line."""

import numpy as np
import pandas as pd
import pytest

from medret_nb.data.files import DataError
from medret_nb.data.studies import StudySet
from medret_nb.retrieval.foreign import Stated, read_pair, read_points

IDS = ["007", "008", "009"]
MU = np.arange(12, dtype=np.float32).reshape(3, 4)
LOGVAR = -np.ones((3, 4), np.float32)


@pytest.fixture
def three():
    "Three studies with a film each."
    images = pd.DataFrame({"image_id": ["a", "b", "c"], "study_id": IDS, "view": "PA", "path": ["a", "b", "c"]})
    return StudySet(pd.DataFrame({"study_id": IDS, "findings": ["No effusion."] * 3}), images)


def as_csv(path, ids, mu, logvar=None, names=None):
    table = {"id": ids}
    for part, values in (("mu", mu), ("logvar", logvar)):
        for k in range(0 if values is None else values.shape[1]):
            table[names[k] if names else f"{part}_{k}"] = values[:, k]
    pd.DataFrame(table).to_csv(path, index=False)


def written(folder, kind, logvar=None, ids=IDS):
    "The points in a file of that kind."
    path = folder / f"test-image{kind}"
    if kind == ".parquet":
        more = {} if logvar is None else {"logvar": list(logvar)}
        pd.DataFrame({"id": ids, "study_id": IDS, "mu": list(MU), **more}).to_parquet(path)
    elif kind == ".npz":
        np.savez(path, ids=np.array(ids), mu=MU, **({} if logvar is None else {"logvar": logvar}))
    elif kind == ".npy":
        np.save(path, MU)
    else:
        as_csv(path, ids, MU, logvar)
    return path


@pytest.mark.parametrize("kind", [".parquet", ".npz", ".npy", ".csv"])
def test_all_formats_give_the_same_points(three, tmp_path, capsys, kind):
    found = read_points(written(tmp_path, kind), three)
    assert found.study_ids.tolist() == IDS and np.array_equal(found.mu, MU) and found.logvar is None
    said = capsys.readouterr().out
    assert "cosine is taken" in said and (
        kind != ".npy" or "its rows are taken for the 3 studies in their order" in said
    )


@pytest.mark.parametrize("kind", [".parquet", ".npz", ".csv"])
def test_clouds_are_compared_as_it_is_stated_and_never_guessed(three, tmp_path, kind):
    path = written(tmp_path, kind, LOGVAR)
    with pytest.raises(
        DataError, match="holds logvar, but does not say how .* state it by --similarity csd, mls or cosine"
    ):
        read_points(path, three)
    found = read_points(path, three, Stated("csd", logit_scale=3.0, shift=1.0, policy="impression"))
    assert np.array_equal(found.logvar, LOGVAR)
    assert found.meta == {"similarity": "csd", "logit_scale": 3.0, "shift": 1.0, "policy": "impression"}


def test_ids_may_be_films_and_stand_in_a_file(three, tmp_path, capsys):
    path = written(tmp_path, ".npy")
    (tmp_path / "ids.txt").write_text("c\na\nb\n")
    found = read_points(path, three, Stated("cosine", ids=tmp_path / "ids.txt"))
    assert found.ids.tolist() == ["c", "a", "b"] and found.study_ids.tolist() == ["009", "007", "008"]
    assert "taken for films" in capsys.readouterr().out
    (tmp_path / "ids.csv").write_text("study_id\n009\n007\n008\n")
    found = read_points(path, three, Stated("cosine", ids=tmp_path / "ids.csv"))
    assert found.study_ids.tolist() == ["009", "007", "008"]


def test_columns_of_any_name_are_numbers_in_their_order(three, tmp_path):
    as_csv(tmp_path / "a.csv", IDS, MU, names=["z", "y", "x", "w"])
    assert np.array_equal(read_points(tmp_path / "a.csv", three).mu, MU)


def test_what_cannot_be_read_is_one_line(three, tmp_path):
    objects = tmp_path / "objects.npy"
    np.save(objects, np.array([{"a": 1}], object), allow_pickle=True)
    hidden = tmp_path / "hidden.npz"
    np.savez(hidden, mu=MU, ids=np.array([{"a": 1}] * 3, object))
    (tmp_path / "cut.npy").write_bytes(written(tmp_path, ".npy").read_bytes()[:-9])
    np.save(tmp_path / "short.npy", MU[:2])
    np.savez(tmp_path / "other.npz", vectors=MU)
    np.savez(tmp_path / "nan.npz", ids=IDS, mu=np.full((3, 2), np.nan))
    np.savez(tmp_path / "flat.npz", ids=IDS, mu=np.ones(3))
    np.savez(tmp_path / "words.npz", ids=IDS, mu=np.array([["a"], ["b"], ["c"]]))
    np.savez(tmp_path / "twice.npz", ids=["a", "a", "b"], mu=MU)
    (tmp_path / "bad.csv").write_text("id,mu_0\n007,1\n008,x\n")
    (tmp_path / "bare.csv").write_text("name,mu_0\n007,1\n")
    (tmp_path / "points.txt").write_text("1 2 3")
    wrong = {
        "objects.npy": "without Python objects",
        "hidden.npz": "ids cannot be read",
        "cut.npy": "not a readable file",
        "short.npy": "2 rows without ids, and 3 studies; name the studies of its rows by --ids",
        "other.npz": "lacks the array mu; it has vectors",
        "nan.npz": "mu holds NaN or infinite numbers in row 0 \\(id 007\\)",
        "flat.npz": "mu must be \\(N, D\\)",
        "words.npz": "could not convert",
        "twice.npz": "stands in an earlier row",
        "bad.csv": "row 2, column mu_0: 'x' is not a number",
        "bare.csv": "lacks the column id",
        "points.txt": "embeddings are read from .parquet, .npz, .npy and .csv",
        "absent.npz": "not a readable file",
        "absent.csv": "not a readable CSV file",
    }
    for name, said in wrong.items():
        with pytest.raises(DataError, match=f"{name}: .*{said}") as caught:
            read_points(tmp_path / name, three)
        assert "\n" not in str(caught.value)


def test_what_cannot_be_stated():
    wrong = (
        ({"similarity": "dot"}, "similarity: 'dot' is none of cosine"),
        ({"policy": "all"}, "policy: 'all' is none of findings"),
        ({"logit_scale": np.inf}, "logit_scale: inf is not a finite number"),
    )
    for given, said in wrong:
        with pytest.raises(DataError, match=said):
            Stated(**given)


def test_each_side_has_one_file(three, tmp_path):
    files = {"image": [written(tmp_path, ".npz"), written(tmp_path, ".csv")], "text": []}
    with pytest.raises(
        DataError, match="one file of the image side of test is wanted, there are: test-image.npz, test-"
    ):
        read_pair(files, "test", three)
