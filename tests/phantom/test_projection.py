"""Rays through ellipsoids: the analytic sphere, a ray-by-ray oracle, unions of intervals, volumes, boxes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medret_nb.phantom.projection import (
    Convex,
    Union,
    boxes,
    cast,
    ellipsoids,
    grid_intervals,
    rods,
    soften,
    view_geometry,
)

VIEWS = ("PA", "AP", "LATERAL")


def turned(seed):
    """A random rotation (3, 3)."""
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return q * np.sign(np.diag(r))


def secant(geometry, size):
    su, sw = geometry.slopes(size)
    return np.sqrt(1 + su[None] ** 2 + sw[:, None] ** 2)


def picture(shapes, geometry, size):
    rays = cast(shapes, geometry, size)
    return np.bincount(rays.pixel, (rays.leave - rays.entry) * shapes.mu[rays.owner], size * size).reshape(
        size, size
    ) * secant(geometry, size)


def oracle(shapes, geometry, size):
    """The quadratic equation, ray by ray and shape by shape, in patient coordinates."""
    su, sw = geometry.slopes(size)
    source = geometry.center - geometry.depth * geometry.axes[2]
    out = np.zeros((size, size))
    for center, axes, semi, cut, mu in zip(shapes.center, shapes.axes, shapes.semi, shapes.cut, shapes.mu):
        matrix = axes.T @ np.diag(1 / semi**2) @ axes
        for i in range(size):
            for j in range(size):
                d = geometry.axes.T @ [su[j], sw[i], 1.0]
                q = source - center
                a, b, c = d @ matrix @ d, d @ matrix @ q, q @ matrix @ q - 1
                if b * b - a * c <= 0:
                    continue
                t0, t1 = (-b - np.sqrt(b * b - a * c)) / a, (-b + np.sqrt(b * b - a * c)) / a
                if np.isfinite(cut):
                    ends = np.sort([(-cut - axes[0] @ q) / (axes[0] @ d), (cut - axes[0] @ q) / (axes[0] @ d)])
                    t0, t1 = max(t0, ends[0]), min(t1, ends[1])
                out[i, j] += mu * max(t1 - t0, 0) * np.linalg.norm(d)
    return out


@pytest.mark.parametrize("view", VIEWS)
def test_sphere_is_analytic(view):
    """The chord of a ball at distance h from its centre is twice the root of r^2 - h^2."""
    g, r, c = view_geometry(view, width=120), 30.0, np.array([8.0, -12.0, 5.0])
    found = picture(ellipsoids([c], [[r, r, r]], mu=1.0), g, 64)
    su, sw = g.slopes(64)
    source = g.center - g.depth * g.axes[2]
    d = np.einsum("rck,kj->rcj", np.stack([*np.meshgrid(su, sw), np.ones((64, 64))], -1), g.axes)
    d /= np.linalg.norm(d, axis=-1, keepdims=True)
    h2 = ((c - source) ** 2).sum() - (d @ (c - source)) ** 2
    np.testing.assert_allclose(found, 2 * np.sqrt(np.maximum(r * r - h2, 0)), atol=0.02)


@pytest.mark.parametrize("view", VIEWS)
def test_cast_and_grid_agree_with_oracle(view):
    g = view_geometry(view, width=200, rotation=7.0, center=(3, 0, 10))
    axes = turned(1)
    shapes = ellipsoids([[20, 10, -15]], [[40, 12, 60]], axes[None], mu=1.0)
    slow = oracle(shapes, g, 24)
    np.testing.assert_allclose(picture(shapes, g, 24), slow, atol=0.02)
    ((entry, leave),) = grid_intervals([Convex("e", (20, 10, -15), (40, 12, 60), axes)], g, *g.slopes(24))
    np.testing.assert_allclose((leave - entry) * secant(g, 24), slow, atol=0.02)


def test_rods_agree_with_oracle():
    rng = np.random.default_rng(3)
    start = rng.uniform(-60, 60, (5, 3))
    shapes = rods(start, start + rng.normal(0, 30, (5, 3)), rng.uniform(6, 14, 5), 0.7, rng.uniform(6, 14, 5))
    g = view_geometry("AP", width=220)
    np.testing.assert_allclose(picture(shapes, g, 24), oracle(shapes, g, 24), atol=0.02)


def test_rods_seen_end_on():
    """A rod that points at the source has a cylinder around it that never ends: a nearly degenerate equation."""
    rng, g = np.random.default_rng(0), view_geometry("PA", width=120)
    for off in (0, 0, 0.001, 0.01):
        middle = rng.uniform(-30, 30, 3)
        along = middle - (g.center - g.depth * g.axes[2])
        along = along / np.linalg.norm(along) + rng.normal(0, off, 3)
        rod = rods([middle - 15 * along], [middle + 15 * along], 6.0, 1.0)
        slow = oracle(rod, g, 24)
        assert slow.max() > 25
        np.testing.assert_allclose(picture(rod, g, 24), slow, atol=0.02)


@pytest.mark.parametrize("view", VIEWS)
def test_volume_is_the_same_in_every_view(view):
    """A pixel's ray cone has the cross-section t^2 du dw at depth t."""
    g = view_geometry(view, width=200, rotation=5.0)
    su, sw = g.slopes(160)
    hollow = Convex(
        "h", (5, 9, -8), (60, 40, 50), turned(2), (((0.6, 0.0, 0.8), 4.0),), Convex("i", (5, 9, -8), (30, 30, 30))
    )
    rng = np.random.default_rng(0)
    points = rng.uniform(-70, 70, (400_000, 3)) + [5, 9, -8]
    true = hollow.holds(points).mean() * 140**3
    found = sum((b.astype(float) ** 3 - a.astype(float) ** 3).sum() / 3 for a, b in grid_intervals([hollow], g, su, sw))
    assert found * (su[1] - su[0]) ** 2 == pytest.approx(true, rel=0.02)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(-20, 120), st.integers(0, 60)), min_size=1, max_size=9))
def test_union_against_a_painted_line(spans):
    """The union's length and gaps are those of a line painted unit by unit."""
    painted = np.zeros(100, bool)
    union = Union(np.zeros(1, np.float32), np.full(1, 100, np.float32))
    for start, length in spans:
        painted[max(start, 0) : max(start + length, 0)] = True
        union.add(np.full(1, start, np.float32), np.full(1, start + length, np.float32))
    assert union.length()[0] == painted.sum()
    assert (
        union.outside(np.zeros(1, np.int64), np.zeros(1, np.float32), np.full(1, 100, np.float32))[0]
        == (~painted).sum()
    )


@pytest.mark.parametrize("view", VIEWS)
def test_boxes_are_tangent(view):
    """Whole ellipsoids: the closed-form box is the box of the shadow, to a pixel; rods: it holds the shadow."""
    g, size = view_geometry(view, width=150), 300
    scale = size * g.distance / g.field
    for seed in range(4):
        shape = ellipsoids([np.random.default_rng(seed).uniform(-20, 20, 3)], [[40, 9, 20]], turned(seed)[None], 1.0)
        seen = picture(shape, g, size) > 0
        rows, cols = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
        u0, u1, w0, w1 = boxes(shape, g)[0] * scale
        expected = [size / 2 + u0, size / 2 + u1, size / 2 - w1, size / 2 - w0]
        np.testing.assert_allclose([cols[0], cols[-1] + 1, rows[0], rows[-1] + 1], expected, atol=1.2)


def test_soften_keeps_mass_and_spread():
    """Averaging over a pixel keeps the mass of a thin rod at any angle; sampling does not."""
    for end in ([70, 0, 66], [75, 20, 10], [8, 5, 75]):
        rod = rods([[-x for x in end]], [end], 0.8, 1.0)
        g, size = view_geometry("PA", width=220), 64
        mass = picture(soften(rod, 220 / size), g, size).sum() * (220 / size) ** 2
        assert mass == pytest.approx(np.pi * 0.8**2 * 2 * rod.cut[0], rel=0.06)


def test_views_put_the_patient_right():
    """Patient's left is on the film's right (PA, AP); the front is on the left of a LATERAL; up is up."""
    for view, point, axis, more in (
        ("PA", (50, 0, 0), 0, True),
        ("AP", (50, 0, 0), 0, True),
        ("LATERAL", (0, 50, 0), 0, False),
        ("LATERAL", (0, 0, 50), 1, False),
        ("PA", (0, 0, 50), 1, False),
    ):
        assert (view_geometry(view).project(np.array(point, float))[axis] > 0.5) == more
    with pytest.raises(ValueError, match="view"):
        view_geometry("OBLIQUE")
