"""Findings on films: sides, signs, boxes, volumes across views, detectability, determinism, counterfactuals."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from medret_nb.phantom.anatomy import chest_geometry
from medret_nb.phantom.exposure import line_integral
from medret_nb.phantom.projection import LUNG, TISSUE, boxes
from medret_nb.phantom.rendering import compose, detectability, expected, finding_boxes, region_boxes, render
from medret_nb.phantom.scenes import DEVICE_KINDS, FINDING_KINDS, Acquisition, Finding, Patient, Scene
from medret_nb.phantom.signs import add
from medret_nb.phantom.placement import changes_of, rib_breaks
from medret_nb.phantom.devices import device_shapes

PATIENT = Patient(11, "M", 60)
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


def move(finding, acquisition=Acquisition(), size=96, patient=PATIENT):
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


def test_supine_effusion_is_a_veil_and_air_opens_the_sulcus():
    upright = np.abs(move(Finding("pleural effusion", "right", "", 2), Acquisition("AP"))[0])
    supine = np.abs(move(Finding("pleural effusion", "right", "", 2), Acquisition("AP", supine=True))[0])
    assert supine[25:45].mean() > 5 * upright[25:45].mean() + 0.01
    deep = changes_of((Finding("pneumothorax", "right", "", 2),), Acquisition("AP", supine=True))
    assert deep.dome[0] < -8 and deep.dome[1] == 0


def test_volume_loss_pulls_and_tension_pushes():
    pull = changes_of((Finding("atelectasis", "left", "lower", 3),), Acquisition())
    push = changes_of((Finding("pneumothorax", "left", "", 3),), Acquisition())
    assert pull.shift > 10 and pull.dome[1] > 10 and push.shift < -10
    heart = [
        region_boxes(Scene(PATIENT, f), Acquisition())["cardiac silhouette"]
        for f in ((), (Finding("cardiomegaly", "", "", 3),))
    ]
    assert heart[1][2] - heart[1][0] > 1.3 * (heart[0][2] - heart[0][0])


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


@pytest.mark.parametrize("side", ("right", "left"))
def test_a_pacemaker_lies_under_the_skin(side):
    for seed in range(6):
        patient = Patient(seed, "FM"[seed % 2], 30 + 10 * seed, seed / 2 - 1)
        chest = compose(Scene(patient, (Finding("device", side, kind="pacemaker", seed=seed),)), Acquisition())
        case = chest.volume.metal.center[:1]
        assert chest.volume.body[0].holds(case) and not chest.lung(side).cavity.holds(case)


def test_a_broken_rib_bleeds_where_it_is_broken():
    for severity in (1, 2, 3):
        finding = Finding("rib fracture", "right", "mid", severity, seed=5)
        chest = compose(Scene(PATIENT, (finding,)), Acquisition())
        spots = [c for c in chest.lung("right").solids if c.name == "hematoma"]
        assert len(spots) == len(rib_breaks(finding)) and not [
            c for c in chest.lung("left").solids if c.name == "hematoma"
        ]
        bones = chest.volume.extra.center
        assert all(np.linalg.norm(bones - c.center, axis=1).min() < 15 for c in spots)


def test_devices_end_where_they_should():
    """Right place: above the carina, in the vena cava, under the left dome, in the ventricle; wrong place: elsewhere."""
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
    with pytest.raises(ValueError, match="finding.name"):
        add(compose(Scene(PATIENT), Acquisition()), Finding("hiccup"), Acquisition())


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
    import hashlib

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == hashlib.sha256(first.tobytes()).hexdigest()
    assert (render(scene, replace(acquisition, seed=78), 64) != first).mean() > 0.3


def test_tissue_is_denser_than_lung():
    assert TISSUE > LUNG > 0
