"""Data that may not be passed on.

Of a restricted set no report text, no pixel and no identifying tag is in any exported file.
"""

import base64
import io
import re
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

from medret_nb.cli.page import write_page
from medret_nb.cli.plan import QUICK
from medret_nb.cli.summary import ask_with_films, ask_with_sentences, results_table, save_table
from medret_nb.cli.tour_page import draw_figures, report_sections
from medret_nb.data.dicom import from_dicom
from medret_nb.data.overview import overview_text
from medret_nb.data.sources import from_csv
from medret_nb.data.studies import NOT_FOR_SHARING, StudySet
from medret_nb.evaluation.results import evaluate
from medret_nb.methods.clip import CLIP, CLIPConfig
from medret_nb.retrieval.embeddings import embed
from medret_nb.retrieval.search import build_index
from medret_nb.training.loop import TrainConfig, fit

SIZE, COUNT = 32, 40
TAGS = {
    "PatientName": "QUILLFEATHER^ZEBEDEE",
    "PatientID": "MRN7756190",
    "PatientBirthDate": "19340717",
    "AccessionNumber": "ACC5521907",
    "InstitutionName": "SAINT ODILO HOSPITAL",
    "ReferringPhysicianName": "VANDERQUIST^OTTOLINE",
    "StudyDate": "20080229",
    "StudyDescription": "QUERULOUS COUGH",
    "OperatorsName": "PEMBERWICK",
    "PatientAddress": "17 HOLLOWAY MEWS",
    "ImageComments": "seen with mother Hephzibah",
    "DeviceSerialNumber": "SN99120477",
}


def report(k: int) -> str:
    return f"Ward sister Philomena {k} notes a fluffy opacity. The heart of Mr Quillfeather is enlarged by {k + 11} mm."


def film(k: int) -> np.ndarray:
    "A film unlike all others."
    return np.random.default_rng(k).integers(20, 255, (48, 48), dtype=np.uint8)


def write_dicom(path, k: int):
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"1.2.826.0.1.99.{k}.3"
    data.StudyInstanceUID, data.SeriesInstanceUID = f"1.2.826.0.1.99.{k}.1", f"1.2.826.0.1.99.{k}.2"
    for name, value in TAGS.items():
        setattr(data, name, value)
    data.PatientID, data.AccessionNumber = f"{TAGS['PatientID']}{k}", f"{TAGS['AccessionNumber']}{k}"
    (
        data.Modality,
        data.ViewPosition,
        data.SamplesPerPixel,
        data.PixelRepresentation,
        data.BitsAllocated,
        data.BitsStored,
        data.HighBit,
    ) = "DX", "PA", 1, 0, 8, 8, 7
    data.Rows, data.Columns, data.PhotometricInterpretation, data.PixelData, data.BurnedInAnnotation = (
        48,
        48,
        "MONOCHROME2",
        film(k).tobytes(),
        "NO",
    )
    data.save_as(path, enforce_file_format=True)


def split(k: int) -> str:
    return "test" if k >= 28 else "val" if k >= 20 else "train"


def from_tables(home):
    (home / "source").mkdir(parents=True)
    for k in range(COUNT):
        Image.fromarray(film(k)).save(home / "source" / f"f{k}.png")
    rows = "".join(
        f"s{k},p{k},{split(k)},{report(k)},f{k}.png,PA,{'Cardiomegaly' if k % 2 else 'Edema=-1'}\n"
        for k in range(COUNT)
    )
    (home / "source" / "studies.csv").write_text("study_id,patient_id,split,findings,path,view,labels\n" + rows)
    return from_csv(home / "source", home / "set", restricted=True, quiet=True)


def from_films(home):
    (home / "source").mkdir(parents=True)
    for k in range(COUNT):
        write_dicom(home / "source" / f"{TAGS['PatientID']}{k}.dcm", k)
    rows = "".join(f"1.2.826.0.1.99.{k}.1,{split(k)},{report(k)}\n" for k in range(COUNT))
    (home / "reports.csv").write_text("study_id,split,findings\n" + rows)
    return from_dicom(home / "source", home / "reports.csv", home / "set", quiet=True)


def export_all(studies: StudySet, out, show: bool | None = None):
    """Everything that the package writes beside the StudySet itself.

    Run, points, rankings, index, tables, figures, page.
    """
    training = TrainConfig(epochs=1, batch_size=8)
    method = CLIP.create(CLIPConfig(dim=16, size=SIZE, max_words=32))
    run = fit(method, studies, training, out / "run", progress=False)
    test = studies.split("test")
    points = embed(method, studies, "test", out=out / "run" / "embeddings", progress=False)
    results = {
        f"CLIP, {p}": evaluate(points, test, p, (1, 5, 10), out / "run" / "evaluation", verbose=False)
        for p in ("exact", "text")
    }
    results["control, exact"] = results["CLIP, exact"]
    for kind, side in points.items():
        build_index(side).save(out / f"index-{kind}")
    save_table(results_table(results), out / "results")
    found = ask_with_films(points, test, "both", show=show) + ask_with_sentences(method, points, test, show=show)
    uris = draw_figures(out / "figures", run, results, studies, SIZE, show=show)
    sections = report_sections(QUICK, studies, run, results, found, uris, {"all": 1.0})
    write_page(
        out / "report.html",
        "A report",
        "On restricted data.",
        sections,
        (NOT_FOR_SHARING,) if studies.restricted else (),
    )
    return out


@pytest.fixture(scope="module", params=["tables", "DICOM"])
def exported(request, tmp_path_factory):
    home = tmp_path_factory.mktemp(f"restricted-{request.param}")
    studies = (from_tables if request.param == "tables" else from_films)(home)
    return studies, export_all(studies, home / "out")


# looking into files


def pieces(content: bytes, suffix: str):
    "The content itself, and what is packed inside: data addresses, compressed streams, pictures, columns of tables."
    yield content
    for address in re.findall(rb"base64,([A-Za-z0-9+/=\s]{40,})", content):
        inner = base64.b64decode(address)
        yield from pieces(inner, ".png" if inner.startswith(b"\x89PNG") else ".svg")
    if suffix == ".pdf":
        for stream in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", content, re.DOTALL):
            try:
                yield zlib.decompress(stream)
            except zlib.error:
                yield stream
    if suffix == ".png":
        yield np.asarray(Image.open(io.BytesIO(content)).convert("L")).tobytes()
    if suffix == ".parquet":
        for column in pq.read_table(io.BytesIO(content)).columns:
            values = column.to_pylist()
            yield "\n".join(map(str, values)).encode()
            if pa.types.is_nested(column.type):
                yield np.array([v for row in values if row for v in row], np.float32).tobytes()


def everything(folder):
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield str(path.relative_to(folder)), str(path.relative_to(folder)).encode()
            for piece in pieces(path.read_bytes(), path.suffix):
                yield str(path.relative_to(folder)), piece


def holds(folder, needles: dict[str, bytes]) -> list[tuple[str, str]]:
    """(file, needle) for each needle that is found, whatever its case.

    A date must stand alone, for longer numbers hold any digits by chance.
    """
    wanted = {
        name: re.compile(rb"(?<![\d.])" + needle + rb"(?!\d)" if needle.isdigit() else re.escape(needle.lower()))
        for name, needle in needles.items()
    }
    return sorted(
        {
            (file, name)
            for file, piece in everything(folder)
            for low in [piece.lower()]
            for name, needle in wanted.items()
            if needle.search(low)
        }
    )


def text_needles() -> dict[str, bytes]:
    "Words of the reports and pieces of their sentences."
    words = ("philomena", "quillfeather", "fluffy opacity", "ward sister", "is enlarged by")
    return {word: word.encode() for word in words} | {f"report {k}": report(k)[:24].encode() for k in range(COUNT)}


def pixel_needles(studies: StudySet) -> dict[str, bytes]:
    """Runs of 12 grey values of each film, as it is in the file and as the model sees it, as bytes and as float32
    fractions.
    """
    rows = {}
    for k, image in enumerate(studies.images["image_id"]):
        for name, pixels in (("file", film(k)), ("square", studies.pixels(SIZE).take([image])[0])):
            run = pixels[len(pixels) // 2, 8:20]
            rows[f"{name} {k}"] = run.tobytes()
            rows[f"{name} {k} float"] = (run / np.float32(255)).astype(np.float32).tobytes()
    return rows


@pytest.mark.parametrize("exported", ["tables"], indirect=True)
def test_the_search_finds_what_is_there(exported, tmp_path):
    "The net has no holes: with `show=True` texts, and films as they lie on disk, are found in page and figures."
    studies = exported[0]
    studies.info["restricted"] = True
    out = export_all(studies, tmp_path, show=True)
    found = holds(out, text_needles() | pixel_needles(studies))
    shown = {name for file, name in found if file == "report.html"}
    assert "philomena" in shown and any(name.startswith("file") for name in shown)
    assert any(name.startswith("films.") for name in {path.name for path in (out / "figures").iterdir()})
    for suffix in ("pdf", "svg", "png"):
        assert (out / "figures" / f"films.{suffix}").exists()


def test_no_text_no_pixel_and_no_tag_leaves_a_restricted_set(exported):
    studies, out = exported
    assert studies.restricted and len(list(out.rglob("*.parquet"))) >= 8
    tags = {name: value.split("^")[0].encode() for name, value in TAGS.items()}
    uids = {f"uid {k}": f"1.2.826.0.1.99.{k}.".encode() for k in range(COUNT)}
    assert holds(out, text_needles() | pixel_needles(studies) | tags | uids) == []
    assert not list(out.rglob("pixels-*")) and not list((out / "figures").glob("films.*"))


def test_the_page_holds_no_film_and_says_what_it_is(exported):
    html = (exported[1] / "report.html").read_text()
    assert (
        NOT_FOR_SHARING in html
        and 'alt="radiograph"' not in html
        and "data:image/png" not in html
        and "data:image/jpeg" not in html
    )
    named = [study for study in exported[0].split("test").studies["study_id"] if study in html]
    assert named  # ids are there: a person with access can look them up


@pytest.mark.parametrize("exported", ["DICOM"], indirect=True)
def test_a_studyset_from_dicom_holds_no_tag_either(exported):
    studies = exported[0]
    needles = {name: value.split("^")[0].encode() for name, value in TAGS.items()} | {
        f"uid {k}": f"1.2.826.0.1.99.{k}.".encode() for k in range(COUNT)
    }
    del needles["PatientName"]  # this name stands in the reports too, whose texts belong to the set
    assert holds(studies.folder, needles) == [] and not (studies.folder / ".importing").exists()
    assert all(pydicom.misc.is_dicom(path) is False for path in studies.image_paths())


def test_restricted_stays_with_every_part_of_a_set(exported):
    studies = exported[0]
    again = StudySet.load(studies.folder)
    assert (
        again.restricted and again.split("test").restricted and again.select(studies.studies["study_id"][:3]).restricted
    )
    assert "RESTRICTED" in overview_text(again.overview())
    assert StudySet(again.studies, again.images).restricted  # nobody says anything: unknown is not free
    assert not StudySet(again.studies, again.images, info={"restricted": False}).restricted
