"Grounding: questions from boxes, wording, maps of methods by loops, judging by hand, controls, real boxes."

import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from medret_nb.data.files import DataError
from medret_nb.data.sources import from_csv
from medret_nb.data.studies import StudySet
from medret_nb.losses.region_word import region_word_scores
from medret_nb.methods.clip import CLIP
from medret_nb.methods.pecm import PECM
from medret_nb.methods.rra_vl import RRAVL
from medret_nb.probes import grounding as G
from medret_nb.probes.grounding import (
    METRICS,
    MeanBoxes,
    Questions,
    ask_phrases,
    centre_map,
    evaluate_grounding,
    judge_maps,
    painted,
    phrase_maps,
    phrase_of,
    region_weights,
)
from medret_nb.probes.heat import box_mask, on_film


@pytest.mark.parametrize(
    "label,regions,words",
    [
        ("consolidation", ["right lower lung zone"], "Right lower lobe consolidation."),
        ("pleural effusion", ["left lung", "right lung"], "Bilateral pleural effusions."),
        ("Pleural Effusion", ["left lung"], "Left pleural effusion."),
        ("pneumothorax", ["right upper lung zone"], "Right apical pneumothorax."),
        ("rib fracture", ["left mid lung zone"], "Left mid rib fracture."),
        ("edema", ["right lung", "left lung"], "Pulmonary edema."),
        ("cardiomegaly", ["cardiac silhouette"], "Cardiomegaly."),
        ("central line", [], "Central line."),
        ("nodule", ["right upper lung zone", "right lower lung zone"], "Right upper lobe and right lower lobe nodule."),
        ("tumour", ["right apical zone"], "Right apical tumour."),
        ("opacity", ["mediastinum"], "Opacity in the mediastinum."),
    ],
)
def test_wording(label, regions, words):
    assert phrase_of(label, regions) == phrase_of(label, regions[::-1]) == words


def films_on_disk(folder, shapes):
    "Grey films of given (height, width), as a CSV source: studies, images, regions."
    rng = np.random.default_rng(0)
    ids = [f"f{i}" for i in range(len(shapes))]
    for name, shape in zip(ids, shapes):
        Image.fromarray(rng.integers(0, 255, shape, np.uint8)).save(folder / f"{name}.png")
    pd.DataFrame(
        {"study_id": ids, "patient_id": [f"p{i // 2}" for i in range(len(ids))], "findings": "x", "split": "test"}
    ).to_csv(folder / "studies.csv", index=False)
    pd.DataFrame({"image_id": ids, "study_id": ids, "view": "PA", "path": [f"{i}.png" for i in ids]}).to_csv(
        folder / "images.csv", index=False
    )
    return ids


@pytest.fixture(scope="module")
def odd_films(tmp_path_factory):
    "A made CSV set of films that are not square, with phrases and boxes of several kinds."
    folder = tmp_path_factory.mktemp("odd")
    films_on_disk(folder, [(40, 80), (100, 30), (64, 64), (50, 60)])
    columns = ["image_id", "region", "label", "value", "phrase", "annotation_id", "kind", "x0", "y0", "x1", "y1"]
    rows = [
        ("f0", "right lung", "effusion", 1, "", "a", "finding", 0.1, 0.5, 0.4, 0.9),
        ("f0", "left lung", "effusion", 1, "", "a", "finding", 0.6, 0.5, 0.9, 0.9),
        ("f0", "right upper lung zone", "nodule", 1, "", "b", "finding", 0.2, 0.1, 0.3, 0.2),
        ("f0", "right upper lung zone", "nodule", 1, "", "c", "finding", 0.3, 0.3, 0.4, 0.4),
        ("f0", "right lung", "", "", "", "", "anatomy", 0.0, 0.0, 0.5, 1.0),
        ("f0", "left lung", "mass", 0, "", "d", "finding", 0.6, 0.1, 0.8, 0.2),
        ("f1", "", "opacity", "", "A hazy opacity", "", "finding", 0.2, 0.2, 0.8, 0.4),
        ("f1", "", "opacity", "", "A hazy opacity", "", "finding", 0.2, 0.6, 0.8, 0.7),
        ("f1", "", "tube", -1, "", "", "finding", 0.2, 0.2, 0.8, 0.4),
        ("f2", "", "pacemaker", 1, "", "", "finding", 0.7, 0.1, 0.8, 0.3),
        ("f3", "", "pacemaker", 1, "", "", "finding", 0.6, 0.1, 0.9, 0.3),
    ]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "regions.csv", index=False)
    return from_csv(folder, folder.parent / "odd-set")


def test_questions_of_boxes(odd_films):
    pixels = odd_films.pixels(64)
    asked = ask_phrases(odd_films, pixels)
    found = {(r.image_id, r.phrase): (r.finding, r.made, len(b)) for r, b in zip(asked.table.itertuples(), asked.boxes)}
    assert found == {
        ("f0", "Bilateral effusion."): ("effusion", True, 2),
        ("f0", "Right upper lobe nodule."): ("nodule", True, 2),  # same words: one question
        ("f1", "A hazy opacity"): ("opacity", False, 2),
        ("f2", "Pacemaker."): ("pacemaker", True, 1),
        ("f3", "Pacemaker."): ("pacemaker", True, 1),
    }
    np.testing.assert_allclose(asked.content, pixels.boxes[[pixels.rows[i] for i in asked.table["image_id"]]])
    np.testing.assert_allclose(asked.content[0], [0, 0.25, 1, 0.75])
    assert asked.table["group"].nunique() == 2 and asked.elsewhere == asked.unreadable == 0


def test_films_by_rule_every_film_and_unreadable(small_phantom):
    pixels = small_phantom.pixels(64)
    one, every = ask_phrases(small_phantom, pixels), ask_phrases(small_phantom, pixels, every_image=True)
    rows = small_phantom.regions[small_phantom.regions["kind"] == "finding"]
    assert sum(map(len, every.boxes)) <= len(rows) and every.elsewhere == 0 and one.elsewhere > 0
    assert one.table.groupby("study_id")["image_id"].nunique().max() == 1
    assert set(every.table["image_id"]) == set(rows["image_id"])
    for i, row in every.table.iterrows():  # each question's boxes are those of its annotations
        mine = rows[(rows["image_id"] == row["image_id"]) & (rows["label"] == row["finding"])]
        told = [
            ids
            for ids, part in mine.groupby("annotation_id")
            if phrase_of(row["finding"], part["region"][part["region"] != ""].tolist()) == row["phrase"]
        ]
        wanted = mine[mine["annotation_id"].isin(told)][["x0", "y0", "x1", "y1"]].to_numpy()
        np.testing.assert_allclose(np.unique(wanted, axis=0), every.boxes[i])
    lost = rows["image_id"].iloc[0]
    fewer = type(pixels)(
        pixels.array, {k: v for k, v in pixels.rows.items() if k != lost}, pixels.boxes, {lost: "gone"}
    )
    assert ask_phrases(small_phantom, fewer).unreadable == (rows["image_id"] == lost).sum()
    bare = StudySet(
        small_phantom.studies, small_phantom.images, rows.iloc[:0], small_phantom.info, small_phantom.folder
    )
    with pytest.raises(DataError, match="no finding has a box"):
        ask_phrases(bare, pixels)


def test_mean_boxes_fall_back(odd_films):
    asked = ask_phrases(odd_films, odd_films.pixels(64))
    means = MeanBoxes(asked, 20)
    pace = np.mean([box_mask(b, 20, 20) for f, b in zip(asked.table["finding"], asked.boxes) if f == "pacemaker"], 0)
    table = pd.DataFrame(
        {"finding": ["pacemaker", "nodule", "unheard of"], "plain": ["Pacemaker.", "Left nodule.", "Unheard of."]}
    )
    maps = means.maps(table)
    np.testing.assert_array_equal(maps["mean box of the finding"][0], pace)
    np.testing.assert_array_equal(maps["mean box of finding and place"][0], pace)
    np.testing.assert_array_equal(maps["mean box of finding and place"][1], maps["mean box of the finding"][1])
    np.testing.assert_allclose(
        maps["mean box of the finding"][2], np.mean([box_mask(b, 20, 20) for b in asked.boxes], 0)
    )
    blob = centre_map(9)
    assert blob[4, 4] == blob.max() == 1 and np.allclose(blob, blob[::-1]) and np.allclose(blob, blob.T)


def test_patch_maps_by_a_loop(small_phantom):
    films = np.array(small_phantom.pixels(64).array[:3])
    phrases, film = ["Right pleural effusion.", "Pacemaker.", "Cardiomegaly.", "Left nodule."], np.array([2, 0, 0, 1])
    for method in (CLIP.create().train(), RRAVL.create()):
        was = method.training
        maps = phrase_maps(method, films, phrases, film)["patches"]
        assert method.training == was  # a method in training is left in training
        method.eval()
        for j, phrase in enumerate(phrases):
            with torch.no_grad():
                patches = method.encode_image(method.prepare_pixels(films[film[j] : film[j] + 1])).local["patches"][0]
                word = method.encode_text(*method.prepare_text([phrase])).mu[0]
            wanted = [[float(p @ word / p.norm() / word.norm()) for p in line] for line in patches]
            np.testing.assert_allclose(maps[j], wanted, atol=1e-5)


def test_region_maps_by_a_loop():
    torch.manual_seed(1)
    regions, words = (torch.nn.functional.normalize(torch.randn(2, n, 5), dim=-1) for n in (3, 4))
    present, mask = torch.tensor([[1, 1, 1], [1, 0, 1]]).bool(), torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]]).bool()
    weights = region_weights(regions, present, words, mask)
    for b in range(2):
        here, there = present[b].nonzero()[:, 0].tolist(), mask[b].nonzero()[:, 0].tolist()
        inner = regions[b].numpy() @ words[b].numpy().T
        share = np.exp(inner[:, there]) / np.exp(inner[:, there]).sum(1, keepdims=True)
        heed = np.exp(4 * share[here])
        heed /= heed.sum(0)
        wanted = np.zeros(3)
        wanted[here] = heed.mean(1)
        np.testing.assert_allclose(weights[b].numpy(), wanted, rtol=1e-5)
        # the same weights make the score that training uses: log of the sum of exp(5 cos(word, attended regions))
        attended = heed.T @ regions[b].numpy()[here]
        cos = (attended * words[b].numpy()[there]).sum(1) / np.linalg.norm(attended, axis=1)
        score = region_word_scores(regions[b : b + 1], words[b : b + 1], mask[b : b + 1], present[b : b + 1])[0, 0]
        assert float(score) == pytest.approx(np.log(np.exp(5 * cos).sum()), rel=1e-4)
    assert region_weights(regions, present & False, words, mask).abs().sum() == 0
    boxes, weight = (
        torch.tensor([[[0.1, 0.2, 0.6, 0.8], [0.5, 0.5, 1.3, 1.0], [-0.4, 0, 0.2, 0.3]]]),
        torch.tensor([[0.5, 0.3, 0.2]]),
    )
    wanted = sum(w * box_mask([b], 10, 10) for w, b in zip(weight[0].tolist(), boxes[0].clamp(0, 1).tolist()))
    np.testing.assert_allclose(painted(boxes, weight, 10)[0].numpy(), wanted, atol=1e-6)


def known_maps(asked, cells=32, seed=0, noise=0.2):
    rng = np.random.default_rng(seed)
    return np.stack([box_mask(b, cells, cells) for b in asked.boxes]) + noise * rng.normal(
        size=(len(asked), cells, cells)
    )


def test_judged_maps_are_the_means_of_single_ones(odd_films):
    asked = ask_phrases(odd_films, odd_films.pixels(64))
    maps = known_maps(asked)
    results = judge_maps(maps, asked, grid=40, draws=50)
    singles = []
    for heat, boxes, content in zip(maps, asked.boxes, asked.content):
        w, h = content[2] - content[0], content[3] - content[1]
        ny, nx = round(40 * h / max(w, h)), round(40 * w / max(w, h))
        (cnr, pointing, area), ious = measure(on_film(heat, np.array([0, 0, 1, 1]), ny, nx), box_mask(boxes, ny, nx))
        singles.append([cnr, abs(cnr), pointing, ious.mean(), np.nan, area, box_mask(boxes, ny, nx).mean()])
    singles = pd.DataFrame(singles, columns=[*METRICS, "area"])
    for average, mean in (("micro", singles.mean()), ("macro", singles.groupby(asked.table["finding"]).mean().mean())):
        for metric in METRICS:
            row = results.table(metric, average).set_index("map")
            if metric == "mIoU fitted":
                assert row["value"].isna().all()
                continue
            assert row.loc["maps", "value"] == pytest.approx(mean[metric])
            if metric in ("pointing game", "AUPRC", "mIoU"):
                assert row.loc["maps", "chance"] == pytest.approx(mean["area"]) and row.loc[
                    "whole film", "value"
                ] == pytest.approx(mean["area"])
    inverted = results.table("CNR").set_index("map")["value"]
    assert inverted["maps, inverted"] == pytest.approx(-inverted["maps"]) and inverted["whole film"] == 0
    absolute = results.table("|CNR|").set_index("map")["value"]
    assert absolute["maps, inverted"] == pytest.approx(absolute["maps"]) and absolute["maps"] > 1  # the fooled one
    by = results.by_finding("AUPRC")
    assert sum(by.index.get_level_values("phrases")) == len(asked) and by["maps"].mean() == pytest.approx(
        results.table("AUPRC")["value"][0]
    )


def test_the_threshold_is_fitted_elsewhere(odd_films):
    asked = ask_phrases(odd_films, odd_films.pixels(64))
    maps = 50 * known_maps(asked, noise=0.05)
    none, fitted = (
        judge_maps(maps, asked, grid=40, draws=20),
        judge_maps(maps, asked, val=(maps, asked), train=asked, grid=40, draws=20),
    )
    chosen = fitted.report["thresholds"]["maps"]
    grid = np.linspace(-np.abs(maps).max(), np.abs(maps).max(), 201)
    curves = []
    for heat, boxes, content in zip(maps, asked.boxes, asked.content):
        ny, nx = G.film_grid(content, 40)
        curves.append(measure(on_film(heat, np.array([0, 0, 1, 1]), ny, nx), box_mask(boxes, ny, nx), grid)[1])
    macro = pd.DataFrame(curves).groupby(asked.table["finding"].to_numpy()).mean().mean()
    assert macro.max() == pytest.approx(macro[np.argmin(np.abs(grid - chosen))], abs=1e-6)
    value = fitted.table("mIoU fitted").set_index("map")["value"]
    assert (
        value["maps"] == pytest.approx(macro.max(), abs=1e-4)
        and value["maps"] > fitted.table("mIoU").set_index("map")["value"]["maps"]
    )
    assert none.report["thresholds"] == {} and "no validation split" in str(none) and value["whole film"] > 0
    beyond = next(r for r in fitted.rows if r["map"] == "maps")["beyond words"]["AUPRC"]
    table = fitted.table("AUPRC").set_index("map")["value"]
    assert (
        beyond["value"] == pytest.approx(table["maps"] - table[G.WORDS_ALONE])
        and beyond["low"] <= beyond["value"] <= beyond["high"]
    )


def test_bad_maps_are_refused_in_one_line(odd_films):
    asked = ask_phrases(odd_films, odd_films.pixels(64))
    maps = known_maps(asked)
    with pytest.raises(ValueError, match=r"maps: must be \(5, h, w\), one map per question, got \(4, 32, 32\)"):
        judge_maps(maps[:4], asked)
    with pytest.raises(ValueError, match=r"got \(5, 32\)"):
        judge_maps(maps[:, 0], asked)
    with pytest.raises(ValueError, match="maps: map 2 has values that are not finite"):
        judge_maps(np.where(np.arange(5)[:, None, None] == 2, np.nan, maps), asked)
    with pytest.raises(ValueError, match="over: 'paper' is neither"):
        judge_maps(maps, asked, over="paper")
    with pytest.raises(ValueError, match="grid: 4"):
        judge_maps(maps, asked, grid=4)


def test_patients_are_resampled_together():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "image_id": [f"i{i}" for i in range(60)],
            "study_id": "s",
            "finding": "x",
            "phrase": "x",
            "made": True,
            "plain": "x",
            "group": np.arange(60) // 20,
        }
    )
    boxes = [np.array([[x, y, x + 0.3, y + 0.3]]) for x, y in rng.uniform(0, 0.6, (60, 2))]
    content = np.tile([0, 0, 1, 1.0], (60, 1))
    maps = rng.normal(size=(60, 8, 8)) + 3 * (np.arange(60) < 20)[:, None, None] * np.stack(
        [box_mask(b, 8, 8) for b in boxes]
    )
    three = judge_maps(maps, Questions(table, boxes, content), grid=16, draws=400).table("AUPRC")
    sixty = judge_maps(maps, Questions(table.assign(group=np.arange(60)), boxes, content), grid=16, draws=400).table(
        "AUPRC"
    )
    assert (
        three["value"][0] == sixty["value"][0]
        and (three["high"] - three["low"])[0] > 1.5 * (sixty["high"] - sixty["low"])[0]
    )


def test_the_other_film_is_of_another_patient(small_phantom):
    asked = ask_phrases(small_phantom, small_phantom.pixels(64))
    group, other = asked.table.set_index("image_id")["group"], G._partners(asked)
    group = group[~group.index.duplicated()]
    assert (group[asked.table["image_id"]].to_numpy() != group[other].to_numpy()).all() and len(set(other)) > 10
    assert all(len(set(part)) == 1 for _, part in pd.Series(other).groupby(asked.table["image_id"].to_numpy()))
    alone = asked.table["group"] == asked.table["group"][0]
    assert (
        G._partners(Questions(asked.table[alone], [b for b, a in zip(asked.boxes, alone) if a], asked.content[alone]))
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
    other = phrase_maps(clip, pixels.take(G._partners(asked)), asked.table["phrase"].tolist(), np.arange(len(asked)))[
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


def test_real_boxes(shared_data, tmp_path):
    "cxr-notes: films of all shapes with two boxes of lesions and boxes of lungs, which stand in for findings here."
    folder = shared_data / "cxr-notes"
    regions = pd.read_csv(folder / "regions.csv")
    studies = from_csv(folder, tmp_path / "set")
    pixels = studies.pixels(64)
    two = ask_phrases(studies, pixels)
    assert sorted(two.table["finding"]) == ["consolidation", "effusion"]
    lungs = studies.regions.assign(kind="finding", label="aerated lung")
    every = ask_phrases(
        StudySet(
            studies.studies, studies.images, lungs[studies.regions["kind"] == "anatomy"], studies.info, studies.folder
        ),
        pixels,
        every_image=True,
    )
    assert len(every) == (regions["kind"] == "anatomy").sum()
    shapes = np.array([(c[3] - c[1]) / (c[2] - c[0]) for c in every.content])
    assert (np.abs(shapes - 1) > 0.1).sum() > 50  # many are not square
    sizes = studies.images.set_index("image_id").loc[every.table["image_id"]]
    for i in range(0, len(every), 37):  # the mask covers what the box covers on the original film
        h, w = sizes["height"].iloc[i], sizes["width"].iloc[i]
        if not h or not w or np.isnan(h):
            continue
        ny, nx = G.film_grid(every.content[i], 128)
        assert ny / nx == pytest.approx(h / w, rel=0.06)
        x0, y0, x1, y1 = every.boxes[i][0]
        assert box_mask(every.boxes[i], ny, nx).mean() == pytest.approx((x1 - x0) * (y1 - y0), rel=0.06)
    results = judge_maps(known_maps(every, 16), every, train=every, grid=32, draws=20)
    table = results.table("AUPRC").set_index("map")["value"]
    assert (
        table["maps"] > 0.8 > table["whole film"]
        and table[G.WORDS_ALONE] > table["mean box of the finding"] > table["whole film"]
    )
