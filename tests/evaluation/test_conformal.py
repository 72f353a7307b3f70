"""Candidate sets against loops, MAPIE and simulation: what is promised on average is kept, exactly."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from medret_nb.evaluation import conformal as con

ALPHAS = (0.05, 0.1, 0.2)
CASES = st.tuples(st.integers(1, 8), st.integers(1, 7), st.integers(0, 2**31), st.sampled_from([0, 3]))


def drawn(queries, candidates, seed, levels):
    """Scores (Q, G), coarse with `levels` many values, and a table of who is relevant, some rows of it empty."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(queries, candidates))
    if levels:
        scores = rng.integers(0, levels, scores.shape).astype(float)
    return scores, rng.random(scores.shape) < 0.4


def loop_value(row, place, kind):
    """The nonconformity of one candidate, as the papers define it."""
    if kind == "threshold":
        return -row[place]
    if kind == "top_k":
        return 1 + sum(other > row[place] for other in row)
    weight = [np.exp(score - max(row)) for score in row]
    ahead = sum(w for w, score in zip(weight, row, strict=True) if score > row[place])
    return ahead / sum(weight) - 1


def loop_of_query(row, relevant, kind):
    values = [loop_value(row, g, kind) for g in range(len(row)) if relevant[g]]
    return min(values) if values else np.nan


@settings(max_examples=60, deadline=None)
@given(CASES, st.sampled_from(con.SET_KINDS))
def test_nonconformity_and_sets_equal_loops(case, kind):
    scores, relevant = drawn(*case)
    values = con.nonconformity(scores, relevant, kind)
    loops = [loop_of_query(row, own, kind) for row, own in zip(scores, relevant, strict=True)]
    np.testing.assert_allclose(values, loops, atol=1e-12)
    promise = con.calibrate(scores, relevant, 0.3, kind)
    sets = promise.sets(scores)
    for q, g in itertools.product(*map(range, scores.shape)):
        value = loop_value(scores[q], g, kind)
        if abs(value - promise.limit) > 1e-9:
            assert sets[q, g] == (value <= promise.limit)
    known = np.isfinite(values)
    assert ((sets & relevant).any(1)[known] == (values[known] <= promise.limit)).all()
    assert promise.left_out == (~known).sum() and len(promise.values) == known.sum()


@settings(max_examples=60, deadline=None)
@given(CASES, st.sampled_from(con.SET_KINDS), st.integers(0, 99))
def test_sets_grow_as_alpha_falls_hold_ties_whole_and_no_order_matters(case, kind, seed):
    scores, relevant = drawn(*case)
    promise = con.calibrate(scores, relevant, 0.5, kind)
    before = promise.sets(scores)
    for alpha in (0.4, 0.2, 0.1, 0.01):
        sets = promise.at(alpha).sets(scores)
        assert (sets >= before).all()
        before = sets
    assert before.all()  # 8 queries are too few for 99 %
    sets = promise.sets(scores)
    lowest = np.where(sets, scores, np.inf).min(1, keepdims=True)
    assert (sets == (scores >= lowest)).all()
    assert kind == "threshold" or sets.any(1).all()
    order = np.random.default_rng(seed).permutation(scores.shape[1])
    again = con.calibrate(scores[:, order], relevant[:, order], 0.5, kind)
    assert again.limit == promise.limit and (again.sets(scores[:, order]) == sets[:, order]).all()


@pytest.mark.parametrize("kind", con.SET_KINDS)
def test_blocks_functions_groups_and_transposed_views_agree(kind, monkeypatch):
    scores, _ = drawn(30, 40, 1, 7)
    films, reports = np.arange(30) % 9, np.arange(40) % 11 - 1
    table = (films[:, None] == reports) & (reports >= 0)
    wanted = con.nonconformity(scores, table, kind)
    np.testing.assert_array_equal(con.nonconformity(scores, (films, reports), kind), wanted)
    np.testing.assert_array_equal(con.nonconformity(np.asfortranarray(scores), table, kind), wanted)
    small = con.blocks
    monkeypatch.setattr(con, "blocks", lambda a, b: small(a, b, 80))
    np.testing.assert_array_equal(con.nonconformity(lambda a, b: scores[a:b], (films, reports), kind), wanted)


def test_the_limit_by_hand():
    assert con.conformal_limit([1, 3, 1, 7, 2, 12, 4, 1, 20], 0.1) == 20
    assert con.conformal_limit([1, 3, 1, 7, 2, 12, 4, 1, 20], 0.2) == 12
    assert con.conformal_limit([1, 3], 0.1) == np.inf and con.conformal_limit([], 0.5) == np.inf
    assert [con.limit_place(n, 0.1) for n in (8, 9, 19, 99)] == [9, 9, 18, 90]  # no rounding makes 90 a 91
    assert [con.limit_place(n, 0.05) for n in (18, 19, 99)] == [19, 19, 95]


def test_expected_coverage_by_hand_and_for_an_endless_population():
    # values 1, 1, 2; one is known, one is asked, the known one is the limit of 50 %: six pairs, four covered
    assert con.expected_coverage(1, 0.5, [1, 1, 2]) == pytest.approx(4 / 6)
    rng = np.random.default_rng(0)
    shares = np.array([0.5, 0.3, 0.2])
    many = np.repeat([1, 2, 3], (shares * 10**6).astype(int))
    below = np.cumsum(shares) - shares
    exact = shares @ binom.cdf(con.limit_place(20, 0.1) - 1, 20, below)
    assert con.expected_coverage(20, 0.1, many) == pytest.approx(exact, abs=1e-5)
    assert con.expected_coverage(20, 0.1, rng.random(500)) == pytest.approx(19 / 21)
    assert con.expected_coverage(5, 0.1) == con.expected_coverage(5, 0.1, many) == 1


def simulated(rng, size, noise=1.0, dims=8, coarse=False):
    """Scores of films (N,) for reports (N,), reports as noisy copies of the films, some harder than others."""
    films = rng.normal(size=(size, dims))
    reports = films + noise * rng.gamma(2, 0.5, (size, 1)) * rng.normal(size=(size, dims))
    films /= np.linalg.norm(films, axis=1, keepdims=True)
    reports /= np.linalg.norm(reports, axis=1, keepdims=True)
    scores = 5 * films @ reports.T
    return np.round(scores) if coarse else scores


def split_coverage(values, n, alphas, rng, repeats):
    """Coverage (repeats, alphas) of the others when n of the values (N,), drawn anew each time, are known."""
    mixed = rng.permuted(np.tile(values, (repeats, 1)), axis=1)
    known = np.sort(mixed[:, :n], axis=1)
    limits = known[:, [con.limit_place(n, alpha) - 1 for alpha in alphas]]
    return np.stack([(mixed[:, n:] <= limit[:, None]).mean(1) for limit in limits.T], 1)


@pytest.mark.parametrize("coarse", [False, True], ids=["distinct", "tied"])
@pytest.mark.parametrize("kind", con.SET_KINDS)
@pytest.mark.parametrize("way", ["image-to-text", "text-to-image"])
def test_mean_coverage_is_the_exact_expectation(way, kind, coarse):
    """Within one standard error of 500 calibrations; 10,000 are drawn, so that this isn't left to chance."""
    rng = np.random.default_rng(7)
    size = 160
    scores = simulated(rng, size, coarse=coarse)
    scores = scores if way == "image-to-text" else scores.T
    own = np.arange(size)
    values = con.nonconformity(scores, (own, own), kind)
    found = split_coverage(values, 60, ALPHAS, rng, 10_000)
    for alpha, shares in zip(ALPHAS, found.T, strict=True):
        exact = con.expected_coverage(60, alpha, values)
        assert exact >= 1 - alpha and abs(shares.mean() - exact) < shares.std() / np.sqrt(500)
        if not coarse and kind == "threshold":
            assert exact == pytest.approx(con.limit_place(60, alpha) / 61)


@pytest.mark.parametrize("kind", con.SET_KINDS)
def test_500_fresh_clinics_keep_the_promise_in_both_directions(kind):
    """Everything anew in each clinic: patients, films, reports, gallery; known and new patients share the gallery."""
    rng = np.random.default_rng(11)
    own = np.arange(50)
    covered = np.zeros((500, 2, len(ALPHAS)))
    least = np.zeros_like(covered)
    for clinic in covered:
        scores = simulated(rng, 50)
        for way, table in enumerate((scores, scores.T)):
            promise = con.calibrate(table[:39], (own[:39], own), 0.1, kind)
            for place, alpha in enumerate(ALPHAS):
                sets = promise.at(alpha).sets(table[39:])
                clinic[way, place] = sets[np.arange(11), own[39:]].mean()
    least += [con.expected_coverage(39, alpha) for alpha in ALPHAS]
    error = covered.std(0) / np.sqrt(500)
    away = (covered.mean(0) - least[0]) / error
    assert (away > -3).all(), away
    assert kind != "threshold" or (away < 3).all(), away  # without ties it is exact
    assert (np.diff(covered.mean(0), axis=1) < 0).all()


def test_patients_with_several_studies():
    """Studies of a patient are alike: by patients the promise is kept, by studies it is not."""
    rng = np.random.default_rng(3)
    patients = np.repeat(np.arange(14), 8)
    found = {"one": [], "worst": [], "by study": []}
    for _ in range(2000):
        hard = rng.normal(size=15)
        values = np.repeat(hard, 8) + 0.1 * rng.normal(size=15 * 8)
        known, new = values[:-8], values[-8:]
        limits = {
            "one": con.conformal_limit(con.one_of_patient(known, patients, int(rng.integers(2**31))), 0.1),
            "worst": con.conformal_limit(con.worst_of_patient(known, patients), 0.1),
            "by study": con.conformal_limit(known, 0.1),
        }
        found["one"].append((new <= limits["one"]).mean())
        found["worst"].append((new <= limits["worst"]).all())
        found["by study"].append((new <= limits["by study"]).mean())
    mean = {name: np.mean(shares) for name, shares in found.items()}
    assert mean["one"] == pytest.approx(14 / 15, abs=0.015)
    assert mean["worst"] == pytest.approx(14 / 15, abs=0.015)
    assert mean["by study"] < 0.89


def test_calibrate_takes_one_study_of_each_patient_or_the_worst():
    scores, relevant = drawn(40, 10, 5, 0)
    relevant[:3] = False
    patients = np.array([f"p{i // 4}" for i in range(40)])
    values = con.nonconformity(scores, relevant, "threshold")
    worst = con.calibrate(scores, relevant, 0.2, patients=patients, per_patient="worst")
    by_hand = [np.nanmax(values[patients == name]) for name in sorted(set(patients))]
    np.testing.assert_array_equal(worst.values, np.sort(by_hand))
    one = con.calibrate(scores, relevant, 0.2, patients=patients)
    assert len(one.values) == 10 and one.left_out == np.isnan(values).sum()
    assert all(value in values for value in one.values)
    drawn_anew = [con.calibrate(scores, relevant, 0.2, patients=patients, seed=s).values for s in range(300)]
    assert len({tuple(kept) for kept in drawn_anew}) > 100
    first = values[:4][np.isfinite(values[:4])]
    assert set(first) <= {value for kept in drawn_anew for value in kept}


@pytest.mark.filterwarnings("ignore::UserWarning")  # a gallery has as many classes as there are queries
@pytest.mark.parametrize(("kind", "score"), [("threshold", "lac"), ("top_k", "top_k")])
def test_mapie_agrees(kind, score):
    classification = pytest.importorskip("mapie.classification")
    base = pytest.importorskip("sklearn.base")

    class Table(base.ClassifierMixin, base.BaseEstimator):
        """The gallery as classes, and a query's probabilities as they stand in the table."""

        def fit(self, x, y):
            self.classes_ = np.arange(x.shape[1])
            return self

        def predict_proba(self, x):
            return x

        def predict(self, x):
            return x.argmax(1)

    rng = np.random.default_rng(2)
    scores = np.exp(simulated(rng, 120))
    scores /= scores.sum(1, keepdims=True)
    own = np.arange(120)
    estimator = Table().fit(scores, own)
    for alpha in ALPHAS:
        judge = classification.SplitConformalClassifier(
            estimator, confidence_level=1 - alpha, conformity_score=score, prefit=True
        )
        theirs = judge.conformalize(scores[:80], own[:80]).predict_set(scores[80:])[1][:, :, 0]
        ours = con.calibrate(scores[:80], (own[:80], own), alpha, kind).sets(scores[80:])
        assert (ours == theirs).mean() > 0.9999, (ours != theirs).sum()


def test_planted_shifts_break_the_promise():
    rng = np.random.default_rng(5)
    own = np.arange(300)
    covered = {"alike": [], "harder": [], "doubled": []}
    for _ in range(40):
        scores = simulated(rng, 300)
        small = con.calibrate(scores[:100, :150], (own[:100], own[:150]), 0.1, "top_k")
        covered["alike"].append(small.sets(scores[100:150, :150])[np.arange(50), own[100:150]].mean())
        covered["doubled"].append(small.sets(scores[100:150])[np.arange(50), own[100:150]].mean())
        hard = simulated(rng, 150, noise=2)
        covered["harder"].append(small.sets(hard[:50])[np.arange(50), own[:50]].mean())
    mean = {name: np.mean(shares) for name, shares in covered.items()}
    assert mean["alike"] > 0.89 and mean["doubled"] < 0.86 and mean["harder"] < 0.8


def test_wrong_arguments_are_named():
    scores, relevant = drawn(5, 4, 0, 0)
    for changed, word in (
        ({"kind": "best"}, "kind"),
        ({"alpha": 0}, "alpha"),
        ({"alpha": 1.5}, "alpha"),
        ({"scale": -1}, "scale"),
        ({"per_patient": "two"}, "per_patient"),
        ({"patients": np.arange(3)}, "patients"),
        ({"scores": np.full((5, 4), np.nan)}, "scores"),
        ({"scores": scores[:, :2]}, "scores"),
    ):
        with pytest.raises(ValueError, match=word):
            con.calibrate(**{"scores": scores, "relevant": relevant, "alpha": 0.1} | changed)
    with pytest.raises(ValueError, match="scores"):
        con.calibrate(scores, relevant, 0.4).sets(np.full((2, 4), np.nan))


def test_nothing_relevant_at_all_promises_the_gallery():
    promise = con.calibrate(np.zeros((3, 4)), np.zeros((3, 4), bool), 0.1)
    assert promise.limit == np.inf and promise.left_out == 3 and promise.sets(np.zeros((2, 9))).all()
    assert con.nonconformity(np.zeros((0, 4)), np.zeros((0, 4), bool)).shape == (0,)
