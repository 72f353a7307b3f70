import numpy as np
import pydicom
import pytest
from invented import DICOM_STORED as STORED
from invented import make_dicom
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from medret_nb.data import dicom_film
from medret_nb.data.dicom_film import apply_table, apply_window, read_dicom, read_film
from medret_nb.data.files import DataError
from medret_nb.data.images import stretch


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
    film, facts = read_dicom(make_dicom(tmp_path / "a.dcm", **tags))
    assert film.dtype == np.uint8 and film.shape == STORED.shape and facts["view"] == "PA"
    if expected is None:  # the padding pixel is black and the rest uses the whole range
        assert film[-1, -1] == 0 and film.max() == 255 and film[-2, -1] > 240
    else:
        assert np.abs(film.astype(float) - expected).max() <= 1


@pytest.mark.parametrize("stored", [(STORED // 16).astype(np.uint8), STORED.astype(np.int16) - 2000])
def test_eight_bits_and_signed_values_are_read(tmp_path, stored):
    assert (read_dicom(make_dicom(tmp_path / "a.dcm", stored))[0] == stretch(stored)).all()


def test_colour_and_the_window_agree_with_pydicom(tmp_path):
    colour = np.stack([np.full((6, 8), v, np.uint8) for v in (200, 100, 50)], -1)
    film, _ = read_dicom(
        make_dicom(
            tmp_path / "rgb.dcm", colour, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0
        )
    )
    assert (film == np.asarray(Image.fromarray(colour).convert("L"))).all()
    path = make_dicom(tmp_path / "w.dcm", WindowCenter=1500, WindowWidth=900, RescaleSlope=1, RescaleIntercept=-7)
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
    film, facts = read_dicom(make_dicom(tmp_path / "a.dcm", **tags))
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
    facts = read_dicom(make_dicom(tmp_path / "a.dcm", **tags))[1]
    assert (facts["view"], facts["view_raw"]) == (view, raw)


def test_view_code_burned_in_identity_and_mirrored_films_are_noted(tmp_path):
    code = Dataset()
    code.CodeMeaning = "postero-anterior"
    facts = read_dicom(
        make_dicom(
            tmp_path / "a.dcm",
            ViewPosition="",
            ViewCodeSequence=[code],
            BurnedInAnnotation="YES",
            PatientOrientation=["R", "F"],
        )
    )[1]
    assert facts["view"] == "PA" and facts["burned_in"] == "yes" and len(facts["notes"]) == 2
    assert read_dicom(make_dicom(tmp_path / "b.dcm", BurnedInAnnotation="NO"))[1]["burned_in"] == "no"


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
        make_dicom(path, **tags[kind])
    if kind == "empty":
        path.touch()
    if kind == "text":
        path.write_text("no DICOM at all")
    if kind == "cut":
        path.write_bytes(make_dicom(path).read_bytes()[:300])
    if kind == "folder":
        path = folder
    if kind in ("JPEG-LS", "junk J2K"):
        data = pydicom.dcmread(make_dicom(path))
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
        monkeypatch.setattr(dicom_film, "get_decoder", lambda syntax: type("Decoder", (), {"is_available": False}))
    path, says = bad(kind, tmp_path)
    with pytest.raises(DataError) as error:
        read_dicom(path)
    assert (
        str(path) in str(error.value)
        and says in str(error.value)
        and "\n" not in str(error.value)
        and "SECRET" not in str(error.value)
    )


def test_windows_and_tables_stay_between_black_and_white():
    values = np.random.default_rng(0).normal(0, 1000, 500)
    for form in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        shown = apply_window(values, 10, 300, form)
        assert shown.min() >= 0 and shown.max() <= 1 and (np.diff(shown[np.argsort(values)]) >= 0).all()
    assert apply_window(values, 0, -5) is None and apply_window(values, 0, 0, "SIGMOID") is None
    assert (np.diff(apply_table(np.sort(values), -50, np.arange(100) ** 2)) >= 0).all()


@pytest.mark.parametrize("form", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_the_window_is_its_equation_value_by_value(form):
    values = np.random.default_rng(1).uniform(-20, 40, 300)
    centre = 7.0
    width = 11.0
    found = apply_window(values, centre, width, form)
    for v, grey in zip(values, found, strict=True):
        if form == "SIGMOID":
            expected = 1 / (1 + np.exp(-4 * (v - centre) / width))
        elif form == "LINEAR_EXACT":
            expected = min(max((v - centre) / width + 0.5, 0), 1)
        else:
            expected = min(max((v - (centre - 0.5)) / (width - 1) + 0.5, 0), 1)
        assert grey == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("raw", ["SCHMIDT", "ANNA PA", "PA MEIER", "JANE_DOE", "AP 19341207", "PA/AP"])
def test_a_view_that_may_hold_a_name_is_not_kept(tmp_path, raw):
    kept = read_dicom(make_dicom(tmp_path / "a.dcm", ViewPosition=raw))[1]["view_raw"]
    assert kept == (raw if raw == "PA/AP" else "")


def test_one_film_is_read_whatever_it_is_stored_in(tmp_path):
    path = make_dicom(tmp_path / "a.dcm")
    film = read_dicom(path)[0]
    assert (read_film(path) == film).all()
    path.rename(tmp_path / "without-suffix")
    assert (read_film(tmp_path / "without-suffix") == film).all()
    Image.fromarray(film).save(tmp_path / "a.png")
    assert (read_film(tmp_path / "a.png") == film).all()
    for tags in ({"Modality": "CT"}, {"Modality": "XC"}, {"NumberOfFrames": 2}):
        with pytest.raises(DataError, match="a.dcm"):
            read_film(make_dicom(tmp_path / "a.dcm", **tags))
    (tmp_path / "b.dcm").write_bytes(b"no")
    for name in ("b.dcm", "lost.dcm", "lost.png"):
        with pytest.raises(DataError, match=name):
            read_film(tmp_path / name)


def test_a_line_of_pixels_is_refused_before_it_is_decoded(tmp_path):
    with pytest.raises(DataError, match="40,000 on a side"):
        read_dicom(make_dicom(tmp_path / "a.dcm", Rows=1, Columns=60_000))
