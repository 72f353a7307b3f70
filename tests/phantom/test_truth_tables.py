"""The truth read back: row by row, for parts of a set, for parts of a report, and retold."""

import json

import numpy as np
import pandas as pd
import pytest

from medret_nb.data.files import DataError
from medret_nb.data.reports import section_text
from medret_nb.data.studies import StudySet
from medret_nb.phantom.assertions import report_fits
from medret_nb.phantom.records import read_truth
from medret_nb.phantom.scenes import Scene
from medret_nb.phantom.truth_tables import load_truth, retell


def test_reports_fit_unless_the_observer_erred(small_phantom):
    truth = load_truth(small_phantom)
    errors = [json.loads(e) for e in read_truth("scenes", small_phantom.folder)["errors"]]
    for reading in ("open", "closed"):
        own = np.diag(truth.fits(reading))
        assert all(fit or err for fit, err in zip(own, errors)) and own.mean() > 0.6
    part = load_truth(small_phantom.split("test"))
    rows = small_phantom.studies.index[small_phantom.studies["split"] == "test"]
    assert [truth.scenes[i] for i in rows] == part.scenes and [truth.reports[i] for i in rows] == part.reports


def test_a_report_of_nothing_is_true_of_whoever_has_nothing(small_phantom):
    truth = load_truth(small_phantom)
    erred = [bool(json.loads(errors)) for errors in read_truth("scenes", small_phantom.folder)["errors"]]
    nothing = [not scene.findings and not wrong for scene, wrong in zip(truth.scenes, erred)]
    healthy = [Scene(truth.scenes[0].patient)]
    fits = report_fits(truth.reports, healthy, "open")[:, 0]
    assert any(nothing) and fits[nothing].all()


def test_a_text_claims_what_its_own_sections_claim(small_phantom):
    whole = load_truth(small_phantom)
    both, short = (load_truth(small_phantom, section_text(small_phantom, policy)) for policy in ("both", "impression"))
    assert both.reports == whole.reports
    table = small_phantom.studies
    for row, (all_of, some) in enumerate(zip(whole.reports, short.reports)):
        here = "impression" if table["impression"][row].strip() else "findings"
        assert [a for a in all_of if a.section == here] == [a for a in some if a.section == here]
        assert {a.section for a in some} <= {here} or table["findings"][row].strip() in table["impression"][row]
    assert sum(map(len, short.reports)) < sum(map(len, whole.reports)) and (short.fits() >= whole.fits()).all()


def test_retelling_the_same_scene_gives_the_report(small_phantom):
    truth = load_truth(small_phantom)
    for row in range(6):
        report = retell(truth, row, truth.scenes[row])
        assert report.findings == small_phantom.studies["findings"][row]
        assert report.impression == small_phantom.studies["impression"][row]


def test_only_a_phantom_has_a_truth(tmp_path):
    studies = pd.DataFrame({"study_id": ["a"]})
    images = pd.DataFrame({"image_id": [], "study_id": [], "path": []})
    for folder in (tmp_path, None):
        with pytest.raises(DataError, match="only a phantom"):
            load_truth(StudySet(studies, images, folder=folder))


def test_tables_of_a_part_hold_its_studies_alone(small_phantom):
    part = small_phantom.split("val")
    truth = load_truth(part)
    ids = set(part.studies["study_id"])
    for table in (truth.findings, truth.visibility, truth.sentences, truth.ambiguity):
        assert set(table["study_id"]) <= ids and table.index.tolist() == list(range(len(table)))
    assert truth.ambiguity["study_id"].tolist() == part.studies["study_id"].tolist()
