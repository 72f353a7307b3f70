"Schemas: what may stand in a file, what is told of everything else, and that none is loaded before it is needed."

import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from support import child_environment

from medret_nb.data.files import MOST_BYTES, DataError, parse_json, read_json
from medret_nb.data.schemas import (
    NOTHING_ELSE,
    Schema,
    a_list,
    a_number,
    a_record,
    a_switch,
    a_text,
    a_union,
    a_whole,
    a_word,
    check_columns,
    numbers_in,
    or_none,
    shown_value,
)

RULE = a_record(
    {"step": a_whole(1, 10)},
    {
        "loss": or_none(a_number()),
        "name": a_text(5),
        "kind": or_none(a_word("a", "b")),
        "on": a_switch(),
        "list": a_list(a_whole(), 1, 2),
        "inner": a_record({"x": a_number(0, 1)}, others=NOTHING_ELSE),
        "either": a_union(a_text(), a_switch()),
    },
)
THING = Schema("a thing", RULE)

FITS = [
    {"step": 1},
    {"step": 10, "loss": None, "kind": None, "other": [[{}]]},
    {"step": 2, "loss": 1, "name": "abcde", "kind": "b", "on": False, "list": [1, 2], "inner": {"x": 0.5}},
    {"step": 2, "either": "x"},
    {"step": 2, "either": True},
]
WRONG = [
    (None, "must be names and values, not null"),
    ([], "must be names and values, not a list"),
    ({}, "lacks step"),
    ({"step": 1.0}, "step must be a whole number, not 1.0"),
    ({"step": True}, "step must be a whole number, not True"),
    ({"step": 0}, "step 0 is below 1"),
    ({"step": 10**100}, "step a number of more than 60 digits is above 10"),
    ({"step": 1, "loss": "x"}, "loss must be a number or null, not 'x'"),
    ({"step": 1, "loss": 1e300}, "loss 1e\\+300 is above"),
    ({"step": 1, "name": "abcdef"}, "name is a text of 6 letters, more than 5"),
    ({"step": 1, "kind": "c"}, "kind 'c' is none of a, b"),
    ({"step": 1, "on": 1}, "on must be true or false, not 1"),
    ({"step": 1, "list": []}, "list has 0 entries, at least 1"),
    ({"step": 1, "list": [1, 2, 3]}, "list has 3 entries, more than 2"),
    ({"step": 1, "list": [1, "x"]}, "list.1 must be a whole number"),
    ({"step": 1, "inner": {"x": 2}}, "inner.x 2 is above 1"),
    ({"step": 1, "inner": {"x": 1, "y": 1}}, "inner knows no y"),
    ({"step": 1, "either": 5}, "either 5 is nothing that may stand here"),
    ({"step": 1, "name": "long " * 10**6}, "name is a text of 5000000 letters, more than 5"),
]


@pytest.mark.parametrize("value", FITS)
def test_what_fits_comes_back_as_it_is(value):
    assert THING.check(value, "here") is value


@pytest.mark.parametrize("value, said", WRONG, ids=[said for _, said in WRONG])
def test_what_does_not_fit_is_one_line_with_its_place(value, said):
    with pytest.raises(DataError, match=f"^here: {said}.* \\(in a thing\\)$") as caught:
        THING.check(value, "here")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ('{"a": NaN}', "NaN is no number"),
        ('{"a": -Infinity}', "Infinity is no number"),
        ('{"a": 1e999}', "too large"),
        ("9" * 5000, "5000 digits"),
        ('{"a": 1, "b": 2, "a": 3}', "'a' stands twice"),
        ('{"a": "\\ud800"}', "half a character"),
        ("[" * 50 + "]" * 50, "nested more than 40 deep"),
        ("[" * 10**5 + "]" * 10**5, "JSON"),
    ],
)
def test_json_that_is_none_of_ours_is_refused_in_one_line(tmp_path, text, said):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DataError, match=said) as caught:
        read_json(tmp_path / "x.json")
    assert str(tmp_path / "x.json") in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_are_none_or_too_large_are_refused(tmp_path):
    for path, said in ((tmp_path, "no file"), (tmp_path / "none", "no such file"), ("/dev/zero", "no file")):
        with pytest.raises(DataError, match=said):
            read_json(path)
    with open(tmp_path / "large.json", "wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(DataError, match="the limit is"):
        read_json(tmp_path / "large.json")
    (tmp_path / "latin.json").write_bytes('{"a": "ü"}'.encode("latin-1"))
    with pytest.raises(DataError, match=r"not a UTF-8 text \(byte 7\)"):
        read_json(tmp_path / "latin.json")
    assert parse_json('{"a": "\\u00fc"}', "x") == {"a": "ü"}


def test_lines_are_named_and_only_the_last_may_be_cut_off(tmp_path):
    log = tmp_path / "log.jsonl"
    log.write_text('{"step": 1}\n\n{"step": 2}\n{"st')
    assert THING.read_lines(log) == [{"step": 1}, {"step": 2}]
    log.write_text('{"step": 1}\n{"step": 2}')
    assert len(THING.read_lines(log)) == 2
    log.write_text("")
    assert THING.read_lines(log) == []
    for text, said in (('{"step": 1}\n{"st\n{"step": 2}\n', "line 2: not valid"), ('{"step": 1}\n7\n', "line 2: must")):
        log.write_text(text)
        with pytest.raises(DataError, match=said):
            THING.read_lines(log)


def test_toml_likewise(tmp_path):
    (tmp_path / "x.toml").write_text('step = 3\nname = "ab"\n')
    assert THING.read_toml(tmp_path / "x.toml") == {"step": 3, "name": "ab"}
    for text, said in (("step = 3.5", "step must be"), ("step", "not a TOML file"), ("x = " + "[" * 9999, "deep")):
        (tmp_path / "x.toml").write_text(text)
        with pytest.raises(DataError, match=f"x.toml: .*{said}"):
            THING.read_toml(tmp_path / "x.toml")


def test_numbers_of_metadata_are_finite():
    assert numbers_in({"a": "1e3", "b": "x"}, ["a", "c"], "here") == {"a": 1000.0, "b": "x"}
    for word in ("nan", "inf", "-inf", "", "1,5", "x" * 10**5):
        with pytest.raises(DataError, match="^here: a is .*number$") as caught:
            numbers_in({"a": word}, ["a"], "here")
        assert len(str(caught.value)) < 200


def test_columns_are_there_and_hold_what_they_should():
    table = pd.DataFrame({"t": ["a", None], "w": pd.Categorical(["a", "b"]), "n": [1.0, np.nan]})
    assert check_columns(table, {"t": "texts", "w": "words", "n": "numbers"}, "here") is table
    for kinds, said in (
        ({"x": "texts"}, "lacks the column x; it has t, w, n"),
        ({"t": "words"}, "column t is empty in row 1"),
        ({"t": "numbers"}, "column t must hold numbers"),
        ({"n": "texts"}, "column n must hold texts"),
    ):
        with pytest.raises(DataError, match=f"^here: .*{said}"):
            check_columns(table, kinds, "here")


def test_values_are_shown_short_and_on_one_line():
    for value in ("a\nb" * 10**6, 10**10_000, [1] * 9, {"a": 1}, None, 1.5, "\u2028"):
        shown = shown_value(value)
        assert len(shown) <= 70 and shown.isprintable()


def test_a_long_log_is_checked_in_less_than_a_second(tmp_path):
    lines = [f'{{"step": {1 + n % 10}, "loss": {n / 7}}}' for n in range(10_000)]
    (tmp_path / "log.jsonl").write_text("\n".join(lines) + "\n")
    begun = time.perf_counter()
    assert len(THING.read_lines(tmp_path / "log.jsonl")) == 10_000
    assert time.perf_counter() - begun < 3  # a fifth of a second on an idle machine


def test_the_library_is_loaded_with_the_first_file():
    code = "import sys, medret_nb.data.runs, medret_nb.cli.main; print('fastjsonschema' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=child_environment())
    assert done.stdout.strip() == "False", done.stderr
