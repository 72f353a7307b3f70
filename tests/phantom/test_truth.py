"""What can be known of one visit: visibility, open questions, one changed fact."""

import numpy as np
import pandas as pd
import pytest

from medret_nb.phantom.observer import Observer
from medret_nb.phantom.rendering import detectability, expected, finding_boxes, render
from medret_nb.phantom.scenes import KINDS, Acquisition, Finding, Patient, Scene, clinic
from medret_nb.phantom.truth import best_dprime, counterfactual, examine, image_ambiguity, visibility_of

SCENE = Scene(
    Patient(5),
    (Finding("nodule", "right", "mid", 3, 24.0, seed=3), Finding("edema", "bilateral", severity=1, seed=4)),
    (Acquisition("PA", seed=8),),
)


def test_counterfactual_changes_one_fact():
    gone = counterfactual(SCENE, 0, remove=True)
    assert (
        gone.findings == SCENE.findings[1:]
        and gone.patient == SCENE.patient
        and gone.acquisitions == SCENE.acquisitions
    )
    left = counterfactual(SCENE, 0, side="left")
    assert left.findings[0].side == "left" and left.findings[0].seed == 3 and left.findings[1] == SCENE.findings[1]
    dim = counterfactual(SCENE, photons=500.0)
    assert dim.acquisitions[0].photons == 500 and dim.acquisitions[0].seed == 8
    for bad in ({"finding": 7, "severity": 1}, {"remove": True}, {}):
        with pytest.raises(ValueError):
            counterfactual(SCENE, **bad)


def test_removed_nodule_leaves_the_rest_of_the_film():
    a = SCENE.acquisitions[0]
    with_it, without = (render(s, a, 96).astype(int) for s in (SCENE, counterfactual(SCENE, 0, remove=True)))
    x0, y0, x1, y1 = finding_boxes(SCENE, a, 96)[0]
    inside = np.zeros((96, 96), bool)
    inside[int(y0 * 96) - 3 : int(np.ceil(y1 * 96)) + 3, int(x0 * 96) - 3 : int(np.ceil(x1 * 96)) + 3] = True
    change = np.abs(with_it - without)
    assert change[~inside].max() <= 2 and change[inside].max() > 10


def test_dose_lowers_detectability_by_its_root():
    a, b = SCENE, counterfactual(SCENE, photons=SCENE.acquisitions[0].photons / 4)
    d = [detectability(s, s.acquisitions[0], 64) for s in (a, b)]
    assert all(d[1][i] / d[0][i] == pytest.approx(0.5, abs=0.01) for i in d[0])


def test_visibility_is_what_the_two_slow_functions_say():
    for a in (
        Acquisition("PA", seed=1),
        Acquisition("LATERAL", seed=2),
        Acquisition("AP", supine=True, inspiration=0.4),
    ):
        dprime, boxes = visibility_of(SCENE, a, 48)
        assert boxes == finding_boxes(SCENE, a, 48)
        assert dprime == pytest.approx(detectability(SCENE, a, 48), rel=1e-3)


def test_examine_gives_every_film_its_pixels_and_boxes():
    scene = Scene(SCENE.patient, SCENE.findings, (Acquisition("PA", seed=1), Acquisition("LATERAL", seed=2)))
    films = examine(scene, 40)
    assert [f["pixels"].shape for f in films] == [(40, 40)] * 2 and all(len(f["regions"]) >= 20 for f in films)
    assert (films[0]["pixels"] == render(scene, scene.acquisitions[0], 40)).all()
    assert best_dprime(films, 2) == [max(f["dprime"][i] for f in films) for i in range(2)]
    assert best_dprime(examine(Scene(Patient(1)), 32), 0) == []


def entropy(q):
    return -q * np.log2(q) - (1 - q) * np.log2(1 - q)


def test_image_ambiguity_by_hand():
    place, reader = clinic(), Observer()
    table = pd.DataFrame({"study_id": ["a", "a"], "finding": ["nodule", "nodule"], "dprime": [4.0, 9.0]})
    bits = 0.0
    for kind in KINDS:  # with one finding in the table, its visibility stands for every other kind too
        s, p = reader.sees(9.0), place.shares[kind]
        bits += entropy(p * (1 - s) / (1 - p * s)) * (1 - s if kind == "nodule" else 1)
    assert image_ambiguity(table, ["a"], place, reader)[0] == pytest.approx(bits)


def test_image_ambiguity_rises_as_findings_fade_and_holds_the_unresolvable():
    place = clinic()

    def bits(kind, d):
        return image_ambiguity(pd.DataFrame({"study_id": ["a"], "finding": [kind], "dprime": [d]}), ["a"], place)[0]

    assert bits("nodule", 2.0) > bits("nodule", 10.0) > bits("nodule", 300.0)
    assert bits("pneumonia", 1e6) - bits("nodule", 1e6) == pytest.approx(
        1.0, abs=0.02
    )  # equal shares: one bit that no film holds


def test_visibility_by_its_formula():
    """d' = sqrt(sum (l1 - l0)^2 / l0), pixel by pixel, from the expected photons of two whole scenes."""
    a = SCENE.acquisitions[0]
    bare = counterfactual(SCENE, 1, remove=True)
    l1, l0 = (expected(s, a, 24)[0] for s in (bare, counterfactual(bare, 0, remove=True)))
    total = 0.0
    for with_it, without in zip(l1.ravel(), l0.ravel(), strict=True):
        total += (with_it - without) ** 2 / without
    assert visibility_of(bare, a, 24)[0][0] == pytest.approx(total**0.5, rel=1e-3)
