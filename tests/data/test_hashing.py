"""The hash of a table: equal for equal content in any dress, different for any change; remembered until a change."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medret_nb.data.hashing import Remembered, table_hash

TABLE = pd.DataFrame(
    {
        "study_id": ["a", "b", "c"],
        "text": ["fluid", None, "fluid\n"],
        "x0": [0.25, np.nan, 1.0],
        "value": [1, 0, -1],
        "labels": [{"Edema": 1, "Fracture": 0}, {}, None],
    }
)


def test_dress_does_not_matter():
    reference = table_hash(TABLE)
    assert table_hash(TABLE[sorted(TABLE.columns)]) == reference
    assert table_hash(TABLE.assign(empty=None, nothing=np.nan)) == reference
    assert table_hash(TABLE.astype({"value": "Int64", "text": "string"})) == reference
    assert table_hash(TABLE.astype({"value": float, "study_id": object, "text": object})) == reference
    assert table_hash(TABLE.set_index(pd.Index([7, 8, 9]))) == reference
    turned = TABLE.assign(labels=[{"Fracture": 0, "Edema": 1}, {}, None])
    assert table_hash(turned) == reference


@pytest.mark.parametrize(
    ("column", "value"),
    [("study_id", "A"), ("text", ""), ("text", None), ("x0", 0.2500000001), ("value", 0), ("labels", {"Edema": 1})],
)
def test_any_change_matters(column, value):
    changed = TABLE.copy()
    changed.at[0, column] = value
    assert table_hash(changed) != table_hash(TABLE)


def test_rows_and_names_matter():
    reference = table_hash(TABLE)
    assert table_hash(TABLE[::-1]) != reference
    assert table_hash(TABLE[:2]) != reference
    assert table_hash(TABLE.rename(columns={"text": "note"})) != reference


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=6) | st.none(), min_size=2, max_size=6))
def test_texts_do_not_run_together(texts):
    split = pd.DataFrame({"text": pd.Series(texts, dtype=object)})
    joined = pd.DataFrame({"text": pd.Series([*texts[:-2], (texts[-2] or "") + (texts[-1] or ""), ""], dtype=object)})
    same = list(split["text"]) == list(joined["text"])
    assert (table_hash(split) == table_hash(joined)) == same


@pytest.mark.parametrize("dtype", [object, "string", "category"])
def test_a_change_in_place_is_noticed(dtype):
    table = TABLE.astype({"study_id": dtype})
    asked = []
    remembered = Remembered(lambda given: asked.append(1) or table_hash(given))
    first = remembered(table)
    assert remembered(table) == first and len(asked) == 1
    table.loc[1, "study_id"] = "a"
    assert remembered(table) == table_hash(table) != first and len(asked) == 2
    table["x0"] = table["x0"] * 2
    assert remembered(table) == table_hash(table) and len(asked) == 3
    assert remembered(table[:2]) == table_hash(table[:2])
