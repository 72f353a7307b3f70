import gzip
import io
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from medret_nb.data.files import DataError
from medret_nb.data.reports import duplicate_share
from medret_nb.data.openi import code_sets, openi_counts, parse_report, read_openi
from medret_nb.data.sources import from_csv, from_openi
from medret_nb.data.csv_files import read_table
from medret_nb.data.studies import StudySet
from medret_nb.data.tables import FINDINGS

REPORT = """<?xml version="1.0" encoding="utf-8"?><eCitation><uId id="CXR{n}"/><MedlineCitation><Article><Abstract>
<AbstractText Label="INDICATION">Cough.</AbstractText><AbstractText Label="FINDINGS">{text}</AbstractText>
<AbstractText Label="IMPRESSION"/></Abstract></Article></MedlineCitation><MeSH><major>{code}</major></MeSH>
<parentImage id="CXR{n}_IM-0001-1001"/></eCitation>"""


def report(n, text="Clear lungs.", code="normal"):
    return REPORT.format(n=n, text=text, code=code)


def pack(path, members, mode="w:gz"):
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            header = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            data = content.encode() if isinstance(content, str) else b""
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
    return path


@pytest.fixture
def archive(tmp_path):
    codes = ["normal", "Pleural Effusion/left/large", "Cardiomegaly", "Scoliosis"]
    return pack(tmp_path / "reports.tgz", {f"r/{n}.xml": report(n, f"Report {n}.", codes[n % 4]) for n in range(1, 25)})


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


# tables


@given(st.lists(st.lists(st.text(alphabet='ab,"\n é', max_size=6), min_size=2, max_size=2), max_size=5))
@settings(deadline=None)
def test_any_table_comes_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    pd.DataFrame(rows, columns=["study_id", "findings"]).to_csv(path, index=False)
    assert read_table(path).to_numpy().tolist() == [list(row) for row in rows]


@pytest.mark.parametrize(
    "data, words",
    [
        (b"", "the file is empty"),
        (b"a,b\n1\n", "line 2: 1 fields, but the heading has 2"),
        (b"a,b\n1,2\n\n1,2,3\n", "line 4: 3 fields"),
        (b"a,a\n1,2\n", "'a' stands twice"),
        (b"a,\n1,2\n", "has no name"),
        (b"a,b\n1,M\xfcller\n", "line 2: byte 0xfc (at 7) is not UTF-8"),
        (b"\xef\xbb\xbfa,b\n\xff,2\n", "line 2: byte 0xff (at 7)"),
        ("a,b\n1,2".encode("utf-16"), "UTF-16"),
        (b"a,b\n1,\0\n", "zero byte"),
        (b'a,b\n1,"2\n', "unexpected end of data"),
    ],
)
def test_broken_tables_are_refused_with_an_address(tmp_path, data, words):
    path = tmp_path / "studies.csv"
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        from_csv(path, quiet=True)
    assert words in str(caught.value) and "studies.csv" in str(caught.value) and "\n" not in str(caught.value)


def test_a_byte_order_mark_and_windows_line_ends_are_fine(tmp_path):
    (tmp_path / "studies.csv").write_bytes(b'\xef\xbb\xbfstudy_id,findings\r\ns1,"a\r\nb"\r\n')
    assert read_table(tmp_path / "studies.csv").to_dict("records") == [{"study_id": "s1", "findings": "a\r\nb"}]


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


def test_sections_codes_and_images_of_one_report():
    one = parse_report(report(7, "Small\n  <b>left</b> effusion &amp; more.", "Pleural Effusion/left "), "here")
    assert (one.study_id, one.findings, one.impression, one.indication) == (
        "CXR7",
        "Small left effusion & more.",
        "",
        "Cough.",
    )
    assert one.major == ("Pleural Effusion/left",) and one.automatic == () and one.images == ("CXR7_IM-0001-1001",)


@pytest.mark.parametrize(
    "text, words",
    [
        (report(1)[:200], "cut off"),
        ("", "cut off"),
        ("<html/>", "not an OpenI report"),
        ("<eCitation/>", "not an OpenI report"),
        ('<!DOCTYPE e [<!ENTITY x "ha">]><eCitation><uId id="a"/>&x;</eCitation>', "refused"),
        ('<!DOCTYPE e SYSTEM "http://127.0.0.1/x.dtd"><eCitation><uId id="a"/></eCitation>', "refused"),
        ('<?xml version="1.0" encoding="no-such"?><eCitation/>', "cannot be decoded"),
    ],
)
def test_bad_xml_is_one_line_naming_the_member(tmp_path, text, words):
    path = pack(tmp_path / "a.tgz", {"r/1.xml": report(1), "r/2.xml": text})
    with pytest.raises(DataError) as caught:
        read_openi(path)
    assert "r/2.xml" in str(caught.value) and words in str(caught.value) and "\n" not in str(caught.value)


def link(name, kind):
    header = tarfile.TarInfo(name)
    header.type, header.linkname = kind, "/etc/hostname"
    return header


@pytest.mark.parametrize(
    "name, member, words",
    [
        ("../1.xml", report(1), "leads out"),
        ("a/../../1.xml", report(1), "leads out"),
        ("/1.xml", report(1), "leads out"),
        ("C:\\1.xml", report(1), "leads out"),
        ("..\\1.xml", report(1), "leads out"),
        ("1.xml", link("1.xml", tarfile.SYMTYPE), "a link"),
        ("1.xml", link("1.xml", tarfile.LNKTYPE), "a link"),
        ("1.xml", link("1.xml", tarfile.FIFOTYPE), "a link"),
        ("1.xml", report(1, "x" * 4_100_000), "too many for a report"),
    ],
)
def test_unsafe_archives_are_refused_as_a_whole(tmp_path, name, member, words):
    path = pack(tmp_path / "a.tgz", {"0.xml": report(0), name: member})
    with pytest.raises(DataError, match=words):
        from_openi(path, tmp_path / "out", quiet=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tgz"]


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.95])
def test_an_archive_cut_off_is_never_read_as_a_smaller_one(archive, tmp_path, share):
    data = archive.read_bytes()
    cut = tmp_path / "cut.tgz"
    cut.write_bytes(data[: int(share * len(data))])
    with pytest.raises(DataError, match="cut off"):
        read_openi(cut)


def test_other_sources_that_are_none(tmp_path):
    (tmp_path / "text.tgz").write_text("hello")
    with gzip.open(tmp_path / "one.tgz", "wb") as file:
        file.write(b"not a tar archive" * 100)
    for name in ("text.tgz", "one.tgz"):
        with pytest.raises(DataError, match="not a readable tar archive"):
            read_openi(tmp_path / name)
    with pytest.raises(DataError, match="no such file"):
        read_openi(tmp_path / "nowhere.tgz")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no XML report"):
        read_openi(tmp_path / "empty")
    with pytest.raises(DataError, match="CXR1 stands in it twice"):
        read_openi(pack(tmp_path / "twice.tgz", {"1.xml": report(1), "b/1.xml": report(1)}))


def test_a_folder_reads_like_the_archive_in_order_of_the_numbers(archive, tmp_path):
    with tarfile.open(archive) as packed:
        for member in packed:
            path = tmp_path / "xml" / member.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(packed.extractfile(member).read())
    assert read_openi(tmp_path / "xml") == read_openi(archive)
    assert [r.study_id for r in read_openi(archive)] == [f"CXR{n}" for n in range(1, 25)]


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
    for name in ("CXR1_IM-0001-1001.png", "2_IM-0001-1001.dcm.png", "3_IM-0001-1001.dcm"):
        (films / name).write_bytes(b"x")
    with gzip.open(tmp_path / "h.csv.gz", "wt") as file:
        file.write(
            "imageid,View Position,Rows,Columns,Patient ID\nCXR1_IM-0001-1001,PA,20,10,x\nCXR2_IM-0001-1001,LL,20,10,x\nCXR3_IM-0001-1001,,,,x\n"
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


def test_drawn_films_are_one_per_report_and_go_on_after_an_interruption(archive, tmp_path):
    out = tmp_path / "out"
    made = from_openi(archive, out, images="drawn", size=48, views=("PA", "LATERAL"), quiet=True)
    assert len(made.images) == 48 and made.images["view"].value_counts().to_dict() == {"PA": 24, "LATERAL": 24}
    files = {path: path.read_bytes() for path in made.image_paths()}
    assert {Image.open(path).size for path in files} == {(48, 48)} and len(set(files.values())) == 48
    victims = list(files)[5:9]
    for path in victims:
        path.unlink()
    (out / "images" / ".CXR9-PA-12345678.tmp.png").write_bytes(b"half")
    os.utime(list(files)[0], (1, 1))
    from_openi(archive, out, images="drawn", size=48, views=("PA", "LATERAL"), quiet=True)
    assert {path: path.read_bytes() for path in (out / "images").glob("*.png")} == {
        path.resolve(): data for path, data in files.items()
    }
    assert list(files)[0].stat().st_mtime == 1
    from_openi(archive, out, images="drawn", size=32, quiet=True)
    assert {Image.open(path).size for path in (out / "images").glob("*.png")} == {(32, 32)} and len(
        list((out / "images").glob("*.png"))
    ) == 24


def test_a_killed_drawing_goes_on_to_the_same_files(archive, tmp_path):
    code = f"from medret_nb.data.sources import from_openi; from_openi({str(archive)!r}, {str(tmp_path / 'killed')!r}, images='drawn', size=96, quiet=True)"
    child = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    )
    films, until = tmp_path / "killed" / "images", time.monotonic() + 90
    while time.monotonic() < until and child.poll() is None and len(list(films.glob("C*.png"))) < 3:
        time.sleep(0.002)
    child.kill()
    child.wait()
    assert 3 <= len(list(films.glob("C*.png"))) <= 24 and not (tmp_path / "killed" / "studies.parquet").exists()
    for name in ("killed", "whole"):
        from_openi(archive, tmp_path / name, images="drawn", size=96, quiet=True)
    whole, killed = (
        {
            path.relative_to(tmp_path / name).as_posix(): path.read_bytes()
            for path in (tmp_path / name).rglob("*")
            if path.is_file()
        }
        for name in ("whole", "killed")
    )
    assert whole == killed and len(whole) == 24 + 6


def test_drawing_never_removes_films_of_others(archive, tmp_path):
    (tmp_path / "out" / "images").mkdir(parents=True)
    (tmp_path / "out" / "images" / "precious.png").write_bytes(b"mine")
    with pytest.raises(DataError, match="not drawn here"):
        from_openi(archive, tmp_path / "out", images="drawn", size=32, quiet=True)
    assert (tmp_path / "out" / "images" / "precious.png").read_bytes() == b"mine"


def test_arguments_are_checked(archive, tmp_path):
    with pytest.raises(ValueError, match="out:"):
        from_openi(archive, images="drawn")
    with pytest.raises(ValueError, match="size: -1"):
        from_openi(archive, tmp_path / "o", images="drawn", size=-1)


# the real data


def test_all_openi_reports_with_the_known_counts(shared_data):
    reports = read_openi(shared_data / "openi" / "NLMCXR_reports.tgz")
    assert openi_counts(reports) == {
        "reports": 3955,
        "findings and impression": 3419,
        "impression only": 502,
        "findings only": 6,
        "neither": 28,
        "without an image": 104,
        "image references": 7470,
        "with XXXX": 3411,
    }
    assert code_sets(reports).max() + 1 == 1961
    assert 0.55 < duplicate_share([r.impression for r in reports if r.impression]) < 0.60


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
