"Grounding of a method: partners of another patient, the same numbers as a user's arrays, what is refused."

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from medret_nb.data.files import DataError
from medret_nb.data.studies import StudySet
from medret_nb.methods.clip import CLIP
from medret_nb.methods.pecm import PECM
from medret_nb.methods.rra_vl import RRAVL
from medret_nb.probes import grounding_runs as G
from medret_nb.probes.grounding import (
    PhraseQuestions,
    ask_phrases,
    phrase_maps,
)
from medret_nb.probes.grounding_runs import _partners, evaluate_grounding, grounding_cases
from medret_nb.probes.heat import box_mask
from medret_nb.probes.map_judging import METRICS, judge_maps


def test_the_other_film_is_of_another_patient(small_phantom):
    asked = ask_phrases(small_phantom, small_phantom.pixels(64))
    group, other = asked.table.set_index("image_id")["group"], _partners(asked)
    group = group[~group.index.duplicated()]
    assert (group[asked.table["image_id"]].to_numpy() != group[other].to_numpy()).all() and len(set(other)) > 10
    assert all(len(set(part)) == 1 for _, part in pd.Series(other).groupby(asked.table["image_id"].to_numpy()))
    alone = asked.table["group"] == asked.table["group"][0]
    assert (
        _partners(
            PhraseQuestions(asked.table[alone], [b for b, a in zip(asked.boxes, alone) if a], asked.content[alone])
        )
        is None
    )


def test_methods_all_the_way(small_phantom):
    results = evaluate_grounding(RRAVL.create(), small_phantom, "train", grid=32, batch=16, draws=20, verbose=False)
    assert results.table()["map"].tolist() == [
        "patches",
        "patches, inverted",
        "patches, another film",
        "region-word, own boxes",
        "region-word, own boxes, another film",
        "location, own boxes",
        "location, own boxes, another film",
        "region-word, true boxes",
        "location, true boxes",
        "centre",
        "whole film",
    ]  # train is judged: no mean boxes
    clip = CLIP.create()
    results = evaluate_grounding(clip, small_phantom, "test", grid=32, draws=20, verbose=False)
    assert results.table()["map"].tolist() == [
        "patches",
        "patches, inverted",
        "patches, another film",
        "centre",
        "mean box of the finding",
        "mean box of finding and place",
        "whole film",
    ]
    again = evaluate_grounding(clip, small_phantom, "test", grid=32, batch=5, draws=20, verbose=False)
    for metric in METRICS:
        np.testing.assert_allclose(
            results.table(metric)["value"].astype(float), again.table(metric)["value"].astype(float), atol=1e-4
        )
    report = json.loads(json.dumps({"report": results.report, "rows": results.rows}, allow_nan=False))
    assert report["rows"] == results.rows and report["report"]["thresholds"]["patches"] <= 1
    pixels = small_phantom.pixels(64)  # the same maps as a user's arrays, over the square
    asked, val, train = (ask_phrases(small_phantom.split(name), pixels) for name in ("test", "val", "train"))
    arrays = [
        np.concatenate(
            [
                phrase_maps(clip, pixels.take([i]), [p], np.zeros(1, int))["patches"]
                for i, p in zip(q.table["image_id"], q.table["phrase"])
            ]
        )
        for q in (asked, val)
    ]
    given = judge_maps(arrays[0], asked, train=train, over="square", grid=32, draws=20)
    for metric in ("CNR", "pointing game", "mIoU", "AUPRC"):
        wanted = results.table(metric).query("map != 'patches, another film'")["value"]
        np.testing.assert_allclose(given.table(metric)["value"].astype(float), wanted.astype(float), atol=1e-4)
    other = phrase_maps(clip, pixels.take(_partners(asked)), asked.table["phrase"].tolist(), np.arange(len(asked)))[
        "patches"
    ]
    strange, row = judge_maps(other, asked, over="square", grid=32, draws=20), results.rows[0]
    for metric in ("CNR", "pointing game", "AUPRC"):
        value = results.table(metric).set_index("map")["value"]
        assert strange.table(metric)["value"][0] == pytest.approx(value["patches, another film"], abs=1e-4)
        assert row["beyond another film"][metric]["value"] == pytest.approx(
            value["patches"] - value["patches, another film"], abs=1e-6
        )
    for word in (
        "macro",
        "chance",
        "95 %",
        "fingerprint",
        "ties by expectation",
        "patients resampled",
        "Paired difference to the words alone",
        "another patient's film",
        "in our own words",
        "0.1, 0.2",
        "val",
    ):
        assert word in str(results)
    with pytest.raises(DataError, match="grounding: pecm has no vectors for patches"):
        evaluate_grounding(PECM.create(), small_phantom)
    bare = StudySet(small_phantom.studies, small_phantom.images, None, small_phantom.info, small_phantom.folder)
    with pytest.raises(DataError, match="no finding has a box"):
        evaluate_grounding(clip, bare)


def planted_maps(kind):
    "The stream of a method whose map is its phrase's box, the rest of the film, or noise."

    def stream(asked):
        noise = np.random.default_rng(0).normal(size=(len(asked), 64, 64))
        boxes = np.stack([box_mask(each, 64, 64) for each in asked.boxes]) + 0.05 * noise
        yield np.arange(len(asked)), {"patches": {"knows": boxes, "opposite": -boxes, "chance": noise}[kind]}

    return stream


def test_cases_of_planted_maps(small_phantom, monkeypatch):
    "Known answers of three metrics for a method that knows, one that looks everywhere else, one that looks anywhere."
    method = SimpleNamespace(name="planted", config=SimpleNamespace(size=64), regions=())
    monkeypatch.setattr(G, "phrase_maps", lambda *of: None)
    found = {}
    for kind in ("knows", "opposite", "chance"):
        monkeypatch.setattr(G, "_maps_of", lambda *of, kind=kind: planted_maps(kind))
        for metric in ("pointing game", "CNR", "AUPRC"):
            cases = grounding_cases(method, small_phantom, "train", metric, grid=64)
            assert cases["case"].is_unique and len(cases) > 30
            found[kind, metric] = cases["value"].to_numpy()
    assert (found["knows", "pointing game"] == 1).all() and (found["opposite", "pointing game"] == 0).all()
    assert found["knows", "AUPRC"] == pytest.approx(1, abs=0.05) and found["chance", "AUPRC"].mean() < 0.3
    assert (found["knows", "CNR"] > 0).all() and (found["opposite", "CNR"] < 0).all()
    assert abs(found["chance", "CNR"].mean()) < 0.05 and 0 < found["chance", "pointing game"].mean() < 0.3
    with pytest.raises(DataError, match="has no map 'location'"):
        grounding_cases(method, small_phantom, "train", kind="location")
