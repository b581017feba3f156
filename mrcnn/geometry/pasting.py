"""Masks of boxes stretched into an image: as arrays, or as run lengths.

Every resize here is linear in each axis, so it is two small matrix products. Unless a form of
pasting says otherwise it is skimage's order 1 with a zero border, as in Matterport's weights:
samples at half-pixel centres, neighbours outside the mask count as 0, the result stays in the
range of the input.
"""

import functools
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import ThreadpoolController

from mrcnn.geometry import masks as mask_math

# How masks are stretched over their boxes when they are pasted.
#   whole: over the whole pixels of the box, with a zero border (Matterport);
#   centres: sampled at the centres of the pixels in the box as it is (detectron2);
#   padded: with a border of zeros stretched, too, over a box of whole pixels (torchvision).
PASTES = ("whole", "centres", "padded")
THREADS = min(os.cpu_count() or 1, 4)
# Rows and columns of pixels that a group of masks is made of: fewer are not worth a thread.
LEAST_PLACES, MOST_PLACES = 1 << 12, 1 << 15


def expand(boxes: np.ndarray, mini_masks: np.ndarray, image_shape: Sequence[int]) -> np.ndarray:
    """Return the masks that mini-masks stand for: (N, 4), (N, h, w) -> (H, W, N) bool."""
    # The smallest float above 0.5: np.around, which Matterport uses here, rounds 0.5 down.
    return paste(np.asarray(mini_masks) != 0, boxes, image_shape, np.nextafter(0.5, 1))


def paste(
    probabilities: np.ndarray,
    boxes: np.ndarray,
    image_shape: Sequence[int],
    threshold: float | None = 0.5,
    form: str = "whole",
) -> np.ndarray:
    """Return masks stretched over their boxes: (N, h, w), (N, 4) -> (H, W, N) bool.

    Args:
        probabilities: of the pixels inside each box, or booleans.
        boxes: in image pixels; parts outside the image are cut off, boxes without area are empty.
        image_shape: (H, W) or (H, W, C).
        threshold: the least probability that is inside; None returns the probabilities, float32.
        form: one of PASTES.
    """
    height, width = image_shape[:2]
    # One plane an object: planes stay untouched (and unpaid for) outside their boxes.
    planes = np.zeros((len(boxes), height, width), np.float32 if threshold is None else bool)
    whole = _placed(probabilities, boxes, (height, width), form)

    def write(numbers: np.ndarray) -> None:
        for number, stretched, (top, left), limits in _stretched(whole, numbers):
            part = planes[number, top : top + stretched.shape[0], left : left + stretched.shape[1]]
            if threshold is None:
                np.clip(stretched, *limits, out=part)
            else:
                _at_least(stretched, threshold, limits, part)

    # Most of it is work without the interpreter: products, and memory that the system clears.
    groups = _groups(whole, THREADS)
    with ONE_THREAD, ThreadPoolExecutor(THREADS) as executor:
        for _ in executor.map(write, groups) if len(groups) > 1 else map(write, groups):
            pass
    return np.moveaxis(planes, 0, -1)


def paste_rle(
    probabilities: np.ndarray,
    boxes: np.ndarray,
    image_shape: Sequence[int],
    threshold: float = 0.5,
    form: str = "whole",
) -> list[dict]:
    """Return what `to_rle` makes of what `paste` returns, with no array of the image's size."""
    size = int(image_shape[0]), int(image_shape[1])
    rles = [mask_math.rle_of_runs(np.array([size[0] * size[1]]), size) for _ in boxes]
    whole = _placed(probabilities, boxes, size, form)
    with ONE_THREAD:
        for numbers in _groups(whole):
            for number, stretched, corner, limits in _stretched(whole, numbers):
                is_inside = _at_least(stretched, threshold, limits, np.empty(stretched.shape, bool))
                rles[number] = mask_math.rle_of_part(is_inside, corner, size)
    return rles


def _at_least(
    stretched: np.ndarray, threshold: float, limits: tuple[float, float], out: np.ndarray
) -> np.ndarray:
    """Write where a stretched mask, kept within limits, is at least a threshold; return that."""
    low, high = limits
    if high < threshold or low >= threshold:
        out[:] = low >= threshold
        return out
    return np.greater_equal(stretched, threshold, out=out)


# Number of a mask, what it shows in the image, the row and column where that begins, and between
# which values it stays.
Stretched = tuple[int, np.ndarray, tuple[int, int], tuple[float, float]]


class _Stretching(NamedTuple):
    """How N masks lie in an image.

    Attributes:
        masks: (N, h, w), with the border that is stretched, too.
        low, high: (N, 2), where the masks begin and end, in pixels of the image.
        shown: (N, 4) int, the pixels of the image that show something.
        goes_on: beyond the outermost centres the outermost value goes on, rather than to 0.
        stays: the result stays in the range of each mask, though around it there is 0.
    """

    masks: np.ndarray
    low: np.ndarray
    high: np.ndarray
    shown: np.ndarray
    goes_on: bool = False
    stays: bool = False


def _placed(
    probabilities: np.ndarray, boxes: np.ndarray, image_size: tuple[int, int], form: str
) -> _Stretching:
    """Return how masks lie in an image of a size."""
    place = {"whole": _over_whole_pixels, "centres": _at_centres, "padded": _with_border}[form]
    whole = place(np.asarray(probabilities), np.asarray(boxes).reshape(-1, 4))
    return whole._replace(shown=whole.shown.clip(0, np.tile(image_size, 2)))


def _groups(whole: _Stretching, least: int = 1) -> list[np.ndarray]:
    """Return the numbers of the masks that show something, in groups of about the same work.

    The weights of a group are found at once; those of all would need too much memory.
    """
    sides = whole.shown[:, 2:] - whole.shown[:, :2]
    seen = np.flatnonzero((sides > 0).all(axis=1) & (whole.high > whole.low).all(axis=1))
    ends = sides[seen].sum(axis=1).cumsum()
    if not seen.size:
        return []
    count = max(min(least, ends[-1] // LEAST_PLACES), -(-ends[-1] // MOST_PLACES), 1)
    group = (ends - 1) * count // ends[-1]
    return np.split(seen, np.flatnonzero(np.diff(group)) + 1)


def _stretched(whole: _Stretching, numbers: np.ndarray) -> Iterator[Stretched]:
    """Yield what some of the masks show in the image."""
    # Booleans meet the threshold exactly, which float32 would miss by its rounding.
    masks = whole.masks[numbers].astype(np.float64 if whole.masks.dtype == bool else np.float32)
    rows, cols = (_weights(whole, numbers, axis, masks.dtype) for axis in (0, 1))
    limits = [(-np.inf, np.inf)] * len(masks)
    if whole.stays:
        ends = masks.min(axis=(1, 2)), masks.max(axis=(1, 2))
        limits = list(zip(*(end.tolist() for end in ends), strict=True))
    corners = whole.shown[numbers, :2].tolist()
    for number, mask, row, col, (top, left), limit in zip(
        numbers.tolist(), masks, rows, cols, corners, limits, strict=True
    ):
        yield number, row @ (mask @ col.T), (top, left), limit


def _weights(
    whole: _Stretching, numbers: np.ndarray, axis: int, dtype: np.dtype
) -> list[np.ndarray]:
    """Return how much each cell of a mask's axis weighs in each pixel: (n, size) for each mask."""
    first, stop = whole.shown[numbers, axis], whole.shown[numbers, axis + 2]
    counts = stop - first
    ends = counts.cumsum()
    pixels = np.arange(counts.sum()) + np.repeat(first - ends + counts, counts)
    low, size = whole.low[numbers, axis], whole.masks.shape[axis + 1]
    scale = size / (whole.high[numbers, axis] - low)
    places = (pixels + 0.5 - np.repeat(low, counts)) * np.repeat(scale, counts) - 0.5
    if whole.goes_on:
        places = np.clip(places, 0, size - 1)
    return np.split(_linear_weights(places, size, dtype), ends[:-1])


def _over_whole_pixels(masks: np.ndarray, boxes: np.ndarray) -> _Stretching:
    boxes = boxes.astype(np.int64)
    return _Stretching(masks, boxes[:, :2], boxes[:, 2:], boxes, stays=True)


def _at_centres(masks: np.ndarray, boxes: np.ndarray) -> _Stretching:
    """Sample masks at the centres of pixels *(detectron2's paste_masks_in_image)*."""
    low, high = boxes[:, :2].astype(np.float64), boxes[:, 2:].astype(np.float64)
    shown = np.concatenate([np.floor(low), np.ceil(high)], axis=1).astype(np.int64)
    return _Stretching(masks, low, high, shown)


def _with_border(masks: np.ndarray, boxes: np.ndarray) -> _Stretching:
    """Stretch masks with a border *(torchvision's paste_masks_in_image)*."""
    scale = (masks.shape[1] + 2) / masks.shape[1]
    centre, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2 * scale
    low, high = (centre - half).astype(np.int64), (centre + half).astype(np.int64) + 1
    high = np.maximum(high, low + 1)
    bordered = np.pad(masks, ((0, 0), (1, 1), (1, 1)))
    return _Stretching(bordered, low, high, np.concatenate([low, high], axis=1), goes_on=True)


@functools.cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


class _OneThread:
    """Holds the matrix products of a block to one thread.

    They take microseconds; on busy cores, waiting for a second thread takes milliseconds. The limit
    is the process's: the first of several blocks sets it, the last one takes it back.
    """

    def __init__(self) -> None:
        self.lock, self.inside = threading.Lock(), 0
        self.limit: Any = None

    def __enter__(self) -> None:
        with self.lock:
            if self.inside == 0:
                self.limit = _blas().limit(limits=1, user_api="blas")
            self.inside += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.inside -= 1
            if self.inside == 0:
                self.limit.restore_original_limits()


ONE_THREAD = _OneThread()


def _linear_weights(places: np.ndarray, size: int, dtype: np.dtype) -> np.ndarray:
    """Return max(0, 1 - |place - cell|) of each place and cell: (n,) -> (n, size)."""
    before = np.floor(places)
    is_near = (before >= -1) & (before < size)
    # Cell -1 is the last column, and `size` the one before: both are nothing's neighbours.
    cell = np.where(is_near, before, -1).astype(np.intp)
    weights = np.zeros((len(places), size + 2), dtype)
    order = np.arange(len(places))
    weights[order, cell] = (1 - (places - before)) * is_near
    weights[order, cell + 1] = (1 - (before + 1 - places)) * is_near
    return weights[:, :size]
