"""The compiled loops: each against a reading of what it says, on random shapes and intervals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medret_nb.phantom import rays
from medret_nb.phantom.rays import constants, insert, lengths, limits, meet, outside, pass_through


def shapes(seed, n=5, rods=False):
    """n turned ellipsoids (or rods) about a metre from the source, as the loops take them."""
    rng = np.random.default_rng(seed)
    frame = np.linalg.qr(rng.normal(size=(n, 3, 3)))[0]
    semi, cut = rng.uniform(4, 30, (n, 3)), np.full(n, np.inf)
    if rods:
        semi[:, 0], cut = np.inf, rng.uniform(5, 30, n)
    return rng.uniform(-40, 40, (n, 3)) + [0, 0, 1000], frame, semi, cut


STEPS = (np.arange(30) - 14.5) * 0.005
EVERYWHERE = np.tile([0, 30, 0, 30], (5, 1))


def walk(center, frame, semi, cut, u, w, planes=()):
    """Length of one ray inside one shape, by asking at steps of 0.05 mm of depth."""
    t = np.arange(880, 1120, 0.05)
    points = t[:, None] * [u, w, 1.0]
    local = (points - center) @ frame.T
    inside = ((local / semi) ** 2).sum(1) <= 1
    inside &= np.abs(local[:, 0]) <= cut
    for *normal, level in planes:
        inside &= points @ normal <= level
    return inside.sum() * 0.05


def test_rows_hold_the_polynomials_of_the_quadratic_equation():
    """a = d^T A d, m = c^T A d and q = m^2 - a (c^T A c - 1) for d = d0 + (u, w, 0), from the named factors."""
    center, frame, semi, cut = shapes(2)
    rows = constants(center, frame, semi, cut)
    assert rows.shape == (5, rays.ROW_LENGTH)
    for row, c, axes, half in zip(rows, center, frame, semi, strict=True):
        matrix = sum(np.outer(axis, axis) / s**2 for axis, s in zip(axes, half, strict=True))
        d0 = c / c[2]
        np.testing.assert_allclose(row[[rays.ROW_U, rays.ROW_W]], d0[:2])
        for u, w in ((0.0, 0.0), (0.004, -0.003), (-0.01, 0.006)):
            d = d0 + [u, w, 0]
            a, m, k = d @ matrix @ d, c @ matrix @ d, c @ matrix @ c - 1
            powers = np.array([1, u, w, u * u, w * w, u * w])
            assert row[rays.A_ONE : rays.A_UW + 1] @ powers == pytest.approx(a)
            assert row[rays.M_ONE : rays.M_W + 1] @ powers[:3] == pytest.approx(m)
            assert row[rays.Q_ONE : rays.Q_UW + 1] @ powers == pytest.approx(m * m - a * k, rel=1e-5, abs=1e-6)


def test_meeting_against_a_walk():
    for rods in (False, True):
        parts = shapes(3, rods=rods)
        owner, pixel, entry, leave = meet(constants(*parts), EVERYWHERE, STEPS, -STEPS)
        flat = np.zeros((5, 900))
        flat[owner, pixel] = leave - entry
        assert (flat > 0).any(1).all()
        for n in range(5):
            for p in np.random.default_rng(n).choice(900, 60, replace=False):
                slow = walk(*(part[n] for part in parts), STEPS[p % 30], -STEPS[p // 30])
                assert abs(flat[n, p] - slow) < 0.11


def test_boxes_hold_the_shadow_and_spare_nothing_of_it():
    for rods in (False, True):
        parts = shapes(4, rods=rods)
        owner, pixel, *_ = meet(constants(*parts), EVERYWHERE, STEPS, -STEPS)
        u0, u1, w0, w1 = limits(*parts)[owner].T
        u, w = STEPS[pixel % 30], -STEPS[pixel // 30]
        assert ((u0 <= u) & (u <= u1) & (w0 <= w) & (w <= w1)).all()


def test_planes_cut_as_a_walk_says():
    parts = shapes(5)
    normal = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    planes = np.column_stack([normal, (normal * parts[0][:3]).sum(1) + [3.0, -2.0, 0.0]])
    planes = np.concatenate([planes, [[0, 0, 1.0, parts[0][0, 2]]]])
    whose = np.array([0, 1, 2, 0])
    spans = pass_through(constants(*parts), EVERYWHERE, planes, whose, STEPS, -STEPS)
    length = spans[:, 1] - spans[:, 0]
    assert (length >= 0).all()
    for n in range(3):
        for p in np.random.default_rng(n).choice(900, 60, replace=False):
            slow = walk(*(part[n] for part in parts), STEPS[p % 30], -STEPS[p // 30], planes[whose == n])
            assert abs(length[n].ravel()[p] - slow) < 0.11


def test_machine_code_does_what_python_does():
    parts = shapes(6, rods=True)
    for fast, slow in zip(
        meet(constants(*parts), EVERYWHERE, STEPS, -STEPS),
        meet.py_func(constants.py_func(*parts), EVERYWHERE, STEPS, -STEPS),
    ):
        np.testing.assert_array_equal(fast, slow)
    np.testing.assert_allclose(limits(*parts), limits.py_func(*parts), rtol=1e-12)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(-20, 120), st.integers(0, 60)), min_size=3, max_size=3), min_size=1, max_size=9
    )
)
def test_lists_of_intervals_against_painted_lines(rounds):
    """Three rays at once; after each interval the list is ordered, apart, and as long as the painted line."""
    starts, ends, count = np.zeros((3, 10), np.float32), np.zeros((3, 10), np.float32), np.zeros(3, np.int64)
    low, high, painted = np.zeros(3, np.float32), np.full(3, 100, np.float32), np.zeros((3, 100), bool)
    for spans in rounds:
        a = np.array([s for s, _ in spans], np.float32)
        b = np.array([s + n for s, n in spans], np.float32)
        insert(starts, ends, count, low, high, a, b)
        for p, (s, n) in enumerate(spans):
            painted[p, max(s, 0) : max(s + n, 0)] = True
            k = count[p]
            assert (starts[p, :k] < ends[p, :k]).all() and (starts[p, 1:k] > ends[p, : max(k - 1, 0)]).all()
    np.testing.assert_array_equal(lengths(starts, ends, count), painted.sum(1))
    pieces = np.array([0, 2, 1, -1]), np.array([10, -5, 40, 0], np.float32), np.array([60, 200, 41, 100], np.float32)
    free = ~painted
    np.testing.assert_array_equal(
        outside(starts, ends, count, low, high, *pieces), [free[0, 10:60].sum(), free[2].sum(), free[1, 40:41].sum(), 0]
    )
