"""Films of scenes: boxes, volumes across views, detectability, determinism, counterfactuals."""

import hashlib
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from medret_nb.phantom.anatomy import chest_geometry
from medret_nb.phantom.exposure import line_integral
from medret_nb.phantom.projection import LUNG, TISSUE, boxes
from medret_nb.phantom.rendering import compose, detectability, expected, finding_boxes, render
from medret_nb.phantom.scenes import DEVICE_KINDS, FINDING_KINDS, Acquisition, Finding, Patient, Scene

PATIENT = Patient(11, "M", 60)
PA = Acquisition()


def move(finding, acquisition=PA, size=96, patient=PATIENT):
    """The change of the line integral by one finding, and the geometry."""
    scene, g = Scene(patient, (finding,)), chest_geometry(patient, acquisition)
    return line_integral(compose(scene, acquisition).volume, g, size) - line_integral(
        compose(scene, acquisition, 0).volume, g, size
    ), g


@pytest.mark.parametrize("view", ("PA", "AP", "LATERAL"))
def test_views_agree_on_volume(view):
    """A nodule's line integral, weighed with the ray cones' cross-section, gives its volume in each view."""
    finding, size = Finding("nodule", "right", "mid", 3, size_mm=26.0, seed=4), 192
    acquisition = Acquisition(view)
    m, g = move(finding, acquisition, size)
    ball = compose(Scene(PATIENT, (finding,)), acquisition).lung("right").vessels.take(slice(-1, None))
    depth = g.to_view(ball.center)[0, 2]
    su, sw = g.slopes(size)
    length = m / np.sqrt(1 + su[None] ** 2 + sw[:, None] ** 2) / ball.mu[0]
    assert length.sum() * (su[1] - su[0]) ** 2 * depth**2 == pytest.approx(4 / 3 * np.pi * 13**3, rel=0.04)


@pytest.mark.parametrize("view", ("PA", "AP", "LATERAL"))
def test_boxes_from_projection_and_from_films(view):
    """Tangents of the nodule, the moved rays, and the grey values of two films give one box."""
    finding, size = Finding("nodule", "left", "upper", 3, size_mm=30.0, seed=1), 160
    scene, acquisition = Scene(PATIENT, (finding,)), Acquisition(view, photons=1e6)
    g = chest_geometry(PATIENT, acquisition)
    u0, u1, w0, w1 = (
        boxes(compose(scene, acquisition).lung("left").vessels.take(slice(-1, None)), g)[0] * g.distance / g.field
    )
    known = finding_boxes(scene, acquisition, size)[0]
    np.testing.assert_allclose(known, [u0 + 0.5, 0.5 - w1, u1 + 0.5, 0.5 - w0], atol=1.6 / size)
    differs = np.abs(render(scene, acquisition, size).astype(int) - render(Scene(PATIENT), acquisition, size)) > 1
    rows, cols = np.flatnonzero(differs.any(1)), np.flatnonzero(differs.any(0))
    np.testing.assert_allclose(
        [cols[0] / size, rows[0] / size, (cols[-1] + 1) / size, (rows[-1] + 1) / size], known, atol=2.6 / size
    )


@pytest.mark.parametrize("name", FINDING_KINDS)
def test_every_finding_renders_shows_and_never_goes_below_zero(name):
    kinds = DEVICE_KINDS if name == "device" else ("",)
    side = "bilateral" if name == "edema" else "" if name in ("cardiomegaly", "enlarged mediastinum") else "right"
    for seed, (view, supine) in enumerate((("PA", False), ("AP", True), ("LATERAL", False))):
        for kind in kinds:
            scene = Scene(
                Patient(seed + 40, "F", 70, 0.7),
                (
                    Finding(
                        name,
                        side,
                        "lower" if name in ("consolidation", "mass") else "",
                        3,
                        kind=kind,
                        misplaced=seed == 1,
                        seed=seed,
                    ),
                ),
            )
            acquisition = Acquisition(view, supine=supine, inspiration=0.6, seed=seed)
            log = line_integral(compose(scene, acquisition).volume, chest_geometry(scene.patient, acquisition), 64)
            assert log.min() > -1e-3
            assert detectability(scene, acquisition, 64)[0] > 3, (view, kind)
            assert finding_boxes(scene, acquisition, 64)[0] is not None


def test_detectability_against_a_loop_and_laws():
    scene = Scene(PATIENT, (Finding("nodule", "right", "upper", 2, seed=3), Finding("pleural effusion", "left", "", 1)))
    acquisition = Acquisition()
    d = detectability(scene, acquisition, 48)
    for i in d:
        l1, l0 = expected(scene, acquisition, 48)[0], expected(scene, acquisition, 48, i)[0]
        assert d[i] == pytest.approx(
            sum((float(a) - float(b)) ** 2 / float(b) for a, b in zip(l1.ravel(), l0.ravel())) ** 0.5, rel=1e-4
        )
    assert detectability(scene, replace(acquisition, photons=acquisition.photons * 9), 48)[0] == pytest.approx(
        3 * d[0], rel=1e-3
    )
    sizes = [
        detectability(Scene(PATIENT, (Finding("nodule", "right", "upper", 2, size_mm=s, seed=3),)), acquisition, 96)[0]
        for s in (6, 12, 24)
    ]
    assert sizes[0] < sizes[1] < sizes[2]
    effusion = Scene(Patient(6, "M", 55), (Finding("pleural effusion", "right", "", 1, seed=6),))
    assert detectability(effusion, Acquisition("LATERAL"), 96)[0] > detectability(effusion, Acquisition("PA"), 96)[0]


def test_counterfactual_changes_only_its_reach():
    """Another severity, side or size: outside the union of both boxes, with a margin, no pixel differs."""
    rest = Finding("pleural thickening", "left", "upper", 2, seed=5)
    size = 128
    for one, other in (
        (Finding("nodule", "right", "mid", 1, seed=7), Finding("nodule", "right", "mid", 3, seed=7)),
        (Finding("pleural effusion", "right", "", 1), Finding("pleural effusion", "right", "", 2)),
        (Finding("consolidation", "right", "lower", 2), Finding("consolidation", "left", "lower", 2)),
        (Finding("device", kind="endotracheal tube"), Finding("device", kind="endotracheal tube", misplaced=True)),
    ):
        for view in ("PA", "AP", "LATERAL"):
            a = Acquisition(view, seed=9)
            films = [render(Scene(PATIENT, (rest, f)), a, size) for f in (one, other)]
            outside = np.ones((size, size), bool)
            for f in (one, other):
                m = np.abs(move(f, a, size)[0]) > 1e-6
                rows, cols = np.flatnonzero(m.any(1)), np.flatnonzero(m.any(0))
                outside[max(rows[0] - 2, 0) : rows[-1] + 3, max(cols[0] - 2, 0) : cols[-1] + 3] = False
            assert outside.mean() > 0.2 and (films[0] != films[1]).any()
            assert (films[0][outside] == films[1][outside]).all()


def test_findings_do_not_move_each_other():
    """A second finding leaves the first where it is, bit by bit."""
    nodule = Finding("nodule", "right", "upper", 2, seed=3)
    alone = finding_boxes(Scene(PATIENT, (nodule,)), Acquisition())[0]
    crowd = Scene(
        PATIENT,
        (
            Finding("cardiomegaly", severity=3),
            Finding("pleural effusion", "left", "", 2),
            nodule,
            Finding("device", kind="gastric tube"),
        ),
    )
    assert finding_boxes(crowd, Acquisition())[2] == alone


def test_render_is_a_function_of_its_arguments():
    """The same film in another order and another process."""
    scene, acquisition = (
        Scene(PATIENT, (Finding("mass", "left", "mid", 2, seed=8), Finding("edema", "bilateral", "", 2))),
        Acquisition("AP", seed=77),
    )
    first = render(scene, acquisition, 64)
    render(Scene(Patient(99)), Acquisition("LATERAL"), 64)
    assert (render(scene, acquisition, 64) == first).all()
    code = (
        "from medret_nb.phantom.rendering import render\nfrom medret_nb.phantom.scenes import *\nimport hashlib\n"
        f"print(hashlib.sha256(render({scene!r}, {acquisition!r}, 64).tobytes()).hexdigest())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == hashlib.sha256(first.tobytes()).hexdigest()
    assert (render(scene, replace(acquisition, seed=78), 64) != first).mean() > 0.3


def test_tissue_is_denser_than_lung():
    assert TISSUE > LUNG > 0
