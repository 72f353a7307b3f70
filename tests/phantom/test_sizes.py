"""Sizes of a patient: breath, what only the seed knows, turned shapes, the cavity's wall."""

import numpy as np
import pytest

from medret_nb.phantom.scenes import Acquisition, Patient
from medret_nb.phantom.sizes import SIDES, Changes, basis, cavity, frame, pointing, tilted, wall_at

MAN = Patient(1, "M", 30)


def test_breath_and_position_lift_the_domes():
    full, poor = frame(MAN, Acquisition()), frame(MAN, Acquisition(inspiration=0.0))
    assert poor.dome[0] - full.dome[0] == pytest.approx(34)
    assert frame(MAN, Acquisition(supine=True)).dome[1] - full.dome[1] == pytest.approx(14)
    assert poor.heart > full.heart and poor.still == full.still


def test_findings_move_by_changes_alone():
    plain, moved = frame(MAN, Acquisition()), frame(MAN, Acquisition(), Changes(heart=1.2, dome=(5.0, -3.0)))
    assert moved.heart == pytest.approx(1.2 * plain.heart)
    assert np.subtract(moved.dome, plain.dome) == pytest.approx([5, -3])
    assert moved.base == plain.base and moved.still == plain.still


def test_the_seed_knows_the_rest():
    """Another seed gives another chest, another name of the same traits does not; women's chests are smaller."""
    assert frame(Patient(1, "M", 30), Acquisition()) == frame(MAN, Acquisition())
    assert frame(Patient(2, "M", 30), Acquisition()).draws != frame(MAN, Acquisition()).draws
    assert frame(Patient(1, "F", 30), Acquisition()).sx < frame(MAN, Acquisition()).sx


def test_axes_are_orthonormal_and_point_where_they_should():
    for axes in (basis((1, 2, 3), (0, 1, 0), (0, 1, 2)), tilted(-0.3, 0.2), pointing((1.0, -0.4, 0.3))):
        np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    long = tilted(-0.3, 0.2)[2]
    np.testing.assert_allclose(long / long[2], [-0.3, -0.2, 1.0])
    first = pointing((1.0, -0.4, 0.3))[0]
    np.testing.assert_allclose(first / first[0], [1.0, -0.4, 0.3])


@pytest.mark.parametrize("side", SIDES)
def test_the_wall_is_the_cavitys(side):
    """Just inside the wall at some height is in the cavity, just outside is not; behind the midline nothing is."""
    f = frame(MAN, Acquisition())
    box, z = cavity(f, side), np.array([-60.0, -20.0, 10.0])
    half, y, _ = wall_at(f, z)
    for share, inside in ((0.97, True), (1.03, False), (-0.1, False)):
        points = np.column_stack([SIDES[side] * share * half, y, z])
        assert (box.holds(points) == inside).all()
