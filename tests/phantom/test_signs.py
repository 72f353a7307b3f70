"""Findings as signs: sides, zones, fluid and air, the meniscus, broken ribs, lobes and their fissures."""

from dataclasses import replace

import numpy as np
import pytest

from medret_nb.phantom.anatomy import build, chest_geometry
from medret_nb.phantom.exposure import line_integral
from medret_nb.phantom.placement import rib_breaks
from medret_nb.phantom.rendering import compose, region_boxes
from medret_nb.phantom.scenes import Acquisition, Finding, Patient, Scene
from medret_nb.phantom.signs import ADD, MOVED, add, bronchogram, lobe_planes, patches

PATIENT = Patient(11, "M", 60)
PA = Acquisition()
SIDED = [
    Finding("pleural effusion", "right", "", 2),
    Finding("pneumothorax", "right", "", 1),
    Finding("consolidation", "right", "mid", 2, seed=3),
    Finding("pneumonia", "right", "lower", 2),
    Finding("nodule", "right", "upper", 3, seed=2),
    Finding("mass", "right", "mid", 1, seed=2),
    Finding("rib fracture", "right", "mid", 2),
    Finding("pleural thickening", "right", "lower", 2),
    Finding("pleural thickening", "right", "upper", 2),
    Finding("atelectasis", "right", "lower", 1),
]


def move(finding, acquisition=PA, size=96, patient=PATIENT):
    """The change of the line integral by one finding, and the geometry."""
    scene, g = Scene(patient, (finding,)), chest_geometry(patient, acquisition)
    return line_integral(compose(scene, acquisition).volume, g, size) - line_integral(
        compose(scene, acquisition, 0).volume, g, size
    ), g


@pytest.mark.parametrize("finding", SIDED, ids=lambda f: f"{f.name} {f.zone}")
def test_a_finding_lies_on_its_side(finding):
    """Right findings change the picture's left half, left ones its right half, and nothing far beyond the midline."""
    for view in ("PA", "AP"):
        for side, mirror in (("right", 1), ("left", -1)):
            m, g = move(replace(finding, side=side), Acquisition(view))
            m = np.abs(m[:, ::mirror])
            middle = g.project(np.zeros(3))[0] * 96
            middle = middle if mirror == 1 else 96 - middle
            assert m[:, : int(middle)].sum() > 0.93 * m.sum() > 0, (view, side)


@pytest.mark.parametrize(
    "finding",
    [f for f in SIDED if f.zone and f.name in ("consolidation", "pneumonia", "nodule", "mass")],
    ids=lambda f: f.name,
)
def test_zones(finding):
    """The centre of the change lies in the zone that the finding names."""
    height = {}
    for zone in ("upper", "mid", "lower"):
        m = np.abs(move(replace(finding, zone=zone))[0])
        height[zone] = (m.sum(1) * np.arange(96)).sum() / m.sum()
    assert height["upper"] + 5 < height["mid"] and height["mid"] + 2 < height["lower"]


def test_fluid_brightens_and_air_darkens():
    effusion, _ = move(Finding("pleural effusion", "left", "", 2))
    air, _ = move(Finding("pneumothorax", "left", "", 1))
    assert effusion.min() > -1e-3 and effusion.max() > 0.5
    assert air.min() < -0.2 and (air < -0.05).sum() > 5 * (air > 0.05).sum()  # only the pleural line brightens
    low = (effusion.sum(1) * np.arange(96)).sum() / effusion.sum()
    high = ((air < -0.05).sum(1) * np.arange(96)).sum() / (air < -0.05).sum()
    assert low > 70 and high < 55  # fluid below, air above


def test_meniscus():
    """The fluid's upper border climbs towards the side, and grows with severity."""
    m, g = move(Finding("pleural effusion", "right", "", 3), size=128)
    box = region_boxes(Scene(PATIENT), Acquisition())["right lung"]
    x0, x1 = int(box[0] * 128), int(box[2] * 128)
    top = [np.flatnonzero(m[:, c] > 0.5)[0] for c in (x0 + 3, x0 + (x1 - x0) * 2 // 5)]
    assert top[0] < top[1] - 3
    amount = [move(Finding("pleural effusion", "right", "", s))[0].sum() for s in (1, 2, 3)]
    assert amount[0] < 0.5 * amount[1] < 0.25 * amount[2] * 2


def test_supine_effusion_is_a_veil():
    upright = np.abs(move(Finding("pleural effusion", "right", "", 2), Acquisition("AP"))[0])
    supine = np.abs(move(Finding("pleural effusion", "right", "", 2), Acquisition("AP", supine=True))[0])
    assert supine[25:45].mean() > 5 * upright[25:45].mean() + 0.01


def test_a_broken_rib_bleeds_where_it_is_broken():
    for severity in (1, 2, 3):
        finding = Finding("rib fracture", "right", "mid", severity, seed=5)
        chest = compose(Scene(PATIENT, (finding,)), Acquisition())
        spots = [c for c in chest.lung("right").solids if c.name == "hematoma"]
        assert len(spots) == len(rib_breaks(finding))
        assert not [c for c in chest.lung("left").solids if c.name == "hematoma"]
        bones = chest.volume.extra.center
        assert all(np.linalg.norm(bones - c.center, axis=1).min() < 15 for c in spots)


@pytest.mark.parametrize("side", ("right", "left"))
def test_lobes_meet_at_their_fissures(side):
    """Lower lobe and what is above it share a slab around the oblique fissure; the right middle lobe is apart."""
    chest = build(PATIENT, PA, coarse=True)
    points = np.random.default_rng(0).uniform([-150, -100, -150], [150, 100, 150], (4000, 3))

    def lie_in(zone):
        return np.all([points @ np.array(normal) <= k for normal, k in lobe_planes(chest, side, zone)], 0)

    upper, mid, lower = lie_in("upper"), lie_in("mid"), lie_in("lower")
    across = points @ [0.0, 0.75, 0.66]
    np.testing.assert_array_equal(mid & lower, mid & (across <= 12))
    assert (across[mid] >= -30).all() and (mid | lower)[points[:, 2] < 20].all()
    if side == "left":
        np.testing.assert_array_equal(upper, mid)
    else:
        assert not (upper & mid).any() and (upper | mid | lower).all()


def test_patches_and_bronchi_stay_near_their_core():
    rng, center = np.random.default_rng(0), np.array([60.0, 0.0, 20.0])
    around = patches(center, 40.0, 0.75, (0.22, 0.42), 50, rng)
    away = np.linalg.norm([p.center - center for p in around], axis=1)
    assert len(around) == 50 and (away >= 0.45 * 30).all() and (away <= 30).all()
    assert all(0.22 * 40 <= v <= 0.42 * 40 for p in around for v in p.semi)
    core = replace(around[0], center=tuple(center), semi=(30.0, 28.0, 24.0))
    tubes = bronchogram(core, 0.8, (30.0, -6.0, 14.0), rng)
    assert core.holds(tubes.center).all() and (tubes.mu < 0).all()


def test_every_finding_is_drawn_or_moves():
    with pytest.raises(ValueError, match="finding.name"):
        add(compose(Scene(PATIENT), Acquisition()), Finding("hiccup"), Acquisition())
    chest = compose(Scene(PATIENT), Acquisition())
    before = [lung.key for lung in chest.volume.lungs]
    for name in MOVED:
        add(chest, Finding(name, severity=3), Acquisition())
    assert [lung.key for lung in chest.volume.lungs] == before and not set(MOVED) & set(ADD)
