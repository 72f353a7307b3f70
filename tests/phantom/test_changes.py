"""Changes of one fact: films and reports that differ in it alone, what can be otherwise, eyes held still."""

import pytest

from medret_nb.data.reports import section_text
from medret_nb.phantom.changes import (
    FACTS,
    best_seen,
    claims_in,
    film_changes,
    finding_changes,
    text_changes,
    text_of,
)
from medret_nb.phantom.scenes import Acquisition, Finding, Patient, Scene
from medret_nb.phantom.truth import best_dprime, visibility_of
from medret_nb.phantom.truth_tables import load_truth, retell
from medret_nb.phantom.wording import measured_band


def test_each_change_changes_one_fact():
    scene = Scene(
        Patient(1),
        (
            Finding("pleural effusion", "right", "", 2),
            Finding("nodule", "left", "upper", 1, 9.0),
            Finding("device", "", "", 1, 0.0, "gastric tube"),
        ),
        (Acquisition("PA", 2000.0, 3.0, 0.5), Acquisition("LATERAL", 2000.0)),
    )
    changes = {c.name: c for c in film_changes(scene, "PA")}
    assert all(len(c.scene.acquisitions) == 1 for c in changes.values())
    assert changes["as it is"].size == 0
    assert changes["right pleural effusion: on the left"].scene.findings == (
        Finding("pleural effusion", "left", "", 2),
        *scene.findings[1:],
    )
    assert changes["right pleural effusion: severe, not moderate"].size == 1
    assert "left nodule: severe, not mild" not in changes
    assert changes["left nodule: mid zone, not upper"].size == 2
    assert changes["left nodule: 25 mm, not 9"].scene.findings[1] == Finding("nodule", "left", "upper", 3, 25.0)
    assert changes["without the gastric tube"].scene.findings == scene.findings[:2]
    assert changes["not rotated"].scene.acquisitions[0].rotation == 0
    assert changes["four times the dose"].scene.acquisitions[0].photons == 8000
    assert changes["LATERAL view"].size == 2 and "PA view" not in changes
    first = scene.acquisitions[0]
    for name, c in changes.items():
        a = c.scene.acquisitions[0]
        on_film = sum(getattr(a, field) != getattr(first, field) for field in a.__dataclass_fields__)
        in_scene = c.scene.findings != scene.findings
        assert on_film + in_scene == (name != "as it is"), name


def test_facts_and_findings_are_named():
    scene = Scene(
        Patient(1),
        (
            Finding("pneumothorax", "right", "upper", 1),
            Finding("mass", "left", "lower", 2, 50.0),
            Finding("edema", "bilateral", "", 1),
        ),
    )
    facts = {(c.finding, c.fact) for c in finding_changes(scene)}
    assert facts == {
        *[(0, fact) for fact in ("side", "severity", "presence")],  # its zone follows from its severity
        *[(1, fact) for fact in ("side", "zone", "size", "presence")],
        *[(2, fact) for fact in ("severity", "presence")],
    }
    assert {fact for _, fact in facts} <= set(FACTS)
    assert {c.fact for c in film_changes(scene, "PA")} == {"", "film", *(fact for _, fact in facts)}


@pytest.mark.parametrize("name, size", [("nodule", 9.0), ("nodule", 25.0), ("mass", 38.0), ("mass", 68.0)])
def test_another_size_is_another_band_whatever_the_ruler(name, size):
    scene = Scene(Patient(1), (Finding(name, "left", "lower", measured_band(name, size)[0], size),))
    others = [c.scene.findings[0] for c in finding_changes(scene) if c.fact == "size"]
    assert len(others) == 2
    assert all(measured_band(name, f.size_mm) == (f.severity, f.severity) for f in others)
    assert scene.findings[0].severity not in {f.severity for f in others}


def test_a_sentence_left_out_is_left_out(small_phantom):
    truth, table = load_truth(small_phantom), small_phantom.studies
    for row in range(6):
        changes = text_changes(truth, row, table.iloc[row], "both")
        own = section_text(table.iloc[[row]], "both")[0]
        for c in (c for c in changes if c.name.startswith("without “")):
            gone = c.name[len("without “") : -1]
            assert gone in own and len(c.text.split()) == len(own.split()) - len(gone.split())
        for c in finding_changes(truth.scenes[row]):
            told = [t for t in changes if t.name == c.name]
            assert not told or told[0].text != own


def test_seen_as_stored_is_seen_as_computed(small_phantom):
    truth = load_truth(small_phantom)
    seen = best_seen(truth, small_phantom.studies["study_id"].tolist())
    for row in range(8):
        scene = truth.scenes[row]
        films = [{"dprime": visibility_of(scene, a)[0]} for a in scene.acquisitions]
        assert list(seen[row]) == pytest.approx(best_dprime(films, len(scene.findings)))
        assert retell(truth, row, scene, dprime=seen[row]) == retell(truth, row, scene)


def test_other_words_are_of_the_same_eyes(small_phantom):
    truth = load_truth(small_phantom)
    table = small_phantom.studies
    other = 0
    for row in range(16):
        told = retell(truth, row, truth.scenes[row])
        again = retell(truth, row, truth.scenes[row], words=("again", row))
        assert again.errors == told.errors
        assert retell(truth, row, truth.scenes[row], words=truth.keys[row]) == told
        other += again.findings != told.findings
        own = section_text(table.iloc[[row]], "findings")[0]
        assert text_of(told, "findings") == own
        assert {claim.section for claim in claims_in(told, told.impression)} <= {"impression"}
    assert other > 10
