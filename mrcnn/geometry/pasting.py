"""Pasting of box masks into an image: as arrays, or as RLE.

Every resize here is bilinear, so it is two small matrix products. Unless a form of pasting says
otherwise, it is skimage's order 1 with zero padding, as in Matterport's weights: samples at
half-pixel centres, neighbours outside the mask count as 0, the result stays in the range of the
input.
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

# How masks are resized to their boxes when pasted.
#   whole: over the whole pixels of the box, with a zero border (Matterport);
#   centres: sampled at pixel centres in the unrounded box (detectron2);
#   padded: with a border of zeros stretched, too, over a box of whole pixels (torchvision).
PASTES = ("whole", "centres", "padded")
THREADS = min(os.cpu_count() or 1, 4)
# What a thread has at once: weights and pixels of a group of masks, pixels of a stripe of one.
GROUP_CELLS, GROUP_PIXELS, STRIPE_PIXELS = 1 << 19, 1 << 22, 1 << 18


def expand(boxes: np.ndarray, mini_masks: np.ndarray, image_shape: Sequence[int]) -> np.ndarray:
    """Expand mini-masks to full masks: (N, 4), (N, h, w) -> (H, W, N) bool."""
    # The smallest float above 0.5: np.around, which Matterport uses here, rounds 0.5 down.
    return paste(np.asarray(mini_masks) != 0, boxes, image_shape, np.nextafter(0.5, 1))


def paste(
    probabilities: np.ndarray,
    boxes: np.ndarray,
    image_shape: Sequence[int],
    threshold: float | None = 0.5,
    form: str = "whole",
) -> np.ndarray:
    """Return masks pasted into their boxes: (N, h, w), (N, 4) -> (H, W, N) bool.

    Args:
        probabilities: of the pixels inside each box, or booleans.
        boxes: in image pixels; parts outside the image are cut off. Boxes without area are empty,
            but in the form "padded" a pixel wide.
        image_shape: (H, W) or (H, W, C).
        threshold: minimum probability of the mask; None returns the probabilities, float32.
        form: one of PASTES.

    Raises:
        ValueError: for boxes that are not as many as the masks, or not finite.
    """
    height, width = image_shape[:2]
    whole = _placed(probabilities, boxes, (height, width), form)
    # One plane per object: memory outside the boxes is never touched (or paged in).
    dtype = np.float32 if threshold is None else bool
    planes = np.zeros((len(whole.shown), height, width), dtype)

    def write(numbers: np.ndarray) -> None:
        for number, stretch in zip(numbers, _stretches(whole, numbers), strict=True):
            top, left, bottom, right = whole.shown[number]
            stretch.write(planes[number, top:bottom, left:right], threshold)

    # Most of it is work without the interpreter: products, and memory that the system clears.
    groups = _groups(whole)
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
    """Return the same as `to_rle(paste(...))`, without an array of the image's size."""
    size = int(image_shape[0]), int(image_shape[1])
    whole = _placed(probabilities, boxes, size, form)
    rles = [mask_math.rle_of_part(np.zeros((0, 0), bool), (0, 0), size)] * len(whole.shown)
    with ONE_THREAD:
        for numbers in _groups(whole):
            for number, stretch in zip(numbers, _stretches(whole, numbers), strict=True):
                top, left, bottom, right = whole.shown[number].tolist()
                mask = np.empty((bottom - top, right - left), bool)
                stretch.write(mask, threshold)
                rles[number] = mask_math.rle_of_part(mask, (top, left), size)
    return rles


class _Placed(NamedTuple):
    """Placement of N masks in an image.

    Attributes:
        masks: (N, h, w), with the border that is stretched, too.
        low, high: (N, 2), where the masks begin and end, in pixels of the image.
        shown: (N, 4), the pixels of the image that show something; int once they are cut off.
        edge_padding: edge padding beyond the outermost centres, rather than zero padding.
        stays: the result is clipped to the range of each mask, despite zero padding.
    """

    masks: np.ndarray
    low: np.ndarray
    high: np.ndarray
    shown: np.ndarray
    edge_padding: bool = False
    stays: bool = False


def _placed(
    probabilities: np.ndarray, boxes: np.ndarray, image_size: tuple[int, int], form: str
) -> _Placed:
    """Return the placement of masks in an image of a given size."""
    masks, boxes = np.asarray(probabilities), np.asarray(boxes).reshape(-1, 4)
    if len(masks) != len(boxes):
        raise ValueError(f"there are {len(masks)} masks, but {len(boxes)} boxes")
    if not np.isfinite(boxes).all():
        bad = boxes[~np.isfinite(boxes).all(axis=1)][0].tolist()
        raise ValueError(f"the coordinates of a box must be finite, got {bad}")
    if not len(boxes):
        masks = np.zeros((0, 1, 1), np.float32)
    place = {"whole": _over_whole_pixels, "centres": _at_centres, "padded": _with_border}[form]
    whole = place(masks, boxes)
    low, high = whole.low.astype(np.float64), whole.high.astype(np.float64)
    shown = whole.shown.clip(0, np.tile(image_size, 2)).astype(np.int64)
    return whole._replace(low=low, high=high, shown=shown)


def _over_whole_pixels(masks: np.ndarray, boxes: np.ndarray) -> _Placed:
    boxes = np.trunc(boxes)
    return _Placed(masks, boxes[:, :2], boxes[:, 2:], boxes, stays=True)


def _at_centres(masks: np.ndarray, boxes: np.ndarray) -> _Placed:
    """Sample masks at the centres of pixels *(detectron2's paste_masks_in_image)*."""
    low, high = boxes[:, :2].astype(np.float64), boxes[:, 2:].astype(np.float64)
    shown = np.concatenate([np.floor(low), np.ceil(high)], axis=1)
    return _Placed(masks, low, high, shown)


def _with_border(masks: np.ndarray, boxes: np.ndarray) -> _Placed:
    """Stretch masks with a border, in the precision of the boxes.

    *(torchvision's paste_masks_in_image)*
    """
    scale = (masks.shape[1] + 2) / masks.shape[1]
    centre, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2 * scale
    low, high = np.trunc(centre - half), np.trunc(centre + half) + 1
    high = np.maximum(high, low + 1)
    bordered = np.pad(masks, ((0, 0), (1, 1), (1, 1)))
    return _Placed(bordered, low, high, np.concatenate([low, high], axis=1), edge_padding=True)


def _groups(whole: _Placed) -> list[np.ndarray]:
    """Return the numbers of the masks that show something, in groups of not too much work."""
    sides = whole.shown[:, 2:] - whole.shown[:, :2]
    seen = np.flatnonzero((sides > 0).all(axis=1) & (whole.high > whole.low).all(axis=1))
    cells, pixels = sides[seen] @ whole.masks.shape[1:], sides[seen].prod(axis=1)
    group = (cells / GROUP_CELLS + pixels / GROUP_PIXELS).cumsum().astype(np.int64)
    return np.split(seen, np.flatnonzero(np.diff(group)) + 1) if seen.size else []


class _Stretch(NamedTuple):
    """What the image shows of one mask.

    Attributes:
        mask: (h, w).
        rows, cols: (H', h) and (W', w), how much each of its rows and columns weighs in each pixel.
        limits: between which values the result stays, in its precision.
    """

    mask: np.ndarray
    rows: np.ndarray
    cols: np.ndarray
    limits: tuple[Any, Any]

    def write(self, out: np.ndarray, threshold: float | None) -> None:
        """Write it, or where it is at least a threshold: (H', W')."""
        low, high = self.limits
        if threshold is not None and (high < threshold or low >= threshold):
            out[:] = low >= threshold
            return
        across = self.mask @ self.cols.T
        step = max(STRIPE_PIXELS // out.shape[1], 1)
        for start in range(0, len(out), step):
            stripe, part = self.rows[start : start + step] @ across, out[start : start + step]
            if threshold is None:
                np.clip(stripe, low, high, out=part)
            else:
                np.greater_equal(stripe, threshold, out=part)


def _stretches(whole: _Placed, numbers: np.ndarray) -> Iterator[_Stretch]:
    """Yield what the image shows of some of the masks, whose weights are found at once."""
    # Booleans meet the threshold exactly, which float32 would miss by its rounding.
    masks = whole.masks[numbers].astype(np.float64 if whole.masks.dtype == bool else np.float32)
    rows, cols = (_weights(whole, numbers, axis, masks.dtype) for axis in (0, 1))
    lows, highs = np.full((2, len(masks)), [[-np.inf], [np.inf]], masks.dtype)
    if whole.stays:
        lows, highs = masks.min(axis=(1, 2)), masks.max(axis=(1, 2))
    for mask, row, col, low, high in zip(masks, rows, cols, lows, highs, strict=True):
        yield _Stretch(mask, row, col, (low, high))


def _weights(whole: _Placed, numbers: np.ndarray, axis: int, dtype: np.dtype) -> list[np.ndarray]:
    """Return how much each cell of a mask's axis weighs in each pixel: (n, size) for each mask."""
    first, stop = whole.shown[numbers, axis], whole.shown[numbers, axis + 2]
    counts = stop - first
    ends = counts.cumsum()
    pixels = np.arange(counts.sum()) + np.repeat(first - ends + counts, counts)
    low, size = whole.low[numbers, axis], whole.masks.shape[axis + 1]
    scale = size / (whole.high[numbers, axis] - low)
    places = (pixels + 0.5 - np.repeat(low, counts)) * np.repeat(scale, counts) - 0.5
    if whole.edge_padding:
        places = np.clip(places, 0, size - 1)
    return np.split(_linear_weights(places, size, dtype), ends[:-1])


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
