"""Tables: in a notebook as HTML, as text anywhere else."""

import html
import importlib
import itertools
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np

from mrcnn import terminal


def display_table(table: Iterable[Iterable[Any]]) -> None:
    """Show rows of cells as a table in a notebook, as text anywhere else."""
    rows = [[str(cell) for cell in row] for row in table]
    widths = [max(map(len, column)) for column in itertools.zip_longest(*rows, fillvalue="")]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip()
        for row in rows
    ]
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is None:
        terminal.show("\n".join(lines))
        return
    cells = ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in rows]
    markup = "<table>" + "".join(f"<tr>{row}</tr>" for row in cells) + "</table>"
    display = importlib.import_module("IPython.display").display
    display({"text/html": markup, "text/plain": "\n".join(lines)}, raw=True)


def display_weight_stats(model: Any) -> None:
    """Show the range of every weight, and mark those that are constant, huge or not finite.

    Args:
        model: Has `get_trainable_layers()`, as `MaskRCNN` does.
    """
    table = [["WEIGHT NAME", "SHAPE", "MIN", "MAX", "STD"]]
    for layer in model.get_trainable_layers():
        for weight, values in zip(layer.weights, layer.get_weights(), strict=True):
            name = getattr(weight, "path", weight.name)
            shape = str(tuple(values.shape))
            low, high, spread = values.min(), values.max(), values.std()
            numbers = [f"{low:+9.4f}", f"{high:+10.4f}", f"{spread:+9.4f}"]
            table.append([name + _alert(name, values), shape, *numbers])
    display_table(table)


def _alert(name: str, values: np.ndarray) -> str:
    """Return what is suspicious about a weight, or nothing."""
    if not np.isfinite(values).all():
        return " *** not finite!"
    # A bias starts at zero and may well stay there.
    if values.min() == values.max() and not name.endswith("bias"):
        return " *** dead?"
    return " *** overflow?" if np.abs(values).max() > 1000 else ""
