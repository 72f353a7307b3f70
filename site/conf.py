"""Sphinx's settings for the site; tools/build_site.py lays the pages beside a copy of this file and builds them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "medret_nb"
author = "The medret_nb authors"
copyright = author
extensions = ["myst_nb", "sphinx.ext.autodoc", "house"]
root_doc = "index"
exclude_patterns = ["**/.ipynb_checkpoints"]

# Pages show what the notebooks were committed with; nothing is run.
nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "amsmath", "html_image"]
myst_heading_anchors = 4
myst_heading_slug_func = "house.jupyter_anchor"
suppress_warnings = ["myst.header", "misc.highlighting_failure", "mystnb.unknown_mime_type"]

# One page per module: signatures with their types, docstrings as they stand in the source.
autodoc_default_options = {"members": True, "undoc-members": False, "show-inheritance": True}
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
default_role = "literal"

html_theme = "sphinx_book_theme"
html_title = "medret_nb"
html_static_path = []
html_math_renderer = "mathml"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_theme_options = {
    "repository_url": "https://github.com/medret/medret_nb",
    "path_to_docs": "nbs",
    "use_repository_button": True,
    "launch_buttons": {
        "binderhub_url": "https://mybinder.org",
        "colab_url": "https://colab.research.google.com",
        "notebook_interface": "jupyterlab",
    },
    "show_navbar_depth": 1,
}
