"""Bones: inside the body, whole and broken ribs, the spine's bend, blades and clavicles by view."""

import numpy as np
import pytest

from medret_nb.phantom.anatomy import build
from medret_nb.phantom.bones import clavicles, rib_curves, rib_shapes, scapula, spine_y
from medret_nb.phantom.scenes import Acquisition, Patient
from medret_nb.phantom.sizes import frame

PEOPLE = [
    Patient(1, "M", 30),
    Patient(2, "F", 62),
    Patient(3, "M", 78, 1.8, 1.0),
    Patient(4, "F", 20, -1.8, -1.0),
    Patient(5, "F", 90, 0.5, 0.0),
]


@pytest.mark.parametrize("view", ("PA", "AP", "LATERAL"))
@pytest.mark.parametrize("patient", PEOPLE)
def test_bones_stay_inside_the_body(patient, view):
    chest = build(patient, Acquisition(view))
    inside = np.any([part.holds(chest.volume.extra.center) for part in chest.volume.body], 0)
    low = chest.volume.extra.center[:, 2] > -200
    assert inside[low].all(), chest.volume.extra.center[low & ~inside].round()


def test_a_break_lets_sink_what_lies_beyond_it():
    """One piece of the right fifth rib becomes two; before the break nothing moves, beyond it the rib sinks."""
    f = frame(PEOPLE[0], Acquisition())
    whole, broken = rib_shapes(f, ()), rib_shapes(f, (("right", 4, 40.0, 12.0),))
    assert len(whole) == 2 * 2 * 10 * 10 and len(broken) == len(whole) + 2  # cortex and marrow
    curves, angles = rib_curves(f)
    line, degrees = curves[0, 4], np.degrees(angles[0, 4])
    middle = (line[1:] + line[:-1]) / 2
    for piece, start in zip(middle, degrees):
        near = np.abs(broken.center - piece).max(1).min()
        assert (near < 1e-9) == (start < 40 and np.searchsorted(degrees, 40) - 1 > np.searchsorted(degrees, start))
    assert broken.center[:, 2].min() >= whole.center[:, 2].min() - 12


def test_the_spine_bends_more_with_age():
    young, old = (frame(Patient(1, "M", age), Acquisition()) for age in (40, 90))
    z = np.array([-10.0, 100.0, -120.0])
    for f in (young, old):
        y = spine_y(f, z * f.sz)
        assert y[0] < y[1] and y[1] == pytest.approx(y[2])
    assert np.ptp(spine_y(old, z)) > np.ptp(spine_y(young, z))


def test_arms_put_blades_and_clavicles():
    """AP: blades over the lungs, clavicles low; LATERAL: clavicles folded inward."""
    f = frame(PEOPLE[0], Acquisition())
    assert abs(scapula(f, "AP", 1)[0][0]) < abs(scapula(f, "PA", 1)[0][0])
    assert scapula(f, "PA", 1)[0][0] == -scapula(f, "PA", -1)[0][0] > 0
    assert clavicles(f, "AP")[..., 2].max() < clavicles(f, "PA")[..., 2].max()
    assert np.abs(clavicles(f, "LATERAL")[..., 0]).max() < np.abs(clavicles(f, "PA")[..., 0]).max()
    axes = scapula(f, "AP", 1)[1]
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
