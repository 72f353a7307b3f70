"Falsified reports of a split: readers whose knowledge is known, a model all the way, saving."

import json

import numpy as np
import pytest

from medret_nb.data.files import DataError
from medret_nb.data.reports import section_text
from medret_nb.data.studies import StudySet, choose_image
from medret_nb.evaluation.intervals import bootstrap_interval, paired_bootstrap
from medret_nb.methods.clip import CLIP
from medret_nb.probes import falsified_runs as F
from medret_nb.probes.falsified import (
    falsifications,
    preferences,
)
from medret_nb.probes.falsified_runs import FalsifiedResults, evaluate_falsified
from medret_nb.retrieval.embeddings import embed_films, embed_texts
from medret_nb.retrieval.scoring import score_matrix


@pytest.mark.parametrize(
    "scores, false, twin", [((2, 1, 2), 1.0, 0.5), ((2, 2, 2), 0.5, 0.5), ((2, 1, 1), 1.0, 1.0), ((1, 2, 1), 0.0, 0.5)]
)
def test_readers_whose_knowledge_is_known(small_phantom, monkeypatch, scores, false, twin):
    monkeypatch.setattr(
        F, "_scored", lambda method, studies, ids, found, part=512: (np.tile(np.array(scores, float), (len(ids), 1)), 0)
    )
    results = evaluate_falsified(CLIP.create().eval(), small_phantom, "train", draws=20, verbose=False)
    for row in results.rows:
        assert (row["false"]["value"], row["twin"]["value"], row["difference"]["value"]) == (false, twin, false - twin)
        assert row["false"]["few"] and row["difference"]["few"] and row["false"]["low"] is None  # 18 patients
        assert row["films"] + sum(row["left_out"].values()) == len(small_phantom.split("train"))
    assert "(too few)" in str(results)
    assert json.loads(json.dumps([results.report, results.rows], allow_nan=False))[1] == results.rows


def test_rates_have_the_forms_of_shares_and_paired_differences():
    rng = np.random.default_rng(0)
    won = (rng.random((80, 2)) < [0.8, 0.5]).astype(float)
    patients = rng.integers(0, 50, 80)
    numbers = F._rates(won, patients, 300, 5)
    for i, name in enumerate(("false", "twin")):
        low, high = bootstrap_interval(won[:, i], patients, 300, 5)
        assert numbers[name] == {"value": won[:, i].mean(), "low": low, "high": high, "chance": 0.5}
    beyond = paired_bootstrap(won[:, 1], won[:, 0], patients, 300, 5)
    assert numbers["difference"] == {"value": beyond.value, "low": beyond.low, "high": beyond.high, "chance": 0.0}
    never = F._rates(np.tile([1.0, 0.5], (80, 1)), np.arange(80), 300, 5)["false"]
    assert never["high"] > 0.99 and 0.9 < never["low"] < 1  # [1, 1] before


def test_a_model_all_the_way(small_phantom):
    method = CLIP.create().eval()
    results = evaluate_falsified(method, small_phantom, "train", draws=50, verbose=False)
    pairs, first = results.pairs, results.pairs.iloc[0]
    part = small_phantom.split("train")
    text = dict(zip(part.studies["study_id"], section_text(part, method.config.inference_policy)))[first["study_id"]]
    found = next(f for f in falsifications(text) if f.told == first["told"] and f.kind == first["kind"])
    film = choose_image(part.images).set_index("study_id").loc[first["study_id"], "image_id"]
    scores = score_matrix(
        embed_films(method, list(small_phantom.pixels(method.config.size).take([film]))),
        embed_texts(method, [found.text, found.false, found.twin]),
    )
    np.testing.assert_allclose(scores[0], first[["score", "score_false", "score_twin"]].to_numpy(float), atol=1e-5)
    for kind, part in pairs.groupby("kind"):
        row = next(row for row in results.rows if row["kind"] == kind)
        assert np.isclose(
            row["false"]["value"], preferences(part[["score", "score_false", "score_twin"]].to_numpy())[:, 0].mean()
        )
    for said in (
        "falsified",
        "twin",
        "chance 0.5",
        "95 %",
        "proven by the scenes",
        "ties half",
        "not in it: which fact of a report was falsified",
        "fingerprint",
        "left out",
    ):
        assert said in str(results)
    again = evaluate_falsified(method, small_phantom, "train", draws=50, verbose=False)
    assert again.rows == results.rows and again.report == results.report
    assert set(results.table()["number"]) == {"false", "twin", "difference"}
    plain = StudySet(
        small_phantom.studies.assign(findings="The heart.", impression="Lungs."),
        small_phantom.images,
        None,
        {},
        small_phantom.folder,
    )
    with pytest.raises(DataError, match="no report can be falsified"):
        evaluate_falsified(method, plain, "train", verbose=False)


def test_saving(small_phantom, tmp_path):
    results = evaluate_falsified(CLIP.create().eval(), small_phantom, "train", ("side",), draws=10, verbose=False)
    results.save(tmp_path)
    assert FalsifiedResults.read_report(tmp_path) == results.report | {"rows": results.rows}
