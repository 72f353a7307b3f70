"""Exported code imports downward only, some modules need next to nothing, and no notebook runs ahead of its readers."""

import ast
import re
from graphlib import TopologicalSorter

import pytest
from support import PACKAGE, ROOT, cells, exported_name, imported, library, notebooks, own

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
    ("course",),
    ("cli",),
]
SHARED_METHODS = {
    "methods.families",
    "methods.backbones",
    "methods.encoders",
    "methods.settings",
    "methods.saving",
    "methods.building",
    "methods.method",
    "methods.towers",
    "methods.table",
}
NUMPY_ALONE = {"evaluation.ranking", "evaluation.intervals", "evaluation.reliability"}
NEVER = {"fastcore", "nbdev", "torchvision", "pickle"}
NUMBERED = [f for f in notebooks() if f.name != "index.ipynb"]


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    """Module (as `data.studies`) -> names it imports."""
    files = library()
    return {m: set(imported(ast.parse(f.read_text(encoding="utf-8")), m, set(files))) for m, f in files.items()}


def test_every_module_lies_in_a_layer(graph):
    assert {m.split(".")[0] for m in graph} <= {folder for layer in LAYERS for folder in layer}
    assert len(graph) > 10


def test_imports_go_downward(graph):
    rank = {folder: i for i, layer in enumerate(LAYERS) for folder in layer}
    wrong = [
        f"{m} imports {n}"
        for m, names in graph.items()
        for n in own(names)
        if n.split(".")[0] not in rank or rank[n.split(".")[0]] > rank[m.split(".")[0]]
    ]
    assert not wrong, wrong


def test_readers_of_real_data_stand_without_the_phantom(graph):
    wrong = [
        m for m, names in graph.items() if m.startswith("data.") and any(n.startswith("phantom") for n in own(names))
    ]
    assert not wrong, wrong


def test_siblings_do_not_import_each_other(graph):
    wrong = [
        f"{m} imports {n}"
        for m, names in graph.items()
        for n in own(names)
        if m.split(".")[0] == n.split(".")[0]
        and m.split(".")[0] in ("losses", "methods")
        and m not in SHARED_METHODS
        and n not in SHARED_METHODS
    ]
    assert not wrong, wrong


def test_imports_have_no_circle(graph):
    order = TopologicalSorter({m: own(names) - {m} for m, names in graph.items()})
    order.prepare()  # raises CycleError, which names the circle


def test_ranking_needs_numpy_alone(graph):
    allowed = {"__future__", "collections", "dataclasses", "math", "numpy", "scipy", "typing"}
    for module in NUMPY_ALONE:
        reached, asked = set(), {module}
        while asked:
            name = asked.pop()
            reached.add(name)
            asked |= own(graph[name]) - reached
        others = {n.split(".")[0] for name in reached for n in graph[name]} - {PACKAGE}
        assert others <= allowed, (module, others - allowed)


def test_figures_take_no_models(graph):
    for module in [m for m in graph if m.startswith("figures.")]:
        assert not {n.split(".")[0] for n in graph[module]} & {"torch", "transformers"}, module
        assert {n for n in own(graph[module]) if not n.startswith("figures.")} <= {"data.files"}, module


def test_no_forbidden_library(graph):
    wrong = [f"{m} imports {n}" for m, names in graph.items() for n in names if n.split(".")[0] in NEVER]
    assert not wrong, wrong


def number(file) -> int:
    """The number at the head of a notebook's name."""
    found = re.fullmatch(r"(\d{3})_[a-z0-9_]+\.ipynb", file.name)
    assert found, f"{file.relative_to(ROOT)}: a notebook is called NNN_name.ipynb"
    return int(found[1])


def test_numbers_are_whole_and_given_once():
    numbers = [number(file) for file in NUMBERED]
    assert len(set(numbers)) == len(numbers), sorted(n for n in numbers if numbers.count(n) > 1)


def test_the_name_of_a_notebook_is_its_module():
    for file in NUMBERED:
        module = exported_name(file)
        if module:
            assert (file.parent.name, file.stem[4:]) == tuple(module.split(".")), file.relative_to(ROOT)


ASKS_A_RUN = {"methods.table", "probes.located_queries"}
SHOWS_THE_PATIENT = {"phantom.patient", "phantom.truth_tables", "phantom.rendering", "data.studies"}


@pytest.mark.parametrize("file", NUMBERED, ids=lambda f: f.relative_to(ROOT / "nbs").as_posix())
def test_a_notebook_uses_only_what_was_read_before(file):
    """Cells import modules of lower numbers only; lessons/ come last and may import anything.

    A demonstration may open a trained run, and ask it what its lesson promises, with tools that are explained later;
    and it may show the running patient: her film, her truth, her scene drawn with something changed, and the sixty
    shipped studies of which hers is one.
    """
    places = {exported_name(f): number(f) for f in NUMBERED}
    mine = exported_name(file) or ""
    used = set()
    for kind, source in cells(file):
        if kind == "code":
            names = own(set(imported(ast.parse(source), mine, set(places) - {None})))
            used |= names if "#| export" in source else names - ASKS_A_RUN - SHOWS_THE_PATIENT
    ahead = sorted(m for m in used - {mine} if places.get(m, 0) >= number(file))
    assert not ahead, f"{file.name} imports {', '.join(ahead)}, which come later"
