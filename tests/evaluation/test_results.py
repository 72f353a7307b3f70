"""evaluate: numbers, references, files, refusals and paired comparison."""

import json
import os
import signal
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from fifty import N, world

from medret_nb.data.files import DataError, read_json, read_parquet
from medret_nb.data.studies import StudySet
from medret_nb.evaluation import intervals, ranking
from medret_nb.evaluation.results import Results, evaluate, result_fingerprint
from medret_nb.retrieval.points import Embeddings


def cosine(a, b):
    unit = [e.mu / np.linalg.norm(e.mu.astype(float), axis=1, keepdims=True) for e in (a, b)]
    return np.round(unit[0] @ unit[1].T, 6)  # rounded: identical texts must tie


def quiet(image, text, *args, **kwargs):
    points = {"image": image, "text": text}
    return evaluate(points, *args, **{"draws": 200, "verbose": False, "ks": (1, 5, 10), **kwargs})


def test_numbers_of_exact_equal_the_ranking_module_and_the_bootstrap():
    studies, film, text = world()
    results, scores, own = quiet(film, text, studies), cosine(film, text), np.eye(N, dtype=bool)
    for direction, s in (("image-to-text", scores), ("text-to-image", scores.T)):
        for k in (1, 5, 10):
            number = results.value(f"R@{k}", direction)
            assert number["value"] == pytest.approx(ranking.recall_at_k(s, own, k), abs=1e-6)
            assert number["chance"] == pytest.approx(k / N) and number["low"] <= number["value"] <= number["high"]
        assert results.value("median rank", direction)["value"] == pytest.approx(ranking.median_rank(s, own), abs=1e-6)
        assert results.value("median rank", direction)["chance"] == (N + 1) / 2
    hits = ranking.recall_at_k(scores, own, 10, per_query=True)
    plain = intervals.bootstrap_interval(hits, studies.studies["patient_id"], n=4000)
    number = quiet(film, text, studies, draws=4000).value("R@10")
    assert (number["low"], number["high"]) == pytest.approx(plain, abs=0.02)
    total = results.value("RSUM@1,5,10")
    assert total["value"] == pytest.approx(
        100 * sum(results.value(f"R@{k}", d)["value"] for k in (1, 5, 10) for d in ("image-to-text", "text-to-image"))
    )
    assert total["low"] < total["value"] < total["high"] and total["chance"] == pytest.approx(200 * 16 / N)


def test_a_reader_that_is_perfect_reaches_the_ceiling():
    studies, film, text = world(noise=0)
    report = quiet(film, text, studies).report
    for k in (1, 5, 10):
        assert report["directions"]["image-to-text"]["metrics"][f"R@{k}"]["value"] == pytest.approx(
            report["duplicate_ceiling"][str(k)]
        )
    assert quiet(film, text, studies, "text").value("mAP@R")["value"] == pytest.approx(1)
    groups = np.unique(studies.studies["findings"], return_inverse=True)[1]
    assert report["duplicate_share"] == pytest.approx((np.bincount(groups)[groups] > 1).mean())
    assert (
        report["distinct_texts"] == len(set(groups)) and report["distinct_label_sets"] == 3 and report["patients"] == 40
    )


def test_a_constant_model_is_at_chance_under_every_protocol():
    studies, film, text = world()
    film.mu[:], text.mu[:] = 1, 1
    for protocol in ("exact", "text", "labels", "labels-abnormal", "graded"):
        for row in (
            quiet(film, text, studies, protocol)
            .table()
            .query("scorer == 'model' and metric != 'median rank'")
            .to_dict("records")
        ):
            assert row["value"] == pytest.approx(row["chance"]), (protocol, row["metric"])


def test_every_row_of_the_table_says_what_it_must():
    studies, film, text = world()
    table = quiet(film, text, studies, "text", oracles={"labels seen": "labels"}).table()
    for name in ("protocol", "split", "queries", "gallery", "chance", "duplicate_share", "ties", "low", "high"):
        if name in ("low", "high"):  # a reference without five hits has too few for an interval
            assert table.loc[table["value"] * table["queries"] >= 5, name].notna().all(), name
            continue
        assert table[name].notna().all(), name
    assert set(table["scorer"]) == {"model", "labels seen", "random, identical texts alike"}


def test_the_print_says_it_too(capsys):
    studies, film, text = world()
    evaluate({"image": film, "text": text}, studies, draws=100)
    printed = capsys.readouterr().out
    for words in (
        "protocol exact",
        "50 queries, gallery of 50",
        "have an identical other",
        "random orders of tied",
        "patients drawn as clusters",
        "chance",
        "ceiling",
        "R@10",
        "median rank",
        "RSUM@1,5,10",
        "K = 100 left out: the gallery holds 50",
        "fingerprint: data",
    ):
        assert words in printed, words


def test_oracles_and_fits():
    studies, film, text = world()
    fits = np.eye(N, dtype=bool)
    fits[0] = True  # report 0 fits every scene
    seen = quiet(film, text, studies, "fits-open", fits=fits, oracles={"sees all": fits})
    assert seen.report["references"]["sees all"]["image-to-text"]["R@1"]["value"] == 1
    forward, backward = (seen.queries.query(f"direction == '{d}'") for d in ("image-to-text", "text-to-image"))
    assert forward["relevant"].tolist() == [1] + [2] * (N - 1) and backward["relevant"].tolist() == [N] + [1] * (N - 1)
    own = quiet(film, text, studies, "exact", oracles={"sees the labels": "labels"}).report["references"][
        "sees the labels"
    ]["image-to-text"]
    sets = [tuple(sorted(k for k, v in labels.items() if v == 1)) for labels in studies.studies["labels"]]
    assert own["R@1"]["value"] == pytest.approx(np.mean([1 / sets.count(s) for s in sets]))


def test_queries_whose_report_is_missing_are_excluded_and_counted():
    studies, film, text = world(keep_texts=slice(0, 45))
    results = quiet(film, text, studies)
    part = results.report["directions"]
    assert (part["image-to-text"]["queries"], part["image-to-text"]["excluded"], part["image-to-text"]["gallery"]) == (
        45,
        5,
        45,
    )
    assert (part["text-to-image"]["queries"], part["text-to-image"]["gallery"]) == (45, 50)
    scores = cosine(film, text)
    assert results.value("R@5")["value"] == pytest.approx(
        ranking.recall_at_k(scores[:45], np.eye(45, dtype=bool), 5), abs=1e-6
    )


def test_several_films_of_a_study():
    studies, film, text = world()
    both = Embeddings(
        ids=np.array([f"f{i}" for i in range(2 * N)]),
        study_ids=np.tile(film.study_ids, 2),
        mu=np.vstack([film.mu, -film.mu]),
        logvar=None,
        meta=film.meta,
    )
    results = quiet(both, text, studies)
    assert results.report["unit"].startswith("every image")
    assert results.queries.query("direction == 'text-to-image'")["relevant"].eq(2).all()
    assert "mAP@R" in results.report["directions"]["text-to-image"]["metrics"]


def test_files_can_be_read_again(tmp_path):
    studies, film, text = world()
    results = quiet(film, text, studies, "text", out=tmp_path, top=7)
    folder = tmp_path / "test" / "text"
    assert sorted(p.name for p in folder.iterdir()) == ["metrics.json", "queries.parquet", "rankings.parquet"]
    again = Results.load(folder)
    written = json.loads((folder / "metrics.json").read_text())
    assert set(written.pop("files")) == {"queries.parquet", "rankings.parquet"}
    assert again.report == results.report == written
    pd.testing.assert_frame_equal(again.queries, results.queries)
    pd.testing.assert_frame_equal(again.rankings.astype(str), results.rankings.astype(str))
    assert len(again.rankings) == 2 * N * 7 and str(again) == str(results)
    (folder / "queries.parquet").unlink()
    with pytest.raises(DataError, match="queries.parquet"):
        Results.load(folder)


def test_same_input_same_numbers_and_fingerprint():
    studies, film, text = world()
    first, second = (quiet(film, text, studies, seed=3) for _ in range(2))
    assert first.report == second.report
    assert {"data", "embeddings", "settings", "code", "seed", "versions"} <= set(first.report["fingerprint"])
    film.mu[0, 0] += 1e-3
    assert (
        quiet(film, text, studies, seed=3).report["fingerprint"]["embeddings"]
        != first.report["fingerprint"]["embeddings"]
    )


def test_files_hold_no_text_of_a_report(tmp_path):
    studies, film, text = world()
    quiet(film, text, studies, "text", out=tmp_path)
    everything = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    assert b"Effusion 7" not in everything and b"Normal." not in everything


def test_the_component_of_patients_and_groups_is_kept(tmp_path):
    studies, film, text = world()
    joined = studies.studies.assign(group_id=[f"g{i // 2}" if i < 20 else "" for i in range(N)])
    linked = StudySet(joined, studies.images)
    results = quiet(film, text, linked, "text", out=tmp_path)
    forward = Results.load(tmp_path / "test" / "text").queries.query("direction == 'image-to-text'")
    component = {}
    for row in forward.itertuples():
        component.setdefault(row.group_id, set()).add(row.patient_id)
    assert max(map(len, component.values())) >= 2, "patients that share a group are one"
    named = forward["query"].map(dict(zip(film.ids, joined["group_id"])))
    for _, part in forward.groupby(named[named != ""]):
        assert part["group_id"].nunique() == 1
    assert results.report["patients"] == forward["group_id"].nunique() < 40


def test_bad_input_is_named():
    studies, film, text = world()
    for arguments, words in (
        ((film, text, studies, "fist"), "'fist' is none of"),
        ((film, text, studies, "fits"), "phantoms only"),
        (
            (film, text, studies.select(film.study_ids[:9])),
            "image embeddings: 41 of 50 belong to studies that are not in the data",
        ),
    ):
        with pytest.raises(DataError, match=words):
            quiet(*arguments)
    for ks in ((), (0, 5), (-1,)):
        with pytest.raises(DataError, match="ks:"):
            quiet(film, text, studies, ks=ks)


def test_oracles_on_the_phantom(small_phantom):
    from medret_nb.phantom.truth_tables import load_truth

    truth, ids = load_truth(small_phantom), small_phantom.studies["study_id"].to_numpy()
    rng = np.random.default_rng(0)
    film, text = (
        Embeddings(
            ids=ids,
            study_ids=ids,
            mu=rng.normal(size=(len(ids), 4)),
            logvar=None,
            meta={"similarity": "cosine", "modality": m, "split": "all"},
        )
        for m in ("image", "text")
    )
    for reading in ("open", "closed"):
        fits = truth.fits(reading)
        results = quiet(
            film, text, small_phantom, f"fits-{reading}", fits=fits, oracles={"labels": "labels", "scene": fits}
        )
        for direction, part in results.report["directions"].items():
            relevant = (
                fits.T if direction == "image-to-text" else fits
            )  # observers err, so some films have no fitting report
            assert part["excluded"] == (~relevant.any(1)).sum()
            assert part["metrics"]["R@5"]["chance"] == pytest.approx(
                ranking.recall_at_k(np.zeros_like(fits), relevant, 5)
            )
            assert results.report["references"]["scene"][direction]["R@1"]["value"] == 1
            assert results.report["references"]["scene"][direction]["mAP@R"]["value"] == pytest.approx(1)
            assert (
                part["metrics"]["R@5"]["chance"]
                < results.report["references"]["labels"][direction]["R@5"]["value"]
                <= 1
            )


def small_results(value):
    "A result of which every number is `value`."
    queries = pd.DataFrame(
        {"query": ["q"] * 3, "study_id": "s", "patient_id": "p", "group_id": "p", "direction": "image-to-text"}
    )
    queries = queries.assign(relevant=1, hit_1=float(value), chance_1=0.1)
    rankings = pd.DataFrame({"query": ["q"], "direction": "image-to-text", "candidate": "c", "score": float(value)})
    return Results({"protocol": "exact", "value": value}, queries, rankings)


def values_in(folder):
    "What the three files in a folder say."
    report = Results.read_report(folder)
    queries, rankings = (read_parquet(folder / f"{name}.parquet") for name in ("queries", "rankings"))
    return {report["value"], queries["hit_1"][0], rankings["score"][0]}


def save_until(moment, folder):
    "In a process of its own: write over the results in `folder`, killed before or after one of the renames."
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    rename, which, done = os.replace, divmod(moment, 2), 0

    def counted(*names, **more):
        nonlocal done
        if which == (done, 0):
            os.kill(os.getpid(), signal.SIGKILL)
        rename(*names, **more)
        if which == (done, 1):
            os.kill(os.getpid(), signal.SIGKILL)
        done += 1

    os.replace = counted
    try:
        small_results(2).save(folder)
    finally:
        os._exit(0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that can be forked and killed")
def test_results_are_replaced_as_a_whole_at_whatever_rename_a_process_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(Results, "schema", SimpleNamespace(read=read_json), raising=False)
    seen = set()
    for moment in range(12):
        folder = tmp_path / str(moment)
        small_results(1).save(folder)
        save_until(moment, folder)
        found = values_in(folder)
        assert found in ({1}, {2}), f"a mix after a kill at {moment}"
        seen |= found
        assert not [path.name for path in folder.iterdir() if path.name == ".together.json"]
    assert seen == {1, 2}


@pytest.mark.parametrize("name", ["queries.parquet", "rankings.parquet"])
def test_files_of_two_evaluations_are_refused(tmp_path, name, monkeypatch):
    monkeypatch.setattr(Results, "schema", SimpleNamespace(read=read_json), raising=False)
    small_results(1).save(tmp_path / "a")
    small_results(2).save(tmp_path / "b")
    (tmp_path / "a" / name).write_bytes((tmp_path / "b" / name).read_bytes())
    with pytest.raises(DataError, match=f"{name}: damaged, or not written with the files beside it"):
        Results.read_report(tmp_path / "a")


def test_the_fingerprint_sees_everything_that_scores_depend_on():
    studies, film, text = world()
    one = Embeddings(film.ids, film.study_ids, film.mu, np.zeros_like(film.mu), film.meta)

    def fingerprint(image, **settings):
        return result_fingerprint(image, text, studies, settings, 0)["embeddings"]

    known = {fingerprint(one)}
    for change in (
        dict(mu=film.mu + 1),
        dict(logvar=np.ones_like(film.mu)),
        dict(logvar=None),
        dict(ids=film.ids[::-1]),
        dict(study_ids=film.study_ids[::-1]),
        dict(meta=film.meta | {"logit_scale": 5.0}),
        dict(meta=film.meta | {"shift": -1.0}),
        dict(meta=film.meta | {"similarity": "csd"}),
        dict(meta=film.meta | {"policy": "both"}),
        dict(local={"patches": np.zeros((N, 2, 3), np.float32)}),
    ):
        known.add(fingerprint(replace(one, **change)))
    assert len(known) == 11
    assert fingerprint(one) == fingerprint(replace(one))
