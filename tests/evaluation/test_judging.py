"""The table of one row per query: ties, confidences and rankings against plain loops."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from medret_nb.evaluation import judging, ranking
from medret_nb.evaluation.relevance import Relevance, relevance
from medret_nb.retrieval.points import Embeddings


def made(mu, logvar=None, modality="image", **meta):
    mu = np.asarray(mu, dtype=np.float32)
    ids = np.array([f"{modality}{i:04d}" for i in range(len(mu))])
    return Embeddings(
        ids=ids,
        study_ids=np.array([f"s{i:04d}" for i in range(len(mu))]),
        mu=mu,
        logvar=logvar,
        meta={"similarity": "cosine", "modality": modality, "split": "test", **meta},
    )


@pytest.fixture(scope="module")
def pair():
    rng = np.random.default_rng(0)
    group = np.sort(rng.integers(0, 25, 60))
    text = rng.normal(size=(25, 8))[group]
    return made(text + rng.normal(size=text.shape), logit_scale=12.0), made(text, modality="text"), group


def test_equal_vectors_get_equal_scores(pair):
    film, report, group = pair
    scores = judging.score_rows(film, report)(0, 60)
    for row in scores:
        for g in np.unique(group):
            assert len(set(row[group == g])) == 1
    unit = [e.mu / np.linalg.norm(e.mu, axis=1, keepdims=True) for e in (film, report)]
    np.testing.assert_allclose(scores, unit[0] @ unit[1].T, atol=1e-6)
    np.testing.assert_array_equal(judging.score_rows(film, report)(10, 20).shape, (10, 60))


def test_rounding_is_shared_but_a_real_difference_is_not(pair):
    _, report, group = pair
    rng = np.random.default_rng(1)
    noisy = made(report.mu * (1 + 2e-7 * rng.normal(size=report.mu.shape)), modality="text")
    noisy.mu[5] += 0.1  # same text, another vector: left as it is
    shared = judging.share_equal(noisy, [f"text {g}" for g in group])
    for g in np.unique(group):
        members = [i for i in np.flatnonzero(group == g) if i != 5]
        assert (shared.mu[members] == shared.mu[members[0]]).all()
    np.testing.assert_array_equal(shared.mu[5], noisy.mu[5])
    assert len(np.unique(noisy.mu, axis=0)) > 25
    assert judging.share_equal(report, [f"text {i}" for i in range(60)]) is report


def test_logvar_is_part_of_a_vector(pair):
    _, report, group = pair
    logvar = np.random.default_rng(2).normal(size=report.mu.shape).astype(np.float32)
    shared = judging.share_equal(made(report.mu, logvar, "text"), [f"text {g}" for g in group])
    np.testing.assert_array_equal(shared.logvar, logvar)
    np.testing.assert_array_equal(shared.mu, report.mu)


@pytest.mark.parametrize("protocol", ["exact", "text", "labels", "graded"])
def test_blocks_are_seamless_and_equal_the_ranking_module(pair, protocol):
    film, report, group = pair
    studies = pd.DataFrame(
        {"labels": [{"Edema": int(g % 2), "Fracture": int(g % 3 == 0), "No Finding": 0} for g in group]}
    )
    related = relevance(protocol, studies, [f"text {g}" for g in group])
    rows = judging.score_rows(film, report)
    whole, pieces = judging.judge_all(rows, related, (1, 10)), judging.judge_all(rows, related, (1, 10), cells=7 * 60)
    assert len(whole) == 60 and list(whole) == list(pieces)
    assert all(np.allclose(whole[name], pieces[name], atol=1e-6) for name in whole)
    scores, matrix = rows(0, 60), related.rows()
    np.testing.assert_allclose(whole["rank"], ranking.ranks(scores, matrix > 0))
    if protocol == "graded":
        np.testing.assert_allclose(whole["ndcg_10"], ranking.ndcg(scores, matrix, 10, per_query=True))
        assert whole["chance_ndcg_10"].mean() == pytest.approx(ranking.ndcg_chance(matrix, 10))
        return
    np.testing.assert_allclose(whole["hit_10"], ranking.recall_at_k(scores, matrix, 10, per_query=True))
    constant = np.zeros((60, 60))
    np.testing.assert_allclose(whole["chance_10"], ranking.recall_at_k(constant, matrix, 10, per_query=True))
    assert ("map_r" in whole) == (protocol != "exact")
    if protocol != "exact":
        for prefix, s in (("", scores), ("chance_", constant)):
            np.testing.assert_allclose(
                whole[f"{prefix}map_r"], ranking.mean_average_precision(s, matrix, per_query=True)
            )
            np.testing.assert_allclose(whole[f"{prefix}r_precision"], ranking.r_precision(s, matrix, per_query=True))
            np.testing.assert_allclose(
                whole[f"{prefix}p_10"], ranking.precision_at_k(s, matrix, 10, capped=True, per_query=True)
            )


def test_queries_without_anything_relevant_have_no_values():
    related = Relevance("labels", np.array([0, -1, 7]), np.array([0, 0, 1, -1]))
    table = judging.judge(np.random.default_rng(0).random((3, 4)), related, (1,))
    assert table["relevant"].tolist() == [2, 0, 0]
    for name in ("rank", "hit_1", "chance_1", "map_r", "chance_map_r", "p_10", "chance_p_10", "r_precision"):
        assert table[name].isna().tolist() == [False, True, True], name


def test_confidences_by_hand():
    rng = np.random.default_rng(3)
    scores, groups = rng.normal(size=(5, 30)), rng.integers(-1, 6, 30)
    logvar = rng.normal(size=(5, 4))
    got = judging.confidences(scores, 3.0, Relevance("text", groups, groups), logvar)
    for q in range(5):
        p, best = softmax(3.0 * scores[q]), scores[q].argmax()
        ordered = np.sort(scores[q])[::-1]
        near = softmax(3.0 * ordered[:10])
        mass = p[groups == groups[best]].sum() if groups[best] >= 0 else p[best]
        expected = [
            ordered[0],
            ordered[0] - ordered[1],
            p.max(),
            mass,
            (near * np.log(near)).sum(),
            -logvar[q].sum(),
            -np.exp(logvar[q]).sum(),
        ]
        np.testing.assert_allclose(got.loc[q], expected, rtol=1e-9)


def test_confidences_of_tiny_galleries_and_large_scores():
    one = judging.confidences(np.array([[5.0]]), 100.0, Relevance("text", np.array([0]), np.array([0])))
    assert one["max_softmax"][0] == 1 and one["margin"][0] == 0 and one["group_softmax"][0] == 1
    three = np.array([0, 1, -1])
    wide = judging.confidences(np.array([[1e4, -1e4, 0.0]]), 100.0, Relevance("text", three, three))
    assert np.isfinite(wide).all(axis=None)


def test_top_candidates_are_sorted_and_ties_follow_the_given_order():
    rng = np.random.default_rng(4)
    scores = rng.integers(0, 3, (40, 50)).astype(np.float32)
    place = rng.permutation(50)
    for k in (1, 7, 50, 80):
        top = judging.top_candidates(scores, place, k)
        assert top.shape == (40, min(k, 50))
        for row, columns in zip(scores, top):
            np.testing.assert_array_equal(row[columns], np.sort(row)[::-1][:k])
            for a, b in zip(columns, columns[1:]):
                assert row[a] > row[b] or place[a] < place[b]


def test_rankings_hold_ids_scores_and_relevance(pair):
    film, report, group = pair
    related = relevance("text", pd.DataFrame({"labels": [{}] * 60}), [f"text {g}" for g in group])
    table, rankings = judging.rank_direction("image-to-text", film, report, related, (1,), top=4)
    assert len(rankings) == 240 and list(rankings) == [
        "query",
        "direction",
        "position",
        "candidate",
        "score",
        "relevance",
    ]
    scores = judging.score_rows(film, report)(0, 60)
    number = {name: i for i, name in enumerate(report.ids)}
    for q in range(60):
        part = rankings.iloc[4 * q : 4 * q + 4]
        assert set(part["query"]) == {film.ids[q]} and part["position"].tolist() == [1, 2, 3, 4]
        columns = [number[c] for c in part["candidate"]]
        np.testing.assert_allclose(part["score"], np.sort(scores[q])[::-1][:4], rtol=1e-6)
        np.testing.assert_array_equal(part["relevance"], group[columns] == group[q])
    np.testing.assert_allclose(table["max_softmax"], softmax(12.0 * scores, axis=1).max(1), rtol=1e-4)
    again = judging.rank_direction("image-to-text", film, report, related, (1,), top=4)[1]
    pd.testing.assert_frame_equal(rankings, again)


def test_under_fits_the_mass_is_that_of_the_scenes_the_answer_fits():
    rng = np.random.default_rng(5)
    fits = rng.random((20, 20)) < 0.3
    np.fill_diagonal(fits, True)
    frame = pd.DataFrame({"labels": [{}] * 20})
    gallery = rng.permutation(20)
    scores = rng.normal(size=(20, 20))
    for direction in ("image-to-text", "text-to-image"):
        related = relevance("fits", frame, gallery=gallery, direction=direction, fits=fits)
        got = judging.confidences(scores, 2.0, related)["group_softmax"]
        for q in range(20):
            stated = softmax(2.0 * scores[q])
            answer = gallery[scores[q].argmax()]
            right = [fits[answer, g] if direction == "image-to-text" else fits[g, answer] for g in gallery]
            assert got[q] == pytest.approx(stated[right].sum())


def test_no_mass_is_stated_where_nobody_knows_whose_partner_a_candidate_is():
    related = Relevance("fits", np.array([0, 1]), np.array([0, 1, 2]), np.ones((2, 3)))
    assert judging.confidences(np.eye(2, 3), 1.0, related)["group_softmax"].isna().all()


def test_candidates_are_chosen_from_few_however_large_the_gallery():
    scores = np.random.default_rng(6).normal(size=(8, 40_000)).astype(np.float32)
    level = judging.reached(scores, 100)
    many = (scores >= level[:, None]).sum(1)
    assert (many >= 100).all() and (many < 200).all()
