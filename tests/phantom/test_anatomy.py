"""The chest: sides, breath, magnification of the heart, bones inside the body, no negative attenuation, regions."""

import numpy as np
import pytest

from medret_nb.phantom.sizes import Changes, frame
from medret_nb.phantom.anatomy import build, chest_geometry, vessel_tree
from medret_nb.phantom.bones import clavicles, rib_curves
from medret_nb.phantom.exposure import line_integral
from medret_nb.phantom.projection import ellipsoids
from medret_nb.phantom.regions import chest_regions, lung_masks, shape_box
from medret_nb.phantom.scenes import Acquisition, Patient

PEOPLE = [
    Patient(1, "M", 30),
    Patient(2, "F", 62),
    Patient(3, "M", 78, 1.8, 1.0),
    Patient(4, "F", 20, -1.8, -1.0),
    Patient(5, "F", 90, 0.5, 0.0),
]
FILMS = [
    Acquisition("PA"),
    Acquisition("AP", inspiration=0.3, rotation=6.0),
    Acquisition("AP", supine=True, inspiration=0.0),
    Acquisition("LATERAL", rotation=-4.0),
]


def heart_and_chest(patient, acquisition):
    """Widths of heart and lungs at the detector in mm."""
    g = chest_geometry(patient, acquisition)
    r = chest_regions(build(patient, acquisition, coarse=True), g, 256)
    heart = r["cardiac silhouette"]
    return (heart[2] - heart[0]) * g.field, (r["left lung"][2] - r["right lung"][0]) * g.field


@pytest.mark.parametrize("patient", PEOPLE[:3])
def test_heart_is_larger_on_ap(patient):
    """The same heart throws a shadow 10 to 15 % wider on AP, and the cardiothoracic ratio grows."""
    pa, ap = heart_and_chest(patient, Acquisition("PA")), heart_and_chest(patient, Acquisition("AP"))
    assert 1.10 < ap[0] / pa[0] < 1.15
    shallow = heart_and_chest(patient, Acquisition("AP", inspiration=0.3))
    assert shallow[0] / shallow[1] > ap[0] / ap[1] > 1.03 * pa[0] / pa[1]
    assert 1.05 < (shallow[0] / shallow[1]) / (pa[0] / pa[1]) < 1.2


@pytest.mark.parametrize("patient", PEOPLE)
def test_sides(patient):
    """Heart mostly left, right dome higher, ten ribs a side that stay on it and slope down."""
    chest = build(patient, Acquisition(), coarse=True)
    f, parts = chest.frame, chest.parts
    x = parts["heart"].center[0]
    box = shape_box(
        ellipsoids(
            [parts[n].center for n in ("heart", "right atrium")],
            [parts[n].semi for n in ("heart", "right atrium")],
            np.array([parts["heart"].axes, np.eye(3)]),
        ),
        chest_geometry(patient, Acquisition()),
    )
    middle = chest_geometry(patient, Acquisition()).project(np.zeros(3))[0]
    assert x > 0 and 0.55 < (box[2] - middle) / (box[2] - box[0]) < 0.78
    assert f.dome[0] > f.dome[1] + 4
    curves, _ = rib_curves(f)
    assert curves.shape[:2] == (2, 10) and (curves[0, ..., 0] < -15).all() and (curves[1, ..., 0] > 15).all()
    drop = curves[:, :, 0, 2] - curves[:, :, -1, 2]
    assert (drop > 15).all() and (curves[:, :, -1, 1] > curves[:, :, 0, 1]).all()


@pytest.mark.parametrize("view", ("PA", "AP", "LATERAL"))
@pytest.mark.parametrize("patient", PEOPLE)
def test_bones_stay_inside_the_body(patient, view):
    chest = build(patient, Acquisition(view))
    inside = np.any([part.holds(chest.volume.extra.center) for part in chest.volume.body], 0)
    low = chest.volume.extra.center[:, 2] > -200
    assert inside[low].all(), chest.volume.extra.center[low & ~inside].round()


@pytest.mark.parametrize("patient", PEOPLE)
@pytest.mark.parametrize("film", FILMS)
def test_no_negative_attenuation_and_a_full_field(patient, film):
    log = line_integral(build(patient, film).volume, chest_geometry(patient, film), 96)
    assert log.min() > -1e-3 and np.isfinite(log).all()
    if film.view != "LATERAL":
        assert (log[60:80, 30:66] > 0.5).all() and (log > 0.3).mean() > 0.75  # the torso fills the field


def test_breath_and_rotation():
    patient = PEOPLE[0]
    full, poor = frame(patient, Acquisition()), frame(patient, Acquisition(inspiration=0.0))
    assert poor.dome[0] - full.dome[0] == pytest.approx(34)
    ends = [
        chest_geometry(patient, Acquisition(rotation=r)).project(clavicles(full, "PA")[:, 0])[:, 0] for r in (0.0, 10.0)
    ]
    spine = [
        chest_geometry(patient, Acquisition(rotation=r)).project(np.array([0, -60.0, 100.0]))[0] for r in (0.0, 10.0)
    ]
    assert abs(ends[0].mean() - spine[0]) < 0.005 < abs(ends[1].mean() - spine[1])


def test_vessels_taper_and_stay_on_their_side():
    f = frame(PEOPLE[0], Acquisition())
    for side, s in (("right", -1), ("left", 1)):
        tree = vessel_tree(f, side, (s * 36.0, -6.0, 14.0))
        far = np.linalg.norm(tree.center - [s * 36, -6, 14], axis=1)
        assert (s * tree.center[:, 0] > 0).all()
        assert np.corrcoef(far, tree.semi[:, 1])[0, 1] < -0.3
    assert (
        vessel_tree(f, "left", (36.0, -6.0, 14.0)).center
        == vessel_tree(frame(PEOPLE[0], Acquisition("AP", inspiration=0.3)), "left", (36.0, -6.0, 14.0)).center
    ).all()


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


def test_changes_are_local():
    """A larger heart moves no ray through the apices."""
    patient, film = PEOPLE[1], Acquisition()
    g = chest_geometry(patient, film)
    move = line_integral(build(patient, film, Changes(heart=1.3)).volume, g, 96) - line_integral(
        build(patient, film).volume, g, 96
    )
    assert move.max() > 0.5 and np.abs(move[:25]).max() < 1e-5
