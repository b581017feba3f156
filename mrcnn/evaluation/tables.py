"""Scores as tables of fixed width."""

from collections.abc import Mapping, Sequence
from typing import Any

FIGURES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR")


def format_table(scores: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the scores as a table of fixed width, classes below if there are several."""
    rows = [["", *FIGURES]]
    rows += [
        [iou_type, *(_text(scores[iou_type][name]) for name in FIGURES)] for iou_type in scores
    ]
    tables = [_aligned(rows)]
    class_names = list(next(iter(scores.values()))["per_class"])
    if len(class_names) > 1:
        columns = [(iou_type, name) for iou_type in scores for name in ("AP", "AP50")]
        rows = [["class", *(f"{iou_type} {name}" for iou_type, name in columns)]]
        for class_name in class_names:
            figures = [
                scores[iou_type]["per_class"][class_name][name] for iou_type, name in columns
            ]
            rows.append([class_name, *map(_text, figures)])
        tables.append(_aligned(rows))
    return "\n\n".join(tables)


def _text(figure: float | None) -> str:
    return "-" if figure is None else f"{figure:.3f}"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as lines: the first column flush left, figures flush right."""
    first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
    lines = []
    for head, *cells in rows:
        padded = [cell.rjust(max(width, 5)) for cell, width in zip(cells, others, strict=True)]
        lines.append("  ".join([head.ljust(max(first, 4)), *padded]))
    return "\n".join(lines)
