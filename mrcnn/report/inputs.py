"""The sections on what went in: the course of the training, and the data."""

from collections.abc import Mapping, Sequence

import numpy as np

from mrcnn.evaluation.contents import Contents
from mrcnn.report import figures
from mrcnn.report.blocks import KINDS, NOTHING, Block, Figure, Section, Table, number
from mrcnn.report.history import History
from mrcnn.training import scoring


def training(history: History) -> Section:
    """Return the curves of a training."""
    blocks: list[Block] = []
    if "loss" in history.columns or "val_loss" in history.columns:
        blocks.append(
            Figure(
                figures.losses(history),
                "Both should fall. If the training loss keeps falling while the validation loss "
                "rises, the network is overfitting.",
            )
        )
    if history.precisions:
        blocks.append(
            Figure(
                figures.precisions(history),
                "Average precision on the validation set by epoch: masks solid, boxes dashed. If "
                "it is still rising at the end, train longer.",
            )
        )
    if parts := [name for name in history.losses if name != "loss"][: figures.MOST_LINES]:
        blocks.append(
            Figure(
                figures.loss_parts(history, parts),
                "The components of the total loss: training solid, validation dashed. One that "
                "stays high points to the head that has difficulties.",
            )
        )
    if "learning_rate" in history.columns:
        blocks.append(
            Figure(
                figures.learning_rate(history),
                "The learning rate rises during warm-up and is lowered later; the loss usually "
                "drops visibly each time.",
            )
        )
    head = ["epoch", *history.columns]
    head = [name for place, name in enumerate(head) if name not in head[:place]]
    columns = {**history.columns, "epoch": history.epochs}
    rows = [
        [_cell(name, columns[name][place]) for name in head] for place in range(len(history.epochs))
    ]
    blocks.append(Table(head, rows, "All epochs", folded=True))
    return Section("training", "Training", _course(history), blocks)


def data(parts: Mapping[str, Contents], notes: str = "") -> Section:
    """Return what the images contain.

    Args:
        parts: By name, the evaluated images and, if known, those trained on.
        notes: What else is to be said of them.
    """
    every = [name for contents in parts.values() for name in contents.class_names]
    counts = dict.fromkeys(every, 0)
    for contents in parts.values():
        for name, count in zip(contents.class_names, contents.objects_per_class, strict=True):
            counts[name] += int(count)
    by_count = sorted((name for name in counts if counts[name]), key=lambda name: -counts[name])
    blocks: list[Block] = [_data_table(parts)]
    if len(by_count) > 1:
        shown = by_count[: figures.MOST_BARS]
        more = f" Shown: the {len(shown)} most frequent of {len(by_count)} classes." * (
            len(shown) < len(by_count)
        )
        blocks.append(
            Figure(
                figures.objects_per_class(parts, shown),
                "Objects per class. The AP of a class with few objects is uncertain, and a class "
                f"with few training objects is rarely learned well.{more}",
            )
        )
    if any(len(contents.sides) for contents in parts.values()):
        blocks.append(
            Figure(
                figures.object_sizes(parts),
                "Object sizes: the square root of the area, in image pixels. The dotted lines at "
                "32 and 96 separate COCO's small, medium and large objects.",
            )
        )
    if len(by_count) > 1:
        blocks.append(_class_table(parts, by_count))
    return Section("data", "Data", notes, blocks)


def _cell(name: str, value: float) -> str:
    """Return a cell of the table of epochs: whole numbers and small rates as they are."""
    if not np.isfinite(value):
        return NOTHING
    if name in ("epoch", "step"):
        return f"{value:.0f}"
    return f"{value:.3g}" if name == "learning_rate" else f"{value:.3f}"


def _course(history: History) -> str:
    """Return in a sentence how long the training was, and which epoch was best."""
    epochs, minutes = history.epochs, history.columns.get("minutes")
    text = f"Up to epoch {epochs[-1]:.0f}"
    if minutes is not None:
        total = np.nanmax(minutes)
        text += f", {total:.{1 if total < 10 else 0}f} minutes"
    name = scoring.deciding(history.columns)
    if name is not None:
        kind, values = KINDS[name.partition("_")[0]], history.columns[name]
        best = int(np.nanargmax(values))
        text += f". Highest AP of {kind}: {values[best]:.3f}, at epoch {epochs[best]:.0f}"
    return f"{text}."


def _data_table(parts: Mapping[str, Contents]) -> Table:
    rows = []
    for part, contents in parts.items():
        sizes = contents.image_sizes
        spread = NOTHING
        if len(sizes):
            (low_y, low_x), (high_y, high_x) = sizes.min(axis=0), sizes.max(axis=0)
            is_one = (low_y, low_x) == (high_y, high_x)
            spread = (
                f"{high_x} x {high_y}" if is_one else f"{low_x} x {low_y} to {high_x} x {high_y}"
            )
        images, objects = len(sizes), len(contents.classes)
        rows.append(
            [
                part,
                str(images),
                spread,
                str(objects),
                number(objects / images if images else None, 1),
                str(contents.num_empty),
                str(int(contents.crowds.sum())),
                number(float(np.median(contents.sides)) if objects else None, 0),
            ]
        )
    head = ["", "images", "width x height", "objects", "per image", "without objects", "crowds"]
    return Table([*head, "median side"], rows)


def _class_table(parts: Mapping[str, Contents], names: Sequence[str]) -> Table:
    columns = []
    for contents in parts.values():
        of_class = {name: place for place, name in enumerate(contents.class_names)}
        cells = []
        for name in names:
            place = of_class.get(name)
            is_class = contents.classes == place
            known = place is not None and is_class.any()
            cells.append(
                [
                    str(int(is_class.sum())),
                    str(int(contents.images_per_class[place]) if known else 0),
                    number(float(np.median(contents.sides[is_class])) if known else None, 0),
                ]
            )
        columns.append(cells)
    head = [
        f"{part}: {figure}" for part in parts for figure in ("objects", "images", "median side")
    ]
    rows = [
        [name, *(cell for cells in columns for cell in cells[place])]
        for place, name in enumerate(names)
    ]
    return Table(["class", *head], rows, "Classes", folded=True)
