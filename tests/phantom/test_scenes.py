"""Sampling of scenes: shares, persistence, shortcut, and dependence on (seed, index) alone."""

from collections import Counter

import numpy as np
import pytest

from medret_nb.data.codes import labels_from_codes
from medret_nb.data.reports import normalise_text
from medret_nb.data.openi import read_openi
from medret_nb.phantom.dictation import Forms
from medret_nb.phantom.scenes import CLINICS, DEVICE_KINDS, KINDS, OPENI, Scene, clinic, scene_from_dict, scene_to_dict
from medret_nb.phantom.patients import VISITS, draw, sample_patients, sample_scenes, scenes_of, uniforms

BIG = 20_000


def bulk(place, n=BIG, seed=0):
    from medret_nb.phantom.patients import DRAWS

    return draw(np.random.default_rng(seed).random((n, DRAWS)), place)


@pytest.mark.parametrize("key", sorted(CLINICS))
def test_every_visit_has_the_clinics_shares(key):
    place = clinic(*key)
    present = (bulk(place)["severity"] > 0).mean(0)  # (visits, kinds)
    wanted = np.array([place.shares[k] for k in KINDS])
    wanted[KINDS.index("consolidation")] *= 1 - place.shares["pneumonia"]  # at most one of the two, nearly independent
    assert np.abs(present - wanted).max() < 0.012
    assert present.shape == (VISITS, len(KINDS))


def test_patient_depends_on_seed_and_index_alone():
    place = clinic()
    many = sample_patients(range(30), 5, place)
    assert sample_patients([17], 5, place) == [many[17]]
    assert sample_patients([17, 3], 5, place) == [many[17], many[3]]
    assert sample_patients([17], 6, place) != [many[17]]
    assert sample_patients([17], 5, clinic(site="B"))[0][0].patient != many[17][0].patient


def test_scenes_as_dictionaries_come_back():
    for scene in sample_scenes(40, 1):
        again = scene_from_dict(scene_to_dict(scene))
        assert again == scene and isinstance(again, Scene)


def test_arrays_and_scenes_say_the_same():
    place, n = clinic(), 60
    c = draw(uniforms(range(n), 2, place), place)
    for i in range(n):
        for t, scene in enumerate(scenes_of(c, i, place)):
            held = {f.kind or f.name for f in scene.findings}
            assert held == {KINDS[k] for k in np.flatnonzero(c["severity"][i, t])}
            assert (scene.acquisitions[0].view == "AP") == bool(c["ap"][i, t])


def test_findings_persist_and_keep_their_place():
    c = bulk(clinic("natural", "A"))
    present = c["severity"] > 0
    for kind, least in (("cardiomegaly", 0.8), ("pacemaker", 0.9), ("pleural effusion", 0.5)):
        k = KINDS.index(kind)
        stays = present[present[:, 0, k], 1, k].mean()
        assert stays > least > present[:, 1, k].mean() + 0.2
    place = clinic()
    for visits in sample_patients(range(200), 3, place):
        for kind in ("consolidation", "rib fracture", "mass"):
            spots = {(f.side, f.zone, f.seed) for s in visits for f in s.findings if f.name == kind}
            assert len(spots) <= 1
        assert len({s.patient for s in visits}) == 1


def test_shortcut_ties_portable_films_to_devices_and_edema():
    def gap(shortcut, kind):
        place = clinic("natural", "A", shortcut)
        c = bulk(place)
        held = c["severity"][:, 0, KINDS.index(kind)] > 0
        return c["ap"][held, 0].mean() - c["ap"][~held, 0].mean()

    for kind in ("edema", "central line"):
        assert gap(True, kind) > 0.2 and abs(gap(False, kind)) < 0.03


def test_rules_of_a_sensible_scene():
    for scene in sample_scenes(600, 8):
        kinds = [f.kind or f.name for f in scene.findings]
        assert not {"pneumonia", "consolidation"} <= set(kinds)
        views = [a.view for a in scene.acquisitions]
        assert views in (["AP"], ["PA"], ["PA", "LATERAL"])
        assert "endotracheal tube" not in kinds or views == ["AP"]
        for f in scene.findings:
            assert (
                f.severity in (1, 2, 3)
                and f.side in ("right", "left", "bilateral", "")
                and f.zone in ("upper", "mid", "lower", "")
            )
            assert (f.kind in DEVICE_KINDS) == (f.name == "device")
            assert (
                (7 <= f.size_mm < 30)
                if f.name == "nodule"
                else (f.size_mm >= 31)
                if f.name == "mass"
                else f.size_mm == 0
            )
        pair = [f for f in scene.findings if f.name == "pleural effusion"]
        assert len(pair) < 2 or (
            {f.side for f in pair} == {"right", "left"} and abs(pair[0].severity - pair[1].severity) == 1
        )


def test_films_as_asked_for():
    assert all([a.view for a in s.acquisitions] == ["AP"] for s in sample_scenes(20, 1, views=("AP",)))
    bright = np.mean([a.exposure for s in sample_scenes(100, 1, site="B") for a in s.acquisitions])
    assert bright > 1.15


def test_unknown_clinic_is_refused():
    with pytest.raises(ValueError, match="prevalence must be"):
        clinic("usual")


def test_openi_figures_are_what_its_reports_count(shared_data):
    """Forms and identical texts to the digit; labels to what reading MeSH codes as labels leaves open."""
    reports = read_openi(shared_data / "openi" / "NLMCXR_reports.tgz")
    labels = [labels_from_codes(r.major) for r in reports]
    for name, share in OPENI.items():
        assert np.mean([found.get(name) == 1 for found in labels]) == pytest.approx(share, abs=0.015), name
    forms = Forms()
    for rule, share in (
        (lambda r: not r.findings and r.impression, forms.impression_only),
        (lambda r: r.findings and not r.impression, forms.findings_only),
        (lambda r: not r.findings and not r.impression, forms.neither),
    ):
        assert np.mean([bool(rule(r)) for r in reports]) == pytest.approx(share, abs=0.0005)
    count = Counter(text for r in reports if (text := normalise_text(f"{r.findings} {r.impression}")))
    assert sum(n for n in count.values() if n > 1) / sum(count.values()) == pytest.approx(forms.identical, abs=0.0005)
