"""Configuration of the documentation's site, which ``make docs`` builds with Sphinx.

Nothing here needs the network: no inventory of another site, no font, no script from a CDN.
"""

from __future__ import annotations

import re

from docutils import nodes
from sphinx.application import Sphinx

import fastloader

project = "fastloader"
author = "The fastloader authors"
copyright = "The fastloader authors"
version = release = fastloader.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "myst_nb",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_llms_txt",
]
exclude_patterns = ["_build"]
nitpicky = True
nitpick_ignore_regex = [
    # Types of NumPy, of the frameworks and of the standard library: their sites are not consulted.
    ("py:.*", r"(?!fastloader).*"),
]

# Docstrings. Names in single backticks are code, as in Markdown.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_google_docstring = False
napoleon_use_rtype = False

# Pages are Markdown; tutorials are notebooks in Markdown, which run when the site is built.
myst_enable_extensions = ["colon_fence", "deflist", "substitution"]
myst_heading_anchors = 4
nb_execution_mode = "cache"
nb_execution_cache_path = "../build/docs/notebooks"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True

html_theme = "furo"
html_title = "fastloader"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {"navigation_with_keys": True}
html_copy_source = True
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

llms_txt_title = "fastloader"
llms_txt_summary = fastloader.__doc__


def name_files_of_diffs(app: Sphinx, doctree: nodes.document) -> None:  # noqa: ARG001
    """Show the names of compared files, and not where they lie on the machine that builds this."""
    for block in doctree.findall(nodes.literal_block):
        if block.get("language") == "udiff":
            text = re.sub(r"^(---|\+\+\+) \S*/", r"\1 ", block.astext(), flags=re.MULTILINE)
            block.rawsource = text
            block[:] = [nodes.Text(text)]


def setup(app: Sphinx) -> None:
    """Connect the functions above."""
    app.connect("doctree-read", name_files_of_diffs)
