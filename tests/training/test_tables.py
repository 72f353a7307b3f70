"""The table of a comparison: components of patients, seeds, and both, against a slow reading."""

import numpy as np
import pandas as pd
import pytest

from medret_nb.data.files import DataError
from medret_nb.evaluation.intervals import bootstrap_interval, holm, paired_bootstrap, seed_interval
from medret_nb.evaluation.results import Results
from medret_nb.evaluation.seeds import combined_luck
from medret_nb.training.tables import comparison_table


def made(hits, order=None, direction="image-to-text"):
    names = [f"q{i:02d}" for i in range(len(hits))]
    table = pd.DataFrame(
        {
            "query": names,
            "study_id": names,
            "patient_id": names,
            "group_id": [f"p{i // 2}" for i in range(len(hits))],
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


def arms_of(rng, shares, queries=80):
    """Arm -> hits (3, queries)."""
    return {arm: (rng.random((3, queries)) < share).astype(float) for arm, share in shares.items()}


def test_the_table_against_a_slow_reading():
    rng = np.random.default_rng(0)
    hits = arms_of(rng, {"a": 0.3, "b": 0.6, "c": 0.35})
    shuffled = {}
    for arm, rows in hits.items():
        shuffled[arm] = {seed: made(row, rng.permutation(80)) for seed, row in enumerate(rows)}
    table = comparison_table({"exact": shuffled}).set_index("arm")
    groups = [f"p{i // 2}" for i in range(80)]
    raw = []
    for arm, rows in hits.items():
        row = table.loc[arm]
        low, high = bootstrap_interval(rows.mean(0), groups)
        assert row["value"] == pytest.approx(rows.mean()) and row["chance"] == pytest.approx(0.1)
        assert (row["low"], row["high"]) == pytest.approx((low, high))
        both = combined_luck(rows.mean(), low, high, 40, rows.mean(1))
        assert (row["both_low"], row["both_high"]) == pytest.approx((both.low, both.high))
        assert [float(v) for v in row["by_seed"].split()] == pytest.approx(rows.mean(1), abs=1e-4)
        if arm == "a":
            continue
        pair = paired_bootstrap(hits["a"].mean(0), rows.mean(0), groups)
        steps = [(ours - theirs).mean() for theirs, ours in zip(hits["a"], rows)]
        joined = combined_luck(pair.value, pair.low, pair.high, 40, steps)
        assert (row["difference"], row["d_low"], row["d_high"]) == pytest.approx((pair.value, pair.low, pair.high))
        assert (row["d_both_low"], row["d_both_high"], row["p"]) == pytest.approx((joined.low, joined.high, joined.p()))
        assert row["agree"] == (all(step > 0 for step in steps) or all(step < 0 for step in steps))
        assert (row["d_seed_low"], row["d_seed_high"]) == pytest.approx(seed_interval(steps))
        raw.append(joined.p())
    assert list(table["p_holm"][["b", "c"]]) == pytest.approx(list(holm(raw))) and np.isnan(table["p_holm"]["a"])


def test_one_seed_has_a_p_over_patients_and_no_interval_over_both():
    hits = arms_of(np.random.default_rng(1), {"a": 0.3, "b": 0.5})
    alone = {arm: {0: made(rows[0])} for arm, rows in hits.items()}
    row = comparison_table({"exact": alone}).set_index("arm").loc["b"]
    groups = [f"p{i // 2}" for i in range(80)]
    assert np.isnan([row["both_low"], row["d_both_low"]]).all()
    assert row["p"] == pytest.approx(paired_bootstrap(hits["a"][0], hits["b"][0], groups).p)


def test_few_patients_have_values_and_no_interval():
    hits = arms_of(np.random.default_rng(2), {"a": 0.3, "b": 0.5}, queries=20)
    few = {arm: {seed: made(row) for seed, row in enumerate(rows)} for arm, rows in hits.items()}
    row = comparison_table({"exact": few}).set_index("arm").loc["b"]
    assert row["value"] == pytest.approx(hits["b"].mean()) and np.isnan([row["low"], row["d_low"], row["p"]]).all()


def test_other_queries_are_refused():
    with pytest.raises(DataError, match="arm b: measured on other queries"):
        comparison_table({"exact": {"a": {0: made([1, 0, 1, 1])}, "b": {0: made([1, 0, 1])}}})
