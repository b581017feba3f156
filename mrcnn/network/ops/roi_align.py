"""RoI features: RoIAlign and its variants *(Mask R-CNN, He et al. 2017, section 3)*."""

from collections.abc import Callable, Sequence
from typing import Any

from keras import ops

from mrcnn.network.ops import backend, bilinear, roi_pool

Tensor = Any
SAMPLES = 2


def features(
    maps: Sequence[Tensor],
    boxes: Tensor,
    indices: Tensor,
    chosen: Tensor,
    size: tuple[int, int],
    *,
    form: str = "corners",
    aligned: Callable[..., Tensor] | None = None,
) -> Tensor:
    """Return the features of boxes, each from its own map: (M, 4) -> (M, h, w, C) float32.

    Args:
        maps: (B, H', W', C) each.
        boxes: normalized; inclusive for the form "corners", else in fractions of the map.
        indices: (M,) int32, the image of each box. chosen: (M,) int32, its index into maps.
        size: (h, w).
        form: One of `conventions.ROI_FEATURES`.
        aligned: The function that averages samples: `crop` (None), or `sampled`, which rounds
            positions like torchvision, but is several times slower.
    """

    def of_map(features: Tensor, boxes: Tensor, indices: Tensor) -> Tensor:
        if form == "corners":
            return backend.operations().crop_and_resize(features, boxes, indices, size)
        extent = ops.cast(ops.shape(features)[1:3], "float32")
        cells = boxes * ops.concatenate([extent, extent])
        if form == "pool":
            return roi_pool.pool(features, cells, indices, size)
        if form in ("warp", "warp_max"):
            cells = roi_pool.round_to_cells(cells)
        if form in ("aligned_max", "warp_max"):
            return crop(features, cells, indices, size, SAMPLES, half_pixel=True, largest=True)
        take = aligned or crop
        return take(features, cells, indices, size, SAMPLES, half_pixel=form != "unaligned")

    return backend.operations().by_level(of_map, maps, boxes, indices, chosen)


def crop(
    features: Tensor,
    boxes: Tensor,
    indices: Tensor,
    size: tuple[int, int],
    samples: int,
    *,
    half_pixel: bool,
    largest: bool = False,
) -> Tensor:
    """Return the same as `sampled` with a single crop: the samples of a box are a regular grid.

    The crop works in fractions of the map, which rounds sample positions a few times: for features
    of magnitude 1 the results differ by up to 1e-4.

    Args:
        largest: Take the maximum of a bin's samples instead of their mean.
    """
    low, high = _corners(boxes, half_pixel=half_pixel)
    counts = (size[0] * samples, size[1] * samples)
    half = (high - low) / (2.0 * ops.convert_to_tensor(counts, "float32"))
    # Doubling the border cells gives edge padding for one cell, and 0 beyond.
    features = ops.pad(features, [[0, 0], [1, 1], [1, 1], [0, 0]], mode="symmetric")
    last = ops.cast(ops.shape(features)[1:3], "float32") - 1.0
    grid = ops.concatenate([(low + half + 1.0) / last, (high - half + 1.0) / last], axis=1)
    crops = backend.operations().crop_and_resize(features, grid, indices, counts)
    pooled = ops.max_pool if largest else ops.average_pool
    return pooled(crops, samples, samples)


def sampled(
    features: Tensor,
    boxes: Tensor,
    indices: Tensor,
    size: tuple[int, int],
    samples: int | None,
    *,
    half_pixel: bool,
    most: int | None = None,
) -> Tensor:
    """Return the mean of a regular grid of samples per bin: (M, 4) -> (M, h, w, C).

    Edge padding up to one cell beyond the map, zero padding further out, as in torchvision's and
    detectron2's roi_align.

    Args:
        features: (B, H', W', C). boxes: (M, 4), cells of the map.
        samples: Per bin and direction; None for one per cell, rounded up, depending on the box:
            every box then takes the memory of the largest.
        most: Maximum of samples if their number depends on the box; determines the memory.
        half_pixel: A cell's value is at its centre, else at its top left corner.
    """
    low, high = _corners(boxes, half_pixel=half_pixel)
    shape = ops.shape(features)
    rows = _bin_taps(low[:, 0], high[:, 0], size[0], samples, shape[1], most)
    cols = _bin_taps(low[:, 1], high[:, 1], size[1], samples, shape[2], most)
    cells = ops.reshape(features, (-1, features.shape[-1]))
    first = (indices * shape[1] * shape[2])[:, None, None]
    total = 0.0
    for row, row_weight in rows:
        for col, col_weight in cols:
            values = ops.take(cells, first + row[:, :, None] * shape[2] + col[:, None, :], axis=0)
            total += values * (row_weight[:, :, None] * col_weight[:, None, :])[..., None]
    bins = (ops.shape(total)[1] // size[0], ops.shape(total)[2] // size[1])
    total = ops.reshape(total, (-1, size[0], bins[0], size[1], bins[1], features.shape[-1]))
    return ops.sum(total, axis=(2, 4))


def _corners(boxes: Tensor, *, half_pixel: bool) -> tuple[Tensor, Tensor]:
    low, high = boxes[:, :2], boxes[:, 2:]
    if half_pixel:
        return low - 0.5, high - 0.5
    return low, ops.maximum(high, low + 1.0)


def _bin_taps(
    low: Tensor,
    high: Tensor,
    count: int,
    samples: int | None,
    extent: Tensor,
    most: int | None = None,
) -> bilinear.Taps:
    """Return the taps of the samples of bins along an axis: (M,) -> (M, count * samples) each.

    The weights of a bin sum to 1. If boxes have different numbers of samples, those with fewer are
    padded with samples of weight 0.

    Args:
        low, high: (M,), the ends of the boxes in cells. extent: Number of cells.
    """
    side = (high - low) / count
    number = ops.full_like(side, samples or 1)
    if samples is None and most is not None:
        number, samples = ops.minimum(ops.ceil(side), most), most
    elif samples is None:
        number = ops.ceil(side)
        samples = ops.maximum(ops.cast(ops.max(number), "int32"), 1)
    bins = low[:, None] + ops.arange(count, dtype="float32") * side[:, None]
    places = ops.arange(samples, dtype="float32")
    divisor = ops.maximum(number, 1.0)[:, None]
    within = (places + 0.5) * (side[:, None] / divisor)
    weights = ops.cast(places < number[:, None], "float32") / divisor
    position = ops.reshape(bins[:, :, None] + within[:, None, :], (-1, count * samples))
    weights = ops.reshape(ops.tile(weights[:, None, :], (1, count, 1)), ops.shape(position))
    return bilinear.taps(position, extent, bilinear.near(position, extent) * weights)
