"Reports: sections under all their headings, one text per study, sentences, and texts that are the same."

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medret_nb.data.reports import (
    SECTION_POLICIES,
    duplicate_share,
    normalise_text,
    section_text,
    sections,
    split_report,
    split_sentences,
    text_groups,
)

TEXTS = st.lists(st.text(max_size=40), max_size=12)


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
    twins = []
    for i in range(len(texts)):
        same = [plain[i] != "" and plain[i] == plain[j] for j in range(len(texts))]
        for j in range(len(texts)):
            assert (groups[i] == groups[j]) == (i == j or same[j])
        twins.append(any(same[j] for j in range(len(texts)) if j != i))
    assert duplicate_share(texts) == pytest.approx(np.mean(twins) if texts else 0.0)


def test_groups_are_numbered_by_first_appearance():
    assert text_groups(["b", "", "a", "B!", "XXXX"]).tolist() == [0, 1, 2, 0, 3]


def test_a_very_long_report_is_one_sentence():
    text = "small effusion " * 50_000
    assert len(split_sentences(text)) == 1
    assert len(normalise_text(text)) > 1_000_000 / 2


# habits of one hospital (invented texts)

RULER = "_" * 78
READING = "The heart is normal.\n\n No effusion."


@pytest.mark.parametrize(
    "text, parts",
    [
        (
            "                 FINAL REPORT\n EXAMINATION:  CHEST (PORTABLE AP)\n\n"
            f" INDICATION:  ___ year old with cough\n\n FINDINGS: \n \n {READING}\n\n IMPRESSION: \n \n Clear.",
            {
                "technique": "CHEST (PORTABLE AP)",
                "indication": "___ year old with cough",
                "findings": "The heart is normal. No effusion.",
                "impression": "Clear.",
            },
        ),
        (
            f"WET READ: ___ ___ 9:23 AM\n IMPRESSION: Perhaps fluid.\n{RULER}\n        FINAL REPORT\n HISTORY: Pain.\n"
            " IMPRESSION: No fluid.",
            {
                "indication": "Pain.",
                "impression": "No fluid.",
                "preliminary": "___ ___ 9:23 AM IMPRESSION: Perhaps fluid.",
            },
        ),
        (
            f"         FINAL ADDENDUM\n ADDENDUM:  Seen again; IMPRESSION unchanged.\n{RULER}\n   FINAL REPORT\n"
            " FINDINGS: a.",
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
