"Embeddings: nothing is lost on the way to the disk and back, bad points are named by row, and `embed` does what one film at a time would."

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medret_nb.data.files import DataError
from medret_nb.data.images import letterbox, read_image
from medret_nb.data.reports import section_text
from medret_nb.data.studies import choose_image
from medret_nb.retrieval import embeddings as E
from medret_nb.retrieval.points import Embeddings
from medret_nb.retrieval.embeddings import embed, embed_films, embed_texts


class Toy(torch.nn.Module):
    "A method with random linear maps, dropout and logvar; it counts the films and texts that it is given."

    similarity, name = "csd", "toy"

    def __init__(self, dim=6, seed=0, size=16):
        super().__init__()
        self.config = SimpleNamespace(size=size, policy="both", data="somewhere")
        generator = torch.Generator().manual_seed(seed)
        self.film = torch.nn.Parameter(torch.randn(size * size, dim, generator=generator) / size)
        self.word = torch.nn.Parameter(torch.randn(101, dim, generator=generator))
        self.dropout, self.logit_scale, self.shift, self.films, self.texts = (
            torch.nn.Dropout(0.5),
            torch.tensor(5.0),
            None,
            0,
            0,
        )

    def prepare_pixels(self, pixels):
        return torch.as_tensor(pixels).float()[:, None] / 255

    def prepare_text(self, texts):
        self.texts += len(texts)
        rows = [[sum(map(ord, w)) % 101 for w in t.split()][:40] for t in texts]
        tokens = torch.zeros(len(rows), 40, dtype=torch.long)
        for i, row in enumerate(rows):
            tokens[i, : len(row)] = torch.tensor(row, dtype=torch.long)
        return tokens, torch.arange(40) < torch.tensor([[len(r)] for r in rows])

    def encode_image(self, pixels, boxes=None):
        self.films += len(pixels)
        mu = self.dropout(pixels.flatten(1)) @ self.film
        return SimpleNamespace(mu=mu, logvar=-mu.abs())

    def encode_text(self, tokens, mask):
        mu = (self.word[tokens] * mask[..., None]).sum(1)
        return SimpleNamespace(mu=mu, logvar=-mu.abs())


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
        "similarity": data.draw(st.sampled_from(E.SIMILARITIES)),
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


def test_embed_equals_one_at_a_time(small_phantom):
    method = Toy().train()
    found = embed(method, small_phantom, "test", batch=5, progress=False)
    assert method.training  # the mode is restored
    method.eval()
    part = small_phantom.split("test")
    texts = dict(zip(part.studies.study_id, section_text(part, "both")))
    films, reports = found["image"], found["text"]
    chosen = choose_image(part.images).set_index("study_id")
    assert (
        films.study_ids.tolist() == reports.study_ids.tolist() == reports.ids.tolist() == part.studies.study_id.tolist()
    )
    paths = dict(zip(small_phantom.images.image_id, small_phantom.image_paths()))
    with torch.no_grad():
        for i, study in enumerate(films.study_ids):
            assert films.ids[i] == chosen.image_id[study]
            pixels = letterbox(read_image(paths[films.ids[i]]), 16)[0]
            np.testing.assert_allclose(
                films.mu[i], method.encode_image(method.prepare_pixels(pixels[None])).mu[0], rtol=1e-5, atol=1e-5
            )
            out = method.encode_text(*method.prepare_text([texts[study]]))
            np.testing.assert_allclose(reports.mu[i], out.mu[0], rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(reports.logvar[i], out.logvar[0], rtol=1e-5, atol=1e-5)
    assert {k: films.meta[k] for k in ("similarity", "logit_scale", "modality", "split", "policy", "method")} == {
        "similarity": "csd",
        "logit_scale": 5.0,
        "modality": "image",
        "split": "test",
        "policy": "both",
        "method": "toy",
    }
    assert "shift" not in films.meta and films.meta["fingerprint"] != reports.meta["fingerprint"]


def test_identical_texts_have_identical_points():
    texts = [f"finding {i % 7} of the chest" for i in range(50)]
    there = embed_texts(Toy(), texts, batch=3)
    for i, text in enumerate(texts):
        assert there.mu[i].tobytes() == there.mu[texts.index(text)].tobytes()
    assert there.ids[0] == "text 1"


def test_left_out_studies_are_counted(small_phantom, tmp_path, capsys):
    studies = small_phantom.select(small_phantom.studies.study_id[:8])
    names = studies.studies.study_id.tolist()
    for column in ("findings", "impression", "note"):
        studies.studies.loc[2, column] = ""
    studies.images = studies.images[studies.images.study_id != names[4]].reset_index(drop=True)
    found = embed(Toy(), studies, None, progress=False)
    assert (
        found["image"].study_ids.tolist()
        == found["text"].study_ids.tolist()
        == [n for i, n in enumerate(names) if i not in (2, 4)]
    )
    assert "2 of 8 studies are left out: 1 without a readable image, 1 without a text" in capsys.readouterr().out
    embed(Toy(), studies, None, progress=False, tell=False)
    assert not capsys.readouterr().out
    assert found["text"].meta["split"] == "all"
    studies.images = studies.images.iloc[:0]
    with pytest.raises(DataError, match="nothing to embed"):
        embed(Toy(), studies, None, progress=False)


def test_every_image(small_phantom):
    found = embed(Toy(), small_phantom, "val", every_image=True, progress=False)
    part = small_phantom.split("val")
    assert sorted(found["image"].ids) == sorted(part.images.image_id) and len(found["text"]) == len(part)


def test_work_on_the_disk_is_not_repeated_and_a_changed_model_is(small_phantom, tmp_path):
    first = Toy()
    a = embed(first, small_phantom, "test", out=tmp_path, progress=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["test-image.parquet", "test-text.parquet"]
    second = Toy()
    second.config.data = "elsewhere"
    b = embed(second, small_phantom, "test", out=tmp_path, progress=False)
    assert second.films == second.texts == 0 and all((a[m].mu == b[m].mu).all() and a[m].meta == b[m].meta for m in a)
    (tmp_path / "test-text.parquet").write_bytes(b"cut off")  # as after a crash of another program
    embed(second, small_phantom, "test", out=tmp_path, progress=False)
    assert second.films == 0 and second.texts > 0
    third = Toy()
    with torch.no_grad():
        third.film[0, 0] += 1e-6
    embed(third, small_phantom, "test", out=tmp_path, progress=False)
    assert third.films == len(a["image"])
    fourth = Toy()
    embed(fourth, small_phantom, "test", out=tmp_path, progress=False, every_image=True)
    assert fourth.films > 0


def test_method_hash_sees_every_weight():
    base = E.method_hash(Toy())
    assert base == E.method_hash(Toy()) != E.method_hash(Toy(seed=1))
    half = Toy().to(torch.bfloat16)
    assert E.method_hash(half) != base
    scalar = Toy()
    scalar.register_buffer("temperature", torch.tensor(1.0))
    assert E.method_hash(scalar) != base


def test_nan_of_a_method_is_named(small_phantom):
    method = Toy()
    with torch.no_grad():
        method.film.fill_(float("nan"))
    with pytest.raises(DataError, match="mu holds NaN"):
        embed(method, small_phantom, "test", progress=False)


def test_bad_split_batch_and_text(small_phantom):
    with pytest.raises(DataError, match="nosuch"):
        embed(Toy(), small_phantom, "nosuch")
    with pytest.raises(ValueError, match="batch"):
        embed(Toy(), small_phantom, "test", batch=0)
    for texts in ([], ["fine", " .. "]):
        with pytest.raises(DataError, match="texts"):
            embed_texts(Toy(), texts)
    with pytest.raises(DataError, match="films"):
        embed_films(Toy(), [])


def test_new_films_by_path_and_by_array(small_phantom, tmp_path):
    method = Toy()
    paths = small_phantom.image_paths()[:3]
    by_path, by_array = (
        embed_films(method, paths, batch=2),
        embed_films(method, [read_image(p) for p in paths], ids=list("abc")),
    )
    np.testing.assert_allclose(by_path.mu, by_array.mu, rtol=1e-5, atol=1e-5)
    assert by_path.ids[0] == str(paths[0]) and by_array.ids.tolist() == ["a", "b", "c"]
    (tmp_path / "broken.png").write_bytes(b"no film")
    with pytest.raises(DataError, match="broken.png"):
        embed_films(method, [tmp_path / "broken.png"])


def test_half_precision_methods_give_float32():
    class Half(Toy):
        def encode_text(self, tokens, mask):
            out = super().encode_text(tokens, mask)
            return SimpleNamespace(mu=out.mu.bfloat16(), logvar=None)

    there = embed_texts(Half(), ["a text", "b text"])
    assert there.mu.dtype == np.float32 and there.logvar is None
