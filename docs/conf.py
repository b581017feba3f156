"""Sphinx: the website from the Markdown pages, the docstrings and the notebooks as they are.

python -m sphinx -W --keep-going docs docs/_build/html
"""

import os
import re
from pathlib import Path

from sphinx.application import Sphinx

import mrcnn

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
HERE = Path(__file__).parent
ROOT = HERE.parent

project = "mrcnn"
author = "the contributors of mrcnn"
version = release = mrcnn.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]

# Markdown; the notebooks show the output they were committed with.
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "off"

# Reference: docstrings are Google style, with single backticks around code.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True}
autodoc_type_aliases = {"Augmentation": "Augmentation"}
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "pydata_sphinx_theme"
html_title = f"mrcnn {release}"
html_theme_options = {
    "show_prev_next": False,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
}
html_show_sourcelink = False
html_show_copyright = False


# Pages that live outside this folder are copied into it. Links in all pages are those that a code
# host follows; here they lead to and from the copies.
COPIED = [*ROOT.glob("notebooks/*.ipynb"), ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"]
LINKS_IN_COPIES = {
    "](../README.md)": "](../index.md)",
    "](../samples/": "](../../samples/",
    "](docs/": "](../",
}
LINK_TO_A_COPY = re.compile(r"\]\(\.\./(?:notebooks/)?(\w+\.(?:ipynb|md)\))")


def copy_pages() -> None:
    """Copy the pages of other folders to where Sphinx reads."""
    target = HERE / "_copied"
    target.mkdir(exist_ok=True)
    for path in COPIED:
        text = path.read_text(encoding="utf-8")
        for link, here in LINKS_IN_COPIES.items():
            text = text.replace(link, here)
        (target / path.name).write_text(text, encoding="utf-8")


def lead_to_copies(_app: Sphinx, name: str, source: list[str]) -> None:
    """Change a page's links to pages of other folders, before it is read."""
    if not name.startswith("_copied/"):
        source[0] = LINK_TO_A_COPY.sub(r"](_copied/\1", source[0])


def setup(app: Sphinx) -> None:
    """Copy pages now, and change links later."""
    copy_pages()
    app.connect("source-read", lead_to_copies)
