"""Outlines of objects as their files have them, and the masks that they stand for.

Polygons are rasterised by pycocotools, as COCO does: (x, y) = (0, 0) is the corner of the first
pixel, a rectangle of x = 2 and width = 4 covers the columns 2 to 5, and what lies beyond the image
is cut off. Curves become polygons. Masks of files are what they are.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from mrcnn.geometry import image_files, masks

FARTHEST = 1e6  # pixels: the time and memory of rasterising grow with the way around


@dataclass(frozen=True, eq=False)
class Polygon:
    """A closed polygon.

    Attributes:
        points: (n, 2) float64 of x, y in pixels, or in fractions of the image's width and height.
        is_relative: they are fractions.
    """

    points: np.ndarray
    is_relative: bool = False

    def pixels(self, size: tuple[int, int]) -> np.ndarray:
        """Return the points in pixels of an image of size (H, W): (n, 2) x, y."""
        return self.points * (size[1], size[0]) if self.is_relative else self.points


@dataclass(frozen=True)
class Runs:
    """A mask of the whole image as COCO's compressed run lengths."""

    rle: dict


@dataclass(frozen=True)
class MaskFile:
    """The pixels of a mask file that have a value; None: all that are not 0."""

    path: str
    value: int | None = None


Shape = Polygon | Runs | MaskFile


@dataclass(frozen=True)
class AnnotatedObject:
    """One object of an image.

    Attributes:
        class_id: its source's own id of the class.
        shapes: the object is all of them together.
        is_crowd: a region that is neither object nor background.
        id: as its file has it, or its place there, for messages.
        keypoints: (P, 3) of y, x in pixels and visibility, where it has any.
    """

    class_id: Any
    shapes: Sequence[Shape]
    is_crowd: bool = False
    id: Any = field(default=None, compare=False)
    keypoints: np.ndarray | None = None


def polygon(x: Iterable, y: Iterable) -> Polygon:
    """Return the polygon of these coordinates.

    Raises:
        ValueError: there are fewer than three points, or something is no number.
    """
    try:
        points = np.array([list(x), list(y)], np.float64).T
    except (TypeError, ValueError) as error:
        raise ValueError("its coordinates are no pairs of numbers") from error
    if len(points) < 3:
        raise ValueError("it has fewer than three points")
    if not np.isfinite(points).all():
        raise ValueError("it has coordinates that are no numbers")
    if np.abs(points).max() > FARTHEST:
        raise ValueError(f"it has coordinates beyond any image: {np.abs(points).max():g}")
    return Polygon(points)


def rectangle(x1: float, y1: float, x2: float, y2: float) -> Polygon:
    """Return a rectangle; the corners may come in any order."""
    left, right = sorted((x1, x2))
    top, bottom = sorted((y1, y2))
    return polygon([left, right, right, left], [top, top, bottom, bottom])


def ellipse(centre: tuple[float, float], radii: tuple[float, float], angle: float = 0.0) -> Polygon:
    """Return an ellipse as a polygon with a point every two pixels, at least 32.

    Args:
        centre: x, y.
        radii: along the axes of x and y, before it is turned.
        angle: in radians, clockwise as seen in the image.
    """
    around = 2 * np.pi * max(*np.abs(radii), 1)
    count = int(min(max(32, around / 2), 2000)) if np.isfinite(around) else 32
    steps = np.linspace(0, 2 * np.pi, count, endpoint=False)
    along, across = radii[0] * np.cos(steps), radii[1] * np.sin(steps)
    return polygon(
        centre[0] + along * np.cos(angle) - across * np.sin(angle),
        centre[1] + along * np.sin(angle) + across * np.cos(angle),
    )


def encode(shapes: Sequence[Shape], size: tuple[int, int]) -> dict:
    """Return what the shapes cover together as compressed run lengths of the size (H, W).

    Raises:
        ValueError: a mask has another size, or its file cannot be read.
    """
    polygons = [
        shape.pixels(size).ravel().tolist() for shape in shapes if isinstance(shape, Polygon)
    ]
    rles = [_stored(shape, size).rle for shape in shapes if not isinstance(shape, Polygon)]
    if polygons:
        rles += coco_mask.frPyObjects(polygons, *size)
    return rles[0] if len(rles) == 1 else coco_mask.merge(rles)


def rasterise(
    objects: Sequence[AnnotatedObject], size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the masks of the objects that have a pixel: (H, W, N) bool and their places (N,).

    Raises:
        ValueError: a mask has another size than the image, or its file cannot be read.
    """
    rles = [encode(item.shapes, size) for item in objects]
    kept = np.flatnonzero([coco_mask.area(rle) > 0 for rle in rles])
    return masks.from_rle([rles[place] for place in kept], size), kept


def run_lengths(mask: np.ndarray) -> Runs:
    """Return a mask (H, W) as run lengths."""
    return Runs(masks.to_rle(mask[..., None])[0])


def labels_of(path: str) -> list[int]:
    """Return the values of a label image, 0 left out.

    Raises:
        ValueError: the file is no label image.
    """
    return [int(value) for value in np.unique(_label_image(path)) if value != 0]


def _stored(shape: Runs | MaskFile, size: tuple[int, int]) -> Runs:
    """Return a mask that is stored as run lengths of this size."""
    if isinstance(shape, Runs):
        found, name = tuple(shape.rle["size"]), "a mask"
    else:
        labels = _label_image(shape.path)
        found, name = labels.shape, shape.path
    if found != tuple(size):
        raise ValueError(f"{name} has size {list(found)}, the image {list(size)}")
    if isinstance(shape, Runs):
        return shape
    return run_lengths(labels != 0 if shape.value is None else labels == shape.value)


@lru_cache(maxsize=4)
def _label_image(path: str) -> np.ndarray:
    # All objects of an image ask for the same file, one after the other.
    return image_files.read_labels(path)
