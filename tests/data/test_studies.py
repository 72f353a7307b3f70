"Studies: what is saved comes back, parts share the pixels of the whole, and one film is chosen by rule."

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from six_studies import collection

from medret_nb.data.files import DataError
from medret_nb.data.studies import StudySet, choose_image


def test_a_set_saved_and_loaded_is_the_same(tmp_path):
    first = collection(tmp_path / "a")
    first.studies["ward"] = "7B"
    first.save(tmp_path / "a")
    again = StudySet.load(tmp_path / "a")
    for name in ("studies", "images", "regions"):
        pd.testing.assert_frame_equal(getattr(again, name), getattr(first, name), check_dtype=False)
    assert again.hash() == first.hash()
    assert again.info == first.info
    assert again.studies["labels"][3] == {"Pleural Effusion": 1, "Edema": -1}
    assert again.notes == ["studies: kept unknown column(s) ward", "1 studies have no image"]
    assert json.loads((tmp_path / "a" / "dataset.json").read_text())["restricted"] is True
    assert not [path for path in (tmp_path / "a").iterdir() if ".tmp" in path.name]


def test_two_tables_that_pandas_wrote_are_a_study_set(tmp_path):
    pd.DataFrame({"study_id": ["s1"], "findings": ["Clear lungs."]}).to_parquet(tmp_path / "studies.parquet")
    pd.DataFrame({"image_id": [], "study_id": [], "path": []}).to_parquet(tmp_path / "images.parquet")
    least = StudySet.load(tmp_path)
    assert len(least) == 1 and least.notes[0] == "1 studies have no image"
    assert least.restricted and "counts as restricted" in least.notes[1]


def test_paths_stay_true_when_the_set_is_saved_elsewhere_or_moved(tmp_path):
    first = collection(tmp_path / "a").save(tmp_path / "a")
    assert first.images["path"].tolist() == [f"{i}.png" for i in range(6)]
    reference = first.hash()
    (tmp_path / "a").rename(tmp_path / "b")
    moved = StudySet.load(tmp_path / "b")
    assert all(path.is_file() for path in moved.image_paths())
    elsewhere = moved.save(tmp_path / "c")
    assert elsewhere.images["path"].tolist() == [str((tmp_path / "b" / f"{i}.png").resolve()) for i in range(6)]
    assert StudySet.load(tmp_path / "c").hash() == reference


def test_the_hash_sees_every_table(tmp_path):
    reference = collection(tmp_path).hash()
    for table, column, value in (("studies", "findings", "other"), ("images", "view", "AP"), ("regions", "x0", 0.3)):
        changed = collection(tmp_path)
        changed.__dict__[table].loc[0, column] = value
        assert changed.hash() != reference


def test_the_hash_sees_a_film_that_changed(tmp_path):
    reference = collection(tmp_path).save(tmp_path).hash()
    assert StudySet.load(tmp_path).hash() == reference
    path = StudySet.load(tmp_path).image_paths()[2]
    with Image.open(path) as film:
        grey = np.array(film)
    Image.fromarray(grey).save(path, compress_level=0)
    assert StudySet.load(tmp_path).hash() == reference, "other bytes, the same film"
    grey[0, 0] ^= 1
    Image.fromarray(grey).save(path)
    assert StudySet.load(tmp_path).hash() != reference


def test_the_hash_is_computed_once_for_each_content(tmp_path, monkeypatch):
    studies = collection(tmp_path)
    reference = studies.hash()
    asked = []
    for name, remembered in studies._hashes.items():
        monkeypatch.setattr(remembered, "compute", lambda table, name=name: asked.append(name) or name)
    assert studies.hash() == reference and not asked
    studies.studies.loc[0, "findings"] = "other"
    assert studies.hash() != reference and asked == ["studies"]


def test_split_and_select_leave_out_rows_and_share_the_pixels(tmp_path):
    whole = collection(tmp_path)
    test = whole.split("test")
    assert test.studies["study_id"].tolist() == ["s4", "s5"]
    assert test.images["image_id"].tolist() == ["i4"]
    assert len(test.regions) == 0
    assert test.split("test").hash() == test.hash()
    assert isinstance(test, StudySet)
    assert len(whole) == 6
    assert (test.pixels(16).take(["i4"]) == whole.pixels(16).take(["i4"])).all()
    assert len(list(tmp_path.glob("pixels-*.npy"))) == 1 and len(test.pixels(16)) == 6
    with pytest.raises(DataError, match="splits that have some: train, test"):
        whole.split("val")
    with pytest.raises(DataError, match="no such study: s99"):
        whole.select(["s1", "s99"])


def test_saving_checks_the_splits_once_more(tmp_path):
    studies = collection(tmp_path)
    studies.studies["split"] = ["train", "test"] * 3
    with pytest.raises(DataError, match="in two splits"):
        studies.save(tmp_path)
    assert not (tmp_path / "studies.parquet").exists()


@pytest.mark.parametrize("damage", ["none", "empty", "cut"])
def test_a_folder_that_is_no_study_set_is_named(tmp_path, damage):
    if damage != "none":
        collection(tmp_path / "x").save(tmp_path / "x")
        file = tmp_path / "x" / "images.parquet"
        file.write_bytes(b"" if damage == "empty" else file.read_bytes()[:100])
    assert StudySet.there(tmp_path / "x") == (damage != "none")
    with pytest.raises(DataError, match="x"):
        StudySet.load(tmp_path / "x")


def test_info_must_be_a_dict():
    tables = (pd.DataFrame({"study_id": ["s"]}), pd.DataFrame(columns=["image_id", "study_id", "path"]))
    with pytest.raises(DataError, match="info: must be names and values, not a list"):
        StudySet(*tables, info=[1])
    with pytest.raises(DataError, match=r"here/dataset.json: must be names and values, not "):
        StudySet(*tables, info="x", folder="here")


def test_one_image_is_chosen_by_view_then_by_name():
    rng = np.random.default_rng(1)
    images = pd.DataFrame(
        {
            "image_id": [f"i{i:03d}" for i in rng.permutation(200)],
            "study_id": [f"s{i}" for i in rng.integers(0, 60, 200)],
            "view": rng.choice(["UNKNOWN", "LATERAL", "FRONTAL", "AP", "PA"], 200),
        }
    )
    order = ("PA", "AP", "FRONTAL", "LATERAL", "UNKNOWN")
    expected = {}
    for study, rows in images.groupby("study_id", sort=False):
        best = min(rows.itertuples(), key=lambda row: (order.index(row.view), row.image_id))
        expected[study] = best.image_id
    chosen = choose_image(images)
    assert dict(zip(chosen["study_id"], chosen["image_id"])) == expected
    assert chosen["study_id"].tolist() == list(dict.fromkeys(images["study_id"]))
    assert len(choose_image(images.iloc[:0])) == 0
