"""The words for a finding are complete and consistent with what they assert."""

import pytest

from medret_nb.data.finding_names import FINDINGS
from medret_nb.phantom.assertions import COVERS
from medret_nb.phantom.scenes import FINDING_KINDS
from medret_nb.phantom.wording import LABEL, NAMES, PLACES, SIZES, measured_band


def test_every_size_word_covers_the_severity_it_is_used_for():
    assert set(SIZES) == set(FINDING_KINDS) - {"device"}
    for table in SIZES.values():
        for severity, words in table.items():
            assert all(low <= severity <= high for _, low, high in words)
            assert all((word == "") == ((low, high) == (1, 3)) for word, low, high in words)


def test_names_and_labels_are_known():
    for site in "AB":
        assert set(NAMES[site]) == set(FINDING_KINDS) - {"device"}
        for kind, names in NAMES[site].items():
            for name in names:
                asserted = name[2] if len(name) > 2 else kind
                assert kind in COVERS[asserted] and LABEL[asserted] in FINDINGS


def test_places_name_their_side():
    told = {"right": ("right",), "left": ("left", "lingular"), "bilateral": ("bi",)}
    for site in "AB":
        for sides in PLACES[site].values():
            for side, phrases in sides.items():
                assert all(phrase.startswith(told[side]) for phrase in phrases)


@pytest.mark.parametrize(
    "kind, size_mm, band",
    [
        ("nodule", 8, (1, 1)),
        ("nodule", 12.5, (1, 2)),
        ("nodule", 19, (2, 3)),
        ("nodule", 30, (3, 3)),
        ("mass", 40, (1, 1)),
        ("mass", 50, (1, 2)),
        ("mass", 58, (2, 3)),
    ],
)
def test_a_measurement_covers_what_a_tenth_more_or_less_may_be(kind, size_mm, band):
    assert measured_band(kind, size_mm) == band
