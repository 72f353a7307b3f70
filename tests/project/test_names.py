"""One name for one thing: public names of the package, and the files on disk that one module owns."""

import ast
import re
from collections import defaultdict

import pytest
from support import library

MODULES = library()
OWNERS = {
    "data.runs": [
        "config.json",
        "model.safetensors",
        "log.jsonl",
        "fingerprint.json",
        "checkpoints",
        "embeddings",
        "evaluation",
    ],
    "data.tokens": ["tokenizer.json"],
    "data.studies": ["studies.parquet", "images.parquet", "regions.parquet", "dataset.json"],
    "evaluation.measured": ["metrics.json"],
    "evaluation.results": ["rankings.parquet", "queries.parquet"],
}
PHANTOM_FILES = [
    "phantom.json",
    "scenes.parquet",
    "truth.parquet",
    "visibility.parquet",
    "assertions.parquet",
    "sentences.parquet",
    "ambiguity.parquet",
]


def defined(tree: ast.Module) -> set[str]:
    """The public names that a module defines itself."""
    names = set()
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return {name for name in names if not name.startswith("_")}


def test_no_public_name_stands_for_two_things():
    homes = defaultdict(list)
    for module, file in MODULES.items():
        for name in defined(ast.parse(file.read_text(encoding="utf-8"))):
            homes[name].append(module)
    twice = {name: modules for name, modules in homes.items() if len(modules) > 1}
    assert not twice, twice


def strings(module: str) -> set[str]:
    """The string constants of a module's code, docstrings left out."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    documented = (ast.Module, ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef)
    told = {
        id(node.body[0].value) for node in ast.walk(tree) if isinstance(node, documented) and ast.get_docstring(node)
    }
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told
    }


def folders(module: str) -> set[str]:
    """The string constants that a module appends to a path: `folder / "name"`."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    joined = [node.right for node in ast.walk(tree) if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)]
    return {node.value for node in joined if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def spelt(module: str, name: str) -> list[str]:
    """Where a module spells a file's name, alone or at the end of a path, or appends a folder's name to a path."""
    if "." not in name:
        return sorted(folders(module) & {name})
    return sorted(text for text in strings(module) if re.search(rf"(^|/){re.escape(name)}$", text))


@pytest.mark.parametrize("owner", OWNERS)
def test_a_file_is_named_by_its_owner_alone(owner):
    wrong = []
    for module in MODULES:
        if module != owner:
            wrong += [f"{module}: {text!r}" for name in OWNERS[owner] for text in spelt(module, name)]
    assert not wrong, wrong
    assert all(spelt(owner, name) for name in OWNERS[owner]), "the owner does not name it"


def test_the_truth_is_named_in_the_clinic_alone():
    """Files of the phantom's truth are spelt in one module of its wing each."""
    homes = defaultdict(set)
    for module in MODULES:
        for name in PHANTOM_FILES:
            if spelt(module, name):
                homes[name].add(module)
    assert set(homes) == set(PHANTOM_FILES)
    wrong = {
        name: modules for name, modules in homes.items() if len(modules) > 1 or not min(modules).startswith("phantom.")
    }
    assert not wrong, wrong
