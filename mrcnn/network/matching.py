"""Matching and sampling: which anchors and RoIs are trained on which objects.

Randomness is a function of one seed per image, so that a sample does not depend on the batch, the
device or the worker, and N devices draw the same samples as one.
"""

from typing import Any

from keras import ops

from mrcnn.geometry import boxes as box_math

Tensor = Any
# The fraction of its area from which a box counts as part of a crowd: the lowest threshold at which
# COCO's evaluation (pycocotools, iscrowd) ignores a detection in a crowd.
CROWD_SHARE = 0.5


def uniform_noise(seeds: Tensor, count: int | Tensor, stream: int) -> Tensor:
    """Return noise in [0, 1) that depends on seed, position and stream only: (B,) -> (B, count).

    A counter hashed by two rounds of multiply and xorshift (the low-bias constants of
    C. Wellons' hash-prospector, 2018).

    Args:
        seeds: (B,) non-negative integers.
        stream: Distinguishes several draws for one image.
    """
    position = ops.cast(ops.arange(count), "uint32")[None, :]
    state = ops.cast(seeds, "uint32")[:, None] + _uint32(stream * 0x9E3779B9)
    state = _mix(state) + position
    return ops.cast(ops.right_shift(_mix(state), _uint32(8)), "float32") * 2.0**-24


def best_match(overlaps: Tensor, is_object: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest IoU of each box and the matched object: (B, N, G) -> (B, N), (B, N).

    Args:
        is_object: (B, G) bool; padding and crowds never match. Without objects the IoU is -1.
    """
    overlaps = ops.where(is_object[:, None, :], overlaps, -1.0)
    return ops.max(overlaps, axis=-1), ops.argmax(overlaps, axis=-1)


def lies_in_crowd(boxes: Tensor, gt_class_ids: Tensor, gt_boxes: Tensor) -> Tensor:
    """Return which boxes lie in a crowd region, to be ignored: (B or 1, N, 4) -> (B, N).

    The criterion is the fraction of the box's own area inside the crowd: a small box in a large
    crowd counts as one of its objects, however small their IoU.

    Args:
        gt_class_ids: (B, G), negative for crowds. gt_boxes: (B, G, 4), in the frame of the boxes.
    """
    is_crowd = (gt_class_ids < 0)[:, None, :]
    inside = box_math.share_inside(boxes, gt_boxes, ops) >= CROWD_SHARE
    return ops.any(is_crowd & inside, axis=-1)


def keep_random(candidates: Tensor, count: Tensor, most: int, noise: Tensor) -> Tensor:
    """Return a random subset of `count` candidates per row, or all if there are fewer.

    Args:
        candidates: (B, N) bool.
        count: (B,) int, at most `most`.
        most: Upper bound of count, known when the graph is built.
        noise: (B, N) in [0, 1).
    """
    priority = ops.where(candidates, noise, -1.0)
    highest = ops.top_k(priority, most)[0]
    last = ops.take_along_axis(highest, ops.maximum(count - 1, 0)[:, None], axis=1)
    return candidates & (priority >= last) & (count > 0)[:, None]


def _mix(state: Tensor) -> Tensor:
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        state = ops.bitwise_xor(state, ops.right_shift(state, _uint32(shift))) * _uint32(factor)
    return ops.bitwise_xor(state, ops.right_shift(state, _uint32(16)))


def _uint32(value: int) -> Tensor:
    return ops.convert_to_tensor(value % 2**32, dtype="uint32")
