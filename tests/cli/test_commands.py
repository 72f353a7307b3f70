"""What all commands share: their base, the points of a run, the studies of a split."""

import numpy as np
import pandas as pd
import pytest

from medret_nb.cli.commands import Command, OfRun, run_points, studies_of_split
from medret_nb.cli.main import main
from medret_nb.data.files import DataError
from medret_nb.data.studies import StudySet
from medret_nb.methods import table


def test_a_command_without_work_says_its_name(tmp_path):
    with pytest.raises(TypeError, match="OfRun: run is not defined"):
        OfRun(tmp_path).run()
    assert issubclass(OfRun, Command)


def test_a_folder_without_model_and_points_is_no_run(small_phantom, tmp_path):
    with pytest.raises(DataError, match="no run, it has neither config.json nor embeddings/test-image.parquet"):
        run_points(tmp_path, small_phantom, "test")


def test_all_is_a_split_of_its_own(small_phantom):
    assert studies_of_split(small_phantom, "all") is small_phantom
    parts = [len(studies_of_split(small_phantom, split)) for split in ("train", "val", "test")]
    assert sum(parts) == len(small_phantom)
    with pytest.raises(DataError, match="tset"):
        studies_of_split(small_phantom, "tset")


def given(home, side, kind, mu, logvar, ids):
    "Points of one side in a file of that kind."
    path = home / "embeddings" / f"test-{side}{kind}"
    path.parent.mkdir(exist_ok=True)
    if kind == ".npz":
        np.savez(path, ids=ids, mu=mu, logvar=logvar)
    elif kind == ".csv":
        columns = {f"mu_{k}": mu[:, k] for k in range(mu.shape[1])}
        columns |= {f"logvar_{k}": logvar[:, k] for k in range(mu.shape[1])}
        pd.DataFrame({"id": ids, **columns}).to_csv(path, index=False)
    else:
        pd.DataFrame({"id": ids, "study_id": ids, "mu": list(mu), "logvar": list(logvar)}).to_parquet(path)


@pytest.fixture
def typed(monkeypatch, capsys):
    "A function that types a command in this process, without plug-ins of before; returns its code and what it said."

    def run(*words):
        monkeypatch.setattr(table, "_PLUGINS", {})
        code = main([str(word) for word in words])
        said = capsys.readouterr()
        return code, said.out, said.err.splitlines()[-1] if said.err else ""

    return run


def done(result):
    "What a command printed that went well."
    code, said, error = result
    assert code == 0, error
    return said


def turned_down(result, *words):
    "Checks the one line of a command that was refused."
    code, _, error = result
    assert code == 2 and error.startswith("medret: ")
    for word in words:
        assert word in error, error


def test_embeddings_of_another_program_go_the_whole_way(way, typed, tmp_path):
    "Clouds in two formats: asked for what they do not say, measured, compared with a trained run, reported."
    studies = way[0] / "studies"
    ids = StudySet.load(studies).split("test").studies["study_id"].to_numpy(str)
    rng = np.random.default_rng(0)
    mu = rng.normal(size=(len(ids), 6))
    given(tmp_path, "image", ".npz", mu + 0.1 * rng.normal(size=mu.shape), np.full(mu.shape, -2.0), ids)
    given(tmp_path, "text", ".csv", mu, np.full(mu.shape, -2.0), ids)
    asked = ["evaluate", tmp_path, "--data", studies, "--protocol", "exact", "--k", 1]
    turned_down(typed(*asked), "test-image.npz: holds logvar", "--similarity csd, mls or cosine")
    assert "texts: both" in done(typed("evaluate", way[0] / "run", "--protocol", "exact", "--k", 1))
    stated = [*asked, "--similarity", "csd", "--logit-scale", 5, "--against", way[0] / "run"]
    turned_down(typed(*stated), "policy differs, 'both' and 'findings'", "--policy")
    said = done(typed(*stated, "--policy", "both"))
    assert "texts: both" in said and "this run minus" in said
    page = ["report", tmp_path, "--data", studies, "--protocol", "exact", "--no-views", "--similarity", "csd"]
    done(typed(*page, "--policy", "both"))
    assert "texts: both" in (tmp_path / "report.html").read_text()
    drawn = ["figures", tmp_path, "--data", studies, "--protocol", "exact", "--out", tmp_path / "print"]
    drawn += ["--similarity", "csd"]
    turned_down(typed(*drawn, "--policy", "findings"), "measured with the texts both, not findings")
    done(typed(*drawn))
    assert "texts: both" in (tmp_path / "print" / "captions.md").read_text()


def test_a_model_says_itself_how_its_points_are_compared(way, typed):
    turned_down(typed("evaluate", way[0] / "run", "--similarity", "csd"), "similarity: ", "holds a model")


def test_two_files_of_one_side_are_one_too_many(way, typed, tmp_path):
    ids = np.array(["a"])
    for kind in (".npz", ".csv"):
        given(tmp_path, "image", kind, np.ones((1, 2)), np.zeros((1, 2)), ids)
    found = typed("evaluate", tmp_path, "--data", way[0] / "studies")
    turned_down(found, "one file of the image side of test", "test-image.csv, test-image.npz")


def test_the_policy_holds_for_every_command_on_a_run(way, typed):
    "A run reads what it trained on; another policy is used where it is named, and said."
    run = way[0] / "run"
    film = next((way[0] / "studies").rglob("*.png"))
    for policy, named in (("both", []), ("impression", ["--policy", "impression"])):
        assert f"(texts: {policy})" in done(typed("embed", run, *named))
        assert f"reports ({policy}) searched" in done(typed("search", run, "--image", film, "-k", 1, *named))
        assert f"texts: {policy}" in done(typed("evaluate", run, "--protocol", "falsified", *named))


OWN = """from medret_nb.methods.clip import CLIP


class Mine(CLIP):
    "CLIP under a name of one's own."

    name = "mine"
"""


def test_an_own_method_goes_the_whole_way(way, typed, tmp_path):
    "Trained, embedded, measured, asked and reported with --plugin; without it one line that names the option."
    (tmp_path / "own.py").write_text(OWN)
    own = ["--plugin", tmp_path / "own.py"]
    run = tmp_path / "run"
    train = ["train", "mine", "--data", way[0] / "studies", "--out", run, "--epochs", 1, "--batch-size", 8, "--dim", 8]
    turned_down(typed(*train), "mine")
    for words in (
        train,
        ["embed", run],
        ["evaluate", run, "--protocol", "exact", "--k", 1],
        ["search", run, "--text", "effusion", "-k", 1],
        ["report", run, "--protocol", "exact", "--no-views"],
    ):
        done(typed(*words, *own))
    turned_down(typed("embed", run), "method 'mine' is of the plug-in own.py", "name it by --plugin own.py")
    turned_down(typed("embed", run, "--plugin", tmp_path / "absent.py"), "absent.py: no plug-in")
