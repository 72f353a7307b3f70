"""Reporting checklists: answers are those of the files, what is not there stays open, names are escaped."""

import json
import shutil

import pandas as pd
import pytest

from medret_nb.cli.breakdown import BreakDown
from medret_nb.cli.checklists import (
    CHECKLISTS,
    FILLED,
    FOR_AUTHORS,
    IN_PART,
    NOT_HERE,
    checklist_blocks,
    filled_checklist,
    run_facts,
    status_line,
)
from medret_nb.cli.evaluate import Evaluate
from medret_nb.cli.report import Report, write_report
from medret_nb.data.files import DataError, shipped_data
from medret_nb.data.runs import Run, shipped_run
from medret_nb.data.studies import StudySet
from medret_nb.evaluation.results import Results


@pytest.fixture(scope="module")
def clinic():
    return StudySet.load(shipped_data("phantom-small"))


@pytest.fixture(scope="module")
def measured_clip(tmp_path_factory):
    """A copy of the shipped CLIP, measured on the shipped studies, broken down too."""
    run = tmp_path_factory.mktemp("checklists") / "run"
    shutil.copytree(shipped_run("clip"), run)
    Evaluate(run, data=shipped_data("phantom-small")).run()
    BreakDown(run, data=shipped_data("phantom-small"), minimum=3).run()
    return Run(run)


def by_item(name, run, studies, **more):
    return filled_checklist(name, run, studies, **more).set_index("item")


def test_every_item_once_and_every_fact_exists(measured_clip, clinic):
    numbers = [item.number for item in CHECKLISTS["claim"].items]
    assert numbers == [str(number) for number in range(1, 45)]
    letters = {"3": 3, "5": 2, "6": 3, "8": 3, "9": 3, "12": 7, "18": 6, "20": 3, "23": 2, "27": 3}
    wanted = [
        f"{number}{letter}"
        for number in range(1, 28)
        for letter in ("abcdefg"[: letters[str(number)]] if str(number) in letters else [""])
    ]
    assert [item.number for item in CHECKLISTS["tripod-ai"].items] == wanted
    named = {name for checklist in CHECKLISTS.values() for item in checklist.items for name in item.facts.split()}
    elsewhere = {"robustness", "grounding", "findings", "sets", "internal", "centres"}
    assert named - set(run_facts(measured_clip, clinic)) == elsewhere


def test_answers_are_those_of_the_files(measured_clip, clinic):
    claim = by_item("claim", measured_clip, clinic)
    made = json.loads(measured_clip.fingerprint_file.read_text())
    config = json.loads(measured_clip.config_file.read_text())
    assert f"torch {made['versions']['torch']}" in claim.loc["23", "answer"]
    assert f"lr {made['training']['lr']}; " in claim.loc["25", "answer"] and claim.loc["25", "status"] == IN_PART
    assert f"films of {config['size']} pixels" in claim.loc["9", "answer"]
    log = pd.read_json(measured_clip.log_file, lines=True)
    best = log.loc[log["val_recall"].idxmax()]
    assert f"epoch {int(best['epoch']) + 1} of 12" in claim.loc["26", "answer"]
    assert f"{best['val_recall']:.3f}" in claim.loc["26", "answer"]
    test = clinic.split("test").studies
    assert f"test: {len(test)} studies of {test['patient_id'].nunique()} patients" in claim.loc["19", "answer"]
    assert claim.loc["20", "answer"].startswith("by patient: 0 patients stand in two splits")
    exact = Results.load(measured_clip.result_folder("test", "exact"))
    assert f"exact, image-to-text: R@1 {exact.value('R@1')['value']:.3f} (too few)" in claim.loc["37", "answer"]
    failed = (exact.queries.query("direction == 'image-to-text'")["rank"] > 1).sum()
    assert f"{failed} of 12 failed at the first place" in claim.loc["39", "answer"]
    assert "sex F" in by_item("tripod-ai", measured_clip, clinic).loc["23a", "answer"]
    assert claim.loc["24", "to add"] == "from which weights the encoders started"


def test_only_what_no_run_knows_is_left_to_the_authors(measured_clip, clinic):
    claim = by_item("claim", measured_clip, clinic)
    assert set(claim.index[claim["status"] == FOR_AUTHORS]) == {"3", "4", "6", "15", "18", "34", "41", "44"}
    assert (claim.loc[claim["status"].isin([FOR_AUTHORS, NOT_HERE]), "answer"] == "").all()
    assert (claim.loc[claim["status"] == FILLED, "to add"] == "").all()
    assert (claim.loc[claim["status"].isin([FILLED, IN_PART]), "read from"] != "").all()
    assert claim.loc["30", "status"] == NOT_HERE and "medret multiverse" in claim.loc["30", "to add"]


def test_other_studies_than_those_of_the_training_are_said_to_be_others(measured_clip, clinic, tmp_path):
    claim = by_item("claim", measured_clip, clinic)
    assert claim.loc["33", "status"] == IN_PART and claim.loc["32", "status"] == NOT_HERE
    config = json.loads(measured_clip.config_file.read_text())
    shutil.copytree(measured_clip.folder, tmp_path / "own")
    (tmp_path / "own" / measured_clip.config_name).write_text(json.dumps(config | {"data_hash": clinic.hash()}))
    own = by_item("claim", Run(tmp_path / "own"), clinic)
    assert own.loc["32", "status"] == FILLED and own.loc["33", "status"] == NOT_HERE
    others = by_item("claim", measured_clip, clinic.select(clinic.studies["study_id"][:50]))
    assert others.loc[["32", "33", "39"], "status"].tolist() == [NOT_HERE] * 3


def test_a_run_that_was_not_measured_says_so(clinic):
    claim = by_item("claim", Run(shipped_run("clip")), clinic)
    for number in ("14", "28", "29", "37", "39"):
        assert claim.loc[number, "status"] == NOT_HERE, number
        assert "medret evaluate RUN" in claim.loc[number, "to add"]


def test_embeddings_alone_say_nothing_of_a_training(tmp_path):
    claim = by_item("claim", Run(tmp_path), None)
    assert set(claim["status"]) == {NOT_HERE, FOR_AUTHORS} and (claim["answer"] == "").all()
    assert status_line(claim.reset_index()).startswith("0 filled, 0 in part")


def test_real_studies_leave_open_what_a_phantom_answers(measured_clip, clinic, tmp_path):
    real = StudySet.load(clinic.folder).save(tmp_path / "real")
    claim = by_item("claim", measured_clip, real)
    assert claim.loc["11", "status"] == FOR_AUTHORS and claim.loc["11", "to add"] == "how"
    assert by_item("claim", measured_clip, clinic).loc["11", "status"] == FILLED


def test_another_name_is_refused(tmp_path):
    with pytest.raises(DataError, match="claim, tripod-ai"):
        filled_checklist("stard", Run(tmp_path), None)


def test_the_page_shows_names_as_text(hostile_run, page, tmp_path):
    studies = StudySet.load(hostile_run / "set")
    studies.info["name"] = "<script>window.hit=1</script> a | b\nc"
    made = write_report(
        hostile_run / "run", studies, out=tmp_path, views=False, protocols=("exact",), checklists=("claim", "tripod-ai")
    )
    page.goto(made.as_uri())
    assert not page.errors and page.evaluate("window.hit") is None
    text = page.inner_text("body")
    for words in ("Checklist: CLAIM, 2024 update", "Checklist: TRIPOD+AI", "<script>window.hit=1</script>", NOT_HERE):
        assert words in text, words
    rows = (tmp_path / "checklist-claim.md").read_text().splitlines()
    assert len(rows) == 2 + 44 and all(row.replace("\\|", "").count("|") == 7 for row in rows)
    table = pd.read_csv(tmp_path / "checklist-tripod-ai.csv")
    assert len(table) == 52 and "Philomena" not in (tmp_path / "checklist-tripod-ai.csv").read_text()


def test_no_checklist_unless_asked_for(hostile_run, tmp_path):
    studies = StudySet.load(hostile_run / "set")
    made = write_report(hostile_run / "run", studies, out=tmp_path, views=False, protocols=("exact",))
    assert "Checklist" not in made.read_text() and not list(tmp_path.glob("checklist-*"))
    assert checklist_blocks((), hostile_run / "run", studies, "test", tmp_path) == {}


def test_the_command_takes_both(hostile_run, tmp_path):
    words = {"protocol": ("exact",), "views": False, "checklist": ("claim", "tripod-ai")}
    Report(hostile_run / "run", data=hostile_run / "set", out=tmp_path, **words).run()
    assert {file.name for file in tmp_path.glob("checklist-*")} == {
        f"checklist-{name}.{ending}" for name in ("claim", "tripod-ai") for ending in ("csv", "md")
    }
