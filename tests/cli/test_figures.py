"""The figures of a run for print: as typed, at two widths, the same bytes again, without a word of a report."""

import re
import shutil

from medret_nb.cli.figures import _telling, of_width, write_figures
from medret_nb.cli.report import write_report
from medret_nb.data.studies import StudySet


def test_a_run_that_is_not_measured_is_told_how(hostile_run, medret, tmp_path):
    shutil.copytree(hostile_run / "run", tmp_path / "run", ignore=shutil.ignore_patterns("evaluation"))
    early = medret("figures", tmp_path / "run", "--out", tmp_path / "early")
    assert early.returncode == 2 and "run medret evaluate" in early.stderr and "Traceback" not in early.stderr
    assert not (tmp_path / "early").exists()


def test_as_it_is_typed(hostile_run, medret):
    told = medret("report", hostile_run / "run", "--out", hostile_run / "typed")
    assert told.returncode == 0, told.stderr
    drawn = medret("figures", hostile_run / "run", "--out", hostile_run / "print", "--show")
    assert drawn.returncode == 0, drawn.stderr
    names = {path.name for path in (hostile_run / "print").iterdir()}
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
    said = (hostile_run / "print" / "captions.md").read_text()
    assert (
        "Protocol exact, split test, texts: both; image-to-text: 16 queries, gallery of 16" in said
        and "Fingerprint: data" in said
        and "ties: expectation" in said
    )


def test_print_sizes_and_same_bytes(hostile_run, tmp_path):
    write_report(hostile_run / "run", StudySet.load(hostile_run / "set"), out=tmp_path / "page")
    studies = StudySet.load(hostile_run / "set")
    files = write_figures(hostile_run / "run", tmp_path / "a", studies=studies)
    again = write_figures(hostile_run / "run", tmp_path / "b", studies=studies)
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


def test_the_words_of_the_attention_figure():
    """Names of findings first, then what few reports say; a word once, at its first place, no stops or short words."""
    words = ["Small", "left", "effusion", ".", "No", "pneumothorax", ".", "The", "effusion", "is", "loculated", "."]
    texts = ["Small left effusion."] * 5 + ["No pneumothorax is seen."] * 3 + ["loculated"]
    assert [words[i] for i in _telling(words, [], texts)] == ["effusion", "pneumothorax", "loculated"] and _telling(
        words, [], texts
    )[0] == 2
    assert [words[i] for i in _telling(words, [], texts, 2)] == ["effusion", "pneumothorax"]
    assert _telling([".", "No"], [], texts) == []


def test_a_figure_waits_for_its_width():
    def draw(*parts, width, **named):
        return parts, width, named

    assert of_width(draw, 1, 2, name="a")(3.35) == ((1, 2), 3.35, {"name": "a"})
