"""RoIAlign over a whole pyramid with gathers of static shape, for compilers.

The maps of an image are concatenated into one list of cells, so that every box reads only the cells
of its own map, and boxes need not be sorted by map. The batch remains a separate axis: devices that
share a batch need not exchange maps.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from mrcnn.network.ops import backend, bilinear

Tensor = Any
SAMPLES = 2
# The supported subset of `conventions.ROI_FEATURES`: those used to train networks.
FORMS = ("corners", "aligned", "unaligned")


def features(
    maps: Sequence[Tensor], boxes: Tensor, chosen: Tensor, size: tuple[int, int], form: str
) -> Tensor:
    """Return the features of boxes, each from its own map: (B, N, 4) -> (B, N, h, w, C) float32.

    Args:
        maps: (B, H', W', C) each.
        boxes: normalized; inclusive for the form "corners", else in fractions of the map.
        chosen: (B, N) int32, index into maps.
        size: (h, w).
        form: One of FORMS.
    """
    extents = np.array([level.shape[1:3] for level in maps], np.int32)
    height, width = (_of_box(extents[:, axis], chosen) for axis in (0, 1))
    starts = np.append(0, np.cumsum(extents.prod(axis=1))[:-1]).astype(np.int32)
    boxes, start = ops.stop_gradient(boxes), _of_box(starts, chosen)[..., None]
    rows = _taps(boxes[..., 0], boxes[..., 2], size[0], height, form)
    cols = _taps(boxes[..., 1], boxes[..., 3], size[1], width, form)
    channels = maps[0].shape[-1]
    cells = ops.concatenate(
        [ops.reshape(level, (-1, math.prod(level.shape[1:3]), channels)) for level in maps], axis=1
    )
    index, weights = [], []
    for row, row_weight in rows:
        begin = start + row[..., :, None] * width[..., None]  # (B, N, h, 1)
        for col, col_weight in cols:
            index.append(begin + col[..., None, :])
            weights.append(row_weight[..., :, None] * col_weight[..., None, :])
    return backend.weighted_rows(cells, index, weights)


def _of_box(values: np.ndarray, chosen: Tensor) -> Tensor:
    """Return a per-map value for each box: (L,), (B, N) -> (B, N, 1)."""
    return ops.take(ops.convert_to_tensor(values, "int32"), chosen, axis=0)[..., None]


def _taps(low: Tensor, high: Tensor, count: int, extent: Tensor, form: str) -> bilinear.Taps:
    """Return the taps of the bins of boxes along an axis: (B, N) -> (B, N, count) each."""
    if form == "corners":
        return bilinear.corner_taps(low, high, count, extent)
    scale = ops.cast(extent[..., 0], "float32")
    low, high = low * scale, high * scale
    if form == "aligned":
        low, high = low - 0.5, high - 0.5
    else:
        high = ops.maximum(high, low + 1.0)
    side = ((high - low) / count)[..., None]
    bins = low[..., None] + ops.arange(count, dtype="float32") * side
    taps: bilinear.Taps = []
    for sample in range(SAMPLES):
        position = bins + (sample + 0.5) * (side / SAMPLES)
        taps += bilinear.taps(position, extent, bilinear.near(position, extent) / SAMPLES)
    return taps
