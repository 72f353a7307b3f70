"""report_fits against a slow, literal reading; ambiguity; labels."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medret_nb.phantom.assertions import (
    ACUTE,
    COVERS,
    Assertion,
    _fill,
    facts,
    fits_facts,
    fresh_facts,
    labels_of,
    report_ambiguity,
    report_fits,
    true_labels,
)
from medret_nb.phantom.dictation import dictate
from medret_nb.phantom.patients import draw, sample_scenes, scenes_of, uniforms
from medret_nb.phantom.scenes import KINDS, Finding, Patient, Scene, clinic

SIDES = {"right": ("right",), "left": ("left",), "bilateral": ("right", "left"), "": ("",)}


def cells(scene):
    """Every (kind, one side, zone, severity) that stands in the scene."""
    return [
        (f.kind or f.name, side, f.zone, 1 + f.misplaced if f.name == "device" else f.severity)
        for f in scene.findings
        for side in SIDES[f.side]
    ]


def named(a, side, there):
    """Whether one of these cells is what the claim names on that side."""
    for kind, where, zone, severity in there:
        if kind in COVERS[a.finding] and a.low <= severity <= a.high and side in ("", where) and a.zone in ("", zone):
            return True
    return False


def reads(report, scene, reading):
    """The definition of fitting, word by word."""
    there = cells(scene)
    for a in report:
        if a.hedged:
            continue
        wanted = ("right", "left") if a.side == "bilateral" else (a.side,)
        found = [named(a, side, there) for side in wanted]
        if a.present and not all(found):
            return False
        if not a.present and any(found):
            return False
    if reading == "closed" and report:
        for kind, where, _, severity in there:
            acute = kind in ACUTE or (severity == 2 and kind not in COVERS["lung opacity"] and kind in COVERS["device"])
            told = any(
                kind in COVERS[a.finding]
                and (a.present or a.hedged)
                and (a.side in ("", where) or (a.side == "bilateral" and where))
                for a in report
            )
            if acute and not told:
                return False
    return True


@pytest.mark.parametrize("reading", ["open", "closed"])
def test_dictated_reports_against_the_slow_reading(reading):
    scenes = sample_scenes(60, 3)
    reports = [dictate(s, key=(3, i), dprime=[20.0] * len(s.findings)).assertions for i, s in enumerate(scenes)]
    slow = np.array([[reads(r, s, reading) for s in scenes] for r in reports])
    assert (report_fits(reports, scenes, reading) == slow).all()
    assert slow.any(1).mean() > 0.5 and slow.mean() < 0.5  # the comparison sees both answers


claim = st.builds(
    Assertion,
    st.sampled_from(sorted(COVERS)),
    st.sampled_from(["", "right", "left", "bilateral"]),
    st.sampled_from(["", "upper", "mid", "lower"]),
    st.integers(1, 2),
    st.integers(2, 3),
    st.booleans(),
    st.booleans(),
)
SCENES = sample_scenes(40, 11)


@settings(max_examples=150, deadline=None)
@given(st.lists(claim, max_size=4), st.sampled_from(["open", "closed"]))
def test_any_claims_against_the_slow_reading(report, reading):
    assert report_fits([report], SCENES, reading)[0].tolist() == [reads(report, s, reading) for s in SCENES]


@settings(max_examples=60, deadline=None)
@given(st.lists(claim, max_size=4))
def test_mirrored_report_fits_the_mirrored_scene(report):
    flip = {"right": "left", "left": "right"}
    mirrored = [
        replace(s, findings=tuple(replace(f, side=flip.get(f.side, f.side)) for f in s.findings)) for s in SCENES
    ]
    turned = [replace(a, side=flip.get(a.side, a.side)) for a in report]
    for reading in ("open", "closed"):
        assert (report_fits([report], SCENES, reading) == report_fits([turned], mirrored, reading)).all()


def test_readings_and_empty_reports():
    sick = Scene(Patient(1), (Finding("edema", "bilateral"),))
    assert report_fits([[]], [sick], "closed").all()
    assert report_fits([[Assertion("pneumothorax", present=False)]], [sick], "open").all()
    assert not report_fits([[Assertion("pneumothorax", present=False)]], [sick], "closed").any()
    assert report_fits([{"assertions": []}], [sick]).shape == (1, 1)
    with pytest.raises(ValueError, match="reading"):
        report_fits([[]], [sick], "both")


def test_pneumonia_is_a_consolidation_but_not_the_reverse():
    pneumonia, other = (Scene(Patient(1), (Finding(k, "left", "lower"),)) for k in ("pneumonia", "consolidation"))
    named, seen = [Assertion("pneumonia")], [Assertion("consolidation")]
    assert report_fits([named, seen], [pneumonia, other]).tolist() == [[True, False], [True, True]]


def test_fresh_facts_are_those_of_scenes():
    place, n = clinic("natural", "A"), 300
    c = draw(uniforms(range(n), 4, place), place)
    grid = np.zeros((n, len(KINDS), 3, 4), np.int8)
    _fill(grid, c, c["severity"][:, 0])
    assert (grid == facts([scenes_of(c, i, place)[0] for i in range(n)])).all()


def test_ambiguity_falls_with_claims_and_matches_a_share():
    fresh = fresh_facts(20_000)
    assert len(fresh) == 20_000
    reports = [dictate(s, key=(5, i)).assertions for i, s in enumerate(sample_scenes(60, 5))]
    for report in reports:
        bits = report_ambiguity([report[:k] for k in range(len(report) + 1)], fresh, "open")
        assert (np.diff(bits) <= 0).all() and bits[0] == 0
    share = clinic().shares["mass"]
    assert abs(report_ambiguity([[Assertion("mass")]], fresh)[0] - np.log2(share)) < 0.1
    both = [report_ambiguity(reports, fresh, r) for r in ("open", "closed")]
    assert (both[1] <= both[0]).all()
    assert (fits_facts(reports[:5], fresh[:100]) == fits_facts(reports[:5], fresh)[:, :100]).all()


def test_labels_take_the_strongest_word():
    yes, no = Assertion("edema", label="Edema"), Assertion("edema", present=False, label="Edema")
    doubt = replace(yes, hedged=True)
    assert [labels_of(r)["Edema"] for r in ([no], [no, doubt], [doubt, yes, no], [])] == [0, -1, 1, None]
    assert [labels_of(r)["No Finding"] for r in ([no], [doubt], [])] == [1, None, None]
    tube = Assertion("gastric tube", label="Support Devices")
    assert labels_of([tube])["No Finding"] == 1 and labels_of([tube])["Support Devices"] == 1


def test_truth_fills_in_the_parents():
    for scene in SCENES:
        truth = true_labels(scene)
        for child in ("Edema", "Consolidation", "Pneumonia", "Atelectasis", "Lung Lesion"):
            assert truth["Lung Opacity"] >= truth[child]
        assert truth["Enlarged Cardiomediastinum"] >= truth["Cardiomegaly"]
        assert truth["No Finding"] == (
            not any(v for k, v in truth.items() if k not in ("No Finding", "Support Devices"))
        )


def test_ambiguity_by_its_formula():
    fresh = fresh_facts(20_000)[:300]
    reports = [[Assertion("pleural effusion")], [Assertion("edema", low=3), Assertion("mass")], []]
    for reading in ("open", "closed"):
        for report in reports:
            fit = 0
            for n in range(300):
                fit += int(fits_facts([report], fresh[n : n + 1], reading)[0, 0])
            expected = np.log2((fit + 0.5) / (300 + 0.5))
            assert report_ambiguity([report], fresh, reading)[0] == pytest.approx(expected)
