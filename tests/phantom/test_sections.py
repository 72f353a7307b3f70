"""Findings and impression: blocks in the doctor's order, the gravest first, nothing denied that was seen."""

import pytest

from medret_nb.phantom.assertions import report_fits
from medret_nb.phantom.dice import Dice
from medret_nb.phantom.observer import SeenFinding
from medret_nb.phantom.patients import sample_scenes
from medret_nb.phantom.scenes import Acquisition, Finding, Patient, Scene
from medret_nb.phantom.sections import (
    GRAVITY,
    _merged,
    _pleura,
    _quality,
    findings_section,
    impression_section,
    numbered,
)
from medret_nb.phantom.sentences import ReportCase, Sentence

STYLE = {"order": "quality lungs pleura heart bones devices", "headings": False}
FLUID = Finding("pleural effusion", "right", severity=2)
COLLAPSE = Finding("atelectasis", "right", "lower", 1)


def case(*findings, site="A", i=0, style=STYLE):
    return ReportCase(site, Dice("section", i), [SeenFinding(f, n) for n, f in enumerate(findings)], None, style)


@pytest.mark.parametrize("site", "AB")
def test_both_sections_are_true_of_what_was_seen(site):
    for i, scene in enumerate(sample_scenes(150, 12, site=site)):
        words = case(*scene.findings, site=site, i=i)
        for told in (findings_section(words, scene, False), impression_section(words, 0.5, 0.5)):
            claims = [a for s in told for a in s.claims]
            assert report_fits([claims], [scene]).all(), [s.text for s in told]


def test_the_collapse_beside_an_effusion_is_told_once():
    merged = 0
    for i in range(200):
        told = findings_section(case(FLUID, COLLAPSE, i=i), Scene(Patient(1), (FLUID, COLLAPSE)), False)
        claims = [a for s in told for a in s.claims if a.finding == "atelectasis" and a.present]
        assert len(claims) == 1
        merged += _merged(case(FLUID, COLLAPSE, i=i))
    assert 0.35 < merged / 200 < 0.55
    elsewhere = Finding("atelectasis", "left", "lower", 1)
    assert not any(_merged(case(FLUID, elsewhere, i=i)) for i in range(50))


def test_the_other_side_of_a_right_effusion_may_be_denied():
    said = [s for i in range(100) for s in _pleura(case(FLUID, i=i)) if s.text == "No left pleural effusion."]
    assert 10 < len(said) < 45 and all(not s.claims[0].present and s.claims[0].side == "left" for s in said)


def test_a_poor_film_is_remarked_on():
    poor = Scene(Patient(1), (), (Acquisition("AP", inspiration=0.2, rotation=8.0),))
    good = Scene(Patient(1), (), (Acquisition("PA", inspiration=1.0, rotation=0.0),))
    assert sum(len(_quality(case(i=i), poor)) for i in range(100)) > 100
    assert not any(_quality(case(i=i), good) for i in range(50))


def test_headings_stand_before_their_blocks_in_order():
    style = {"order": "heart lungs pleura bones devices", "headings": True}
    told = findings_section(case(FLUID, i=3, style=style), Scene(Patient(1), (FLUID,)), True)
    headings = [s.text.split(": ")[0] for s in told if ": " in s.text]
    known = ["Heart/mediastinum", "Lungs", "Pleura", "Bones"]
    assert headings == [name for name in known if name in headings] and "Pleura" in headings


def test_the_gravest_comes_first_and_addenda_last():
    order = {kind: n for n, kind in enumerate(GRAVITY)}
    for i, scene in enumerate(sample_scenes(120, 21)):
        told = impression_section(case(*scene.findings, i=i), 1.0, 1.0)
        firm = [s.claims[0].finding for s in told if s.claims and s.claims[0].present]
        ranks = [order[finding] for finding in firm if finding in order and finding != "lung opacity"]
        assert [r for r in ranks if r in (0, 1)] == ranks[: sum(r in (0, 1) for r in ranks)]
        assert told[-1].text.startswith("ADDENDUM") and told[-1].determined == "no"


def test_one_sentence_is_not_numbered_nor_is_an_addendum():
    one, two, late = Sentence("One."), Sentence("Two."), Sentence("ADDENDUM: late.")
    assert numbered([one]) == [one]
    assert [s.text for s in numbered([one, two, late])] == ["1. One.", "2. Two.", "ADDENDUM: late."]
