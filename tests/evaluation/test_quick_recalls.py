"Six numbers for a training: those of the whole table of scores, on every device."

import numpy as np
import pytest
import torch
from clouds import points
from pretend_card import pretended_card

from medret_nb.evaluation.quick_recalls import first_relevant_on, recalls_both_ways
from medret_nb.evaluation.ranking import first_relevant, recall_at_k
from medret_nb.retrieval.points import SIMILARITIES
from medret_nb.retrieval.scoring import score_matrix


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_recalls_are_those_of_the_table(similarity, device):
    image, text = points(40, 6, 1, similarity, "f"), points(40, 6, 2, similarity, "r")
    text.mu[7] = text.mu[3]  # the same text twice
    text.logvar[7] = text.logvar[3]
    groups = np.where(np.arange(40) == 7, 3, np.arange(40))
    scores = score_matrix(image, text, device="cpu")
    found = recalls_both_ways(image, text, (groups, groups), device=device)
    assert list(found) == ["i2t_r1", "i2t_r5", "i2t_r10", "t2i_r1", "t2i_r5", "t2i_r10"]
    for way, table in (("i2t", scores), ("t2i", scores.T)):
        for k in (1, 5, 10):
            assert found[f"{way}_r{k}"] == pytest.approx(recall_at_k(table, (groups, groups), k), abs=1e-12)


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_blocks_and_copies_change_nothing(similarity, device):
    image, text = points(30, 4, 1, similarity, "f"), points(50, 4, 2, similarity, "r", distinct=12)
    asked, held = np.arange(30) % 9, np.arange(50) % 11 - 1
    whole = first_relevant_on(image, text, (asked, held), device)
    parts = first_relevant_on(image, text, (asked, held), device, cells=170)
    scores = score_matrix(image, text, device="cpu")
    exact = first_relevant(scores, (asked, held))
    for name in ("ahead", "relevant"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))
    assert (whole.tied == parts.tied).all() and (whole.tied >= 1).all()
    assert (whole.relevant == exact.relevant).all()


def test_a_k_above_the_split_is_left_out_and_nothing_relevant_is_nan():
    image, text = points(4, 3, 1), points(4, 3, 2)
    found = recalls_both_ways(image, text, (np.arange(4), np.arange(4) + 9), device="cpu")
    assert list(found) == ["i2t_r1", "t2i_r1"] and np.isnan(found["i2t_r1"])


def test_the_table_of_scores_does_not_leave_a_card():
    image, text = points(40, 6, 1, "mls", "f"), points(40, 6, 2, "mls", "r")
    own = np.arange(40)
    here = recalls_both_ways(image, text, (own, own), device="cpu")
    with pretended_card() as card:
        there = recalls_both_ways(image, text, (own, own), device=card.device)
        assert sum(card.waits.values()) <= 4, card.waits  # one look for NaN and one at the counts, each way
    assert there == here


def test_the_device_is_the_chosen_one(monkeypatch):
    asked = []
    monkeypatch.setattr(
        "medret_nb.evaluation.quick_recalls.chosen_device", lambda name: asked.append(name) or torch.device("cpu")
    )
    recalls_both_ways(points(4, 3, 1), points(4, 3, 2), (np.arange(4), np.arange(4)))
    assert asked == ["auto"]
