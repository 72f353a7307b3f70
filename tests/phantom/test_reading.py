"""Claims read by rules: known sentences, and the phantom's own claims as the judge."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medret_nb.phantom.dictation import dictate
from medret_nb.phantom.patients import sample_scenes
from medret_nb.phantom.reading import read_claims


def plain(claims):
    return {(a.finding, a.side, a.zone, a.low, a.high, a.present, a.hedged) for a in claims}


@pytest.mark.parametrize(
    "text, finding, side, zone, low, high, present, hedged",
    [
        ("Small right pleural effusion.", "pleural effusion", "right", "", 1, 1, True, False),
        ("No pneumothorax, but a large left effusion.", "pleural effusion", "left", "", 3, 3, True, False),
        ("No effusion, pneumothorax, or fracture.", "rib fracture", "", "", 1, 3, False, False),
        ("Previously seen effusion has resolved.", "pleural effusion", "", "", 1, 3, False, False),
        ("Left lower lobe pneumonia cannot be excluded.", "pneumonia", "left", "lower", 1, 3, True, True),
        ("8 mm nodule in the right upper lobe.", "nodule", "right", "upper", 1, 1, True, False),
        ("Displaced fracture of the left seventh rib.", "rib fracture", "left", "lower", 3, 3, True, False),
        ("Nasogastric tube ends above the diaphragm.", "gastric tube", "", "", 2, 2, True, False),
        ("Lungs are clear.", "lung opacity", "", "", 1, 3, False, False),
        ("No acute cardiopulmonary process.", "acute disease", "", "", 1, 3, False, False),
        ("No change in the right effusion.", "pleural effusion", "right", "", 1, 3, True, False),
    ],
)
def test_known_sentences(text, finding, side, zone, low, high, present, hedged):
    assert (finding, side, zone, low, high, present, hedged) in plain(read_claims(text))


def test_advice_and_nothing_claim_nothing():
    assert (
        read_claims("CT is recommended to characterize the nodule.")
        == read_claims("")
        == read_claims("Comparison: none.")
        == []
    )


@pytest.mark.parametrize("site", ["A", "B"])
def test_the_phantoms_claims_are_read(site):
    reports = [dictate(scene, (3, i), site) for i, scene in enumerate(sample_scenes(150, seed=8, site=site))]
    pairs = [(plain(said.claims), plain(read_claims(said.text))) for r in reports for _, said in r.sentences]
    right = sum(len(a & b) for a, b in pairs)
    assert right / sum(len(a) for a, _ in pairs) > 0.97 and right / sum(len(b) for _, b in pairs) > 0.97


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=300))
def test_any_text_is_read(text):
    assert all(a.low <= a.high for a in read_claims(text))


def test_a_long_text_is_read():
    assert isinstance(read_claims("no heart " * 1200 + "the lungs " * 1200), list)
