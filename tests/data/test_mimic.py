"""The reader of MIMIC-CXR on small invented trees: no text, film or number here comes from the collection."""

import gzip
import shutil
import zipfile

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from medret_nb.data.files import DataError
from medret_nb.data.balanced import FIVE, five_by_200
from medret_nb.data.mimic import choose_patients, film_root, from_mimic, place_films, read_labels, read_metadata, read_splits
from medret_nb.data.csv_files import read_columns
from medret_nb.data.mimic_reports import read_reports
from medret_nb.data.studies import StudySet
from medret_nb.data.tables import FINDINGS

# patient, study, film, ViewPosition, view code, split: three patients, one with two studies, one study without a frontal view
FILMS = [
    ("10000001", "50000001", "aa-1", "PA", "postero-anterior", "train"),
    ("10000001", "50000001", "aa-2", "LL", "left lateral", "train"),
    ("10000001", "50000002", "bb-1", "", "antero-posterior", "train"),
    ("11000002", "50000003", "cc-1", "AP", "antero-posterior", "validate"),
    ("11000002", "50000003", "cc-2", "SWIMMERS", "", "validate"),
    ("19000003", "50000004", "dd-1", "LATERAL", "lateral", "test"),
]
REPORTS = {
    "50000001": "FINAL REPORT\n HISTORY: Cough.\n\n FINDINGS:  Small left effusion.\n\n IMPRESSION:  Effusion.",
    "50000002": "WET READ: Perhaps fluid.\n" + "_" * 78 + "\n FINAL REPORT\n IMPRESSION:  No fluid.",
    "50000003": "FINAL REPORT\n COMPARISON:  ___.\n\n The heart is large.",
}
LABELS = {
    "50000001": {"Pleural Effusion": "1.0", "Edema": "-1.0"},
    "50000002": {"Pleural Effusion": "0.0"},
    "50000003": {"Cardiomegaly": "1.0"},
}


def metadata():
    return pd.DataFrame(
        [
            {
                "dicom_id": film,
                "subject_id": person,
                "study_id": study,
                "PerformedProcedureStepDescription": "CHEST (PA AND LAT)",
                "ViewPosition": view,
                "Rows": "60",
                "Columns": "40",
                "StudyDate": "21800506",
                "ViewCodeSequence_CodeMeaning": code,
            }
            for person, study, film, view, code, _ in FILMS
        ]
    )


def splits():
    return pd.DataFrame(
        [
            {"dicom_id": film, "study_id": study, "subject_id": person, "split": split}
            for person, study, film, _, _, split in FILMS
        ]
    )


def labels():
    return pd.DataFrame(
        [
            {"subject_id": "1", "study_id": study, **{name: values.get(name, "") for name in sorted(FINDINGS)}}
            for study, values in LABELS.items()
        ]
    )


def make_tree(root, suffix=".jpg", packed=True):
    root.mkdir(parents=True, exist_ok=True)
    end = ".gz" if packed else ""
    for name, table in (("metadata", metadata()), ("split", splits()), ("chexpert", labels())):
        table.to_csv(root / f"mimic-cxr-2.0.0-{name}.csv{end}", index=False)
    for k, (person, study, film, *_) in enumerate(FILMS):
        path = root / "files" / f"p{person[:2]}" / f"p{person}" / f"s{study}" / f"{film}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((60, 40), 30 * k, np.uint8)).save(path)
    return root


def member(study):
    person = next(person for person, number, *_ in FILMS if number == study)
    return f"files/p{person[:2]}/p{person}/s{study}.txt"


def make_zip(path, extra=()):
    with zipfile.ZipFile(path, "w") as archive:
        for study, text in REPORTS.items():
            archive.writestr(member(study), text)
        for name, text in extra:
            archive.writestr(name, text)
    return path


@pytest.fixture
def tree(tmp_path):
    root = make_tree(tmp_path / "mimic")
    make_zip(root / "mimic-cxr-reports.zip")
    return root


def refusal(action, *arguments, **options):
    with pytest.raises(DataError) as caught:
        action(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# the whole tree


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


@pytest.mark.parametrize("how", ["zip elsewhere", "folder", "beside the films", "sectioned"])
def test_reports_come_from_wherever_they_are(tmp_path, how):
    root = make_tree(tmp_path / "mimic", packed=False)
    where = tmp_path / "elsewhere"
    where.mkdir()
    given = None
    if how == "zip elsewhere":
        given = make_zip(where / "any.zip")
    elif how == "sectioned":
        given = where / "mimic_cxr_sectioned.csv"
        pd.DataFrame(
            {
                "study": ["s50000001", "s50000002", "s50000003"],
                "impression": ["Effusion.", "No fluid.", ""],
                "findings": ["Small left\neffusion.", "", ""],
                "last_paragraph": ["Effusion.", "No fluid.", "The heart is large."],
                "comparison": ["", "", "___."],
            }
        ).to_csv(given, index=False)
    else:
        base = root if how == "beside the films" else where
        for study, text in REPORTS.items():
            (base / member(study)).parent.mkdir(parents=True, exist_ok=True)
            (base / member(study)).write_text(text)
        given = None if how == "beside the films" else where
    s = from_mimic(root, reports=given, quiet=True).studies
    assert s["findings"].tolist() == ["Small left effusion.", "", "", ""] and s["impression"].tolist() == [
        "Effusion.",
        "No fluid.",
        "",
        "",
    ]
    assert s["note"].tolist() == ["", "", "The heart is large.", ""]


def test_without_reports_labels_or_splits_it_says_so(tree, capsys):
    for name in ("mimic-cxr-reports.zip", "mimic-cxr-2.0.0-chexpert.csv.gz", "mimic-cxr-2.0.0-split.csv.gz"):
        (tree / name).unlink()
    made = from_mimic(tree)
    printed = capsys.readouterr().out
    assert "no reports were found" in printed and "no table of labels" in printed and "NOT the official ones" in printed
    assert (made.studies["labels"] == {}).all() and (made.studies.groupby("patient_id")["split"].nunique() == 1).all()


def test_the_labeller_is_chosen(tree):
    labels().assign(Edema="0.0").to_csv(tree / "mimic-cxr-2.0.0-negbio.csv", index=False)
    assert from_mimic(tree, labeller="negbio", quiet=True).studies["labels"][0]["Edema"] == 0
    assert from_mimic(tree, labeller="none", quiet=True).studies["labels"].tolist() == [{}] * 4
    with pytest.raises(ValueError, match="labeller: 'ann'"):
        from_mimic(tree, labeller="ann")


def test_the_newer_table_is_read(tree):
    labels().assign(Edema="1").to_csv(tree / "mimic-cxr-2.1.0-chexpert.csv", index=False)
    assert from_mimic(tree, quiet=True).studies["labels"][1] == {"Pleural Effusion": 0, "Edema": 1}


# parts of it


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
    small = make_tree(tmp_path / "small", suffix=".png")
    shutil.rmtree(tree / "files")
    for folder in (small, small / "files"):
        made = from_mimic(tree, images=folder, quiet=True)
        assert (
            made.image_paths()[0].suffix == ".png"
            and made.image_paths()[0].is_relative_to(small)
            and made.images["height"][0] == 60
        )
    assert film_root(tmp_path / "empty") == (tmp_path / "empty", ".jpg")


# what is wrong is named


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


def link(name):
    info = zipfile.ZipInfo(name)
    info.external_attr = 0o120777 << 16
    return info


@pytest.mark.parametrize(
    "extra, words",
    [
        (("../s50000004.txt", "x"), "leads out"),
        (("/s50000004.txt", "x"), "leads out"),
        (("a/../../b.txt", "x"), "leads out"),
        (("C:\\s1.txt", "x"), "leads out"),
        ((link("files/s50000004.txt"), "/etc/hostname"), "a link"),
        (("other/s50000001.txt", "again"), "report s50000001 stands in it twice"),
        (("files/s50000004.txt", "x" * 4_100_000), "too many for a report"),
    ],
)
def test_unsafe_archives_are_refused_as_a_whole(tree, tmp_path, extra, words):
    make_zip(tree / "mimic-cxr-reports.zip", [extra])
    before = sorted(path.name for path in tmp_path.rglob("*"))
    assert words in refusal(from_mimic, tree, tmp_path / "out", quiet=True)
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_broken_and_foreign_reports(tree, tmp_path, capsys):
    path = tree / "mimic-cxr-reports.zip"
    data = path.read_bytes()
    flipped = bytearray(data)
    flipped[data.index(b"Cough")] ^= 1
    for broken, words in (
        (data[: len(data) // 2], "neither a zip archive"),
        (bytes(flipped), "not a readable zip archive"),
        (b"x", "neither a zip"),
    ):
        path.write_bytes(broken)
        assert words in refusal(from_mimic, tree, quiet=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("files/s99.txt", "FINDINGS: a.")
    assert "there is no report of these 4 studies" in refusal(from_mimic, tree)
    assert "no such file" in refusal(from_mimic, tree, reports=tmp_path / "nowhere.zip")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member("50000001"), "FINDINGS: M\xfcll.".encode("latin-1"))
    assert (
        from_mimic(tree).studies["findings"][0] == "M\xfcll."
        and "not UTF-8 and were read as Latin-1: s50000001" in capsys.readouterr().out
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


def test_values_of_a_large_table_come_as_written(tmp_path):
    (tmp_path / "t.csv").write_text("a,b,c\n007,NA,\n1e5,nan,x\n")
    assert read_columns(tmp_path / "t.csv", ("b", "a"), ("z",)).to_dict("list") == {
        "b": ["NA", "nan"],
        "a": ["007", "1e5"],
    }


def test_tables_as_large_as_the_collection_cost_no_loop_over_rows(tmp_path):
    """A twentieth of the real number of films, by the same functions: seconds, not minutes (measured whole: benchmarks are in the lesson)."""
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


# five by two hundred


def labelled(n=400, seed=0):
    rng = np.random.default_rng(seed)
    names = [*FIVE, "Pneumonia"]
    drawn = [
        {
            name: int(v)
            for name, v in zip(names, rng.choice([1, 0, -1, 2], len(names), p=[0.2, 0.3, 0.1, 0.4]))
            if v != 2
        }
        for _ in range(n)
    ]
    return StudySet(
        pd.DataFrame(
            {
                "study_id": [f"s{k}" for k in range(n)],
                "labels": drawn,
                "split": np.where(np.arange(n) % 2, "test", "train"),
            }
        ),
        pd.DataFrame(columns=["image_id", "study_id", "path"]),
        info={"restricted": True},
    )


def test_five_by_n_is_balanced_exclusive_and_repeats(tmp_path):
    studies = labelled()
    chosen = five_by_200(studies, n=10, out=tmp_path / "ids.csv")
    held = dict(zip(studies.studies["study_id"], studies.studies["labels"]))
    assert chosen.groupby("finding").size().to_dict() == dict.fromkeys(FIVE, 10) and chosen["study_id"].is_unique
    for finding, study in chosen.itertuples(index=False):
        assert [name for name in FIVE if held[study].get(name) == 1] == [finding]
    assert set(chosen["study_id"]) <= set(studies.split("test").studies["study_id"])
    assert (tmp_path / "ids.csv").read_text().splitlines()[0] == "finding,study_id" and pd.read_csv(
        tmp_path / "ids.csv"
    ).equals(chosen.astype(pd.read_csv(tmp_path / "ids.csv").dtypes))
    shuffled = StudySet(studies.studies.sample(frac=1, random_state=1), studies.images)
    assert five_by_200(shuffled, n=10).equals(chosen) and not five_by_200(studies, n=10, seed=1).equals(chosen)


def test_too_few_are_said_in_one_line(capsys):
    studies = labelled(60)
    counts = five_by_200(studies, split=None).groupby("finding").size()
    printed = capsys.readouterr().out
    assert (
        printed.count("\n") == 1
        and all(f"{name} {counts.get(name, 0)}" in printed for name in FIVE)
        and "all splits" in printed
    )
    with pytest.raises(ValueError, match="n: 0"):
        five_by_200(studies, n=0)


def test_labels_keep_what_is_not_mentioned_apart_from_what_is_absent(tree):
    assert read_labels(tree, "chexpert")[0] == {
        "s50000001": {"Edema": -1, "Pleural Effusion": 1},
        "s50000002": {"Pleural Effusion": 0},
        "s50000003": {"Cardiomegaly": 1},
    }


def test_only_the_reports_that_are_wanted_are_read(tree):
    assert set(read_reports(tree / "mimic-cxr-reports.zip", {"s50000002": "p10000001"})[0]) == {"s50000002"}
