"""Planted cases: the relation named is the one planted, by truth and by text, in both directions."""

import numpy as np
import pytest

from medret_nb.data.reports import normalise_text
from medret_nb.failures.planted import plant
from medret_nb.failures.relations import RELATIONS, relate, said_by, shown_by
from medret_nb.phantom.patients import sample_scenes
from medret_nb.phantom.reading import read_claims
from medret_nb.phantom.scenes import Finding, Patient, Scene


def says(text):
    return said_by(read_claims(text))


def text_of(report):
    return f"{report.findings} {report.impression}".strip()


def same(a, b):
    return normalise_text(text_of(a)) == normalise_text(text_of(b))


@pytest.fixture(scope="module")
def planted():
    "(relation, scene, own report, other report), 25 of each relation."
    pool = sample_scenes(900, seed=77)
    rng = np.random.default_rng(4)
    out = []
    for relation in RELATIONS:
        found = (
            (relation, scene, *pair) for k, scene in enumerate(pool) if (pair := plant(scene, relation, (9, k, 0), rng))
        )
        out += [case for case, _ in zip(found, range(25), strict=False)]
    assert len(out) == 25 * len(RELATIONS)
    return out


def test_by_truth_the_relation_named_is_the_one_planted(planted):
    right = [
        relate(said_by(other.assertions), shown_by(scene), same_words=same(own, other))[0] == relation
        for relation, scene, own, other in planted
    ]
    assert np.mean(right) >= 0.95


def test_by_text_the_relation_named_is_the_one_planted(planted):
    right = [
        relate(says(text_of(other)), says(text_of(own)), same_words=same(own, other))[0] == relation
        for relation, _, own, other in planted
    ]
    assert np.mean(right) >= 0.95


def test_turned_round_missed_becomes_invented(planted):
    turn = {"missed finding": "invented finding", "invented finding": "missed finding"}
    for relation, scene, _, other in planted:
        there, back = (
            relate(said_by(other.assertions), shown_by(scene), direction)[0]
            for direction in ("image-to-text", "text-to-image")
        )
        assert back == turn.get(there, there) or {there, back} == set(turn), (relation, there, back)


def test_equal_seeds_plant_equal_cases():
    pool = sample_scenes(40, seed=3)
    for relation in RELATIONS:
        first, second = (
            [plant(scene, relation, (1, k, 0), np.random.default_rng(k)) for k, scene in enumerate(pool)]
            for _ in range(2)
        )
        assert first == second and any(first)


def test_a_scene_that_cannot_carry_a_relation_carries_none():
    rng = np.random.default_rng(0)
    bare = Scene(Patient(1))
    assert {relation for relation in RELATIONS if plant(bare, relation, (0, 0, 0), rng)} <= {"identical text", "fits"}
    tube = Scene(Patient(1), (Finding("device", "", "", 1, 0.0, "gastric tube"),))
    assert plant(tube, "wrong side", (0, 0, 0), rng) is None
