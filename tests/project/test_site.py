"""The site: built from the committed notebooks without a network, searchable, its formulas drawn by the browser."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT, child_environment

sys.path.insert(0, str(ROOT / "tools"))
sys.path.insert(0, str(ROOT / "site"))
from build_site import REPOSITORY, faults_of, linked, module_of, page_of  # noqa: E402
from house import formula, readable  # noqa: E402

LESSON = "losses/320_contrastive"


def build(out: Path, *words: str) -> subprocess.CompletedProcess:
    """Run the builder."""
    command = [sys.executable, "-P", "tools/build_site.py", str(out), *words]
    environment = child_environment() | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A site of two lessons, without views."""
    out = tmp_path_factory.mktemp("site")
    made = build(out, "--only", "320_contrastive", "970_glossary", "--runs")
    assert made.returncode == 0, made.stderr[-2000:]
    return out


def test_pages_fetch_nothing(site):
    assert not [fault for fault in faults_of(site) if " fetches " in fault]


def test_a_lesson_shows_its_pictures_formulas_and_neighbours(site):
    page = (site / f"{LESSON}.html").read_text(encoding="utf-8")
    assert "<math" in page and "<img" in page and "#| export" not in page
    assert 'href="../lessons/970_glossary.html#softmax"' in page
    assert (site / "reference/losses.contrastive.html").is_file()


def test_the_search_knows_the_lesson(site):
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    known = json.loads(index.removeprefix("Search.setIndex(").removesuffix(")"))
    assert LESSON in known["docnames"] and "temperatur" in known["terms"]


def test_faults_are_found(tmp_path):
    (tmp_path / "b.html").write_text('<p id="here">')
    told = (
        '<a href="b.html#here">1</a><a href="b.html#gone">2</a><a href="c.html">3</a><script src="https://x.org/a.js">'
    )
    (tmp_path / "a.html").write_text(told)
    faults = faults_of(tmp_path)
    assert len(faults) == 3
    assert (
        "b.html#gone has no such place" in faults[0] and "c.html is not there" in faults[1] and "fetches" in faults[2]
    )


def test_a_page_has_no_lines_of_nbdev():
    cells = ["#| default_exp losses.contrastive", "#| export\nx = 1", "y = 2"]
    content = {"cells": [{"cell_type": "code", "source": source} for source in cells]}
    assert module_of(content) == "medret_nb.losses.contrastive"
    assert ["".join(cell["source"]) for cell in page_of(content)["cells"]] == ["x = 1", "y = 2"]


def test_docstrings_keep_their_form():
    told = ["A loss:", "", "    L = x", "", "scores : (N, M)", "targets : (N, M)"]
    made = readable(told)
    assert made[made.index("    L = x") - 2] == "::"
    assert made[made.index("targets : (N, M)") - 1] == ""


@pytest.mark.slow
def test_the_whole_site_has_no_fault(tmp_path):
    made = build(tmp_path / "site")
    assert made.returncode == 0, made.stdout[-3000:] + made.stderr[-2000:]


def test_formulas_are_drawn_by_the_browser_and_a_bad_one_stays_readable():
    assert "<mfrac>" in formula(r"\frac{1}{2}")
    assert formula("\n") == "<code>\n</code>"
    assert formula(r"\left( <b>") == r"<code>\left( &lt;b&gt;</code>"


def test_links_out_of_the_notebooks_lead_to_the_repository():
    assert linked("[a](../../data/results/README.md)", 2) == f"[a]({REPOSITORY}data/results/README.md)"
    assert linked("[a](../losses/320_contrastive.ipynb)", 2) == "[a](../losses/320_contrastive.ipynb)"
    assert linked('<a href="../b.ipynb#c">', 2) == '<a href="../b.html#c">'
