"""Coverage of candidate sets against loops and simulation: summaries, subgroups, exchangeability, planted shifts."""

from math import comb

import numpy as np
import pandas as pd
import pytest
from scipy.stats import mannwhitneyu

from medret_nb.evaluation import conformal as con
from medret_nb.evaluation import coverage as cov


def judged_of(covered, size=None):
    covered = np.asarray(covered, float)
    size = np.ones(len(covered), int) if size is None else np.asarray(size)
    return pd.DataFrame({"value": -covered, "covered": covered, "size": size, "gallery": size == 9, "chance": 0})


@pytest.mark.parametrize("kind", con.SET_KINDS)
@pytest.mark.parametrize("alpha", [0.01, 0.3])
def test_judged_sets_are_the_sets(kind, alpha):
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 9, (60, 30)).astype(np.float32)
    relevant = rng.random(scores.shape) < 0.1
    relevant[7] = False
    promise = con.calibrate(scores[:30], relevant[:30], alpha, kind, scale=0.4)
    assert (promise.limit == np.inf) == (alpha == 0.01)
    judged = cov.judge_sets(promise, scores, relevant)
    sets = promise.sets(scores)
    none = ~relevant.any(1)
    assert none.any() and judged.loc[none, ["value", "covered"]].isna().all(axis=None)
    np.testing.assert_array_equal(judged["size"], sets.sum(1))
    np.testing.assert_array_equal(judged["gallery"], sets.all(1))
    np.testing.assert_array_equal(judged["covered"][~none], (sets & relevant).any(1)[~none])
    by_chance = [1 - comb(30 - r, k) / comb(30, k) for r, k in zip(relevant.sum(1), sets.sum(1), strict=True)]
    np.testing.assert_allclose(judged["chance"][~none], np.array(by_chance)[~none], atol=1e-9)
    np.testing.assert_array_equal(judged["value"], con.nonconformity(scores, relevant, kind, 0.4))


def test_a_summary_by_hand():
    judged = judged_of([1, 0, 1, np.nan, 1], [2, 4, 9, 9, 1])
    found = cov.set_summary(judged, ["a", "a", "b", "b", "c"])
    assert (found["queries"], found["patients"], found["left_out"]) == (4, 3, 1)
    assert (found["coverage"], found["size"], found["size_90"], found["gallery"]) == (0.75, 4, 9, 0.25)
    assert np.isnan(found["coverage_low"])  # three patients
    assert cov.set_summary(judged_of([]))["queries"] == 0
    assert cov.by_patient([1, 0, np.nan, 1], ["a", "a", "b", "c"]).tolist() == [0.5, 1]
    assert cov.by_patient([1, 0, np.nan, 1], ["a", "a", "b", "c"], "worst").tolist() == [0, 1]


def test_all_covered_has_an_interval_below_one():
    found = cov.set_summary(judged_of(np.ones(60)))
    assert found["coverage"] == 1 and 0.9 < found["coverage_low"] < 1


def test_the_interval_holds_the_coverage_of_these_sets():
    """Patients with one to four alike studies; the sets are fixed, and their true coverage is known."""
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(300):
        patients = np.repeat(np.arange(80), rng.integers(1, 5, 80))
        hard = rng.normal(size=80)[patients] * 0.8 + rng.normal(size=len(patients)) * 0.6
        found = cov.set_summary(judged_of(hard < 1.2815515655446004), patients, draws=300)
        held += found["coverage_low"] <= 0.9 <= found["coverage_high"]
    assert 0.93 <= held / 300 <= 0.98


def test_usual_coverage_and_misses_against_simulation():
    rng = np.random.default_rng(2)
    values = rng.random((20_000, 80))
    place = con.limit_place(50, 0.1)
    limit = np.sort(values[:, :50], axis=1)[:, place - 1]
    misses = (values[:, 50:] > limit[:, None]).sum(1)
    low, high = cov.usual_coverage(50, 0.1, 30)
    covered = 1 - misses / 30
    assert ((covered >= low - 1e-9) & (covered <= high + 1e-9)).mean() >= 0.95
    assert (covered < low + 0.02).mean() > 0.02 and (covered > high - 0.02).mean() > 0.02  # and no wider than that
    for count in (2, 5, 9):
        assert cov.too_many_misses(count, 30, 50, 0.1) == pytest.approx((misses >= count).mean(), abs=0.01)
    assert cov.too_many_misses(0, 30, 50, 0.1) == 1
    assert cov.usual_coverage(5, 0.1, 30) == (1, 1) and cov.too_many_misses(0, 30, 5, 0.1) == 1


def test_exchangeability_is_the_rank_sum_test_where_each_query_is_a_patient():
    rng = np.random.default_rng(3)
    known, new = rng.normal(size=60), rng.normal(0.4, 1, 50)
    found = cov.exchangeability(known, new, draws=20_000)
    judge = mannwhitneyu(new, known)
    assert found["worse"] == pytest.approx(judge.statistic / 3000)
    assert found["p"] == pytest.approx(judge.pvalue, abs=0.01)
    coarse = cov.exchangeability(known.round(), new.round(), draws=500)
    assert coarse["worse"] == pytest.approx(mannwhitneyu(new.round(), known.round()).statistic / 3000)
    assert cov.exchangeability([], [1.0]).keys() == {"worse", "p"}


def test_exchangeability_holds_its_level_with_several_studies_a_patient():
    rng = np.random.default_rng(4)
    p_values = {"patients": [], "studies": []}
    for trial in range(300):
        patients = np.repeat(np.arange(40), rng.integers(1, 9, 40))
        values = rng.normal(size=40)[patients] + 0.2 * rng.normal(size=len(patients))
        known = patients < 20
        names = (patients[known], patients[~known])
        p_values["patients"].append(cov.exchangeability(values[known], values[~known], *names, 200, trial)["p"])
        p_values["studies"].append(cov.exchangeability(values[known], values[~known], draws=200, seed=trial)["p"])
    share = {name: np.mean(np.array(p) <= 0.05) for name, p in p_values.items()}
    assert 0.02 <= share["patients"] <= 0.085 and share["studies"] > 0.2


def world(rng, size, hard, prevalence=0.1):
    """Scores of films (N,) for reports (N,); some patients are `hard` times as difficult."""
    noise = np.where(rng.random(size) < prevalence, hard, 1) * 0.7
    films = rng.normal(size=(size, 8))
    reports = films + noise[:, None] * rng.normal(size=films.shape)
    films /= np.linalg.norm(films, axis=1, keepdims=True)
    reports /= np.linalg.norm(reports, axis=1, keepdims=True)
    return 5 * films @ reports.T


@pytest.mark.parametrize("kind", con.SET_KINDS)
def test_planted_shifts_are_noticed_and_their_absence_is_not(kind):
    """Another mix of patients: half of them are difficult instead of one in ten; and a gallery of twice the size."""
    rng = np.random.default_rng(5)
    own = np.arange(400)
    seen = {"none": [], "mix": [], "gallery": []}
    for _ in range(20):
        tables = {"none": world(rng, 400, 4)}
        mixed = np.where(own < 200, 0.1, 0.5)
        tables["mix"] = world(rng, 400, 4, mixed)
        for name, scores in tables.items():
            promise = con.calibrate(scores[:200], (own[:200], own), 0.1, kind)
            seen[name].append(told(promise, cov.judge_sets(promise, scores[200:], (own[200:], own))))
        promise = con.calibrate(tables["none"][:200, :200], (own[:200], own[:200]), 0.1, kind)
        seen["gallery"].append(told(promise, cov.judge_sets(promise, tables["none"][200:], (own[200:], own))))
    found = {name: np.mean(rows, axis=0) for name, rows in seen.items()}
    assert found["none"][0] > 0.88 and found["mix"][0] < 0.8
    assert found["none"][1] <= 0.2 and found["mix"][1] >= 0.9 and found["mix"][2] >= 0.9
    if kind == "top_k":
        assert found["gallery"][0] < 0.88 and found["gallery"][1] > 0.2
    if kind == "threshold":
        assert found["gallery"][0] > 0.88 and found["gallery"][1] <= 0.2


def told(promise, judged):
    misses = int((judged["covered"] == 0).sum())
    swapped = cov.exchangeability(promise.values, judged["value"], draws=200)["p"]
    return (
        judged["covered"].mean(),
        swapped <= 0.05,
        cov.too_many_misses(misses, len(judged), len(promise.values), 0.1) <= 0.05,
    )


def test_cells_are_counted_small_ones_left_out_and_a_blind_one_is_named():
    rng = np.random.default_rng(6)
    covered = np.ones(300)
    covered[:60] = rng.random(60) < 0.6
    covered[299] = np.nan
    cells = {("finding", "blind"): np.arange(300) < 60, ("view", "PA"): np.arange(300) >= 60}
    cells[("finding", "rare")] = np.arange(300) < 19
    table, few = cov.coverage_by_cell(judged_of(covered), pd.DataFrame(cells), 0.1, draws=500)
    assert few == 1 and table["cell"].tolist() == ["blind", "PA"] and table["queries"].tolist() == [60, 239]
    assert table["coverage_high"][0] < 0.9 and table["p_holm"][0] < 0.001
    np.testing.assert_allclose(table["p_holm"].max(), max(table["p"].max(), 2 * table["p"].min()))
    by_hand = cov.set_summary(judged_of(covered[:60]), draws=500)
    assert table["coverage"][0] == by_hand["coverage"] and table["coverage_low"][0] == by_hand["coverage_low"]
    nothing, few = cov.coverage_by_cell(judged_of(covered[:5]), {"all": np.ones(5, bool)}, 0.1)
    assert few == 1 and not len(nothing)


def test_few_patients_have_no_interval_and_no_p():
    patients = np.arange(60) // 3
    table, _ = cov.coverage_by_cell(judged_of(np.arange(60) % 5 > 0), {"all": np.ones(60, bool)}, 0.1, patients)
    assert table[["coverage_low", "p", "p_holm"]].isna().all(axis=None)
