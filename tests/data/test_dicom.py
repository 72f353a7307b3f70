import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from medret_nb.data import dicom
from medret_nb.data.dicom_film import apply_table, apply_window, read_dicom
from medret_nb.data.dicom import from_dicom, pseudonym
from medret_nb.data.files import DataError
from medret_nb.data.images import stretch
from medret_nb.data.studies import StudySet

STORED = np.add.outer(np.arange(48) * 60, np.arange(40) * 30).astype(np.uint16)  # 0 .. 3990, 12 bits


def make(path, stored=STORED, syntax=None, drop=(), encoding=ExplicitVRLittleEndian, **tags):
    """A DICOM file of an invented patient, in which every identifying tag holds a word to search for."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = encoding
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = tags.pop("SOPInstanceUID", generate_uid())
    data.StudyInstanceUID, data.SeriesInstanceUID = generate_uid(), generate_uid()
    data.PatientName, data.PatientID, data.PatientBirthDate, data.AccessionNumber = (
        "SECRETNAME^JANE",
        "SECRETNUMBER",
        "19341207",
        "SECRETACC",
    )
    data.InstitutionName, data.ReferringPhysicianName, data.StudyDate, data.StudyDescription = (
        "SECRETCLINIC",
        "SECRETDOCTOR",
        "20111213",
        "SECRETDESCRIPTION",
    )
    data.Modality, data.ViewPosition, data.SamplesPerPixel, data.PixelRepresentation = (
        "DX",
        "PA",
        1,
        int(stored.dtype.kind == "i"),
    )
    data.Rows, data.Columns = stored.shape[:2]
    data.BitsAllocated, data.BitsStored, data.HighBit = (
        (8, 8, 7) if stored.itemsize == 1 else (16, 12, 11) if stored.dtype.kind == "u" else (16, 16, 15)
    )
    data.PhotometricInterpretation, data.PixelData = "MONOCHROME2", stored.tobytes()
    for name, value in tags.items():
        setattr(data, name, value)
    if syntax:
        data.compress(syntax, encoding_plugin="pylibjpeg" if syntax == JPEG2000Lossless else "pydicom")
    for name in drop:
        delattr(data, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path


def lut(bits, first, entries):
    item = Dataset()
    item.LUTDescriptor, item.LUTData = (
        [len(entries), first, bits],
        np.array(entries, np.uint8 if bits == 8 else "<u2").tobytes(),
    )
    return [item]


@pytest.mark.parametrize(
    "tags, expected",
    [
        ({}, stretch(STORED)),
        ({"PhotometricInterpretation": "MONOCHROME1"}, 255 - stretch(STORED)),
        ({"WindowCenter": 2000, "WindowWidth": 1001}, np.rint(255 * np.clip((STORED - 1999.5) / 1000 + 0.5, 0, 1))),
        (
            {"WindowCenter": [2000, 50], "WindowWidth": [1001, 60]},
            np.rint(255 * np.clip((STORED - 1999.5) / 1000 + 0.5, 0, 1)),
        ),
        (
            {"WindowCenter": 2000, "WindowWidth": 1000, "VOILUTFunction": "LINEAR_EXACT"},
            np.rint(255 * np.clip((STORED - 2000.0) / 1000 + 0.5, 0, 1)),
        ),
        (
            {"WindowCenter": 2000, "WindowWidth": 1000, "VOILUTFunction": "SIGMOID"},
            np.rint(255 / (1 + np.exp(-4 * (STORED - 2000.0) / 1000))),
        ),
        (
            {"RescaleSlope": 2, "RescaleIntercept": -1000, "WindowCenter": 3000, "WindowWidth": 2001},
            np.rint(255 * np.clip((2.0 * STORED - 1000 - 2999.5) / 2000 + 0.5, 0, 1)),
        ),
        (
            {"RescaleSlope": -1, "RescaleIntercept": 4095, "WindowCenter": 2000, "WindowWidth": 1001},
            np.rint(255 * np.clip((4095.0 - STORED - 1999.5) / 1000 + 0.5, 0, 1)),
        ),
        ({"VOILUTSequence": lut(12, 1000, list(range(1001)))}, np.rint(255 * np.clip((STORED - 1000.0) / 1000, 0, 1))),
        (
            {
                "VOILUTSequence": lut(8, 0, [min(v // 16, 255) for v in range(4096)]),
                "WindowCenter": 5,
                "WindowWidth": 2,
            },
            STORED // 16 * (255 / (3990 // 16)) * (3990 // 16) / 255,
        ),
        ({"PixelPaddingValue": 3990}, None),
        ({"encoding": ImplicitVRLittleEndian}, stretch(STORED)),
        ({"syntax": JPEG2000Lossless}, stretch(STORED)),
        ({"syntax": RLELossless}, stretch(STORED)),
    ],
)
def test_grey_values_follow_the_standard(tmp_path, tags, expected):
    film, facts = read_dicom(make(tmp_path / "a.dcm", **tags))
    assert film.dtype == np.uint8 and film.shape == STORED.shape and facts["view"] == "PA"
    if expected is None:  # the padding pixel is black and the rest uses the whole range
        assert film[-1, -1] == 0 and film.max() == 255 and film[-2, -1] > 240
    else:
        assert np.abs(film.astype(float) - expected).max() <= 1


@pytest.mark.parametrize("stored", [(STORED // 16).astype(np.uint8), STORED.astype(np.int16) - 2000])
def test_eight_bits_and_signed_values_are_read(tmp_path, stored):
    assert (read_dicom(make(tmp_path / "a.dcm", stored))[0] == stretch(stored)).all()


def test_colour_and_the_window_agree_with_pydicom(tmp_path):
    colour = np.stack([np.full((6, 8), v, np.uint8) for v in (200, 100, 50)], -1)
    film, _ = read_dicom(
        make(tmp_path / "rgb.dcm", colour, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0)
    )
    assert (film == np.asarray(Image.fromarray(colour).convert("L"))).all()
    path = make(tmp_path / "w.dcm", WindowCenter=1500, WindowWidth=900, RescaleSlope=1, RescaleIntercept=-7)
    data = pydicom.dcmread(path)
    judged = pydicom.pixels.apply_voi_lut(pydicom.pixels.apply_modality_lut(data.pixel_array, data), data)
    assert np.abs(read_dicom(path)[0].astype(float) - stretch(judged)).max() <= 1


@pytest.mark.parametrize(
    "tags",
    [
        {"WindowCenter": 2000, "WindowWidth": 0},
        {"WindowCenter": -9000, "WindowWidth": 10},
        {"WindowCenter": "", "WindowWidth": ""},
        {"WindowCenter": 5, "WindowWidth": 9, "VOILUTFunction": "CURVE"},
    ],
)
def test_a_window_that_makes_no_sense_is_ignored_and_noted(tmp_path, tags):
    film, facts = read_dicom(make(tmp_path / "a.dcm", **tags))
    if tags.get("VOILUTFunction") != "CURVE":
        assert (film == stretch(STORED)).all() and "ignored" in facts["notes"][0]
    assert film.min() < film.max()


@pytest.mark.parametrize(
    "tags, view, raw",
    [
        ({"ViewPosition": "AP"}, "AP", "AP"),
        ({"ViewPosition": "LL"}, "LATERAL", "LL"),
        ({"ViewPosition": ""}, "UNKNOWN", ""),
        ({"ViewPosition": "", "PatientOrientation": ["L", "F"]}, "FRONTAL", ""),
        ({"ViewPosition": "", "PatientOrientation": ["A", "F"]}, "LATERAL", ""),
        ({"ViewPosition": "JANE^DOE"}, "UNKNOWN", ""),
    ],
)
def test_the_view_is_found_and_free_text_is_not_kept(tmp_path, tags, view, raw):
    facts = read_dicom(make(tmp_path / "a.dcm", **tags))[1]
    assert (facts["view"], facts["view_raw"]) == (view, raw)


def test_view_code_burned_in_identity_and_mirrored_films_are_noted(tmp_path):
    code = Dataset()
    code.CodeMeaning = "postero-anterior"
    facts = read_dicom(
        make(
            tmp_path / "a.dcm",
            ViewPosition="",
            ViewCodeSequence=[code],
            BurnedInAnnotation="YES",
            PatientOrientation=["R", "F"],
        )
    )[1]
    assert facts["view"] == "PA" and facts["burned_in"] == "yes" and len(facts["notes"]) == 2
    assert read_dicom(make(tmp_path / "b.dcm", BurnedInAnnotation="NO"))[1]["burned_in"] == "no"


def bad(kind, folder):
    """A file that must be refused, and what the message must say."""
    path = folder / "bad.dcm"
    tags = {
        "ct": {"Modality": "CT"},
        "frames": {"NumberOfFrames": 2},
        "short": {"PixelData": STORED.tobytes()[:-100]},
        "long": {"PixelData": STORED.tobytes() + bytes(500)},
        "no pixels": {"drop": ["PixelData"]},
        "no rows": {"drop": ["Rows"]},
        "zero rows": {"Rows": 0},
        "huge": {"Rows": 60_000, "Columns": 60_000},
        "no interpretation": {"drop": ["PhotometricInterpretation"]},
        "odd interpretation": {"PhotometricInterpretation": "MONOCHROMATIC"},
    }
    says = {
        "ct": "modality CT",
        "frames": "2 frames",
        "short": "bytes of pixels",
        "long": "bytes of pixels",
        "no pixels": "no pixels",
        "no rows": "Rows is missing",
        "zero rows": "0 x 40",
        "huge": "limit",
        "no interpretation": "PhotometricInterpretation is missing",
        "odd interpretation": "decoded",
        "empty": "empty",
        "text": "not a DICOM",
        "missing": "no such file",
        "cut": "bad.dcm",
        "JPEG-LS": "pip install",
        "junk J2K": "cannot be decoded",
        "folder": "not a readable",
    }
    if kind in tags:
        make(path, **tags[kind])
    if kind == "empty":
        path.touch()
    if kind == "text":
        path.write_text("no DICOM at all")
    if kind == "cut":
        path.write_bytes(make(path).read_bytes()[:300])
    if kind == "folder":
        path = folder
    if kind in ("JPEG-LS", "junk J2K"):
        data = pydicom.dcmread(make(path))
        data.file_meta.TransferSyntaxUID = JPEGLSLossless if kind == "JPEG-LS" else JPEG2000Lossless
        data.PixelData = encapsulate([b"junk" * 20])
        data["PixelData"].VR = "OB"
        data.save_as(path, enforce_file_format=True)
    return path, says[kind]


@pytest.mark.parametrize(
    "kind",
    [
        "ct",
        "frames",
        "short",
        "long",
        "no pixels",
        "no rows",
        "zero rows",
        "huge",
        "no interpretation",
        "odd interpretation",
        "empty",
        "text",
        "missing",
        "cut",
        "JPEG-LS",
        "junk J2K",
        "folder",
    ],
)
def test_what_is_no_film_is_refused_in_one_line(tmp_path, kind, monkeypatch):
    if kind == "JPEG-LS":
        monkeypatch.setattr(dicom, "get_decoder", lambda syntax: type("Decoder", (), {"is_available": False}))
    path, says = bad(kind, tmp_path)
    with pytest.raises(DataError) as error:
        read_dicom(path)
    assert (
        str(path) in str(error.value)
        and says in str(error.value)
        and "\n" not in str(error.value)
        and "SECRET" not in str(error.value)
    )


@pytest.fixture
def archive(tmp_path):
    """Six studies of three patients, two films each, reports for some, and files that are left out."""
    uids = [generate_uid() for _ in range(6)]
    for i in range(12):
        rng = np.random.default_rng(i)
        make(
            tmp_path / "in" / f"ward{i % 3}" / f"SECRETNAME-{i:02d}.dcm",
            rng.integers(0, 4000, (30 + i, 50)).astype(np.uint16),
            StudyInstanceUID=uids[i // 2],
            PatientID=f"SECRETNUMBER{i // 4}",
            AccessionNumber=f"SECRETACC{i // 2}",
            ViewPosition="PA" if i % 2 == 0 else "LL",
            PatientName=f"SECRETNAME^{i}",
            BurnedInAnnotation="NO",
        )
    make(tmp_path / "in" / "ct.dcm", Modality="CT")
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
    first = make(tmp_path / "in" / "a.dcm", SOPInstanceUID="1.2.3")
    make(tmp_path / "in" / "b.dcm", SOPInstanceUID="1.2.3")
    make(tmp_path / "in" / "c", STORED[::-1].copy(), drop=["PatientID", "StudyInstanceUID", "AccessionNumber"])
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
        make(source / "x.dcm")
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


def test_windows_and_tables_stay_between_black_and_white():
    values = np.random.default_rng(0).normal(0, 1000, 500)
    for form in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        shown = apply_window(values, 10, 300, form)
        assert shown.min() >= 0 and shown.max() <= 1 and (np.diff(shown[np.argsort(values)]) >= 0).all()
    assert apply_window(values, 0, -5) is None and apply_window(values, 0, 0, "SIGMOID") is None
    assert (np.diff(apply_table(np.sort(values), -50, np.arange(100) ** 2)) >= 0).all()
