"The run folder: every file has one name, what is missing is said in one line, and a torn log gives its whole lines."

import pandas as pd
import pytest
from six_studies import collection

from medret_nb.data.files import DataError, write_json
from medret_nb.data.runs import Run

PLACES = {
    "config_file": "config.json",
    "weights_file": "model.safetensors",
    "log_file": "log.jsonl",
    "fingerprint_file": "fingerprint.json",
    "checkpoints_folder": "checkpoints",
    "embeddings_folder": "embeddings",
    "evaluation_folder": "evaluation",
}


def test_every_file_has_the_name_that_kept_runs_carry(tmp_path):
    run = Run(tmp_path)
    for name, place in PLACES.items():
        assert getattr(run, name) == tmp_path / place
    assert run.points_file("test", "image") == tmp_path / "embeddings" / "test-image.parquet"
    assert run.result_folder("val", "exact") == tmp_path / "evaluation" / "val" / "exact"
    assert not list(tmp_path.iterdir())  # nothing is made by asking


def test_a_run_is_made_of_a_folder_a_name_or_a_run(tmp_path):
    run = Run(str(tmp_path))
    assert Run(run).folder == run.folder == tmp_path
    assert repr(run) == f"Run({str(tmp_path)!r})"


def test_a_run_begins_with_its_fingerprint_and_has_a_model_with_its_settings(tmp_path):
    run = Run(tmp_path)
    assert not run.started
    assert not run.has_model
    assert run.fingerprint() == {}
    write_json({"seed": 3}, run.fingerprint_file)
    write_json({"method": "clip"}, run.config_file)
    assert run.started
    assert run.has_model
    assert run.fingerprint() == {"seed": 3}
    assert run.config() == {"method": "clip"}


def test_what_is_missing_or_something_else_is_said_in_one_line(tmp_path):
    run = Run(tmp_path)
    with pytest.raises(DataError, match="no run, it has no config.json"):
        run.config()
    write_json(["clip"], run.config_file)
    write_json(["clip"], run.fingerprint_file)
    with pytest.raises(DataError, match="config.json: must be names and values, not a list"):
        run.config()
    with pytest.raises(DataError, match="fingerprint.json: must be names and values, not a list"):
        run.fingerprint()
    run.config_file.write_text("{")
    with pytest.raises(DataError, match="config.json: not valid JSON"):
        run.config()


@pytest.mark.parametrize(
    "text, steps",
    [
        ("", []),
        ('{"step": 1}\n', [1]),
        ('{"step": 1}\n{"step": 2}\n', [1, 2]),
        ('{"step": 1}\n{"step": 2, "lo', [1]),
        ('{"st', []),
    ],
)
def test_a_log_gives_its_whole_lines(tmp_path, text, steps):
    run = Run(tmp_path)
    assert run.log.empty
    run.log_file.write_text(text)
    log = run.log
    assert isinstance(log, pd.DataFrame)
    assert ([] if log.empty else log["step"].tolist()) == steps


def test_the_studies_are_those_named_else_those_recorded(tmp_path):
    named = collection(tmp_path / "named").save(tmp_path / "named")
    recorded = collection(tmp_path / "recorded", films=5).save(tmp_path / "recorded")
    run = Run(tmp_path / "run")
    assert run.studies(tmp_path / "named").hash() == named.hash()
    with pytest.raises(DataError, match="if it holds embeddings alone, name their studies by --data"):
        run.studies()
    write_json({"data": str(tmp_path / "recorded")}, run.config_file)
    assert run.studies().hash() == recorded.hash()
    assert run.studies(tmp_path / "named").hash() == named.hash()
    for gone in ("", str(tmp_path / "gone")):
        write_json({"data": gone}, run.config_file)
        with pytest.raises(DataError, match="is not there; name a StudySet by --data"):
            run.studies()
    write_json({}, run.config_file)
    with pytest.raises(DataError, match=r"\(not recorded\) is not there"):
        run.studies()
