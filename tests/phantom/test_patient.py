"""The running patient: two visits whose truth the lessons count on."""

import numpy as np
import pytest

from medret_nb.phantom.patient import running_patient


def test_first_visit_has_air_on_the_right_and_an_effusion_that_was_invented():
    visit = running_patient(1, size=64)
    assert visit.film.shape == (64, 64)
    assert [(finding.name, finding.side) for finding in visit.scene.findings] == [
        ("pneumothorax", "right"),
        ("consolidation", "left"),
    ]
    assert "effusion is seen" in visit.report
    x0, y0, x1, y1 = visit.boxes["consolidation", "left"]
    assert 0.5 < x0 < x1 <= 1 and 0 <= y0 < y1 < 0.5  # the patient's left is on the right of the film


def test_the_same_film_at_its_shipped_size():
    visit = running_patient(2, size=64)
    stored = visit.study.pixels(64).take([f"{visit.study.studies['study_id'].iloc[0]}-AP"])[0]
    assert np.array_equal(visit.film, stored.squeeze())


def test_less_air_at_the_second_visit():
    first, second = (running_patient(number, size=64).scene.findings[0] for number in (1, 2))
    assert first.name == second.name == "pneumothorax"
    assert second.severity < first.severity


def test_there_are_two_visits():
    with pytest.raises(IndexError):
        running_patient(3, size=64)
