"""What the middle commands add to the functions they call: settings as words, and a vocabulary that gives nobody away."""

from dataclasses import dataclass, field

import pandas as pd
import pytest

from medret_nb.cli.train import LEAST_PATIENTS, corpus_tokenizer, own_settings
from medret_nb.data.files import DataError
from medret_nb.data.studies import StudySet


@dataclass
class Settings:
    share: float = 0.5
    count: int = 3
    name: str = "a"
    flag: bool = True
    inner: dict = field(default_factory=dict)


def test_words_become_settings_of_the_right_type():
    assert own_settings(Settings, ("share=1", "count=7", "name=b=c", "flag=false")) == {
        "share": 1.0,
        "count": 7,
        "name": "b=c",
        "flag": False,
    }
    assert isinstance(own_settings(Settings, ("share=1",))["share"], float) and own_settings(Settings, ()) == {}


@pytest.mark.parametrize(
    "word, said",
    [
        ("share", "NAME=VALUE"),
        ("shape=1", "'shape' is none of share, count, name, flag"),
        ("inner=1", "none of"),
        ("count=1.5", "count takes a value like 3, not '1.5'"),
        ("flag=yes", "flag takes a value like True, not 'yes'"),
    ],
)
def test_a_word_that_does_not_fit_is_named(word, said):
    with pytest.raises(DataError, match=said):
        own_settings(Settings, (word,))


def a_set(restricted):
    texts = [f"The heart of Mr Xoqzu{'abcdefgh'[k]} is large." for k in range(8)]
    table = pd.DataFrame(
        {"study_id": [f"s{k}" for k in range(8)], "patient_id": [f"p{k}" for k in range(8)], "findings": texts}
    )
    images = pd.DataFrame({"image_id": [f"i{k}" for k in range(8)], "study_id": table["study_id"], "path": "x.png"})
    return StudySet(table, images, info={"restricted": restricted})


def test_a_vocabulary_of_a_restricted_set_holds_no_word_of_few_patients():
    known = {
        restricted: set(corpus_tokenizer(a_set(restricted), "findings").get_vocab()) for restricted in (True, False)
    }
    assert LEAST_PATIENTS <= 8 and {"heart", "large"} <= known[True] & known[False]
    assert any("xoqzu" in piece for piece in known[False])
    assert not any("xo" in piece or "qz" in piece for piece in known[True])
