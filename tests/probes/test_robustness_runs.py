"Robustness of a method: the measure against the plain evaluation of spoiled films, what is left out, baselines."

import json
from functools import partial

import numpy as np
import pytest
from planted import Planted, noise_of

from medret_nb.data.files import DataError
from medret_nb.data.reports import section_text
from medret_nb.data.studies import StudySet
from medret_nb.evaluation.results import evaluate
from medret_nb.methods.clip import CLIP
from medret_nb.methods.pcmepp import PCMEPP
from medret_nb.methods.rra_vl import RRAVL
from medret_nb.probes import robustness_runs as R
from medret_nb.probes.corruptions import FAULTS, corrupt
from medret_nb.probes.robustness_results import RobustnessResults
from medret_nb.probes.robustness_runs import corruption_cases, embed_in_parts, evaluate_robustness, retained_of_cases
from medret_nb.probes.spoiler import Spoiler
from medret_nb.retrieval.embeddings import embed, embed_films
from medret_nb.retrieval.points import Embeddings

QUICK = {"draws": 30, "verbose": False}


@pytest.fixture(scope="module")
def clip():
    return CLIP.create().eval()


@pytest.fixture(scope="module")
def blurred(clip, small_phantom):
    return evaluate_robustness(clip, small_phantom, "train", kinds=("blur", "occlusion"), severities=(1, 4), **QUICK)


@pytest.fixture(scope="module")
def strangers(small_phantom):
    "The small phantom as if each of its studies were of a patient of its own."
    told = small_phantom
    studies = told.studies.assign(patient_id=told.studies["study_id"])
    return StudySet(studies, told.images, told.regions, told.info, told.folder)


@pytest.mark.parametrize("protocol", ["exact", "text", "labels-abnormal"])
def test_numbers_are_those_of_the_plain_evaluation(clip, small_phantom, protocol):
    part, kinds = small_phantom.split("train"), ("blur", "lung crop")
    found = evaluate_robustness(
        clip, small_phantom, "train", kinds=kinds, severities=(3,), protocol=protocol, ks=(1, 5), **QUICK
    )
    points, size = embed(clip, part, None, progress=False), clip.config.size
    spoiler = Spoiler(part, points["image"].ids, size)
    for kind in kinds:
        films = corrupt(part.pixels(size).take(points["image"].ids), points["image"].ids, kind, 3, lungs=spoiler.lungs)
        spoiled = embed_films(clip, list(films))
        image = Embeddings(points["image"].ids, points["image"].study_ids, spoiled.mu, None, points["image"].meta)
        judge = evaluate({"image": image, "text": points["text"]}, part, protocol, (1, 5), draws=5, verbose=False)
        clean = evaluate(points, part, protocol, (1, 5), draws=5, verbose=False)
        for row in (row for row in found.rows if row["kind"] == kind):
            for metric in ("R@1", "R@5"):
                told = judge.value(metric, row["direction"])
                assert np.isclose(row[metric]["value"], told["value"]) and np.isclose(
                    row[metric]["chance"], told["chance"]
                )
                assert np.isclose(row[metric]["clean"], clean.value(metric, row["direction"])["value"])
                assert np.isclose(found.report["clean"][row["direction"]][metric]["value"], row[metric]["clean"])


def test_films_come_in_any_parts(clip, small_phantom):
    points = embed(clip, small_phantom.split("train"), None, progress=False)["image"]
    spoiler, at = Spoiler(small_phantom.split("train"), points.ids, clip.config.size), np.array([5, 2, 9, 1])
    noisy = partial(spoiler.films, "quantum noise", 3)
    whole = embed_in_parts(clip, noisy, np.arange(len(points)), points)
    few = embed_in_parts(clip, noisy, at, points, part=3)
    np.testing.assert_allclose(few.mu, whole.mu[at], atol=1e-5)
    assert few.ids.tolist() == points.ids[at].tolist()


def test_results_say_everything(blurred, clip, small_phantom):
    assert json.loads(json.dumps([blurred.report, blurred.rows], allow_nan=False)) == [blurred.report, blurred.rows]
    assert len(blurred.rows) == 2 * 2 * 2 and {row["training"] for row in blurred.rows} == {"new"}
    for word in (
        "chance",
        "95 %",
        "patients resampled",
        "fingerprint",
        "ties",
        "protocol exact",
        "films spoiled",
        "identical other",
        "image-to-text, clean",
        "all ",
    ):
        assert word in str(blurred)
    table = blurred.table("R@1")
    assert (
        table["value"].between(0, 1).all()
        and table["low"].isna().all()  # under thirty patients
        and set(table["direction"]) == {"image-to-text", "text-to-image"}
    )
    assert set(blurred.summary()["kind"]) == {"blur", "occlusion", "all"}
    with pytest.raises(ValueError, match="metric"):
        blurred.table("R@7")
    again = evaluate_robustness(clip, small_phantom, "train", kinds=("blur", "occlusion"), severities=(4, 1), **QUICK)
    assert (again.report, again.rows) == (blurred.report, blurred.rows)


def test_left_out_is_said(clip, small_phantom):
    rows, images = small_phantom.regions, small_phantom.images
    shown = embed(clip, small_phantom.split("train"), None, progress=False)["image"].ids
    front = list(shown[:7])
    fewer = StudySet(
        small_phantom.studies,
        images,
        rows[~(rows["image_id"].isin(front) & (rows["region"] == "left lung"))],
        small_phantom.info,
        small_phantom.folder,
    )
    found = evaluate_robustness(clip, fewer, "train", kinds=("lung crop", "supine AP"), severities=(1, 2), **QUICK)
    lost = len(found.hits["lung crop", "image-to-text"])
    assert (
        lost == found.report["films"] - 7
        and "7 films (no box of both lungs)" in found.report["fewer"]["lung crop"]
        and "severity 2" in found.report["fewer"]["supine AP"]
    )
    assert all(
        row["gallery"] == row["queries"] == lost for row in found.rows if row["kind"] == "lung crop"
    ) and "no box of both lungs" in str(found)
    bare = StudySet(
        small_phantom.studies, images.assign(path=small_phantom.image_paths()).astype({"path": str}), None, {}, None
    )
    found = evaluate_robustness(clip, bare, "train", kinds=("blur", "lung crop", "dose"), severities=(1,), **QUICK)
    assert (
        set(found.report["left_out"]) == {"lung crop", "dose"}
        and found.report["kinds"] == ["blur"]
        and "dose: not measured" in str(found)
    )
    with pytest.raises(DataError, match="only a phantom"):
        evaluate_robustness(clip, bare, "train", kinds=("dose",), **QUICK)


def test_faults_are_taken_again(clip, small_phantom):
    found = evaluate_robustness(clip, small_phantom, "train", kinds=("dose", "supine AP"), severities=(1, 5), **QUICK)
    dose = [row for row in found.rows if row["kind"] == "dose" and row["direction"] == "image-to-text"]
    steps = FAULTS["dose"].steps
    assert found.report["redrawn"] == 0
    for row in dose:
        np.testing.assert_allclose(row["dprime"], row["dprime_clean"] * np.sqrt(steps[row["severity"] - 1]), rtol=1e-3)
    assert [row["severity"] for row in found.rows if row["kind"] == "supine AP"] == [1, 1]


def test_baseline(clip, small_phantom, blurred):
    kinds = {"kinds": ("blur", "occlusion"), "severities": (1, 4)}
    itself = evaluate_robustness(clip, small_phantom, "train", **kinds, baseline=blurred, **QUICK)
    assert (itself.summary()["error"] == 1).all() and itself.summary()["error_low"].isna().all()  # nothing differs
    assert itself.report["baseline"] == "clip"
    read = RobustnessResults(*json.loads(json.dumps([blurred.report, blurred.rows])))  # from a file: no hits
    other = evaluate_robustness(PCMEPP.create().eval(), small_phantom, "train", **kinds, baseline=read, **QUICK)
    for direction, lines in other.report["summary"].items():
        for kind in kinds["kinds"]:
            mine, theirs = (
                [row["R@10"]["value"] for row in r.rows if row["kind"] == kind and row["direction"] == direction]
                for r in (other, blurred)
            )
            assert (
                np.isclose(
                    lines[kind]["R@10"]["corruption_error"]["value"],
                    sum(1 - x for x in mine) / sum(1 - x for x in theirs),
                )
                and lines[kind]["R@10"]["corruption_error"]["low"] is None
            )
        assert np.isclose(
            lines["all"]["R@10"]["corruption_error"]["value"],
            np.mean([lines[k]["R@10"]["corruption_error"]["value"] for k in kinds["kinds"]]),
        )
    for changed in ({"severities": (1, 3)}, {"protocol": "text"}, {"seed": 3}):
        with pytest.raises(DataError, match=f"baseline: its {next(iter(changed))}"):
            evaluate_robustness(clip, small_phantom, "train", **kinds | changed, baseline=blurred, **QUICK)
    with pytest.raises(DataError, match="baseline: has no results for gamma"):
        evaluate_robustness(
            clip, small_phantom, "train", kinds=("gamma",), severities=(1, 4), baseline=blurred, **QUICK
        )


def test_clouds_and_regions(small_phantom, strangers):
    found = evaluate_robustness(
        PCMEPP.create().eval(), strangers, "train", kinds=("blur",), severities=(1, 3, 5), **QUICK
    )
    told = found.report["uncertainty"]["blur"]
    assert (
        -1 <= told["low"] <= told["value"] <= told["high"] <= 1
        and "log-variances" in str(found)
        and all(np.isfinite(row["sum_logvar"]) for row in found.rows)
    )
    assert "hiding parts of films" in found.report["training"]  # PCME++ lays pieces of other films over them
    regions = evaluate_robustness(
        RRAVL.create().eval(), small_phantom, "train", kinds=("translation",), severities=(2,), **QUICK
    )
    assert regions.report["uncertainty"] == {} and regions.report["kinds"] == ["translation"]


def test_all_together_is_the_mean_of_the_kinds(strangers, clip, monkeypatch):
    def known(films, texts, related, ks):
        return {d: (np.ones((len(films), 2)) * [0.5, 1.0], np.full((len(films), 2), 0.1)) for d in R.DIRECTIONS}

    monkeypatch.setattr(R, "_hits", known)
    found = evaluate_robustness(clip, strangers, "train", kinds=("blur", "jpeg"), severities=(1, 2), **QUICK)
    assert all(
        row["R@1"]["value"] == 0.5 and row["R@1"]["retained"] == row["R@10"]["retained"] == 1 for row in found.rows
    )
    assert (found.summary()["retained"] == 1).all()
    assert all(line["R@1"]["retained"]["few"] for lines in found.report["summary"].values() for line in lines.values())
    assert "(too few)" in str(found) and "not in it: other draws of the corruptions" in str(found)


def test_a_baseline_and_what_is_retained_have_intervals(strangers, clip, monkeypatch):
    rng = np.random.default_rng(0)
    asked = []

    def known(films, texts, related, ks):
        asked.append(rng.random((2, len(films), 2)) < (0.4 if asked else 0.9))
        return {d: (hits * 1.0, np.full(hits.shape, 0.1)) for d, hits in zip(R.DIRECTIONS, asked[-1], strict=True)}

    monkeypatch.setattr(R, "_hits", known)
    kinds = {"kinds": ("blur", "jpeg"), "severities": (1, 2)}
    first = evaluate_robustness(clip, strangers, "train", **kinds, **QUICK)
    asked.clear()
    second = evaluate_robustness(clip, strangers, "train", **kinds, baseline=first, **QUICK)
    for line in second.report["summary"]["image-to-text"].values():
        for name in ("retained", "corruption_error"):
            told = line["R@1"][name]
            assert told["low"] < told["value"] < told["high"]
            assert np.isclose(told["value"] - told["low"], told["high"] - told["value"])  # Student's, not percentiles
    same = evaluate_robustness(CLIP.create().eval(), strangers, "train", **kinds, baseline=second, **QUICK)
    assert same.report["summary"]["image-to-text"]["all"]["R@1"]["corruption_error"]["low"] is not None


def test_arguments(clip, small_phantom):
    for changed, word in (
        ({"kinds": ("snow",)}, "kinds"),
        ({"kinds": ()}, "kinds"),
        ({"kinds": "blur"}, "kinds"),
        ({"severities": (0,)}, "severities"),
        ({"severities": ()}, "severities"),
        ({"protocol": "graded"}, "protocol"),
        ({"draws": 0}, "draws"),
        ({"seed": -1}, "seed"),
    ):
        with pytest.raises(ValueError, match=word):
            evaluate_robustness(clip, small_phantom, "train", **{"verbose": False, **changed})
    with pytest.raises(DataError, match="attic"):
        evaluate_robustness(clip, small_phantom, "attic", **QUICK)


def recognises(studies, sign):
    "A method that knows clean films; a spoiled one is taken for the clean film that it is most like, times `sign`."
    pixels = studies.pixels(64)
    texts = dict(zip(studies.studies["study_id"], section_text(studies, "findings"), strict=True))
    clean = pixels.take(studies.images["image_id"]).reshape(len(studies.images), -1).astype(float)
    clean = (clean - clean.mean(1, keepdims=True)) / clean.std(1, keepdims=True)
    points = [noise_of(texts[study]) for study in studies.images["study_id"]]

    def film(seen):
        flat = seen.ravel().astype(float)
        likeness = clean @ ((flat - flat.mean()) / flat.std()) / len(flat)
        best = int(likeness.argmax())
        if likeness[best] > 1 - 1e-9:
            return points[best]
        return noise_of(seen) if sign == 0 else sign * points[best]

    return Planted(film, noise_of)


def test_cases_of_planted_models(strangers):
    "What no blur confuses keeps all, what answers by chance then keeps nothing, the opposite less than nothing."
    kept = {}
    for name, sign in (("knows", 1), ("chance", 0), ("opposite", -1)):
        cases = corruption_cases(recognises(strangers, sign), strangers, "train", ("blur",), (1, 2, 3), k=3)
        assert cases["clean"].mean() > 0.9 and cases["case"].is_unique
        kept[name] = retained_of_cases(cases)
        values = cases["value"].mean(), cases["control"].mean()
        if name == "opposite":
            assert values[0] < values[1] / 2
    assert kept["knows"] == pytest.approx(1) and abs(kept["chance"]) < 0.1 and kept["opposite"] < 0
