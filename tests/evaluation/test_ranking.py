"""Ranking metrics against pytrec-eval, against all orders of tied candidates, and against plain loops."""

import itertools
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from medret_nb.evaluation import ranking

KS = (1, 2, 3, 5, 10)


def trec(scores, gains, measures):
    """pytrec-eval's values (Q,) of untied scores; it breaks ties by document id, so ids are permuted by the callers."""
    qrel = {f"q{q}": {f"d{c:03d}": int(g) for c, g in enumerate(row)} for q, row in enumerate(gains)}
    run = {f"q{q}": {f"d{c:03d}": float(s) for c, s in enumerate(row)} for q, row in enumerate(scores)}
    result = pytrec_eval.RelevanceEvaluator(qrel, measures).evaluate(run)
    return {name: np.array([result[f"q{q}"][name] for q in range(len(scores))]) for name in result["q0"]}


def untied(seed, queries=25, candidates=40, share=0.15):
    rng = np.random.default_rng(seed)
    scores = rng.permuted(np.arange(queries * candidates, dtype=np.float64).reshape(queries, candidates), axis=1)
    relevant = rng.random((queries, candidates)) < share
    relevant[np.arange(queries), rng.integers(0, candidates, queries)] = True
    return scores, relevant


def small_tied():
    """Rows of up to six candidates with few score levels, and which of them are relevant (at least one)."""
    return st.integers(2, 6).flatmap(
        lambda n: st.tuples(
            st.lists(st.integers(0, 2), min_size=n, max_size=n),
            st.lists(st.booleans(), min_size=n, max_size=n).filter(any),
        )
    )


def all_orders(row, values):
    """Every order in which the values can stand when equal scores are shuffled."""
    for shuffled in itertools.permutations(range(len(row))):
        shuffled = np.array(shuffled)
        yield values[shuffled[np.argsort(-row[shuffled], kind="stable")]]


def average_precision(ranked, depth):
    found, total = 0, 0.0
    for k, is_relevant in enumerate(ranked[:depth], start=1):
        found += is_relevant
        total += is_relevant * found / k
    return total / ranked.sum()


@pytest.mark.parametrize("seed", range(3))
def test_untied_metrics_equal_pytrec_eval(seed):
    scores, relevant = untied(seed)
    counts = sorted(set(relevant.sum(1).tolist()))
    judge = trec(
        scores,
        relevant,
        {
            f"success.{','.join(map(str, KS))}",
            f"P.{','.join(map(str, KS))}",
            "Rprec",
            "map",
            f"map_cut.{','.join(map(str, counts))}",
        },
    )
    for k in KS:
        np.testing.assert_allclose(
            ranking.recall_at_k(scores, relevant, k, per_query=True), judge[f"success_{k}"], atol=1e-6
        )
        np.testing.assert_allclose(
            ranking.precision_at_k(scores, relevant, k, per_query=True), judge[f"P_{k}"], atol=1e-6
        )
    np.testing.assert_allclose(ranking.r_precision(scores, relevant, per_query=True), judge["Rprec"], atol=1e-6)
    np.testing.assert_allclose(
        ranking.mean_average_precision(scores, relevant, "all", per_query=True), judge["map"], atol=1e-6
    )
    at_r = np.array([judge[f"map_cut_{r}"][q] for q, r in enumerate(relevant.sum(1))])
    np.testing.assert_allclose(ranking.mean_average_precision(scores, relevant, per_query=True), at_r, atol=1e-6)


def test_untied_ndcg_equals_pytrec_eval():
    scores, _ = untied(5)
    gains = np.random.default_rng(1).integers(0, 4, scores.shape)
    judge = trec(scores, gains, {"ndcg_cut.1,5,10,40"})
    for k in (1, 5, 10, 40):
        np.testing.assert_allclose(ranking.ndcg(scores, gains, k, per_query=True), judge[f"ndcg_cut_{k}"], atol=1e-6)


def test_tied_metrics_equal_pytrec_eval_over_all_permutations_of_ids():
    row, gains = np.array([2.0, 1, 1, 1, 1, 0, 0]), np.array([0, 2, 0, 1, 0, 1, 0])
    results = []
    for ids in itertools.permutations(range(len(row))):
        run = {"q": {f"d{i}": s for i, s in zip(ids, row)}}
        qrel = {"q": {f"d{i}": int(g) for i, g in zip(ids, gains)}}
        results.append(
            pytrec_eval.RelevanceEvaluator(qrel, {"success.2,3", "P.3", "map_cut.3", "ndcg_cut.4", "Rprec"}).evaluate(
                run
            )["q"]
        )
    judge = {name: np.mean([r[name] for r in results]) for name in results[0]}
    assert len({r["map_cut_3"] for r in results}) > 2  # the order of the ids did matter
    scores, relevant = row[None], gains[None] > 0
    assert ranking.recall_at_k(scores, relevant, 2) == pytest.approx(judge["success_2"], abs=1e-9)
    assert ranking.recall_at_k(scores, relevant, 3) == pytest.approx(judge["success_3"], abs=1e-9)
    assert ranking.precision_at_k(scores, relevant, 3) == pytest.approx(judge["P_3"], abs=1e-9)
    assert ranking.r_precision(scores, relevant) == pytest.approx(judge["Rprec"], abs=1e-9)
    assert ranking.mean_average_precision(scores, relevant) == pytest.approx(judge["map_cut_3"], abs=1e-9)
    assert ranking.ndcg(scores, gains[None], 4) == pytest.approx(judge["ndcg_cut_4"], abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(small_tied())
def test_ties_equal_the_mean_over_all_orders(case):
    row, rel = np.array(case[0], dtype=float), np.array(case[1])
    orders = np.array(list(all_orders(row, rel)))
    scores, relevant, count = row[None], rel[None], rel.sum()
    for k in range(1, len(row) + 2):
        assert ranking.recall_at_k(scores, relevant, k) == pytest.approx(orders[:, :k].any(1).mean(), abs=1e-12)
        assert ranking.precision_at_k(scores, relevant, k) == pytest.approx(orders[:, :k].sum(1).mean() / k, abs=1e-12)
        cut = min(k, count)
        assert ranking.precision_at_k(scores, relevant, k, capped=True) == pytest.approx(
            orders[:, :cut].mean(), abs=1e-12
        )
    assert ranking.ranks(scores, relevant)[0] == pytest.approx((orders.argmax(1) + 1).mean(), abs=1e-12)
    assert ranking.ranks(scores, relevant, "best")[0] == orders.argmax(1).min() + 1
    assert ranking.ranks(scores, relevant, "worst")[0] == orders.argmax(1).max() + 1
    assert ranking.r_precision(scores, relevant) == pytest.approx(orders[:, :count].mean(), abs=1e-12)
    for depth, cut in (("R", count), ("all", len(row)), (2, 2)):
        expected = np.mean([average_precision(o, cut) for o in orders])
        assert ranking.mean_average_precision(scores, relevant, depth) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(small_tied(), st.integers(0, 2**31))
def test_tied_ndcg_equals_the_mean_over_all_orders(case, seed):
    row = np.array(case[0], dtype=float)
    gains = np.where(case[1], np.random.default_rng(seed).integers(1, 5, len(row)) / 4, 0)
    orders = np.array(list(all_orders(row, gains)))
    for k in range(1, len(row) + 2):
        weight = 1 / np.log2(np.arange(2, min(k, len(row)) + 2))
        expected = (orders[:, :k] @ weight).mean() / (np.sort(gains)[::-1][:k] @ weight)
        assert ranking.ndcg(row[None], gains[None], k) == pytest.approx(expected, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 30), st.integers(0, 2**31))
def test_groups_equal_the_matrix_in_both_layouts(queries, candidates, seed):
    rng = np.random.default_rng(seed)
    rows, columns = rng.integers(-1, 6, queries), rng.integers(-1, 6, candidates)
    matrix = (rows[:, None] == columns) & (rows[:, None] >= 0)
    scores = rng.integers(0, 5, (queries, candidates)).astype(np.float32)
    for other in (scores, np.asfortranarray(scores)):
        for relevant in ((rows, columns), matrix):
            got = ranking.first_relevant(other, relevant)
            np.testing.assert_array_equal(got.relevant, matrix.sum(1))
            for q in np.flatnonzero(matrix.any(1)):
                best = scores[q][matrix[q]].max()
                assert got.ahead[q] == (scores[q] > best).sum()
                assert got.tied[q] == (scores[q] == best).sum()
                assert got.tied_relevant[q] == ((scores[q] == best) & matrix[q]).sum()
            assert np.isnan(got.ranks()[~matrix.any(1)]).all() and np.isnan(got.hits(3)[~matrix.any(1)]).all()
        np.testing.assert_array_equal(
            ranking.r_precision(other, (rows, columns), per_query=True),
            ranking.r_precision(scores, matrix, per_query=True),
        )


def test_counts_do_not_overflow_a_byte_or_miss_a_block():
    scores = np.zeros((700, 3000), dtype=np.float32)
    scores[:, 1500:] = 1
    groups = np.arange(700), np.arange(3000)
    for matrix in (scores, np.asfortranarray(scores)):
        got = ranking.first_relevant(matrix, groups)
        assert (got.ahead == 1500).all() and (got.tied == 1500).all()
        above, level = ranking.count_above(matrix, np.zeros(700, dtype=np.float32), cells=1000)
        assert (above == 1500).all() and (level == 1500).all()


def test_bool_and_unsigned_scores_are_scores_too():
    rng = np.random.default_rng(8)
    levels, relevant = rng.integers(0, 2, (20, 15)), rng.random((20, 15)) < 0.3
    for metric in (
        ranking.mean_average_precision,
        ranking.r_precision,
        ranking.median_rank,
        lambda s, r: ranking.ndcg(s, r * 1.0, 5),
    ):
        expected = metric(levels.astype(float), relevant)
        assert metric(levels.astype(bool), relevant) == metric(levels.astype(np.uint8), relevant) == expected


def test_chance_is_what_a_constant_scorer_gets():
    _, relevant = untied(3)
    constant = np.ones(relevant.shape)
    for k in KS:
        chance = ranking.chance_at_k(relevant.sum(1), relevant.shape[1], k)
        np.testing.assert_allclose(ranking.recall_at_k(constant, relevant, k, per_query=True), chance, atol=1e-12)
        np.testing.assert_allclose(ranking.first_relevant(constant, relevant).chance(k), chance, atol=1e-12)
    gains = np.random.default_rng(0).random(relevant.shape)
    assert ranking.ndcg_chance(gains, 10) == pytest.approx(ranking.ndcg(constant, gains, 10))


def test_chance_equals_the_hypergeometric_formula_for_large_numbers():
    from scipy.stats import hypergeom

    for total, relevant, k in (
        (400, 1, 10),
        (400, 40, 10),
        (100_000, 31_000, 7),
        (100_000, 3, 5000),
        (50, 50, 1),
        (1779, 4, 100),
    ):
        expected = 1 - hypergeom.pmf(0, total, relevant, k)
        assert ranking.chance_at_k(relevant, total, k) == pytest.approx(expected, rel=1e-9)


def test_the_number_does_not_depend_on_the_order_of_the_gallery():
    rng = np.random.default_rng(2)
    scores, relevant = rng.integers(0, 4, (30, 50)).astype(float), rng.random((30, 50)) < 0.2
    order = rng.permutation(50)
    for metric in (
        lambda s, r: ranking.recall_at_k(s, r, (1, 5, 10)),
        ranking.mean_average_precision,
        ranking.r_precision,
        ranking.median_rank,
        lambda s, r: ranking.ndcg(s, r.astype(float), 7),
    ):
        np.testing.assert_allclose(metric(scores, relevant), metric(scores[:, order], relevant[:, order]))


def test_queries_without_a_relevant_candidate_are_left_out():
    scores, relevant = untied(4)
    more = np.vstack([relevant, np.zeros((3, 40), dtype=bool)]), np.vstack([scores, scores[:3]])
    assert ranking.recall_at_k(more[1], more[0], 5) == ranking.recall_at_k(scores, relevant, 5)
    assert ranking.mean_average_precision(more[1], more[0]) == pytest.approx(
        ranking.mean_average_precision(scores, relevant)
    )
    assert ranking.median_rank(more[1], more[0]) == ranking.median_rank(scores, relevant)
    assert np.isnan(ranking.recall_at_k(scores[:2], np.zeros((2, 40), dtype=bool), 5))


def test_shapes_of_recall():
    scores, relevant = untied(6)
    assert isinstance(ranking.recall_at_k(scores, relevant, 5), float)
    assert ranking.recall_at_k(scores, relevant, (1, 5)).shape == (2,)
    assert ranking.recall_at_k(scores, relevant, (1, 5), per_query=True).shape == (25, 2)
    assert ranking.rsum([0.1, 0.2], [0.3, 0.4]) == pytest.approx(100)


def test_streamed_scores_equal_the_matrix_in_bounded_memory():
    n, rng = 6000, np.random.default_rng(0)
    a, b = (
        rng.integers(-9, 10, (n, 16)).astype(np.float32) for _ in range(2)
    )  # sums of products are exact in any order
    groups = rng.integers(0, 500, n), rng.integers(0, 500, n)
    tracemalloc.start()
    streamed = ranking.first_relevant(lambda start, stop: a[start:stop] @ b.T, groups)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40e6 < 4 * n * n  # a full matrix would be 144 MB
    some = slice(0, 300)
    dense = ranking.first_relevant(a[some] @ b.T, groups[0][some, None] == groups[1])
    np.testing.assert_array_equal(streamed.ranks()[some], dense.ranks())


@pytest.mark.parametrize(
    "call, word",
    [
        (lambda s, r: ranking.ranks(s * np.nan, r), "NaN"),
        (lambda s, r: ranking.ranks(s[:, :5], r), "do not match"),
        (lambda s, r: ranking.ranks(s, r, ties="luck"), "ties"),
        (lambda s, r: ranking.recall_at_k(s, r, 0), "k:"),
        (lambda s, r: ranking.precision_at_k(s, r, 0), "k:"),
        (lambda s, r: ranking.mean_average_precision(s, r, depth=-1), "depth"),
        (lambda s, r: ranking.mean_average_precision(s, r, depth="some"), "depth"),
        (lambda s, r: ranking.ndcg(s, r - 2.0), "negative"),
        (
            lambda s, r: ranking.first_relevant(lambda start, stop: s[start:stop], lambda start, stop: r[start:stop]),
            "pair of groups",
        ),
        (lambda s, r: ranking.first_relevant(lambda start, stop: s[:1, :3], r), "shape"),
    ],
)
def test_bad_arguments_name_themselves(call, word):
    scores, relevant = untied(7)
    with pytest.raises(ValueError, match=word):
        call(scores, relevant)


def test_needs_numpy_alone():
    code = (
        "import sys, medret_nb.evaluation.ranking\n"
        "print([m for m in ('torch', 'pandas', 'scipy', 'sklearn', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
