"""Exported code imports downward only, and some modules need next to nothing."""

import ast
from graphlib import TopologicalSorter

import pytest

LAYERS = [
    ("figures", "data"),
    ("phantom",),
    ("kernels",),
    ("losses",),
    ("methods",),
    ("retrieval",),
    ("evaluation",),
    ("probes",),
    ("failures",),
    ("training",),
    ("views",),
    ("cli",),
]
PACKAGE = "medret_nb"
SHARED_METHODS = {"methods.encoders", "methods.method", "methods.table"}
NUMPY_ALONE = {"evaluation.ranking", "evaluation.intervals", "evaluation.reliability"}
NEVER = {"fastcore", "nbdev", "torchvision", "pickle"}


def absolute(node: ast.ImportFrom, module: str) -> str:
    """The absolute name that `from ... import` in `module` speaks of."""
    if not node.level:
        return node.module
    base = f"{PACKAGE}.{module}".split(".")[: -node.level]
    return ".".join(base + ([node.module] if node.module else []))


def imports(tree: ast.AST, module: str, modules: set[str]):
    """The names that a module imports, wherever in it; `from package import module` counts as that module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = absolute(node, module)
            for alias in node.names:
                inner = f"{base}.{alias.name}".removeprefix(f"{PACKAGE}.")
                yield f"{PACKAGE}.{inner}" if inner in modules else base


@pytest.fixture(scope="module")
def graph(root) -> dict[str, set[str]]:
    """Module (as `data.studies`) -> names it imports."""
    files = [f for f in (root / PACKAGE).rglob("*.py") if f.name not in ("__init__.py", "_modidx.py")]
    names = {".".join(f.relative_to(root / PACKAGE).with_suffix("").parts): f for f in files}
    return {m: set(imports(ast.parse(f.read_text(encoding="utf-8")), m, set(names))) for m, f in names.items()}


def inner(names: set[str]) -> set[str]:
    """Of the names imported, this package's own modules, without the package's name."""
    return {n.removeprefix(f"{PACKAGE}.") for n in names if n.startswith(f"{PACKAGE}.")}


def test_every_module_lies_in_a_layer(graph):
    assert {m.split(".")[0] for m in graph} <= {folder for layer in LAYERS for folder in layer}
    assert len(graph) > 10


def test_imports_go_downward(graph):
    rank = {folder: i for i, layer in enumerate(LAYERS) for folder in layer}
    wrong = [
        f"{m} imports {n}"
        for m, names in graph.items()
        for n in inner(names)
        if n.split(".")[0] not in rank or rank[n.split(".")[0]] > rank[m.split(".")[0]]
    ]
    assert not wrong, wrong


def test_siblings_do_not_import_each_other(graph):
    wrong = [
        f"{m} imports {n}"
        for m, names in graph.items()
        for n in inner(names)
        if m.split(".")[0] == n.split(".")[0]
        and m.split(".")[0] in ("losses", "methods")
        and m not in SHARED_METHODS
        and n not in SHARED_METHODS
    ]
    assert not wrong, wrong


def test_imports_have_no_circle(graph):
    order = TopologicalSorter({m: inner(names) - {m} for m, names in graph.items()})
    order.prepare()  # raises CycleError, which names the circle


def test_ranking_needs_numpy_alone(graph):
    for module in NUMPY_ALONE & set(graph):
        assert inner(graph[module]) <= NUMPY_ALONE, module
        others = {n.split(".")[0] for n in graph[module]} - {PACKAGE}
        assert others <= {"__future__", "collections", "dataclasses", "math", "numpy"}, module


def test_figures_take_no_models(graph):
    for module in [m for m in graph if m.startswith("figures.")]:
        assert not {n.split(".")[0] for n in graph[module]} & {"torch", "transformers"}, module
        assert {n for n in inner(graph[module]) if not n.startswith("figures.")} <= {"data.files"}, module


def test_no_forbidden_library(graph):
    wrong = [f"{m} imports {n}" for m, names in graph.items() for n in names if n.split(".")[0] in NEVER]
    assert not wrong, wrong
