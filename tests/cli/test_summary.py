"""Results as tables and in words."""

import pandas as pd

from medret_nb.cli.summary import markdown, save_table


def test_markdown_escapes_bars():
    assert markdown(pd.DataFrame({"a|b": ["x|y"], "c": [0.5]})).splitlines()[2] == "| x\\|y | 0.500 |"


def test_a_table_is_saved_twice(tmp_path):
    save_table(pd.DataFrame({"metric": ["R@1"], "value": [0.12345], "ceiling": [None]}), tmp_path / "t")
    assert (tmp_path / "t.csv").read_text().splitlines()[1] == "R@1,0.12345,"
    assert (tmp_path / "t.md").read_text().splitlines()[2] == "| R@1 | 0.123 |  |"
