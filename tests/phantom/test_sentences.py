"""Phrases that are true of what they name; absences that deny nothing seen."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from medret_nb.phantom.assertions import report_fits
from medret_nb.phantom.dice import Dice
from medret_nb.phantom.observer import SeenFinding
from medret_nb.phantom.patients import sample_scenes
from medret_nb.phantom.scenes import Finding, Patient, Scene
from medret_nb.phantom.sentences import (
    ReportCase,
    Sentence,
    _frame,
    _or_list,
    denials,
    device_sentence,
    finding_sentence,
    gone_sentences,
    noun_phrase,
)


def every_finding():
    for name in ("consolidation", "pneumonia", "atelectasis", "pleural thickening"):
        for side in ("right", "left", "bilateral"):
            for zone in ("upper", "mid", "lower"):
                yield Finding(name, side, zone, 1 + len(side) % 3)
    for side in ("right", "left"):
        yield from (
            Finding("nodule", side, "mid", 1, 11.4),
            Finding("mass", side, "upper", 3, 61.0),
            Finding("rib fracture", side, "lower", 2),
            Finding("pneumothorax", side, "upper", 1),
            Finding("pneumothorax", side, "", 3),
        )
    yield from (
        Finding("pleural effusion", "bilateral", severity=3),
        Finding("edema", "bilateral", severity=2),
        Finding("cardiomegaly", severity=1),
        Finding("enlarged mediastinum", severity=3),
    )


@pytest.mark.parametrize("site", "AB")
def test_phrases_are_true_and_say_what_they_assert(site):
    for f in every_finding():
        scene = Scene(Patient(1), (f,))
        for i in range(12):
            text, plural, a, _ = noun_phrase(f, site, Dice("phrase", i), brief=i % 2 == 1)
            assert report_fits([[a]], [scene]).all(), (text, a, f)
            if a.side in ("right", "left"):
                assert a.side in text or "lingular" in text
                assert {"right": "left", "left": "right"}[a.side] not in text
            if a.side == "bilateral":
                assert "bi" in text
            else:
                assert not plural
            assert "  " not in text and text == text.strip()


def test_grammar_of_frames():
    assert _frame("There {be} {a}{np}.", "effusion", False, True) == "There is an effusion."
    assert _frame("There {be} {a}{np}.", "8 mm nodule", False, True) == "There is an 8 mm nodule."
    assert _frame("There {be} {a}{np}.", "edema", False, False) == "There is edema."
    assert _frame("{np} {have} grown.", "small effusions", True, True) == "Small effusions have grown."


def case(*findings, prior=None, site="A", i=0):
    seen = [SeenFinding(f, n) for n, f in enumerate(findings)]
    return ReportCase(site, Dice("case", i), seen, prior, {"order": "", "headings": False})


def test_change_is_told_as_it_was():
    now = Finding("pleural effusion", "right", severity=2)
    words = {
        1: ("increas", "orsen", "worse", "rogression"),
        2: ("unchanged", "Stable", "stable", "Unchanged", "Again", "without interval", "Persistent"),
        3: ("decreas", "mproving", "mprovement", "less conspicuous", "clearing"),
        0: ("ew ", "new", "not present", "development"),
    }
    told = Counter()
    for before in range(4):
        prior = Scene(Patient(1), (replace(now, severity=before),) if before else ())
        for i in range(60):
            s = finding_sentence(case(now, prior=prior, site="AB"[i % 2], i=i), "pleural effusion")
            if s.determined == "partly":
                told[before] += 1
                assert any(w in s.text for w in words[before]), (before, s.text)
            if not s.claims[0].hedged:
                assert report_fits([list(s.claims)], [Scene(Patient(1), (now,))]).all()
    assert min(told[b] for b in range(4)) > 15


def test_what_is_gone_was_there():
    prior = Scene(Patient(1), (Finding("edema", "bilateral"),))
    said = [s for i in range(200) for s in gone_sentences(case(prior=prior, i=i))]
    assert said and all(
        s.claims[0].finding == "edema" and not s.claims[0].present and s.determined == "partly" for s in said
    )
    assert not any(gone_sentences(case(Finding("edema", "bilateral"), prior=prior, i=i)) for i in range(50))
    assert not any(gone_sentences(case(i=i)) for i in range(50))


def test_lists_of_absences_deny_nothing_seen():
    for i, scene in enumerate(sample_scenes(150, 4)):
        c = case(*scene.findings, site="AB"[i % 2], i=i)
        for s in denials(c, []):
            assert report_fits([list(s.claims)], [scene]).all() and all(not a.present for a in s.claims)
            assert s.text.lower().startswith(("no ", "there is no", "negative for", "without"))
            assert len(s.claims) < 2 or " or " in s.text


def test_devices_name_their_side_and_place():
    for side, wrong in (("right", False), ("left", True)):
        for i in range(20):
            f = Finding("device", side, kind="central line", misplaced=wrong)
            s = device_sentence(case(f, i=i), SeenFinding(f, 0))
            assert isinstance(s, Sentence) and report_fits([list(s.claims)], [Scene(Patient(1), (f,))]).all()
            assert (side in s.text.lower()) == (s.claims[0].side == side)
            assert not report_fits([list(s.claims)], [Scene(Patient(1), (replace(f, misplaced=not wrong),))]).any()


def test_pneumonia_is_described_then_interpreted():
    f = Finding("pneumonia", "left", "lower", 2)
    described = [finding_sentence(case(f, i=i), "pneumonia") for i in range(60)]
    read = [finding_sentence(case(f, i=i), "pneumonia", brief=True) for i in range(60)]
    assert not any("pneumonia" in s.text for s in described) and all("neumonia" in s.text for s in read)
    hedged = np.mean([any(a.finding == "pneumonia" and a.hedged for a in s.claims) for s in read])
    assert 0.25 < hedged < 0.75


def test_a_list_ends_with_or():
    assert _or_list(["a"]) == "a"
    assert _or_list(["a", "b"]) == "a or b"
    assert _or_list(["a", "b", "c"]) == "a, b, or c"
