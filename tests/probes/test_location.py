"Location: who is relevant by a loop over pairs, macro averages by hand, controls that know what they should."

import numpy as np
import pandas as pd
import pytest

from medret_nb.data.files import DataError
from medret_nb.data.studies import StudySet
from medret_nb.methods.clip import CLIP
from medret_nb.methods.rra_vl import REGIONS, RRAVL
from medret_nb.probes.location import (
    LocationResults,
    PlaceQuestions,
    ask,
    beyond,
    beyond_in_words,
    crops,
    evaluate_location,
    judge_places,
    located_findings,
    mirrored,
    searchers,
)
from medret_nb.retrieval.embeddings import embed
from medret_nb.retrieval.points import Embeddings

PLACES = ["right lung", "left lung", "right upper lung zone", "left lower lung zone", "mediastinum"]
KINDS = ["effusion", "nodule", "fracture"]


def made(n=30, seed=0, patients=20):
    "Random findings at places, films and reports with random vectors."
    rng = np.random.default_rng(seed)
    ids = [f"s{i}" for i in range(n)]
    found = pd.DataFrame(
        [(s, rng.choice(KINDS), rng.choice(PLACES)) for s in ids for _ in range(rng.integers(0, 4))],
        columns=["study_id", "finding", "region"],
    )
    studies = pd.DataFrame(
        {"study_id": ids, "patient_id": [f"p{rng.integers(patients)}" for _ in ids], "split": "test", "findings": "x"}
    )
    images = pd.DataFrame({"image_id": [f"{s}-PA" for s in ids], "study_id": ids, "view": "PA", "path": "none.png"})
    regions = pd.DataFrame(
        {
            "image_id": found["study_id"] + "-PA",
            "region": found["region"],
            "label": found["finding"],
            "value": 1,
            "kind": "finding",
            "x0": 0.1,
            "y0": 0.1,
            "x1": 0.4,
            "y1": 0.4,
        }
    )

    def points(names):
        return Embeddings(
            names,
            ids,
            rng.normal(size=(n, 6)),
            meta={"similarity": "cosine", "regions": "; ".join(PLACES)},
            local={"regions": rng.normal(size=(n, 5, 4)), "regions_mask": np.ones((n, 5), bool)},
        )

    return StudySet(studies, images, regions), points(images["image_id"].tolist()), points(ids)


def has(held, study, finding, places):
    "Whether a study has a finding at one of the places."
    return any((study, finding, place) in held for place in places)


def same_places(region, coarse):
    "A region, and with `coarse` the zones of that lung."
    zones = [place for place in PLACES if place.endswith("zone") and place.split()[0] + " lung" == region]
    return [region, *zones] if coarse else [region]


@pytest.mark.parametrize("coarse", [False, True])
def test_relevance_is_that_of_a_loop(coarse):
    studies, films, texts = made()
    found = located_findings(studies)
    patient = dict(zip(studies.studies["study_id"], studies.studies["patient_id"], strict=True))
    held = set(found.itertuples(index=False, name=None))
    for gallery in (films, texts):
        asked = ask(studies, films, gallery, PLACES, coarse)
        at = {(row.study_id, row.finding, row.region): i for i, row in asked.table.iterrows()}
        assert len(at) == len(asked) and len(asked) + asked.excluded == len(found)
        for study, finding, region in held:
            allowed = np.array([patient[g] != patient[study] for g in gallery.study_ids])
            there = np.array([has(held, g, finding, same_places(region, coarse)) for g in gallery.study_ids])
            anywhere = np.array([has(held, g, finding, PLACES) for g in gallery.study_ids])
            if not (there & allowed).any():
                assert (study, finding, region) not in at
                continue
            i = at[study, finding, region]
            np.testing.assert_array_equal(asked.relevant[i], there & allowed)
            np.testing.assert_array_equal(asked.allowed[i], allowed)
            np.testing.assert_array_equal(asked.anywhere[i], anywhere & allowed)
            assert films.study_ids[asked.table["row"][i]] == study and (asked.here[i] >= asked.relevant[i]).all()


def test_findings_with_another_value_or_no_place_do_not_count():
    studies, *_ = made(8)
    studies.regions = pd.DataFrame(
        {
            "image_id": ["s0-PA"] * 6,
            "region": ["right lung", "left lung", "", "right lung", "mediastinum", "right lung"],
            "label": ["effusion", "effusion", "device", "", "nodule", "edema"],
            "value": pd.array([1, 0, 1, None, -1, None], "Int64"),
            "kind": ["finding"] * 5 + ["finding"],
        }
    )
    assert located_findings(studies).to_numpy().tolist() == [
        ["s0", "effusion", "right lung"],
        ["s0", "edema", "right lung"],
    ]


def test_judging_by_hand_with_ties_and_the_own_patient():
    table = pd.DataFrame({"study_id": ["a"], "cell": ["x"], "group": [0], "region": ["right lung"]})
    relevant = np.array([[False, True, False, False, False]])
    allowed = np.array([[False, True, True, True, True]])
    asked = PlaceQuestions(table, relevant, allowed, relevant, relevant, 0)
    perfect, worst, tied = (
        judge_places(asked, np.array([row]), draws=5)
        for row in ([9, 5, 1, 1, 1.0], [9, 1, 2, 3, 4.0], [9, 1, 1, 1, 1.0])
    )
    assert [j["R@1"]["value"] for j in (perfect, worst, tied)] == [1, 0, 0.25] and tied["R@5"]["value"] == 1
    assert tied["R@1"]["chance"] == tied["R-precision"]["chance"] == tied["R-precision"]["value"] == 0.25
    with pytest.raises(DataError, match="no question is answered"):
        judge_places(asked, np.full((1, 5), np.nan))


def test_random_scores_reach_chance():
    studies, films, texts = made(120, patients=120)
    asked = ask(studies, films, texts, PLACES)
    rng = np.random.default_rng(0)
    found = [judge_places(asked, rng.normal(size=asked.relevant.shape), draws=2) for _ in range(20)]
    for metric in ("R@1", "R@5", "R-precision"):
        assert np.mean([f[metric]["value"] for f in found]) == pytest.approx(found[0][metric]["chance"], abs=0.02)
    constant = judge_places(asked, np.zeros(asked.relevant.shape), draws=2)  # all tied: chance, exactly
    for metric in ("R@1", "R@10", "R-precision"):
        assert constant[metric]["value"] == pytest.approx(constant[metric]["chance"])


def test_controls_are_asked_elsewhere():
    studies, films, texts = made()
    asked = ask(studies, films, texts, PLACES)
    rows = searchers(asked, films, texts, rho=0.4)

    def unit(x):
        return x / np.linalg.norm(x, axis=-1, keepdims=True)

    whole = unit(films.mu) @ unit(texts.mu).T
    at = np.einsum("imd,jmd->ijm", unit(films.local["regions"]), unit(texts.local["regions"]))
    for i, row in asked.table.iterrows():
        m = PLACES.index(row.region)
        np.testing.assert_allclose(rows["place"][i], 0.6 * whole[row.row] + 0.4 * at[row.row, :, m], atol=1e-5)
        np.testing.assert_allclose(rows["whole film"][i], whole[row.row], atol=1e-5)
        other = mirrored(row.region)
        if other in PLACES:
            np.testing.assert_allclose(
                rows["mirrored place"][i], 0.6 * whole[row.row] + 0.4 * at[row.row, :, PLACES.index(other)], atol=1e-5
            )
        else:
            assert np.isnan(rows["mirrored place"][i]).all()
        assert not np.allclose(rows["random place"][i], rows["place"][i])
    same = asked.table.groupby(["region", "group"]).indices
    for (place, group), mine in same.items():  # only that something is there, from other patients' films
        peers = asked.table[(asked.table["region"] == place) & (asked.table["group"] != group)]["row"].unique()
        m = PLACES.index(place)
        assert np.allclose(rows["region only"][mine], rows["region only"][mine[0]], atol=1e-4, equal_nan=True)
        typical = unit(films.local["regions"][peers, m].mean(0))
        here = unit(texts.local["regions"][:, m]) @ typical
        assert np.corrcoef(rows["region only"][mine[0]], here)[0, 1] > 0.999
    assert judge_places(asked, rows["truth: the finding anywhere"], draws=2)["R@1"]["value"] < 1
    assert (
        judge_places(asked, asked.relevant.astype(float), draws=2)["R@1"]["value"]
        == judge_places(asked, asked.relevant.astype(float), draws=2)["R-precision"]["value"]
        == 1
    )


def test_mirrors():
    assert [mirrored(r) for r in ("right lung", "left lower lung zone", "mediastinum", "cardiac silhouette")] == [
        "left lung",
        "right lower lung zone",
        None,
        None,
    ]


def test_nothing_to_ask_is_one_line():
    studies, films, texts = made()
    with pytest.raises(DataError, match="no film has a finding"):
        ask(studies, films, texts, ["trachea"])


def test_crops_are_the_boxes(small_phantom):
    films = embed(RRAVL.create().eval(), small_phantom, "test", progress=False)["image"]
    pixels = small_phantom.pixels(64)
    for film, whole, box in zip(
        crops(pixels, films, "left lung"),
        pixels.take(films.ids.tolist()),
        films.local["boxes"][:, REGIONS.index("left lung")],
    ):
        x0, y0, x1, y1 = np.round(box * 64).astype(int)
        np.testing.assert_array_equal(film, whole[y0:y1, x0:x1])
    films.local["boxes"] = films.local["boxes"] * 0 + 1.2  # a drawn box may leave the film
    assert {c.shape for c in crops(pixels, films, "left lung")} == {(4, 4)}


def test_a_model_all_the_way(small_phantom):
    method = RRAVL.create().eval()
    results = evaluate_location(method, small_phantom, "train", draws=20, verbose=False)
    table = results.table()
    assert set(table["boxes"]) == {"true", "predicted"} and set(table["direction"]) == {
        "image-to-image",
        "image-to-report",
    }
    assert (
        set(table["searcher"])
        == {
            "place",
            "whole film",
            "mirrored place",
            "random place",
            "region only",
            "cropped film",
            "place in words",
            "truth: anything here",
            "truth: the finding anywhere",
            "truth: both of these",
        }
        and table["value"].between(0, 1).all()
    )
    pivot = table.pivot(index=["direction", "searcher"], columns="boxes", values="value")
    same = [
        "whole film",
        "place in words",
        "truth: anything here",
        "truth: the finding anywhere",
    ]  # these do not look at boxes
    for searcher in same:
        assert np.allclose(pivot.xs(searcher, level=1)["true"], pivot.xs(searcher, level=1)["predicted"])
    assert not np.allclose(pivot["true"], pivot["predicted"])
    text = str(results)
    for word in (
        "true boxes",
        "predicted boxes",
        "chance",
        "95 %",
        "fingerprint",
        "excluded",
        "scaled to 1",
        "ties by expectation",
    ):
        assert word in text
    bare = StudySet(
        small_phantom.studies,
        small_phantom.images,
        small_phantom.regions[small_phantom.regions["kind"] == "finding"],
        small_phantom.info,
        small_phantom.folder,
    )
    assert set(evaluate_location(method, bare, "train", crop=False, draws=5, verbose=False).table()["boxes"]) == {
        "predicted"
    }
    with pytest.raises(DataError, match="clip has no vectors for regions"):
        evaluate_location(CLIP.create(), small_phantom)


def test_saving(small_phantom, tmp_path):
    results = evaluate_location(RRAVL.create().eval(), small_phantom, "train", crop=False, draws=5, verbose=False)
    results.save(tmp_path)
    assert LocationResults.read_report(tmp_path) == results.report | {"rows": results.rows}


def planted(kind):
    "Random findings whose films know at each place that something is there, or also what."
    studies, films, texts = made(n=300, patients=250)
    held = located_findings(studies)
    for side in (films, texts):
        vectors = np.zeros((len(side), len(PLACES), 4), np.float32)
        vectors[:, :, 3] = 1e-3
        for study, finding, region in held.itertuples(index=False):
            row = np.flatnonzero(side.study_ids == study)[0]
            vectors[row, PLACES.index(region), KINDS.index(finding) if kind == "what" else 0] = 1
        side.local["regions"] = vectors
    return studies, films, texts


@pytest.mark.parametrize("kind, more", [("something", False), ("what", True)])
def test_who_knows_that_something_is_there_is_noticed(kind, more):
    studies, films, texts = planted(kind)
    asked = ask(studies, films, texts, PLACES)
    found = searchers(asked, films, texts, rho=0.999)
    number = beyond(asked, found["place"], found["region only"], draws=200)
    assert (number["low"] is not None and number["low"] > 0) == more
    assert ("more than knowing" in beyond_in_words(number)) and ("not shown" in beyond_in_words(number)) != more
    whole = judge_places(asked, found["whole film"], draws=2)["R@1"]["value"]
    assert judge_places(asked, found["place"], draws=2)["R@1"]["value"] > whole  # which alone would look like success


def test_knowing_both_apart_is_better_than_either_and_not_perfect():
    studies, films, texts = made(n=200, patients=150)
    asked = ask(studies, films, texts, PLACES)
    found = searchers(asked, films, texts)
    judged = {name: judge_places(asked, found[f"truth: {name}"], draws=2)["R@1"]["value"] for name in TRUTHS}
    here, anywhere, both = judged.values()
    assert max(here, anywhere) < both < 1
    control = judge_places(asked, found["region only"], draws=2)["R@1"]
    assert control["value"] > control["chance"] - 0.1


TRUTHS = ("anything here", "the finding anywhere", "both of these")
