"Tables of texts: what is taken is what cutting the text, or the shuffled text, gives; on every device the same."

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from medret_nb.data.files import shipped_data
from medret_nb.data.reports import split_sentences
from medret_nb.data.text_tables import TextTable, shuffle_sentences
from medret_nb.data.tokens import load_tokenizer, tokenize

NAMES = ("tokens", "mask", "word_ids")
WORDS = [
    "heart",
    "lungs",
    "clear",
    "effusion,",
    "No",
    "left-sided",
    "1.5 cm",
    "Dr. Quill",
    "[SEP]",
    "pneumothorax",
    "œdème",
]
SENTENCES = st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join), max_size=6)


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(shipped_data("tiny/text"))


def byte_level():
    "A small byte-level BPE tokenizer in the manner of RoBERTa."
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>"]
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special, show_progress=False)
    backend.train_from_iterator(["The heart is normal. The lungs are clear. No effusion."] * 3, trainer)
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


def rows(table, keys, device="cpu"):
    "All studies of a table, by keys (N, S), on a device."
    at = torch.arange(len(table.lengths), device=device)
    return table.take(at, torch.as_tensor(keys, device=device), int(table.lengths.max()))


def same(made, expected):
    "Whether a text's row of a table (W,) holds what was cut (w,), w <= W, and nothing behind it."
    for name, value in zip(NAMES, expected):
        width = len(value)
        assert torch.equal(made[name][:width], value), name
    assert not made["mask"][width:].any() and (made["word_ids"][width:] == -1).all()


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(SENTENCES.map(lambda parts: "".join(part + ". " for part in parts)), min_size=1, max_size=5),
    length=st.integers(3, 40),
    key=st.integers(0, 2**63 - 1),
)
def test_what_is_taken_is_what_cutting_gives(tokenizer, texts, length, key):
    slots = [[text, text] for text in texts]
    table = TextTable(tokenizer, slots, np.array([[False, True]] * len(texts)), length)
    keys = torch.stack([torch.zeros(len(texts), dtype=torch.int64), key - torch.arange(len(texts))], 1)
    made = rows(table, keys)
    assert np.array_equal(made["mask"].sum(-1), table.lengths)
    for i, text in enumerate(texts):
        shuffled = shuffle_sentences(text, int(keys[i, 1]))
        for s, said in enumerate((text, shuffled)):
            cut = [value[0] for value in tokenize(tokenizer, [said], length)]
            same({name: value[i, s] for name, value in made.items()}, cut)


def test_shuffled_sentences_are_the_same_sentences():
    text = "One is here. Two is there. Three is gone."
    assert {tuple(sorted(shuffle_sentences(text, k).split())) for k in range(20)} == {tuple(sorted(text.split()))}
    assert len({shuffle_sentences(text, k) for k in range(60)}) == 6
    assert shuffle_sentences("...", 1) == shuffle_sentences("", 1) == ""


def test_the_sentences_of_a_list_lose_their_numbers_as_in_the_shuffled_text(tokenizer):
    text = "1. No effusion. 2. The heart is normal. 3. ..."
    table = TextTable(tokenizer, [["x", text]], np.array([[False, True]]), 30)
    made = rows(table, [[0, 7]])
    same({n: v[0, 1] for n, v in made.items()}, [v[0] for v in tokenize(tokenizer, [shuffle_sentences(text, 7)], 30)])


def test_a_byte_level_tokenizer_keeps_each_sentence_as_it_stands_in_the_report():
    tok = byte_level()
    text = "The heart is normal. The lungs are clear. No effusion."
    table = TextTable(tok, [[text, text]], np.array([[False, True]]), 60)
    parts = [" " * (i > 0) + sentence for i, sentence in enumerate(split_sentences(text))]
    cut = [tok(part, add_special_tokens=False)["input_ids"] for part in parts]
    seen = set()
    for key in range(30):
        made = rows(table, [[0, key]])
        same({n: v[0, 0] for n, v in made.items()}, [v[0] for v in tokenize(tok, [text], 60)])
        order = [split_sentences(text).index(s) for s in split_sentences(shuffle_sentences(text, key))]
        expected = [0, *(piece for i in order for piece in cut[i]), 2]
        assert made["tokens"][0, 1][made["mask"][0, 1]].tolist() == expected
        seen.add(tuple(order))
    assert len(seen) == 6


def test_a_draw_does_not_depend_on_the_other_texts(tokenizer):
    text = "The heart is large. No effusion. Clear lungs."
    long = " ".join(f"Sentence number {i} says nothing." for i in range(30))
    alone = TextTable(tokenizer, [["a", text]], np.array([[False, True]]), 40)
    company = TextTable(tokenizer, [["b", long], ["a", text]], np.array([[False, True]] * 2), 40)
    for key in range(5):
        one, two = rows(alone, [[0, key]]), rows(company, [[0, 1], [0, key]])
        width = one["tokens"].shape[-1]
        for name in NAMES:
            assert torch.equal(one[name][0], two[name][1, :, :width])


def test_the_same_on_every_device(tokenizer, device):
    texts = [
        ["No effusion.", "The heart is large. No effusion. Clear lungs."],
        ["Clear. Normal.", "No change. Old rib."],
    ]
    drawn = np.array([[False, True], [False, False]])
    keys = [[0, 2**62 + 5], [1, 2]]
    here = rows(TextTable(tokenizer, texts, drawn, 20), keys)
    there = rows(TextTable(tokenizer, texts, drawn, 20).to(device), keys, device)
    for name in NAMES:
        assert there[name].device == device and torch.equal(there[name].cpu(), here[name])
