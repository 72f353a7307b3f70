"""Builds the site from the committed notebooks, the docstrings and the shipped runs: python -P tools/build_site.py OUT

Nothing is run but the views of the shipped runs, and nothing is fetched. At the end every link within the site is
followed and every page searched for requests to anywhere else; faults of either kind are listed, exit code 1.

--only 320_contrastive 415_clip builds these lessons alone, with the pages of the modules they make.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "site"
FOLDERS = {
    "lessons": "Reading and writing",
    "figures": "Figures",
    "data": "Data",
    "phantom": "The simulated clinic",
    "kernels": "Kernels",
    "losses": "Losses",
    "methods": "Methods",
    "retrieval": "Retrieval",
    "evaluation": "Evaluation",
    "probes": "Probes",
    "failures": "Failures",
    "training": "Training",
    "views": "Views",
    "course": "The course",
    "cli": "The command line",
}
SHOWN_RUNS = ("pcmepp", "pecm", "rra_vl")  # one with clouds, one with prototypes, one with attention


def module_of(content: dict) -> str:
    """The module that a notebook makes, or nothing."""
    for cell in content["cells"]:
        found = re.match(r"#\| default_exp (\S+)", "".join(cell["source"]))
        if found and cell["cell_type"] == "code":
            return f"medret_nb.{found[1]}"
    return ""


REPOSITORY = "https://github.com/medret/medret_nb/blob/main/"


def linked(prose: str, depth: int) -> str:
    """Prose whose links out of the notebooks (`depth` folders up) lead to the repository, links in HTML to pages."""
    outside = re.sub(rf"\]\((?:\.\./){{{depth}}}([^)]+)\)", lambda found: f"]({REPOSITORY}{found[1]})", prose)
    return re.sub(r'href="([^":]+)\.ipynb', r'href="\1.html', outside)


def page_of(content: dict, depth: int = 2) -> dict:
    """A notebook as a page: without nbdev's lines."""
    for cell in content["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = linked("".join(cell["source"]), depth).splitlines(keepends=True)
        if cell["cell_type"] == "code":
            source = re.sub(r"^#\| .*\n?", "", "".join(cell["source"]), flags=re.M).strip("\n")
            cell["source"] = source.splitlines(keepends=True)
    content["cells"] = [cell for cell in content["cells"] if cell["cell_type"] != "code" or "".join(cell["source"])]
    return content


def toctree(caption: str, pages: list[str], hidden: bool = True) -> str:
    """A list of pages in MyST's words."""
    options = [":maxdepth: 1", f":caption: {caption}"] + ([":hidden:"] if hidden else [])
    return "\n".join(["```{toctree}", *options, "", *pages, "```", ""])


def lay_notebooks(source: Path, only: list[str]) -> dict[str, str]:
    """Copies of the notebooks, in the order of reading: page -> its module (or nothing)."""
    pages = {}
    files = [file for file in (ROOT / "nbs").rglob("[0-9]*_*.ipynb") if not only or file.stem in only]
    for file in sorted(files, key=lambda file: int(file.stem.split("_")[0])):
        content = json.loads(file.read_text(encoding="utf-8"))
        page = file.relative_to(ROOT / "nbs").with_suffix("").as_posix()
        pages[page] = module_of(content)
        target = source / f"{page}.ipynb"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(page_of(content)), encoding="utf-8")
    return pages


def lay_index(source: Path, pages: dict[str, str]) -> None:
    """The map of the notebooks as first page, with all pages behind it."""
    content = page_of(json.loads((ROOT / "nbs/index.ipynb").read_text(encoding="utf-8")), 1)
    trees = [toctree("To look at", ["views"])]
    for folder, caption in FOLDERS.items():
        inside = [page for page in pages if page.startswith(f"{folder}/")]
        trees += [toctree(caption, inside)] if inside else []
    trees.append(toctree("Reference", ["reference"]))
    content["cells"].append({"cell_type": "markdown", "id": "pages", "metadata": {}, "source": "\n".join(trees)})
    (source / "index.ipynb").write_text(json.dumps(content), encoding="utf-8")
    if (ROOT / "nbs/images").is_dir():
        shutil.copytree(ROOT / "nbs/images", source / "images")


def lay_reference(source: Path, modules: list[str]) -> None:
    """A page for every module, and one that lists them."""
    (source / "reference").mkdir()
    for module in modules:
        name = module.removeprefix("medret_nb.")
        text = f"# {name}\n\n```{{eval-rst}}\n.. automodule:: {module}\n```\n"
        (source / "reference" / f"{name}.md").write_text(text, encoding="utf-8")
    names = [f"reference/{module.removeprefix('medret_nb.')}" for module in modules]
    text = "# Reference\n\nOne page for every module, made from its docstrings.\n\n" + toctree("Modules", names, False)
    (source / "reference.md").write_text(text, encoding="utf-8")


def lay_views(source: Path, runs: tuple[str, ...]) -> None:
    """Pages of shipped runs with their views, which answer to clicks without a kernel."""
    from medret_nb.cli.main import main as medret
    from medret_nb.data.files import shipped_data
    from medret_nb.data.runs import shipped_run

    extra = source / "pages"
    extra.mkdir()
    lines = ["# Views that answer without a kernel", ""]
    lines.append("Each page is one HTML file: an explorer of a trained run, its clouds, prototypes or attention, and")
    lines.append("where it fails. Click on a point, a word or a film.")
    with tempfile.TemporaryDirectory() as folder:
        for name in runs:
            run = Path(folder) / name
            shutil.copytree(shipped_run(name), run)
            asked = [str(run), "--data", str(shipped_data("phantom-small")), "--split", "all"]
            if medret(["evaluate", *asked]) or medret(["report", *asked]):
                raise SystemExit(f"{name}: no report")
            shutil.copy(run / "report.html", extra / f"{name}.html")
            lines += ["", f"## {name}", "", "```{raw} html"]
            frame = 'style="width: 100%; height: 80vh; border: 1px solid #8888" loading="lazy"'
            lines += [f'<iframe src="pages/{name}.html" title="A page on the run {name}" {frame}></iframe>']
            lines += [f'<p><a href="pages/{name}.html">The page of {name} alone</a></p>', "```"]
    (source / "views.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


class Page(HTMLParser):
    """What a page of HTML asks for (with the tag that asks), and the anchors that it has."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, str]] = []
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect addresses and anchors."""
        told = dict(attrs)
        for name in ("href", "src"):
            if told.get(name):
                self.asked.append((tag, told[name] or ""))
        self.anchors |= {told[name] or "" for name in ("id", "name") if told.get(name)}


def faults_of(out: Path) -> list[str]:
    """Links within the site that lead nowhere, and what a page would fetch from elsewhere."""
    pages = {}
    for file in out.rglob("*.html"):
        if "_static" in file.relative_to(out).parts:
            continue  # the theme's templates
        pages[file] = Page()
        pages[file].feed(file.read_text(encoding="utf-8"))
    told = []
    for file, page in pages.items():
        here = file.relative_to(out).as_posix()
        for tag, address in page.asked:
            parts = urlsplit(address)
            if parts.scheme in ("http", "https") or parts.netloc:
                told += [] if tag == "a" else [f"{here}: {tag} fetches {address}"]
            elif not parts.scheme:
                there = (file.parent / unquote(parts.path)).resolve() if parts.path else file
                anchor = unquote(parts.fragment)
                if not there.exists():
                    told.append(f"{here}: {address} is not there")
                elif anchor and there in pages and anchor not in pages[there].anchors and tag == "a":
                    told.append(f"{here}: {address} has no such place")
    return sorted(set(told))


def build(out: Path, only: list[str], runs: tuple[str, ...]) -> list[str]:
    """Lay the pages, build them, and search them for faults."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder)
        for file in SITE.glob("*.py"):
            shutil.copy(file, source)
        pages = lay_notebooks(source, only)
        lay_index(source, pages)
        lay_reference(source, [module for module in pages.values() if module])
        lay_views(source, runs)
        words = [sys.executable, "-m", "sphinx", "-b", "html", "-j", "auto", "-q", str(source), str(out)]
        subprocess.run(words, check=True, cwd=ROOT)
        shutil.copytree(source / "pages", out / "pages", dirs_exist_ok=True)
    return faults_of(out)


def main() -> int:
    """Build the site; 1 if it has faults."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="+", default=[], help="notebooks, such as 320_contrastive")
    parser.add_argument("--runs", nargs="*", default=SHOWN_RUNS, help="shipped runs whose views are shown")
    asked = parser.parse_args()
    begun = time.perf_counter()
    faults = build(asked.out.resolve(), asked.only, tuple(asked.runs))
    print(*faults, sep="\n")
    pages = len(list(asked.out.rglob("*.html")))
    print(f"{pages} pages in {time.perf_counter() - begun:.0f} s, {len(faults)} faults")
    return int(bool(faults) and not asked.only)


if __name__ == "__main__":
    sys.exit(main())
