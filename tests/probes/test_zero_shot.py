"Zero-shot classification: scikit-learn as judge, ties over all orders, scores by loops, sets by hand, a model all the way."

import itertools
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, average_precision_score, balanced_accuracy_score, f1_score, roc_auc_score

from medret_nb.data.files import DataError
from medret_nb.data.balanced import FIVE, five_by_200
from medret_nb.data.sources import from_csv
from medret_nb.data.studies import StudySet
from medret_nb.methods.clip import CLIP
from medret_nb.methods.medprobclip import MedProbCLIP
from medret_nb.methods.pcmepp import PCMEPP
from medret_nb.phantom.assertions import true_labels
from medret_nb.phantom.truth_tables import load_truth
from medret_nb.probes import zero_shot as Z
from medret_nb.probes.zero_shot import (
    MEASURES,
    OBSERVATIONS,
    STYLES,
    balanced_set,
    blind_guess,
    decided,
    decision_measures,
    evaluate_zero_shot,
    exclusive,
    fit_threshold,
    judge_binary,
    judge_classes,
    patient_weights,
    pooled_scores,
    prompt_table,
    ranking_measures,
    truth_table,
)
from medret_nb.retrieval.points import Embeddings
from medret_nb.retrieval.embeddings import embed, embed_texts

ONCE = lambda n: np.ones((1, n))
TIED = st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=2, max_size=5).filter(
    lambda c: 0 < sum(y for _, y in c) < len(c)
)
FREE = st.lists(
    st.tuples(st.integers(-50, 50), st.booleans()), min_size=2, max_size=60, unique_by=lambda c: c[0]
).filter(lambda c: 0 < sum(y for _, y in c) < len(c))


def split_case(case):
    return np.array([s for s, _ in case], float), np.array([y for _, y in case])


@settings(max_examples=25, deadline=None)
@given(FREE)
def test_scikit_learn_agrees_where_nothing_is_tied(case):
    scores, present = split_case(case)
    found = ranking_measures(scores, present, ONCE(len(scores)))
    assert found["auroc"][0] == pytest.approx(roc_auc_score(present, scores))
    assert found["average_precision"][0] == pytest.approx(average_precision_score(present, scores))
    called = scores >= 0
    measured = decision_measures(called, present, ONCE(len(scores)))
    for name, judge in (("accuracy", accuracy_score), ("balanced_accuracy", balanced_accuracy_score), ("f1", f1_score)):
        assert measured[name][0] == pytest.approx(judge(present, called))


@settings(max_examples=25, deadline=None)
@given(TIED)
def test_ties_are_the_mean_over_all_orders(case):
    scores, present = split_case(case)
    n = len(scores)
    found = ranking_measures(scores, present, ONCE(n))
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
    copied = {**ranking_measures(s, y, ONCE(len(s))), **decision_measures(s >= 2, y, ONCE(len(s)))}
    for name in both:
        assert both[name][0] == pytest.approx(copied[name][0])


@settings(max_examples=60, deadline=None)
@given(FREE)
def test_what_order_alone_decides_survives_any_growing_map(case):
    scores, present = split_case(case)
    found, turned = (ranking_measures(s, present, ONCE(len(s))) for s in (scores, np.exp(scores / 9) - 3))
    assert found["auroc"][0] == pytest.approx(turned["auroc"][0]) and found["average_precision"][0] == pytest.approx(
        turned["average_precision"][0]
    )
    assert ranking_measures(-scores, present, ONCE(len(scores)))["auroc"][0] == pytest.approx(1 - found["auroc"][0])


def test_chance_is_what_blind_answers_reach():
    present, rng = np.arange(40) < 9, np.random.default_rng(0)
    luck = blind_guess(present)
    random = [ranking_measures(rng.normal(size=40), present, ONCE(40)) for _ in range(4000)]
    assert (
        luck["average_precision"] == pytest.approx(np.mean([r["average_precision"][0] for r in random]), abs=0.005)
        and luck["average_precision"] > 9 / 40
    )
    assert luck["auroc"] == pytest.approx(np.mean([r["auroc"][0] for r in random]), abs=0.01)
    coins = [
        decision_measures(rng.random(40) < q, present, ONCE(40)) for q in (0, 0.2, 0.5, 0.8, 1) for _ in range(400)
    ]
    for name in ("accuracy", "balanced_accuracy", "f1"):
        means = np.mean(np.array([c[name][0] for c in coins]).reshape(5, 400), 1)
        assert means.max() == pytest.approx(luck[name], abs=0.02)


def test_patients_are_drawn_whole():
    clusters = np.array(list("aabccc"))
    first, *rest = patient_weights(clusters, 500, seed=1, cells=60)
    weights = np.concatenate(rest)
    assert (first == 1).all() and weights.shape == (500, 6)
    assert (
        (weights[:, 0] == weights[:, 1]).all()
        and (weights[:, 3] == weights[:, 5]).all()
        and (weights[:, [0, 2, 3]].sum(1) == 3).all()
    )
    assert (
        np.ptp(weights[:, 2]) > 0
        and (weights == np.concatenate(list(patient_weights(clusters, 500, seed=1, cells=60))[1:])).all()
    )


def test_the_fitted_threshold_is_the_best_of_all():
    rng = np.random.default_rng(0)
    for n in (3, 12, 200):
        present = rng.random(n) < 0.4
        present[:2] = True, False
        scores = np.round(rng.normal(size=n) + present, 1)
        reached = lambda t: decision_measures(scores >= t, present, ONCE(n))["balanced_accuracy"][0]
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
    assert rows[0]["auroc"]["low"] < 0.75 < rows[0]["auroc"]["high"]
    nothing, none = judge_binary(scores, truth, list("abcde"), [None, None], [True, True], {}, draws=5, minimum=3)
    assert nothing == [{}, {}] and none == {}


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


@pytest.mark.parametrize("similarity", ["cosine", "csd", "mls"])
def test_pooled_scores_are_those_of_a_loop(similarity):
    rng = np.random.default_rng(3)

    def points(n, d=5):
        return Embeddings(
            [f"{n}-{i}" for i in range(n)],
            [str(i) for i in range(n)],
            rng.normal(size=(n, d)),
            None if similarity == "cosine" else rng.normal(size=(n, d)) - 1,
            {"similarity": similarity},
        )

    def score(a, i, b, j):
        x, y = a.mu[i].astype(float), b.mu[j].astype(float)
        if similarity == "cosine":
            return x @ y / np.linalg.norm(x) / np.linalg.norm(y)
        p, q = np.exp(a.logvar[i].astype(float)), np.exp(b.logvar[j].astype(float))
        return (
            -((x - y) ** 2 + p + q).sum()
            if similarity == "csd"
            else -0.5 * ((x - y) ** 2 / (p + q) + np.log(p + q)).sum()
        )

    films, prompts = points(7), points(4)
    each = 3 * np.array([[score(films, i, prompts, j) for j in range(4)] for i in range(7)])
    for pool, wanted in (("score", each.mean(1)), ("max", each.max(1)), ("mixture", np.log(np.exp(each).mean(1)))):
        np.testing.assert_allclose(pooled_scores(films, prompts, pool, 3), wanted, rtol=1e-4, atol=1e-4)
    pooled = pooled_scores(films, prompts, "embedding", 3)
    if similarity == "csd":
        np.testing.assert_allclose(pooled, each.mean(1), rtol=1e-4)  # the mixture's moments say all
    if similarity == "cosine":  # the mean is stretched to length 1
        unit = prompts.mu / np.linalg.norm(prompts.mu, axis=1, keepdims=True)
        np.testing.assert_allclose(pooled * np.linalg.norm(unit.mean(0)), each.mean(1), rtol=1e-4)
    alone = prompts.select([2])
    for pool in Z.POOLS:
        np.testing.assert_allclose(pooled_scores(films, alone, pool, 3), each[:, 2], rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="pool: 'median'"):
        pooled_scores(films, prompts, "median")


def test_every_style_is_whole():
    for style in STYLES:
        table = prompt_table(style)
        assert list(table) == list(OBSERVATIONS) and "No Finding" not in table
        assert all(yes and not set(yes) & set(no) for yes, no in table.values())
        assert all(no for _, no in table.values()) != (style in ("prior", "gloria"))
    assert prompt_table("chexzero")["Edema"] == (["edema"], ["no edema"])
    table = prompt_table("dictated")
    table["Edema"][0].append("x")
    assert "x" not in prompt_table("dictated")["Edema"][0]
    assert prompt_table({"Edema": ("a", [])}) == {"Edema": (["a"], [])}


@pytest.mark.parametrize(
    "given, message",
    [
        ("chexone", "style: 'chexone' is none of chexzero"),
        ({}, "style: must be"),
        (3, "style: must be"),
        ({"Edema": "wet"}, "prompts of Edema: must be a pair"),
        ({"Edema": ("wet",)}, "Edema: must be a pair"),
        ({"Edema": ([], "dry")}, "Edema: there is no positive one"),
        ({"Edema": (["wet", " . "], "dry")}, "Edema, positive: ' . ' is no prompt"),
        ({"Edema": ("wet", 3)}, "Edema, negative: must be a text or a list"),
        ({"Edema": ("wet", ["dry", None])}, "Edema, negative: None is no prompt"),
        ({"Edema": ("wet", "wet")}, "both positive and negative"),
    ],
)
def test_bad_prompts_are_one_line(given, message):
    with pytest.raises(DataError, match=message) as told:
        prompt_table(given)
    assert "\n" not in str(told.value)


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


@pytest.mark.parametrize("kind", [CLIP, PCMEPP, MedProbCLIP])
def test_a_model_all_the_way(small_phantom, kind):
    method = kind.create().eval()
    results = evaluate_zero_shot(
        method, small_phantom, "train", truth="scene", style="dictated", minimum=3, draws=30, verbose=False
    )
    json.dumps([results.report, results.rows], allow_nan=False)
    rows = {row["finding"]: row for row in results.rows if row["task"] == "binary"}
    part, prompts = small_phantom.split("train"), prompt_table("dictated")
    films = embed(method, small_phantom, "train", progress=False)["image"]
    truth, scale = truth_table(part, "scene").loc[films.study_ids], float(films.meta["logit_scale"])
    measured = 0
    for name, (yes, no) in prompts.items():
        row, y = rows[name], truth[name].to_numpy()
        assert (row["positive"], row["negative"], row["uncertain"], row["blank"]) == (
            (y == 1).sum(),
            (y == 0).sum(),
            0,
            0,
        )
        if min(row["positive"], row["negative"]) < 3:
            assert "auroc" not in row and row["not_measurable"]
            continue
        measured += 1
        logit = scale * (pooled_scores(films, embed_texts(method, yes)) - pooled_scores(films, embed_texts(method, no)))
        assert row["auroc"]["value"] == pytest.approx(roc_auc_score(y, logit), abs=2e-3)
        assert row["accuracy"]["value"] == pytest.approx(accuracy_score(y, logit >= 0), abs=0.05)
        assert row["mean_probability"] == pytest.approx(np.mean(1 / (1 + np.exp(-logit))), abs=1e-3)
        assert set(row) >= {m for m in MEASURES if not m.endswith("_fitted")}
    assert measured >= 8 and results.report["films"] + results.report["left_out"] == len(part)
    macro = rows["macro average"]
    assert macro["auroc"]["findings"] == measured and macro["auroc"]["value"] == pytest.approx(
        results.table().iloc[:-1]["value"].mean()
    )
    text = str(results)
    for word in (
        "truth: scene",
        "chance",
        "95 %",
        "fingerprint",
        "not measurable",
        "temperature",
        "patients resampled",
        "threshold",
    ):
        assert word in text
    again = evaluate_zero_shot(
        method, small_phantom, "train", truth="scene", style="dictated", minimum=3, draws=30, verbose=False
    )
    assert again.report == results.report and again.rows == results.rows


def test_choices_change_what_they_should(small_phantom):
    method = CLIP.create().eval()

    def run(**choice):
        return evaluate_zero_shot(
            method, small_phantom, "train", **{"minimum": 2, "draws": 5, "verbose": False, **choice}
        )

    plain, hot = run(), run(temperature=1.0)
    assert (
        plain.table()["value"].equals(hot.table()["value"]) and hot.report["temperature"] == 1
    )  # one pair: the order is the same
    both = zip(plain.rows, hot.rows)
    assert any(
        abs(a["mean_probability"] - 0.5) > 2 * abs(b["mean_probability"] - 0.5)
        for a, b in both
        if a.get("mean_probability")
    )
    mixed = [run(style="ensemble", pool="mixture", temperature=t).table()["value"] for t in (0.01, 1.0)]
    assert not mixed[0].equals(mixed[1])  # a mixture's order depends on it
    more = run(blank="negative")
    assert more.rows[0]["blank"] == 0 and more.rows[0]["negative"] == plain.rows[0]["negative"] + plain.rows[0]["blank"]
    alone = run(style="prior")
    assert (
        "accuracy" not in alone.rows[1]
        and alone.rows[1]["mean_probability"] is None
        and alone.table("auroc")["value"].equals(alone.table("auroc_positive_alone")["value"])
    )
    assert "not fitted" in run(fit_on="train").report["fitted_on"]
    own = run(style={"Edema": ("Edema.", "Dry."), "Pneumothorax": ("Air.", [])})
    assert own.report["style"] == "own" and "no prompts of" in own.report["classes"] and len(own.rows) == 3
    with pytest.raises(DataError, match="prompts of Oedema: no study has a label of that name"):
        run(style={"Oedema": ("wet", "dry")})
    with pytest.raises(ValueError, match="metric: 'roc'"):
        own.table("roc")
    for choice, message in (
        ({"temperature": 0}, "temperature: 0 is"),
        ({"minimum": 0}, "minimum: 0 is"),
        ({"pool": "sum"}, "pool: 'sum'"),
        ({"style": "x"}, "style: 'x'"),
        ({"truth": "x"}, "truth: 'x'"),
    ):
        with pytest.raises(ValueError, match=message):
            run(**choice)
    assert (
        run(style={"No Finding": ("normal chest", "abnormal chest")}, truth="scene").rows[0]["auroc"]["value"]
        is not None
    )


def test_nothing_measurable_is_said_and_is_no_number(small_phantom):
    results = evaluate_zero_shot(CLIP.create().eval(), small_phantom, draws=5, verbose=False)
    table = results.table()
    assert (
        table["value"].isna().all()
        and str(results).count("not measurable") == 14
        and "alone" in results.report["classes"]
    )
    json.dumps([results.report, results.rows], allow_nan=False)


def test_real_labels(shared_data, tmp_path):
    "cxr-notes: labels of its own names, present or blank and never absent, so nothing is measurable until blank is called negative."
    studies, method = from_csv(shared_data / "cxr-notes", tmp_path / "set"), CLIP.create().eval()
    style = {"COVID-19": ("COVID-19 pneumonia.", "Normal chest."), "Pneumonia": ("pneumonia", "no pneumonia")}
    strict, filled = (
        evaluate_zero_shot(method, studies, "train", style=style, blank=blank, draws=20, minimum=3, verbose=False)
        for blank in ("exclude", "negative")
    )
    held = studies.split("train").studies.set_index("study_id")["labels"]
    assert [row["not_measurable"] for row in strict.rows[:2]] == ["0 negative"] * 2 and strict.rows[2][
        "not_measurable"
    ] == "no finding is"
    for row in filled.rows[:2]:
        assert (
            row["positive"] <= sum(labels.get(row["finding"]) == 1 for labels in held)
            and row["positive"] + row["negative"] == filled.report["films"]
        )
        assert 0 <= row["auroc"]["low"] <= row["auroc"]["value"] <= row["auroc"]["high"] <= 1
    with pytest.raises(DataError, match="only a phantom has a truth"):
        evaluate_zero_shot(method, studies, "train", truth="scene", style=style)
