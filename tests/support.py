"""What tests share beside fixtures.

Where the checkout lies, the environment of child processes, the notebooks' cells.
"""

import ast
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "medret_nb"


def child_environment(**extra) -> dict:
    """The environment for child processes.

    This Python first in PATH, the checkout importable, no network for models.
    """
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "PYTHONPATH": os.pathsep.join(p for p in paths if p),
        "PYTHONUNBUFFERED": "1",
        "MPLBACKEND": "Agg",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "NO_COLOR": "1",
        **extra,
    }


def library() -> dict[str, Path]:
    """The package's modules: name without the package (`data.studies`) -> file."""
    files = [f for f in (ROOT / PACKAGE).rglob("*.py") if f.name not in ("__init__.py", "_modidx.py")]
    return {".".join(f.relative_to(ROOT / PACKAGE).with_suffix("").parts): f for f in sorted(files)}


def notebooks() -> list[Path]:
    """All notebooks, the index among them."""
    return sorted(f for f in (ROOT / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in f.parts)


def cells(file: Path) -> list[tuple[str, str]]:
    """(cell type, source) of every cell of a notebook."""
    return [(c["cell_type"], "".join(c["source"])) for c in json.loads(file.read_text(encoding="utf-8"))["cells"]]


def exported_name(file: Path) -> str | None:
    """The module that a notebook makes, None for one that makes none."""
    for kind, source in cells(file):
        if kind == "code" and (found := re.match(r"#\| default_exp (\S+)", source)):
            return found[1]
    return None


def imported(tree: ast.AST, module: str, modules: set[str]) -> Iterator[str]:
    """The absolute names that a module or a cell imports, wherever in it; `from package import module` counts as that
    module.

    module : the module whose tree it is (`data.studies`), for relative imports; modules : all modules of the package.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = absolute(node, module)
            for alias in node.names:
                inner = f"{base}.{alias.name}".removeprefix(f"{PACKAGE}.")
                yield f"{PACKAGE}.{inner}" if inner in modules else base


def absolute(node: ast.ImportFrom, module: str) -> str:
    """The absolute name that `from ... import` in `module` speaks of."""
    if not node.level:
        return node.module or ""
    base = f"{PACKAGE}.{module}".split(".")[: -node.level]
    return ".".join(base + ([node.module] if node.module else []))


def own(names: set[str]) -> set[str]:
    """Of the names imported, this package's own modules, without the package's name."""
    return {n.removeprefix(f"{PACKAGE}.") for n in names if n.startswith(f"{PACKAGE}.")}
