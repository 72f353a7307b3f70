"""The command that trains: as typed, settings as words, and a vocabulary that gives nobody away."""

import json
from dataclasses import dataclass, field

import pandas as pd
import pytest

from medret_nb.cli.train import own_settings
from medret_nb.data.files import DataError
from medret_nb.data.studies import StudySet
from medret_nb.training.arms import LEAST_PATIENTS, corpus_tokenizer


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


def test_phantom_and_train(way):
    home, made, trained = way
    assert "48 studies" in made.stdout and str(home / "studies") in made.stdout
    assert {"studies.parquet", "images.parquet", "dataset.json", "truth.parquet"} <= {
        f.name for f in (home / "studies").iterdir()
    }
    assert "trained clip for 4 steps" in trained.stdout  # 34 training studies, batches of 8
    assert {"config.json", "model.safetensors", "tokenizer.json", "log.jsonl", "fingerprint.json"} <= {
        f.name for f in (home / "run").iterdir()
    }
    settings = json.loads((home / "run" / "config.json").read_text())
    assert settings["dim"] == 16 and settings["method"] == "clip"
    assert "training clip" in trained.stderr, "no progress was shown"


def test_training_resumes_or_refuses(way, medret, refused):
    home = way[0]
    again = (
        "train",
        "clip",
        "--data",
        home / "studies",
        "--out",
        home / "run",
        "--epochs",
        1,
        "--batch-size",
        8,
        "--dim",
        16,
    )
    before = (home / "run" / "model.safetensors").read_bytes()
    refused(medret(*again), str(home / "run"))
    done = medret(*again, "--resume")
    assert done.returncode == 0, done.stderr
    assert (home / "run" / "model.safetensors").read_bytes() == before
