"""Labels read by rules: sentences that must be read rightly, places, labels, agreement with truth and with people."""

import numpy as np
import pytest

from medret_nb.data.codes import labels_from_codes
from medret_nb.data.finding_names import FINDINGS
from medret_nb.data.openi import read_openi
from medret_nb.evaluation import labeller
from medret_nb.evaluation.labeller import label_agreement, label_report, read_sightings
from medret_nb.phantom.assertions import labels_of
from medret_nb.phantom.dictation import dictate
from medret_nb.phantom.patients import sample_scenes

READ = [
    ("The effusion has not resolved.", {"Pleural Effusion": 1}),
    ("The effusion has not yet completely resolved.", {"Pleural Effusion": 1}),
    ("The effusion has resolved.", {"Pleural Effusion": 0}),
    ("The previously seen left effusion is no longer present.", {"Pleural Effusion": 0}),
    ("There is no longer a pneumothorax.", {"Pneumothorax": 0}),
    ("Neither effusion nor pneumothorax.", {"Pleural Effusion": 0, "Pneumothorax": 0}),
    ("Neither edema nor pneumonia, but a nodule.", {"Edema": 0, "Pneumonia": 0, "Lung Lesion": 1}),
    ("No evidence of pneumothorax, although a small effusion persists.", {"Pneumothorax": 0, "Pleural Effusion": 1}),
    ("Although no pneumothorax is seen, an effusion is present.", {"Pneumothorax": 0, "Pleural Effusion": 1}),
    ("Without pneumothorax or effusion on the right.", {"Pneumothorax": 0, "Pleural Effusion": 0}),
    ("No consolidation, pneumothorax, or large pleural effusion.", dict.fromkeys(("Pneumothorax", "Consolidation"), 0)),
    ("Lungs are clear of consolidation, edema, or effusion.", {"Consolidation": 0, "Pleural Effusion": 0}),
    ("No change in the right effusion.", {"Pleural Effusion": 1}),
    ("No significant interval change in pneumothorax.", {"Pneumothorax": 1}),
    ("Pneumonia cannot be excluded.", {"Pneumonia": -1}),
    ("Possible small effusion.", {"Pleural Effusion": -1}),
    ("Atelectasis versus pneumonia.", {"Atelectasis": -1, "Pneumonia": -1}),
    ("Right base opacity, concerning for pneumonia.", {"Lung Opacity": 1, "Pneumonia": -1}),
    ("Heart size is normal.", {"Cardiomegaly": 0}),
    ("The heart is mildly enlarged.", {"Cardiomegaly": 1}),
    ("The cardiac silhouette is not enlarged.", {"Cardiomegaly": 0}),
    ("Heart size is borderline enlarged.", {"Cardiomegaly": -1}),
    ("Blunting of the right costophrenic angle.", {"Pleural Effusion": 1}),
    ("Trace fluid layers in the left sulcus.", {"Pleural Effusion": 1}),
    ("Nodular opacity at the left base.", {"Lung Lesion": 1, "Lung Opacity": 1}),
    ("The PICC has been removed.", {"Support Devices": 0}),
    ("CT is recommended to characterize the nodule.", {}),
    ("Calcified nodule.", {}),
]


@pytest.mark.parametrize(("sentence", "labels"), READ, ids=[sentence for sentence, _ in READ])
def test_a_sentence_is_read_rightly(sentence, labels):
    read = label_report(sentence)
    assert {name: read[name] for name in labels} == labels
    if not labels:
        assert all(read[name] is None for name in FINDINGS[1:])


def places(text):
    return {(s.observation, s.side, s.zone) for s in read_sightings(text) if s.value}


def test_a_place_belongs_to_its_own_finding():
    found = places("8 mm nodule in the left upper lobe; pneumonia cannot be excluded.")
    assert found == {("Lung Lesion", "left", "upper"), ("Pneumonia", "", "")}
    found = places("Nodule in the left upper lobe and right effusion.")
    assert found == {("Lung Lesion", "left", "upper"), ("Pleural Effusion", "right", "")}
    found = places("Fracture of the left sixth rib.")
    assert found == {("Fracture", "left", "mid")}
    assert ("Pneumonia", "right", "lower") in places("Right base opacity, concerning for pneumonia.")
    assert ("Atelectasis", "right", "") in places("Small right effusion with adjacent atelectasis.")
    assert places("Bilateral effusions, right greater than left.") == {("Pleural Effusion", "bilateral", "")}


def test_a_device_says_whether_it_lies_astray():
    assert places("Nasogastric tube ends above the diaphragm.") == {("Support Devices", "", labeller.MISPLACED)}
    assert places("Nasogastric tube in the stomach.") == {("Support Devices", "", "")}


def test_no_finding_and_an_empty_report():
    assert label_report("Lungs are clear. Right PICC.")["No Finding"] == 1
    assert label_report("Possible edema.")["No Finding"] is None
    assert set(label_report("").values()) == set(label_report(" . ").values()) == {None}
    both = label_report("No effusion. Small left effusion. Possible edema. No edema.")
    assert both["Pleural Effusion"] == 1 and both["Edema"] == -1


def test_any_text_is_read():
    for text in ("xxxx", "no " * 500, "effusion " * 300, "<b>No</b> \n\n effusion!", "\0 pneumothorax ünd", "1. 2. 3."):
        assert set(label_report(text)) == set(FINDINGS)


def test_agreement_says_what_is_too_few():
    given = [{"Edema": int(i % 3 == 0), "Fracture": int(i < 3)} for i in range(120)]
    read = [{"Edema": int(i % 3 == 0 or i < 9), "Fracture": int(i < 3)} for i in range(120)]
    table = label_agreement(read, given, draws=50).set_index("observation")
    edema = table.loc["Edema"]
    assert (edema["given"], edema["read"]) == (40, 46) and edema["recall"] == 1
    assert edema["precision"] == pytest.approx(40 / 46) and edema["precision_low"] < 40 / 46 < edema["precision_high"]
    assert edema["kappa_low"] < edema["kappa"] < edema["kappa_high"]
    assert np.isnan(table.loc["Fracture", "recall_low"]) and np.isnan(table.loc["Fracture", "kappa_low"])
    assert "too few" in labeller.agreement_lines(table.reset_index())[-3]
    with pytest.raises(ValueError):
        label_agreement(read[:-1], given)


@pytest.mark.parametrize("site", ["A", "B"])
def test_the_phantoms_truth_is_read(site):
    read = []
    given = []
    wrong = 0
    for i, scene in enumerate(sample_scenes(120, 4, site=site)):
        sentences = [said for _, said in dictate(scene, (4, i), site).sentences]
        read.append(label_report(" ".join(said.text for said in sentences)))
        given.append(labels_of([claim for said in sentences for claim in said.claims]))
        for said in sentences:
            claims = [a for a in said.claims if a.label and a.present and a.label not in labeller.SIDELESS]
            told = {place for place in places(said.text) if place[0] not in labeller.SIDELESS}
            wrong += {(a.label, a.side, a.zone) for a in claims} != told
    assert label_agreement(read, given, draws=20)["kappa"].min() > 0.95
    assert wrong <= 3, "sentences of which a place is read wrongly"


def test_openis_codes_are_read(shared_data):
    archive = shared_data / "openi" / "NLMCXR_reports.tgz"
    if not archive.is_file():
        pytest.skip("needs OpenI's reports in ../shared/data")
    reports = [report for report in read_openi(archive) if report.findings or report.impression][1::2]
    read = [label_report(f"{report.findings} {report.impression}") for report in reports]
    given = [labels_from_codes(report.major) for report in reports]
    table = label_agreement(read, given, draws=20).set_index("observation").drop("No Finding")
    assert table["kappa"].mean() > 0.8 and table["kappa"].min() > 0.5
    assert table.loc[["Cardiomegaly", "Lung Opacity", "Atelectasis", "Pleural Effusion"], "kappa"].min() > 0.88
