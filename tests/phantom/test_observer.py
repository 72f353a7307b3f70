"""Observers' rates of error, and that every error is written down."""

from collections import Counter

import pytest

from medret_nb.phantom.dice import Dice
from medret_nb.phantom.observer import PERFECT, USUAL_OBSERVER, Observer, film_quality, observe
from medret_nb.phantom.patients import sample_scenes
from medret_nb.phantom.scenes import Acquisition, Finding, Patient, Scene

NODULE = Finding("nodule", "left", "upper", 1, 9.0)


def errors(scene, n=2000, **settings):
    dprime = settings.pop("dprime", None)
    found = Counter()
    for i in range(n):
        _, made = observe(scene, Dice("rates", i), dprime, Observer(**settings))
        found.update(e["error"] for e in made)
    return {error: count / n for error, count in found.items()}


@pytest.mark.parametrize("dprime", [3.0, 10.0, 30.0, 200.0])
def test_misses_follow_detectability(dprime):
    expected = 1 - 0.99 / (1 + (10 / dprime) ** 1.5)
    assert errors(Scene(Patient(1), (NODULE,)), dprime=[dprime]).get("missed", 0) == pytest.approx(expected, abs=0.035)


def test_overcalls_grow_on_poor_films():
    good, poor = Acquisition(photons=4000, inspiration=1), Acquisition("AP", photons=1000, inspiration=0.2)
    rate = [errors(Scene(Patient(1), (), (a,)), n=6000, overcall=0.05)["overcall"] for a in (good, poor)]
    assert film_quality(Scene(Patient(1), (), (good,))) == 1
    assert rate[0] == pytest.approx(0.05, abs=0.01) and rate[1] == pytest.approx(0.05 / (0.5 * 0.6), abs=0.02)


def test_a_perfect_observer_sees_exactly_the_scene():
    for i, scene in enumerate(sample_scenes(80, 1)):
        seen, wrong = observe(scene, Dice(i), [1.0] * len(scene.findings), PERFECT)
        assert [s.finding for s in seen] == list(scene.findings) and not wrong


def test_errors_tell_what_changed():
    scene = Scene(Patient(1), (Finding("pleural effusion", "right", severity=2),))
    for i in range(3000):
        seen, wrong = observe(scene, Dice("side", i), [1e9], Observer(overcall=0, lapse=0, misside=0.3, resize=0.3))
        f = seen[0].finding
        assert (f.side == "left") == any(e["error"] == "side" for e in wrong)
        assert (f.severity != 2) == any(e["error"] == "severity" for e in wrong)


@pytest.mark.parametrize("dprime", [0.0, 0.5, 10.0, 300.0])
@pytest.mark.parametrize("observer", [USUAL_OBSERVER, Observer(d50=4.0, slope=2.0, lapse=0.2)])
def test_the_curve_of_seeing_by_its_formula(dprime, observer):
    ratio = 1.0
    for _ in range(2):  # (d50 / d')^slope, as a product of two square roots
        ratio *= (observer.d50 / max(dprime, 1e-9)) ** (observer.slope / 2)
    assert observer.sees(dprime) == pytest.approx((1 - observer.lapse) / (1 + ratio))


def test_inventions_are_recorded_and_are_not_in_the_scene():
    found = 0
    for i, scene in enumerate(sample_scenes(200, 6)):
        seen, wrong = observe(scene, Dice("invent", i), None, Observer(overcall=0.9, lapse=0, resize=0, misside=0))
        extra = [s.finding for s in seen if s.index < 0]
        assert [(f.name, f.side) for f in extra] == [(e["finding"], e["side"]) for e in wrong]
        assert not {f.name for f in extra} & {f.kind or f.name for f in scene.findings}
        found += len(extra)
    assert found > 100
