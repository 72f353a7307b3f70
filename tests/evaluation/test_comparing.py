"""Paired comparison of results: by query, over components of patients, over several trainings."""

import numpy as np
import pandas as pd
import pytest
from fifty import N, world

from medret_nb.data.files import DataError
from medret_nb.evaluation.comparing import compare_results, difference_of
from medret_nb.evaluation.intervals import bootstrap_interval, holm, paired_bootstrap
from medret_nb.evaluation.results import Results, evaluate
from medret_nb.evaluation.seeds import combined_luck
from medret_nb.evaluation.summaries import query_clusters
from medret_nb.retrieval.points import Embeddings


def quiet(image, text, *args, **kwargs):
    points = {"image": image, "text": text}
    return evaluate(points, *args, **{"draws": 200, "verbose": False, "ks": (1, 5, 10), **kwargs})


def test_compare_pairs_by_query():
    studies, film, text = world(noise=1.5)
    _, better, _ = world(noise=0.5)
    first, second = quiet(film, text, studies), quiet(better, text, studies)
    order = np.random.default_rng(0).permutation(N)
    shuffled = Embeddings(
        ids=better.ids[order], study_ids=better.study_ids[order], mu=better.mu[order], logvar=None, meta=better.meta
    )
    table = compare_results(first, quiet(shuffled, text, studies))
    row = table.query("direction == 'image-to-text' and metric == 'R@5'").iloc[0]
    assert row["difference"] == pytest.approx(second.value("R@5")["value"] - first.value("R@5")["value"])
    assert row["low"] > 0 and row["p"] <= row["p_holm"] <= 1 and len(table) == 6
    assert compare_results(first, first)["p_holm"].eq(1).all()


def test_what_cannot_be_paired_is_refused():
    studies, film, text = world()
    whole, part = quiet(film, text, studies), quiet(film, *world(keep_texts=slice(0, 45))[::-1][:1], studies)
    for second, words in ((quiet(film, text, studies, "text"), "protocol differs"), (part, "queries or the gallery")):
        with pytest.raises(DataError, match=words):
            compare_results(whole, second)


def linked_results(hits, patients, groups):
    """Results of one direction whose queries belong to components of patients and groups."""
    names = [f"q{i:03d}" for i in range(len(hits))]
    queries = pd.DataFrame({"query": names, "study_id": names, "patient_id": patients, "group_id": groups})
    queries = queries.assign(direction="image-to-text", relevant=1, hit_10=np.asarray(hits, float), chance_10=0.1)
    report = {"protocol": "exact", "protocol_notes": {}, "split": "test", "policy": "findings"}
    return Results(report | {"directions": {"image-to-text": {"gallery": 100}}}, queries, pd.DataFrame())


def test_linked_patients_are_drawn_together_everywhere():
    """Four patients to a component, alike in what they answer: all intervals are twice as wide as over patients."""
    rng = np.random.default_rng(3)
    easy = np.repeat(rng.random(60) < 0.5, 4)
    better = np.repeat(rng.random(60) < 0.75, 4)
    patients = np.array([f"p{i:03d}" for i in range(240)])
    groups = np.repeat([f"p{4 * i:03d}" for i in range(60)], 4)
    tables = [linked_results(hits, patients, groups) for hits in (easy, better)]
    found = compare_results(*tables, draws=4000).iloc[0]
    alone = paired_bootstrap(easy.astype(float), better.astype(float), patients, 4000)
    assert (found["high"] - found["low"]) / (alone.high - alone.low) == pytest.approx(2, rel=0.1)
    assert found["p"] > 5 * alone.p
    value = bootstrap_interval(easy.astype(float), query_clusters(tables[0].queries))
    assert np.ptp(value) / np.ptp(bootstrap_interval(easy.astype(float), patients)) == pytest.approx(2, rel=0.1)


def test_queries_of_an_older_version_are_refused():
    old = pd.DataFrame({"query": ["a"], "patient_id": ["p"]})
    with pytest.raises(DataError, match="group_id is missing.*evaluate it again"):
        query_clusters(old)


def test_several_trainings_enter_one_interval():
    rng = np.random.default_rng(4)
    hits = rng.random((2, 3, 400)) < np.array([[[0.3], [0.3], [0.3]], [[0.35], [0.45], [0.4]]])
    names = [f"p{i}" for i in range(400)]
    first, second = ([linked_results(row, names, names) for row in arm] for arm in hits)
    row = compare_results(first, second).iloc[0]
    means = hits.astype(float).mean(1)
    pair = paired_bootstrap(means[0], means[1])
    by_seed = [b.mean() - a.mean() for a, b in zip(hits[0].astype(float), hits[1].astype(float))]
    judge = combined_luck(pair.value, pair.low, pair.high, 400, by_seed)
    assert (row["both_low"], row["both_high"]) == pytest.approx((judge.low, judge.high), abs=0.004)
    assert (row["p"] < 0.05) == (row["both_low"] > 0)
    assert row["seeds"] == 3 and row["both_high"] - row["both_low"] > row["high"] - row["low"]
    alone = compare_results(first[0], second[0]).iloc[0]
    assert np.isnan(alone["both_low"]) and alone["seeds"] == 1 and "1 rows" in alone["family"]
    with pytest.raises(DataError, match="3 and 1 trainings"):
        compare_results(first, second[0])


def test_all_rows_of_a_comparison_are_one_family():
    studies, film, text = world(noise=1.5)
    table = compare_results(quiet(film, text, studies), quiet(world(noise=0.8)[1], text, studies))
    assert table["p_holm"].to_numpy() == pytest.approx(holm(table["p"])) and f"{len(table)} rows" in table["family"][0]


def test_discordant_queries_are_counted_for_one_training():
    first = np.zeros((2, 40))
    second = np.repeat([[1.0, 0, 0, 0], [1.0, 1, 0, 0]], 10, axis=1)
    assert difference_of(first, second, np.arange(40), 50)["discordant"] == (10 + 20) / 2
