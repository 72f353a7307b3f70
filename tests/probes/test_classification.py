"Judging yes and no: scikit-learn as judge, ties over all orders, sets by hand, truths of reports and scenes."

import itertools
from functools import partial

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, average_precision_score, balanced_accuracy_score, f1_score, roc_auc_score

from medret_nb.data.balanced import FIVE, five_by_200
from medret_nb.data.files import DataError
from medret_nb.data.studies import StudySet
from medret_nb.evaluation.relevance import OBSERVATIONS
from medret_nb.phantom.assertions import true_labels
from medret_nb.phantom.truth_tables import load_truth
from medret_nb.probes.classification import (
    _block_precision,
    balanced_set,
    blind_guess,
    decided,
    decision_measures,
    exclusive,
    fit_threshold,
    judge_binary,
    judge_classes,
    patients_of_each,
    ranking_measures,
    truth_table,
)

TIED = st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=2, max_size=5).filter(
    lambda c: 0 < sum(y for _, y in c) < len(c)
)
FREE = st.lists(
    st.tuples(st.integers(-50, 50), st.booleans()), min_size=2, max_size=60, unique_by=lambda c: c[0]
).filter(lambda c: 0 < sum(y for _, y in c) < len(c))


def once(n):
    "Each of n films counts once."
    return np.ones((1, n))


def split_case(case):
    return np.array([s for s, _ in case], float), np.array([y for _, y in case])


@settings(max_examples=25, deadline=None)
@given(FREE)
def test_scikit_learn_agrees_where_nothing_is_tied(case):
    scores, present = split_case(case)
    found = ranking_measures(scores, present, once(len(scores)))
    assert found["auroc"][0] == pytest.approx(roc_auc_score(present, scores))
    assert found["average_precision"][0] == pytest.approx(average_precision_score(present, scores))
    called = scores >= 0
    measured = decision_measures(called, present, once(len(scores)))
    for name, judge in (("accuracy", accuracy_score), ("balanced_accuracy", balanced_accuracy_score), ("f1", f1_score)):
        assert measured[name][0] == pytest.approx(judge(present, called))


@settings(max_examples=25, deadline=None)
@given(TIED)
def test_ties_are_the_mean_over_all_orders(case):
    scores, present = split_case(case)
    n = len(scores)
    found = ranking_measures(scores, present, once(n))
    broken = [scores + 1e-6 * np.array(o) for o in itertools.permutations(range(n))]
    assert found["auroc"][0] == pytest.approx(roc_auc_score(present, scores))
    assert found["average_precision"][0] == pytest.approx(
        np.mean([average_precision_score(present, s) for s in broken])
    )


@settings(max_examples=60, deadline=None)
@given(TIED.flatmap(lambda c: st.tuples(st.just(c), st.lists(st.integers(0, 3), min_size=len(c), max_size=len(c)))))
def test_a_weight_is_so_many_copies(case):
    (scores, present), weight = split_case(case[0]), np.array(case[1])
    both = {**ranking_measures(scores, present, weight[None]), **decision_measures(scores >= 2, present, weight[None])}
    s, y = np.repeat(scores, weight), np.repeat(present, weight)
    if not 0 < y.sum() < len(y):
        assert all(np.isnan(x[0]) for x in both.values())
        return
    copied = {**ranking_measures(s, y, once(len(s))), **decision_measures(s >= 2, y, once(len(s)))}
    for name in both:
        assert both[name][0] == pytest.approx(copied[name][0])


@settings(max_examples=60, deadline=None)
@given(FREE)
def test_what_order_alone_decides_survives_any_growing_map(case):
    scores, present = split_case(case)
    found, turned = (ranking_measures(s, present, once(len(s))) for s in (scores, np.exp(scores / 9) - 3))
    assert found["auroc"][0] == pytest.approx(turned["auroc"][0]) and found["average_precision"][0] == pytest.approx(
        turned["average_precision"][0]
    )
    assert ranking_measures(-scores, present, once(len(scores)))["auroc"][0] == pytest.approx(1 - found["auroc"][0])


def test_chance_is_what_blind_answers_reach():
    present, rng = np.arange(40) < 9, np.random.default_rng(0)
    luck = blind_guess(present)
    random = [ranking_measures(rng.normal(size=40), present, once(40)) for _ in range(4000)]
    assert (
        luck["average_precision"] == pytest.approx(np.mean([r["average_precision"][0] for r in random]), abs=0.005)
        and luck["average_precision"] > 9 / 40
    )
    assert luck["auroc"] == pytest.approx(np.mean([r["auroc"][0] for r in random]), abs=0.01)
    coins = [
        decision_measures(rng.random(40) < q, present, once(40)) for q in (0, 0.2, 0.5, 0.8, 1) for _ in range(400)
    ]
    for name in ("accuracy", "balanced_accuracy", "f1"):
        means = np.mean(np.array([c[name][0] for c in coins]).reshape(5, 400), 1)
        assert means.max() == pytest.approx(luck[name], abs=0.02)


def balanced_accuracy(scores, present, threshold):
    "Balanced accuracy of yes from the threshold on."
    return decision_measures(scores >= threshold, present, once(len(scores)))["balanced_accuracy"][0]


def test_the_fitted_threshold_is_the_best_of_all():
    rng = np.random.default_rng(0)
    for n in (3, 12, 200):
        present = rng.random(n) < 0.4
        present[:2] = True, False
        scores = np.round(rng.normal(size=n) + present, 1)
        reached = partial(balanced_accuracy, scores, present)
        assert reached(fit_threshold(scores, present)) == pytest.approx(max(reached(t) for t in [*scores, 99]))
    assert fit_threshold(np.array([1.0, 2, 8, 9]), np.array([False, False, True, True])) == 5
    assert fit_threshold(np.array([0.0, 0.0]), np.array([True, False])) == 0


def test_judging_by_hand():
    scores, truth = (
        np.array([[2.0, 1], [1, 1], [-1, 1], [-2, 1], [5, 5]]),
        np.array([[1.0, 1], [0, 0], [1, 1], [0, 0], [np.nan, np.nan]]),
    )
    controls = {"auroc_positive_alone": -scores, "auroc_from_report": truth}
    rows, macro = judge_binary(scores, truth, list("abcde"), [1.5, None], [True, False], controls, draws=50, minimum=2)
    assert (
        rows[0]["auroc"]["value"] == 0.75
        and rows[0]["auroc_positive_alone"]["value"] == 0.25
        and rows[0]["auroc_from_report"]["value"] == 1
    )
    assert (
        rows[0]["average_precision"]["value"] == pytest.approx((1 + 2 / 3) / 2)
        and rows[0]["accuracy"]["value"] == 0.5
        and rows[0]["accuracy_fitted"]["value"] == 0.75
    )
    assert (
        rows[0]["f1"]["value"] == 0.5
        and rows[0]["f1"]["chance"] == pytest.approx(2 / 3)
        and rows[0]["accuracy"]["chance"] == 0.5
    )
    assert rows[1]["auroc"]["value"] == 0.5 and "accuracy" not in rows[1] and "accuracy_fitted" not in rows[1]
    assert macro["auroc"]["value"] == 0.625 and macro["auroc"]["findings"] == 2 and macro["accuracy"]["findings"] == 1
    assert rows[0]["auroc"]["few"] and macro["auroc"]["few"] and rows[0]["auroc"]["low"] is None
    nothing, none = judge_binary(scores, truth, list("abcde"), [None, None], [True, True], {}, draws=5, minimum=3)
    assert nothing == [{}, {}] and none == {}


def test_the_minimum_counts_patients_and_not_films():
    rng = np.random.default_rng(0)
    present = np.arange(60) < 20
    scores = rng.normal(size=(60, 1))
    truth = present[:, None].astype(float)
    one = np.where(present, 0, np.arange(60))  # all positive films are of one patient
    assert judge_binary(scores, truth, one, [None], [True], {}, draws=5, minimum=20)[0] == [{}]
    own = np.arange(60)
    assert judge_binary(scores, truth, own, [None], [True], {}, draws=5, minimum=20)[0][0]["auroc"]
    assert patients_of_each(present, one) == (1, 40)


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    rng, inside = np.random.default_rng(0), 0
    for trial in range(120):
        present = rng.random(150) < 0.3
        scores = rng.normal(size=150) + present  # the AUROC of unit normals one apart is 0.7602
        row = judge_binary(
            scores[:, None], present[:, None].astype(float), np.arange(150), [None], [True], {}, draws=200, seed=trial
        )[0][0]["auroc"]
        inside += row["low"] <= 0.7602 <= row["high"]
    assert 0.89 <= inside / 120 <= 0.99


def test_intervals_have_the_score_form_and_know_too_few():
    present = np.arange(200) < 25
    scores = np.where(present, 1.0, -1.0) + 0.1 * np.random.default_rng(0).random(200)
    perfect, macro = judge_binary(
        scores[:, None], present[:, None] * 1.0, np.arange(200), [None], [True], {}, draws=100, minimum=5
    )
    numbers = perfect[0]["auroc"], macro["auroc"]
    assert all(number["value"] == 1 and 0.8 < number["low"] < 0.9 for number in numbers)  # of 25, and not [1, 1]
    noisy = scores + 3 * np.random.default_rng(1).normal(size=200)
    for rarer, few in ((4, True), (5, False)):
        some = np.arange(200) < rarer
        row = judge_binary(noisy[:, None], some[:, None] * 1.0, np.arange(200), [None], [True], {}, 100, 0, 4)[0][0]
        assert row["auroc"].get("few", False) == few and (row["auroc"]["low"] is None) == few
    one_patient = np.minimum(np.arange(200), 28)
    row = judge_binary(noisy[:, None], present[:, None] * 1.0, one_patient, [None], [True], {}, 100, 0, 4)[0][0]
    assert row["auroc"]["few"]  # 29 patients
    right = judge_classes(np.eye(3)[np.arange(90) % 3], np.arange(90) % 3, range(90), draws=50)["accuracy"]
    assert right["value"] == 1 and 0.9 < right["low"] < 1
    assert judge_classes(np.eye(3), np.arange(3), range(3), draws=50)["accuracy"]["few"]


def test_classes_by_hand_with_ties_and_chance():
    scores, truth = np.array([[3, 1, 2], [1, 1, 0], [0, 0, 0.0]]), np.array([0, 1, 2])
    judged = judge_classes(scores, truth, list("abc"), draws=20)
    assert judged["accuracy"]["value"] == pytest.approx((1 + 0.5 + 1 / 3) / 3) and judged["accuracy"][
        "chance"
    ] == pytest.approx(1 / 3)
    assert judged["recall"] == pytest.approx([1, 0.5, 1 / 3]) and judged["answered"] == pytest.approx(
        [11 / 18, 5 / 18, 1 / 9]
    )
    assert judge_classes(np.zeros((9, 3)), np.arange(9) % 3, range(9), draws=5)["accuracy"]["value"] == pytest.approx(
        1 / 3
    )


def labelled(rng, n=600):
    return pd.DataFrame(
        rng.choice([1, 0, -1, np.nan], (n, len(OBSERVATIONS)), p=[0.15, 0.4, 0.05, 0.4]),
        index=[f"s{i}" for i in range(n)],
        columns=OBSERVATIONS,
    )


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6))
def test_balanced_sets_are_exclusive_seeded_and_blind_to_order(seed, per_class):
    labels = labelled(np.random.default_rng(seed))
    drawn = balanced_set(labels, per_class=per_class, seed=seed)
    assert drawn["class"].value_counts().to_dict() == dict.fromkeys(FIVE, per_class) and drawn["study_id"].is_unique
    for study, name in drawn.itertuples(index=False):
        values = labels.loc[study, list(FIVE)]
        assert values[name] == 1 and not (values.drop(name) == 1).any()
    pd.testing.assert_frame_equal(
        drawn, balanced_set(labels.sample(frac=1, random_state=seed), per_class=per_class, seed=seed)
    )


def test_both_ways_to_the_set_draw_the_same_studies(small_phantom):
    labels = truth_table(small_phantom)
    n = min(map(len, exclusive(labels).values()))
    drawn = balanced_set(labels, per_class=n, seed=4)
    assert (
        n > 0
        and drawn[["class", "study_id"]].to_numpy().tolist()
        == five_by_200(small_phantom, n=n, seed=4, split=None).to_numpy().tolist()
    )


def test_too_few_of_a_class_are_named():
    labels = labelled(np.random.default_rng(0))
    counts = {name: len(ids) for name, ids in exclusive(labels).items()}
    most = max(counts, key=counts.get)
    with pytest.raises(DataError, match="balanced set: .* are asked; of its own has") as told:
        balanced_set(labels, per_class=counts[most])
    for name in FIVE:
        assert (f"{name} {counts[name]}" in str(told.value)) == (counts[name] < counts[most])
    with pytest.raises(DataError, match="classes: Tumour is no label"):
        balanced_set(labels, ["Edema", "Tumour"])
    with pytest.raises(DataError, match="two or more"):
        exclusive(labels, ["Edema"])
    with pytest.raises(ValueError, match="per_class: 0"):
        balanced_set(labels, per_class=0)


def test_truth_is_read_or_seen(small_phantom):
    report, scene = (truth_table(small_phantom, truth) for truth in ("report", "scene"))
    for study, labels in zip(small_phantom.studies["study_id"], small_phantom.studies["labels"]):
        for name in OBSERVATIONS:
            value = report.loc[study, name]
            assert labels.get(name) is None and np.isnan(value) or value == labels[name]
    assert [row for row in scene[list(OBSERVATIONS)].astype(int).to_dict("records")] == [
        {n: true_labels(s)[n] for n in OBSERVATIONS} for s in load_truth(small_phantom).scenes
    ]
    excluded, negative = decided(report), decided(report, "negative")
    assert excluded.isna().to_numpy().sum() > negative.isna().to_numpy().sum() == (report == -1).to_numpy().sum() > 0
    assert ((excluded == 1) == (report == 1)).all().all() and (negative[report.isna()].fillna(9) == 0).to_numpy()[
        report.isna().to_numpy()
    ].all()
    with pytest.raises(ValueError, match="truth: 'film'"):
        truth_table(small_phantom, "film")
    with pytest.raises(ValueError, match="blank: 'drop'"):
        decided(report, "drop")
    bare = StudySet(small_phantom.studies, small_phantom.images)
    with pytest.raises(DataError, match="only a phantom has a truth"):
        truth_table(bare, "scene")


def test_a_block_of_ties_adds_its_expectation():
    rng = np.random.default_rng(0)
    for _ in range(20):
        tied = rng.integers(1, 6, 4).astype(float)
        hits = np.array([rng.integers(0, b + 1) for b in tied], float)
        ahead = np.cumsum(tied) - tied
        found = np.cumsum(hits) - hits
        wanted = []
        for b, p, a, r in zip(tied, hits, ahead, found, strict=True):
            places = range(1, int(b) + 1)
            wanted.append(sum(p / b * (r + 1 + (p - 1) * (j - 1) / max(b - 1, 1)) / (a + j) for j in places))
        np.testing.assert_allclose(_block_precision(*(x[None] for x in (tied, hits, ahead, found)))[0], wanted)
