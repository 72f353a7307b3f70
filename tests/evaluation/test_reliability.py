"""Confidence against all orders of ties, known values, scikit-learn, scipy and the published figures."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp
from sklearn.metrics import brier_score_loss, roc_auc_score

from medret_nb.evaluation import reliability as rel

FILMS = st.integers(1, 6).flatmap(
    lambda n: st.tuples(
        st.lists(st.sampled_from([0.0, 0.25, 1.0]), min_size=n, max_size=n),
        st.lists(st.integers(0, 2), min_size=n, max_size=n),
    )
)


def loop_risk(correct, confidence):
    order = np.argsort(-confidence, kind="stable")
    return np.cumsum(1 - correct[order]) / np.arange(1, len(order) + 1)


@settings(max_examples=50, deadline=None)
@given(FILMS)
def test_ties_equal_the_mean_over_all_orders(case):
    correct, confidence = np.array(case[0]), np.array(case[1], dtype=float)
    n = len(correct)
    curves = np.array([loop_risk(correct[list(o)], confidence[list(o)]) for o in itertools.permutations(range(n))])
    coverage, risk = rel.risk_coverage(correct, confidence)
    np.testing.assert_allclose(risk, curves.mean(0), atol=1e-12)
    np.testing.assert_allclose(coverage, np.arange(1, n + 1) / n)
    assert rel.aurc(correct, confidence) == pytest.approx(curves.mean())
    assert rel.augrc(correct, confidence) == pytest.approx((curves * coverage).mean())
    best = min(loop_risk(correct[list(o)], np.arange(n, 0, -1)).mean() for o in itertools.permutations(range(n)))
    assert rel.oracle_aurc(correct) == pytest.approx(best)
    assert rel.excess_aurc(correct, confidence) >= -1e-12


def test_known_values_for_many_films():
    n, a = 20_000, 0.3
    correct = (np.arange(n) < a * n).astype(float)
    r = 1 - a
    assert rel.aurc(correct, np.zeros(n)) == pytest.approx(r)
    assert rel.aurc(correct, correct) == pytest.approx(r + a * np.log(a), abs=1e-3)
    assert rel.aurc(correct, -correct) == pytest.approx(r - r * np.log(r), abs=1e-3)
    assert rel.excess_aurc(correct, np.zeros(n)) == pytest.approx(-a * np.log(a), abs=1e-3)
    assert rel.augrc(correct, np.zeros(n)) == pytest.approx(r / 2, abs=1e-3)
    assert rel.augrc(correct, correct) == pytest.approx(r * r / 2, abs=1e-3)
    assert rel.excess_aurc(correct, correct) == 0
    assert rel.excess_aurc(correct, np.zeros(n), normalised=True) == pytest.approx(1)
    assert rel.excess_aurc(correct, -correct, normalised=True) > 1
    random = np.random.default_rng(0).random(n)
    assert rel.aurc(correct, random) == pytest.approx(r, abs=0.02)


def test_nothing_to_rank_has_no_normalised_excess_and_no_auroc():
    for value in (0.0, 1.0):
        correct, confidence = np.full(9, value), np.arange(9.0)
        assert rel.excess_aurc(correct, confidence) == 0
        assert np.isnan(rel.excess_aurc(correct, confidence, normalised=True)) and np.isnan(
            rel.auroc(correct, confidence)
        )


def test_the_published_figures_give_the_published_excess():
    figures = {
        "MedProbCLIP": ((21.02, 46.88, 58.91, 92.41), (0.753, 0.494, 0.392, 0.074), (0.888, 0.895, 0.939, 0.974)),
        "CXR-CLIP": ((17.14, 41.65, 55.03, 89.94), (0.759, 0.487, 0.367, 0.060), (0.770, 0.735, 0.748, 0.574)),
        "CLIP": ((14.28, 33.73, 44.29, 80.94), (0.784, 0.554, 0.449, 0.124), (0.737, 0.703, 0.700, 0.611)),
        "PCME++": ((12.48, 31.53, 40.58, 77.68), (0.843, 0.631, 0.549, 0.196), (0.876, 0.852, 0.876, 0.861)),
    }
    for recalls, areas, expected in figures.values():
        for recall, area, value in zip(recalls, areas, expected):
            n = 1779
            correct = (np.arange(n) < round(recall / 100 * n)).astype(float)
            oracle, random = rel.oracle_aurc(correct), 1 - correct.mean()
            assert (area - oracle) / (random - oracle) == pytest.approx(
                value, abs=0.004
            )  # exact oracle against the large-n one


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 60), st.integers(0, 2**31))
def test_auroc_equals_scikit_learn_with_ties(n, seed):
    rng = np.random.default_rng(seed)
    correct, confidence = rng.integers(0, 2, n).astype(float), rng.integers(0, 5, n).astype(float)
    correct[:2] = 0, 1
    assert rel.auroc(correct, confidence) == pytest.approx(roc_auc_score(correct, confidence))


def test_auroc_with_fractions_equals_the_double_loop():
    rng = np.random.default_rng(1)
    c, s = rng.choice([0, 0.5, 1, 0.2], 30), rng.integers(0, 6, 30)
    pairs = [(c[i] * (1 - c[j]), (s[i] > s[j]) + (s[i] == s[j]) / 2) for i in range(30) for j in range(30) if i != j]
    weight, won = np.array(pairs).T
    assert rel.auroc(c, s) == pytest.approx((weight * won).sum() / weight.sum())


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 80), st.integers(1, 20), st.sampled_from(["mass", "width"]), st.integers(0, 2**31))
def test_ece_and_brier_equal_plain_loops(n, bins, kind, seed):
    rng = np.random.default_rng(seed)
    p, correct = rng.random(n).round(rng.integers(1, 4)), rng.choice([0, 1, 0.5], n)
    where = rel.bin_numbers(p, bins, kind)
    assert where.max() < bins and all(len(set(where[p == v])) == 1 for v in p)
    total, parts = 0.0, dict(reliability=0.0, resolution=0.0)
    for b in set(where):
        inside = where == b
        gap = p[inside].mean() - correct[inside].mean()
        total += inside.mean() * abs(gap)
        parts["reliability"] += inside.mean() * gap**2
        parts["resolution"] += inside.mean() * (correct[inside].mean() - correct.mean()) ** 2
    assert rel.ece(correct, p, bins, kind) == pytest.approx(total)
    got = rel.brier(correct, p, bins, kind)
    assert got["reliability"] == pytest.approx(parts["reliability"]) and got["resolution"] == pytest.approx(
        parts["resolution"]
    )
    assert got["score"] == pytest.approx(got["reliability"] - got["resolution"] + got["uncertainty"] + got["within"])
    assert abs(rel.signed_gap(correct, p)) <= rel.ece(correct, p, bins, kind) + 1e-12


def test_brier_score_of_outcomes_equals_scikit_learn_and_of_fractions_the_expectation():
    rng = np.random.default_rng(2)
    p, correct = rng.random(300), rng.integers(0, 2, 300).astype(float)
    assert rel.brier(correct, p)["score"] == pytest.approx(brier_score_loss(correct, p))
    half = np.full(300, 0.5)
    assert rel.brier(half, p)["score"] == pytest.approx(
        (brier_score_loss(np.ones(300), p) + brier_score_loss(np.zeros(300), p)) / 2
    )


def test_bins_of_equal_mass_hold_equal_numbers():
    p = np.random.default_rng(3).random(300)
    assert set(np.bincount(rel.bin_numbers(p, 15, "mass"))) == {20}
    assert rel.bin_numbers(np.array([0.0, 0.0666, 0.0667, 0.999, 1.0]), 15, "width").tolist() == [0, 0, 1, 14, 14]


def test_ece_of_a_calibrated_model_has_its_known_size():
    rng = np.random.default_rng(4)
    for n, expected in ((400, 0.06), (2000, 0.03)):
        p = rng.random(n)
        mean, limit = rel.calibrated_ece(p, draws=300)
        assert mean == pytest.approx(expected, abs=0.005) and mean < limit < 1.6 * mean
        simulated = [rel.ece((rng.random(n) < p).astype(float), p) for _ in range(300)]
        assert mean == pytest.approx(np.mean(simulated), rel=0.05) and limit == pytest.approx(
            np.percentile(simulated, 95), rel=0.1
        )


def test_bins_hold_their_upper_edge():
    edges = np.array([0.0, 0.1, 0.2, 0.3, 0.7, 1.0])
    assert rel.bin_numbers(edges, 10, "width").tolist() == [0, 0, 1, 2, 6, 9]
    assert rel.bin_numbers(np.arange(1, 9) / 10, 4, "mass").tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_calibration_error_is_told_with_its_reference_and_its_direction():
    rng = np.random.default_rng(10)
    p = rng.random(400)
    right = (rng.random(400) < p).astype(float)
    clusters = np.arange(400) // 2
    told = rel.calibration_summary(right, p, clusters)
    assert told["ece"] == rel.ece(right, p) and (told["calibrated"], told["limit"]) == rel.calibrated_ece(p)
    assert told["gap"] == pytest.approx(rel.signed_gap(right, p)) and told["gap_low"] <= 0 <= told["gap_high"]
    boast = rel.calibration_summary(right, p**0.3, clusters)
    assert boast["gap_low"] > 0 and boast["ece"] > boast["limit"]
    words = rel.calibration_words(told)
    assert f"{told['calibrated']:.3f}" in words and f"{told['limit']:.3f}" in words
    assert "too few" in rel.calibration_words(rel.calibration_summary(right[:9], p[:9]))


def test_few_right_answers_have_no_interval():
    right = np.repeat([1.0, 0.0], [4, 96])
    sure = np.arange(100.0)
    assert np.isnan(rel.reliability_interval(rel.auroc, right, sure, n=5)).all()
    assert np.isnan(rel.reliability_interval(rel.auroc, 1 - right, sure, n=5)).all()


@pytest.mark.parametrize("patients", [30, 100])
def test_intervals_of_confidence_hold_what_they_promise(patients):
    """AUROC and AURC, 120 worlds; percentiles cover .90 at 30 patients."""
    rng = np.random.default_rng(patients)

    def world(many):
        who = np.repeat(np.arange(many), rng.integers(1, 6, many))
        ease = rng.normal(size=many)[who]
        right = (ease + rng.normal(size=len(who)) > 0.6).astype(float)
        return who, right, 0.8 * right + 0.5 * ease + rng.normal(size=len(who))

    _, right, sure = world(60_000)
    for statistic in (rel.auroc, rel.aurc):
        truth = statistic(right, sure)
        held = []
        for i in range(120):
            who, *seen = world(patients)
            low, high = rel.reliability_interval(statistic, *seen, who, n=100, seed=i)
            held.append(low <= truth <= high)
        assert np.mean(held) >= 0.89, statistic.__name__


def plain_nll(scores, relevant, t):
    scaled = scores / t
    return -np.mean([logsumexp(row[r]) - logsumexp(row) for row, r in zip(scaled, relevant) if r.any()])


@pytest.mark.parametrize("scale", [1e-3, 1.0, 500.0])
def test_temperature_equals_scipy(scale):
    rng = np.random.default_rng(5)
    groups = np.sort(rng.integers(0, 30, 80))
    relevant = groups[:, None] == groups
    scores = scale * (rng.normal(size=(80, 80)) + 2.0 * relevant)
    for t in (0.3 * scale, 2 * scale):
        assert rel.retrieval_nll(scores, (groups, groups), t) == pytest.approx(plain_nll(scores, relevant, t))
        assert rel.retrieval_nll(scores, relevant, t) == pytest.approx(plain_nll(scores, relevant, t))
    judge = minimize_scalar(
        lambda x: plain_nll(scores, relevant, np.exp(x)),
        bounds=np.log([0.05 * scale, 20 * scale]),
        method="bounded",
        options={"xatol": 1e-8},
    )
    assert rel.fit_temperature(scores, (groups, groups)) == pytest.approx(np.exp(judge.x), rel=1e-3)
    assert rel.fit_temperature(scores.astype(np.float32), relevant) == pytest.approx(np.exp(judge.x), rel=1e-2)


def test_temperature_of_streamed_scores_and_queries_without_relevant():
    rng = np.random.default_rng(6)
    scores = rng.normal(size=(40, 50)) + 3 * np.eye(40, 50)
    groups = np.arange(40), np.arange(50)
    some = np.where(np.arange(40) < 30, np.arange(40), -1), np.arange(50)
    streamed = rel.fit_temperature(lambda start, stop: scores[start:stop], some)
    assert streamed == pytest.approx(rel.fit_temperature(scores[:30], (groups[0][:30], groups[1])), rel=1e-2)
    with pytest.raises(ValueError, match="no query has"):
        rel.fit_temperature(scores, (np.full(40, -1), np.arange(50)))


def test_fitting_the_temperature_calibrates():
    rng = np.random.default_rng(7)
    logits = rng.normal(0, 2, (1500, 40))
    outcome = np.array([rng.choice(40, p=np.exp(row - logsumexp(row))) for row in logits])
    relevant = outcome[:, None] == np.arange(40)
    t = rel.fit_temperature(5 * logits, relevant)
    assert t == pytest.approx(5, rel=0.1)
    p = np.exp(5 * logits / t - logsumexp(5 * logits / t, axis=1, keepdims=True)).max(1)
    right = relevant[np.arange(1500), logits.argmax(1)].astype(float)
    assert rel.ece(right, p) < rel.calibrated_ece(p)[1]


def test_intervals_cover_and_keep_patients_together():
    rng = np.random.default_rng(8)
    correct = np.repeat((rng.random(150) < 0.5).astype(float), 4)
    confidence = correct + np.repeat(rng.normal(0, 1, 150), 4)
    value = rel.auroc(correct, confidence)
    wide = rel.reliability_interval(rel.auroc, correct, confidence, np.repeat(np.arange(150), 4), n=200)
    narrow = rel.reliability_interval(rel.auroc, correct, confidence, n=200)
    assert wide[0] < value < wide[1] and np.ptp(wide) > 1.5 * np.ptp(narrow)


def test_summary_holds_all_numbers():
    rng = np.random.default_rng(9)
    correct = (rng.random(200) < 0.5).astype(float)
    got = rel.ranking_summary(correct, correct + rng.normal(size=200))
    assert got["aurc_random"] == pytest.approx(1 - got["accuracy"]) and got["excess_aurc"] == pytest.approx(
        got["aurc"] - got["aurc_oracle"]
    )
    assert 0 < got["normalised_excess"] < 1 and 0.5 < got["auroc"] < 1 and 0 < got["augrc"] < 0.5


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: rel.aurc([1, 0], [1]), "1 values for 2"),
        (lambda: rel.aurc([], []), "0 values"),
        (lambda: rel.aurc([1, np.nan], [1, 2]), "correct: holds NaN"),
        (lambda: rel.auroc([1, 0], [np.nan, 2]), "confidence: holds NaN"),
        (lambda: rel.aurc([2, 0], [1, 2]), "between 0 and 1"),
        (lambda: rel.ece([1, 0], [1.2, 0]), "probability"),
        (lambda: rel.ece([1, 0], [1, 0], kind="depth"), "kind"),
        (lambda: rel.ece([1, 0], [1, 0], bins=0), "bins"),
    ],
)
def test_bad_arguments_name_themselves(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_needs_numpy_alone():
    code = (
        "import sys, medret_nb.evaluation.reliability\n"
        "print([m for m in ('torch', 'pandas', 'scipy', 'sklearn', 'matplotlib') if m in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
