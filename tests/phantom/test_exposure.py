"""Photons: line integrals against a walk along rays, Poisson statistics, noise of the logarithm, the window."""

import numpy as np
import pytest
from scipy.stats import poisson

from medret_nb.phantom.exposure import (
    Lung,
    Volume,
    blur,
    count_photons,
    expected_photons,
    line_integral,
    log_film,
    scatter_field,
    to_grey,
)
from medret_nb.phantom.projection import AIR, LUNG, TISSUE, Convex, ellipsoids, view_geometry

NOTHING = ellipsoids(np.zeros((0, 3)), np.zeros((0, 3)), mu=np.zeros(0))


def nested():
    """A trunk with one lung that holds a heart, a shell of free air and two hazes that overlap."""
    cavity = Convex("lung", (60, 0, 0), (70, 85, 120))
    heart = Convex("heart", (35, 20, -30), (50, 45, 45))
    surface = Convex("surface", (50, -5, -10), (55, 70, 95))
    air = Convex("air", cavity.center, cavity.semi, None, (), surface)
    thick, thin = Convex("a", (60, 0, 30), (25, 25, 25)), Convex("b", (65, 10, 45), (30, 25, 20))
    lung = Lung(cavity, [heart], [air], [(0.3, [thin]), (0.7, [thick])], NOTHING, surface)
    return Volume(
        [Convex("trunk", (0, 0, 0), (170, 110, 400)), Convex("neck", (0, 0, 150), (60, 60, 300))],
        [lung],
        NOTHING,
        NOTHING,
    )


def mu_at(volume, points):
    """Attenuation at points, by asking what is there: the later answer displaces the earlier."""
    lung = volume.lungs[0]
    mu = np.where(np.any([b.holds(points) for b in volume.body], 0), TISSUE, 0.0)
    mu = np.where(lung.cavity.holds(points), LUNG, mu)
    for share, group in sorted(lung.haze, key=lambda h: h[0]):
        mu = np.where(
            lung.cavity.holds(points) & np.any([c.holds(points) for c in group], 0), LUNG + share * (TISSUE - LUNG), mu
        )
    mu = np.where(lung.cavity.holds(points) & lung.gaps[0].holds(points), AIR, mu)
    return np.where(lung.cavity.holds(points) & lung.solids[0].holds(points), TISSUE, mu)


@pytest.mark.parametrize("view", ("PA", "AP", "LATERAL"))
def test_line_integral_against_a_walk(view):
    volume, g, size, step = nested(), view_geometry(view), 48, 0.25
    found = line_integral(volume, g, size)
    su, sw = g.slopes(size)
    t = np.arange(g.depth - 400, g.depth + 400, step)
    for r, c in np.random.default_rng(0).integers(8, 40, (25, 2)):
        points = np.column_stack([su[c] * t, sw[r] * t, t - g.depth]) @ g.axes + g.center
        slow = mu_at(volume, points).sum() * step * np.sqrt(1 + su[c] ** 2 + sw[r] ** 2)
        assert found[r, c] == pytest.approx(slow, abs=0.02)


def test_counts_are_poisson():
    """Mean, variance, and every tenth quantile of scipy's Poisson law."""
    noise = np.random.default_rng(1).standard_normal(100_000)
    for mean in (12.0, 90.0, 3000.0):
        counts = count_photons(np.full_like(noise, mean), noise)
        assert counts.mean() == pytest.approx(mean, rel=0.01) and counts.var() == pytest.approx(mean, rel=0.03)
        q = np.arange(0.1, 1, 0.1)
        assert np.abs(np.quantile(counts, q) - poisson.ppf(q, mean)).max() <= max(1, 0.002 * mean)


def test_log_noise_falls_with_dose():
    """The variance of the log film is proportional to one over the photons."""
    g, size = view_geometry("PA"), 96
    attenuation = np.full((size, size), 1.5, np.float32)
    noise = np.random.default_rng(2).standard_normal((size, size)).astype(np.float32)
    variance = []
    for photons in (200.0, 800.0, 3200.0, 12800.0):
        mean = expected_photons(attenuation, 0.0, photons, g)
        variance.append(log_film(count_photons(mean, noise), photons, g).var() * photons)
    assert np.ptp(variance) / np.mean(variance) < 0.05
    assert variance[-1] / 12800 == pytest.approx(1 / mean.mean(), rel=0.12)  # the blur averages a little


def test_scatter_is_a_fog_that_matters_behind_the_heart():
    g = view_geometry("PA")
    primary, scatter = np.exp(-line_integral(nested(), g, 64)), scatter_field(line_integral(nested(), g, 24), 0.05, 64)
    share = scatter / (scatter + primary)
    assert share[38, 30] > 1.5 * share[24, 50]  # middle of the body, lung
    assert np.abs(np.diff(scatter, axis=0)).max() < 0.1 * scatter.max()


def test_blur_keeps_the_sum_and_window_keeps_the_order():
    image = np.random.default_rng(0).uniform(1, 2, (40, 40)).astype(np.float32)
    assert blur(image, 0.6).mean() == pytest.approx(image.mean(), rel=1e-3) and blur(image, 0.6).var() < image.var()
    grey = to_grey(np.linspace(0, 6, 50), 1.0, 4.0)
    assert grey.dtype == np.uint8 and (np.diff(grey.astype(int)) >= 0).all() and grey[0] < 40 and grey[-1] > 230


def test_counts_grey_and_scatter_against_loops():
    """Each formula as its docstring writes it, a number at a time."""
    rng = np.random.default_rng(5)
    mean, noise = rng.uniform(5, 400, 30), rng.normal(size=30)
    for m, x, count in zip(mean, noise, count_photons(mean, noise), strict=True):
        assert count == max(round(m + m**0.5 * x + (x * x - 1) / 6), 0)
    for log in np.linspace(-1, 7, 30):
        x = (log - 1.0) / (4.5 - 1.0)
        wanted = 255 / (1 + np.exp(-5 * (x - 0.5)))
        assert to_grey(np.float32([log]), 1.0, 4.5)[0] == pytest.approx(wanted, abs=0.51)
    attenuation = rng.uniform(0, 4, (6, 6))
    found = scatter_field(attenuation, 0.1, 10)
    for r, c in ((0, 0), (3, 7), (9, 4)):
        weight = np.zeros((6, 6))
        for i in range(6):
            for j in range(6):
                down, right = (r + 0.5) / 10 - (i + 0.5) / 6, (c + 0.5) / 10 - (j + 0.5) / 6
                weight[i, j] = np.exp(-0.5 * (down**2 + right**2) / 0.12**2)
        source = 0.1 * np.exp(-attenuation) * (1 - np.exp(-3 * attenuation))
        assert found[r, c] == pytest.approx((weight * source).sum() / weight.sum())


def test_expected_photons_of_one_pixel():
    """Photons in air times the pixel's area times what passes and what is scattered into it."""
    g = view_geometry("PA", width=200)
    mean = expected_photons(np.full((4, 4), 2.0, np.float32), 0.03, 1000.0, g)
    np.testing.assert_allclose(mean, 1000 * (g.field / 4) ** 2 * (np.exp(-2) + 0.03))


def test_known_rays_do_not_change_a_film():
    """What a dictionary keeps of an earlier volume gives the same line integral, to the last bit."""
    g, volume = view_geometry("PA"), nested()
    known = {}
    line_integral(volume, g, 40, known)
    volume.lungs[0].solids.append(Convex("mass", (70, 0, 30), (15, 15, 15)))
    volume.lungs[0].haze.pop()
    np.testing.assert_array_equal(line_integral(volume, g, 40, known), line_integral(volume, g, 40))
