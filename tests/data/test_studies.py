import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from medret_nb.data.files import DataError
from medret_nb.data.studies import StudySet, choose_image
from medret_nb.data.overview import overview_text
from medret_nb.data.files import shipped_data
from medret_nb.data.splits import assign_splits


def collection(folder, films=6):
    """Six studies of three patients, films of different brightness in `folder`."""
    studies = pd.DataFrame(
        {
            "study_id": [f"s{i}" for i in range(6)],
            "patient_id": [f"p{i // 2}" for i in range(6)],
            "split": ["train"] * 4 + ["test"] * 2,
            "findings": ["Clear lungs.", "clear LUNGS", "", "Effusion.", "Clear lungs", "XXXX nodule"],
            "note": ["", "", "A note.", "", "x", ""],
            "labels": ["No Finding", "No Finding", "", "Pleural Effusion;Edema=-1", "No Finding", {"Lung Lesion": 1}],
        }
    )
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(films):
        Image.fromarray(np.full((30, 20), 40 + i * 20, np.uint8)).save(folder / f"{i}.png")
    images = pd.DataFrame(
        {
            "image_id": [f"i{i}" for i in range(films)],
            "study_id": [f"s{i % 5}" for i in range(films)],
            "path": [f"{i}.png" for i in range(films)],
            "view": ["PA"] * 5 + ["LATERAL"] * (films - 5),
        }
    )
    regions = pd.DataFrame(
        {"image_id": ["i0"], "region": ["heart"], "x0": [0.2], "y0": [0.2], "x1": [0.8], "y1": [0.8], "value": [1]}
    )
    return StudySet(studies, images, regions, {"name": "six", "restricted": True}, folder)


def test_a_set_saved_and_loaded_is_the_same(tmp_path):
    first = collection(tmp_path / "a")
    first.studies["ward"] = "7B"
    first.save(tmp_path / "a")
    again = StudySet.load(tmp_path / "a")
    for name in ("studies", "images", "regions"):
        pd.testing.assert_frame_equal(getattr(again, name), getattr(first, name), check_dtype=False)
    assert (
        again.hash() == first.hash()
        and again.info == first.info
        and again.studies["labels"][3] == {"Pleural Effusion": 1, "Edema": -1}
    )
    assert again.notes == ["studies: kept unknown column(s) ward", "1 studies have no image"]
    assert json.loads((tmp_path / "a" / "dataset.json").read_text())["restricted"] is True
    assert not [path for path in (tmp_path / "a").iterdir() if ".tmp" in path.name]


def test_paths_stay_true_when_the_set_is_saved_elsewhere_or_moved(tmp_path):
    first = collection(tmp_path / "a").save(tmp_path / "a")
    assert first.images["path"].tolist() == [f"{i}.png" for i in range(6)]
    (tmp_path / "a").rename(tmp_path / "b")
    moved = StudySet.load(tmp_path / "b")
    assert all(path.is_file() for path in moved.image_paths())
    elsewhere = moved.save(tmp_path / "c")
    assert elsewhere.images["path"].tolist() == [str((tmp_path / "b" / f"{i}.png").resolve()) for i in range(6)]
    assert StudySet.load(tmp_path / "c").hash() == first.hash()


def test_the_hash_sees_every_table(tmp_path):
    reference = collection(tmp_path).hash()
    for table, column, value in (("studies", "findings", "other"), ("images", "view", "AP"), ("regions", "x0", 0.3)):
        changed = collection(tmp_path)
        changed.__dict__[table].loc[0, column] = value
        assert changed.hash() != reference


def test_split_and_select_leave_out_rows_and_share_the_pixels(tmp_path):
    whole = collection(tmp_path)
    test = whole.split("test")
    assert (
        test.studies["study_id"].tolist() == ["s4", "s5"]
        and test.images["image_id"].tolist() == ["i4"]
        and len(test.regions) == 0
    )
    assert test.split("test").hash() == test.hash() and len(whole) == 6
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
    with pytest.raises(DataError, match="x"):
        StudySet.load(tmp_path / "x")


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
    expected = {
        study: min(rows.itertuples(), key=lambda row: (order.index(row.view), row.image_id)).image_id
        for study, rows in images.groupby("study_id", sort=False)
    }
    chosen = choose_image(images)
    assert dict(zip(chosen["study_id"], chosen["image_id"])) == expected and chosen["study_id"].tolist() == list(
        dict.fromkeys(images["study_id"])
    )
    assert len(choose_image(images.iloc[:0])) == 0


def test_the_overview_counts_what_a_person_counts(tmp_path):
    studies = collection(tmp_path, films=7)
    studies.image_paths()[1].unlink()
    (tmp_path / "2.png").write_bytes(b"broken")
    before = studies.overview()
    studies.pixels(16)
    facts = studies.overview()
    assert before["unreadable_images"] is None and facts["unreadable_images"] == 2 and facts["missing_images"] == 1
    assert (
        facts["studies"] == 6
        and facts["patients"] == 3
        and facts["splits"] == {"train": 4, "test": 2}
        and facts["views"] == {"PA": 5, "LATERAL": 2}
    )
    assert (
        facts["sections"] == {"indication": 0, "findings": 5, "impression": 0, "note": 2}
        and facts["studies_without_image"] == 1
    )
    assert facts["labels"]["No Finding"]["present"] == 3 and facts["labels"]["Edema"] == {
        "present": 0,
        "absent": 0,
        "uncertain": 1,
    }
    assert facts["duplicate_texts"] == 0.5 and facts["distinct_texts"] == 4 and facts["text_leakage"] == {"test": 0.5}
    text = overview_text(facts)
    assert "RESTRICTED" in text and "2 unreadable" in text and "50.0 %" in text and "\n\n" not in text
    figure = studies.overview_figure()
    assert len(figure.axes) == 4 and all(axis.get_xlabel() for axis in figure.axes)


def test_an_empty_set_has_an_overview(tmp_path):
    empty = StudySet(pd.DataFrame(columns=["study_id"]), pd.DataFrame(columns=["image_id", "study_id", "path"]))
    assert empty.overview()["studies"] == 0 and overview_text(empty.overview()) and empty.overview_figure()


def test_shipped_data_names_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="no-such-thing"):
        shipped_data("no-such-thing")


def test_real_films_make_a_set_whose_groups_join_patients(shared_data, tmp_path):
    folder = shared_data / "cxr-notes"
    tables = [pd.read_csv(folder / f"{name}.csv", dtype=str) for name in ("studies", "images", "regions")]
    real = StudySet(*tables, {"name": "cxr-notes"}, folder)
    real.studies["split"] = assign_splits(real.studies)
    real.save(tmp_path)
    facts = StudySet.load(tmp_path).overview()
    assert (facts["studies"], facts["patients"], facts["images"], facts["regions"]) == (462, 303, 502, 484)
    assert facts["groups"] < facts["patients"] and facts["missing_images"] == 0 and facts["sections"]["note"] == 150
    pixels = StudySet.load(tmp_path).pixels(64)
    assert len(pixels) == 502 and not pixels.unreadable and pixels.array.std((1, 2)).min() > 5
