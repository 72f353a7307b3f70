"""Numbers of a table of queries: averages by hand, the median rank by chance, sums over directions."""

import numpy as np
import pandas as pd
import pytest

from medret_nb.evaluation.summaries import columns_of, stack, summarise


def table(hits, ranks, relevant=1):
    return pd.DataFrame({"hit_1": hits, "chance_1": 0.1, "relevant": relevant, "rank": ranks})


def test_numbers_are_means_over_queries_that_were_asked():
    tables = {"image-to-text": table([1.0, 0.0, np.nan], [1.0, 4.0, np.nan], [1, 2, 0])}
    found = summarise(tables, {"image-to-text": np.array([0, 1, 2])}, {"image-to-text": 9}, draws=50)
    part = found["directions"]["image-to-text"]
    assert part["queries"] == 2 and part["excluded"] == 1 and part["gallery"] == 9
    assert part["metrics"]["R@1"]["value"] == 0.5 and part["metrics"]["R@1"]["chance"] == pytest.approx(0.1)
    assert part["metrics"]["median rank"]["value"] == 2.5
    by_chance = np.median([(9 + 1) / (1 + 1), (9 + 1) / (2 + 1)])  # (N + 1) / (R + 1)
    assert part["metrics"]["median rank"]["chance"] == pytest.approx(by_chance)
    assert found["both"] == {}, "one direction has no sum over directions"


def test_rsum_adds_both_directions_in_percent():
    half = table([1.0, 0.0] * 20, [1.0, 2.0] * 20)
    tables = {"image-to-text": half, "text-to-image": table([1.0, 1.0] * 20, [1.0, 1.0] * 20)}
    clusters = {name: np.arange(40) for name in tables}
    found = summarise(tables, clusters, dict.fromkeys(tables, 2), draws=50)
    assert found["both"]["RSUM@1"]["value"] == 150 and found["both"]["RSUM@1"]["chance"] == pytest.approx(20)
    assert found["both"]["RSUM@1"]["low"] >= 100 and found["both"]["RSUM@1"]["high"] <= 200


def test_a_number_of_one_direction_is_empty_in_the_other():
    tables = {"image-to-text": table([1.0], [1.0]), "text-to-image": table([0.0, 1.0], [2.0, 1.0])}
    stacked = stack(tables, columns_of(tables))
    assert np.array_equal(stacked, [[1, np.nan], [np.nan, 0], [np.nan, 1]], equal_nan=True)
