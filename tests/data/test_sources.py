import gzip

import numpy as np
import pandas as pd
import pytest
from invented import openi_archive
from PIL import Image

from medret_nb.data.csv_files import read_table
from medret_nb.data.files import DataError
from medret_nb.data.finding_names import FINDINGS
from medret_nb.data.overview import overview_text
from medret_nb.data.sources import from_csv, from_openi
from medret_nb.data.studies import StudySet


@pytest.fixture
def archive(tmp_path):
    return openi_archive(tmp_path / "reports.tgz")


def write_csv(folder, studies, images=None, regions=None):
    folder.mkdir(exist_ok=True, parents=True)
    for name, text in (("studies", studies), ("images", images), ("regions", regions)):
        if text is not None:
            (folder / f"{name}.csv").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def tables(tmp_path):
    folder = tmp_path / "mine"
    (folder / "films").mkdir(parents=True)
    for k in range(12):
        Image.fromarray(np.full((20, 16), 10 * k, np.uint8)).save(folder / "films" / f"{k}.png")
    return write_csv(
        folder,
        "study_id,patient_id,findings,labels,ward\n"
        + "".join(f's{k},p{k // 2},"Film {k}, clear.",Edema;Pneumonia=-1;Fracture=0,W{k}\n' for k in range(12)),
        "image_id,study_id,view,path\n"
        + "".join(f"i{k},s{k},{'pa' if k % 2 else 'AP supine'},films/{k}.png\n" for k in range(12)),
        "image_id,region,x0,y0,x1,y1\ni0,left lung,0.5,0.1,0.9,0.9\n",
    )


def test_csv_to_studyset_and_back(tables, tmp_path, capsys):
    made = from_csv(tables, tmp_path / "out")
    again = StudySet.load(tmp_path / "out")
    assert again.hash() == made.hash() and len(again) == 12
    assert again.studies["labels"][3] == {"Edema": 1, "Pneumonia": -1, "Fracture": 0}
    assert (
        again.images["view"].tolist() == ["AP", "PA"] * 6
        and again.images["view_raw"].tolist() == ["AP supine", "pa"] * 6
    )
    assert all(path.is_file() for path in again.image_paths()) and not (tmp_path / "out" / "films").exists()
    assert again.regions["region"].tolist() == ["left lung"] and again.studies["ward"].tolist() == [
        f"W{k}" for k in range(12)
    ]
    assert (again.studies.groupby("patient_id")["split"].nunique() == 1).all() and set(again.studies["split"]) == {
        "train",
        "val",
        "test",
    }
    printed = capsys.readouterr().out
    assert "kept unknown column(s) ward" in printed and "splits made by patient and group, seed 0" in printed
    assert again.info["restricted"] is False and str(tables) not in (tmp_path / "out" / "dataset.json").read_text()


def test_splits_repeat_follow_the_seed_and_respect_what_is_given(tables):
    one, same, other = (from_csv(tables, seed=seed, quiet=True).studies["split"].tolist() for seed in (0, 0, 1))
    assert one == same != other
    table = read_table(tables / "studies.csv").assign(split=["train"] * 10 + ["test"] * 2)
    table.to_csv(tables / "studies.csv", index=False)
    assert from_csv(tables, quiet=True).studies["split"].tolist() == ["train"] * 10 + ["test"] * 2


def test_patients_joined_by_a_group_stay_together(tmp_path):
    rows = "".join(f"s{k},p{k},{'shared' if k < 6 else f'g{k}'},a\n" for k in range(20))
    made = from_csv(write_csv(tmp_path / "c", "study_id,patient_id,group_id,note\n" + rows), quiet=True)
    assert made.studies["split"][:6].nunique() == 1 and set(made.studies["split"]) == {"train", "val", "test"}


def test_one_table_with_a_path_is_enough(tables, tmp_path):
    file = tables / "flat.csv"
    file.write_text("study_id,note,path,view\na,first,films/0.png,PA\nb,second,,\n")
    (tables / "images.csv").unlink()
    (tables / "regions.csv").unlink()
    made = from_csv(file, quiet=True)
    assert (
        made.images[["image_id", "study_id", "view"]].values.tolist() == [["a", "a", "PA"]]
        and made.image_paths()[0].is_file()
    )
    assert "path" not in made.studies and made.studies["split"].tolist() in (
        [""] * 2,
        ["train", "test"],
        ["test", "train"],
    )


def test_restricted_and_licences_are_recorded(tmp_path):
    folder = write_csv(
        tmp_path / "c",
        "study_id,note,licence\n" + "".join(f"s{k},a,{'CC0' if k % 2 else 'CC BY'}\n" for k in range(10)),
    )
    info = from_csv(folder, restricted=True, name="mine", quiet=True).info
    assert info["restricted"] is True and info["licence"] == "CC BY; CC0" and info["name"] == "mine"


@pytest.mark.parametrize(
    "files, words",
    [
        (dict(studies="study_id\n"), "no study below the heading"),
        (dict(studies="id,note\n1,a\n"), "column study_id is missing"),
        (dict(studies="study_id\ns1\ns1\n"), "must be unique"),
        (dict(studies='study_id\n""\n'), "study_id is empty"),
        (dict(studies="study_id,labels\ns1,Edema=2\n"), "Edema"),
        (dict(studies="study_id,split\ns1,training\n"), "'training'"),
        (dict(studies="study_id,patient_id,split\ns1,p,train\ns2,p,test\n"), "two splits"),
        (dict(studies="study_id\ns1\n", images="image_id,path\ni,x.png\n"), "column study_id is missing"),
        (
            dict(studies="study_id\ns1\n", images="image_id,study_id,path\ni,s1,x.png\n"),
            "none of the 1 image files is there",
        ),
        (dict(studies="study_id\ns1\n", images="image_id,study_id,path\ni,s1,\n"), "path is empty"),
        (
            dict(studies="study_id\ns1\n", images="image_id,study_id,path\ni,s9,studies.csv\n"),
            "name a study that is not in studies",
        ),
        (
            dict(
                studies="study_id\ns1\n",
                images="image_id,study_id,path\ni,s1,studies.csv\n",
                regions="image_id,x0,y0,x1,y1\ni,0,0,5,1\n",
            ),
            "fractions",
        ),
        (
            dict(
                studies="study_id\ns1\n",
                images="image_id,study_id,path\ni,s1,studies.csv\n",
                regions="image_id,x0,y0,x1,y1\ni,left,0,1,1\n",
            ),
            "not a number",
        ),
        (
            dict(studies="study_id\ns1\n", images="image_id,study_id,path,height\ni,s1,studies.csv,-3\n"),
            "height must be positive",
        ),
    ],
)
def test_bad_tables_are_named_and_nothing_is_written(tmp_path, files, words):
    with pytest.raises(DataError) as caught:
        from_csv(write_csv(tmp_path / "c", **files), tmp_path / "out", quiet=True)
    assert words in str(caught.value) and "\n" not in str(caught.value) and not (tmp_path / "out").exists()


def test_missing_files_are_counted_and_missing_sources_named(tables, capsys):
    (tables / "films" / "3.png").unlink()
    from_csv(tables)
    assert "1 of 12 image files are not there, e.g." in capsys.readouterr().out
    with pytest.raises(DataError, match="there is no such file"):
        from_csv(tables / "nowhere")


def test_a_very_long_report_is_read(tmp_path):
    folder = write_csv(tmp_path / "c", "study_id,note\ns1," + "word " * 100_000 + "\n")
    assert len(from_csv(folder, quiet=True).studies["note"][0].split()) == 100_000


# OpenI


def test_without_films_the_names_are_kept(archive, tmp_path, capsys):
    made = from_openi(archive, tmp_path / "out")
    assert len(made.images) == 24 and set(made.images["view"]) == {"UNKNOWN"} and made.info["restricted"]
    assert made.image_paths()[0] == tmp_path / "out" / "images" / "CXR1_IM-0001-1001.png"
    printed = capsys.readouterr().out
    assert (
        "24 of 24 films are not here" in printed
        and "distinct sets of codes: 4 for 24 reports" in printed
        and "ignored: 6 of 24 (scoliosis 6)" in printed
    )
    assert made.studies["mesh_major"][0] == "Pleural Effusion/left/large" and made.studies["labels"][0] == {
        "Pleural Effusion": 1
    }


def test_films_are_found_by_either_name_and_views_in_the_headers(archive, tmp_path):
    films = tmp_path / "films" / "deep"
    films.mkdir(parents=True)
    for name in ("CXR1_IM-0001-1001.png", "2_IM-0001-1001.dcm.png", "3_IM-0001-1001.jpg"):
        (films / name).write_bytes(b"x")
    with gzip.open(tmp_path / "h.csv.gz", "wt") as file:
        file.write(
            "imageid,View Position,Rows,Columns,Patient ID\n"
            "CXR1_IM-0001-1001,PA,20,10,x\nCXR2_IM-0001-1001,LL,20,10,x\nCXR3_IM-0001-1001,,,,x\n"
        )
    made = from_openi(archive, images=tmp_path / "films", metadata=tmp_path / "h.csv.gz", quiet=True)
    assert [path.is_file() for path in made.image_paths()] == [True] * 3 + [False] * 21
    assert (
        made.images["view"][:3].tolist() == ["PA", "LATERAL", "UNKNOWN"]
        and made.images["view_raw"][1] == "LL"
        and made.images["height"][0] == 20
    )
    assert "Patient ID" not in made.images
    (tmp_path / "other").mkdir()
    with pytest.raises(DataError, match="holds none of the 24 films"):
        from_openi(archive, images=tmp_path / "other", quiet=True)
    with pytest.raises(DataError, match="neither a folder"):
        from_openi(archive, images=tmp_path / "nowhere", quiet=True)
    with pytest.raises(DataError, match="not the table of DICOM headers"):
        from_openi(archive, metadata=archive, quiet=True)


def test_films_are_not_drawn_here(archive, tmp_path):
    with pytest.raises(ValueError, match="openi_with_drawn_films"):
        from_openi(archive, tmp_path / "out", images="drawn")


# the real data


def test_openi_becomes_a_studyset_with_views(shared_data, tmp_path):
    made = from_openi(shared_data / "openi" / "NLMCXR_reports.tgz", tmp_path / "out", quiet=True)
    assert len(made) == 3955 and len(made.images) == 7470
    assert made.images["view"].value_counts().to_dict() == {"PA": 3591, "UNKNOWN": 2589, "LATERAL": 867, "AP": 423}
    positive = pd.Series(
        [name for labels in made.studies["labels"] for name, value in labels.items() if value == 1]
    ).value_counts()
    assert set(positive.index) == set(FINDINGS) and positive["No Finding"] == 1391
    assert StudySet.load(tmp_path / "out").hash() == made.hash()


def test_cxr_notes_as_the_readme_says(shared_data, tmp_path):
    made = from_csv(shared_data / "cxr-notes", tmp_path / "out", quiet=True)
    assert (
        len(made.images) == 502
        and made.studies["patient_id"].nunique() == 303
        and (made.studies["note"] != "").sum() == 150
    )
    joined = made.studies.groupby("group_id")["patient_id"].nunique()
    assert (joined > 1).sum() == 10
    for column in ("patient_id", "group_id"):
        assert (made.studies.groupby(column)["split"].nunique() == 1).all()
    assert all(path.is_file() for path in StudySet.load(tmp_path / "out").image_paths())
    assert made.images["licence"].nunique() == 8 and "CC BY-NC-SA" in made.info["licence"]


def test_a_set_of_another_kind_is_not_overwritten(tables, archive, tmp_path):
    openi = from_openi(archive, tmp_path / "openi", quiet=True)
    with pytest.raises(DataError, match="already holds a StudySet made by medret_nb.data.sources.from_openi"):
        from_csv(tables, tmp_path / "openi", quiet=True)
    with pytest.raises(DataError, match="already holds"):
        from_openi(archive, from_csv(tables, tmp_path / "mine-set", quiet=True).folder, quiet=True)
    assert StudySet.load(tmp_path / "openi").hash() == openi.hash()
    from_csv(tables, tmp_path / "mine-set", quiet=True)  # the same kind may be made again


def test_the_same_film_in_two_splits_is_told(tmp_path, capsys):
    folder = tmp_path / "films"
    folder.mkdir()
    rows = ["study_id,patient_id,split,path"]
    for k, split in enumerate(["train", "train", "test", "val"]):
        Image.fromarray(np.full((20, 16), 10 * min(k, 2), np.uint8)).save(folder / f"{k}.png")
        rows.append(f"s{k},p{k},{split},films/{k}.png")
    made = from_csv(write_csv(tmp_path, "\n".join(rows) + "\n"), tmp_path / "out")
    said = capsys.readouterr().out
    assert "1 film(s) stand in two splits, e.g. s2 (test) and s3 (val)" in said
    Image.fromarray(np.full((20, 16), 20, np.uint8)).save(folder / "0.bmp")  # the same film in another file format
    made.images.loc[0, "path"] = str(folder / "0.bmp")
    made.save(tmp_path / "out")
    again = StudySet.load(tmp_path / "out")
    again.pixels(16)
    assert "e.g. s0 (train) and s2 (test)" in again.leaks()[0]


def test_splits_of_a_small_set_hold_studies_with_a_text(tmp_path):
    rows = [f"s{k},p{k},{'Words.' if k % 3 == 0 else ''}" for k in range(60)]
    made = from_csv(write_csv(tmp_path / "a", "study_id,patient_id,findings\n" + "\n".join(rows) + "\n"), quiet=True)
    counts = made.studies.loc[made.written, "split"].value_counts()
    assert counts.to_dict() == {"train": 16, "test": 2, "val": 2} and len(made) == 60


@pytest.mark.parametrize("patients, splits", [(1, {""}), (2, {"train", "test"}), (3, {"train", "val", "test"})])
def test_few_patients_are_split_as_far_as_they_go(tmp_path, capsys, patients, splits):
    rows = [f"s{k},p{k % patients},Words {k}." for k in range(12)]
    made = from_csv(write_csv(tmp_path / "a", "study_id,patient_id,findings\n" + "\n".join(rows) + "\n"))
    assert set(made.studies["split"]) == splits
    said = capsys.readouterr().out
    assert ("too few patients for a split val" in said) == (patients == 2) and ("no splits" in said) == (patients == 1)


def test_paths_that_lead_in_circles_are_files_that_are_not_there(tables, tmp_path):
    (tables / "films" / "3.png").unlink()
    (tables / "films" / "3.png").symlink_to("3.png")
    made = from_csv(tables, tmp_path / "out")
    assert made.overview()["missing_images"] == 1
    assert StudySet.load(tmp_path / "out").save(tmp_path / "again").overview()["missing_images"] == 1


def test_what_others_write_is_printed_on_lines_of_ours(tables, tmp_path, capsys):
    text = (tables / "studies.csv").read_text().replace("ward", '"w\x1b[2J\nmedret: fine"').replace("Edema", "E\x1b[1m")
    (tables / "studies.csv").write_text(text)
    made = from_csv(tables, tmp_path / "out")
    print(overview_text(made.overview()))
    said = capsys.readouterr().out
    assert "\x1b" not in said and not [line for line in said.splitlines() if line.startswith("medret:")]
