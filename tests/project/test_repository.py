"""Rules of the house that a look at the files can check."""

import ast
import re
import subprocess
import sys

import pytest
from support import ROOT, child_environment

FORBIDDEN_CALLS = {
    "torch.load",
    "torch.save",
    "pickle.load",
    "pickle.loads",
    "pickle.dump",
    "pickle.dumps",
    "yaml.load",
    "os.system",
    "eval",
    "exec",
}
FORBIDDEN_METHODS = {"extractall", "save_state", "load_state", "read_pickle", "to_pickle"}
LARGEST = 5 * 2**20
TEXT = {
    ".py",
    ".ipynb",
    ".md",
    ".txt",
    ".toml",
    ".ini",
    ".json",
    ".yml",
    ".yaml",
    ".csv",
    ".sh",
    ".js",
    ".css",
    ".html",
    "",
}
README_COMMANDS = ["pip install -r requirements.txt && medret tour", "pip install -r requirements-dev.txt && pytest"]


def project_files():
    """The files of the repository: what git tracks, or everything outside the usual build folders."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode == 0 and listed.stdout:
        return [ROOT / f for f in listed.stdout.split("\0") if f and (ROOT / f).is_file()]
    skipped = {".git", "__pycache__", ".venv", "venv", ".pytest_cache", ".hypothesis", "runs", "tour"}
    return [f for f in ROOT.rglob("*") if f.is_file() and not skipped & set(f.relative_to(ROOT).parts)]


FILES = project_files()
SOURCES = [f for f in FILES if f.suffix == ".py" and f.is_relative_to(ROOT / "medret_nb")]


def called(node: ast.Call) -> str:
    """The dotted name of what is called."""
    try:
        return ast.unparse(node.func)
    except ValueError:
        return ""


def test_library_calls_nothing_dangerous():
    wrong = []
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            where = f"{file.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = [a.name for a in node.names] + [getattr(node, "module", None) or ""]
                wrong += [
                    f"{where} imports {n}"
                    for n in names
                    if n.split(".")[0] in ("pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve")
                ]
            if not isinstance(node, ast.Call):
                continue
            name = called(node)
            if name in FORBIDDEN_CALLS or name.split(".")[-1] in FORBIDDEN_METHODS:
                wrong.append(f"{where} calls {name}")
            for keyword in node.keywords:
                on = isinstance(keyword.value, ast.Constant) and keyword.value.value is True
                if keyword.arg in ("shell", "allow_pickle", "trust_remote_code") and on:
                    wrong.append(f"{where} passes {keyword.arg}=True")
            if name in ("np.load", "numpy.load") and not any(k.arg == "allow_pickle" for k in node.keywords):
                wrong.append(f"{where} calls {name} without allow_pickle=False")
    assert not wrong, wrong


def test_library_has_no_leftovers():
    wrong = [
        f"{f.relative_to(ROOT)}: {m[0]}"
        for f in SOURCES
        for m in re.finditer(r"\b(TODO|FIXME|XXX:|breakpoint\(\))", f.read_text(encoding="utf-8"))
    ]
    assert not wrong, wrong


def test_no_path_of_a_machine_is_written_down():
    pattern = re.compile(r"(?<![\w.])/(?:home|root|Users|work|opt/conda)/\w|(?<![\w.])/tmp/\w|[A-Z]:\\\\Users")
    wrong = []
    for file in FILES:
        if file.suffix in TEXT and file.name != "test_repository.py":
            found = pattern.search(file.read_text(encoding="utf-8", errors="replace"))
            wrong += [f"{file.relative_to(ROOT)}: {found[0]}"] if found else []
    assert not wrong, wrong


def test_files_are_small():
    large = [f"{f.relative_to(ROOT)}: {f.stat().st_size / 2**20:.1f} MB" for f in FILES if f.stat().st_size > LARGEST]
    assert not large, large


def test_readme_names_the_two_commands():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for command in README_COMMANDS:
        assert re.search(rf"^\s*{re.escape(command)}$", readme, re.M), command


def test_ci_runs_the_readme_commands():
    """.ci/run takes both commands out of README.md; asked to, it only prints them."""
    shown = subprocess.run(["bash", ".ci/run", "--show"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.splitlines() == README_COMMANDS


def test_workflow_runs_the_readme_test_command():
    workflow = (ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8")
    assert f"run: {README_COMMANDS[1]}" in workflow
    assert all(version in workflow for version in ('"3.11"', '"3.12"', '"3.13"'))


@pytest.mark.parametrize("module", ["medret_nb", "medret_nb.data.studies", "medret_nb.cli.main"])
def test_import_needs_nothing_beside_the_checkout(module, tmp_path):
    """Importing reads neither ../shared nor the working directory, and asks no network."""
    code = (
        "import builtins, os, socket, sys\n"
        "def refuse(*a, **k): raise OSError('no network here')\n"
        "socket.socket.connect = refuse\n"
        f"import {module}\n"
        f"assert not os.listdir('.'), 'importing {module} wrote files'"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120, env=child_environment()
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_nothing_names_the_shared_folder_in_the_library():
    wrong = [
        f.relative_to(ROOT).as_posix()
        for f in SOURCES
        if re.search(r"\.\./shared|['\"]shared['\"]", f.read_text(encoding="utf-8"))
    ]
    assert not wrong, wrong
