"""Breakdowns: planted weaknesses and nothing else, intervals that hold, small cells counted, results on disk."""

import json

import numpy as np
import pandas as pd
import pytest
from fifty import world
from scipy.stats import norm

from medret_nb.data.files import DataError
from medret_nb.evaluation.intervals import holm, paired_bootstrap
from medret_nb.evaluation.results import evaluate
from medret_nb.evaluation.subgroups import Breakdown, breakdown, breakdown_of_difference, subgroups

FINDINGS = ("Edema", "Pneumothorax", "Fracture", "Cardiomegaly", "Lung Opacity")


def clinic(seed, patients=700):
    """Cells of independent findings, two sexes, three bands of age, and the patient of each query, some with two."""
    rng = np.random.default_rng(seed)
    code = np.repeat(np.arange(patients), rng.integers(1, 3, patients))
    cells = {("finding", name): rng.random(len(code)) < 0.15 for name in FINDINGS}
    woman = (rng.random(patients) < 0.5)[code]
    band = rng.integers(0, 3, patients)[code]
    cells |= {("sex", "F"): woman, ("sex", "M"): ~woman}
    cells |= {("age", f"band {i}"): band == i for i in range(3)}
    return rng, pd.DataFrame(cells), code


def test_a_model_bad_at_one_finding_shows_there_and_nowhere_else():
    told = []
    for seed in range(40):
        rng, cells, patients = clinic(seed)
        weak = cells["finding", "Pneumothorax"].to_numpy()
        hits = (rng.random(len(patients)) < np.where(weak, 0.3, 0.6)).astype(float)
        table = breakdown(hits, cells, patients, draws=200, seed=seed)
        told.append(set(table.loc[table["differs"], "cell"]))
    assert all("Pneumothorax" in cells for cells in told)
    assert sum(len(cells) > 1 for cells in told) <= 6, told  # Holm at .05: 2 of 40 are expected


def test_a_fair_model_shows_nothing():
    called = 0
    for seed in range(60):
        rng, cells, patients = clinic(100 + seed, 400)
        ease = rng.normal(size=400)[patients]
        hits = (norm.cdf((ease + rng.normal(size=len(patients))) / np.sqrt(2)) < 0.5).astype(float)
        called += breakdown(hits, cells, patients, draws=200, seed=seed)["differs"].any()
    assert called <= 8, called  # at most 5 % of 60, and three standard errors


@pytest.mark.parametrize("patients, share, inside, outside", [(150, 0.25, 0.3, 0.3), (300, 0.12, 0.9, 0.6)])
def test_intervals_of_cells_and_differences_cover(patients, share, inside, outside):
    """500 data sets, patients of one to three queries that are alike: 93 to 97 % and a little more near the ends."""
    held = []
    for seed in range(500):
        rng = np.random.default_rng(seed)
        code = np.repeat(np.arange(patients), rng.integers(1, 4, patients))
        here = np.where(
            rng.random(len(code)) < 0.8, (rng.random(patients) < share)[code], rng.random(len(code)) < share
        )
        ease = (rng.normal(size=patients)[code] + rng.normal(size=len(code))) / np.sqrt(2)
        hits = (norm.cdf(ease) < np.where(here, inside, outside)).astype(float)
        row = breakdown(hits, pd.DataFrame({("a", "cell"): here}), code, draws=200, seed=seed).iloc[0]
        if np.isfinite(row["difference_low"]):
            truth = inside - outside
            inner = row["low"] <= inside <= row["high"]
            held.append((inner, row["difference_low"] <= truth <= row["difference_high"]))
    covered = np.mean(held, 0)
    assert len(held) > 400 and np.all((covered > 0.93) & (covered < 0.98)), covered


def test_small_cells_are_counted_and_few_patients_have_no_interval():
    cells = pd.DataFrame({("a", "19"): np.arange(100) < 19, ("a", "25"): np.arange(100) >= 75})
    table = breakdown(np.arange(100) % 2, cells, np.arange(100))
    assert table["cell"].tolist() == ["25"] and table.attrs["left_out"] == {"a: 19": 19}
    assert table[["low", "difference_low", "p", "p_holm"]].isna().all(axis=None) and not table["differs"].any()
    assert table["value"].notna().all() and table.attrs["family"] == "Holm over 0 cells"
    none = breakdown(np.arange(100) % 2, cells.iloc[:, :1], np.arange(100))
    assert none.empty and none.attrs["left_out"] == {"a: 19": 19}
    with pytest.raises(ValueError, match="100 rows for 50 values"):
        breakdown(np.zeros(50), cells, np.zeros(50))


def test_values_that_are_no_shares_and_queries_without_a_value():
    rng = np.random.default_rng(0)
    ranks = np.where(np.arange(200) < 60, 30.0, 10.0) + rng.normal(size=200)
    ranks[150:] = np.nan
    cells = pd.DataFrame({("a", "slow"): np.arange(200) < 60})
    row = breakdown(ranks, cells, np.arange(200)).iloc[0]
    assert row["queries"] == 60 and row["difference"] == pytest.approx(20, abs=1) and row["differs"]
    assert row["difference_low"] < 20 < row["difference_high"] and row["low"] < 30 < row["high"]


def test_differences_of_two_runs_are_paired_within_a_cell():
    rng, cells, patients = clinic(1)
    before = (rng.random(len(patients)) < 0.5).astype(float)
    gained = cells["finding", "Edema"].to_numpy() & (rng.random(len(patients)) < 0.5)
    after = np.where(gained, 1.0, before)
    table = breakdown_of_difference(before, after, cells, patients, draws=300).set_index("cell")
    assert table["differs"].to_dict()["Edema"] and table.loc["Edema", "value"] > 0.1
    here = cells["finding", "Edema"].to_numpy()
    pair = paired_bootstrap(before[here], after[here], patients[here], 300)
    assert (table.loc["Edema", "low"], table.loc["Edema", "p"]) == pytest.approx((pair.low, pair.p))
    assert table["p_holm"].to_numpy() == pytest.approx(holm(table["p"]))


def measured(noise):
    studies, film, text = world(noise=noise)
    return studies, evaluate({"image": film, "text": text}, studies, "exact", (1, 10), draws=50, verbose=False)


def test_a_result_is_broken_down_in_both_directions_and_kept(tmp_path):
    studies, results = measured(1.0)
    found = subgroups(results, studies, least=10, draws=200)
    table = found.table()
    assert set(table["direction"]) == {"image-to-text", "text-to-image"} and "42" not in found.report["family"]
    hits = results.queries.query("direction == 'image-to-text'")["hit_10"]
    named = [labels.get("Pleural Effusion") == 1 for labels in studies.studies["labels"]]
    row = table.query("direction == 'image-to-text' and cell == 'Pleural Effusion'").iloc[0]
    assert row["value"] == pytest.approx(hits[np.array(named)].mean()) and row["chance"] == pytest.approx(10 / 50)
    found.save(tmp_path)
    report = Breakdown.read_report(tmp_path)
    assert report["rows"] == json.loads(json.dumps(found.rows)) and report["protocol"] == "exact"
    told = str(found)
    assert "R@10, protocol exact" in told and "left out:" in told and "too few" in told


def test_a_breakdown_against_another_run():
    studies, first = measured(1.5)
    _, second = measured(0.5)
    found = subgroups(second, studies, ("finding", "length"), "R@1", first, "other", 10, draws=200)
    assert found.report["against"] == "other" and "this run minus other" in str(found)
    mine = found.table().query("direction == 'image-to-text'").set_index("cell")
    delta = (second.queries["hit_1"].to_numpy() - first.queries["hit_1"].to_numpy())[:50]
    named = np.array([labels.get("No Finding") == 1 for labels in studies.studies["labels"]])
    assert mine.loc["No Finding", "value"] == pytest.approx(delta[named].mean())
    with pytest.raises(DataError, match="'R@5' was not measured; there are R@1, R@10"):
        subgroups(first, studies, metric="R@5")
    with pytest.raises(DataError, match="protocol differs"):
        points = dict(zip(("image", "text"), world()[1:], strict=True))
        subgroups(first, studies, against=evaluate(points, studies, "text", (10,), draws=5, verbose=False))
