"What was measured: one number with its doubt, printed alike everywhere, saved so that anybody can read it."

import json
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medret_nb.data.files import DataError
from medret_nb.evaluation.measured import Measured, entry, estimate, plain_number, shown, shown_interval


@dataclass
class Coin(Measured):
    """Heads of a coin."""

    report: dict
    rows: list[dict] = field(default_factory=list)


FAIR = Coin({"throws": 400, "seed": 0}, [{"coin": "fair", "heads": 0.5}, {"coin": "bent", "heads": 0.75}])


def test_an_entry_holds_plain_floats_or_none():
    number = entry(np.float32(0.5), low=np.int64(0), high=float("inf"), chance=np.nan, n=7, note=None)
    assert number == {"value": 0.5, "low": 0.0, "high": None, "chance": None, "n": 7, "note": None}
    assert all(type(number[name]) is float for name in ("value", "low"))
    assert entry(None) == {"value": None, "low": None, "high": None, "chance": None}
    json.dumps(number, allow_nan=False)


@given(st.floats(-10, 10), st.integers(0, 6))
def test_a_number_is_printed_with_its_digits(value, digits):
    assert shown(value, digits) == f"{value:.{digits}f}"


@pytest.mark.parametrize("nothing", [None, float("nan"), float("inf")])
def test_what_does_not_exist_is_a_dash(nothing):
    assert shown(nothing) == "-"
    assert shown_interval(entry(nothing)) == "-"
    assert shown_interval(None) == "-"


def test_an_interval_follows_its_value_where_there_is_one():
    assert shown_interval(entry(0.1694, 0.151, 0.187)) == "0.169 [0.151, 0.187]"
    assert shown_interval(entry(0.1694, 0.151, 0.187), digits=1) == "0.2 [0.2, 0.2]"
    assert shown_interval(entry(0.1694)) == "0.169"
    assert shown_interval(entry(0.1694, 0.151)) == "0.169 [0.151, -]"


def test_a_result_is_a_table_and_lines():
    assert FAIR.table()["heads"].tolist() == [0.5, 0.75]
    assert str(FAIR).splitlines() == FAIR.lines()
    assert "bent" in FAIR.lines()[-1]


def test_a_saved_result_is_found_and_its_report_read(tmp_path):
    folder = tmp_path / "deep" / "coin"
    assert not Coin.there(folder)
    assert FAIR.save(folder) == folder
    assert Coin.there(folder)
    assert [path.name for path in folder.iterdir()] == ["metrics.json"]
    assert Measured.read_report(folder) == {"throws": 400, "seed": 0, "rows": FAIR.rows}
    first = (folder / "metrics.json").read_bytes()
    FAIR.save(folder)
    assert (folder / "metrics.json").read_bytes() == first


def test_a_report_that_is_missing_or_none_is_named(tmp_path):
    with pytest.raises(DataError, match="metrics.json: there is no such file"):
        Measured.read_report(tmp_path)
    (tmp_path / "metrics.json").write_text("[1]")
    with pytest.raises(DataError, match="metrics.json: must be names and values"):
        Measured.read_report(tmp_path)
    (tmp_path / "metrics.json").write_text("{")
    with pytest.raises(DataError, match="metrics.json: not valid JSON"):
        Measured.read_report(tmp_path)


def test_an_estimate_has_no_chance_unless_it_is_given_one():
    assert estimate(np.float32(0.5), 0.25, np.inf) == {"value": 0.5, "low": 0.25, "high": None}
    assert estimate(1, clean=np.nan, kept=2) == {"value": 1.0, "low": None, "high": None, "clean": None, "kept": 2.0}
    assert entry(1, 0, 2, 0.5, films=3) == estimate(1, 0, 2, chance=0.5) | {"films": 3}
    assert plain_number(None) is plain_number(np.nan) is None
    assert isinstance(plain_number(np.int64(3)), float)
