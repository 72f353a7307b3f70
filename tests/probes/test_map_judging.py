"Judging maps: means of single ones by hand, fitted thresholds, bad maps in one line, patients resampled, real boxes."

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from medret_nb.data.sources import from_csv
from medret_nb.data.studies import StudySet
from medret_nb.probes.grounding import (
    PhraseQuestions,
    ask_phrases,
)
from medret_nb.probes.heat import box_mask, film_grid, map_scores, on_film
from medret_nb.probes.map_judging import METRICS, WORDS_ALONE, GroundingResults, judge_maps, map_values


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
        (cnr, pointing, area), ious = map_scores(on_film(heat, np.array([0, 0, 1, 1]), ny, nx), box_mask(boxes, ny, nx))
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


def test_planted_maps_get_known_values(odd_films):
    "A map that is its box, one that is the rest of the film, and noise: best, worst, and what chance gives."
    asked = ask_phrases(odd_films, odd_films.pixels(64))
    boxes = np.stack([box_mask(boxes, 64, 64) for boxes in asked.boxes])
    rng = np.random.default_rng(0)
    knows = boxes + 0.05 * rng.normal(size=boxes.shape)  # a flat map has no contrast-to-noise ratio
    noise = {f"noise {i}": rng.normal(size=knows.shape) for i in range(200)}

    def stream(questions):
        yield np.arange(len(questions)), {"knows": knows, "inverted": -knows, **noise}

    found = map_values(asked, stream, "film", grid=64)
    at = {name: METRICS.index(name) for name in METRICS}
    right, wrong = (found[name] for name in ("knows", "inverted"))
    chance = np.mean([found[name] for name in noise], 0)
    assert (right[:, at["pointing game"]] == 1).all() and (wrong[:, at["pointing game"]] == 0).all()
    assert right[:, at["AUPRC"]] == pytest.approx(1, abs=0.02)
    assert (right[:, at["mIoU"]] > 0.7).all()  # thin boxes of odd films do not lie on whole cells
    assert (right[:, at["CNR"]] > 1).all() and wrong[:, at["CNR"]] == pytest.approx(-right[:, at["CNR"]], rel=1e-4)
    area = boxes.mean((1, 2))
    assert chance[:, at["CNR"]] == pytest.approx(0, abs=0.05)
    assert chance[:, at["AUPRC"]] == pytest.approx(area, abs=0.03)
    assert chance[:, at["pointing game"]] == pytest.approx(area, abs=0.12)


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
        ny, nx = film_grid(content, 40)
        curves.append(map_scores(on_film(heat, np.array([0, 0, 1, 1]), ny, nx), box_mask(boxes, ny, nx), grid)[1])
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
        beyond["value"] == pytest.approx(table["maps"] - table[WORDS_ALONE])
        and beyond["few"]  # four films are too few for an interval
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
            "group": np.arange(60) // 2,
        }
    )
    boxes = [np.array([[x, y, x + 0.3, y + 0.3]]) for x, y in rng.uniform(0, 0.6, (60, 2))]
    content = np.tile([0, 0, 1, 1.0], (60, 1))
    maps = rng.normal(size=(60, 8, 8)) + 3 * (np.arange(60) < 20)[:, None, None] * np.stack(
        [box_mask(b, 8, 8) for b in boxes]
    )
    thirty = judge_maps(maps, PhraseQuestions(table, boxes, content), grid=16, draws=400).table("AUPRC")
    sixty = judge_maps(
        maps, PhraseQuestions(table.assign(group=np.arange(60)), boxes, content), grid=16, draws=400
    ).table("AUPRC")
    assert (
        thirty["value"][0] == sixty["value"][0]
        and (thirty["high"] - thirty["low"])[0] > 1.2 * (sixty["high"] - sixty["low"])[0]
    )


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
        ny, nx = film_grid(every.content[i], 128)
        assert ny / nx == pytest.approx(h / w, rel=0.06)
        x0, y0, x1, y1 = every.boxes[i][0]
        assert box_mask(every.boxes[i], ny, nx).mean() == pytest.approx((x1 - x0) * (y1 - y0), rel=0.06)
    results = judge_maps(known_maps(every, 16), every, train=every, grid=32, draws=20)
    table = results.table("AUPRC").set_index("map")["value"]
    assert (
        table["maps"] > 0.8 > table["whole film"]
        and table[WORDS_ALONE] > table["mean box of the finding"] > table["whole film"]
    )


def test_saving(odd_films, tmp_path):
    asked = ask_phrases(odd_films, odd_films.pixels(64))
    results = judge_maps(known_maps(asked), asked, grid=40, draws=20)
    results.save(tmp_path)
    assert GroundingResults.read_report(tmp_path) == json.loads(json.dumps(results.report | {"rows": results.rows}))
