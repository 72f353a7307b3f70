"""Scenes and clinics: dictionaries there and back, names of clinics, and the figures that can be counted."""

from collections import Counter

import numpy as np
import pytest

from medret_nb.data.codes import labels_from_codes
from medret_nb.data.openi import read_openi
from medret_nb.data.reports import normalise_text
from medret_nb.phantom.dictation import Forms
from medret_nb.phantom.patients import sample_scenes
from medret_nb.phantom.scenes import CLINICS, KINDS, OPENI, Scene, clinic, scene_from_dict, scene_to_dict


def test_scenes_as_dictionaries_come_back():
    for scene in sample_scenes(40, 1):
        again = scene_from_dict(scene_to_dict(scene))
        assert again == scene and isinstance(again, Scene)


def test_clinics_name_every_kind_and_a_source():
    for place in CLINICS.values():
        assert set(place.shares) == set(KINDS) and place.source
        assert min(place.shares.values()) > 0 and max(place.shares.values()) < 1
        assert sum(place.visits) == pytest.approx(1)
    assert len({place.number for place in CLINICS.values()}) == len(CLINICS)
    assert not clinic(shortcut=False).shortcut


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
