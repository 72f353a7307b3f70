"""Small invented sources of data that several tests read: an archive as OpenI's, a tree as MIMIC-CXR's, DICOM files."""

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, JPEG2000Lossless, generate_uid

from medret_nb.data.finding_names import FINDINGS

# OpenI

OPENI_CODES = ["normal", "Pleural Effusion/left/large", "Cardiomegaly", "Scoliosis"]
OPENI_REPORT = """<?xml version="1.0" encoding="utf-8"?>
<eCitation><uId id="CXR{n}"/><MedlineCitation><Article><Abstract>
<AbstractText Label="INDICATION">Cough.</AbstractText><AbstractText Label="FINDINGS">{text}</AbstractText>
<AbstractText Label="IMPRESSION"/></Abstract></Article></MedlineCitation><MeSH><major>{code}</major></MeSH>
<parentImage id="CXR{n}_IM-0001-1001"/></eCitation>"""


def openi_report(n: int, text: str = "Clear lungs.", code: str = "normal") -> str:
    """One report as XML."""
    return OPENI_REPORT.format(n=n, text=text, code=code)


def pack(path: Path, members: dict, mode: str = "w:gz") -> Path:
    """Write a tar archive: name -> text, or a header of its own (a link, say)."""
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            header = content if isinstance(content, tarfile.TarInfo) else tarfile.TarInfo(name)
            data = content.encode() if isinstance(content, str) else b""
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
    return path


def openi_archive(path: Path) -> Path:
    """24 reports, each with another text, and four codes that take turns."""
    reports = {f"r/{n}.xml": openi_report(n, f"Report {n}.", OPENI_CODES[n % 4]) for n in range(1, 25)}
    return pack(path, reports)


# MIMIC-CXR: three patients, one with two studies, one study without a frontal view
# patient, study, film, ViewPosition, view code, split
MIMIC_FILMS = [
    ("10000001", "50000001", "aa-1", "PA", "postero-anterior", "train"),
    ("10000001", "50000001", "aa-2", "LL", "left lateral", "train"),
    ("10000001", "50000002", "bb-1", "", "antero-posterior", "train"),
    ("11000002", "50000003", "cc-1", "AP", "antero-posterior", "validate"),
    ("11000002", "50000003", "cc-2", "SWIMMERS", "", "validate"),
    ("19000003", "50000004", "dd-1", "LATERAL", "lateral", "test"),
]
MIMIC_REPORTS = {
    "50000001": "FINAL REPORT\n HISTORY: Cough.\n\n FINDINGS:  Small left effusion.\n\n IMPRESSION:  Effusion.",
    "50000002": "WET READ: Perhaps fluid.\n" + "_" * 78 + "\n FINAL REPORT\n IMPRESSION:  No fluid.",
    "50000003": "FINAL REPORT\n COMPARISON:  ___.\n\n The heart is large.",
}
MIMIC_LABELS = {
    "50000001": {"Pleural Effusion": "1.0", "Edema": "-1.0"},
    "50000002": {"Pleural Effusion": "0.0"},
    "50000003": {"Cardiomegaly": "1.0"},
}


def mimic_metadata() -> pd.DataFrame:
    """The table of films."""
    rows = [
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
        for person, study, film, view, code, _ in MIMIC_FILMS
    ]
    return pd.DataFrame(rows)


def mimic_splits() -> pd.DataFrame:
    """The table of splits."""
    rows = [
        {"dicom_id": film, "study_id": study, "subject_id": person, "split": split}
        for person, study, film, _, _, split in MIMIC_FILMS
    ]
    return pd.DataFrame(rows)


def mimic_labels() -> pd.DataFrame:
    """The table of a labelling program."""
    nothing = dict.fromkeys(sorted(FINDINGS), "")
    rows = [{"subject_id": "1", "study_id": study, **nothing, **values} for study, values in MIMIC_LABELS.items()]
    return pd.DataFrame(rows)


def mimic_tree(root: Path, suffix: str = ".jpg", packed: bool = True) -> Path:
    """The folder of MIMIC-CXR-JPG: tables and films, without reports."""
    root.mkdir(parents=True, exist_ok=True)
    end = ".gz" if packed else ""
    for name, table in (("metadata", mimic_metadata()), ("split", mimic_splits()), ("chexpert", mimic_labels())):
        table.to_csv(root / f"mimic-cxr-2.0.0-{name}.csv{end}", index=False)
    for k, (person, study, film, *_) in enumerate(MIMIC_FILMS):
        path = root / "files" / f"p{person[:2]}" / f"p{person}" / f"s{study}" / f"{film}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((60, 40), 30 * k, np.uint8)).save(path)
    return root


def mimic_member(study: str) -> str:
    """Where the report of a study lies in the archive."""
    person = next(person for person, number, *_ in MIMIC_FILMS if number == study)
    return f"files/p{person[:2]}/p{person}/s{study}.txt"


def mimic_reports_zip(path: Path, extra=()) -> Path:
    """The archive of reports, with extra members (name or header, text)."""
    with zipfile.ZipFile(path, "w") as archive:
        for study, text in MIMIC_REPORTS.items():
            archive.writestr(mimic_member(study), text)
        for name, text in extra:
            archive.writestr(name, text)
    return path


# DICOM

DICOM_STORED = np.add.outer(np.arange(48) * 60, np.arange(40) * 30).astype(np.uint16)  # 0 .. 3990, 12 bits
DICOM_TAGS = {  # every identifying tag holds a word to search for
    "PatientName": "SECRETNAME^JANE",
    "PatientID": "SECRETNUMBER",
    "PatientBirthDate": "19341207",
    "AccessionNumber": "SECRETACC",
    "InstitutionName": "SECRETCLINIC",
    "ReferringPhysicianName": "SECRETDOCTOR",
    "StudyDate": "20111213",
    "StudyDescription": "SECRETDESCRIPTION",
    "Modality": "DX",
    "ViewPosition": "PA",
    "SamplesPerPixel": 1,
    "PhotometricInterpretation": "MONOCHROME2",
}


def dicom_bits(stored: np.ndarray) -> tuple[int, int, int]:
    """BitsAllocated, BitsStored and HighBit that an array asks for."""
    if stored.itemsize == 1:
        return 8, 8, 7
    return (16, 12, 11) if stored.dtype.kind == "u" else (16, 16, 15)


def make_dicom(path, stored=DICOM_STORED, syntax=None, drop=(), encoding=ExplicitVRLittleEndian, **tags) -> Path:
    """A DICOM file of an invented patient, with other tags where given, and without those to drop."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = encoding
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = tags.pop("SOPInstanceUID", generate_uid())
    data.StudyInstanceUID = generate_uid()
    data.SeriesInstanceUID = generate_uid()
    data.PixelRepresentation = int(stored.dtype.kind == "i")
    data.Rows, data.Columns = stored.shape[:2]
    data.BitsAllocated, data.BitsStored, data.HighBit = dicom_bits(stored)
    for name, value in {**DICOM_TAGS, "PixelData": stored.tobytes(), **tags}.items():
        setattr(data, name, value)
    if syntax:
        data.compress(syntax, encoding_plugin="pylibjpeg" if syntax == JPEG2000Lossless else "pydicom")
    for name in drop:
        delattr(data, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)
    return path
