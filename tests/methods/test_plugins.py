"""Plug-ins: a file becomes methods, whatever is wrong is one line, and no run can have its own code run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from medret_nb.data.files import DataError
from medret_nb.data.runs import Run
from medret_nb.methods import table
from medret_nb.methods.plugins import code_hash, read_plugin
from medret_nb.methods.table import load_method, load_plugin, method_class, method_names

MINE = """from medret_nb.methods.clip import CLIP


class Mine(CLIP):
    "CLIP under a name of one's own."

    name = "mine"
"""


@pytest.fixture
def no_plugins(monkeypatch):
    "A process in which no plug-in was named."
    monkeypatch.setattr(table, "_PLUGINS", {})


def written(folder: Path, text: str, name: str = "own.py") -> Path:
    (folder / name).write_text(text)
    return folder / name


@pytest.mark.parametrize(
    "text, said",
    [
        ("import nowhere_at_all", "own.py: line 1: ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("x = 1\ny = (", "own.py: line 2: SyntaxError"),
        ("\n\nraise SystemExit(3)", "own.py: line 3: SystemExit: 3"),
        ("x = 1", "own.py: defines no method"),
        ("from medret_nb.methods.clip import CLIP", "own.py: defines no method"),
        (MINE.replace('"mine"', '"../mine"'), "own.py: the name of Mine is '../mine', not letters"),
        (MINE.replace('"mine"', '"clip"'), "own.py: there is a method 'clip' already"),
    ],
)
def test_what_is_wrong_with_a_plugin_is_one_line(no_plugins, tmp_path, text, said):
    with pytest.raises(DataError) as caught:
        load_plugin(written(tmp_path, text))
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_no_plugin(tmp_path):
    for name in ("absent.py", "text.txt"):
        with pytest.raises(DataError, match=f"{name}: no plug-in"):
            read_plugin(tmp_path / name)


def test_a_plugin_is_found_by_name_and_needed_by_its_runs(no_plugins, tmp_path):
    file = written(tmp_path, MINE)
    assert load_plugin(file) == ["mine"] == load_plugin(file) and method_names()[-1] == "mine"
    kind = method_class("mine")
    kind.create(kind.Config(dim=8), seed=0).save_pretrained(tmp_path / "run")
    assert Run(tmp_path / "run").config()["plugin"] == "own.py"
    assert type(load_method(tmp_path / "run")) is kind
    assert code_hash(kind) != "" and code_hash(method_class("clip")) == ""


def test_a_run_does_not_load_its_plugin(no_plugins, tmp_path):
    "The code lies beside the run and is named in it; still only the user can have it run."
    kind = read_plugin(written(tmp_path, MINE))["mine"]
    kind.create(kind.Config(dim=8), seed=0).save_pretrained(tmp_path)
    with pytest.raises(
        DataError, match="method 'mine' is of the plug-in own.py, which is not here; name it by --plugin"
    ):
        load_method(tmp_path)


def test_an_installed_distribution_announces_methods(tmp_path):
    written(tmp_path, MINE, "my_methods.py")
    about = tmp_path / "my_methods-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my-methods\nVersion: 1.0\n")
    points = "[medret_nb.methods]\nmine = my_methods:Mine\nother = my_methods:Mine\nlost = my_methods:Lost\n"
    (about / "entry_points.txt").write_text(points)
    script = """
import sys
from medret_nb.data.files import DataError
from medret_nb.methods.table import load_method, method_class, method_names
assert "my_methods" not in sys.modules and method_names()[-3:] == ["mine", "other", "lost"]
kind = method_class("mine")
kind.create(kind.Config(dim=8), seed=0).save_pretrained("run")
assert type(load_method("run")) is kind and load_method("run").config.plugin == "my-methods"
for name in ("other", "lost"):
    try:
        method_class(name)
    except DataError as error:
        print(error)
"""
    there = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=there, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = done.stdout.splitlines()
    assert "entry point other = my_methods:Mine: the class calls itself 'mine'" in told[0]
    assert "entry point lost = my_methods:Lost" in told[1] and len(told) == 2
    with pytest.raises(DataError, match="of the plug-in my-methods, which is not here; install my-methods"):
        load_method(tmp_path / "run")
