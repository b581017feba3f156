"""Outlines of objects as stored in annotation files, and their masks.

Polygons are rasterised by pycocotools, as in COCO: (x, y) = (0, 0) is the corner of the first
pixel, a rectangle with x = 2 and width = 4 covers columns 2 to 5, and everything is clipped to the
image. Curves become polygons. Mask files are used unchanged.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from scipy import ndimage

from mrcnn.geometry import image_files, masks

FARTHEST = 1e6  # largest absolute coordinate, in pixels
# Longest perimeter of polygons, in pixels. pycocotools takes 16 bytes per fifth of a pixel, and
# kills the process when out of memory.
LONGEST = 4e6
MOST_OF_PALETTE = 255  # a label image with larger values is in colour
SURE = 0.75  # a disc of this radius always contains a pixel centre


@dataclass(frozen=True, eq=False, slots=True)
class Polygon:
    """A closed polygon.

    Attributes:
        points: (n, 2) float64 of x, y in pixels, or in fractions of the image's width and height.
        is_relative: points are fractions.
    """

    points: np.ndarray
    is_relative: bool = False

    def pixels(self, size: tuple[int, int]) -> np.ndarray:
        """Return the points in pixels of an image of size (H, W): (n, 2) x, y."""
        return self.points * (size[1], size[0]) if self.is_relative else self.points


@dataclass(frozen=True, slots=True)
class Runs:
    """A mask of the whole image as COCO's compressed RLE."""

    rle: dict


@dataclass(frozen=True, slots=True)
class MaskFile:
    """The pixels of a mask file with a given value; None: all nonzero pixels.

    Attributes:
        path: path of the file.
        value: value of the pixels.
        colour: their value if the file is in colour, see `image_files.read_labels`.
    """

    path: str
    value: int | None = None
    colour: int | None = None


Shape = Polygon | Runs | MaskFile


@dataclass(eq=False, slots=True)
class AnnotatedObject:
    """One object of an image.

    Attributes:
        class_id: the source's own id of the class.
        shapes: the object is their union.
        is_crowd: a region that is neither object nor background.
        id: as in its file, or its index there, for messages.
        keypoints: (P, 3) of y, x in pixels and visibility, if any.
        stated: its area and its bbox (x, y, width, height) if the file states them, which COCO's
            scores use.
        is_ignored: a crowd without a class; its class_id is arbitrary.
    """

    class_id: Any
    shapes: Sequence[Shape]
    is_crowd: bool = False
    id: Any = None
    keypoints: np.ndarray | None = None
    stated: dict[str, Any] = field(default_factory=dict)
    is_ignored: bool = False


def polygon(x: Iterable, y: Iterable) -> Polygon:
    """Return the polygon with these coordinates.

    Raises:
        ValueError: If there are fewer than three points, or something is not a number.
    """
    try:
        points = np.array([list(x), list(y)], np.float64).T
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError("its coordinates are not pairs of numbers") from error
    return checked(points)


def checked(points: np.ndarray) -> Polygon:
    """Return the polygon of points (n, 2) of x and y.

    Raises:
        ValueError: If there are fewer than three, or they are not finite or out of any image.
    """
    if points.ndim != 2 or len(points) < 3:
        raise ValueError("it has fewer than three points")
    if not np.isfinite(points).all():
        raise ValueError("it has coordinates that are not numbers")
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
        radii: along the x and y axes, before rotation.
        angle: in radians, clockwise as seen in the image.
    """
    if not np.abs([*centre, *radii, angle]).max() <= FARTHEST:
        raise ValueError(f"its centre, radii or angle are beyond any image: {centre}, {radii}")
    around = 2 * np.pi * max(*np.abs(radii), 1)
    count = int(min(max(32, around / 2), 2000))
    steps = np.linspace(0, 2 * np.pi, count, endpoint=False)
    along, across = radii[0] * np.cos(steps), radii[1] * np.sin(steps)
    return polygon(
        centre[0] + along * np.cos(angle) - across * np.sin(angle),
        centre[1] + along * np.sin(angle) + across * np.cos(angle),
    )


def stored_runs(counts: Any, stated: Any, size: tuple[int, int]) -> Runs:
    """Return a mask from COCO's compressed or uncompressed RLE.

    Args:
        counts: a list of numbers, or the compressed string.
        stated: the size stated with them.
        size: (H, W) of the image.

    Raises:
        ValueError: If the size differs, or the RLE is damaged or does not fill it.
    """
    height, width = size
    if not isinstance(stated, list | tuple) or list(stated) != [height, width]:
        raise ValueError(f"its mask has size {stated}, the image [{height}, {width}]")
    if isinstance(counts, list):
        if not all(isinstance(run, int | float) and run >= 0 and run == int(run) for run in counts):
            raise ValueError("its RLE counts are not non-negative integers")
        if sum(counts) != height * width:
            raise ValueError(f"its RLE counts add up to {sum(counts)}, not {height * width}")
        listed = {"size": [height, width], "counts": [int(run) for run in counts]}
        counts = coco_mask.frPyObjects(listed, height, width)["counts"]
    if not isinstance(counts, str | bytes):
        raise ValueError("its mask has no counts")
    rle = {"size": [height, width], "counts": counts}
    masks.check_rle(rle, size)
    return Runs({**rle, "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts})


class TooLongError(ValueError):
    """An outline whose perimeter is too long to be rasterised."""


def encode(shapes: Sequence[Shape], size: tuple[int, int]) -> dict:
    """Return the union of shapes as compressed RLE of the size (H, W).

    Raises:
        TooLongError: If an outline is too long.
        ValueError: If a mask has another size, or its file cannot be read.
    """
    polygons = [
        _bounded(shape.pixels(size), size).ravel().tolist()
        for shape in shapes
        if isinstance(shape, Polygon)
    ]
    rles = [_stored(shape, size).rle for shape in shapes if not isinstance(shape, Polygon)]
    if polygons:
        rles += coco_mask.frPyObjects(polygons, *size)
    return rles[0] if len(rles) == 1 else coco_mask.merge(rles)


def encode_each(objects: Sequence[AnnotatedObject], size: tuple[int, int]) -> list[dict]:
    """Return the RLE of each object; empty for outlines that are too long.

    Raises:
        ValueError: a mask has another size than the image, or its file cannot be read.
    """
    rles = []
    for item in objects:
        try:
            rles.append(encode(item.shapes, size))
        except TooLongError:
            rles.append(run_lengths(np.zeros(size, bool)).rle)
    return rles


def rasterise(
    objects: Sequence[AnnotatedObject], size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the masks of the objects that have a pixel: (H, W, N) bool and their indices (N,).

    Raises:
        ValueError: a mask has another size than the image, or its file cannot be read.
    """
    rles = encode_each(objects, size)
    kept = np.flatnonzero([coco_mask.area(rle) > 0 for rle in rles])
    return masks.from_rle([rles[place] for place in kept], size), kept


def surely_cover_a_pixel(outlines: Sequence[np.ndarray], sizes: np.ndarray) -> np.ndarray:
    """Return which polygons certainly contain a pixel centre, without rasterising: (N,) bool.

    A polygon whose area is at least r times its perimeter contains a disc of radius r.

    Args:
        outlines: N arrays of points (n, 2), x and y in pixels.
        sizes: (N, 2) height and width of each one's image.
    """
    if not len(outlines):
        return np.zeros(0, bool)
    lengths = np.array([len(points) for points in outlines])
    first = np.cumsum(lengths) - lengths
    points = np.concatenate(outlines)
    following = np.arange(1, len(points) + 1)
    following[first + lengths - 1] = first
    ends = points[following]
    doubled = np.add.reduceat(points[:, 0] * ends[:, 1] - ends[:, 0] * points[:, 1], first)
    around = np.add.reduceat(np.hypot(*(ends - points).T), first)
    low, high = (edge.reduceat(points, first) for edge in (np.minimum, np.maximum))
    is_inside = (low >= 0).all(axis=1) & (high <= np.asarray(sizes)[:, ::-1]).all(axis=1)
    return is_inside & (np.abs(doubled) / 2 >= SURE * around) & (around > 0)


def covers(objects: Sequence[AnnotatedObject], size: tuple[int, int]) -> np.ndarray:
    """Return which objects have a pixel in an image of size (H, W): (N,) bool.

    Raises:
        ValueError: a mask has another size than the image, or its file cannot be read.
    """
    polygons = [
        (place, shape.pixels(size))
        for place, item in enumerate(objects)
        for shape in item.shapes
        if isinstance(shape, Polygon)
    ]
    sizes = np.tile(size, (len(polygons), 1))
    sure = surely_cover_a_pixel([points for _, points in polygons], sizes)
    covered = np.zeros(len(objects), bool)
    covered[[place for (place, _), is_sure in zip(polygons, sure, strict=True) if is_sure]] = True
    left = np.flatnonzero(~covered).tolist()
    rles = encode_each([objects[place] for place in left], size)
    covered[left] = [coco_mask.area(rle) > 0 for rle in rles]
    return covered


def run_lengths(mask: np.ndarray) -> Runs:
    """Return a mask (H, W) as RLE."""
    return Runs(masks.to_rle(mask[..., None])[0])


def labels_of(path: str) -> list[int]:
    """Return the values of a label image, except 0.

    Raises:
        ValueError: If the file is not a label image.
    """
    return [value for value in _labelled(path)[1] if value != 0]


def _stored(shape: Runs | MaskFile, size: tuple[int, int]) -> Runs:
    """Return a stored mask as RLE of this size."""
    if isinstance(shape, Runs):
        found, name = tuple(shape.rle["size"]), "a mask"
    elif shape.value is None:
        mask = image_files.read_labels(shape.path) != 0
        found, name = mask.shape, shape.path
    else:
        found, rles = _labelled(shape.path)
        name = shape.path
    if found != tuple(size):
        raise ValueError(f"{name} has size {list(found)}, the image {list(size)}")
    if isinstance(shape, Runs):
        return shape
    if shape.value is None:
        return run_lengths(mask)
    is_in_colours = shape.colour is not None and max(rles) > MOST_OF_PALETTE
    value = shape.colour if is_in_colours else shape.value
    assert value is not None
    return Runs(rles[value]) if value in rles else run_lengths(np.zeros(size, bool))


def _labelled(path: str) -> tuple[tuple[int, ...], dict[int, dict]]:
    """Return the size of a label image and the RLE of each of its values."""
    try:
        changed = os.stat(path).st_mtime_ns
    except OSError:
        changed = 0
    return _labelled_as_of(path, changed)


@lru_cache(maxsize=4)  # consecutive objects of an image share the file
def _labelled_as_of(path: str, changed: int) -> tuple[tuple[int, ...], dict[int, dict]]:
    del changed  # part of the cache key: a rewritten file is a new one
    labels = image_files.read_labels(path)
    values, numbers = np.unique(labels, return_inverse=True)
    numbers = numbers.reshape(labels.shape)
    boxes = ndimage.find_objects(numbers + 1)
    return labels.shape, {
        int(value): masks.rle_of_part(
            numbers[box] == number, (box[0].start, box[1].start), labels.shape
        )
        for number, (value, box) in enumerate(zip(values, boxes, strict=True))
    }


def _bounded(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return the part of a polygon in and around an image: (n, 2) -> (m, 2).

    Points less than one image size away are kept, since pycocotools rounds the ends of every side.

    Raises:
        ValueError: If it is too long to be rasterised.
    """
    limits = np.array(size[::-1], np.float64)  # width, height
    if (points < -limits).any() or (points > 2 * limits).any():
        for axis in (0, 1):
            points = _above(points, axis, -limits[axis])
            points = -_above(-points, axis, -2 * limits[axis])
        if len(points) < 3:
            points = np.full((3, 2), -1.0)  # nothing of it is in the image
    around = np.abs(np.diff(points, axis=0, append=points[:1])).max(axis=1).sum()
    if around > LONGEST:
        raise TooLongError(f"its outline is {around:.0f} pixels long, at most {LONGEST:.0f} may be")
    return points


def _above(points: np.ndarray, axis: int, limit: float) -> np.ndarray:
    """Return the part of a polygon beyond a line *(Sutherland and Hodgman 1974)*."""
    if not len(points):
        return points
    ends = np.roll(points, -1, axis=0)
    inside = points[:, axis] >= limit
    crosses = inside != np.roll(inside, -1)
    run = np.where(crosses, ends[:, axis] - points[:, axis], 1)
    share = ((limit - points[:, axis]) / run)[:, None]
    met = points + share * (ends - points)
    met[:, axis] = limit
    both = np.stack([points, met], axis=1).reshape(-1, 2)
    return both[np.stack([inside, crosses], axis=1).reshape(-1)]
