"Zero-shot classification of a split: a model all the way by loops, choices that change what they should, real labels."

import json

import numpy as np
import pytest
from planted import Planted
from sklearn.metrics import accuracy_score, roc_auc_score

from medret_nb.data.files import DataError
from medret_nb.data.sources import from_csv
from medret_nb.methods.clip import CLIP
from medret_nb.methods.medprobclip import MedProbCLIP
from medret_nb.methods.pcmepp import PCMEPP
from medret_nb.probes.classification import ZERO_SHOT_MEASURES, truth_table
from medret_nb.probes.zero_shot import pooled_scores, prompt_table
from medret_nb.probes.zero_shot_runs import ZeroShotResults, evaluate_zero_shot, macro_auroc, zero_shot_cases
from medret_nb.retrieval.embeddings import embed, embed_texts


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
    patient = part.studies.set_index("study_id").loc[films.study_ids, "patient_id"].to_numpy()
    measured = 0
    for name, (yes, no) in prompts.items():
        row, y = rows[name], truth[name].to_numpy()
        assert (row["positive"], row["negative"], row["uncertain"], row["blank"]) == (
            (y == 1).sum(),
            (y == 0).sum(),
            0,
            0,
        )
        if min(len(set(patient[y == value])) for value in (0, 1)) < 3:
            assert "auroc" not in row and row["not_measurable"]
            continue
        measured += 1
        logit = scale * (pooled_scores(films, embed_texts(method, yes)) - pooled_scores(films, embed_texts(method, no)))
        assert row["auroc"]["value"] == pytest.approx(roc_auc_score(y, logit), abs=2e-3)
        assert row["accuracy"]["value"] == pytest.approx(accuracy_score(y, logit >= 0), abs=0.05)
        assert row["mean_probability"] == pytest.approx(np.mean(1 / (1 + np.exp(-logit))), abs=1e-3)
        assert row["auroc"]["few"] and "(too few)" in str(results)  # under thirty patients
        assert set(row) >= {m for m in ZERO_SHOT_MEASURES if not m.endswith("_fitted")}
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
    "cxr-notes: labels of its own names, never absent, so nothing is measurable until blank is called negative."
    studies, method = from_csv(shared_data / "cxr-notes", tmp_path / "set"), CLIP.create().eval()
    style = {"COVID-19": ("COVID-19 pneumonia.", "Normal chest."), "Pneumonia": ("pneumonia", "no pneumonia")}
    strict, filled = (
        evaluate_zero_shot(method, studies, "train", style=style, blank=blank, draws=20, minimum=3, verbose=False)
        for blank in ("exclude", "negative")
    )
    held = studies.split("train").studies.set_index("study_id")["labels"]
    assert all("0 negative patients" in row["not_measurable"] for row in strict.rows[:2])
    assert strict.rows[2]["not_measurable"] == "no finding is"
    assert "blank=negative" in str(strict) and "blank=negative" not in str(filled)
    for row in filled.rows[:2]:
        assert (
            row["positive"] <= sum(labels.get(row["finding"]) == 1 for labels in held)
            and row["positive"] + row["negative"] == filled.report["films"]
        )
        if not row["not_measurable"]:
            assert 0 <= row["auroc"]["low"] <= row["auroc"]["value"] <= row["auroc"]["high"] <= 1
    assert not filled.rows[0]["not_measurable"]
    with pytest.raises(DataError, match="only a phantom has a truth"):
        evaluate_zero_shot(method, studies, "train", truth="scene", style=style)


def test_saving(small_phantom, tmp_path):
    results = evaluate_zero_shot(CLIP.create().eval(), small_phantom, "train", minimum=2, draws=5, verbose=False)
    results.save(tmp_path)
    assert ZeroShotResults.read_report(tmp_path) == json.loads(json.dumps(results.report | {"rows": results.rows}))


def planted_reader(studies, answers):
    "A method whose films lie nearer to a finding's name than to its denial where `answers` (study, finding) is 1."
    pixels = studies.pixels(64)
    names = answers.columns.tolist()
    lowered = {name.lower(): i for i, name in enumerate(names)}
    points = {}
    for image, study in zip(studies.images["image_id"], studies.images["study_id"], strict=True):
        points[pixels.take([image])[0].tobytes()] = 2 * answers.loc[study].to_numpy(float) - 1

    def text(prompt):
        sign = -1 if prompt.startswith("no ") else 1
        place = lowered.get(prompt.removeprefix("no "))
        return np.ones(len(names)) if place is None else sign * np.eye(len(names))[place]  # a report is no prompt

    return Planted(lambda film: points[film.tobytes()], text)


def test_cases_of_planted_models(small_phantom):
    "One that knows every finding, one that always says the opposite, one that answers all alike, and a coin."
    part = small_phantom.split("train")
    truth = truth_table(part, "scene").astype(float)
    areas = {}
    coin = np.random.default_rng(0).integers(0, 2, (12, *truth.shape))
    answers = {"knows": truth, "opposite": 1 - truth, "alike": truth * 0}
    for name, said in answers.items():
        cases = zero_shot_cases(planted_reader(part, said), part, "train", "scene")
        areas[name] = macro_auroc(cases)
        assert cases["case"].is_unique and cases["value"].between(0, 1).all()
    assert areas == {"knows": 1, "opposite": 0, "alike": 0.5}
    tossed = []
    for toss in coin:
        cases = zero_shot_cases(planted_reader(part, truth * 0 + toss), part, "train", "scene")
        tossed.append(macro_auroc(cases))
    assert abs(np.mean(tossed) - 0.5) < 0.06
