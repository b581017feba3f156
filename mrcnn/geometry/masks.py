"""Masks: tight boxes, mini-masks and RLE."""

from collections.abc import Sequence

import numpy as np
from pycocotools import mask as coco_mask

LONGEST_CODE = 35  # bits of a run that go before its last five; images have less than 2**32 pixels


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
    """Crop and resize each mask to its box: (N, 4), (H, W, N) -> (N, h, w) bool.

    Args:
        boxes: in mask pixels, truncated to integers.
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


def to_rle(masks: np.ndarray) -> list[dict]:
    """Return masks as compressed RLE: (H, W, N) -> N of {"size", "counts": str}."""
    height, width, count = masks.shape
    planes = np.zeros((count, width, height), np.uint8)  # columns are contiguous
    # Only what is inside the boxes is ever turned: a tenth of the time for most masks.
    for plane, (y1, x1, y2, x2), mask in zip(
        planes, bounds(masks).tolist(), np.moveaxis(masks, -1, 0), strict=True
    ):
        plane[x1:x2, y1:y2] = (mask[y1:y2, x1:x2] != 0).T
    encoded = coco_mask.encode(planes.transpose(2, 1, 0))
    return [{"size": rle["size"], "counts": rle["counts"].decode("ascii")} for rle in encoded]


def rle_of_part(mask: np.ndarray, corner: tuple[int, int], size: tuple[int, int]) -> dict:
    """Return the RLE of a mask (h, w) whose first pixel lies in an image at a corner."""
    columns = np.zeros((mask.shape[1], mask.shape[0] + 2), bool)
    columns[:, 1:-1] = mask.T
    column, row = np.divmod(np.flatnonzero(columns[:, 1:] != columns[:, :-1]), columns.shape[1] - 1)
    borders = (corner[1] + column) * size[0] + corner[0] + row
    # Where a run ends at the last row and the next column begins with one, there is no border.
    is_first, is_last = np.diff(borders, prepend=-1) != 0, np.diff(borders, append=-1) != 0
    borders = borders[is_first & is_last]
    pixels = size[0] * size[1]
    runs = np.diff(borders[borders < pixels], prepend=0, append=pixels)
    rle = coco_mask.frPyObjects({"size": list(size), "counts": runs}, *size)
    return {"size": rle["size"], "counts": rle["counts"].decode("ascii")}


def from_rle(rles: Sequence[dict], image_shape: Sequence[int]) -> np.ndarray:
    """Return the masks of compressed RLE: N -> (H, W, N) bool.

    Several times as fast as pycocotools, which also writes (and pages in) the background, and safe
    for damaged files, whose runs its C code trusts.

    Raises:
        ValueError: If a mask's size differs from the image's, or its runs do not fill it.
    """
    height, width = int(image_shape[0]), int(image_shape[1])
    planes = np.zeros((len(rles), width * height), bool)
    for plane, rle in zip(planes, rles, strict=True):
        for start, stop in runs_of(rle, (height, width)).tolist():
            plane[start:stop] = True
    return planes.reshape(-1, width, height).transpose(2, 1, 0)  # columns are contiguous


def runs_of(rle: dict, image_shape: Sequence[int]) -> np.ndarray:
    """Return where the runs of a mask start and stop, column by column: (R, 2) int64.

    Raises:
        ValueError: it has another size than the image, or its runs do not fill it.
    """
    size = [int(image_shape[0]), int(image_shape[1])]
    if list(rle["size"]) != size:
        raise ValueError(f"the mask has size {rle['size']}, the image {size}")
    ends = _run_lengths(rle["counts"]).cumsum()
    if (ends[-1] if ends.size else 0) != size[0] * size[1]:
        raise ValueError(f"the runs of the mask do not fill its size {rle['size']}")
    # Runs alternate, background first.
    runs = np.stack([ends[0 : len(ends) // 2 * 2 : 2], ends[1::2]], axis=1)
    return runs[runs[:, 0] < runs[:, 1]]


def bounds_of_runs(runs: np.ndarray, height: int) -> np.ndarray:
    """Return the tight box of a mask's runs (R, 2), in pixels; zeros for none: (4,) int32."""
    if not len(runs):
        return np.zeros(4, np.int32)
    columns, rows = np.divmod(runs - [0, 1], height)  # of the first and last pixels
    y1, y2 = rows[:, 0].min(), rows[:, 1].max() + 1
    if (columns[:, 0] != columns[:, 1]).any():
        y1, y2 = 0, height
    return np.array([y1, columns[0, 0], y2, columns[-1, 1] + 1], np.int32)


def part_of_runs(runs: np.ndarray, height: int, box: Sequence[int]) -> np.ndarray:
    """Decode a mask's runs (R, 2) inside a box of integer pixels: (h, w) bool."""
    y1, x1, y2, x2 = (int(edge) for edge in box)
    columns = np.zeros((x2 - x1) * height, bool)
    for start, stop in (runs - x1 * height).clip(0, len(columns)).tolist():
        columns[start:stop] = True
    return columns.reshape(x2 - x1, height).T[y1:y2]


def check_rle(rle: dict, image_shape: Sequence[int]) -> None:
    """Check compressed RLE without decoding it: pycocotools' C code trusts them.

    Raises:
        ValueError: they are damaged, or do not fill the size (H, W).
    """
    runs = _run_lengths(rle["counts"])
    if (runs < 0).any() or runs.sum() != int(image_shape[0]) * int(image_shape[1]):
        raise ValueError(f"the runs of the mask do not fill its size {list(image_shape[:2])}")


def to_array(masks: np.ndarray | list[dict], image_shape: Sequence[int]) -> np.ndarray:
    """Return masks, or what `from_rle` makes of RLE, as (H, W, N)."""
    return from_rle(masks, image_shape) if isinstance(masks, list) else np.asarray(masks)


def _run_lengths(counts: str | bytes) -> np.ndarray:
    """Decode COCO's RLE string: five bits per character, low bits first, +32 if more follow.

    From the fourth run on, numbers are differences to the run two before.
    """
    try:
        text = counts.encode("ascii") if isinstance(counts, str) else counts
    except UnicodeEncodeError as error:
        raise ValueError("the RLE of the mask is damaged") from error
    codes = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    if codes.size == 0 or codes[-1] & 32:
        raise ValueError("the RLE of the mask is cut off")
    if codes.min() < 0 or codes.max() > 63:
        raise ValueError("the RLE of the mask is damaged")
    last = np.flatnonzero((codes & 32) == 0)
    first = np.concatenate([[0], last[:-1] + 1])
    shifts = 5 * (np.arange(codes.size) - np.repeat(first, last - first + 1))
    if shifts.max() > LONGEST_CODE:
        raise ValueError("the RLE of the mask is damaged")
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
