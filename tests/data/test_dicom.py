import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pydicom
import pytest
from invented import DICOM_STORED as STORED
from invented import make_dicom
from PIL import Image
from pydicom.uid import (
    generate_uid,
)

from medret_nb.data.dicom import from_dicom, pseudonym
from medret_nb.data.files import DataError
from medret_nb.data.studies import StudySet


@pytest.fixture
def archive(tmp_path):
    """Six studies of three patients, two films each, reports for some, and files that are left out."""
    uids = [generate_uid() for _ in range(6)]
    for i in range(12):
        rng = np.random.default_rng(i)
        make_dicom(
            tmp_path / "in" / f"ward{i % 3}" / f"SECRETNAME-{i:02d}.dcm",
            rng.integers(0, 4000, (30 + i, 50)).astype(np.uint16),
            StudyInstanceUID=uids[i // 2],
            PatientID=f"SECRETNUMBER{i // 4}",
            AccessionNumber=f"SECRETACC{i // 2}",
            ViewPosition="PA" if i % 2 == 0 else "LL",
            PatientName=f"SECRETNAME^{i}",
            BurnedInAnnotation="NO",
        )
    make_dicom(tmp_path / "in" / "ct.dcm", Modality="CT")
    (tmp_path / "in" / "broken.dcm").write_bytes(b"broken")
    (tmp_path / "in" / "readme.txt").write_text("not meant to be read")
    pd.DataFrame(
        {
            "study_id": [uids[0], "SECRETACC1", "elsewhere"],
            "patient_id": ["", "", "SECRETNUMBER9"],
            "findings": ["Clear lungs.", "Effusion.", "No film."],
            "labels": ["No Finding", "Pleural Effusion", ""],
            "ward": "SECRETWARD",
        }
    ).to_csv(tmp_path / "reports.csv", index=False)
    return tmp_path


def test_a_folder_becomes_a_study_set_without_identity(archive, capsys):
    made = from_dicom(archive / "in", archive / "reports.csv", out=archive / "out", longest=32)
    said = capsys.readouterr().out
    again = StudySet.load(archive / "out")
    assert (
        again.hash() == made.hash()
        and again.info["restricted"] is True
        and len(again.images) == 12
        and len(again) == 7
        and again.info["left_out"] == 2
    )
    assert (
        again.studies["patient_id"].nunique() == 4
        and (again.studies["findings"] != "").sum() == 3
        and (again.studies["split"] != "").all()
    )
    assert (
        again.images["view"].value_counts().to_dict() == {"PA": 6, "LATERAL": 6}
        and again.images[["height", "width"]].max(axis=None) <= 32
    )
    assert (
        "2 of 14 files left out" in said
        and "ward" in said
        and "1 report(s) without a film" in said
        and "4 film studies without a report" in said
    )
    assert {path.name for path in (archive / "out").iterdir()} == {
        "studies.parquet",
        "images.parquet",
        "regions.parquet",
        "dataset.json",
        "pixels-films.parquet",  # the checksums that `hash` leaves
        "images",
    }
    again.pixels(16)
    contents = [path.read_bytes() for path in (archive / "out").rglob("*") if path.is_file()] + [
        again.studies.to_csv().encode(),
        again.images.to_csv().encode(),
    ]
    identity = [b"SECRET", b"JANE", b"19341207", b"20111213", b"elsewhere", str(archive / "in").encode()]
    identity += [
        str(pydicom.dcmread(path)[name].value).encode()
        for path in (archive / "in").rglob("S*.dcm")
        for name in ("StudyInstanceUID", "SOPInstanceUID", "SeriesInstanceUID")
    ]
    assert len(contents) > 15 and not [word for word in identity for content in contents if word in content]


def test_the_same_salt_gives_the_same_names_and_another_does_not(archive):
    first, second, other = (
        from_dicom(archive / "in", out=archive / name, salt=salt, quiet=True)
        for name, salt in (("a", "x" * 20), ("b", "x" * 20), ("c", None))
    )
    assert first.hash() == second.hash() and not set(first.images["image_id"]) & set(other.images["image_id"])
    assert pseudonym("x", "patient", "1") != pseudonym("x", "study", "1") != pseudonym("y", "study", "1")
    for path, twin in zip(first.image_paths(), second.image_paths()):
        assert path.read_bytes() == twin.read_bytes()


KILLED = """
import sys, os
from medret_nb.data import dicom
stop, done, real = int(sys.argv[1]), 0, dicom.atomic_write
def counted(path):
    global done
    done += 1
    if done > stop: os.kill(os.getpid(), 9)
    return real(path)
dicom.atomic_write = counted
dicom.from_dicom(sys.argv[2], out=sys.argv[3], salt="salt", longest=32, quiet=True)
"""


def test_killed_and_called_again_gives_the_same_files(archive):
    whole = from_dicom(archive / "in", out=archive / "whole", salt="salt", longest=32, quiet=True)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    out = archive / "resumed"
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, "7", str(archive / "in"), str(out)],
        env=environment,
        capture_output=True,
        timeout=120,
    )
    journal = out / ".importing" / "journal.jsonl"
    entries = [json.loads(line) for line in journal.read_text().splitlines()]
    assert (
        killed.returncode == -9
        and not (out / "studies.parquet").exists()
        and sum("image_id" in entry for entry in entries) == 7
    )
    assert "SECRET" not in journal.read_text()
    with open(journal, "a") as file:
        file.write('{"key": "torn')  # as a power cut leaves it
    before = {path.name: path.stat().st_mtime_ns for path in (out / "images").iterdir()}
    from_dicom(archive / "in", out=out, salt="salt", longest=32, quiet=True)
    names = sorted(path.relative_to(archive / "whole") for path in (archive / "whole").rglob("*") if path.is_file())
    assert (
        names == sorted(path.relative_to(out) for path in out.rglob("*") if path.is_file()) and len(whole.images) == 12
    )
    assert all((out / name).read_bytes() == (archive / "whole" / name).read_bytes() for name in names)
    assert len(before) == 7 and all((out / "images" / name).stat().st_mtime_ns == time for name, time in before.items())
    (out / ".importing").mkdir()  # killed when only the salt was left to throw away
    (out / ".importing" / "salt").write_text("secret")
    assert (
        from_dicom(archive / "in", out=out, salt="salt", longest=32, quiet=True).hash() == whole.hash()
        and not (out / ".importing").exists()
    )
    with pytest.raises(DataError, match="already holds"):
        from_dicom(archive / "in", out=out, salt="salt", longest=32, quiet=True)


def test_repeated_films_and_missing_ids_are_counted_or_replaced(tmp_path, capsys):
    first = make_dicom(tmp_path / "in" / "a.dcm", SOPInstanceUID="1.2.3")
    make_dicom(tmp_path / "in" / "b.dcm", SOPInstanceUID="1.2.3")
    make_dicom(tmp_path / "in" / "c", STORED[::-1].copy(), drop=["PatientID", "StudyInstanceUID", "AccessionNumber"])
    made = from_dicom(tmp_path / "in", out=tmp_path / "out")
    said = capsys.readouterr().out
    assert len(made.images) == 2 and "1 file(s) repeat" in said and "3 film(s) do not state" in said and first.exists()
    lone = made.studies[
        made.studies["study_id"]
        == made.images["study_id"][
            made.images["image_id"]
            .map(lambda i: Image.open(tmp_path / "out" / "images" / f"{i}.png").getpixel((0, 0)) > 100)
            .to_numpy()
        ].iloc[0]
    ]
    assert len(lone) == 1 and (lone["patient_id"] != "").all()


@pytest.mark.parametrize(
    "case, says",
    [
        ("no folder", "no such folder"),
        ("empty", "no DICOM file"),
        ("all bad", "none of the 1 DICOM files"),
        ("full", "already holds"),
        ("reports twice", "second report"),
        ("reports without id", "study_id is missing"),
        ("labels", "row 1"),
        ("file as out", "out"),
    ],
)
def test_folders_and_reports_that_do_not_fit_are_refused(tmp_path, case, says):
    source, out, reports = tmp_path / "in", tmp_path / "out", None
    if case != "no folder":
        source.mkdir()
    if case == "all bad":
        (source / "x.dcm").write_text("x")
    if case not in ("no folder", "empty", "all bad"):
        make_dicom(source / "x.dcm")
    if case == "full":
        from_dicom(source, out=out, quiet=True)
    if case == "file as out":
        out.write_text("a file")
    if case.startswith("reports") or case == "labels":
        reports = tmp_path / "r.csv"
        reports.write_text(
            {
                "reports twice": "study_id,findings\nSECRETACC,a\nSECRETACC,b\n",
                "reports without id": "id,findings\n1,a\n",
                "labels": "study_id,labels\n1,Edema=7\n",
            }[case]
        )
    with pytest.raises(DataError, match=says):
        from_dicom(source, reports, out=out, quiet=True)


def test_what_is_no_radiograph_is_left_out_and_counted_and_privacy_comes_first(tmp_path, capsys):
    colour = np.zeros((40, 40, 3), np.uint8)
    rgb = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    make_dicom(tmp_path / "in" / "a.dcm")
    make_dicom(tmp_path / "in" / "b.dcm", STORED[:3, :3].copy())
    make_dicom(tmp_path / "in" / "c.dcm", colour, **rgb)
    make_dicom(tmp_path / "in" / "d.dcm", Modality="XC")
    make_dicom(tmp_path / "in" / "e.dcm", Modality="MEIER")
    made = from_dicom(tmp_path / "in", out=tmp_path / "out")
    lines = capsys.readouterr().out.splitlines()
    assert len(made.images) == 1 and made.info["left_out"] == 4
    assert "1 film(s) do not state" in lines[1] and "4 of 5 files left out" in lines[2]
    for reason in ("3 x 3 pixels", "a colour picture", "modality XC", "modality of another kind"):
        assert f"1 x {reason}" in lines[3]
    assert "MEIER" not in "".join(lines)


def test_a_study_of_two_patients_is_refused_and_its_files_are_named(tmp_path):
    for name in "ab":
        make_dicom(tmp_path / "in" / f"{name}.dcm", StudyInstanceUID="1.2.3", PatientID=f"SECRET{name}")
    with pytest.raises(DataError, match=r"one study names two patients, in .*a.dcm and .*b.dcm") as caught:
        from_dicom(tmp_path / "in", out=tmp_path / "out")
    assert "SECRET" not in str(caught.value) and not StudySet.there(tmp_path / "out")


def test_an_accession_number_of_two_studies_finds_neither(tmp_path, capsys):
    for name in "ab":
        make_dicom(tmp_path / "in" / f"{name}.dcm", StudyInstanceUID=f"1.2.{ord(name)}", AccessionNumber="7")
    (tmp_path / "reports.csv").write_text("study_id,findings\n7,Whose?\n")
    made = from_dicom(tmp_path / "in", tmp_path / "reports.csv", tmp_path / "out")
    assert len(made) == 3 and not (made.written & made.studies["study_id"].isin(made.images["study_id"])).any()
    assert "1 accession number(s) name several studies" in capsys.readouterr().out


@pytest.mark.parametrize("salt", ["", "  ", "\n"])
def test_an_empty_salt_is_refused(archive, salt):
    with pytest.raises(ValueError, match="salt: it is empty"):
        from_dicom(archive / "in", out=archive / "out", salt=salt)
    assert not (archive / "out").exists()


ENTRY = {"key": "0" * 16, "refused": "no"}
FILM = {
    **dict.fromkeys(("key", "image_id", "study_id", "patient_id", "accession"), "0" * 16),
    **{"view": "PA", "view_raw": "PA", "height": 4, "width": 4, "burned_in": "no", "notes": []},
}


@pytest.mark.parametrize(
    "line",
    [b"5", b"null", b"[]", b"{}", b"{", b"\xff", b"[" * 9999, json.dumps(ENTRY | {"refused": 5}).encode()]
    + [json.dumps(FILM | {"image_id": "../../x"}).encode(), json.dumps(FILM | {"height": "x"}).encode()]
    + [json.dumps({k: v for k, v in FILM.items() if k != "notes"}).encode()],
)
def test_a_journal_that_is_none_is_one_line(archive, line):
    work = archive / "out" / ".importing"
    work.mkdir(parents=True)
    (work / "journal.jsonl").write_bytes(json.dumps(FILM).encode() + b"\n" + line + b"\n")
    with pytest.raises(DataError, match="journal.jsonl") as caught:
        from_dicom(archive / "in", out=archive / "out", salt="x" * 20, quiet=True)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_a_kept_salt_that_is_none_is_one_line(archive):
    work = archive / "out" / ".importing"
    work.mkdir(parents=True)
    for content in (b"", b"short", b"\xff"):
        (work / "salt").write_bytes(content)
        with pytest.raises(DataError, match="salt"):
            from_dicom(archive / "in", out=archive / "out", quiet=True)
