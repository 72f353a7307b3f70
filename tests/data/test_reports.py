import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medret_nb.data.files import DataError
from medret_nb.data.reports import SECTION_POLICIES, duplicate_share, normalise_text, section_text, sections, split_report, split_sentences, text_groups
from medret_nb.data.tokens import load_tokenizer, save_tokenizer, shared_words, tokenize, train_tokenizer, truncated

CORPUS = [
    "The heart is normal in size.",
    "Small left pleural effusion.",
    "No pneumothorax or effusion.",
    "Right lower lobe opacity, 1.5 cm.",
] * 3
TEXTS = st.lists(st.text(max_size=40), max_size=12)


@pytest.fixture(scope="module")
def tok():
    return train_tokenizer(CORPUS, size=120)


def frame(**columns):
    return pd.DataFrame({"study_id": [f"s{k}" for k in range(len(next(iter(columns.values()))))], **columns})


@pytest.mark.parametrize(
    "text, parts",
    [
        ("", {}),
        ("Lungs clear.", {"note": "Lungs clear."}),
        ("FINDINGS: a. IMPRESSION: b.", {"findings": "a.", "impression": "b."}),
        ("Findings: a.\nconclusion: b.", {"findings": "a.", "impression": "b."}),
        ("FINDINGS\nTwo lines\nof it.\nIMPRESSION\nb", {"findings": "Two lines of it.", "impression": "b"}),
        ("Old text. REASON FOR EXAM: cough", {"note": "Old text.", "indication": "cough"}),
        ("FINDINGS: a.\nFINDINGS: b.", {"findings": "a. b."}),
        ("FINDINGS:   \nIMPRESSION: b", {"impression": "b"}),
        (
            "FINDINGS: these findings: none. IMPRESSION: the impression: fine",
            {"findings": "these findings: none.", "impression": "the impression: fine"},
        ),
        ("COMPARISON: none FINDINGS AND IMPRESSION: clear", {"comparison": "none", "findings": "clear"}),
    ],
)
def test_split_report(text, parts):
    assert split_report(text) == parts


@given(st.text(alphabet="abc .\n:", max_size=80))
def test_split_report_loses_no_text_without_headings(text):
    assert split_report(text).get("note", "") == " ".join(text.split())


def test_policies_fall_back_as_documented():
    table = frame(
        findings=["f one two", "", None, ""], impression=["i", "i only", np.nan, ""], note=[None, "n", "n", None]
    )
    expected = {
        "findings": ["f one two", "i only", "n", ""],
        "impression": ["i", "i only", "n", ""],
        "longest": ["f one two", "i only", "n", ""],
        "both": ["f one two i", "i only", "n", ""],
        "note": ["f one two i", "n", "n", ""],
    }
    assert {policy: section_text(table, policy) for policy in SECTION_POLICIES} == expected
    assert section_text(table.drop(columns=["note", "findings"])) == ["i", "i only", "", ""]
    assert sections(table) == [
        {"findings": "f one two", "impression": "i"},
        {"impression": "i only", "note": "n"},
        {"note": "n"},
        {},
    ]


def test_equally_long_sections_take_the_findings():
    assert section_text(frame(findings=["a b"], impression=["c d"]), "longest") == ["a b"]


def test_unknown_policy_is_named():
    with pytest.raises(ValueError, match="policy: 'title'"):
        section_text(frame(findings=["a"]), "title")


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", []),
        (" ... ", []),
        ("One", ["One"]),
        ("No change. Clear lungs.", ["No change.", "Clear lungs."]),
        ("Nodule of 1.5 cm. Stable.", ["Nodule of 1.5 cm.", "Stable."]),
        ("1. No effusion. 2. No pneumothorax.", ["No effusion.", "No pneumothorax."]),
        ("Seen by Dr. Gray. Ready", ["Seen by Dr. Gray.", "Ready"]),
        ("Heart normal\n\nLungs clear\nand dry.", ["Heart normal", "Lungs clear and dry."]),
        ("Really? Yes!", ["Really?", "Yes!"]),
    ],
)
def test_split_sentences(text, expected):
    assert split_sentences(text) == expected


@given(st.text(max_size=120))
@settings(deadline=None)
def test_sentences_keep_every_letter(text):
    def letters(value):
        return "".join(c for c in value if c.isalpha())

    assert letters(" ".join(split_sentences(text))) == letters(text)


@pytest.mark.parametrize(
    "one, other",
    [
        ("Lungs CLEAR.", "lungs  clear"),
        ("Heart\nnormal; XXXX", "heart, normal"),
        ("Seen on ___.", "seen on"),
        ("x-XXXX of the chest", "X - of the chest"),
        ("Old [**2010-1-2**] film", "old film"),
        ("\ufb01ne", "fine"),
    ],
)
def test_texts_that_are_the_same(one, other):
    assert normalise_text(one) == normalise_text(other)


@pytest.mark.parametrize(
    "one, other", [("1.5 cm", "15 cm"), ("no effusion", "effusion"), ("left", "right"), ("xray", "ray")]
)
def test_texts_that_differ(one, other):
    assert normalise_text(one) != normalise_text(other)


@given(st.text(max_size=60))
def test_normalising_twice_changes_nothing(text):
    once = normalise_text(text)
    assert normalise_text(once) == once
    assert normalise_text(f"  {text.upper().lower()} ") == normalise_text(text.upper().lower())


@given(TEXTS)
def test_groups_equal_the_pairwise_loop(texts):
    groups = text_groups(texts)
    plain = [normalise_text(text) for text in texts]
    for i in range(len(texts)):
        for j in range(len(texts)):
            assert (groups[i] == groups[j]) == (i == j or (plain[i] == plain[j] and plain[i] != ""))
    twins = [any(plain[i] and plain[i] == plain[j] for j in range(len(texts)) if j != i) for i in range(len(texts))]
    assert duplicate_share(texts) == pytest.approx(np.mean(twins) if texts else 0.0)


def test_groups_are_numbered_by_first_appearance():
    assert text_groups(["b", "", "a", "B!", "XXXX"]).tolist() == [0, 1, 2, 0, 3]


def test_special_tokens_come_first_and_nothing_of_the_corpus_is_unknown(tok):
    assert [tok.pad_token_id, tok.unk_token_id, tok.cls_token_id, tok.sep_token_id, tok.mask_token_id] == [
        0,
        1,
        2,
        3,
        4,
    ]
    assert len(tok) <= 120
    tokens, mask, _ = tokenize(tok, CORPUS, 64)
    assert not (tokens == tok.unk_token_id).any()
    assert (tokens[:, 0] == tok.cls_token_id).all() and (mask.sum(1) > 2).all()


def test_pieces_glue_back_to_the_text(tok):
    assert (
        tok.decode(tok("No pneumothorax or effusion.")["input_ids"], skip_special_tokens=True)
        == "no pneumothorax or effusion."
    )


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
    assert [word for piece, word in zip(pieces, words[0].tolist()) if piece.startswith("##")] == [0] * sum(
        p.startswith("##") for p in pieces
    )
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
    texts, patients = [" ".join(words) for _, words in said], [patient for patient, _ in said]
    owners = {word: {patient for patient, words in said if word in words} for _, words in said for word in words}
    assert shared_words(texts, patients, least) == [
        " ".join(w.lower() for w in words if len(owners[w]) >= least) for _, words in said
    ]


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
    assert tokenize(tok, [text], 128)[0].shape == (1, 128) and truncated(tok, [text], 128).all()
    assert len(split_sentences(text)) == 1 and len(normalise_text(text)) > 1_000_000 / 2


# habits of one hospital (invented texts)

RULER = "_" * 78
READING = "The heart is normal.\n\n No effusion."


@pytest.mark.parametrize(
    "text, parts",
    [
        (
            f"                 FINAL REPORT\n EXAMINATION:  CHEST (PORTABLE AP)\n\n INDICATION:  ___ year old with cough\n\n FINDINGS: \n \n {READING}\n\n IMPRESSION: \n \n Clear.",
            {
                "technique": "CHEST (PORTABLE AP)",
                "indication": "___ year old with cough",
                "findings": "The heart is normal. No effusion.",
                "impression": "Clear.",
            },
        ),
        (
            f"WET READ: ___ ___ 9:23 AM\n IMPRESSION: Perhaps fluid.\n{RULER}\n        FINAL REPORT\n HISTORY: Pain.\n IMPRESSION: No fluid.",
            {
                "indication": "Pain.",
                "impression": "No fluid.",
                "preliminary": "___ ___ 9:23 AM IMPRESSION: Perhaps fluid.",
            },
        ),
        (
            f"         FINAL ADDENDUM\n ADDENDUM:  Seen again; IMPRESSION unchanged.\n{RULER}\n   FINAL REPORT\n FINDINGS: a.",
            {"findings": "a.", "addendum": "Seen again; IMPRESSION unchanged."},
        ),
        ("FINAL REPORT\n FINDINGS: a.\n\n ADDENDUM:  later.", {"findings": "a.", "addendum": "later."}),
        (
            "FINAL REPORT\n FINDINGS AND IMPRESSION:  All clear.\n\n RECOMMENDATION(S):  None.",
            {"findings": "All clear.", "addendum": "None."},
        ),
        (f"FINAL REPORT\n {READING}", {"note": "The heart is normal. No effusion."}),
        (
            f"FINAL REPORT\n HISTORY: Line.\n\n COMPARISON:  ___.\n\n {READING}",
            {"indication": "Line.", "comparison": "___.", "note": "The heart is normal. No effusion."},
        ),
        (
            "FINAL REPORT\n PORTABLE AP CHEST, 5:12 A.M., ___:\n\n HISTORY: x.\n\n IMPRESSION: b.",
            {"indication": "x.", "impression": "b."},
        ),
        ("FINAL REPORT\n HISTORY: x.\n\n CHEST, TWO VIEWS:  Clear.", {"indication": "x.", "findings": "Clear."}),
        (
            "FINAL REPORT\n COMPARISON TO CHEST RADIOGRAPH: none\n\n IMPRESSION: b",
            {"note": "COMPARISON TO CHEST RADIOGRAPH: none", "impression": "b"},
        ),
        (
            "FINAL REPORT\n FINDINGS:  ___\n\n HISTORY: Fall.\n\n Ribs are whole.",
            {"indication": "Fall.", "note": "Ribs are whole."},
        ),
        ("WET READ: no fluid.\nFINDINGS: a.", {"preliminary": "no fluid.", "findings": "a."}),
        (f"FINDINGS: a.\n{RULER}\nIMPRESSION: b ___ c.", {"findings": "a.", "impression": "b ___ c."}),
        ("FINAL REPORT\n", {}),
    ],
)
def test_reports_with_a_wet_read_addenda_and_no_headings(text, parts):
    assert split_report(text) == parts


@given(
    st.lists(
        st.sampled_from(
            ["FINAL REPORT", "WET READ:", "ADDENDUM", "FINDINGS:", "HISTORY:", "AP CHEST:", "word", "___", "", " "]
        ),
        max_size=12,
    )
)
def test_no_word_is_lost_between_marks(lines):
    assert sum(text.split().count("word") for text in split_report("\n".join(lines)).values()) == lines.count("word")
