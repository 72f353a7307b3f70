"Falsified reports: the ruler against recursion, what is attached to a finding, twins, proof by the scene."

import re
from functools import lru_cache

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medret_nb.data.reports import section_text
from medret_nb.phantom.assertions import report_fits
from medret_nb.phantom.reading import read_claims
from medret_nb.phantom.scenes import Finding, Patient, Scene
from medret_nb.phantom.truth_tables import load_truth
from medret_nb.probes import falsified as F
from medret_nb.probes.falsified import (
    affirmed_sentence,
    chosen_by,
    falsifications,
    falsify,
    mirrored_sentence,
    preferences,
    proven,
    reworded_sentence,
    word_distance,
    words_of,
)

word = st.sampled_from(["no", "left", "right", "effusion"])


@settings(max_examples=60, deadline=None)
@given(st.lists(word, max_size=6), st.lists(word, max_size=6))
def test_word_distance_is_the_recursion(a, b):
    @lru_cache(None)
    def distance(i, j):
        if not i or not j:
            return i + j
        return min(distance(i - 1, j) + 1, distance(i, j - 1) + 1, distance(i - 1, j - 1) + (a[i - 1] != b[j - 1]))

    assert (
        word_distance(" ".join(a), " ".join(b)) == distance(len(a), len(b)) == word_distance(" ".join(b), " ".join(a))
    )


def test_words():
    assert words_of("No 1.5 cm mass-like opacity.") == ["no", "1.5", "cm", "mass-like", "opacity", "."]
    assert word_distance("No effusion.", "Effusion.") == 1


@pytest.mark.parametrize(
    "sentence, swapped",
    [
        ("There is a small right pleural effusion.", "There is a small left pleural effusion."),
        ("Fracture of the left fifth rib.", "Fracture of the right fifth rib."),
        ("Left upper lobe nodule is unchanged.", "Right upper lobe nodule is unchanged."),
        ("Left-sided pneumothorax.", "Right-sided pneumothorax."),
    ],
)
def test_sides_attached_to_a_finding_are_swapped(sentence, swapped):
    assert mirrored_sentence(sentence)[0] == swapped and mirrored_sentence(swapped)[0] == sentence


@pytest.mark.parametrize(
    "sentence",
    [
        "Left ventricle is enlarged.",
        "Left ventricular enlargement with edema.",
        "Right-sided line in the SVC.",
        "Right internal jugular central line with tip in the SVC.",
        "Left pacemaker.",
        "The right lung is clear.",
        "No right effusion.",
        "Possible left nodule.",
        "Right greater than left effusions.",
        "Small right and large left effusions.",
        "Bilateral effusions.",
        "Right middle lobe consolidation.",
        "Left retrocardiac atelectasis.",
        "Elevated right hemidiaphragm.",
        "Cholecystectomy clips in the right upper quadrant.",
    ],
)
def test_other_sides_are_left_alone(sentence):
    assert mirrored_sentence(sentence) is None


def test_negations():
    assert affirmed_sentence("There is no effusion or pneumothorax.") == (
        "There is effusion or pneumothorax.",
        {("pleural effusion", ""), ("pneumothorax", "")},
    )
    assert affirmed_sentence("The cardiac silhouette is not enlarged.")[0] == "The cardiac silhouette is enlarged."
    assert affirmed_sentence("No suspicious nodule.")[0] == "Suspicious nodule."
    for sentence in (
        "No change in the right effusion.",
        "No acute process.",
        "Lungs are clear without focal opacity.",
        "No effusion, and no pneumothorax.",
        "Effusion.",
        "Pneumonia cannot be excluded.",
        "No interval change.",
    ):
        assert affirmed_sentence(sentence) is None


def test_twins_keep_every_claim():
    for sentence in (
        "There is a small right effusion.",
        "Stable left nodule.",
        "No effusion.",
        "Right lower lobe consolidation is seen.",
        "Left effusion has increased from prior.",
    ):
        twin = reworded_sentence(sentence)
        assert word_distance(sentence, twin) == 1 and twin != sentence
        assert [(a.finding, a.side, a.zone, a.low, a.high, a.present) for a in read_claims(twin)] == [
            (a.finding, a.side, a.zone, a.low, a.high, a.present) for a in read_claims(sentence)
        ]
    assert reworded_sentence("Hyperinflation is there.") is None


def test_a_finding_told_twice_is_changed_twice():
    text = "Small right effusion. No pneumothorax. Impression: Stable right effusion."
    found = falsify(text)
    assert found.false == "Small left effusion. No pneumothorax. Impression: Stable left effusion." and found.size == 2
    assert word_distance(text, found.twin) == 2 and found.twin.count("right") == 2 and "No pneumothorax." in found.twin
    assert (
        falsify("Small right effusion. Right middle lobe consolidation and right effusion.") is None
    )  # the second cannot be swapped
    assert (
        falsifications("") == []
        and falsify("The lungs are clear.") is None
        and falsify(text, "negation").about == "pneumothorax"
    )
    with pytest.raises(ValueError, match="kinds"):
        falsifications(text, ("size",))
    several = "Small right effusion. Left upper lobe nodule."
    assert {falsify(several, key=str(i)).about for i in range(20)} == {
        "right pleural effusion",
        "left lung opacity, left nodule",
    } or len({falsify(several, key=str(i)).about for i in range(20)}) == 2
    assert falsify(several, key="7") == falsify(several, key="7")


def test_on_the_phantom_the_scene_says_so(small_phantom):
    truth, held = load_truth(small_phantom), {kind: 0 for kind in F.EDITS}
    for text, scene in zip(section_text(small_phantom, "findings"), truth.scenes):
        for found in falsifications(text):
            assert (
                word_distance(found.text, found.false) == word_distance(found.text, found.twin) == found.size
                and found.false != found.twin
            )
            assert (
                re.sub(r"\b(right|left)\b", "side", found.false, flags=re.I)
                == re.sub(r"\b(right|left)\b", "side", found.text, flags=re.I)
                or found.kind == "negation"
            )
            told, lie, same = report_fits([read_claims(t) for t in (found.text, found.false, found.twin)], [scene])[
                :, 0
            ]
            assert told == same  # the whole twin says what the whole report says
            if proven(found, scene):
                continue
            held[found.kind] += 1
            assert not lie
            kinds = {f.kind or f.name: set() for f in scene.findings}
            for f in scene.findings:
                kinds[f.kind or f.name] |= {"right", "left"} if f.side == "bilateral" else {f.side}
            if found.kind == "side":  # one of the findings is really not on the side of the lie
                other = {"right": "left", "left": "right"}
                claims = [(a.finding, a.side) for a in read_claims(found.lie) if a.side in other and a.present]
                assert any(side not in kinds.get(name, set()) for name, side in claims)
    assert min(held.values()) > 10


def test_reasons(small_phantom):
    person, found = Patient(1, "F", 50, 0, 0), falsify("Small right effusion.")

    def scene(*sides):
        return Scene(person, tuple(Finding("pleural effusion", side) for side in sides))

    assert (
        proven(found, scene("right")) == ""
        and proven(found, scene("left")) == proven(found, scene()) == "the report was wrong before"
    )
    assert proven(found, scene("bilateral")) == proven(found, scene("right", "left")) == "still true"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 3)] * 3), min_size=1, max_size=20))
def test_preferences_count_ties_half(rows):
    own = [[(s > f) + (s == f) / 2, (s > t) + (s == t) / 2] for s, f, t in rows]
    np.testing.assert_array_equal(preferences(np.array(rows, float)), own)


def test_real_reports(shared_data):
    file = shared_data / "cxr-notes" / "studies.csv"
    if not file.is_file():
        pytest.skip("needs the notes of cxr-notes")
    texts = pd.read_csv(file).fillna("")["note"]
    found = [one for text in texts for one in falsifications(text)]
    assert len(found) > 20
    for one in found:
        assert word_distance(one.text, one.false) == word_distance(one.text, one.twin) == one.size


def test_a_name_always_chooses_the_same():
    options = list("abcdef")
    chosen = [chosen_by(f"{i}", options) for i in range(60)]
    assert chosen == [chosen_by(f"{i}", options) for i in range(60)] and set(chosen) == set(options)
