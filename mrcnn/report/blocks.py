"""What a page is made of: sections of figures, tables and pictures, without any layout."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from mrcnn.report.pictures import Picture

FIGURE_WIDTH = 490
NOTHING = "-"  # in a cell without a figure
KINDS = {"segm": "masks", "bbox": "boxes", "keypoints": "keypoints"}  # of what is compared


@dataclass(frozen=True)
class Figure:
    """A figure with the sentences that say how to read it.

    Attributes:
        svg: From `svg.draw`.
        caption: Plain text.
        width: In pixels of the page.
    """

    svg: str
    caption: str
    width: int = FIGURE_WIDTH
    kind: Literal["figure"] = "figure"


@dataclass(frozen=True)
class Table:
    """A table; cells are numbers, except for the first column and those that hold words.

    Attributes:
        head: Titles of the columns.
        rows: Cells as texts.
        title: Above the table.
        folded: Whether the reader opens it.
        words: Further columns of words, counted from 1.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""
    folded: bool = False
    words: Sequence[int] = ()
    kind: Literal["table"] = "table"


@dataclass(frozen=True)
class Card:
    """One picture or two side by side, with a title and a caption."""

    pictures: Sequence[Picture]
    title: str
    caption: str = ""


@dataclass(frozen=True)
class Gallery:
    """Cards under a title, with the sentences that say what they show."""

    title: str
    caption: str
    cards: Sequence[Card]
    kind: Literal["gallery"] = "gallery"


Block = Figure | Table | Gallery


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
        anchor: Its id.
        title: Its heading, and its entry in the contents.
        text: What it is about.
        blocks: In order.
    """

    anchor: str
    title: str
    text: str = ""
    blocks: Sequence[Block] = field(default_factory=list)


def shortened(name: str, most: int = 40) -> str:
    """Return a name of at most so many letters, with both of its ends."""
    half = most // 2
    return name if len(name) <= most else f"{name[:half]}…{name[1 - half :]}"


def number(value: float | None, digits: int = 3) -> str:
    """Return a figure as text."""
    return NOTHING if value is None or value != value else f"{value:.{digits}f}"
