"Retained recall against a loop over resamplings, corruption error by hand, rank correlation against SciPy."

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from medret_nb.evaluation.intervals import bootstrap_draws, bootstrap_interval, studentised
from medret_nb.probes.robustness import (
    corruption_error,
    error_draws,
    rank_correlation,
    ratio_bounds,
    retained,
    retained_draws,
)


def test_retained_is_the_loop_over_resamplings():
    rng = np.random.default_rng(0)
    clean, patients = rng.random(90) < 0.8, rng.integers(0, 45, 90)
    hits, chance = (rng.random((90, 3)) < [0.7, 0.5, 0.2]).astype(float), np.full(90, 0.15)
    found = retained(hits, clean.astype(float), chance, patients, 4000, 1)
    codes, draws = np.unique(patients), []
    for _ in range(4000):  # the definition: patients with all their queries
        rows = np.concatenate([np.flatnonzero(patients == p) for p in rng.choice(codes, len(codes))])
        draws.append([(hits[rows, s].mean() - 0.15) / (clean[rows].mean() - 0.15) for s in range(3)])
    clusters = len(codes)
    values = np.array([(hits[:, s].mean() - 0.15) / (clean.mean() - 0.15) for s in range(3)])
    wider = np.sqrt(clusters / (clusters - 1))
    low, high = studentised(values, np.std(draws, 0) * wider, clusters)
    np.testing.assert_allclose(found["retained"][0], values)
    np.testing.assert_allclose(found["retained"][1:], [low, high], atol=0.05)
    mean = studentised(values.mean(), np.std(np.mean(draws, 1)) * wider, clusters)
    np.testing.assert_allclose(found["mean"], [values.mean(), *mean], atol=0.04)
    assert found["clusters"] == clusters
    np.testing.assert_array_equal(found["differing"], np.abs(hits - clean[:, None]).sum(0))
    for s in range(3):
        by_itself = bootstrap_interval(hits[:, s], patients, 4000, 1)
        np.testing.assert_allclose((found["low"][s], found["high"][s]), by_itself)


def test_nothing_to_retain():
    clean = np.array([1.0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    found = retained(clean[:, None], clean, np.full(10, 0.1), draws=100)
    assert found["retained"] is None and found["mean"] is None and found["value"][0] == 0.1
    few = retained(np.ones((29, 2)), np.ones(29), np.full(29, 0.1), draws=50)
    assert few["mean"] is None and np.isnan(few["clean"][1])  # too few patients to say that there is any skill


def test_what_nobody_noticed_has_no_interval():
    clean = (np.arange(40) < 30).astype(float)
    same = retained(np.stack([clean, 1 - clean], 1), clean, np.full(40, 0.1), draws=200)
    assert same["retained"][0, 0] == 1 and np.isnan(same["retained"][1:, 0]).all()  # [1, 1] before
    assert np.isfinite(same["retained"][:, 1]).all() and np.isfinite(same["mean"]).all()
    assert np.isnan(ratio_bounds(1.0, np.arange(9.0), 29, 99)[1:]).all()
    assert np.isfinite(ratio_bounds(1.0, np.arange(9.0), 30, 5)).all()


def test_intervals_of_what_is_retained_hold_what_they_promise():
    inside = []
    for world in range(200):
        rng = np.random.default_rng(world)
        patients = np.repeat(np.arange(60), rng.integers(1, 4, 60))
        ease = rng.normal(size=60)[patients]
        score = ease + rng.normal(size=len(patients))  # hit where it is above a cut; both share the ease alone
        clean, hits = score > 0.0, ease + rng.normal(size=len(patients)) > np.sqrt(2) * 0.6745  # one half, one quarter
        found = retained(hits[:, None] * 1.0, clean * 1.0, np.full(len(patients), 0.1), patients, 200, world)
        inside.append(found["retained"][1, 0] <= 0.15 / 0.4 <= found["retained"][2, 0])
    assert 0.90 < np.mean(inside) < 0.99


def test_excluded_queries_do_not_count():
    clean, chance = np.tile([1, 1, 1, 0, np.nan], 10), np.tile([0.1, 0.1, 0.1, 0.1, np.nan], 10)
    found = retained(np.tile([1, 0, 0, 1, np.nan], 10)[:, None], clean, chance, draws=200)
    assert found["value"][0] == 0.5 and found["clean"][0] == 0.75 and np.isclose(found["retained"][0, 0], 0.4 / 0.65)
    assert found["clusters"] == 40 and found["differing"] == 30


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


def test_retained_draws_are_ratios_in_first_order():
    value = np.array([0.5, 0.4, 0.2, 0.7, 0.1])
    for size, allowed in ((1e-3, 1e-4), (1e-4, 1e-6)):  # ten times nearer, a hundred times better
        drawn = value + size * np.random.default_rng(0).normal(size=(7, 5))
        ratios = (drawn[:, :3] - drawn[:, 4:]) / (drawn[:, 3:4] - drawn[:, 4:])
        assert np.abs(retained_draws(drawn, value) - ratios).max() < allowed
    near = np.array([[0.5, 0.4, 0.2, 0.1, 0.1]])  # a draw whose clean recall is chance: no division by nothing
    assert np.isfinite(retained_draws(near, value)).all()


def test_draws_of_the_corruption_error_are_in_first_order():
    mine, theirs = np.array([0.5, 0.4]), np.array([0.4, 0.2])
    value, below = corruption_error(mine, theirs), (1 - theirs).sum()
    rng = np.random.default_rng(0)
    drawn, baseline = mine + 1e-4 * rng.normal(size=(9, 2)), theirs + 1e-4 * rng.normal(size=(9, 2))
    found = error_draws(drawn, baseline, value, below)
    np.testing.assert_allclose(found, corruption_error(drawn, baseline), atol=1e-6)
    assert (error_draws(baseline, baseline, 1.0, below) == 1).all()


def test_draws_of_means_are_shared():
    columns = np.random.default_rng(0).random((40, 3))
    drawn = retained(columns[:, :1] > 0.5, columns[:, 1] > 0.2, np.zeros(40), draws=9, seed=3)["draws"]
    same = bootstrap_draws(np.column_stack([columns[:, :1] > 0.5, columns[:, 1] > 0.2, np.zeros(40)]), None, 9, 3)
    np.testing.assert_array_equal(drawn, same)


def test_rank_correlation_by_its_formula():
    values = np.array([[2.0, 1.5, 3.0, 3.0], [1, 5, 5, 9]])
    for row, found in zip(values, rank_correlation(values), strict=True):
        ranks = [sum(v < x for v in row) + (sum(v == x for v in row) + 1) / 2 for x in row]
        a = [rank - sum(ranks) / 4 for rank in ranks]
        b = [step - 1.5 for step in range(4)]
        top = sum(x * y for x, y in zip(a, b, strict=True))
        assert np.isclose(found, top / np.sqrt(sum(x * x for x in a) * sum(y * y for y in b)))
