"Words of others: no line of their own, no terminal steered, no formula."

import io
import sys

import pandas as pd
import pytest

from medret_nb.data.printing import GuardedStream, guarded_output, printable, say, tame


@pytest.mark.parametrize("text", ["a\x1b[2Jb", "a\nb", "a\r\nb", "a\u2028b", "a\x9bb", "a\u202eb", "\ud800"])
def test_nothing_steers_a_terminal_or_adds_a_line(text):
    out = io.StringIO()
    say(f"  {text}", "next", file=out)
    lines = out.getvalue().split("\n")
    assert len(lines) == 3 and lines[0].startswith("  ") and all(line.isprintable() for line in lines)
    assert printable(text).isprintable() and "  " not in printable(text)


@pytest.mark.parametrize("bars", [False, True])
@pytest.mark.parametrize(
    "text", ["a\x1b[2Jb", "\x1b]0;title\x07", "a\u2028b", "a\x9bb", "a\u202eb", "\ud800", "a\x1b[A"]
)
def test_a_guarded_stream_passes_lines_alone(text, bars):
    out = io.StringIO()
    stream = GuardedStream(out, bars=bars)
    print(text, "\tnext", sep="\n", file=stream)
    stream.writelines([text, "\n"])
    lines = out.getvalue().split("\n")
    assert lines[1] == "\tnext" and len(lines) == 4
    assert len(lines[0]) == len(text) and lines[0].isprintable() and lines[2] == lines[0]


def test_only_bars_move_and_only_on_the_error_output(capsys):
    with guarded_output():
        print("safe\rgone\x1b[A")
        sys.stderr.write("\r 50 %")
        sys.stderr.write("\n\x1b[A")
    shown = capsys.readouterr()
    assert shown.out == "safe gone [A\n" and shown.err == "\r 50 %\n\x1b[A"


def test_a_guarded_stream_answers_as_the_one_behind_it(tmp_path):
    with open(tmp_path / "file", "w", encoding="ascii", errors="backslashreplace") as file:
        stream = GuardedStream(file)
        assert stream.fileno() == file.fileno() and stream.encoding == "ascii" and not stream.isatty()
        assert stream.write("\u00fc") == 1
    assert (tmp_path / "file").read_text() == "\\xfc"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@A1", "\t=1", "\r=1", "\n=1", " =1", "\r", "=HYPERLINK(0)"])
def test_no_cell_is_a_formula(text):
    tamed = tame(pd.DataFrame({text: [text, "fine"]}))
    assert tamed.iloc[0, 0] == f"'{text}" == tamed.columns[0] and tamed.iloc[1, 0] == "fine"


def test_numbers_stay_numbers():
    table = pd.DataFrame({"a": [-1.5, 2.0], "b": [-1, 2], "c": ["x", None]})
    assert tame(table).equals(table)
