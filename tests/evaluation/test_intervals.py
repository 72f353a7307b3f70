"""Bootstrap intervals against plain resampling and known formulas; Holm against statsmodels' worked definition."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from medret_nb.evaluation import intervals


def test_draws_follow_the_exact_distribution_of_three_patients():
    found = {"Ann": [1, 1], "Bo": [0], "Cy": [1]}
    exact = []
    for drawn in itertools.product(found, repeat=3):
        hits = sum((found[p] for p in drawn), [])
        exact.append(sum(hits) / len(hits))
    draws = intervals.bootstrap_draws([1, 1, 0, 1], ["Ann", "Ann", "Bo", "Cy"], n=40_000)
    for value in np.unique(exact):
        assert np.isclose(draws, value).mean() == pytest.approx(np.isclose(exact, value).mean(), abs=0.01)


def test_interval_of_single_queries_equals_scipy_and_the_normal_formula():
    hits = (np.random.default_rng(0).random(400) < 0.3).astype(float)
    low, high = intervals.bootstrap_interval(hits, n=8000)
    judge = stats.bootstrap((hits,), np.mean, n_resamples=8000, method="percentile", rng=1).confidence_interval
    assert (low, high) == pytest.approx((judge.low, judge.high), abs=0.005)
    half = 1.96 * np.sqrt(hits.mean() * (1 - hits.mean()) / 400)
    assert (low, high) == pytest.approx((hits.mean() - half, hits.mean() + half), abs=0.01)


def test_clusters_widen_the_interval_as_theory_says():
    hits = np.repeat((np.random.default_rng(1).random(200) < 0.5).astype(float), 4)  # four equal queries per patient
    low, high = intervals.bootstrap_interval(hits, np.repeat(np.arange(200), 4), n=4000)
    narrow = intervals.bootstrap_interval(hits, n=4000)
    assert (high - low) / (narrow[1] - narrow[0]) == pytest.approx(2, rel=0.1)


def test_names_of_clusters_and_order_of_queries_do_not_matter():
    rng = np.random.default_rng(2)
    hits, patients = rng.random(160), rng.integers(0, 60, 160)
    first = intervals.bootstrap_interval(hits, patients)
    order = rng.permutation(160)
    assert intervals.bootstrap_interval(hits[order], np.array([f"p{p:02d}" for p in patients])[order]) == pytest.approx(
        first
    )


def test_excluded_queries_and_columns():
    rng = np.random.default_rng(3)
    hits, patients = rng.random((90, 3)), np.arange(90) // 2
    low, high = intervals.bootstrap_interval(hits, patients)
    for j in range(3):
        assert (low[j], high[j]) == pytest.approx(intervals.bootstrap_interval(hits[:, j], patients))
    with_gap = hits[:, 0].copy()
    with_gap[:5] = np.nan
    draws = intervals.bootstrap_draws(with_gap, patients, n=4000)
    assert draws.mean() == pytest.approx(np.nanmean(with_gap), abs=0.01)
    assert np.isnan(intervals.bootstrap_interval(np.full(4, np.nan))).all()
    assert np.isnan(intervals.bootstrap_interval([])).all()


def test_median_interval_equals_plain_resampling():
    rng = np.random.default_rng(4)
    values, patients = rng.exponential(30, 90), rng.integers(0, 40, 90)
    low, high = intervals.bootstrap_interval(values, patients, statistic="median", n=3000)
    names, plain = np.unique(patients), []
    for _ in range(3000):
        plain.append(np.median(np.concatenate([values[patients == p] for p in rng.choice(names, len(names))])))
    assert (low, high) == pytest.approx(tuple(np.percentile(plain, [2.5, 97.5])), rel=0.06)
    with pytest.raises(ValueError, match="statistic"):
        intervals.bootstrap_interval(values, statistic="mode")


def test_blocks_of_draws_are_seamless():
    hits = np.random.default_rng(5).random(30_000)
    assert len(intervals.bootstrap_draws(hits, n=150)) == 150  # three blocks
    draws = intervals.bootstrap_draws(hits, n=150)
    assert draws.std() == pytest.approx(hits.std() / np.sqrt(30_000), rel=0.2)
    assert (intervals.bootstrap_draws(hits, n=150) == draws).all()


def test_paired_difference_is_tighter_than_two_intervals():
    rng = np.random.default_rng(6)
    ease = rng.normal(0, 1, 500)
    a, b = (ease + rng.normal(0, 0.3, 500) > 0.2).astype(float), (ease + rng.normal(0, 0.3, 500) > 0).astype(float)
    got = intervals.paired_bootstrap(a, b)
    assert got.value == pytest.approx(b.mean() - a.mean())
    width_a, width_b = (np.ptp(intervals.bootstrap_interval(x)) for x in (a, b))
    assert got.low <= got.value <= got.high and got.high - got.low < 0.75 * np.hypot(width_a, width_b)
    assert got.p < 0.05 and intervals.paired_bootstrap(b, a).value == pytest.approx(-got.value)
    assert intervals.paired_bootstrap(a, a).p == 1
    with pytest.raises(ValueError, match="same queries"):
        intervals.paired_bootstrap(a, b[:10])


def test_p_value_is_uniform_enough_between_equal_models():
    rng = np.random.default_rng(7)
    p = [intervals.paired_bootstrap(rng.random(100), rng.random(100), n=300, seed=i).p for i in range(300)]
    assert 0.02 < np.mean(np.array(p) < 0.05) < 0.1 and np.median(p) == pytest.approx(0.5, abs=0.1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_equals_its_step_down_definition(p):
    adjusted = intervals.holm(p)
    m = len(p)
    for i in range(m):  # rejected at level alpha exactly when all smaller ones are, each at alpha / rest
        smaller = sorted(p)[: sorted(p).index(p[i]) + 1]
        needed = max(min(1, (m - j) * value) for j, value in enumerate(smaller))
        assert adjusted[i] == pytest.approx(needed)
    assert (adjusted >= np.array(p) - 1e-12).all()


def test_bad_clusters_name_themselves():
    with pytest.raises(ValueError, match="clusters: 2 entries for 3 values"):
        intervals.bootstrap_interval([1, 0, 1], ["a", "b"])


def test_patients_are_drawn_whole():
    clusters = np.array(list("aabccc"))
    first, *rest = intervals.patient_weights(clusters, 500, seed=1, cells=60)
    weights = np.concatenate(rest)
    assert (first == 1).all() and weights.shape == (500, 6)
    assert (
        (weights[:, 0] == weights[:, 1]).all()
        and (weights[:, 3] == weights[:, 5]).all()
        and (weights[:, [0, 2, 3]].sum(1) == 3).all()
    )
    assert (
        np.ptp(weights[:, 2]) > 0
        and (weights == np.concatenate(list(intervals.patient_weights(clusters, 500, seed=1, cells=60))[1:])).all()
    )


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ABC"), st.one_of(st.none(), st.floats(0, 1))), min_size=1, max_size=12))
def test_macro_mean(rows):
    cells, values = np.array([c for c, _ in rows]), np.array([np.nan if v is None else v for _, v in rows])
    means = [
        np.mean([v for c, v in rows if c == cell and v is not None])
        for cell in "ABC"
        if any(c == cell and v is not None for c, v in rows)
    ]
    np.testing.assert_allclose(intervals.macro_mean(values, cells), np.mean(means) if means else np.nan)


def test_macro_interval_resamples_patients_together():
    values, cells = np.array([1, 0, 1, 0, 1, 0.0] * 20), np.array(["A", "A", "A", "B", "B", "B"] * 20)
    low, high = intervals.macro_interval(values, cells, np.arange(120))
    assert low < intervals.macro_mean(values, cells) < high
    assert np.isnan(intervals.macro_interval(values, cells, np.zeros(120))).all()  # one patient: too few
    rng, draws = np.random.default_rng(3), []
    for _ in range(3000):  # the definition, one draw at a time
        picked = rng.integers(0, 60, 60)
        rows = np.concatenate([np.flatnonzero(np.arange(120) // 2 == p) for p in picked])
        draws.append(intervals.macro_mean(values[rows], cells[rows]))
    error = np.std(draws) * np.sqrt(60 / 59)
    np.testing.assert_allclose(
        intervals.macro_interval(values, cells, np.arange(120) // 2, 3000),
        by_definition(intervals.macro_mean(values, cells), error, 60),
        atol=0.02,
    )
    assert intervals.macro_interval(np.append(values, np.nan), np.append(cells, "C"), np.append(np.arange(120), 7)) == (
        low,
        high,
    )


def test_drawn_rows_come_patient_by_patient_in_the_order_of_drawing():
    patients = np.array(["b", "a", "b", "c", "a"])
    rng = np.random.default_rng(3)
    for rows in intervals.drawn_rows(patients, 5, 20, seed=3):
        drawn = np.array(["a", "b", "c"])[rng.integers(0, 3, 3)]
        slow = [row for name in drawn for row in range(5) if patients[row] == name]
        assert rows.tolist() == slow
    assert not list(intervals.drawn_rows([], 0, 5))
    assert [sorted(rows) for rows in intervals.drawn_rows(patients, 5, 4)] == [
        rows.tolist() for rows in intervals.resampled_rows(patients, 5, 4)
    ]


@pytest.mark.parametrize("values", [[0.1, 0.2], [0.3, 0.35, 0.31], [0.5] * 4])
def test_seed_interval_is_students(values):
    if np.std(values):
        np.testing.assert_allclose(
            intervals.seed_interval(values), stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
        )
    else:
        assert intervals.seed_interval(values) == (0.5, 0.5)


def test_one_seed_has_no_interval():
    assert np.isnan(intervals.seed_interval([0.4])).all()


def test_an_interval_of_any_statistic_equals_drawing_patients_by_hand():
    rng = np.random.default_rng(6)
    first = rng.random(90)
    second = first + rng.random(90)
    patients = np.arange(90) % 35

    def spread(a, b):
        return float(np.std(b - a))

    drawn = np.random.default_rng(2)
    names, code = np.unique(patients, return_inverse=True)
    by_hand = []
    for _ in range(80):
        weight = np.bincount(drawn.integers(0, len(names), len(names)), minlength=len(names))
        rows = [row for row in range(90) for _ in range(weight[code[row]])]
        by_hand.append(spread(first[rows], second[rows]))
    found = intervals.statistic_interval(spread, first, second, clusters=patients, n=80, seed=2)
    half = stats.t.ppf(0.975, 34) * np.std(by_hand, ddof=1) * np.sqrt(35 / 34)
    assert found == pytest.approx((spread(first, second) - half, spread(first, second) + half))


def by_definition(value, error, clusters):
    """The shares p that the observed one does not surprise: |value - p| <= t sqrt(p (1 - p) / n), found by trying."""
    n = value * (1 - value) / error**2 if 0 < value < 1 else clusters
    shares = np.linspace(0, 1, 200_001)
    t = stats.t.ppf(0.975, clusters - 1)
    fits = np.abs(value - shares) <= t * np.sqrt(shares * (1 - shares) / n)
    return shares[fits].min(), shares[fits].max()


@pytest.mark.parametrize("value, error, clusters", [(0.1, 0.03, 50), (0.5, 0.05, 31), (0, 0, 400), (1, 0, 60)])
def test_the_score_form_holds_the_shares_that_fit(value, error, clusters):
    assert tuple(intervals.score_form(value, error, clusters)) == pytest.approx(
        by_definition(value, error, clusters), abs=1e-5
    )


def test_single_queries_have_wilsons_interval():
    statsmodels = pytest.importorskip("statsmodels.stats.proportion")
    hits = np.repeat([1.0, 0.0], [120, 4880])
    judge = statsmodels.proportion_confint(120, 5000, method="wilson")
    assert intervals.bootstrap_interval(hits, n=4000) == pytest.approx(judge, abs=3e-4)


def test_too_few_patients_or_hits_have_no_interval():
    one = np.repeat([1.0, 0.0], [5, 55])
    assert np.isnan(intervals.bootstrap_interval(one, np.zeros(60))).all(), "one patient is [.083, .083] else"
    assert np.isnan(intervals.bootstrap_interval(np.zeros(400))).all(), "no hit is [0, 0] else"
    rare = np.repeat([1.0, 0.0], [intervals.LEAST_HITS - 1, 1596])
    assert np.isnan(intervals.bootstrap_interval(rare)).all()
    enough = np.repeat([1.0, 0.0], [intervals.LEAST_HITS, 1595])
    low, high = intervals.bootstrap_interval(enough)
    assert 0 < low < 5 / 1600 < high
    few = np.arange(60) % (intervals.LEAST_CLUSTERS - 1)
    for made in (
        intervals.bootstrap_interval(np.arange(60.0), few, statistic="median"),
        intervals.statistic_interval(np.mean, np.arange(60.0), clusters=few, n=5),
        intervals.macro_interval(np.ones(60), np.zeros(60), few),
    ):
        assert np.isnan(made).all()
    pair = intervals.paired_bootstrap(one, np.ones(60), few)
    assert pair.value == pytest.approx(55 / 60) and np.isnan([pair.low, pair.high, pair.p]).all()
    nothing = intervals.paired_bootstrap(np.zeros(400), np.zeros(400))
    assert np.isnan(nothing.low), "two models without a hit are not no worse than each other"


def test_a_paired_difference_is_newcombes_of_gains_and_losses():
    rng = np.random.default_rng(12)
    first = (rng.random(400) < 0.3).astype(float)
    second = np.where(rng.random(400) < 0.1, 1 - first, first)
    gains = np.array([max(b - a, 0) for a, b in zip(first, second)])
    losses = np.array([max(a - b, 0) for a, b in zip(first, second)])
    ends = []
    for part in (gains, losses):
        share = part.mean()
        ends.append(by_definition(share, np.sqrt(share * (1 - share) / 399), 400))
    (gl, gu), (ll, lu) = ends
    together = np.corrcoef(gains, losses)[0, 1]
    g, lost = gains.mean(), losses.mean()
    low = g - lost - np.sqrt((g - gl) ** 2 + (lu - lost) ** 2 - 2 * together * (g - gl) * (lu - lost))
    high = g - lost + np.sqrt((gu - g) ** 2 + (lost - ll) ** 2 - 2 * together * (gu - g) * (lost - ll))
    found = intervals.paired_bootstrap(first, second, n=8000)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1.5e-3)
    assert found.discordant == np.abs(second - first).sum()


@pytest.mark.parametrize("against", [-0.3, -0.02, 0.0, 0.05, 0.4])
def test_p_and_interval_say_the_same(against):
    found = intervals.paired_bootstrap(np.repeat([1.0, 0], [60, 140]), np.repeat([1.0, 0, 1.0], [55, 125, 20]))
    p = intervals.p_of(found.value, found.low, found.high, 200, against)
    assert (p < 0.05) == (not found.low <= against <= found.high)
    assert intervals.p_of(found.value, found.low, found.high, 200, found.low) == pytest.approx(0.05)


def test_holm_leaves_out_what_is_no_test():
    found = intervals.holm([0.01, np.nan, 0.04])
    assert found[[0, 2]] == pytest.approx([0.02, 0.04]) and np.isnan(found[1])


def patients_and_ease(rng, patients):
    """Patients with one to five films each, and how easy their films are."""
    who = np.repeat(np.arange(patients), rng.integers(1, 6, patients))
    return who, rng.normal(size=patients)[who]


@pytest.mark.parametrize("patients, least", [(30, 0.92), (100, 0.92), (300, 0.925)])
def test_intervals_hold_what_they_promise(patients, least):
    """Recall and a rare paired difference, 200 worlds; percentiles cover .90 and .75 of them at 30 patients."""
    rng = np.random.default_rng(patients)
    held = {"recall": [], "difference": []}
    for i in range(200):
        who, ease = patients_and_ease(rng, patients)
        hits = (ease + rng.normal(size=len(who)) > 1.35).astype(float)
        truth = stats.norm.sf(1.35 / np.sqrt(2))
        other = np.where(rng.random(len(who)) < 0.02, 1 - hits, hits)
        low, high = intervals.bootstrap_interval(hits, who, n=200, seed=i)
        if np.isfinite(low):
            held["recall"].append(low <= truth <= high)
        pair = intervals.paired_bootstrap(hits, other, who, n=200, seed=i)
        if np.isfinite(pair.low):
            held["difference"].append(pair.low <= 0.02 * (1 - 2 * truth) <= pair.high)
    for name, found in held.items():
        assert len(found) > 180 and least <= np.mean(found), (name, np.mean(found))
