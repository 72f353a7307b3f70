"""The chest: sides, magnification of the heart, rotation, vessels, no negative attenuation, local changes."""

import numpy as np
import pytest

from medret_nb.phantom.anatomy import build, chest_geometry, vessel_tree
from medret_nb.phantom.bones import clavicles, rib_curves
from medret_nb.phantom.exposure import line_integral
from medret_nb.phantom.projection import ellipsoids
from medret_nb.phantom.regions import chest_regions, shape_box
from medret_nb.phantom.scenes import Acquisition, Patient
from medret_nb.phantom.sizes import Changes, frame

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
    chest, g = build(patient, Acquisition(), coarse=True), chest_geometry(patient, Acquisition())
    f, parts = chest.frame, chest.parts
    both = [parts["heart"], parts["right atrium"]]
    axes = np.array([parts["heart"].axes, np.eye(3)])
    box = shape_box(ellipsoids([p.center for p in both], [p.semi for p in both], axes), g)
    middle = g.project(np.zeros(3))[0]
    assert parts["heart"].center[0] > 0 and 0.55 < (box[2] - middle) / (box[2] - box[0]) < 0.78
    assert f.dome[0] > f.dome[1] + 4
    curves, _ = rib_curves(f)
    assert curves.shape[:2] == (2, 10) and (curves[0, ..., 0] < -15).all() and (curves[1, ..., 0] > 15).all()
    drop = curves[:, :, 0, 2] - curves[:, :, -1, 2]
    assert (drop > 15).all() and (curves[:, :, -1, 1] > curves[:, :, 0, 1]).all()


@pytest.mark.parametrize("patient", PEOPLE)
@pytest.mark.parametrize("film", FILMS)
def test_no_negative_attenuation_and_a_full_field(patient, film):
    log = line_integral(build(patient, film).volume, chest_geometry(patient, film), 96)
    assert log.min() > -1e-3 and np.isfinite(log).all()
    if film.view != "LATERAL":
        assert (log[60:80, 30:66] > 0.5).all() and (log > 0.3).mean() > 0.75  # the torso fills the field


def test_rotation_moves_the_clavicles_apart():
    patient = PEOPLE[0]
    full = frame(patient, Acquisition())
    off = []
    for rotation in (0.0, 10.0):
        g = chest_geometry(patient, Acquisition(rotation=rotation))
        ends = g.project(clavicles(full, "PA")[:, 0])[:, 0]
        spine = g.project(np.array([0, -60.0, 100.0]))[0]
        off.append(abs(ends.mean() - spine))
    assert off[0] < 0.005 < off[1]


def test_vessels_taper_and_stay_on_their_side():
    f = frame(PEOPLE[0], Acquisition())
    for side, s in (("right", -1), ("left", 1)):
        tree = vessel_tree(f, side, (s * 36.0, -6.0, 14.0))
        far = np.linalg.norm(tree.center - [s * 36, -6, 14], axis=1)
        assert (s * tree.center[:, 0] > 0).all()
        assert np.corrcoef(far, tree.semi[:, 1])[0, 1] < -0.3
    shallow = frame(PEOPLE[0], Acquisition("AP", inspiration=0.3))
    hilum = (36.0, -6.0, 14.0)
    assert (vessel_tree(f, "left", hilum).center == vessel_tree(shallow, "left", hilum).center).all()


def test_changes_are_local():
    """A larger heart moves no ray through the apices."""
    patient, film = PEOPLE[1], Acquisition()
    g = chest_geometry(patient, film)
    large = line_integral(build(patient, film, Changes(heart=1.3)).volume, g, 96)
    move = large - line_integral(build(patient, film).volume, g, 96)
    assert move.max() > 0.5 and np.abs(move[:25]).max() < 1e-5


def test_a_coarse_chest_has_the_same_solids():
    """Scatter and display ask for a chest without bones, vessels and air; all else is as in the whole one."""
    whole, coarse = (build(PEOPLE[2], Acquisition(), coarse=c) for c in (False, True))
    assert [part.key for part in whole.volume.body] == [part.key for part in coarse.volume.body]
    assert [lung.key for lung in whole.volume.lungs] == [lung.key for lung in coarse.volume.lungs]
    assert len(whole.volume.extra) > 100 > len(coarse.volume.extra) == len(coarse.volume.air) == 0
    assert not any(len(lung.vessels) for lung in coarse.volume.lungs)
