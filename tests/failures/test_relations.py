"""Relations: cases by hand, the phantom's own relevance as the judge."""

import numpy as np
import pytest

from medret_nb.failures.relations import Said, differences, holds, merged, relate, said_by, shown_by, weight
from medret_nb.phantom.assertions import report_fits
from medret_nb.phantom.reading import read_claims
from medret_nb.phantom.truth_tables import load_truth


def says(text):
    return said_by(read_claims(text))


def test_fitting_is_the_phantoms_closed_reading(small_phantom):
    truth = load_truth(small_phantom)
    reports, scenes = [said_by(r) for r in truth.reports], [shown_by(s) for s in truth.scenes]
    mine = np.array([[holds(r, s) for s in scenes] for r in reports])
    np.testing.assert_array_equal(mine, report_fits(truth.reports, truth.scenes, "closed"))
    for r, row in zip(reports, mine):
        for s, fits in zip(scenes, row):
            assert fits or differences(r, s)[0]  # what does not fit has a reason


@pytest.mark.parametrize(
    "other, name, heavy",
    [
        ("Small right effusion. Right rib fracture.", "wrong side", "significant"),
        ("Large left effusion. Right rib fracture.", "severity only", "significant"),
        ("Right rib fracture. No effusion.", "polarity flipped", "significant"),
        ("Right rib fracture.", "missed finding", "significant"),
        ("Left nodule.", "unrelated", "significant"),
        ("Small left effusion. Right rib fracture. Left apical pneumothorax.", "invented finding", "critical"),
        ("Small left effusion. Right rib fracture. Cardiomegaly.", "invented finding", "minor"),
        ("Left effusion. Right fracture. Left effusion again.", "fits", "minor"),
    ],
)
def test_by_hand(other, name, heavy):
    found = relate(says(other), says("Small left effusion. Right rib fracture."))
    assert found[0] == name and weight(found[1]) == heavy


def test_a_tube_out_of_place_is_critical():
    found = relate(says("Endotracheal tube is malpositioned."), says("Endotracheal tube in standard position."))
    assert found[0] == "severity only" and weight(found[1]) == "critical"


def test_what_is_said_twice_is_one_thing():
    assert (
        len(merged(says("Right base opacity. Right lower lobe pneumonia. Small right effusion. Right effusion.").there))
        == 2
    )
    assert len(merged(says("Bilateral effusions.").there)) == 2


def test_nothing_fits_nothing():
    assert (
        holds(Said(), Said())
        and relate(Said(), Said()) == ("fits", [])
        and relate(Said(), Said(), same_words=True)[0] == "identical text"
    )
