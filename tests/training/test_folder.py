"Into which folder a training may write."

import pytest

from medret_nb.data.files import DataError, write_json
from medret_nb.data.runs import Run
from medret_nb.training.folder import check_same, check_unused, is_claimed, training_code

MADE = {"data": "d", "config": "c", "code": "k"}


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "run")


def test_a_new_folder_and_one_that_failed_at_its_beginning_are_free(run):
    check_unused(run, resume=False)
    write_json(MADE, run.fingerprint_file)
    run.log_file.write_text('{"step": 1}\n')
    run.checkpoints_folder.mkdir()
    assert not is_claimed(run)
    check_unused(run, resume=False)
    check_same(run, MADE | {"config": "other"})


@pytest.mark.parametrize("worth", ["model", "checkpoint"])
def test_what_is_worth_keeping_is_kept(run, worth):
    write_json(MADE, run.fingerprint_file)
    if worth == "model":
        write_json({}, run.config_file)
    else:
        (run.checkpoints_folder / "step-00000003").mkdir(parents=True)
    with pytest.raises(DataError, match="holds a run already"):
        check_unused(run, resume=False)
    check_unused(run, resume=True)
    for name in ("data", "config"):
        with pytest.raises(DataError, match=f"another {name}"):
            check_same(run, MADE | {name: "other"})


@pytest.mark.parametrize("resume", [True, False])
def test_a_pretrained_folder_is_never_written_over(run, resume):
    "It has a config.json and weights, as a run has, but no training of ours began in it."
    write_json({"model_type": "bert"}, run.config_file)
    with pytest.raises(DataError, match="holds other files"):
        check_unused(run, resume)


def test_other_code_is_told_once_and_kept(run, capsys):
    write_json(MADE, run.fingerprint_file)
    write_json({}, run.config_file)
    check_same(run, dict(MADE))
    assert capsys.readouterr().out == ""
    made = MADE | {"code": "new"}
    check_same(run, made)
    assert "another version of the code" in capsys.readouterr().out
    assert made["begun_by"] == "k"
    write_json(made, run.fingerprint_file)
    later = MADE | {"code": "newest"}
    check_same(run, later)
    assert later["begun_by"] == "k"


def test_the_code_of_a_training_is_a_hash():
    assert len(training_code()) == 64
