"""RoIPool: the maximum of each bin *(Fast R-CNN, Girshick 2015, section 2.1)*."""

import math
from typing import Any

from keras import ops

Tensor = Any
# Powers of two in `largest_in_rectangles`: sides of up to twice the largest power are covered.
POWERS = 6


def pool(features: Tensor, boxes: Tensor, indices: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the maximum of each bin of boxes (RoIPool): (M, 4) -> (M, h, w, C).

    Borders are rounded to cells, including the last cell; bins outside the map are 0, as in
    torchvision's roi_pool.

    Args:
        features: (B, H', W', C). boxes: (M, 4), cells of the map.
    """
    extent = ops.shape(features)[1:3]
    corners = ops.cast(_half_away_from_zero(boxes), "int32")
    rows = _bins(corners[:, 0], corners[:, 2], size[0], extent[0])
    cols = _bins(corners[:, 1], corners[:, 3], size[1], extent[1])
    return largest_in_rectangles(features, indices, rows, cols)


def round_to_cells(boxes: Tensor) -> Tensor:
    """Return boxes (M, 4) with borders rounded to cells as in `pool`."""
    corners = _half_away_from_zero(boxes)
    low = corners[:, :2]
    return ops.concatenate([low, ops.maximum(corners[:, 2:], low) + 1.0], axis=1)


def _half_away_from_zero(values: Tensor) -> Tensor:
    """Round to the nearest integer, halves away from zero as in C; ops.round rounds to even."""
    return ops.sign(values) * ops.floor(ops.abs(values) + 0.5)


def _bins(low: Tensor, high: Tensor, count: int, extent: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first cell of each bin along an axis, and one past its last: (M, count) each."""
    length = ops.cast(ops.maximum(high - low + 1, 1), "float32") / count
    place = ops.arange(count, dtype="float32")[None]
    first = ops.cast(ops.floor(place * length[:, None]), "int32") + low[:, None]
    last = ops.cast(ops.ceil((place + 1) * length[:, None]), "int32") + low[:, None]
    return ops.clip(first, 0, extent), ops.clip(last, 0, extent)


def largest_in_rectangles(
    features: Tensor,
    indices: Tensor,
    rows: tuple[Tensor, Tensor],
    cols: tuple[Tensor, Tensor],
) -> Tensor:
    """Return the maxima over rectangles of cells: (M, h), (M, w) -> (M, h, w, C).

    Args:
        features: (B, H, W, C). indices: (M,) int32, the image of each row of rectangles.
        rows, cols: First and one past the last, at most 64 apart; empty rectangles give 0.
    """
    row_power, *row_starts = _covering(*rows)
    col_power, *col_starts = _covering(*cols)
    batch, height, width, channels = ops.shape(features)
    table = ops.reshape(_maxima(features), (-1, channels))
    powers = row_power[:, :, None] * POWERS + col_power[:, None, :]
    plane = (powers * batch + ops.cast(indices, "int32")[:, None, None]) * height
    found = None
    for row in row_starts:
        for col in col_starts:
            place = (plane + row[:, :, None]) * width + col[:, None, :]
            corner = ops.take(table, place, axis=0)
            found = corner if found is None else ops.maximum(found, corner)
    is_empty = (rows[1] <= rows[0])[:, :, None] | (cols[1] <= cols[0])[:, None, :]
    return ops.where(is_empty[..., None], 0.0, found)


def _covering(first: Tensor, stop: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the largest power of two in each run of cells, and the starts of two such runs."""
    length = ops.maximum(stop - first, 1)
    power = ops.cast(ops.log(ops.cast(length, "float32")) / math.log(2.0) + 1e-6, "int32")
    first = ops.maximum(ops.minimum(first, stop - 1), 0)
    return power, first, ops.maximum(stop - ops.left_shift(ops.ones_like(power), power), first)


def _maxima(features: Tensor) -> Tensor:
    """Return the maxima of 2**i x 2**j cells starting at each cell: (I, J, B, H, W, C)."""
    by_row = _doubled(features, axis=1)
    return ops.stack([ops.stack(_doubled(maxima, axis=2)) for maxima in by_row])


def _doubled(features: Tensor, axis: int) -> list[Tensor]:
    maxima = [features]
    for power in range(POWERS - 1):
        # Values that wrap around are never in a window inside the map.
        maxima.append(ops.maximum(maxima[-1], ops.roll(maxima[-1], -(2**power), axis)))
    return maxima
