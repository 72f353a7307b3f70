"""A comparison: the numbers against a slow reading, the folder that can be killed, arms that do not fit."""

import json

import numpy as np
import pandas as pd
import pytest

from medret_nb.data.files import DataError, shipped_data
from medret_nb.evaluation.intervals import bootstrap_interval, holm, paired_bootstrap, seed_interval
from medret_nb.evaluation.results import Results
from medret_nb.methods.table import METHODS
from medret_nb.training.arms import Arm
from medret_nb.training.compare import Budget, Comparison, compare, comparison_table, seconds_of
from medret_nb.training.loop import TrainConfig

SMALL = Budget(passes=1, protocols=("exact",), ks=(1, 5), training=TrainConfig(batch_size=8))
ARMS = {"a": Arm("clip", settings={"dim": 16}), "b": Arm("clip", settings={"dim": 16, "group_texts": False})}


def made(hits, order=None, direction="image-to-text"):
    names = [f"q{i:02d}" for i in range(len(hits))]
    table = pd.DataFrame(
        {
            "query": names,
            "study_id": names,
            "patient_id": [f"p{i // 2}" for i in range(len(hits))],
            "direction": direction,
            "relevant": 1,
            "hit_10": np.asarray(hits, float),
            "chance_10": 0.1,
        }
    )
    return Results(
        {"directions": {direction: {"gallery": 100}}},
        table if order is None else table.iloc[order].reset_index(drop=True),
        pd.DataFrame(),
    )


def test_the_table_against_a_slow_reading():
    rng = np.random.default_rng(0)
    hits = {arm: rng.random((3, 20)) < share for arm, share in (("a", 0.3), ("b", 0.6), ("c", 0.35))}
    table = comparison_table(
        {
            "exact": {
                arm: {s: made(row, rng.permutation(20)) for s, row in enumerate(rows)} for arm, rows in hits.items()
            }
        }
    ).set_index("arm")
    patients = [f"p{i // 2}" for i in range(20)]
    raw = []
    for arm, rows in hits.items():
        assert table.value[arm] == pytest.approx(rows.mean()) and table.chance[arm] == pytest.approx(0.1)
        assert (table.low[arm], table.high[arm]) == pytest.approx(bootstrap_interval(rows.mean(0), patients))
        assert [float(v) for v in table.by_seed[arm].split()] == pytest.approx(rows.mean(1), abs=1e-4)
        if arm == "a":
            continue
        pair, steps = (
            paired_bootstrap(hits["a"].mean(0), rows.mean(0), patients),
            [(r - a).mean() for a, r in zip(hits["a"].astype(float), rows.astype(float))],
        )
        assert (table.difference[arm], table.d_low[arm], table.d_high[arm]) == pytest.approx(
            (pair.value, pair.low, pair.high)
        )
        assert table.agree[arm] == (all(s > 0 for s in steps) or all(s < 0 for s in steps))
        assert (table.d_seed_low[arm], table.d_seed_high[arm]) == pytest.approx(seed_interval(steps))
        raw.append(pair.p)
    assert list(table.p_holm[["b", "c"]]) == pytest.approx(list(holm(raw))) and np.isnan(table.p_holm["a"])


def test_other_queries_are_refused():
    with pytest.raises(DataError, match="arm b: measured on other queries"):
        comparison_table({"exact": {"a": {0: made([1, 0, 1, 1])}, "b": {0: made([1, 0, 1])}}})


def test_seconds_leave_a_pause_out():
    log = pd.DataFrame(
        {
            "epoch": [0, 0, 0, 1, 1, 1],
            "loss": [1.0, 1, np.nan, 1, 1, np.nan],
            "pairs_per_second": [np.nan, np.nan, 10, np.nan, np.nan, 20],
        }
    )
    assert seconds_of(log, 5) == pytest.approx(2 * 5 / 10 + 2 * 5 / 20)


@pytest.fixture(scope="module")
def compared(small_phantom, tmp_path_factory):
    out = tmp_path_factory.mktemp("compared")
    return out, compare(ARMS, small_phantom, out, (0, 1), SMALL, workers=0, progress=False)


def test_runs_lie_where_they_should(compared):
    out, found = compared
    assert {
        p.parent.relative_to(out).as_posix() for p in out.rglob("model.safetensors") if "checkpoints" not in p.parts
    } == {f"{a}/seed-{s}" for a in "ab" for s in (0, 1)}
    assert (
        set(found.table["arm"]) == {"a", "b"}
        and (found.costs["seconds"] > 0).all()
        and (found.costs["passes"] == 1).all()
    )
    facts = json.loads((out / "comparison.json").read_text())
    assert facts["arms"]["b"]["settings"] == {"dim": 16, "group_texts": False} and "wide" in facts["seed_interval"]
    wide = found.wide("R@5")
    assert list(wide.index) == ["a", "b"] and "R@5 image-to-text" in wide


def test_what_is_there_is_not_done_again_and_what_is_missing_is(compared, small_phantom):
    out, found = compared
    (out / "b" / "seed-1" / "cost.json").unlink()
    kept, lost = (out / "a" / "seed-0" / "cost.json").stat().st_mtime_ns, out / "b" / "seed-1" / "cost.json"
    again = compare(ARMS, small_phantom, out, (0, 1), SMALL, workers=1, progress=False)  # in a process of its own
    pd.testing.assert_frame_equal(again.table, found.table)
    assert lost.is_file() and (out / "a" / "seed-0" / "cost.json").stat().st_mtime_ns == kept


def test_read_again_without_its_runs(compared, small_phantom, tmp_path):
    out = compared[0]
    found = compare(ARMS, small_phantom, out, (0, 1), SMALL, workers=0, progress=False)
    for name in ("comparison.csv", "comparison.json", "costs.csv"):
        (tmp_path / name).write_bytes((out / name).read_bytes())
    again = Comparison.load(tmp_path)
    assert again.wide("R@5").equals(found.wide("R@5")) and again.facts["seeds"] == [0, 1]
    (tmp_path / "costs.csv").unlink()
    with pytest.raises(DataError, match="holds no comparison"):
        Comparison.load(tmp_path)
    with pytest.raises(DataError):
        Comparison.load(tmp_path / "nowhere")


def test_the_comparison_that_comes_with_the_project():
    """Every method, three seeds, 2,000 queries of as many patients, at least ten times what guessing reaches."""
    found = Comparison.load(shipped_data("results/methods"))
    rows = found.table[(found.table["metric"] == "R@10") & (found.table["protocol"] == "exact")]
    assert set(METHODS) <= set(rows["arm"]) and (rows["seeds"] == 3).all() and (rows["queries"] == 2000).all()
    assert (
        (rows["value"] >= 10 * rows["chance"]).all()
        and (rows["low"] <= rows["value"]).all()
        and (rows["value"] <= rows["high"]).all()
    )
    assert found.facts["seeds"] == [0, 1, 2] and (found.costs["passes"] == found.facts["budget"]["passes"]).all()


def test_another_budget_is_refused_in_the_same_folder(compared, small_phantom):
    out, _ = compared
    other = Budget(passes=2, protocols=("exact",), ks=(1, 5), training=TrainConfig(batch_size=8))
    with pytest.raises(DataError, match="was started with another config"):
        compare(ARMS, small_phantom, out, (0,), other, workers=0, progress=False)


def test_bad_arguments(small_phantom, tmp_path):
    with pytest.raises(DataError, match="seeds"):
        compare(ARMS, small_phantom, tmp_path, ())
    with pytest.raises(DataError, match="passes"):
        Budget(passes=0)
    with pytest.raises(DataError, match="protocols"):
        Budget(protocols=())
