"""Linear interpolation along an axis: the two cells around each sample, and their weights."""

from typing import Any

from keras import ops

Tensor = Any
# (cell, weight) pairs, (..., count) each; a sample's value is the sum of weight x cell.
Taps = list[tuple[Tensor, Tensor]]
FARTHEST = 1e30


def taps(position: Tensor, extent: Tensor | int, weight: Tensor | float = 1.0) -> Taps:
    """Return the taps of samples at positions, in cells; edge padding beyond the outermost cells.

    Args:
        extent: Number of cells, a scalar or broadcast to the positions.
        weight: Weight of the samples, broadcast likewise.
    """
    last = ops.cast(extent, "float32") - 1.0
    position = ops.clip(position, 0.0, last)
    floor = ops.floor(position)
    cell, fraction = ops.cast(floor, "int32"), position - floor
    following = ops.minimum(cell + 1, extent - 1)
    return [(cell, (1.0 - fraction) * weight), (following, fraction * weight)]


def corner_taps(low: Tensor, high: Tensor, count: int, extent: Tensor | int) -> Taps:
    """Return the taps of `count` samples from corner to corner of boxes; 0 outside the map.

    Rounds like TensorFlow's crop_and_resize, which decides whether the last sample of a box that
    ends at the border is outside.

    Args:
        low, high: (...), the ends of the boxes, normalized.
        extent: Number of cells, a scalar or (..., 1).
    """
    last = ops.cast(extent, "float32") - 1.0
    low, high = low[..., None], high[..., None]
    # Compilers would turn division by a constant into multiplication by its reciprocal.
    step = (high - low) * last / (count - 1.0 + 0.0 * low)
    begin = _uncontracted(low * last)
    position = begin + _uncontracted(ops.arange(count, dtype="float32") * step)
    is_inside = ops.cast((position >= 0) & (position <= last), "float32")
    return taps(position, extent, is_inside)


def near(position: Tensor, extent: Tensor | int) -> Tensor:
    """Return 1 for valid RoIAlign samples, up to one cell beyond the map; else 0."""
    last = ops.cast(extent, "float32") - 1.0
    return ops.cast((position >= -1.0) & (position <= last + 1.0), "float32")


def _uncontracted(product: Tensor) -> Tensor:
    # Prevents FMA contraction of a product with the following sum.
    return ops.clip(product, -FARTHEST, FARTHEST)
