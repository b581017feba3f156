"""Masks: tight boxes, mini-masks, pasting into an image and run lengths.

Every resize here is linear in each axis, so it is two small matrix products. Unless a form of
pasting says otherwise it is skimage's order 1 with a zero border, as in Matterport's weights:
samples at half-pixel centres, neighbours outside the mask count as 0, the result stays in the
range of the input.
"""

import functools
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from threadpoolctl import ThreadpoolController

# How masks are stretched over their boxes when they are pasted.
#   whole: over the whole pixels of the box, with a zero border (Matterport);
#   centres: sampled at the centres of the pixels in the box as it is (detectron2);
#   padded: with a border of zeros stretched, too, over a box of whole pixels (torchvision).
PASTES = ("whole", "centres", "padded")


def bounds(masks: np.ndarray) -> np.ndarray:
    """Return the tight boxes of masks, in pixels: (H, W, N) -> (N, 4) int32.

    An empty mask has the box (0, 0, 0, 0).
    """
    height, width, count = masks.shape
    if masks.size == 0:
        return np.zeros((count, 4), np.int32)
    is_mirrored = masks.strides[1] < 0
    forward = masks[:, ::-1] if is_mirrored else masks  # as it lies in memory
    rows = _any_in_row(forward)  # (H, N)
    cols = np.asarray(forward.any(axis=0))[:: -1 if is_mirrored else 1]  # (W, N)
    corners = [
        rows.argmax(axis=0),
        cols.argmax(axis=0),
        height - rows[::-1].argmax(axis=0),
        width - cols[::-1].argmax(axis=0),
    ]
    return (np.stack(corners, axis=1) * np.asarray(rows.any(axis=0))[:, None]).astype(np.int32)


def _any_in_row(masks: np.ndarray) -> np.ndarray:
    """Return whether a row of a mask has a pixel: (H, W, N) -> (H, N) bool."""
    if masks.strides[2] > masks.strides[1]:
        return np.asarray(masks.any(axis=1))
    # NumPy's own way goes through N values at a time, which is ten times as slow.
    while masks.shape[1] > 1:
        half = masks.shape[1] // 2
        folded = np.logical_or(masks[:, :half], masks[:, half : 2 * half])
        if masks.shape[1] % 2:
            folded[:, 0] |= masks[:, -1] != 0
        masks = folded
    return masks[:, 0] != 0


def minimize(
    boxes: np.ndarray,
    masks: np.ndarray,
    shape: tuple[int, int],
    rows: np.ndarray | None = None,
    cols: np.ndarray | None = None,
) -> np.ndarray:
    """Return what each mask shows inside its box: (N, 4), (H, W, N) -> (N, h, w) bool.

    Args:
        boxes: in pixels of the masks; only their whole part counts.
        masks: of any dtype, non-zero is inside.
        shape: (h, w) of the mini-masks.
        rows: where boxes are in another frame, the row of the masks that each of its rows shows.
        cols: the same for columns.

    Raises:
        ValueError: a box has no area inside the mask.
    """
    rows = np.arange(masks.shape[0]) if rows is None else rows
    cols = np.arange(masks.shape[1]) if cols is None else cols
    boxes = np.asarray(boxes).astype(np.int64).reshape(-1, 4)
    corners = boxes.clip(0, [len(rows), len(cols)] * 2)
    for box in boxes[(corners[:, 2:] <= corners[:, :2]).any(axis=1)]:
        raise ValueError(f"Invalid bounding box with area of zero: {box.tolist()}")
    planes = np.moveaxis(masks, -1, 0)
    row_taps, row_weights = _taps_in(corners[:, 0], corners[:, 2], shape[0])  # (N, h, 2)
    col_taps, col_weights = _taps_in(corners[:, 1], corners[:, 3], shape[1])
    numbers = np.arange(len(boxes))[:, None, None]
    # Four pixels decide about each; the masks are read nowhere else, whatever their size.
    shown = planes[
        numbers,
        rows[row_taps].reshape(len(boxes), 2 * shape[0], 1),
        cols[col_taps].reshape(len(boxes), 1, 2 * shape[1]),
    ]
    shown = (shown != 0).reshape(len(boxes), *row_taps.shape[1:], *col_taps.shape[1:])
    along_rows = _lerp(shown, row_weights[..., None, None], axis=2)
    mini_masks = _lerp(along_rows, col_weights[:, None], axis=3) > 0.5
    # A mask that fills its box has no zeros around it either: its result stays in its range.
    for number in np.flatnonzero(shown.all(axis=(1, 2, 3, 4))):
        y1, x1, y2, x2 = corners[number]
        mini_masks[number] |= np.all(planes[number][rows[y1:y2]][:, cols[x1:x2]] != 0)
    return mini_masks


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
    stretched_masks = _stretched(probabilities, boxes, (height, width), form)
    for plane, (stretched, (top, left)) in zip(planes, stretched_masks, strict=True):
        part = plane[top : top + stretched.shape[0], left : left + stretched.shape[1]]
        if threshold is None:
            part[:] = stretched
        else:
            np.greater_equal(stretched, threshold, out=part)
    return np.moveaxis(planes, 0, -1)


def paste_rle(
    probabilities: np.ndarray,
    boxes: np.ndarray,
    image_shape: Sequence[int],
    threshold: float = 0.5,
    form: str = "whole",
) -> list[dict]:
    """Return what `to_rle` makes of what `paste` returns, with no array of the image's size."""
    height, width = int(image_shape[0]), int(image_shape[1])
    return [
        _rle_of_part(stretched >= threshold, corner, (height, width))
        for stretched, corner in _stretched(probabilities, boxes, (height, width), form)
    ]


def to_rle(masks: np.ndarray) -> list[dict]:
    """Return masks as compressed run lengths: (H, W, N) -> N of {"size", "counts": str}."""
    height, width, count = masks.shape
    planes = np.zeros((count, width, height), np.uint8)  # columns are contiguous
    # Only what is inside the boxes is ever turned: a tenth of the time for most masks.
    for plane, (y1, x1, y2, x2), mask in zip(
        planes, bounds(masks).tolist(), np.moveaxis(masks, -1, 0), strict=True
    ):
        plane[x1:x2, y1:y2] = (mask[y1:y2, x1:x2] != 0).T
    encoded = coco_mask.encode(planes.transpose(2, 1, 0))
    return [{"size": rle["size"], "counts": rle["counts"].decode("ascii")} for rle in encoded]


def _rle_of_part(mask: np.ndarray, corner: tuple[int, int], size: tuple[int, int]) -> dict:
    """Return the run lengths of a mask (h, w) whose first pixel lies in an image at a corner."""
    columns = np.pad(mask.T, ((0, 0), (1, 1)))
    column, row = np.nonzero(columns[:, 1:] != columns[:, :-1])
    places = (corner[1] + column) * size[0] + corner[0] + row
    # Where a run ends at the last row and the next column begins with one, there is no border.
    borders, times = np.unique(places, return_counts=True)
    borders = borders[times == 1]
    pixels = size[0] * size[1]
    runs = np.diff(borders[borders < pixels], prepend=0, append=pixels).tolist()
    rle = coco_mask.frPyObjects({"size": list(size), "counts": runs}, *size)
    return {"size": rle["size"], "counts": rle["counts"].decode("ascii")}


def from_rle(rles: Sequence[dict], image_shape: Sequence[int]) -> np.ndarray:
    """Return the masks of compressed run lengths: N -> (H, W, N) bool.

    Several times as fast as pycocotools, which writes (and pages in) the background too, and
    safe on damaged files, whose runs its C code trusts.

    Raises:
        ValueError: a mask has another size than the image, or its runs do not fill it.
    """
    height, width = int(image_shape[0]), int(image_shape[1])
    planes = np.zeros((len(rles), width * height), bool)
    for plane, rle in zip(planes, rles, strict=True):
        if list(rle["size"]) != [height, width]:
            raise ValueError(f"the mask has size {rle['size']}, the image {[height, width]}")
        ends = _run_lengths(rle["counts"]).cumsum()
        if (ends[-1] if ends.size else 0) != height * width:
            raise ValueError(f"the runs of the mask do not fill its size {rle['size']}")
        # Runs alternate, background first.
        for start, stop in zip(ends[::2].tolist(), ends[1::2].tolist(), strict=False):
            plane[start:stop] = True
    return planes.reshape(-1, width, height).transpose(2, 1, 0)  # columns are contiguous


def to_array(masks: np.ndarray | list[dict], image_shape: Sequence[int]) -> np.ndarray:
    """Return masks, or what `from_rle` makes of run lengths, as (H, W, N)."""
    return from_rle(masks, image_shape) if isinstance(masks, list) else np.asarray(masks)


def _run_lengths(counts: str | bytes) -> np.ndarray:
    """Return the runs of COCO's code: five bits a character, low ones first, +32 if more follow.

    From the fourth run on a number is the difference to the run before the last.
    """
    text = counts.encode("ascii") if isinstance(counts, str) else counts
    codes = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    if codes.size == 0 or codes[-1] & 32:
        raise ValueError("the run lengths of the mask are cut off")
    last = np.flatnonzero((codes & 32) == 0)
    first = np.concatenate([[0], last[:-1] + 1])
    shifts = 5 * (np.arange(codes.size) - np.repeat(first, last - first + 1))
    runs = np.add.reduceat((codes & 31) << shifts, first)
    runs -= (codes[last] >> 4 & 1) << (shifts[last] + 5)  # the fifth bit of the last is the sign
    runs[1::2] = runs[1::2].cumsum()
    runs[2::2] = runs[2::2].cumsum()
    return runs


def _taps_in(low: np.ndarray, high: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels beside `count` points of ranges (N,), and their weights: (N, count, 2)."""
    size = (high - low)[:, None]
    centres = (np.arange(count) + 0.5) * (size / count) - 0.5
    taps = np.floor(centres).astype(np.int64)[..., None] + [0, 1]
    is_inside = (taps >= 0) & (taps < size[..., None])
    weights = np.where(is_inside, 1 - np.abs(centres[..., None] - taps), 0)
    return low[:, None, None] + taps.clip(0, size[..., None] - 1), weights


def _lerp(values: np.ndarray, weights: np.ndarray, axis: int) -> np.ndarray:
    """Return the weighted sum of the two along an axis."""
    first, second = (
        np.take(values, place, axis) * np.take(weights, place, axis) for place in (0, 1)
    )
    return first + second


Stretched = tuple[np.ndarray, tuple[int, int]]


def _stretched(
    probabilities: np.ndarray, boxes: np.ndarray, image_size: tuple[int, int], form: str
) -> Iterator[Stretched]:
    """Yield what each mask shows in the image, and the row and column where that begins."""
    stretch = {"whole": _over_whole_pixels, "centres": _at_centres, "padded": _with_border}[form]
    with ONE_THREAD:
        for probability, box in zip(probabilities, np.asarray(boxes).reshape(-1, 4), strict=True):
            yield stretch(probability, box, image_size)


def _over_whole_pixels(mask: np.ndarray, box: np.ndarray, image_size: tuple[int, int]) -> Stretched:
    """Return what a mask (h, w) shows in the image, and the row and column where that begins."""
    y1, x1, y2, x2 = box.astype(np.int64)
    top, left, bottom, right = _inside((y1, x1, y2, x2), image_size)
    if top >= bottom or left >= right:
        return np.zeros((0, 0), np.float32), (0, 0)
    part = (top - y1, left - x1, bottom - y1, right - x1)
    return _enlarged(mask, part, (y2 - y1, x2 - x1)), (top, left)


def _at_centres(mask: np.ndarray, box: np.ndarray, image_size: tuple[int, int]) -> Stretched:
    """Return a mask sampled at the centres of pixels *(detectron2's paste_masks_in_image)*."""
    y1, x1, y2, x2 = box.astype(np.float64)
    whole = np.floor(y1), np.floor(x1), np.ceil(y2), np.ceil(x2)
    top, left, bottom, right = _inside(whole, image_size)
    if top >= bottom or left >= right:
        return np.zeros((0, 0), np.float32), (0, 0)
    rows = (np.arange(top, bottom) + 0.5 - y1) * (mask.shape[0] / (y2 - y1)) - 0.5
    cols = (np.arange(left, right) + 0.5 - x1) * (mask.shape[1] / (x2 - x1)) - 0.5
    return _sampled(mask, rows, cols), (top, left)


def _with_border(mask: np.ndarray, box: np.ndarray, image_size: tuple[int, int]) -> Stretched:
    """Return a mask stretched with a border *(torchvision's paste_masks_in_image)*."""
    scale = (mask.shape[0] + 2) / mask.shape[0]
    centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2 * scale
    low, high = (centre - half).astype(np.int64), (centre + half).astype(np.int64) + 1
    low, high = low.tolist(), np.maximum(high, low + 1).tolist()
    top, left, bottom, right = _inside((*low, *high), image_size)
    if top >= bottom or left >= right:
        return np.zeros((0, 0), np.float32), (0, 0)
    mask = np.pad(mask, 1)
    # Beyond the outermost centres the outermost value goes on.
    rows, cols = (
        np.clip((np.arange(start, stop) + 0.5 - near) * (size / (far - near)) - 0.5, 0, size - 1)
        for start, stop, near, far, size in zip(
            (top, left), (bottom, right), low, high, mask.shape, strict=True
        )
    )
    return _sampled(mask, rows, cols), (top, left)


def _inside(box: Sequence[float], image_size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the part of a box of whole pixels that is in the image."""
    y1, x1, y2, x2 = (int(side) for side in box)
    return max(y1, 0), max(x1, 0), min(y2, image_size[0]), min(x2, image_size[1])


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


def _enlarged(
    mask: np.ndarray, part: tuple[int, int, int, int], shape: tuple[int, int]
) -> np.ndarray:
    """Return the part (y1, x1, y2, x2) of a mask (h, w) resized to a shape."""
    # Booleans meet the threshold exactly, which float32 would miss by its rounding.
    mask = mask.astype(np.float64 if mask.dtype == bool else np.float32)
    rows, cols = (
        (np.arange(start, stop) + 0.5) * (size / resized) - 0.5
        for start, stop, size, resized in zip(part[:2], part[2:], mask.shape, shape, strict=True)
    )
    resized = _sampled(mask, rows, cols)
    return np.clip(resized, mask.min(), mask.max(), out=resized)


def _sampled(mask: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """Return a mask at fractional rows and columns of its own, linearly, with 0 around it."""
    row_weights, col_weights = (
        _linear_weights(places, size, mask.dtype)
        for places, size in zip((rows, cols), mask.shape, strict=True)
    )
    return row_weights @ (mask @ col_weights.T)


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
