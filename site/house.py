"""What the site has of its own: formulas as MathML, JupyterLab's anchors, docstrings as they stand."""

import re

from docutils import nodes
from latex2mathml.converter import convert


def jupyter_anchor(title: str) -> str:
    """A heading's anchor as JupyterLab writes it: blanks become hyphens, nothing else changes."""
    return title.strip().replace(" ", "-")


def _inline(self, node):
    self.body.append(convert(node.astext()))
    raise nodes.SkipNode


def _block(self, node):
    plain = re.sub(r"\\(?:begin|end)\{(?:equation|align)\*?\}", "", node.astext())
    self.body.append(f'<div class="math" style="overflow-x: auto">{convert(plain, display="block")}</div>')
    raise nodes.SkipNode


def readable(lines: list[str]) -> list[str]:
    """A docstring's lines as reStructuredText: an argument begins a paragraph, what is indented stays as it is."""
    made = []
    indented = False
    for line in lines:
        begins = line.startswith("    ")
        if begins and not indented and not (made and made[-1].endswith("::")):
            made += ["", "::", ""]
        elif (indented and not begins and line) or re.match(r"[\w*]+(?:, [\w*]+)* : ", line):
            made.append("")
        indented = begins or (indented and not line)
        made.append(line)
    return made


def _docstring(app, what, name, obj, options, lines):
    lines[:] = readable(lines)


def setup(app):
    """Register formulas (which browsers draw themselves: no script, no font, no request) and docstrings."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.connect("autodoc-process-docstring", _docstring)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
