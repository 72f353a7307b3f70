"""The pieces of the tour's page: numbers as printed, and the speed that a log tells."""

import pandas as pd

from medret_nb.cli.tour_page import metric_text, speed


def test_a_number_that_is_missing_is_an_empty_cell():
    assert metric_text(None, "R@1") == "" and metric_text({"value": None}, "R@1") == ""
    assert metric_text({"value": 0.25}, "R@1") == "0.250" and metric_text({"value": 3.5}, "median rank") == "3.5"


def test_speed_is_told_where_it_was_logged():
    log = pd.DataFrame({"step": [1, 2], "pairs_per_second": [None, 40.0], "loader_share": [None, 0.25]})
    assert speed(log) == {"training pairs per second": "40", "loader's share of a step": "25%"}
    assert speed(log[["step"]]) == {}
