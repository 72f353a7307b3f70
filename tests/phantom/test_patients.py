"""Drawing patients: shares, persistence, shortcut, and dependence on (seed, index) alone."""

import numpy as np
import pytest
from scipy.special import ndtri

from medret_nb.phantom.patients import (
    DRAWS,
    VISITS,
    _latent,
    draw,
    named_columns,
    sample_patients,
    sample_scenes,
    scenes_of,
    uniforms,
)
from medret_nb.phantom.scenes import CLINICS, DEVICE_KINDS, KINDS, clinic

BIG = 20_000


def bulk(place, n=BIG, seed=0):
    return draw(np.random.default_rng(seed).random((n, DRAWS)), place)


@pytest.mark.parametrize("key", sorted(CLINICS))
def test_every_visit_has_the_clinics_shares(key):
    place = clinic(*key)
    present = (bulk(place)["severity"] > 0).mean(0)  # (visits, kinds)
    wanted = np.array([place.shares[k] for k in KINDS])
    wanted[KINDS.index("consolidation")] *= 1 - place.shares["pneumonia"]  # at most one of the two, nearly independent
    assert np.abs(present - wanted).max() < 0.012
    assert present.shape == (VISITS, len(KINDS))


def test_latent_numbers_against_a_loop():
    """z_kt = a_k s + sqrt(1 - a_k^2) e_kt and e_kt = rho_k e_k,t-1 + sqrt(1 - rho_k^2) epsilon_kt, one by one."""
    rng = np.random.default_rng(0)
    first, steps, s = rng.random((3, 2)), rng.random((3, VISITS, 2)), rng.normal(size=3)
    a, rho = np.array([0.5, 0.0]), np.array([0.8, 0.3])
    z = _latent(first, steps, s, a, rho)
    for i in range(3):
        for k in range(2):
            e = ndtri(first[i, k])
            for t in range(VISITS):
                if t:
                    e = rho[k] * e + (1 - rho[k] ** 2) ** 0.5 * ndtri(steps[i, t, k])
                assert z[i, t, k] == pytest.approx(a[k] * s[i] + (1 - a[k] ** 2) ** 0.5 * e)


def test_every_uniform_number_has_one_name():
    """The named columns hold each of a row's numbers once, but for the steps to the first visit."""
    c = named_columns(np.arange(DRAWS, dtype=float)[None])
    groups = [*c["person"].values(), c["first_ap"], c["steps"], *c["traits"].values(), *c["film"].values()]
    numbers = np.concatenate([g.ravel() for g in groups])
    assert len(numbers) == len(set(numbers)) == DRAWS


def test_patient_depends_on_seed_and_index_alone():
    place = clinic()
    many = sample_patients(range(30), 5, place)
    assert sample_patients([17], 5, place) == [many[17]]
    assert sample_patients([17, 3], 5, place) == [many[17], many[3]]
    assert sample_patients([17], 6, place) != [many[17]]
    assert sample_patients([17], 5, clinic(site="B"))[0][0].patient != many[17][0].patient


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


def right_size(finding):
    """Whether a finding has the size that its name allows."""
    if finding.name == "nodule":
        return 7 <= finding.size_mm < 30
    if finding.name == "mass":
        return finding.size_mm >= 31
    return finding.size_mm == 0


def test_rules_of_a_sensible_scene():
    for scene in sample_scenes(600, 8):
        kinds = [f.kind or f.name for f in scene.findings]
        assert not {"pneumonia", "consolidation"} <= set(kinds)
        views = [a.view for a in scene.acquisitions]
        assert views in (["AP"], ["PA"], ["PA", "LATERAL"])
        assert "endotracheal tube" not in kinds or views == ["AP"]
        for f in scene.findings:
            assert f.severity in (1, 2, 3)
            assert f.side in ("right", "left", "bilateral", "")
            assert f.zone in ("upper", "mid", "lower", "")
            assert (f.kind in DEVICE_KINDS) == (f.name == "device")
            assert right_size(f)
        pair = [f for f in scene.findings if f.name == "pleural effusion"]
        if len(pair) >= 2:
            assert {f.side for f in pair} == {"right", "left"} and abs(pair[0].severity - pair[1].severity) == 1


def test_films_as_asked_for():
    assert all([a.view for a in s.acquisitions] == ["AP"] for s in sample_scenes(20, 1, views=("AP",)))
    bright = np.mean([a.exposure for s in sample_scenes(100, 1, site="B") for a in s.acquisitions])
    assert bright > 1.15
