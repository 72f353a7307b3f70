"""Regions: boxes of masks, of shadows, and of Chest ImaGenome's names on every view."""

import numpy as np
import pytest

from medret_nb.phantom.anatomy import build, chest_geometry
from medret_nb.phantom.projection import cast, ellipsoids, view_geometry
from medret_nb.phantom.regions import chest_regions, clip_box, lung_masks, mask_box, shape_box
from medret_nb.phantom.scenes import Acquisition, Patient

PEOPLE = [Patient(1, "M", 30), Patient(2, "F", 62), Patient(3, "M", 78, 1.8, 1.0)]
FILMS = [
    Acquisition("PA"),
    Acquisition("AP", inspiration=0.3, rotation=6.0),
    Acquisition("AP", supine=True, inspiration=0.0),
    Acquisition("LATERAL", rotation=-4.0),
]


def test_box_of_a_mask_against_a_loop():
    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = rng.random((7, 11)) < 0.05
        marked = [(r, c) for r in range(7) for c in range(11) if mask[r, c]]
        if not marked:
            assert mask_box(mask) is None
            continue
        rows, cols = zip(*marked, strict=True)
        wanted = (min(cols) / 11, min(rows) / 7, (max(cols) + 1) / 11, (max(rows) + 1) / 7)
        assert mask_box(mask) == pytest.approx(wanted)


def test_clipping_leaves_what_is_on_the_film():
    assert clip_box((-0.5, 0.2, 0.3, 1.7)) == (0.0, 0.2, 0.3, 1.0)
    assert clip_box((1.2, 0.2, 1.3, 0.7)) is None and clip_box((0.2, 0.5, 0.205, 0.9)) is None


def test_box_of_a_shadow_is_that_of_its_rays():
    g, size = view_geometry("AP", width=200), 400
    shapes = ellipsoids([[20, 5, -10], [-30, 0, 25]], [[25, 10, 12], [9, 30, 14]])
    seen = np.zeros(size * size, bool)
    seen[cast(shapes, g, size).pixel] = True
    np.testing.assert_allclose(mask_box(seen.reshape(size, size)), shape_box(shapes, g), atol=2 / size)


@pytest.mark.parametrize("film", FILMS)
def test_regions(film):
    """At least twenty regions in each view, right ones on the left, lungs as the rays see them."""
    for patient in PEOPLE[:3]:
        g, chest = chest_geometry(patient, film), build(patient, film, coarse=True)
        found = chest_regions(chest, g)
        assert len(found) >= 20
        assert all(0 <= a < c <= 1 and 0 <= b < d <= 1 for a, b, c, d in found.values())
        if film.view == "LATERAL":
            continue
        for name in ("lung", "hilar structures", "clavicle", "hemidiaphragm", "costophrenic angle"):
            assert (
                found[f"right {name}"][0] + found[f"right {name}"][2]
                < found[f"left {name}"][0] + found[f"left {name}"][2]
            )
        masks = lung_masks(chest, g)
        assert (masks["right"] & masks["left"]).mean() < 0.02
        assert found["right upper lung zone"][3] == pytest.approx(found["right mid lung zone"][1])
