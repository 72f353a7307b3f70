"Tokenizers are looked at before a library opens them; what kills a process does not kill this one."

import copy

import pytest

from medret_nb.data.files import DataError, read_json, shipped_data, write_json
from medret_nb.data.tokenizer_files import check_tokenizer_file, guarded, steps_of
from medret_nb.data.tokens import load_tokenizer, tokenize

GOOD = read_json(shipped_data("tiny/text") / "tokenizer.json")
REPLACE = {"type": "Replace", "pattern": {"Regex": "a"}, "content": "b"}


def splitter(pattern):
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def changed(**parts):
    return {**copy.deepcopy(GOOD), **parts}


def model(**parts):
    return changed(model={**GOOD["model"], **parts})


BAD = {
    "a list": ([], "names and values"),
    "no model": ({"version": "1.0"}, "lacks model"),
    "a model that is a text": (changed(model="bert"), "model must be"),
    "no vocabulary": (model(vocab=5), "vocab"),
    "a piece of a negative number": (model(vocab={**GOOD["model"]["vocab"], "x": -1}), "vocab"),
    "a piece beyond all numbers": (model(vocab={**GOOD["model"]["vocab"], "x": 10**12}), "vocab"),
    "no piece for unknown words": (model(unk_token="[WHAT]"), "unknown words"),
    "none named": (model(unk_token=None), "unknown words"),
    "a prefix of a thousand letters": (model(continuing_subword_prefix="#" * 1000), "continuing_subword_prefix"),
    "a long replacement": (changed(normalizer={**REPLACE, "content": "x" * 3000}), "content of Replace is too large"),
    "replacements that multiply": (
        changed(normalizer={"type": "Sequence", "normalizers": [{**REPLACE, "content": "x" * 1000}] * 2}),
        "times as long",
    ),
    "a replacement that is a number": (changed(normalizer={**REPLACE, "content": 5}), "must be a text"),
    "a padding of a million million": (changed(padding={"strategy": {"Fixed": 10**12}}), "too large"),
    "a pattern that is none": (changed(pre_tokenizer=splitter("(")), "cannot be used"),
    "a pattern without an end": (changed(pre_tokenizer=splitter("(?:(?:a+)+)+$|((a|a)*)*b")), "retry-limit"),
    "a table that is none": (
        changed(normalizer={"type": "Precompiled", "precompiled_charsmap": "!"}),
        "cannot be used",
    ),
    "a table that is cut off": (
        changed(normalizer={"type": "Precompiled", "precompiled_charsmap": "/////zEyMzQ="}),
        "cannot be used",
    ),
    "a table that points beyond itself": (
        changed(normalizer={"type": "Precompiled", "precompiled_charsmap": "CAAAAP//////////YWJj"}),
        "cannot be used",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_tokenizer_that_would_do_harm_is_refused_in_one_line(tmp_path, capfd, name):
    content, said = BAD[name]
    write_json(content, tmp_path / "tokenizer.json")
    with pytest.raises(DataError, match=said) as caught:
        check_tokenizer_file(tmp_path / "tokenizer.json")
    assert "tokenizer.json" in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(DataError, match="the tokenizer cannot be loaded"):
        load_tokenizer(tmp_path)
    assert capfd.readouterr().err == ""


def test_harmless_rules_pass(tmp_path):
    for content in (
        GOOD,
        changed(normalizer={"type": "Sequence", "normalizers": [REPLACE, {"type": "Lowercase"}]}),
        changed(pre_tokenizer=splitter(r"'s|'t| ?\p{L}+| ?\p{N}+|\s+(?!\S)|\s+")),
    ):
        write_json(content, tmp_path / "tokenizer.json")
        check_tokenizer_file(tmp_path / "tokenizer.json")
        assert tokenize(load_tokenizer(tmp_path), ["No pleural effusion."], 16)[1].any()


def test_all_rules_are_found():
    rules = {"type": "Sequence", "normalizers": [REPLACE, {"type": "Sequence", "normalizers": [REPLACE]}]}
    assert [step.get("type") for step in steps_of(rules)].count("Replace") == 2


class Panic(BaseException):
    "As a Rust library throws it: no Exception."


@pytest.mark.parametrize("error", [Panic("it broke\nhere"), Exception("Missing [UNK]"), TypeError("x" * 5000)])
def test_whatever_a_library_throws_becomes_one_line(error):
    def work():
        raise error

    with pytest.raises(DataError, match="^here \\(") as caught:
        guarded(work, "here")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_a_wish_to_stop_is_no_error():
    def work():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        guarded(work, "here")
    assert guarded(lambda: 5, "here") == 5
