"""`medret ship`: a small run packed; other studies, a folder that holds something, and restricted studies refused."""

import shutil

import pytest

from medret_nb.cli.main import main
from medret_nb.cli.ship import Ship
from medret_nb.data.files import DataError
from medret_nb.data.runs import Run
from medret_nb.data.studies import StudySet
from medret_nb.methods.clip import CLIP
from medret_nb.methods.table import load_method
from medret_nb.phantom.phantom import make_phantom


def test_a_run_is_packed_as_a_user_types_it(way, medret, tmp_path):
    home = way[0]
    done = medret("ship", home / "run", tmp_path / "packed")
    assert done.returncode == 0, done.stderr
    assert "R@10 image-to-text" in done.stdout and f"written to {tmp_path / 'packed'}" in done.stdout
    assert "restricted" not in done.stdout
    run = Run(tmp_path / "packed")
    made = run.made_by()
    assert made["command"].startswith("medret train clip") and made["data"]["restricted"] is False
    assert load_method(run.folder, device="cpu").name == "clip"
    assert run.weights_file.stat().st_size < 0.6 * Run(home / "run").weights_file.stat().st_size


def test_other_studies_are_refused_in_one_line(way, medret, refused, tmp_path):
    other = make_phantom(12, seed=8, size=32, out=tmp_path / "other")
    done = medret("ship", way[0] / "run", tmp_path / "packed", "--data", other.folder)
    refused(done, "was trained on other studies")
    assert not (tmp_path / "packed").exists()


def test_a_folder_that_holds_something_stays_as_it_is(way, tmp_path):
    out = tmp_path / "packed"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match=r"mine.txt.*needs a new or an empty folder"):
        Ship(way[0] / "run", out).run()
    assert [path.name for path in out.iterdir()] == ["mine.txt"]
    with pytest.raises(DataError, match="is a file"):
        Ship(way[0] / "run", out / "mine.txt").run()


@pytest.fixture
def restricted(way, tmp_path):
    "The same studies, whose licence forbids to pass them on."
    studies = StudySet.load(way[0] / "studies")
    studies.info["restricted"] = True
    return studies.save(tmp_path / "restricted").folder


def test_what_learnt_from_restricted_studies_needs_the_affirmation(way, restricted, tmp_path, capsys):
    out = tmp_path / "packed"
    with pytest.raises(DataError, match="its studies are restricted.*--affirm-agreement") as caught:
        Ship(way[0] / "run", out, data=restricted).run()
    assert "\n" not in str(caught.value) and not out.exists()
    words = ["ship", str(way[0] / "run"), str(out), "--data", str(restricted)]
    assert main(words) == 2 and not out.exists()
    assert "--affirm-agreement" in capsys.readouterr().err
    assert main([*words, "--affirm-agreement"]) == 0
    assert "pass it on only as your agreement says" in capsys.readouterr().out
    assert Run(out).made_by()["data"]["restricted"] is True


def test_a_set_that_says_nothing_counts_as_restricted(way, tmp_path):
    studies = StudySet.load(way[0] / "studies")
    studies.info.pop("restricted", None)
    silent = studies.save(tmp_path / "silent").folder
    with pytest.raises(DataError, match="its studies are restricted"):
        Ship(way[0] / "run", tmp_path / "packed", data=silent).run()


def test_a_run_of_nobody_knows_what_counts_as_restricted(way, tmp_path):
    CLIP.create(CLIP.Config(dim=8)).save_pretrained(tmp_path / "run")
    with pytest.raises(DataError, match="nothing says which studies it was trained on.*--affirm-agreement"):
        Ship(tmp_path / "run", tmp_path / "packed", data=way[0] / "studies").run()
    assert not (tmp_path / "packed").exists()


def test_studies_without_a_test_split_leave_nothing_half_packed(way, tmp_path):
    studies = StudySet.load(way[0] / "studies")
    kept = studies.select(studies.studies.loc[studies.studies["split"] != "test", "study_id"])
    kept.save(tmp_path / "untested")
    shutil.copytree(way[0] / "run", tmp_path / "run")
    method = load_method(tmp_path / "run", device="cpu")
    method.config.data_hash = StudySet.load(tmp_path / "untested").hash()
    method.save_pretrained(tmp_path / "run")
    with pytest.raises(DataError, match="split 'test' has no studies"):
        Ship(tmp_path / "run", tmp_path / "packed", data=tmp_path / "untested").run()
    assert not (tmp_path / "packed").exists()
