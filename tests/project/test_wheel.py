"""The wheel alone: built, installed without the clone, it makes data, trains, measures and shows (slow: the tour)."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from support import ROOT

NEEDED = ["pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "medret_nb", "data"]
SIZES = ["--epochs", "1", "--batch-size", "4", "--size", "32"]
MEDRET = "from medret_nb.cli.main import main; main()"
SHOWS = """
from medret_nb.data.files import shipped_data
from medret_nb.views.failures import failures_view
from medret_nb import StudySet, evaluate
import medret_nb, sys
assert sys.argv[1] in medret_nb.__file__, medret_nb.__file__
assert shipped_data("results/claims/claims.toml").exists()
from medret_nb.data.runs import shipped_runs
assert "clip" in shipped_runs()
assert failures_view and StudySet.load("studies").studies.shape[0] == 24
from medret_nb.views.widget import script
assert len(script()) > 10_000
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    "The wheel of this checkout, built without a network."
    source = tmp_path_factory.mktemp("source")
    out = tmp_path_factory.mktemp("wheel")
    for name in NEEDED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, source / name)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(source)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    "The bin folder of a virtual environment with the wheel, and of the clone's environment the dependencies only."
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=False)
    site = next(folder.glob("lib/python*/site-packages"))
    # a path in a .pth file brings the packages there, not the .pth file by which the clone itself is installed
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    places = ["--no-deps", "--ignore-installed", "--no-index", "--target", str(site), str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *places], check=True)
    return folder / "bin"


def run(installed, folder, *words):
    "`medret WORDS` of the installation, started in `folder`; its output."
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    command = [str(installed / "python"), "-c", MEDRET, *map(str, words)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"medret {' '.join(map(str, words))}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def test_the_wheel_carries_what_git_holds_of_the_data_and_no_caches(wheel):
    "Each committed file below data/ is in the wheel, and nothing else."
    listed = subprocess.run(["git", "ls-files", "data"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    shipped = {f"medret_nb/shipped/{Path(name).relative_to('data').as_posix()}" for name in listed.stdout.split()}
    carried = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("medret_nb/shipped/")}
    assert carried == shipped


def test_an_installation_of_the_wheel_trains_and_measures(installed, tmp_path):
    "From an empty folder: data, training, measures, a search, a page; and it is the wheel's code that runs."
    run(installed, tmp_path, "data", "phantom", "studies", "--studies", "24", "--size", "32", "--seed", "1")
    run(installed, tmp_path, "train", "clip", "--data", "studies", "--out", "run", *SIZES)
    assert "exact" in run(installed, tmp_path, "evaluate", "run", "--split", "all")
    assert "score" in run(installed, tmp_path, "search", "run", "--text", "left pleural effusion", "-k", "2")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    shows = [str(installed / "python"), "-c", SHOWS, str(installed.parent)]
    done = subprocess.run(shows, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_quick_tour_from_the_wheel(installed, tmp_path):
    "The whole way, from the wheel alone; the last lines don't send anybody to notebooks that aren't there."
    said = run(installed, tmp_path, "tour", "tour", "--quick")
    assert (tmp_path / "tour" / "report.html").exists()
    assert "jupyter lab" not in said
