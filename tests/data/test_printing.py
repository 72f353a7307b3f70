"Words of others: no line of their own, no terminal steered, no formula."

import io

import pandas as pd
import pytest

from medret_nb.data.printing import printable, say, tame


@pytest.mark.parametrize("text", ["a\x1b[2Jb", "a\nb", "a\r\nb", "a\u2028b", "a\x9bb", "a\u202eb", "\ud800"])
def test_nothing_steers_a_terminal_or_adds_a_line(text):
    out = io.StringIO()
    say(f"  {text}", "next", file=out)
    lines = out.getvalue().split("\n")
    assert len(lines) == 3 and lines[0].startswith("  ") and all(line.isprintable() for line in lines)
    assert printable(text).isprintable() and "  " not in printable(text)


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@A1", "\t=1", "\r=1", "\n=1", " =1", "\r", "=HYPERLINK(0)"])
def test_no_cell_is_a_formula(text):
    tamed = tame(pd.DataFrame({text: [text, "fine"]}))
    assert tamed.iloc[0, 0] == f"'{text}" == tamed.columns[0] and tamed.iloc[1, 0] == "fine"


def test_numbers_stay_numbers():
    table = pd.DataFrame({"a": [-1.5, 2.0], "b": [-1, 2], "c": ["x", None]})
    assert tame(table).equals(table)
