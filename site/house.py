"""What the site has of its own: formulas as MathML, JupyterLab's anchors, docstrings as they stand."""

import html
import re

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.util import logging

LOGGER = logging.getLogger(__name__)


def jupyter_anchor(title: str) -> str:
    """A heading's anchor as JupyterLab writes it: blanks become hyphens, nothing else changes."""
    return title.strip().replace(" ", "-")


def formula(tex: str, display: str = "inline") -> str:
    """A formula as MathML; one that can't be read is shown as it is written, with a warning."""
    try:
        return convert(tex, display=display)
    except Exception as error:  # latex2mathml raises a class of its own for each fault
        LOGGER.warning("formula not read (%s): %s", type(error).__name__, tex)
        return f"<code>{html.escape(tex)}</code>"


def _inline(self, node):
    self.body.append(formula(node.astext()))
    raise nodes.SkipNode


def _block(self, node):
    plain = re.sub(r"\\(?:begin|end)\{(?:equation|align)\*?\}", "", node.astext())
    self.body.append(f'<div class="math" style="overflow-x: auto">{formula(plain, "block")}</div>')
    raise nodes.SkipNode


def readable(lines: list[str]) -> list[str]:
    """A docstring's lines as reStructuredText: an argument begins a paragraph, what is indented stays as it is."""
    made = []
    indented = False
    for line in lines:
        begins = line.startswith("    ")
        if not begins:  # stars, bars and final underlines mean themselves
            line = re.sub(r"([\\\\*|]|_(?!\w))", r"\\\1", line)
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
