"Local features: they come back as they were, mapped, or not at all."

import json
import os
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medret_nb.data.boxes import RegionTable
from medret_nb.data.files import DataError, file_checksum, write_together
from medret_nb.retrieval.embeddings import embed, embed_films, embed_texts
from medret_nb.retrieval.local import array_file, check_local, local_record, read_local
from medret_nb.retrieval.points import Embeddings
from medret_nb.retrieval.search import Index, build_index

NAMES = ("right lung", "left lung", "cardiac silhouette")


class Regional(torch.nn.Module):
    "A method whose region vectors are the boxes that it was given (and -1 where there is none)."

    similarity, name, regions, stored = "cosine", "regional", NAMES, ("regions", "regions_mask")

    def __init__(self, seed=0):
        super().__init__()
        self.config = SimpleNamespace(size=16, inference_policy="both", data="")
        self.weight = torch.nn.Parameter(torch.randn(256, 5, generator=torch.Generator().manual_seed(seed)))
        self.films = 0

    def prepare_pixels(self, pixels):
        return torch.as_tensor(pixels).float()[:, None] / 255

    def prepare_text(self, texts):
        return torch.tensor([[float(len(t)), 1.0, 2.0] for t in texts]), torch.ones(len(texts), 3, dtype=torch.bool)

    def encode_image(self, pixels, boxes=None):
        self.films += len(pixels)
        if boxes is None:
            boxes = torch.full((len(pixels), len(NAMES), 4), float("nan"))
        local = {"regions": boxes.nan_to_num(-1.0), "regions_mask": ~boxes.isnan().any(-1), "patches": pixels[:, 0]}
        return SimpleNamespace(mu=pixels.flatten(1) @ self.weight, logvar=None, local=local)

    def encode_text(self, tokens, mask):
        return SimpleNamespace(
            mu=torch.cat([tokens, tokens[:, :2]], 1), logvar=None, local={"regions": tokens[:, None].bfloat16()}
        )


def points(n=3, **local):
    ids = [f"i{k}" for k in range(n)]
    return Embeddings(ids, ids, np.eye(n, 4) + 1, meta={"similarity": "cosine"}, local=local)


@settings(max_examples=25, deadline=None)
@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=4, max_side=4),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
    ),
    st.data(),
)
def test_round_trip_through_a_file(tmp_path_factory, values, data):
    mask = data.draw(hnp.arrays(bool, values.shape[:2]))
    path = tmp_path_factory.mktemp("l") / "val-image.parquet"
    points(len(values), regions=values, regions_mask=mask).save(path)
    back = Embeddings.load(path)
    assert set(back.local) == {"regions", "regions_mask"} and "local" not in back.meta
    for key, was in (("regions", values), ("regions_mask", mask)):
        now = back.local[key]
        assert isinstance(now, np.memmap) and now.dtype == was.dtype and not now.flags.writeable
        assert now.tobytes() == was.tobytes()
    assert sorted(p.name for p in path.parent.iterdir()) == [
        "val-image-regions.npy",
        "val-image-regions_mask.npy",
        "val-image.parquet",
    ]


def test_select_and_without(tmp_path):
    there = points(5, regions=np.arange(40).reshape(5, 4, 2).astype(np.float64), seen=np.eye(5, dtype=bool))
    assert there.local["regions"].dtype == np.float32
    loaded = Embeddings.load(there.save(tmp_path / "a.parquet"))
    for rows in ([3, 1], slice(1, 4), np.arange(5) == 2):
        for side in (there, loaded):
            part = side.select(rows)
            for key in there.local:
                np.testing.assert_array_equal(part.local[key], there.local[key][rows])
    assert isinstance(loaded.select(slice(1, 4)).local["regions"], np.memmap)  # a slice is not read
    assert not loaded.without_local().local and loaded.local and (loaded.without_local().mu == there.mu).all()


def test_saving_what_is_mapped_from_the_same_file(tmp_path):
    path = points(regions=np.ones((3, 2, 2))).save(tmp_path / "a.parquet")
    loaded = Embeddings.load(path)
    loaded.save(path)
    np.testing.assert_array_equal(Embeddings.load(path).local["regions"], 1)


@pytest.mark.parametrize(
    "local,message",
    [
        ({"regions": np.full((3, 2), np.nan)}, r"regions holds NaN or infinite numbers in row 0 \(id i0\) and 2 more"),
        ({"regions": np.array([[0.0], [np.inf], [0.0]])}, r"row 1 \(id i1\)"),
        ({"regions": np.full((3, 1), 1e300)}, "infinite"),
        ({"regions": np.zeros((2, 4))}, r"must be \(3, ...\), one for each id, got \(2, 4\)"),
        ({"regions": np.zeros(3)}, "must be"),
        ({"words": np.array([["a"], ["b"], ["c"]])}, "must be numbers"),
        ({"words": np.zeros((3, 1), dtype=object)}, "must be numbers"),
        ({"../regions": np.zeros((3, 1))}, "cannot be called"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_bad_arrays_are_refused(local, message):
    with pytest.raises(DataError, match=message):
        points(**local)


def damage(path, how):
    "Do to the array of `path` what a crash, a copy or a mistake does."
    array = array_file(path, "regions")
    if how == "missing":
        array.unlink()
    elif how == "cut off":
        array.write_bytes(array.read_bytes()[:-3])
    elif how == "empty":
        array.write_bytes(b"")
    elif how == "no array":
        array.write_bytes(b"something else")
    elif how == "one bit":
        raw = bytearray(array.read_bytes())
        raw[-1] ^= 1
        array.write_bytes(raw)
    elif how == "pickle":
        np.save(array, np.array([{"run": "me"}] * 3, dtype=object), allow_pickle=True)
    elif how == "other shape":
        np.save(array, np.ones((3, 4), np.float32))
    elif how == "other rows":
        np.save(array, np.ones((2, 2, 2), np.float32))
    elif how == "another model's":
        np.save(array, np.zeros((3, 2, 2), np.float32))


DAMAGES = (
    "missing",
    "cut off",
    "empty",
    "no array",
    "one bit",
    "pickle",
    "other shape",
    "other rows",
    "another model's",
)


@pytest.mark.parametrize("how", DAMAGES)
def test_damage_is_one_line_that_names_the_file(tmp_path, how):
    path = points(regions=np.ones((3, 2, 2))).save(tmp_path / "a.parquet")
    damage(path, how)
    with pytest.raises(DataError, match="a-regions.npy: ") as caught:
        Embeddings.load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("record", ["[1]", "{", '{"../x": {"hash": ""}}', '{"regions": 3}', "null"])
def test_a_record_that_makes_no_sense(tmp_path, record):
    table = pq.read_table(points().save(tmp_path / "a.parquet"))
    pq.write_table(table.replace_schema_metadata({"similarity": "cosine", "local": record}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="a.parquet"):
        Embeddings.load(tmp_path / "a.parquet")


def test_a_record_for_another_number_of_rows(tmp_path):
    local = {"regions": np.ones((4, 2), np.float32)}
    write_together(tmp_path, {"a-regions.npy": local["regions"]})
    record = local_record(local)
    with pytest.raises(DataError, match="a.parquet has 3 rows"):
        read_local(record, tmp_path / "a.parquet", 3)


@pytest.mark.parametrize("values", [np.zeros((3, 0), "f4"), np.eye(3, dtype=bool), np.ones((3, 4), "f4", order="F")])
def test_the_record_holds_the_checksum_of_the_file_that_is_written(tmp_path, values):
    write_together(tmp_path, {"a-regions.npy": values})
    assert local_record({"regions": values})["regions"]["hash"] == file_checksum(tmp_path / "a-regions.npy")


def test_embed_gives_boxes_and_keeps_what_is_stored(small_phantom, tmp_path):
    found = embed(Regional(), small_phantom, "test", batch=4, progress=False, out=tmp_path)
    films, texts = found["image"], found["text"]
    part, pixels = small_phantom.split("test"), small_phantom.pixels(16)
    boxes, known, _ = RegionTable(part, list(NAMES)).take(
        list(films.ids), pixels.boxes[[pixels.rows[i] for i in films.ids]]
    )
    assert set(films.local) == {"regions", "regions_mask"} and known.any()
    np.testing.assert_array_equal(films.local["regions_mask"], known)
    np.testing.assert_array_equal(films.local["regions"], np.where(known[..., None], boxes, -1))
    assert (
        set(texts.local) == {"regions"}
        and texts.local["regions"].dtype == np.float32
        and texts.local["regions"].shape == (len(texts), 1, 3)
    )
    again = embed(Regional(), small_phantom, "test", out=tmp_path, progress=False)["image"]
    assert isinstance(again.local["regions"], np.memmap) and (again.local["regions"] == films.local["regions"]).all()


@pytest.mark.parametrize("how", DAMAGES)
def test_embed_makes_damaged_arrays_again(small_phantom, tmp_path, how):
    method = Regional()
    good = embed(method, small_phantom, "val", out=tmp_path, progress=False)["image"]
    method.films = 0
    damage(tmp_path / "val-image.parquet", how)
    again = embed(method, small_phantom, "val", out=tmp_path, progress=False)["image"]
    assert method.films == len(good) and (again.local["regions"] == good.local["regions"]).all()
    assert (Embeddings.load(tmp_path / "val-image.parquet").local["regions"] == good.local["regions"]).all()


def test_old_arrays_are_never_taken_for_new_ones(small_phantom, tmp_path, monkeypatch):
    "Stopped between the arrays and the table: whoever reads next finds table and arrays of the new model, never a mix."
    embed(Regional(), small_phantom, "val", out=tmp_path, progress=False)
    other = Regional(seed=1)
    with monkeypatch.context() as patch:
        rename, names = os.replace, []

        def stopped(temporary, name):
            names.append(str(name))
            if name == tmp_path / "val-image.parquet":
                raise KeyboardInterrupt
            rename(temporary, name)

        patch.setattr(os, "replace", stopped)
        with pytest.raises(KeyboardInterrupt):
            embed(other, small_phantom, "val", out=tmp_path, progress=False)
    assert any(name.endswith("regions.npy") for name in names)
    there = Embeddings.load(tmp_path / "val-image.parquet")
    again = Regional(seed=1)
    found = embed(again, small_phantom, "val", out=tmp_path, progress=False)["image"]
    assert again.films == 0 and (found.mu == there.mu).all()
    first = Regional()
    embed(first, small_phantom, "val", out=tmp_path, progress=False)
    third = Regional()
    embed(third, small_phantom, "val", out=tmp_path, progress=False)
    assert third.films == 0
    fewer = Regional()
    fewer.stored = ("regions",)  # another list is another file
    assert (
        set(embed(fewer, small_phantom, "val", out=tmp_path, progress=False)["image"].local) == {"regions"}
        and fewer.films > 0
    )


def test_shapes_that_change_between_batches_are_refused():
    class Ragged(Regional):
        def encode_text(self, tokens, mask):
            return SimpleNamespace(mu=tokens, logvar=None, local={"regions": torch.ones(len(tokens), len(tokens), 2)})

    with pytest.raises(DataError, match="regions: the method gives"):
        embed_texts(Ragged(), ["a", "bb", "ccc"], batch=2)


def test_a_method_that_stores_nothing_writes_no_array(small_phantom, tmp_path):
    plain = Regional()
    plain.stored, plain.regions = (), ()
    assert not embed(plain, small_phantom, "val", out=tmp_path, progress=False)["image"].local
    assert sorted(p.name for p in tmp_path.iterdir()) == ["val-image.parquet", "val-text.parquet"]


def test_new_films_bring_theirs():
    film = np.zeros((20, 30), np.uint8)
    there = embed_films(Regional(), [film, film])
    assert there.local["regions"].shape == (2, 3, 4) and not there.local["regions_mask"].any()
    boxes = np.full((2, 3, 4), np.nan)
    boxes[1, 2] = 0.1, 0.2, 0.6, 0.7
    given = embed_films(Regional(), [film, film], batch=1, boxes=boxes)
    assert np.argwhere(given.local["regions_mask"]).tolist() == [[1, 2]]
    with pytest.raises(DataError, match=r"boxes: must be \(2, 3, 4\)"):
        embed_films(Regional(), [film, film], boxes=boxes[:1])


def test_an_index_keeps_them(tmp_path):
    gallery = points(regions=np.arange(12).reshape(3, 2, 2).astype(np.float32))
    index = build_index(gallery)
    index.save(tmp_path)
    assert (Index.load(tmp_path).gallery.local["regions"] == gallery.local["regions"]).all()
    np.save(tmp_path / "gallery-regions.npy", np.zeros((3, 2, 2), np.float32))
    with pytest.raises(DataError, match="gallery-regions.npy"):
        Index.load(tmp_path)


def test_json_record_is_small(tmp_path):
    path = points(regions=np.ones((3, 2, 2))).save(tmp_path / "a.parquet")
    record = json.loads(pq.read_schema(path).metadata[b"local"])
    assert (
        record["regions"]["shape"] == [3, 2, 2]
        and record["regions"]["dtype"] == "float32"
        and len(record["regions"]["hash"]) == 32
    )
    assert check_local({}, np.array([]), "x") == {}
