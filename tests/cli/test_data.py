"""The commands that gather studies, as typed: tables, OpenI, an invented MIMIC-CXR."""

import json

import numpy as np
import pandas as pd
from PIL import Image

from medret_nb.cli.data import written_forms
from medret_nb.phantom.dictation import FORMS


def test_csv_import(medret, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(source / "a.png")
    pd.DataFrame({"study_id": ["s1"], "patient_id": ["p1"], "findings": ["No effusion."]}).to_csv(
        source / "studies.csv", index=False
    )
    pd.DataFrame({"image_id": ["i1"], "study_id": ["s1"], "path": ["a.png"], "view": ["PA"]}).to_csv(
        source / "images.csv", index=False
    )
    done = medret("data", "csv", source, tmp_path / "out", "--restricted")
    assert done.returncode == 0, done.stderr
    assert "1 studies" in done.stdout and "RESTRICTED" in done.stdout
    assert json.loads((tmp_path / "out" / "dataset.json").read_text())["restricted"] is True


def test_openi_import(medret, tmp_path, shared_data):
    done = medret("data", "openi", shared_data / "openi" / "NLMCXR_reports.tgz", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "3955 studies" in done.stdout.replace(",", "")


def test_mimic_import(medret, tmp_path, refused):
    """An invented tree of two patients, with a scene graph and a phrase; a wrong annotation leaves nothing behind."""
    source, out = tmp_path / "source", tmp_path / "out"
    table = pd.DataFrame(
        {
            "dicom_id": ["a1", "b1"],
            "subject_id": ["10000001", "11000002"],
            "study_id": ["50000001", "50000002"],
            "ViewPosition": ["PA", "LL"],
            "Rows": 20,
            "Columns": 40,
        }
    )
    for row in table.itertuples():
        film = (
            source
            / "files"
            / f"p{row.subject_id[:2]}"
            / f"p{row.subject_id}"
            / f"s{row.study_id}"
            / f"{row.dicom_id}.jpg"
        )
        film.parent.mkdir(parents=True)
        Image.fromarray(np.zeros((20, 40), np.uint8)).save(film)
        film.parent.with_suffix(".txt").write_text("FINAL REPORT\n FINDINGS: Invented.")
    table.to_csv(source / "mimic-cxr-2.0.0-metadata.csv.gz", index=False)
    table[["dicom_id"]].assign(split=["train", "validate"]).to_csv(source / "mimic-cxr-2.0.0-split.csv", index=False)
    (tmp_path / "graphs").mkdir()
    lung = {"bbox_name": "left lung", "original_x1": 20, "original_y1": 0, "original_x2": 40, "original_y2": 10}
    (tmp_path / "graphs" / "a1_SceneGraph.json").write_text(
        json.dumps({"image_id": "a1", "objects": [lung], "attributes": []})
    )
    phrases = pd.DataFrame(
        {
            "dicom_id": ["a1"],
            "category_name": ["Edema"],
            "label_text": ["invented"],
            "x": 0,
            "y": 0,
            "w": 10,
            "h": 10,
            "image_width": 40,
            "image_height": 20,
        }
    )
    phrases.drop(columns="w").to_csv(tmp_path / "wrong.csv", index=False)
    phrases.to_csv(tmp_path / "phrases.csv", index=False)
    refused(
        medret("data", "mimic", source, out, "--ms-cxr", tmp_path / "wrong.csv"), "wrong.csv", "column w is missing"
    )
    assert not out.exists()
    done = medret(
        "data", "mimic", source, out, "--imagenome", tmp_path / "graphs", "--ms-cxr", tmp_path / "phrases.csv"
    )
    assert done.returncode == 0, done.stderr
    assert (
        "RESTRICTED" in done.stdout
        and "2 studies" in done.stdout
        and "1 of 2 films have annotations" in done.stdout
        and "no table of labels" in done.stdout
    )
    info, regions = json.loads((out / "dataset.json").read_text()), pd.read_parquet(out / "regions.parquet")
    assert info["restricted"] is True and regions[["kind", "source", "x0", "y1"]].values.tolist() == [
        ["anatomy", "silver", 0.5, 0.5],
        ["finding", "manual", 0.0, 0.5],
    ]
    assert pd.read_parquet(out / "studies.parquet")["split"].tolist() == ["train", "val"]


def test_every_report_of_a_written_set_has_a_text():
    forms = written_forms("balanced", "A")
    assert forms.neither == 0 and FORMS["balanced", "A"].neither > 0
