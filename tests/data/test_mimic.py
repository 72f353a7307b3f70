"""The reader of MIMIC-CXR on small invented trees: no text, film or number here comes from the collection."""

import gzip
import shutil

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from invented import mimic_labels, mimic_reports_zip, mimic_tree

from medret_nb.data.files import DataError
from medret_nb.data.mimic import (
    choose_patients,
    film_root,
    from_mimic,
    place_films,
    read_labels,
    read_metadata,
    read_splits,
)
from medret_nb.data.studies import StudySet


@pytest.fixture
def tree(tmp_path):
    root = mimic_tree(tmp_path / "mimic")
    mimic_reports_zip(root / "mimic-cxr-reports.zip")
    return root


def refusal(action, *arguments, **options):
    with pytest.raises(DataError) as caught:
        action(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_made_tree_is_read_into_the_expected_tables(tree, tmp_path, capsys):
    made = from_mimic(tree, tmp_path / "out")
    again = StudySet.load(tmp_path / "out")
    assert again.hash() == made.hash() and all(path.is_file() for path in again.image_paths())
    s = again.studies
    assert s["study_id"].tolist() == ["s50000001", "s50000002", "s50000003", "s50000004"]
    assert s["patient_id"].tolist() == ["p10000001", "p10000001", "p11000002", "p19000003"] and s["split"].tolist() == [
        "train",
        "train",
        "val",
        "test",
    ]
    assert s["findings"].tolist() == ["Small left effusion.", "", "", ""] and s["impression"].tolist() == [
        "Effusion.",
        "No fluid.",
        "",
        "",
    ]
    assert (
        s["note"].tolist() == ["", "", "The heart is large.", ""]
        and s["indication"][0] == "Cough."
        and s["comparison"][2] == "___."
    )
    assert s["preliminary"][1] == "Perhaps fluid."
    assert s["labels"].tolist() == [
        {"Pleural Effusion": 1, "Edema": -1},
        {"Pleural Effusion": 0},
        {"Cardiomegaly": 1},
        {},
    ]
    i = again.images.set_index("image_id")
    assert i["view"].to_dict() == {
        "aa-1": "PA",
        "aa-2": "LATERAL",
        "bb-1": "AP",
        "cc-1": "AP",
        "cc-2": "UNKNOWN",
        "dd-1": "LATERAL",
    }
    assert i["view_raw"].to_dict() == {
        "aa-1": "PA",
        "aa-2": "LL",
        "bb-1": "antero-posterior",
        "cc-1": "AP",
        "cc-2": "SWIMMERS",
        "dd-1": "LATERAL",
    }
    assert i["height"].eq(60).all() and i["width"].eq(40).all() and i["study_id"]["cc-2"] == "s50000003"
    assert again.image_paths()[0] == (tree / "files/p10/p10000001/s50000001/aa-1.jpg").resolve()
    printed = capsys.readouterr().out
    assert (
        "1 of 4 studies have no report: s50000004" in printed
        and "only a note: s50000003" in printed
        and "no labels of chexpert: s50000004" in printed
    )


def test_the_set_is_restricted_and_stays_so(tree, tmp_path):
    made = from_mimic(tree, tmp_path / "out", quiet=True)
    for part in (made, made.split("train"), made.select(["s50000001"]), StudySet.load(tmp_path / "out")):
        assert part.restricted is True
    assert "PhysioNet" in made.info["licence"] and (made.studies["licence"] == made.info["licence"]).all()


def test_without_reports_labels_or_splits_it_says_so(tree, capsys):
    for name in ("mimic-cxr-reports.zip", "mimic-cxr-2.0.0-chexpert.csv.gz", "mimic-cxr-2.0.0-split.csv.gz"):
        (tree / name).unlink()
    made = from_mimic(tree)
    printed = capsys.readouterr().out
    assert "no reports were found" in printed and "no table of labels" in printed and "NOT the official ones" in printed
    assert (made.studies["labels"] == {}).all() and (made.studies.groupby("patient_id")["split"].nunique() == 1).all()


def test_the_labeller_is_chosen(tree):
    mimic_labels().assign(Edema="0.0").to_csv(tree / "mimic-cxr-2.0.0-negbio.csv", index=False)
    assert from_mimic(tree, labeller="negbio", quiet=True).studies["labels"][0]["Edema"] == 0
    assert from_mimic(tree, labeller="none", quiet=True).studies["labels"].tolist() == [{}] * 4
    with pytest.raises(ValueError, match="labeller: 'ann'"):
        from_mimic(tree, labeller="ann")


def test_the_newer_table_is_read(tree):
    mimic_labels().assign(Edema="1").to_csv(tree / "mimic-cxr-2.1.0-chexpert.csv", index=False)
    assert from_mimic(tree, quiet=True).studies["labels"][1] == {"Pleural Effusion": 0, "Edema": 1}


def test_views_and_films_that_are_there(tree, capsys):
    made = from_mimic(tree, views=("PA", "AP"))
    assert set(made.images["image_id"]) == {"aa-1", "bb-1", "cc-1"} and len(made) == 3
    assert "3 of 4 studies chosen" in capsys.readouterr().out
    shutil.rmtree(tree / "files/p11")
    (tree / "files/p10/p10000001/s50000001/aa-2.jpg").unlink()
    kept = from_mimic(tree)
    assert (
        len(kept.images) == 6
        and kept.overview()["missing_images"] == 3
        and "3 of 6 films are not there, e.g." in capsys.readouterr().out
    )
    there = from_mimic(tree, check="drop")
    assert (
        set(there.images["image_id"]) == {"aa-1", "bb-1", "dd-1"}
        and len(there) == 3
        and there.overview()["missing_images"] == 0
    )
    assert "not there and left out" in capsys.readouterr().out
    shutil.rmtree(tree / "files")
    assert "none of the 6 films is there" in refusal(from_mimic, tree)
    assert len(from_mimic(tree, check="none").images) == 6 and "not checked" in capsys.readouterr().out


def test_patients_by_folder_and_number(tree):
    assert set(from_mimic(tree, folders=("p10",), quiet=True).studies["patient_id"]) == {"p10000001"}
    assert set(from_mimic(tree, folders=("p11", "p19000003"), quiet=True).studies["patient_id"]) == {
        "p11000002",
        "p19000003",
    }
    assert "'p12'" in refusal(from_mimic, tree, folders=("p12",))
    assert set(from_mimic(tree, patients=1, quiet=True).studies["split"]) == {"train", "val", "test"}  # one of each


@given(count=st.integers(1, 300), seed=st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_a_part_of_the_patients_is_whole_repeats_and_has_every_split(count, seed):
    people = np.repeat([f"p{k}" for k in range(10_000, 10_200)], 2)
    split = pd.Series(np.where(people < "p10160", "train", np.where(people < "p10180", "val", "test")))
    films = pd.DataFrame({"patient_id": people})
    keep = choose_patients(films, split, count=count, seed=seed)
    assert (keep == choose_patients(films, split, count=count, seed=seed)).all()
    assert keep.groupby(people).nunique().eq(1).all() and set(split[keep]) == {"train", "val", "test"}
    assert abs(films["patient_id"][keep].nunique() - min(count, 200)) <= 3


def test_other_sizes_of_the_films_lie_in_another_folder(tree, tmp_path):
    small = mimic_tree(tmp_path / "small", suffix=".png")
    shutil.rmtree(tree / "files")
    for folder in (small, small / "files"):
        made = from_mimic(tree, images=folder, quiet=True)
        assert (
            made.image_paths()[0].suffix == ".png"
            and made.image_paths()[0].is_relative_to(small)
            and made.images["height"][0] == 60
        )
    assert film_root(tmp_path / "empty") == (tmp_path / "empty", ".jpg")


def spoil(tree, name, change):
    path = tree / f"mimic-cxr-2.0.0-{name}.csv.gz"
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    change(table).to_csv(path, index=False)


@pytest.mark.parametrize(
    "name, change, words",
    [
        ("metadata", lambda t: t.drop(columns="ViewPosition"), "column ViewPosition is missing"),
        ("metadata", lambda t: t[:0], "no film below the heading"),
        ("metadata", lambda t: pd.concat([t, t[:1]]), "row 8: dicom_id aa-1 stands there twice"),
        ("metadata", lambda t: t.assign(study_id=["x"] * 6), "row 2: study_id is 'x'"),
        ("metadata", lambda t: t.assign(dicom_id=["../../etc", *t["dicom_id"][1:]]), "row 2: dicom_id is '../../etc'"),
        (
            "metadata",
            lambda t: t.assign(study_id=[t["study_id"][3], *t["study_id"][1:]]),
            "has films of several patients",
        ),
        ("metadata", lambda t: t.assign(dicom_id=["x" * 300, *t["dicom_id"][1:]]), "row 2: dicom_id is"),
        ("metadata", lambda t: t.assign(Rows="9" * 40), "row 2: Rows is"),
        ("metadata", lambda t: t.assign(Rows="tall"), "row 2: Rows is 'tall'"),
        ("split", lambda t: t.assign(split="training"), "row 2: split is 'training'"),
        ("split", lambda t: pd.concat([t, t[:1]]), "row 8: dicom_id"),
        ("split", lambda t: t.drop(columns="split"), "column split is missing"),
        (
            "split",
            lambda t: t.assign(split=["train", "test", *t["split"][2:]]),
            "study s50000001 stands in two splits (test, train)",
        ),
        (
            "split",
            lambda t: t.assign(split=["train", "train", "test", *t["split"][3:]]),
            "patient p10000001 stands in two splits",
        ),
        ("chexpert", lambda t: t.assign(Edema="2.0"), "row 2: Edema is '2.0'"),
        ("chexpert", lambda t: pd.concat([t, t[:1]]), "row 5: study_id"),
        ("chexpert", lambda t: t.drop(columns="Edema"), "column Edema is missing"),
    ],
)
def test_wrong_tables_are_one_line_with_file_and_row_and_nothing_is_written(tree, tmp_path, name, change, words):
    spoil(tree, name, change)
    said = refusal(from_mimic, tree, tmp_path / "out", quiet=True)
    assert words in said and f"mimic-cxr-2.0.0-{name}.csv.gz" in said and not (tmp_path / "out").exists()


def test_broken_files_are_named(tree):
    path = tree / "mimic-cxr-2.0.0-metadata.csv.gz"
    whole = path.read_bytes()
    for data in (whole[:60], b"hello", b""):
        path.write_bytes(data)
        assert "metadata.csv.gz" in refusal(from_mimic, tree)
    path.write_bytes(gzip.compress(b"dicom_id,subject_id,study_id,ViewPosition\na,10000001,5\nb\n"))
    assert "row 3: subject_id is ''" in refusal(from_mimic, tree)
    path.unlink()
    assert "there is no mimic-cxr-2.0.0-metadata.csv(.gz)" in refusal(from_mimic, tree)
    assert "no such folder" in refusal(from_mimic, tree / "nowhere")


def test_films_outside_the_split_table_are_named(tree, capsys):
    spoil(tree, "split", lambda t: t[:-1])
    made = from_mimic(tree)
    assert (
        "1 films stand in no split and will be used in none: dd-1" in capsys.readouterr().out
        and made.studies["split"].tolist()[-1] == ""
    )


def test_an_unreadable_film_is_reported_by_the_pixel_cache(tree, tmp_path):
    (tree / "files/p10/p10000001/s50000001/aa-1.jpg").write_bytes(b"\xff\xd8 not a film")
    made = from_mimic(tree, tmp_path / "out", quiet=True)
    pixels = made.pixels(16)
    assert set(pixels.unreadable) == {"aa-1"} and "aa-1.jpg" in pixels.unreadable["aa-1"] and len(pixels) == 5
    assert made.overview()["unreadable_images"] == 1


def test_arguments_are_checked(tree):
    for wrong, words in (
        ({"views": ("FROM ABOVE",)}, "views: 'FROM ABOVE'"),
        ({"check": "maybe"}, "check: 'maybe'"),
        ({"patients": -1}, "patients: -1"),
    ):
        with pytest.raises(ValueError, match=words):
            from_mimic(tree, **wrong)
    assert "no film of the chosen patients" in refusal(from_mimic, tree, views=("FRONTAL",))


def test_tables_as_large_as_the_collection_cost_no_loop_over_rows(tmp_path):
    """A twentieth of the real number of films: seconds, not minutes (for all of them, see the lesson)."""
    n = 20_000
    films = pd.DataFrame(
        {
            "dicom_id": [f"{k:08x}" for k in range(n)],
            "subject_id": [str(10_000_000 + k // 6) for k in range(n)],
            "study_id": [str(50_000_000 + k // 2) for k in range(n)],
            "ViewPosition": np.resize(["PA", "LL", "AP", ""], n),
            "Rows": "3056",
            "Columns": "2544",
        }
    )
    films.to_csv(tmp_path / "mimic-cxr-2.0.0-metadata.csv", index=False)
    films[["dicom_id"]].assign(split=np.where(films["subject_id"] < "10003000", "train", "test")).to_csv(
        tmp_path / "mimic-cxr-2.0.0-split.csv", index=False
    )
    table = read_metadata(tmp_path)
    split, remarks = read_splits(tmp_path, table)
    placed, _ = place_films(table, tmp_path, "none")
    assert len(placed) == n and not remarks and split.value_counts().to_dict() == {"train": 18_000, "test": 2_000}
    assert placed["view"].value_counts().to_dict() == {"PA": 5000, "LATERAL": 5000, "AP": 5000, "UNKNOWN": 5000}
    assert placed["path"][7] == f"{tmp_path.resolve()}/p10/p10000001/s50000003/00000007.jpg"


def test_labels_keep_what_is_not_mentioned_apart_from_what_is_absent(tree):
    assert read_labels(tree, "chexpert")[0] == {
        "s50000001": {"Edema": -1, "Pleural Effusion": 1},
        "s50000002": {"Pleural Effusion": 0},
        "s50000003": {"Cardiomegaly": 1},
    }
