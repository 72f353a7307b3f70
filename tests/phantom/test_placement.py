"""What findings move, and where they sit: sums of changes, broken ribs, one place on every film."""

import numpy as np
import pytest

from medret_nb.phantom.anatomy import build
from medret_nb.phantom.placement import (
    changes_of,
    generator,
    graded,
    heights,
    place,
    reference,
    rib_breaks,
    sides_of,
)
from medret_nb.phantom.rendering import region_boxes
from medret_nb.phantom.scenes import FINDING_KINDS, Acquisition, Finding, Patient, Scene
from medret_nb.phantom.sizes import UNCHANGED

PATIENT = Patient(11, "M", 60)


def test_air_opens_the_sulcus_of_a_patient_who_lies():
    deep = changes_of((Finding("pneumothorax", "right", "", 2),), Acquisition("AP", supine=True))
    assert deep.dome[0] < -8 and deep.dome[1] == 0


def test_volume_loss_pulls_and_tension_pushes():
    pull = changes_of((Finding("atelectasis", "left", "lower", 3),), Acquisition())
    push = changes_of((Finding("pneumothorax", "left", "", 3),), Acquisition())
    assert pull.shift > 10 and pull.dome[1] > 10 and push.shift < -10
    heart = [
        region_boxes(Scene(PATIENT, f), Acquisition())["cardiac silhouette"]
        for f in ((), (Finding("cardiomegaly", "", "", 3),))
    ]
    assert heart[1][2] - heart[1][0] > 1.3 * (heart[0][2] - heart[0][0])


def test_changes_add_up():
    """Several findings together move what each of them moves; those that move nothing change nothing."""
    film = Acquisition()
    moving = (
        Finding("atelectasis", "left", "lower", 2),
        Finding("pneumothorax", "right", "", 3),
        Finding("pleural effusion", "right", "", 3),
    )
    alone = [changes_of((f,), film) for f in moving]
    together = changes_of(moving, film)
    assert together.shift == pytest.approx(sum(c.shift for c in alone)) and together.shift > 0
    assert together.dome == pytest.approx(np.sum([c.dome for c in alone], 0))
    twice = changes_of((Finding("cardiomegaly", severity=1), Finding("cardiomegaly", severity=2)), film)
    assert twice.heart == pytest.approx(1.17 * 1.30)
    still = [k for k in FINDING_KINDS if changes_of((Finding(k, "right", severity=3),), film) == UNCHANGED]
    assert still == ["consolidation", "pneumonia", "nodule", "mass", "pleural thickening", "device"]


def test_severity_picks_one_of_three():
    assert [graded(Finding("mass", severity=s), "a", "b", "c") for s in (1, 2, 3)] == ["a", "b", "c"]
    assert sides_of(Finding("edema", "bilateral")) == sides_of(Finding("edema")) == ("right", "left")
    assert sides_of(Finding("nodule", "left")) == ("left",)


def test_broken_ribs_follow_side_zone_and_severity():
    for zone, ribs in (("upper", {2, 3}), ("mid", {4, 5}), ("lower", {6, 7})):
        for seed in range(8):
            ((side, rib, angle, step),) = rib_breaks(Finding("rib fracture", "left", zone, 2, seed=seed))
            assert side == "left" and rib in ribs and 28 <= angle <= 52 and step == 11
    pair = rib_breaks(Finding("rib fracture", "right", "mid", 3))
    assert len(pair) == 2 and pair[1][1] == pair[0][1] + 1


def test_a_findings_randomness_is_its_own():
    one, other = Finding("mass", "left", seed=3), Finding("nodule", "right", seed=3)
    assert generator(one).random() == generator(other).random() != generator(one, 1).random()


@pytest.mark.parametrize("side", ("right", "left"))
def test_a_place_is_free_and_moves_with_the_diaphragm(side):
    """In its zone, inside the lung, off the solids by the margin; on a shallow film at the same share of the height."""
    calm = reference(PATIENT)
    shallow = build(PATIENT, Acquisition(inspiration=0.2), coarse=True)
    z, now = heights(calm, side), heights(shallow, side)
    for seed in range(10):
        for zone, low, high in (("upper", 2, 3), ("mid", 1, 2), ("lower", 0, 1)):
            point = place(calm, side, zone, np.random.default_rng(seed), margin=6.0)
            assert z[low] <= point[2] <= z[high] and calm.lung(side).cavity.holds(point[None]).all()
            assert not any(solid.holds(point[None]).any() for solid in calm.lung(side).solids)
            moved = place(shallow, side, zone, np.random.default_rng(seed), margin=6.0)
            share = (point[2] - z[0]) / (z[3] - z[0])
            assert (moved[2] - now[0]) / (now[3] - now[0]) == pytest.approx(share) and (moved[:2] == point[:2]).all()
