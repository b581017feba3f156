"""Figures of matplotlib, on any backend; pyplot is imported when one is made, not before."""

import weakref
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mrcnn.drawing import colors as color_math
from mrcnn.drawing.instances import Objects, draw_objects

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# They have no window; to show a figure with them is an error or a warning.
FILE_BACKENDS = ("agg", "cairo", "pdf", "pgf", "ps", "svg", "template")
MAX_OPEN = 10
LARGEST_CANVAS = 2048  # pixels
FONT_POINTS = (7, 13)


class Lines(NamedTuple):
    """How boxes are drawn: the colour as fractions, solid or dotted, half transparent."""

    color: tuple[float, float, float]
    is_solid: bool
    is_faint: bool


_open: deque[weakref.ref["Figure"]] = deque()


def new_figure(size: tuple[float, float]) -> "Figure":
    """Return a new current figure, in inches (width, height).

    Where there is no window to close, the last ten of these figures stay open, for `plt.savefig`,
    and older ones are closed.
    """
    from matplotlib import pyplot as plt

    if not _writes_files():
        return plt.figure(figsize=size, layout="constrained")
    while len(_open) >= MAX_OPEN:
        oldest = _open.popleft()()
        if oldest is not None:
            plt.close(oldest)
    figure = plt.figure(figsize=size, layout="constrained")
    _open.append(weakref.ref(figure))
    return figure


def new_axes(size: tuple[float, float]) -> "Axes":
    """Return the axes of a new current figure, in inches (width, height)."""
    return new_figure(size).add_subplot()


def axes_for(ax: Any, size: tuple[float, float]) -> "Axes":
    """Return the axes that were passed, or new ones for None."""
    if ax is None:
        return new_axes(size)
    return ax.item() if isinstance(ax, np.ndarray) else ax  # of plt.subplots(squeeze=False)


def row_height(images: Sequence[np.ndarray], width: float) -> float:
    """Return the inches of a row of images of this width, and their titles."""
    return 0.35 + width * min(4, max(len(image) / image.shape[1] for image in images))


def size_for(picture: np.ndarray) -> tuple[float, float]:
    """Return the inches of a figure that a picture and a title fill."""
    inch = max(picture.shape[:2]) / 12
    return max(2, picture.shape[1] / inch), max(2, picture.shape[0] / inch) + 0.5


def show() -> None:
    """Show all figures; do nothing on a backend that only writes files."""
    from matplotlib import pyplot as plt

    if not _writes_files():
        plt.show()


def draw_picture(
    ax: "Axes", image: np.ndarray, objects: Objects, margin: float = 0, **shown: Any
) -> None:
    """Draw an image (H, W, 3) uint8 with objects into axes, in pixels of the image.

    The picture is as fine as the axes, and labels as large as print, whatever the image's size.

    Args:
        margin: room round the image, in pixels of the image.
        shown: show_masks and show_boxes of `draw_objects`.
    """
    height, width = image.shape[:2]
    room = ax.get_window_extent()
    # Pixels of the screen in one of the image; axes without any room are still drawn.
    zoom = max(min(room.width / width, room.height / height), 0.01)
    scale = int(np.clip(np.ceil(zoom), 1, max(1, LARGEST_CANVAS // max(height, width))))
    inch = ax.figure.dpi
    points = np.clip(72 / inch * zoom * max(height, width) / 52, *FONT_POINTS)
    font_size = max(6, round(points * inch / 72 * scale / zoom))
    drawn = draw_objects(image, objects, scale=scale, font_size=font_size, **shown)
    ax.imshow(drawn, extent=(-0.5, width - 0.5, height - 0.5, -0.5))
    ax.set_xlim(-0.5 - margin, width - 0.5 + margin)
    ax.set_ylim(height - 0.5 + margin, -0.5 - margin)
    ax.axis("off")


def draw_refinement(
    ax: "Axes", box: np.ndarray | None, refined: np.ndarray | None, lines: Lines, caption: str
) -> None:
    """Draw a box, dotted unless solid, what it was refined to, and a line between the two.

    The caption stands at the refined box where there is one.
    """
    from matplotlib.lines import Line2D

    if box is not None:
        _add_box(ax, box, lines, "solid" if lines.is_solid else "dotted")
    if refined is not None:
        refined = np.asarray(refined).astype(int)
        _add_box(ax, refined, lines, "solid")
    if box is not None and refined is not None:
        ax.add_line(Line2D([box[1], refined[1]], [box[0], refined[0]], color=lines.color))
    place = refined if refined is not None else box
    if caption and place is not None:
        ink = color_math.ink(255 * np.array(lines.color))
        plate = {"facecolor": lines.color, "alpha": 0.85, "pad": 1.5, "edgecolor": "none"}
        ax.text(place[1], place[0], caption, size=9, va="top", color=ink, bbox=plate)


def _add_box(ax: "Axes", box: np.ndarray, lines: Lines, style: str) -> None:
    from matplotlib.patches import Rectangle

    y1, x1, y2, x2 = box[:4]
    ax.add_patch(
        Rectangle(
            (x1, y1),
            x2 - x1,
            y2 - y1,
            linewidth=2,
            linestyle=style,
            alpha=0.5 if lines.is_faint else 1,
            edgecolor=lines.color,
            facecolor="none",
        )
    )


def _writes_files() -> bool:
    from matplotlib import pyplot as plt

    return plt.get_backend().lower() in FILE_BACKENDS
