"Points and clouds on the disk: nothing is lost on the way there and back, and bad points are named by row."

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medret_nb.data.files import DataError
from medret_nb.retrieval.points import SIMILARITIES, Embeddings


def some(n=4, d=3, seed=0, **meta):
    rng = np.random.default_rng(seed)
    return Embeddings(
        [f"i{k}" for k in range(n)],
        [f"s{k}" for k in range(n)],
        rng.normal(size=(n, d)),
        rng.normal(size=(n, d)),
        {"similarity": "csd", **meta},
    )


@settings(max_examples=30, deadline=None)
@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
    ),
    st.booleans(),
    st.data(),
)
def test_round_trip(tmp_path_factory, mu, clouds, data):
    ids = data.draw(
        st.lists(st.text(st.characters(exclude_categories=("Cs",))), min_size=len(mu), max_size=len(mu), unique=True)
    )
    meta = {
        "similarity": data.draw(st.sampled_from(SIMILARITIES)),
        "logit_scale": 14.25,
        "shift": -0.5,
        "modality": "text",
        "split": "tést",
        "fingerprint": "f" * 64,
    }
    there = Embeddings(ids, ids[::-1], mu, -mu if clouds else None, meta)
    back = Embeddings.load(there.save(tmp_path_factory.mktemp("e") / "a.parquet"))
    assert back.ids.tolist() == ids and back.study_ids.tolist() == ids[::-1] and back.meta == meta
    assert back.mu.tobytes() == there.mu.tobytes() and (back.logvar is None) == (not clouds)
    if clouds:
        assert back.logvar.tobytes() == there.logvar.tobytes()


def test_file_is_as_the_design_says(tmp_path):
    some(shift=None, logit_scale=2.0).save(tmp_path / "test-image.parquet")
    schema = pq.read_schema(tmp_path / "test-image.parquet")
    assert schema.names == ["id", "study_id", "mu", "logvar"]
    assert schema.field("mu").type == schema.field("logvar").type == pa.list_(pa.float32(), 3)
    assert schema.metadata[b"similarity"] == b"csd" and b"shift" not in schema.metadata
    assert [p.name for p in tmp_path.iterdir()] == ["test-image.parquet"]
    assert len(Embeddings.load(tmp_path)) == 4  # a folder with one file stands for it


@pytest.mark.parametrize("kind", [np.float64, np.float16, np.float32, np.int64])
def test_foreign_files_of_other_types(tmp_path, capsys, kind):
    mu = np.arange(6).reshape(3, 2).astype(kind)
    pd.DataFrame({"id": [3, 1, 2], "mu": list(mu)}).to_parquet(tmp_path / "f.parquet")
    there = Embeddings.load(tmp_path / "f.parquet")
    np.testing.assert_array_equal(there.mu, mu.astype(np.float32))
    assert there.ids.tolist() == there.study_ids.tolist() == ["3", "1", "2"] and there.similarity == "cosine"
    said = capsys.readouterr().out
    assert "cosine is taken" in said and "study_id" in said


def test_a_similarity_that_is_told_afterwards_is_kept(tmp_path):
    """As for the clouds of a program that writes no metadata."""
    table = pd.DataFrame({"id": ["a"], "study_id": ["a"], "mu": [[1.0]], "logvar": [[0.0]]})
    table.to_parquet(tmp_path / "colleague.parquet")
    with pytest.raises(DataError, match="colleague.parquet: holds logvar, but .* state it by --similarity"):
        Embeddings.load(tmp_path / "colleague.parquet")
    told = Embeddings.load(tmp_path / "colleague.parquet", similarity="csd")
    assert told.similarity == "csd" and Embeddings.load(tmp_path / "colleague.parquet", "cosine").similarity == "cosine"
    assert Embeddings.load(told.save(tmp_path / "told.parquet")).similarity == "csd"


GOOD = {"id": ["a", "b", "c"], "mu": [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]}


BAD = {
    "nan": ({"mu": [[1.0, 0.0], [np.nan, 1.0], [1.0, 1.0]]}, "mu holds NaN or infinite numbers in row 1 .id b"),
    "infinite": ({"mu": [[1.0, 0.0], [0.0, 1.0], [1.0, -np.inf]]}, "row 2 .id c"),
    "too large for float32": ({"mu": [[1.0, 0.0], [0.0, 1e300], [1.0, 1.0]]}, "row 1 .id b"),
    "logvar nan": ({"logvar": [[1.0, np.nan], [0.0, 1.0], [1.0, 1.0]]}, "logvar holds NaN.*row 0 .id a"),
    "ragged": ({"mu": [[1.0, 0.0], [0.0], [1.0, 1.0]]}, "2 numbers in most rows, but not in row 1 .id b"),
    "no numbers": ({"mu": [[], [], []]}, "lists of numbers"),
    "null row": ({"mu": [[1.0, 0.0], None, [1.0, 1.0]]}, "mu is empty in row 1 .id b"),
    "null element": ({"mu": [[1.0, 0.0], [None, 1.0], [1.0, 1.0]]}, "row 1 .id b"),
    "all null": ({"mu": [None, None, None]}, "mu is empty in every row"),
    "logvar of another width": ({"logvar": [[1.0]] * 3}, "logvar is .3, 1., mu is .3, 2."),
    "numbers, not lists": ({"mu": [1.0, 2.0, 3.0]}, "lists of numbers"),
    "texts": ({"mu": [["x", "y"]] * 3}, "lists of numbers"),
    "id twice": ({"id": ["a", "b", "a"]}, "id of row 2 .id a. stands in an earlier row"),
    "id missing": ({"id": ["a", None, "c"]}, "1 rows have no id"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_rows_are_named(tmp_path, case):
    change, message = BAD[case]
    pd.DataFrame({**GOOD, **change}).to_parquet(tmp_path / "bad.parquet")
    with pytest.raises(DataError, match=f"bad.parquet: .*{message}") as caught:
        Embeddings.load(tmp_path / "bad.parquet")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "meta,message",
    [
        ({"similarity": "dot"}, "similarity 'dot'"),
        ({"similarity": "csd", "logit_scale": "big"}, "logit_scale is 'big'"),
    ],
)
def test_bad_metadata(tmp_path, meta, message):
    table = pa.table(GOOD).replace_schema_metadata(meta)
    pq.write_table(table, tmp_path / "bad.parquet")
    with pytest.raises(DataError, match=f"bad.parquet: {message}"):
        Embeddings.load(tmp_path / "bad.parquet")


def test_bad_files(tmp_path):
    cases = {
        "missing.parquet": (None, "there is no such file"),
        "text.parquet": (b"id,mu\n1,2\n", "not a readable Parquet"),
        "empty.parquet": (b"", "not a readable Parquet"),
    }
    for name, (content, message) in cases.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=f"{name}.*{message}"):
            Embeddings.load(tmp_path / name)
    some().save(tmp_path / "cut.parquet")
    whole = (tmp_path / "cut.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[:-20])
    with pytest.raises(DataError, match="cut.parquet"):
        Embeddings.load(tmp_path / "cut.parquet")
    with pytest.raises(DataError, match="name one of its files: cut.parquet, empty.parquet"):
        Embeddings.load(tmp_path)
    (tmp_path / "hollow").mkdir()
    with pytest.raises(DataError, match="hollow: holds no Parquet"):
        Embeddings.load(tmp_path / "hollow")
    pd.DataFrame({"id": [], "mu": []}).to_parquet(tmp_path / "norows.parquet")
    with pytest.raises(DataError, match="norows.parquet: holds no embedding"):
        Embeddings.load(tmp_path / "norows.parquet")
    pd.DataFrame({"id": ["a"], "vector": [[1.0]]}).to_parquet(tmp_path / "c.parquet")
    with pytest.raises(DataError, match="c.parquet: lacks the column mu; it has id, vector"):
        Embeddings.load(tmp_path / "c.parquet")


def test_bad_arguments():
    for wrong, message in (
        ((["a"], ["a", "b"], np.zeros((1, 2))), "study_ids"),
        ((["a"], ["a"], np.zeros(2)), "mu must be"),
        ((["a"], ["a"], np.zeros((1, 2)), np.zeros((1, 3))), "logvar is"),
    ):
        with pytest.raises(DataError, match=message):
            Embeddings(*wrong)


def test_select_keeps_rows_together():
    there = some(5)
    for rows in ([3, 1], slice(1, 4), there.ids == "i2"):
        part = there.select(rows)
        np.testing.assert_array_equal(part.mu, there.mu[rows])
        np.testing.assert_array_equal(part.logvar, there.logvar[rows])
        assert part.ids.tolist() == there.ids[rows].tolist() and part.meta == there.meta
