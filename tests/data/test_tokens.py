"Word pieces: the same in every run, whole words known, texts as integers, and a file that is whole or named."

import json
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medret_nb.data.files import DataError
from medret_nb.data.tokens import (
    load_tokenizer,
    save_tokenizer,
    shared_words,
    tokenize,
    train_tokenizer,
    truncated,
)

CORPUS = [
    "The heart is normal in size.",
    "Small left pleural effusion.",
    "No pneumothorax or effusion.",
    "Right lower lobe opacity, 1.5 cm.",
] * 3


@pytest.fixture(scope="module")
def tok():
    return train_tokenizer(CORPUS, size=120)


def test_special_tokens_come_first_and_nothing_of_the_corpus_is_unknown(tok):
    special = [tok.pad_token_id, tok.unk_token_id, tok.cls_token_id, tok.sep_token_id, tok.mask_token_id]
    assert special == [0, 1, 2, 3, 4]
    assert len(tok) <= 120
    tokens, mask, _ = tokenize(tok, CORPUS, 64)
    assert not (tokens == tok.unk_token_id).any()
    assert (tokens[:, 0] == tok.cls_token_id).all() and (mask.sum(1) > 2).all()


def test_pieces_glue_back_to_the_text(tok):
    pieces = tok("No pneumothorax or effusion.")["input_ids"]
    assert tok.decode(pieces, skip_special_tokens=True) == "no pneumothorax or effusion."


def test_shapes_padding_truncation_and_words(tok):
    texts = ["Effusion.", "opacity " * 50, ""]
    tokens, mask, words = tokenize(tok, texts, 12)
    assert tokens.shape == mask.shape == words.shape == (3, 12)
    assert tokens.dtype == words.dtype == torch.int64 and mask.dtype == torch.bool
    assert (tokens[~mask] == tok.pad_token_id).all() and (words[~mask] == -1).all()
    assert (words[:, 0] == -1).all() and tokens[1, -1] == tok.sep_token_id and mask[2].sum() == 2
    alone, _, _ = tokenize(tok, texts[:1], 12)
    assert alone.shape[1] < 12 and torch.equal(alone[0], tokens[0, : alone.shape[1]])
    assert truncated(tok, texts, 12).tolist() == [False, True, False]
    assert tokenize(tok, [], 12)[0].shape == (0, 12) and truncated(tok, [], 12).shape == (0,)


def test_word_numbers_follow_the_words(tok):
    tokens, _, words = tokenize(tok, ["Pneumothoraxes left"], 64)
    pieces = tok.convert_ids_to_tokens(tokens[0].tolist())
    going_on = [word for piece, word in zip(pieces, words[0].tolist()) if piece.startswith("##")]
    assert going_on and set(going_on) == {0}
    assert words[0].max() == 1


def test_a_length_without_room_is_refused(tok):
    with pytest.raises(ValueError, match="length: 2"):
        tokenize(tok, ["a"], 2)


def test_same_pieces_in_another_process(tok):
    code = (
        "import json, sys; from medret_nb.data.tokens import train_tokenizer;"
        "print(json.dumps(train_tokenizer(json.loads(sys.argv[1]), size=120).get_vocab(), sort_keys=True))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, json.dumps(CORPUS)], capture_output=True, text=True, check=True
    ).stdout
    assert json.loads(out) == tok.get_vocab()


def test_a_word_that_is_frequent_takes_fewer_pieces(tok):
    told = train_tokenizer(CORPUS + ["Pleuritis."] * 10, size=200)
    assert len(told.tokenize("pleuritis")) < len(tok.tokenize("pleuritis"))


def test_training_needs_words_and_room():
    with pytest.raises(DataError, match="hold no word"):
        train_tokenizer(["", "  "])
    with pytest.raises(ValueError, match="size: 10 word pieces are too few"):
        train_tokenizer(CORPUS, size=10)


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.lists(st.sampled_from(["Heart", "lung", "Quill", "no"]))), min_size=1
    ),
    st.integers(1, 3),
)
def test_shared_words_are_those_of_enough_patients(said, least):
    texts = [" ".join(words) for _, words in said]
    patients = [patient for patient, _ in said]
    expected = []
    for _, words in said:
        kept = []
        for word in words:
            owners = {patient for patient, others in said if word in others}
            if len(owners) >= least:
                kept.append(word.lower())
        expected.append(" ".join(kept))
    assert shared_words(texts, patients, least) == expected


def test_saved_tokenizer_comes_back(tok, tmp_path):
    save_tokenizer(tok, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"tokenizer.json", "tokenizer_config.json"}
    again = load_tokenizer(tmp_path)
    assert again.get_vocab() == tok.get_vocab() and again.special_tokens_map == tok.special_tokens_map
    for one, other in zip(tokenize(tok, CORPUS, 16), tokenize(again, CORPUS, 16)):
        assert torch.equal(one, other)
    (tmp_path / "tokenizer_config.json").unlink()
    assert torch.equal(tokenize(load_tokenizer(str(tmp_path)), CORPUS, 16)[0], tokenize(tok, CORPUS, 16)[0])


def test_use_leaves_no_mark_in_the_file(tok, tmp_path):
    save_tokenizer(tok, tmp_path / "a")
    tok(["some words", "more of them"], truncation=True, max_length=4, padding=True)
    save_tokenizer(tok, tmp_path / "b")
    assert (tmp_path / "a" / "tokenizer.json").read_bytes() == (tmp_path / "b" / "tokenizer.json").read_bytes()


def test_a_bert_vocabulary_file_is_enough(tmp_path):
    (tmp_path / "vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "lungs", "clear", "##er"])
    )
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    assert tokenize(load_tokenizer(tmp_path), ["Lungs clearer"], 16)[0].tolist() == [[2, 5, 6, 7, 3]]


def test_missing_and_broken_tokenizers_are_named(tmp_path):
    with pytest.raises(DataError, match="no tokenizer here"):
        load_tokenizer(tmp_path)
    with pytest.raises(DataError, match="no tokenizer here"):
        load_tokenizer(tmp_path / "nowhere")
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0", "mod')
    with pytest.raises(DataError, match="cannot be loaded") as caught:
        load_tokenizer(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_very_long_report_is_cut(tok):
    text = "small effusion " * 50_000
    assert tokenize(tok, [text], 128)[0].shape == (1, 128)
    assert truncated(tok, [text], 128).all()
