"Packed runs: half the bytes, no trace of the machine, and the numbers that they say; those that ship say what is true."

import shlex
from dataclasses import replace

import numpy as np
import pytest
import torch
from six_studies import collection

from medret_nb.cli.main import main
from medret_nb.data.files import DataError, shipped_data
from medret_nb.data.runs import Run, shipped_run, shipped_runs
from medret_nb.data.studies import StudySet
from medret_nb.methods.pecm import PECM
from medret_nb.methods.table import load_method
from medret_nb.retrieval.embeddings import embed
from medret_nb.training.loop import TrainConfig, fit
from medret_nb.training.shipping import drawing_words, pack_run, run_recall, training_words

LEAST_RUNS = 7
LARGEST = 3 * 2**20  # bytes of a run that ships


@pytest.fixture(scope="module")
def studies():
    return StudySet.load(shipped_data("phantom-small"))


@pytest.fixture(scope="module")
def trained(studies, tmp_path_factory):
    config = TrainConfig(epochs=1, batch_size=16, device="cpu", seed=3)
    method = PECM.create(PECM.Config(dim=16, size=32, weighting="none"), seed=3)
    return fit(method, studies, config, tmp_path_factory.mktemp("trained") / "run")


@pytest.fixture(scope="module")
def packed(trained, tmp_path_factory):
    out = tmp_path_factory.mktemp("packed") / "run"
    return pack_run(trained.folder, out), Run(out)


def test_a_packed_run_is_half_as_large_and_answers_the_same(trained, packed, studies):
    _, run = packed
    assert run.weights_file.stat().st_size < 0.6 * trained.weights_file.stat().st_size
    before = embed(load_method(trained, device="cpu"), studies, "test", progress=False)
    after = embed(load_method(run, device="cpu"), studies, "test", progress=False)
    for side in before:
        assert np.abs(before[side].mu - after[side].mu).max() < 0.02
    assert run.log.equals(trained.log) and run.fingerprint() == trained.fingerprint()


def test_a_packed_run_names_no_place(trained, packed):
    _, run = packed
    home = str(trained.folder.parent)
    for file in run.folder.iterdir():
        assert home.encode() not in file.read_bytes()
    assert run.config()["data"] == "" and run.config()["data_hash"]


def test_its_record_says_how_it_was_made_and_what_it_reaches(trained, packed, studies):
    record, run = packed
    assert run.made_by()["R@10"] == record["R@10"]
    words = shlex.split(record["command"])
    assert words[:3] == ["medret", "train", "pecm"] and "weighting=none" in words
    for option, value in {"--epochs": "1", "--batch-size": "16", "--seed": "3", "--dim": "16"}.items():
        assert words[words.index(option) + 1] == value
    assert record["data"]["hash"] == studies.hash() and record["data"]["seed"] == 0
    again = run_recall(load_method(run, device="cpu"), studies)
    assert again["R@10"] == record["R@10"]


def test_the_command_is_one_that_the_program_takes(trained):
    from medret_nb.cli.main import read_arguments, split_command

    name, words = split_command(shlex.split(training_words(trained))[1:])
    job = read_arguments(name, words)
    assert job.dim == 16 and job.config == replace(TrainConfig(), epochs=1, batch_size=16, seed=3)


def test_the_studies_are_drawn_by_a_command_or_by_none(studies):
    words = drawing_words(studies)
    assert words.startswith("medret data phantom STUDIES --counts train 42 val 6 test 12 --seed 0 --size 64")
    from medret_nb.cli.main import read_arguments, split_command

    name, typed = split_command(shlex.split(words)[1:])
    assert read_arguments(name, typed).counts == {"train": 42, "val": 6, "test": 12}


def test_other_studies_have_no_command(tmp_path):
    others = collection(tmp_path, films=6)
    assert drawing_words(others) == ""


def test_a_run_of_other_studies_and_one_into_itself_are_refused(trained, tmp_path):
    other = collection(tmp_path / "other", films=6).save(tmp_path / "other")
    with pytest.raises(DataError, match="was trained on other studies"):
        pack_run(trained.folder, tmp_path / "out", other.folder)
    with pytest.raises(DataError, match="packed into itself"):
        pack_run(trained.folder, trained.folder)
    assert not (tmp_path / "out").exists()


def test_the_command_packs(trained, tmp_path, capsys):
    assert main(["ship", str(trained.folder), str(tmp_path / "out"), "--command", "by hand"]) == 0
    assert "of an oracle's that sees the scene" in capsys.readouterr().out
    assert Run(tmp_path / "out").made_by()["command"] == "by hand"
    assert main(["ship", str(tmp_path), str(tmp_path / "nothing")]) != 0


def test_enough_runs_ship():
    assert len(shipped_runs()) >= LEAST_RUNS
    with pytest.raises(DataError, match="nobody: no run of it comes with the project; there are .*clip"):
        shipped_run("nobody")


@pytest.mark.parametrize("name", shipped_runs())
def test_a_run_that_ships_answers(name, studies):
    run = Run(shipped_run(name))
    assert sum(file.stat().st_size for file in run.folder.iterdir()) < LARGEST
    method = load_method(run, device="cpu")
    assert method.name == name and all(weight.dtype == torch.float32 for weight in method.parameters())
    points = embed(method, studies, "test", progress=False)
    for side in points.values():
        assert len(side) >= 10 and np.isfinite(side.mu).all() and side.mu.std() > 0
    made = run.made_by()
    assert made["command"].startswith("medret train") and made["data"]["hash"] == run.config()["data_hash"]
    assert run.config()["data"] == "" and run.log["step"].max() == made["steps"]
    for told in made["R@10"].values():
        assert told["low"] < told["value"] < told["high"] and told["value"] > 20 * told["chance"]


@pytest.mark.slow
def test_what_they_reach_is_what_their_patients_say(tmp_path):
    "Draws the studies of the runs that ship (minutes) and asks each of them again."
    drawn = {}
    for name in shipped_runs():
        made = Run(shipped_run(name)).made_by()
        command = made["data"]["command"]
        if command not in drawn:
            drawn[command] = tmp_path / f"studies-{len(drawn)}"
            assert main(shlex.split(command.replace("STUDIES", str(drawn[command])))[1:]) == 0
        studies = StudySet.load(drawn[command])
        assert studies.hash() == made["data"]["hash"]
        again = run_recall(load_method(shipped_run(name), device="cpu"), studies, draws=200)
        for direction, told in made["R@10"].items():
            assert again["R@10"][direction]["value"] == pytest.approx(told["value"], abs=0.003)
            assert again["R@10"][direction]["oracle"] == pytest.approx(told["oracle"], abs=1e-6)
