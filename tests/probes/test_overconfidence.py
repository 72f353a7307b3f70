"Over-confidence: a debiased error against simulation, galleries of one size, a temperature that mends a loud model."

import numpy as np
import pytest

from medret_nb.data.files import shipped_data
from medret_nb.data.studies import StudySet
from medret_nb.methods.clip import CLIP
from medret_nb.probes.overconfidence import (
    debiased_ece,
    gallery_pieces,
    overconfidence_cases,
    overconfidence_lines,
    overconfidence_table,
)


def test_debiased_error_of_a_perfect_model_is_zero_and_of_a_loud_one_is_its_gap():
    rng = np.random.default_rng(0)
    perfect = []
    for _ in range(200):
        stated = rng.random(200)
        value = debiased_ece((rng.random(200) < stated).astype(float), stated)
        perfect.append(np.sign(value) * value**2)
    assert abs(np.mean(perfect)) < 0.001
    stated = np.full(4000, 0.9)
    assert abs(debiased_ece((rng.random(4000) < 0.5).astype(float), stated) - 0.4) < 0.03


@pytest.mark.parametrize(("count", "size"), [(10, 10), (23, 10), (20, 5), (7, 6)])
def test_every_study_is_asked_once_in_galleries_of_one_size(count, size):
    pieces = list(gallery_pieces(count, size))
    assert all(len(set(names)) == size for names, _ in pieces)
    assert sorted(np.concatenate([names[new] for names, new in pieces])) == list(range(count))
    with pytest.raises(ValueError, match="size"):
        next(gallery_pieces(5, 6))


def test_cases_of_a_method_and_their_table():
    clinic = StudySet.load(shipped_data("phantom-small"))
    method = CLIP.create().eval()
    brier = overconfidence_cases(method, clinic, "train", known="test")
    gap = overconfidence_cases(method, clinic, "train", "gap", known="test")
    assert brier["case"].is_unique and brier["case"].equals(gap["case"])
    assert np.allclose(gap["value"], gap["right"] - gap["stated"])
    assert np.allclose(-brier["value"], (brier["stated"] ** 2 - 2 * brier["stated"] * brier["right"] + brier["right"]))
    own = overconfidence_cases(method, clinic, "train", temperature="own", known="test")
    assert np.allclose(own["right"], gap["right"])  # a temperature changes no ranking
    assert "debiased ECE" in overconfidence_lines(overconfidence_table([own, gap], 20))[1]
    for wrong in ({"of": "ece"}, {"temperature": "hot"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            overconfidence_cases(method, clinic, "train", **wrong)
