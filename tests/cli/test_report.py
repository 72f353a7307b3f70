"""The page and the print figures of a run: as typed, with hostile texts, of restricted studies, without a network."""

import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from medret_nb.cli.trust import CONFIDENCES, trust_table
from medret_nb.cli.figures import _telling, write_figures
from medret_nb.cli.report import write_report
from medret_nb.data.files import DataError
from medret_nb.data.studies import NOT_FOR_SHARING, StudySet
from medret_nb.evaluation.reliability import auroc
from medret_nb.methods.clip import CLIP, CLIPConfig
from medret_nb.training.loop import TrainConfig, fit

HOSTILE = [
    "<script>window.hit=1</script> effusion",
    "<img src=x onerror='window.hit=1'> heart",
    "</script><b>bold</b> lungs",
    "\"quoted\" 'text' & more",
    "\u202eright to left\u202c mark",
    "long " * 2000,
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on forty studies whose reports try to be more than text; marked restricted for the tests that ask for it."""
    home = tmp_path_factory.mktemp("report")
    films, rows = np.random.default_rng(0), []
    (home / "set").mkdir()
    for k in range(40):
        Image.fromarray(films.integers(20, 250, (40, 40), dtype=np.uint8)).save(home / "set" / f"f{k}.png")
        rows.append(
            {
                "study_id": f"s{k}",
                "patient_id": f"p{k}",
                "split": "test" if k >= 24 else "train",
                "findings": f"{HOSTILE[k % 6]} {'abcdefgh'[k % 8]} Sister Philomena {k}.",
                "licence": "x",
            }
        )
    images = pd.DataFrame(
        {
            "image_id": [f"i{k}" for k in range(40)],
            "study_id": [f"s{k}" for k in range(40)],
            "view": "PA",
            "path": [f"f{k}.png" for k in range(40)],
        }
    )
    StudySet(pd.DataFrame(rows), images, folder=home / "set").save(home / "set")
    fit(
        CLIP.create(CLIPConfig(dim=16, size=32, max_words=24)),
        StudySet.load(home / "set"),
        TrainConfig(epochs=1, batch_size=8),
        home / "run",
        progress=False,
    )
    return home


def test_as_it_is_typed(run, medret):
    early = medret("figures", run / "run", "--out", run / "early")
    assert early.returncode == 2 and "run medret evaluate" in early.stderr and "Traceback" not in early.stderr
    told = medret("report", run / "run", "--out", run / "typed")
    assert told.returncode == 0, told.stderr
    drawn = medret("figures", run / "run", "--out", run / "print", "--show")
    assert drawn.returncode == 0, drawn.stderr
    names = {path.name for path in (run / "print").iterdir()}
    for figure in (
        "recall-exact",
        "ranks-text",
        "risk-coverage-exact",
        "calibration-exact",
        "training",
        "map",
        "failures",
        "answers",
    ):
        assert {f"{figure}-{size}.{kind}" for size in ("column", "page") for kind in ("pdf", "svg")} <= names
    said = (run / "print" / "captions.md").read_text()
    assert (
        "Protocol exact, split test; image-to-text: 16 queries, gallery of 16" in said
        and "Fingerprint: data" in said
        and "ties: expectation" in said
    )


def test_print_sizes_and_same_bytes(run, tmp_path):
    write_report(run / "run", StudySet.load(run / "set"), out=tmp_path / "page")
    studies = StudySet.load(run / "set")
    files = write_figures(run / "run", tmp_path / "a", studies=studies)
    again = write_figures(run / "run", tmp_path / "b", studies=studies)
    assert (tmp_path / "a" / "failures-column.pdf").is_file() and not (tmp_path / "a" / "answers-column.pdf").exists()
    assert all(one.read_bytes() == other.read_bytes() for one, other in zip(files, again)) and len(files) > 20
    for path in files:
        if path.suffix != ".pdf":
            continue
        data = path.read_bytes()
        box = [float(v) for v in re.search(rb"/MediaBox \[ ([\d. ]+) \]", data).group(1).split()]
        assert abs(box[2] - 72 * (3.35 if "-column" in path.name else 6.9)) < 0.5 and b"/Type3" not in data
    for path in tmp_path.glob("a/*"):
        assert b"Philomena" not in path.read_bytes()


def test_the_page_shows_texts_as_texts_and_asks_nobody(run, page, tmp_path):
    made = write_report(run / "run", StudySet.load(run / "set"), out=tmp_path)
    page.goto(made.as_uri())
    assert not page.outside and not page.errors and page.evaluate("window.hit") is None
    assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    text = page.inner_text("body")
    for words in (
        "In short",
        "Does it know when it is wrong?",
        "What was found",
        "<script>window.hit=1</script> effusion",
        "normalised excess AURC",
        "How training went",
    ):
        assert words in text, words


@pytest.mark.parametrize("show", [None, True])
def test_restricted_studies(run, tmp_path, show):
    studies = StudySet.load(run / "set")
    studies.info["restricted"] = True
    html = write_report(run / "run", studies, out=tmp_path, show=show).read_text()
    assert (
        NOT_FOR_SHARING in html and ("Philomena" in html) == bool(show) and ('alt="radiograph"' in html) == bool(show)
    )


def test_trust_table_against_the_functions(run, tmp_path):
    rng = np.random.default_rng(0)
    queries = pd.DataFrame(
        {
            "direction": "image-to-text",
            "patient_id": np.arange(60) // 2,
            "relevant": [0] * 5 + [1] * 55,
            "hit_1": (rng.random(60) < 0.4).astype(float),
            "margin": rng.random(60),
            "minus_entropy": [np.nan] + [0.5] * 59,
        }
    )
    table = trust_table(queries, "image-to-text").set_index("confidence")
    assert list(table.index) == [
        CONFIDENCES["margin"],
        CONFIDENCES["minus_entropy"],
    ]  # the excluded query's NaN does not count
    assert (
        table["AUROC"].iloc[0] == auroc(queries.hit_1.to_numpy()[5:], queries.margin.to_numpy()[5:])
        and table["AUROC"].iloc[1] == 0.5
    )
    assert (table["low"] <= table["AUROC"]).all() and (table["AUROC"] <= table["high"]).all()


def test_a_folder_that_is_no_run(tmp_path, run):
    with pytest.raises(DataError, match="no run"):
        write_report(tmp_path, StudySet.load(run / "set"))


def test_the_words_of_the_attention_figure():
    """Names of findings first, then what few reports say; a word once, at its first place, and no stops or short words."""
    words = ["Small", "left", "effusion", ".", "No", "pneumothorax", ".", "The", "effusion", "is", "loculated", "."]
    texts = ["Small left effusion."] * 5 + ["No pneumothorax is seen."] * 3 + ["loculated"]
    assert [words[i] for i in _telling(words, [], texts)] == ["effusion", "pneumothorax", "loculated"] and _telling(
        words, [], texts
    )[0] == 2
    assert [words[i] for i in _telling(words, [], texts, 2)] == ["effusion", "pneumothorax"]
    assert _telling([".", "No"], [], texts) == []
