"""Relations: planted cases, the phantom's own relevance as the judge, both directions."""

import numpy as np
import pytest

from medret_nb.data.reports import normalise_text
from medret_nb.failures.relations import (
    RELATIONS,
    Said,
    differences,
    holds,
    merged,
    plant,
    relate,
    said_by,
    shown_by,
    weight,
)
from medret_nb.phantom.assertions import report_fits
from medret_nb.phantom.patients import sample_scenes
from medret_nb.phantom.reading import read_claims
from medret_nb.phantom.truth_tables import load_truth


def says(text):
    return said_by(read_claims(text))


def text_of(report):
    return f"{report.findings} {report.impression}".strip()


@pytest.fixture(scope="module")
def planted():
    "(relation, scene, own report, other report), 25 of each relation."
    pool, rng, out = sample_scenes(900, seed=77), np.random.default_rng(4), []
    for relation in RELATIONS:
        found = (
            (relation, scene, *pair) for k, scene in enumerate(pool) if (pair := plant(scene, relation, (9, k, 0), rng))
        )
        out += [case for case, _ in zip(found, range(25))]
    assert len(out) == 25 * len(RELATIONS)
    return out


def test_by_truth_the_relation_named_is_the_one_planted(planted):
    def same(a, b):
        return normalise_text(text_of(a)) == normalise_text(text_of(b))

    right = [
        relate(said_by(other.assertions), shown_by(scene), same_words=same(own, other))[0] == relation
        for relation, scene, own, other in planted
    ]
    assert np.mean(right) >= 0.95


def test_by_text_the_relation_named_is_the_one_planted(planted):
    def same(a, b):
        return normalise_text(text_of(a)) == normalise_text(text_of(b))

    right = [
        relate(says(text_of(other)), says(text_of(own)), same_words=same(own, other))[0] == relation
        for relation, _, own, other in planted
    ]
    assert np.mean(right) >= 0.95


def test_turned_round_missed_becomes_invented(planted):
    turn = {"missed finding": "invented finding", "invented finding": "missed finding"}
    for relation, scene, _, other in planted:
        there, back = (
            relate(said_by(other.assertions), shown_by(scene), d)[0] for d in ("image-to-text", "text-to-image")
        )
        assert back == turn.get(there, there) or {there, back} == set(turn), (relation, there, back)


def test_fitting_is_the_phantoms_closed_reading(small_phantom):
    truth = load_truth(small_phantom)
    reports, scenes = [said_by(r) for r in truth.reports], [shown_by(s) for s in truth.scenes]
    mine = np.array([[holds(r, s) for s in scenes] for r in reports])
    np.testing.assert_array_equal(mine, report_fits(truth.reports, truth.scenes, "closed"))
    for r, row in zip(reports, mine):
        for s, fits in zip(scenes, row):
            assert fits or differences(r, s)[0]  # what does not fit has a reason


@pytest.mark.parametrize(
    "other, name, heavy",
    [
        ("Small right effusion. Right rib fracture.", "wrong side", "significant"),
        ("Large left effusion. Right rib fracture.", "severity only", "significant"),
        ("Right rib fracture. No effusion.", "polarity flipped", "significant"),
        ("Right rib fracture.", "missed finding", "significant"),
        ("Left nodule.", "unrelated", "significant"),
        ("Small left effusion. Right rib fracture. Left apical pneumothorax.", "invented finding", "critical"),
        ("Small left effusion. Right rib fracture. Cardiomegaly.", "invented finding", "minor"),
        ("Left effusion. Right fracture. Left effusion again.", "fits", "minor"),
    ],
)
def test_by_hand(other, name, heavy):
    found = relate(says(other), says("Small left effusion. Right rib fracture."))
    assert found[0] == name and weight(found[1]) == heavy


def test_a_tube_out_of_place_is_critical():
    found = relate(says("Endotracheal tube is malpositioned."), says("Endotracheal tube in standard position."))
    assert found[0] == "severity only" and weight(found[1]) == "critical"


def test_what_is_said_twice_is_one_thing():
    assert (
        len(merged(says("Right base opacity. Right lower lobe pneumonia. Small right effusion. Right effusion.").there))
        == 2
    )
    assert len(merged(says("Bilateral effusions.").there)) == 2


def test_nothing_fits_nothing():
    assert (
        holds(Said(), Said())
        and relate(Said(), Said()) == ("fits", [])
        and relate(Said(), Said(), same_words=True)[0] == "identical text"
    )
