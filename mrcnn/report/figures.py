"""The figures of the report, each from the numbers that it shows."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mrcnn.evaluation.analysis import RECALLS, TIDE_ERRORS, Calibration, Confusion, Curve, Tide
from mrcnn.evaluation.contents import Contents
from mrcnn.report import svg
from mrcnn.report.history import History

BLUE, ORANGE, GREEN, GREY = "#2563eb", "#d9580d", "#15803d", "#9aa3ad"
# Of lines in one figure; they stay apart for colour-blind readers, with the dashes that follow.
COLORS = ("#2563eb", "#d9580d", "#15803d", "#9333ea", "#b45309", "#0891b2", "#be185d", "#4d7c0f")
DASHES = ("-", "--", ":", "-.")
MOST_LINES = 12  # in a figure
MOST_BARS = 20
MOST_POINTS = 200  # of a line
SMALL, LARGE = 32, 96  # sides of objects, in pixels, that part COCO's sizes


def losses(history: History) -> str:
    """Return the total loss against the epoch, in training and validation."""

    def plot(figure: Figure) -> None:
        ax = _axes(figure, "epoch", "loss")
        for name, text, color in (
            ("loss", "training", BLUE),
            ("val_loss", "validation", ORANGE),
        ):
            if name in history.columns:
                _line(ax, history.epochs, history.columns[name], color=color, label=text)
        ax.legend()

    return svg.draw(plot, "loss", "Loss in training and validation against the epoch")


def loss_parts(history: History, names: Sequence[str]) -> str:
    """Return each loss against the epoch, solid in training, dashed in validation."""

    def plot(figure: Figure) -> None:
        ax = _axes(figure, "epoch", "loss")
        for name, color in zip(names, _colors(len(names)), strict=True):
            _line(ax, history.epochs, history.columns[name], color=color, label=svg.short(name))
            validation = history.columns.get(f"val_{name}")
            if validation is not None:
                _line(ax, history.epochs, validation, color=color, linestyle="--")
        ax.legend()

    return svg.draw(plot, "losses", "Each loss against the epoch")


def learning_rate(history: History) -> str:
    """Return the learning rate against the epoch."""

    def plot(figure: Figure) -> None:
        ax = _axes(figure, "epoch", "learning rate")
        rates = history.columns["learning_rate"]
        _line(ax, history.epochs, rates, color=BLUE)
        if np.nanmin(rates) > 0 and np.nanmax(rates) > 2 * np.nanmin(rates):
            ax.set_yscale("log")
            ax.yaxis.set_major_formatter(lambda rate, _: f"{rate:g}")
            ax.minorticks_off()
        else:
            ax.set_ylim(bottom=0)

    return svg.draw(plot, "rate", "Learning rate against the epoch")


def precisions(history: History) -> str:
    """Return the average precisions against the epoch."""

    def plot(figure: Figure) -> None:
        ax = _axes(figure, "epoch", "average precision")
        names = history.precisions
        for name, color in zip(names, _colors(len(names)), strict=True):
            dashes = "--" if name.startswith("bbox") else "-"
            values = history.columns[name]
            text = name.replace("segm_", "masks ").replace("bbox_", "boxes ")
            text = text.replace("keypoints_", "keypoints ")
            _line(ax, history.epochs, values, color=color, linestyle=dashes, label=text)
        ax.set_ylim(0, 1)
        ax.legend(ncols=2)

    return svg.draw(plot, "precision", "Average precision against the epoch")


def objects_per_class(parts: Mapping[str, Contents], chosen: Sequence[str]) -> str:
    """Return the number of objects of some classes in each part of the data."""

    def plot(figure: Figure) -> None:
        ax = _axes(figure, "objects", "")
        height = 0.8 / len(parts)
        for place, (part, contents) in enumerate(parts.items()):
            of_class = dict(
                zip(contents.class_names, contents.objects_per_class.tolist(), strict=True)
            )
            counts = [of_class.get(name, 0) for name in chosen]
            rows = np.arange(len(chosen)) + (place - (len(parts) - 1) / 2) * height
            bars = ax.barh(rows, counts, height, color=(BLUE, ORANGE)[place], label=part)
            ax.bar_label(bars, padding=3, fontsize=8)
        _name_rows(ax, chosen)
        if len(parts) > 1:
            ax.legend()

    rows = max(len(chosen) * len(parts), 3)
    return svg.draw(plot, "objects", "Number of objects of each class", (4.8, 1.0 + 0.2 * rows))


def object_sizes(parts: Mapping[str, Contents]) -> str:
    """Return the distribution of the sizes of objects in each part of the data."""

    def plot(figure: Figure) -> None:
        ax = _axes(figure, "side of the object, pixels", "share of the objects")
        sides = [np.maximum(contents.sides, 1) for contents in parts.values()]
        every = np.concatenate(sides)
        edges = np.geomspace(every.min() / 1.01, every.max() * 1.01, 25)
        for (part, _), values, color in zip(parts.items(), sides, (BLUE, ORANGE), strict=False):
            if not len(values):
                continue
            shares = np.histogram(values, edges)[0] / len(values)
            ax.stairs(shares, edges, color=color, label=part, fill=True, alpha=0.25)
            ax.stairs(shares, edges, color=color)
        ax.set_xscale("log")
        for side in (SMALL, LARGE):
            ax.axvline(side, color=GREY, linestyle=":")
        ticks = [side for side in (4, 8, 16, 32, 64, 96, 192, 384, 768) if edges[0] <= side]
        ticks = [side for side in ticks if side <= edges[-1]]
        ax.set_xticks(ticks, [str(side) for side in ticks])
        ax.minorticks_off()
        ax.legend()

    return svg.draw(plot, "sizes", "Distribution of the sizes of objects")


def class_precisions(names: Sequence[str], figures: Mapping[str, Sequence[float]]) -> str:
    """Return the AP of classes as bars, for each of what is compared (masks, boxes)."""

    def plot(figure: Figure) -> None:
        ax = _axes(figure, "average precision (AP)", "")
        height = 0.8 / len(figures)
        for place, (text, values) in enumerate(figures.items()):
            rows = np.arange(len(names)) + (place - (len(figures) - 1) / 2) * height
            color = (BLUE, ORANGE, GREEN)[place]
            bars = ax.barh(rows, values, height, color=color, label=text)
            ax.bar_label(bars, [f"{value:.2f}" for value in values], padding=3, fontsize=8)
        _name_rows(ax, names)
        ax.set_xlim(0, 1)
        if len(figures) > 1:
            ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(figures))

    rows = max(len(names) * len(figures), 4)
    return svg.draw(plot, "classes", "Average precision of each class", (4.8, 1.1 + 0.2 * rows))


def precision_recall(curves: Sequence[Curve], overall: Curve) -> str:
    """Return the precision against the recall, of classes and of all."""

    def plot(figure: Figure) -> None:
        ax = _axes(figure, "recall", "precision")
        for each, (color, dashes) in zip(curves, _lines(len(curves)), strict=True):
            label = f"{svg.short(each.class_name)} ({each.envelope.mean():.2f})"
            ax.plot(RECALLS, each.envelope, color=color, linestyle=dashes, lw=1.2, label=label)
        ax.plot(RECALLS, overall.envelope, color="black", lw=2.2, label="all classes")
        ax.set(xlim=(0, 1), ylim=(0, 1.02))
        _legend(ax, len(curves))

    return svg.draw(plot, "recall", "Precision against recall", _with_legend(len(curves)))


def against_score(overall: Curve) -> str:
    """Return precision, recall and F1 of all classes against the score."""

    def plot(figure: Figure) -> None:
        ax = _axes(figure, "score threshold", "")
        scores, (precision, recall, f1) = _thinned(
            overall.scores, overall.precision, overall.recall, overall.f1
        )
        ax.plot(scores, precision, color=BLUE, linestyle="--", label="precision")
        ax.plot(scores, recall, color=ORANGE, linestyle="-.", label="recall")
        ax.plot(scores, f1, color="black", lw=2, label="F1")
        if overall.best is not None:
            ax.axvline(overall.best_score, color=GREY, linestyle=":")
            ax.plot(overall.best_score, overall.f1[overall.best], "o", color="black")
        ax.set(xlim=(0, 1), ylim=(0, 1.02))
        ax.legend()

    return svg.draw(plot, "score", "Precision, recall and F1 against the score")


def f1_of_classes(curves: Sequence[Curve], overall: Curve) -> str:
    """Return F1 against the score, of classes and of all."""

    def plot(figure: Figure) -> None:
        ax = _axes(figure, "score threshold", "F1")
        for each, (color, dashes) in zip(curves, _lines(len(curves)), strict=True):
            scores, (f1,) = _thinned(each.scores, each.f1)
            label = svg.short(each.class_name)
            ax.plot(scores, f1, color=color, linestyle=dashes, lw=1.2, label=label)
        scores, (f1,) = _thinned(overall.scores, overall.f1)
        ax.plot(scores, f1, color="black", lw=2.2, label="all classes")
        ax.set(xlim=(0, 1), ylim=(0, 1.02))
        _legend(ax, len(curves))

    return svg.draw(plot, "f1", "F1 against the score", _with_legend(len(curves)))


def confusion(found: Confusion) -> str:
    """Return the confusion matrix, each row as shares of its objects."""
    totals = found.counts.sum(axis=1, keepdims=True)
    shares = found.counts / np.maximum(totals, 1)
    names = [svg.short(name) for name in found.names]
    size = len(names)

    def plot(figure: Figure) -> None:
        ax = _axes(figure, "detected as", "annotated as")
        ax.grid(visible=False)
        ax.imshow(_shades(shares))
        ax.set_xticks(range(size), names, rotation=90 if size > 3 else 0)
        ax.set_yticks(range(size), names)
        for row, column in np.argwhere(found.counts):
            ink = "white" if shares[row, column] > 0.5 else "black"
            text = str(found.counts[row, column])
            ax.text(column, row, text, ha="center", va="center", color=ink, fontsize=8)

    side = matrix_side(size)
    return svg.draw(plot, "confusion", "Confusion matrix", (max(side + 0.4, 4.8), side))


def matrix_side(size: int) -> float:
    """Return the height of a confusion matrix of so many rows, in inches."""
    return 2.6 + 0.28 * size


def tide(errors: Tide) -> str:
    """Return by how much the AP50 would rise without each kind of error."""

    def plot(figure: Figure) -> None:
        ax = _axes(figure, "lost AP50 (dAP)", "")
        rows = np.arange(len(TIDE_ERRORS))
        bars = ax.barh(rows, errors.delta_ap, 0.7, color=BLUE)
        ax.bar_label(bars, [f"{value:.3f}" for value in errors.delta_ap], padding=3, fontsize=8)
        _name_rows(ax, list(TIDE_ERRORS.values()))
        ax.set_xlim(0, max(1.2 * errors.delta_ap.max(), 0.01))

    return svg.draw(plot, "tide", "AP50 lost to each kind of error", (4.8, 2.6))


def calibration(found: Calibration) -> str:
    """Return the reliability diagram, and how many detections each bin has."""

    def plot(figure: Figure) -> None:
        above, below = figure.subplots(2, sharex=True, height_ratios=(3, 1))
        middles = (found.edges[:-1] + found.edges[1:]) / 2
        width = 0.9 * np.diff(found.edges)
        above.bar(middles, np.nan_to_num(found.precision), width, color=BLUE, label="detections")
        above.plot([0, 1], [0, 1], color=GREY, linestyle="--", label="perfect calibration")
        above.set(ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
        above.legend(loc="upper left")
        below.bar(middles, found.counts, width, color=GREY)
        below.set(xlabel="score", ylabel="detections")

    return svg.draw(plot, "calibration", "Precision of detections against their score")


def _shades(shares: np.ndarray) -> np.ndarray:
    """Return the colours of a confusion matrix, blue where it is right: (K, K, 3) uint8."""
    is_right = np.eye(len(shares), dtype=bool)[..., None]
    full = np.where(is_right, to_rgb(BLUE), to_rgb(ORANGE))
    return np.round(255 * (1 - shares[..., None] * (1 - full))).astype(np.uint8)


def _axes(figure: Figure, xlabel: str, ylabel: str) -> Axes:
    ax = figure.add_subplot()
    ax.set(xlabel=xlabel, ylabel=ylabel)
    return ax


def _line(ax: Axes, epochs: np.ndarray, values: np.ndarray, **style: Any) -> None:
    """Draw the known values of a column, with marks where they are few or far between."""
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    known = np.isfinite(values)
    is_sparse = known.sum() <= 30
    ax.plot(epochs[known], values[known], marker="." if is_sparse else "", **style)


def _thinned(scores: np.ndarray, *values: np.ndarray) -> tuple[np.ndarray, Sequence[np.ndarray]]:
    """Return at most MOST_POINTS points of curves over the score, the ends among them."""
    last = max(len(scores) - 1, 0)
    kept = np.unique(np.linspace(0, last, MOST_POINTS).astype(int))[: len(scores)]
    return scores[kept], [each[kept] for each in values]


def _colors(count: int) -> list[str]:
    return [COLORS[place % len(COLORS)] for place in range(count)]


def _lines(count: int) -> list[tuple[str, str]]:
    """Return a colour and a dash for each of several lines."""
    return [
        (color, DASHES[place // len(COLORS) % len(DASHES)])
        for place, color in enumerate(_colors(count))
    ]


def _name_rows(ax: Axes, names: Sequence[str]) -> None:
    """Name the rows of horizontal bars, the first on top."""
    ax.set_yticks(range(len(names)), [svg.short(name) for name in names])
    ax.invert_yaxis()
    ax.grid(visible=False, axis="y")
    ax.tick_params(axis="y", length=0)


def _legend(ax: Axes, num_classes: int) -> None:
    """Put a legend below, where there are many lines it would hide them."""
    if num_classes:
        ax.legend(loc="upper center", bbox_to_anchor=(0.45, -0.17), ncols=2)


def _with_legend(num_classes: int) -> tuple[float, float]:
    """Return the size of a figure with a legend below of so many classes."""
    return 4.8, 3.4 + 0.17 * (num_classes // 2 + 1) * bool(num_classes)
