"""The standard of a lesson, over all that are committed with their outputs: head, picture, cells, exercises, links."""

import ast
import base64
import io
import json
import re
import statistics
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
from execute_lessons import FOLDED, LARGEST, small_picture  # noqa: E402
from support import ROOT, cells, notebooks

LONGEST = 25  # lines of a cell that a reader meets
MEDIAN = 8
HEAD = ("time", "you need", "new words", "before, after")
MORE_THAN_A_PICTURE = r"^\s*assert\b|#\| export|### BEGIN SOLUTION|^import |^from "
FOR_CHANGERS = "## For those who change it"  # what stands under this heading is plumbing, and may be skipped
WRITTEN = [
    file
    for file in notebooks()
    if file.name != "index.ipynb" and "medret" in json.loads(file.read_text(encoding="utf-8"))["metadata"]
]


def name(file: Path) -> str:
    return file.relative_to(ROOT / "nbs").as_posix()


def only_imports(source: str) -> bool:
    return all(isinstance(node, (ast.Import, ast.ImportFrom)) for node in ast.parse(source).body)


def lines_read(source: str) -> int:
    """Lines of a code cell: none that are blank, none of nbdev's, none between the marks of a solution."""
    shown = re.sub(r"### BEGIN SOLUTION.*?### END SOLUTION", "", source, flags=re.S)
    return len([line for line in shown.splitlines() if line.strip() and not re.match(r"#\s*\|", line)])


def read_cells(file: Path) -> list[str]:
    """The code cells that a reader meets: no imports, and nothing of the part for those who change the code."""
    found = []
    skipped = False
    for kind, source in cells(file):
        if kind == "markdown":
            heads = re.findall(r"^## .*", source, re.M)
            skipped = heads[-1].startswith(FOR_CHANGERS) if heads else skipped
        elif not skipped and not only_imports(source) and not source.startswith(FOLDED):
            found.append(source)
    return found


@pytest.mark.parametrize("file", WRITTEN, ids=name)
def test_the_head_says_time_needs_words_and_neighbours(file):
    head = cells(file)[0][1]
    missing = [word for word in HEAD if f"| {word} |" not in head]
    assert not missing, f"the table in the first cell lacks {missing}"
    assert re.search(r"\| time \| .*minute", head)
    assert len(re.findall(r"^> .*", head, re.M)[0]) <= 112


@pytest.mark.parametrize("file", WRITTEN, ids=name)
def test_a_picture_comes_early(file):
    content = json.loads(file.read_text(encoding="utf-8"))
    told = []
    for cell in content["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown" or not only_imports(source):
            told.append(any("image/png" in output.get("data", {}) for output in cell.get("outputs", [])))
    assert any(told[:5]), "no picture in the first five cells"


@pytest.mark.parametrize("file", WRITTEN, ids=name)
def test_cells_are_short(file):
    counts = [lines_read(source) for source in read_cells(file)]
    longest = max(range(len(counts)), key=counts.__getitem__)
    assert counts[longest] <= LONGEST, f"{counts[longest]} lines: {read_cells(file)[longest][:200]}"
    assert statistics.median(counts) <= MEDIAN


@pytest.mark.parametrize("file", WRITTEN, ids=name)
def test_three_exercises_with_a_stub_a_check_and_a_hint(file):
    solved = [source for kind, source in cells(file) if kind == "code" and "### BEGIN SOLUTION" in source]
    assert len(solved) >= 3
    for source in solved:
        assert source.count("### BEGIN SOLUTION") == source.count("### END SOLUTION"), source[:200]
        assert not re.search(r"^\s*assert\b", source, re.M), f"the check belongs into a cell of its own: {source[:200]}"
    prose = "\n".join(source for kind, source in cells(file) if kind == "markdown")
    assert prose.count("<details>") >= 3 and prose.count("<details>") == prose.count("</details>")


def names_of(source: str, kind: type[ast.expr_context]) -> set[str]:
    """The names that a cell binds (`ast.Store`), functions, classes and imports among them, or uses (`ast.Load`)."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, kind):
            found.add(node.id)
        elif kind is ast.Store and isinstance(node, ast.FunctionDef | ast.ClassDef | ast.alias):
            found.add(node.name)
    return found


@pytest.mark.parametrize("file", WRITTEN, ids=name)
def test_a_folded_cell_only_draws(file):
    """Its code may be folded because it shows a picture and nothing else: no check, and no name that is used later."""
    told = [cell for cell in json.loads(file.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    sources = ["".join(cell["source"]) for cell in told]
    for place, (cell, source) in enumerate(zip(told, sources, strict=True)):
        if source.startswith(FOLDED):
            assert any("image/png" in output.get("data", {}) for output in cell["outputs"]), source[:200]
            assert not re.search(r"^\s*assert\b|#\| export|### BEGIN SOLUTION|^import |^from ", source, re.M), source[
                :200
            ]
            later = set().union(*(names_of(other, ast.Load) for other in sources[place + 1 :]))
            bound_anew = set().union(*(names_of(other, ast.Store) for other in sources[place + 1 :]))
            assert not names_of(source, ast.Store) & later - bound_anew, source[:200]


def anchors(file: Path) -> set[str]:
    """What a link may name in a notebook: its headings, as JupyterLab writes them, blanks as hyphens."""
    prose = "\n".join(source for kind, source in cells(file) if kind == "markdown")
    return {head.strip().replace(" ", "-") for head in re.findall(r"^#+ (.*)", prose, re.M)}


@pytest.mark.parametrize("file", WRITTEN, ids=name)
def test_links_lead_somewhere(file):
    prose = "\n".join(source for kind, source in cells(file) if kind == "markdown")
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if target.startswith(("http://", "https://", "mailto:", "attachment:")):
            continue
        path, _, anchor = target.partition("#")
        there = (file.parent / path).resolve() if path else file
        assert there.exists(), f"{target}: there is no such file"
        if anchor and there.suffix == ".ipynb":
            assert anchor in anchors(there), f"{target}: no such heading"


SHORT_WAY = (
    "phantom/265_phantom",
    "losses/320_contrastive",
    "methods/415_clip",
    "retrieval/430_scoring",
    "evaluation/510_ranking",
    "lessons/980_error_analysis",
)
GOES_ON = "**The short way goes on here"


def first_reading(file: Path) -> tuple[int, int]:
    """Words and lines of code of a lesson as far as the short way reads it: to its mark, then Summary and exercises."""
    words = lines = 0
    skipped = False
    for kind, source in cells(file):
        if kind == "markdown":
            heads = re.findall(r"^## .*", source, re.M)
            skipped = heads[-1].startswith(FOR_CHANGERS) if heads and not skipped else skipped
            skipped = skipped and not any(head.startswith("## Summary") for head in heads)
            words += 0 if skipped else len(re.sub(r"<details>.*?</details>", "", source, flags=re.S).split())
            skipped = skipped or GOES_ON in source
        elif not skipped and not only_imports(source) and not source.startswith(FOLDED):
            lines += lines_read(source)
    return words, lines


def test_the_short_way_is_short():
    """Six lessons: an hour to read at 200 words a minute, a minute to run each, and at most 500 lines of code."""
    index = "\n".join(source for kind, source in cells(ROOT / "nbs/index.ipynb") if kind == "markdown")
    way = index.split("## The short way")[1].split("\n## ")[0]
    assert re.findall(r"^\d\. \[.*?\]\((.*?)\.ipynb\)", way, re.M) == list(SHORT_WAY)
    counts = [first_reading(ROOT / "nbs" / f"{lesson}.ipynb") for lesson in SHORT_WAY]
    words, lines = (sum(column) for column in zip(*counts, strict=True))
    assert words / 200 <= 60, counts
    assert lines <= 500, counts  # 1,953 before the lessons were rewritten


def test_a_picture_is_made_small_and_its_thin_coloured_lines_keep_their_colour():
    film = np.random.default_rng(0).integers(0, 256, (400, 600), np.uint8)
    picture = np.repeat(film[..., None], 3, 2)
    picture[100:102, 50:300] = (230, 159, 0)
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    kept = base64.b64decode(small_picture(base64.b64encode(file.getvalue()).decode()))
    assert len(kept) <= LARGEST < len(file.getvalue())
    made = np.asarray(Image.open(io.BytesIO(kept)).convert("RGB")).astype(int)
    found = made[np.ptp(made, axis=2) > 60]
    assert len(found) > 100 and abs(np.median(found, axis=0) - (230, 159, 0)).max() < 12
