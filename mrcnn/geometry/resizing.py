"""Resizing of images, bilinear at half-pixel centres and without smoothing: exact, and quick."""

import cv2
import numpy as np

ROWS_AT_ONCE = 16  # what is in work stays in the processor's cache
ALMOST = 2**-10  # of a grey level, far more than single precision loses

Crop = tuple[int, int, int, int]
Taps = list[tuple[np.ndarray, np.ndarray]]


def resize(
    image: np.ndarray,
    shape: tuple[int, int],
    crop: Crop | None = None,
    *,
    edge_padding: bool = False,
) -> np.ndarray:
    """Return an image resized, or a part of it: (H, W, C) -> (h, w, C), same dtype.

    Zero outside: to the last bit what skimage's resize of order 1 gives, in a tenth of its time.

    Args:
        shape: Height and width of the whole resized image.
        crop: (y, x, h, w) of the part to compute, in pixels of the resized image.
        edge_padding: Beyond the border its values go on, and integers are rounded, as in
            torchvision; else 0.
    """
    y, x, height, width = crop or (0, 0, *shape)
    if tuple(image.shape[:2]) == tuple(shape):
        return image[y : y + height, x : x + width]
    rows = _taps(image.shape[0], shape[0], slice(y, y + height), edge_padding)
    cols = _taps(image.shape[1], shape[1], slice(x, x + width), edge_padding)
    image, rows, cols = _as_stored(image, rows, cols)
    low, high = image.min(), image.max()
    lines, rows, col_weights = _lines(image, rows, cols)
    # Whole numbers are truncated, half a grey level too dark: Matterport's weights know no other.
    half = 0.5 if edge_padding and np.issubdtype(image.dtype, np.integer) else 0.0
    resized = np.empty((height, lines[0].shape[1]), image.dtype)
    weighted = np.empty((ROWS_AT_ONCE, resized.shape[1]), np.float64)
    for start in range(0, height, ROWS_AT_ONCE):
        part = resized[start : start + ROWS_AT_ONCE]
        block, term = np.zeros(part.shape), weighted[: len(part)]
        for row, row_weight in rows:
            chosen = slice(start, start + len(part))
            for line, col_weight in zip(lines, col_weights, strict=True):
                # In skimage's order, so that every rounding is the same.
                np.multiply(line[row[chosen]], row_weight[chosen, None], out=term)
                term *= col_weight
                block += term
        block += half
        part[:] = block.clip(low, high, out=block)
    return resized.reshape(height, width, *image.shape[2:])


def resize_quickly(
    image: np.ndarray, shape: tuple[int, int], *, edge_padding: bool = False
) -> np.ndarray:
    """Return what `resize` does up to one grey level, in a fraction of its time; for training.

    In single precision, by OpenCV. A value that `resize` truncates just below a whole number may be
    that number here.
    """
    # What shrinks much is mostly left out, and OpenCV would read all of it.
    if tuple(image.shape[:2]) == tuple(shape) or np.prod(image.shape[:2]) > 4 * np.prod(shape):
        return resize(image, shape, edge_padding=edge_padding)
    source = np.ascontiguousarray(image, np.float32)
    resized: np.ndarray = cv2.resize(source, shape[::-1], interpolation=cv2.INTER_LINEAR)
    resized = resized.reshape(*shape, *image.shape[2:])
    if not edge_padding:
        _fade_borders(resized, image.shape, source.min())
    if np.issubdtype(image.dtype, np.integer):
        resized += 0.5 if edge_padding else ALMOST
    return resized.astype(image.dtype)


def _fade_borders(resized: np.ndarray, source: tuple[int, ...], low: float) -> None:
    """Bring a picture of which the border goes on to what it is with zeros outside."""
    for axis in (0, 1):
        taps = _taps(source[axis], resized.shape[axis], slice(None), edge_padding=False)
        inside = np.sum([weight for _, weight in taps], axis=0)
        faded = np.flatnonzero(inside < 1 - 1e-9)
        along = np.moveaxis(resized, axis, 0)
        weights = inside[faded].astype(np.float32).reshape(-1, *[1] * (resized.ndim - 1))
        along[faded] = np.maximum(along[faded] * weights, low)


def _as_stored(image: np.ndarray, rows: Taps, cols: Taps) -> tuple[np.ndarray, Taps, Taps]:
    """Return a mirrored view as it lies in memory, which is read several times as fast."""
    if image.strides[0] < 0:
        image, rows = image[::-1], [(len(image) - 1 - index, weight) for index, weight in rows]
    if image.strides[1] < 0:
        last = image.shape[1] - 1
        image, cols = image[:, ::-1], [(last - index, weight) for index, weight in cols]
    return image, rows, cols


def _lines(
    image: np.ndarray, rows: Taps, cols: Taps
) -> tuple[list[np.ndarray], Taps, list[np.ndarray]]:
    """Return the rows that are needed, at the pixels before and after each output column.

    They are two arrays (n, w * C); with them the taps of the rows, as places among those n, and
    the weight of each value of a row (w * C,).
    """
    indices = np.concatenate([index for index, _ in rows])
    used, places = np.unique(indices, return_inverse=True)
    image = image if len(used) == len(image) else image[used]
    channels = int(np.prod(image.shape[2:]))
    lines = [image.take(col, axis=1).reshape(len(image), -1) for col, _ in cols]
    numbered = zip(np.split(places, 2), (weight for _, weight in rows), strict=True)
    return lines, list(numbered), [np.repeat(weight, channels) for _, weight in cols]


def _taps(size: int, resized: int, part: slice, edge_padding: bool) -> Taps:
    """Return the neighbours before and after each output of a part: two of (index, weight)."""
    centres = (np.arange(resized)[part] + 0.5) * (size / resized) - 0.5
    if edge_padding:
        centres = centres.clip(0, size - 1)
    before = np.floor(centres).astype(np.int64)
    weight = centres - before
    return [
        (before.clip(min=0), np.where(before >= 0, 1 - weight, 0)),
        ((before + 1).clip(max=size - 1), np.where(before + 1 < size, weight, 0)),
    ]
