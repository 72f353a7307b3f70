"""Devices: smooth lines, the skin over a pacemaker, tips where they should be and where they should not."""

import numpy as np
import pytest

from medret_nb.phantom.anatomy import build
from medret_nb.phantom.devices import curve, device_shapes, skin, wire
from medret_nb.phantom.rendering import compose
from medret_nb.phantom.scenes import DEVICE_KINDS, Acquisition, Finding, Patient, Scene

PATIENT = Patient(11, "M", 60)


def test_curve_against_a_loop():
    """Catmull and Rom's cubic between each pair of points, a step at a time."""
    points = np.random.default_rng(0).normal(0, 30, (5, 3))
    line = curve(points, 41)
    full = [2 * points[0] - points[1], *points, 2 * points[-1] - points[-2]]
    for k, u in enumerate(np.linspace(0, 4 - 1e-9, 41)):
        i, t = int(u), u - int(u)
        for j in range(3):
            a, b, c, d = (full[i + m][j] for m in range(4))
            once, twice, thrice = (c - a) * t, (2 * a - 5 * b + 4 * c - d) * t**2, (3 * b - a - 3 * c + d) * t**3
            assert line[k, j] == pytest.approx((2 * b + once + twice + thrice) / 2)
    np.testing.assert_allclose(line[::10], points, atol=1e-6)  # it goes through the points


def test_wire_is_a_chain():
    rope = wire([[0, 0, 0], [10, 5, 0], [20, 0, 8]], 1.5, 0.2, 12)
    half = rope.axes[:, 0] * rope.cut[:, None]
    np.testing.assert_allclose((rope.center + half)[:-1], (rope.center - half)[1:], atol=1e-9)
    assert len(rope) == 11 and (rope.semi[:, 1:] == 1.5).all() and (rope.mu == 0.2).all()


def test_skin_lies_on_the_trunk():
    trunk = build(PATIENT, Acquisition(), coarse=True).volume.body[0]
    for x, z in ((0, 0), (80, 90), (-60, 40)):
        y = skin(trunk, x, z)
        below, above = (np.array([[x, y + step, z]]) for step in (-0.01, 0.01))
        assert trunk.holds(below).all() and not trunk.holds(above).any()


@pytest.mark.parametrize("side", ("right", "left"))
def test_a_pacemaker_lies_under_the_skin(side):
    for seed in range(6):
        patient = Patient(seed, "FM"[seed % 2], 30 + 10 * seed, seed / 2 - 1)
        chest = compose(Scene(patient, (Finding("device", side, kind="pacemaker", seed=seed),)), Acquisition())
        case = chest.volume.metal.center[:1]
        assert chest.volume.body[0].holds(case) and not chest.lung(side).cavity.holds(case)


def test_devices_end_where_they_should():
    """Right place: above the carina, in the vena cava, under the left dome, in the ventricle. Wrong: elsewhere."""
    chest = compose(Scene(PATIENT), Acquisition())
    carina, f = chest.landmarks["carina"], chest.frame

    def low(kind, misplaced, side="", seed=0):
        shapes = device_shapes(chest, Finding("device", side, kind=kind, misplaced=misplaced, seed=seed))
        return shapes.center

    for seed in range(6):
        tube = low("endotracheal tube", False, seed=seed)
        assert 30 <= tube[:, 2].min() - carina[2] <= 70
        wrong = low("endotracheal tube", True, seed=seed)
        assert wrong[:, 2].min() < carina[2] or wrong[:, 2].min() - carina[2] > 70
        for side in ("right", "left"):
            tip = low("central line", False, side, seed)[-1]
            assert -40 < tip[0] < -10 and -10 < tip[2] < 60  # the vena cava, on the patient's right
        stomach = low("gastric tube", False, seed=seed)
        assert stomach[:, 2].min() < f.dome[1] and stomach[-1, 0] > 20
        assert low("gastric tube", True, seed=seed)[:, 2].min() > max(f.dome)
        assert low("pacemaker", False, "left", seed)[0, 0] > 50 > -50 > low("pacemaker", False, "right", seed)[0, 0]


def test_devices_join_what_is_there():
    findings = tuple(Finding("device", kind=kind) for kind in DEVICE_KINDS)
    all_four = compose(Scene(PATIENT, findings), Acquisition()).volume.metal
    alone = [compose(Scene(PATIENT, (f,)), Acquisition()).volume.metal for f in findings]
    np.testing.assert_array_equal(all_four.center, np.concatenate([metal.center for metal in alone]))
