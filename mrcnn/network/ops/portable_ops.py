"""Crops and NMS in `keras.ops` with static shapes, which compile on any backend.

Each function returns the same as its namesake in `tensorflow_ops`. Gradients are derived by the
backend.
"""

from collections.abc import Callable, Sequence
from typing import Any

from keras import ops

from mrcnn.network.ops import bilinear, gathers

Tensor = Any
# Tile size of NMS: number of boxes whose pairs are all compared at once.
TILE = 1024


def crop_and_resize(
    features: Tensor, boxes: Tensor, indices: Tensor, size: tuple[int, int]
) -> Tensor:
    """Return bilinear crops: (B, H, W, C), (M, 4) -> (M, h, w, C).

    Samples lie on a grid whose corners are the corners of the box; outside the map they are 0.

    Args:
        features: float32.
        boxes: (M, 4) normalized. No gradient flows into them.
        indices: (M,) int32, the image of each box.
        size: Height and width of a crop, at least 2 each.
    """
    boxes = ops.stop_gradient(boxes)
    _, height, width, channels = features.shape
    rows = bilinear.corner_taps(boxes[:, 0], boxes[:, 2], size[0], height)
    cols = bilinear.corner_taps(boxes[:, 1], boxes[:, 3], size[1], width)
    cells = ops.reshape(features, (-1, channels))
    start = ops.cast(indices, "int32")[:, None, None] * (height * width)
    total = 0.0
    for row, row_weight in rows:
        for col, col_weight in cols:
            values = ops.take(cells, start + row[:, :, None] * width + col[:, None, :], axis=0)
            total += values * (row_weight[:, :, None] * col_weight[:, None, :])[..., None]
    return total


def weighted_rows(cells: Tensor, index: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
    """Return weighted sums of rows of each image: (B, S, C), K of (B, ...) -> (B, ..., C)."""
    total = 0.0
    for rows, weight in zip(index, weights, strict=True):
        flat = ops.reshape(rows, (ops.shape(rows)[0], -1))
        values = gathers.gather_rows(cells, flat)
        values = ops.reshape(values, (-1, *rows.shape[1:], cells.shape[-1]))
        total += values * weight[..., None]
    return total


def by_level(
    crop: Callable[[Tensor, Tensor, Tensor], Tensor],
    maps: Sequence[Tensor],
    boxes: Tensor,
    indices: Tensor,
    levels: Tensor,
) -> Tensor:
    """Return crops, each from the map of its box: (M, h, w, C). Crops all boxes from all maps.

    Args:
        crop: (map, boxes (m, 4), indices (m,)) -> (m, h, w, C).
        boxes: (M, 4). indices: (M,) int32, the image of each box.
        levels: (M,) int32, index into maps.
    """
    found = crop(maps[0], boxes, indices)
    for level, features in enumerate(maps[1:], start=1):
        is_here = (levels == level)[:, None, None, None]
        found = ops.where(is_here, crop(features, boxes, indices), found)
    return found


def suppress(
    boxes: Tensor, scores: Tensor, max_boxes: int, iou_threshold: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the boxes kept by greedy non-maximum suppression within each class.

    Args:
        boxes: (B, N, 1, 4), shared by the classes, or (B, N, K, 4).
        scores: (B, N, K); non-positive entries are ignored. Ties go to the first box, then to the
            first class.
        max_boxes: Number of rows returned per image, over all classes, highest scores first.
        iou_threshold: A box is dropped if its IoU with a higher-scoring one exceeds this.

    Returns:
        boxes (B, max_boxes, 4), scores (B, max_boxes) and classes (B, max_boxes) float32, zero
        padded.
    """
    boxes, scores = ops.stop_gradient(boxes), ops.stop_gradient(scores)
    _, count, classes = scores.shape
    boxes = ops.reshape(boxes, (-1, count * boxes.shape[2], 4))
    best, order = ops.top_k(ops.reshape(scores, (-1, count * classes)), count * classes)
    class_ids = order % classes
    of_box = order if boxes.shape[1] == count * classes else order // classes
    ordered = gathers.gather_rows(boxes, of_box)
    rows, number = _greedy(ordered, class_ids, best > 0, max_boxes, iou_threshold)
    is_kept = ops.arange(max_boxes, dtype="int32")[None] < number[:, None]
    kept = [
        ordered,
        best[..., None],
        ops.cast(class_ids, "float32")[..., None],
    ]
    boxes, best, classes = (
        ops.where(is_kept[..., None], gathers.gather_rows(values, rows), 0.0) for values in kept
    )
    return boxes, best[..., 0], classes[..., 0]


def kept_rows(boxes: Tensor, scores: Tensor, max_boxes: int, iou_threshold: float) -> Tensor:
    """Return the rows that `suppress` keeps of one image and class: (N, 4), (N,) -> (n,) int32.

    Cannot be compiled, since n depends on the data.
    """
    best, order = ops.top_k(ops.convert_to_tensor(scores), len(scores))
    ordered = ops.take(ops.convert_to_tensor(boxes), order, axis=0)[None]
    classes, is_candidate = ops.zeros_like(order)[None], ops.ones_like(best, dtype="bool")[None]
    rows, number = _greedy(ordered, classes, is_candidate, max_boxes, iou_threshold)
    return ops.take(order, rows[0, : int(number[0])])


def _greedy(
    boxes: Tensor, class_ids: Tensor, is_candidate: Tensor, max_boxes: int, iou_threshold: float
) -> tuple[Tensor, Tensor]:
    """Return the rows that greedy NMS keeps, and their number: (B, max_boxes), (B,) int32.

    Processes tiles of boxes until enough are kept or no candidate is left. Within a tile it starts
    from all boxes and iterates "keep the boxes that no kept box suppresses" to a fixed point: the
    greedy result, after as many iterations as the longest chain of overlapping boxes.

    Args:
        boxes: (B, N, 4), class_ids: (B, N), is_candidate: (B, N), highest scores first.
    """
    batch, count = ops.shape(class_ids)
    side = min(TILE, count)
    steps = -(-count // side)
    missing = [[0, 0], [0, steps * side - count]]
    boxes = ops.pad(boxes, [*missing, [0, 0]])
    class_ids, is_candidate = ops.pad(class_ids, missing), ops.pad(is_candidate, missing)
    slots = ops.arange(max_boxes, dtype="int32")[None]
    places = ops.arange(side, dtype="int32")
    begins_later = places[:, None] < places[None, :]

    def tile(values: Tensor, step: Tensor) -> Tensor:
        tiles = ops.reshape(values, (batch, steps, side, *values.shape[2:]))
        return ops.take(tiles, step, axis=1)

    def suppresses(better: tuple, others: tuple) -> Tensor:
        is_same = better[1][:, :, None] == others[1][:, None, :]
        return is_same & (_iou(better[0], others[0]) > iou_threshold)

    def has_more(step: Tensor, rows: Tensor, number: Tensor) -> Tensor:
        del rows
        is_left = ops.any(tile(is_candidate, ops.minimum(step, steps - 1)), axis=1)
        return (step < steps) & ops.any(is_left & (number < max_boxes))

    def take_tile(step: Tensor, rows: Tensor, number: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        here = tile(boxes, step), tile(class_ids, step)
        kept = gathers.gather_rows(boxes, rows), ops.take_along_axis(class_ids, rows, axis=1)
        by_kept = suppresses(kept, here) & (slots < number[:, None])[:, :, None]
        alive = tile(is_candidate, step) & ~ops.any(by_kept, axis=1)
        stays = _fixed_point(alive, suppresses(here, here) & begins_later)
        found = ops.sum(ops.cast(stays, "int32"), axis=1)
        order = ops.top_k(ops.cast(stays, "int32"), side)[1]
        place = slots - number[:, None]
        new = ops.take_along_axis(order, ops.clip(place, 0, side - 1), axis=1) + step * side
        is_new = (place >= 0) & (place < found[:, None])
        return step + 1, ops.where(is_new, new, rows), ops.minimum(number + found, max_boxes)

    start = (
        ops.zeros((), "int32"),
        ops.zeros((batch, max_boxes), "int32"),
        ops.zeros((batch,), "int32"),
    )
    _, rows, number = ops.while_loop(has_more, take_tile, start)
    return rows, number


def _fixed_point(alive: Tensor, suppresses: Tensor) -> Tensor:
    """Return which alive boxes are not suppressed by an earlier kept box: (B, T) -> (B, T)."""

    def sweep(kept: Tensor, changed: Tensor) -> tuple[Tensor, Tensor]:
        del changed
        fresh = alive & ~ops.any(suppresses & kept[:, :, None], axis=1)
        return fresh, ops.any(fresh != kept)

    return ops.while_loop(lambda _, changed: changed, sweep, (alive, ops.any(alive)))[0]


def _iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the IoU of all pairs; 0 for empty boxes: (B, M, 4), (B, N, 4) -> (B, M, N)."""
    low, high = _sorted(boxes[:, :, None])
    other_low, other_high = _sorted(others[:, None])
    side = ops.maximum(ops.minimum(high, other_high) - ops.maximum(low, other_low), 0.0)
    shared = side[..., 0] * side[..., 1]
    area = ops.prod(high - low, axis=-1)
    other_area = ops.prod(other_high - other_low, axis=-1)
    union = area + other_area - shared
    return ops.where((area > 0) & (other_area > 0), shared / ops.where(union > 0, union, 1.0), 0.0)


def _sorted(boxes: Tensor) -> tuple[Tensor, Tensor]:
    return (
        ops.minimum(boxes[..., :2], boxes[..., 2:]),
        ops.maximum(boxes[..., :2], boxes[..., 2:]),
    )
