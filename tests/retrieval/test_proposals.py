"Proposals block by block are the best of all scores, on every device, and a search by them is the same search."

import numpy as np
import pytest
import torch
from clouds import points
from pretend_card import pretended_card

from medret_nb.retrieval.points import SIMILARITIES
from medret_nb.retrieval.proposals import Proposer
from medret_nb.retrieval.scoring import TensorScorer, exact_products, score_matrix, scorer
from medret_nb.retrieval.search import Index, build_index


def proposer(gallery, similarity, device):
    made = Proposer(gallery, similarity, device)
    made.queries_at_once = 4
    made.candidates_at_once = 13
    return made


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("share", [1.0, 0.4])
def test_the_best_of_all_are_proposed(similarity, share, device):
    queries, gallery = points(9, 6, 1, similarity, "q"), points(60, 6, 2, similarity)
    allowed = np.flatnonzero(np.random.default_rng(3).random(60) < share)
    scores = score_matrix(queries, gallery, device="cpu")
    made = proposer(gallery, similarity, device)
    for m in (1, 5, len(allowed)):
        values, places = made.best(queries, m, None if share == 1 else allowed)
        assert values.shape == places.shape == (9, m) and set(places.ravel()) <= set(allowed)
        np.testing.assert_allclose(values, np.sort(scores[:, allowed])[:, ::-1][:, :m], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(values, np.take_along_axis(scores, places, 1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("distinct", [None, 4, 1])
def test_a_search_is_the_same_wherever_it_proposes(similarity, distinct, device):
    queries, gallery = points(20, 6, 1, similarity, "q"), points(90, 6, 2, similarity, distinct=distinct)
    where = np.random.default_rng(3).random(90) < 0.5
    for filtered in (None, where):
        for k in (1, 10, int(where.sum())):
            here = build_index(gallery, device="cpu").search(queries, k, filtered)
            there = build_index(gallery, device=device).search(queries, k, filtered)
            by_blocks = build_index(gallery, device=device)
            by_blocks.by_blocks = True
            for hits in (there, by_blocks.search(queries, k, filtered)):
                assert (hits.ids == here.ids).all() and (hits.positions == here.positions).all()
                assert (hits.scores == here.scores).all()


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_a_search_on_a_card_keeps_the_rules_of_cards(similarity):
    queries, gallery = points(20, 6, 1, similarity, "q"), points(90, 6, 2, similarity, distinct=40)
    here = build_index(gallery, device="cpu").search(queries, 10)
    with pretended_card() as card:
        index = Index(gallery, similarity, "exact", 0, device=card.device)
        there = index.search(queries, 10)
        assert (there.positions == here.positions).all() and (there.scores == here.scores).all()
        where = np.arange(90) % 3 > 0
        filtered = index.search(queries, 10, where)
        np.testing.assert_array_equal(filtered.ids, build_index(gallery, device="cpu").search(queries, 10, where).ids)
        scores = scorer(gallery, device=card.device)(queries)
        np.testing.assert_allclose(scores, score_matrix(queries, gallery, device="cpu"), rtol=1e-5, atol=1e-5)


def test_directions_that_all_tie_are_found_on_every_device(device):
    "More equals than proposals: the search asks again until the last place is certain."
    gallery = points(300, 3, 0, "cosine")
    angle = np.random.default_rng(0).permutation(300) * 2 * np.pi / 300
    gallery.mu = np.stack([np.cos(angle), np.sin(angle), np.full(300, 1.0)], 1).astype(np.float32)
    hits = build_index(gallery, device=device).search(np.array([[0.0, 0.0, 1.0]]), 5)
    here = build_index(gallery, device="cpu").search(np.array([[0.0, 0.0, 1.0]]), 5)
    assert (hits.positions == here.positions).all()


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_scores_are_the_same_on_every_device(similarity, device):
    queries, gallery = points(7, 9, 1, name="q"), points(11, 9, 2, similarity)
    scores = TensorScorer(gallery, device)(queries)
    assert scores.device.type == device.type and scores.dtype == torch.float32
    np.testing.assert_allclose(scores.cpu(), score_matrix(queries, gallery, device="cpu"), rtol=1e-5, atol=1e-5)


def test_products_are_exact_for_a_while():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with exact_products():
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
