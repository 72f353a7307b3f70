"Retained recall against a loop over resamplings, corruption error by hand, rank correlation against SciPy."

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from medret_nb.probes.robustness import corruption_error, rank_correlation, retained, retained_draws


def test_retained_is_the_loop_over_resamplings():
    rng = np.random.default_rng(0)
    clean, patients = rng.random(60) < 0.8, rng.integers(0, 25, 60)
    hits, chance = (rng.random((60, 3)) < [0.7, 0.5, 0.2]).astype(float), np.full(60, 0.15)
    found = retained(hits, clean.astype(float), chance, patients, 4000, 1)
    codes, draws = np.unique(patients), []
    for _ in range(4000):  # the definition: patients with all their queries
        rows = np.concatenate([np.flatnonzero(patients == p) for p in rng.choice(codes, len(codes))])
        draws.append([(hits[rows, s].mean() - 0.15) / (clean[rows].mean() - 0.15) for s in range(3)])
    low, high = np.percentile(draws, [2.5, 97.5], axis=0)
    np.testing.assert_allclose(
        found["retained"][0], [(hits[:, s].mean() - 0.15) / (clean.mean() - 0.15) for s in range(3)]
    )
    np.testing.assert_allclose(found["retained"][1:], [low, high], atol=0.05)
    np.testing.assert_allclose(
        found["mean"], [found["retained"][0].mean(), *np.percentile(np.mean(draws, 1), [2.5, 97.5])], atol=0.04
    )


def test_nothing_to_retain():
    clean = np.array([1.0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    found = retained(clean[:, None], clean, np.full(10, 0.1), draws=100)
    assert found["retained"] is None and found["mean"] is None and found["value"][0] == 0.1
    same = retained(np.ones((10, 2)), np.ones(10), np.full(10, 0.1), draws=50)
    assert (same["retained"] == 1).all() and (same["mean"] == 1).all()


def test_excluded_queries_do_not_count():
    clean, chance = np.array([1, 1, 1, 0, np.nan]), np.array([0.1, 0.1, 0.1, 0.1, np.nan])
    found = retained(np.array([[1, 0, 0, 1, np.nan]]).T, clean, chance, draws=200)
    assert found["value"][0] == 0.5 and found["clean"][0] == 0.75 and np.isclose(found["retained"][0, 0], 0.4 / 0.65)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(0, 4), min_size=4, max_size=4), min_size=1, max_size=8))
def test_rank_correlation_is_spearmans(rows):
    judge = [spearmanr(range(4), row).statistic if len(set(row)) > 1 else np.nan for row in rows]
    np.testing.assert_allclose(rank_correlation(np.array(rows, float)), judge, atol=1e-12)


def test_corruption_error_by_hand():
    assert np.isclose(corruption_error([0.5, 0.4, 0.1], [0.4, 0.2, 0.0]), 2 / 2.4)
    np.testing.assert_allclose(
        corruption_error(np.array([[0.5, 0.5], [1, 1]]), np.array([[0.0, 0], [0.5, 0.5]])), [0.5, 0]
    )


def test_retained_draws_are_formed_draw_by_draw():
    drawn = np.random.default_rng(0).random((7, 5))
    ratios = [[(row[s] - row[4]) / (row[3] - row[4]) for s in range(3)] for row in drawn]
    np.testing.assert_allclose(retained_draws(drawn), ratios)


def test_rank_correlation_by_its_formula():
    values = np.array([[2.0, 1.5, 3.0, 3.0], [1, 5, 5, 9]])
    for row, found in zip(values, rank_correlation(values), strict=True):
        ranks = [sum(v < x for v in row) + (sum(v == x for v in row) + 1) / 2 for x in row]
        a = [rank - sum(ranks) / 4 for rank in ranks]
        b = [step - 1.5 for step in range(4)]
        top = sum(x * y for x, y in zip(a, b, strict=True))
        assert np.isclose(found, top / np.sqrt(sum(x * x for x in a) * sum(y * y for y in b)))
