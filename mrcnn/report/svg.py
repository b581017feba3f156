"""Figures of matplotlib as SVG that stands inside a page."""

import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from xml.etree import ElementTree

import matplotlib
from matplotlib.figure import Figure

NAMESPACES = {"": "http://www.w3.org/2000/svg", "xlink": "http://www.w3.org/1999/xlink"}
SVG = f"{{{NAMESPACES['']}}}"
LINK = f"{{{NAMESPACES['xlink']}}}href"
STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: small, searchable, in the font of the page
    "svg.hashsalt": "mrcnn",
    "text.parse_math": False,  # a class may be called $x$
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e6ea",
    "axes.edgecolor": "#8a929c",
    "axes.axisbelow": True,
    "axes.titlesize": 10,
    "legend.frameon": False,
    "legend.fontsize": 8,
}
LONGEST = 24  # letters of a name in a figure
# Marks that turn the direction of writing: they would turn the numbers after a name, too.
TURNS = re.compile("[\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def draw(
    plot: Callable[[Figure], None],
    name: str,
    label: str,
    size: tuple[float, float] = (4.8, 3.4),
) -> str:
    """Return what a function draws on a figure as an SVG element; texts in it are escaped.

    Args:
        plot: Draws on an empty figure.
        name: Begins the ids in the figure; no other figure of the page may have it.
        label: What screen readers say that it shows.
        size: In inches (width, height).
    """
    with matplotlib.rc_context(STYLE), _without_glyph_warnings():
        figure = Figure(figsize=size, layout="constrained")
        plot(figure)
        written = io.BytesIO()
        figure.savefig(written, format="svg", metadata={"Date": None})
    return _inline(written.getvalue(), name, label)


def short(name: str) -> str:
    """Return a name that fits beside an axis or in a legend, on one line."""
    line = re.sub(r"\s+", " ", TURNS.sub("", name))
    # matplotlib leaves labels that begin with an underscore out of legends.
    line = f"\u200b{line}" if line.startswith("_") else line
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


@contextmanager
def _without_glyph_warnings() -> Iterator[None]:
    """Ignore that matplotlib's font lacks letters: the browser draws them, with a font it has."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def _inline(document: bytes, name: str, label: str) -> str:
    """Return an SVG document as an element of a page, with ids of its own."""
    for prefix, address in NAMESPACES.items():
        ElementTree.register_namespace(prefix, address)
    root = ElementTree.fromstring(document)
    for parent in list(root.iter()):
        for child in list(parent):
            # The style is that of the page, which it would change as a whole.
            if child.tag in (f"{SVG}metadata", f"{SVG}style"):
                parent.remove(child)
    for element in root.iter():
        for attribute, value in element.attrib.items():
            element.set(attribute, _renamed(attribute, value, f"{name}-"))
    root.set("role", "img")
    root.set("aria-label", label)
    for side in ("width", "height"):
        root.attrib.pop(side, None)
    return ElementTree.tostring(root, encoding="unicode")


def _renamed(attribute: str, value: str, prefix: str) -> str:
    """Return the value of an attribute with the ids in it renamed."""
    if attribute == "id":
        return prefix + value
    if attribute == LINK and value.startswith("#"):
        return f"#{prefix}{value[1:]}"
    return value.replace("url(#", f"url(#{prefix}")
