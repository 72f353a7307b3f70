"""Lines, functions, docstrings and return types: a page of code can be read without unpacking it."""

import ast
import re
from collections.abc import Iterator

import pytest
from support import ROOT, cells, library, notebooks

WIDTH = 120
LONGEST_FUNCTION = 40
LONGEST_CELL = 60
MODULES = library()
NOTEBOOKS = notebooks()
TESTS = sorted([*(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")])
Function = ast.FunctionDef | ast.AsyncFunctionDef


def tree_of(file) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def public(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Public functions and classes of a module, and the public methods of public classes: (name, node)."""
    for node in tree.body:
        if isinstance(node, (Function, ast.ClassDef)) and not node.name.startswith("_"):
            yield node.name, node
            if isinstance(node, ast.ClassDef):
                for method in node.body:
                    if isinstance(method, Function) and not method.name.startswith("_"):
                        yield f"{node.name}.{method.name}", method


@pytest.mark.parametrize("file", TESTS, ids=lambda f: f.relative_to(ROOT).as_posix())
def test_lines_of_tests_fit(file):
    lines = enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
    wide = [number for number, line in lines if len(line) > WIDTH]
    assert not wide, f"lines {wide}"


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda f: f.relative_to(ROOT).as_posix())
def test_code_cells_fit_a_screen(file):
    for kind, source in cells(file):
        if kind != "code":
            continue
        lines = [line for line in source.splitlines() if line.strip() and not line.startswith("#|")]
        assert not [line for line in lines if len(line) > WIDTH], f"a line over {WIDTH}"
        assert len(lines) <= LONGEST_CELL, f"a cell of {len(lines)} lines: {lines[0]}"


@pytest.mark.parametrize("name", MODULES)
def test_functions_fit_a_screen(name):
    found = [node for node in ast.walk(tree_of(MODULES[name])) if isinstance(node, Function)]
    lengths = {node.name: node.end_lineno - node.lineno + 1 for node in found}
    long = {function: length for function, length in lengths.items() if length > LONGEST_FUNCTION}
    assert not long, long


@pytest.mark.parametrize("name", MODULES)
def test_statements_are_not_packed(name):
    """No tuple of values is assigned to a tuple of names, save a swap.

    No lambda has a name; no ternary stands in another.
    """
    wrong = []
    for node in ast.walk(tree_of(MODULES[name])):
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Tuple)
            and isinstance(node.targets[0], ast.Tuple)
        ):
            names = {ast.unparse(target) for target in node.targets[0].elts}
            if names != {ast.unparse(value) for value in node.value.elts}:
                wrong.append(f"line {node.lineno}: several assignments in one")
        children = [part for child in ast.iter_child_nodes(node) for part in ast.walk(child)]
        if isinstance(node, ast.IfExp) and any(isinstance(part, ast.IfExp) for part in children):
            wrong.append(f"line {node.lineno}: a choice within a choice")
        comprehension = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
        if isinstance(node, comprehension) and any(isinstance(part, comprehension) for part in children):
            wrong.append(f"line {node.lineno}: a comprehension within a comprehension")
    assert not wrong, wrong


@pytest.mark.parametrize("name", MODULES)
def test_modules_say_what_they_are_for(name):
    said = ast.get_docstring(tree_of(MODULES[name])) or ""
    assert said and "\n" not in said and len(said) <= WIDTH - 6, said
    assert not re.search(r"you will be able", said, re.I), "the goal of the lesson is not what the module is for"


@pytest.mark.parametrize("name", MODULES)
def test_public_names_are_told_and_typed(name):
    wrong = []
    for label, node in public(tree_of(MODULES[name])):
        if not ast.get_docstring(node):
            wrong.append(f"{label}: no docstring")
        if isinstance(node, Function) and node.returns is None:
            wrong.append(f"{label}: no return type")
    assert not wrong, wrong
