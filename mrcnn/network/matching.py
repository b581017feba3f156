"""Matching and sampling: which anchors and RoIs learn from which objects.

Randomness is a function of a seed an image, so that a sample does not depend on the batch, the
device or the worker it meets, and every device draws what one device would draw.
"""

from collections.abc import Callable
from typing import Any

from keras import ops

from mrcnn.geometry import boxes as box_math

Tensor = Any
# The share of its own area from which on a box is of a crowd: the lowest of the thresholds at which
# COCO's evaluation (pycocotools, iscrowd) ignores a detection that lies in a crowd.
CROWD_SHARE = 0.5
# Sums a count over the replicas of a distributed step; the identity on one device.
AcrossReplicas = Callable[[Tensor], Tensor]


def on_one_device(count: Tensor) -> Tensor:
    """Return the count itself: the `across_replicas` of a step on one device."""
    return count


def uniform_noise(seeds: Tensor, count: int | Tensor, stream: int) -> Tensor:
    """Return numbers in [0, 1) that depend on seed, position and stream only: (B,) -> (B, count).

    A counter hashed by two rounds of multiply and xorshift (the low-bias constants of
    C. Wellons' hash-prospector, 2018).

    Args:
        seeds: (B,) non-negative integers.
        stream: Tells apart several draws for one image.
    """
    position = ops.cast(ops.arange(count), "uint32")[None, :]
    state = ops.cast(seeds, "uint32")[:, None] + _uint32(stream * 0x9E3779B9)
    state = _mix(state) + position
    return ops.cast(ops.right_shift(_mix(state), _uint32(8)), "float32") * 2.0**-24


def best_match(overlaps: Tensor, is_object: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest IoU of each box and the object it is with: (B, N, G) -> (B, N), (B, N).

    Args:
        is_object: (B, G) bool; padding and crowds never match. A box without any object gets -1.
    """
    overlaps = ops.where(is_object[:, None, :], overlaps, -1.0)
    return ops.max(overlaps, axis=-1), ops.argmax(overlaps, axis=-1)


def lies_in_crowd(boxes: Tensor, gt_class_ids: Tensor, gt_boxes: Tensor) -> Tensor:
    """Return which boxes lie in a crowd region, to be ignored: (B or 1, N, 4) -> (B, N).

    A crowd counts by the share of the box's own area that is inside: a small box in a large crowd
    is one of its objects, however small its IoU with all of them.

    Args:
        gt_class_ids: (B, G), negative for crowds. gt_boxes: (B, G, 4), in the frame of the boxes.
    """
    is_crowd = (gt_class_ids < 0)[:, None, :]
    inside = box_math.share_inside(boxes, gt_boxes, ops) >= CROWD_SHARE
    return ops.any(is_crowd & inside, axis=-1)


def keep_random(candidates: Tensor, count: Tensor, most: int, noise: Tensor) -> Tensor:
    """Return a random `count` of the candidates of each row, all where there are fewer.

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


def gather_rows(values: Tensor, index: Tensor) -> Tensor:
    """Return chosen rows of each image: (B, N, C), (B, M) -> (B, M, C).

    One gather of whole rows; `ops.take_along_axis` would fetch every number by itself.
    """
    batch, count, channels = ops.shape(values)
    start = ops.arange(batch, dtype="int32")[:, None] * count
    rows = ops.reshape(values, (-1, channels))
    return ops.take(rows, start + ops.cast(index, "int32"), axis=0)


def of_class(values: Tensor, class_ids: Tensor) -> Tensor:
    """Return what each roi predicts for its class: (B, R, ..., K, C), (B, R) -> (B, R, ..., C)."""
    chosen = ops.one_hot(class_ids, values.shape[-2], dtype=values.dtype)
    lead = (1,) * (len(values.shape) - 4)
    chosen = ops.reshape(chosen, (*ops.shape(class_ids), *lead, values.shape[-2], 1))
    return ops.sum(values * chosen, axis=-2)


def masked_mean(values: Tensor, weights: Tensor, across_replicas: AcrossReplicas) -> Tensor:
    """Return this replica's share of the weighted mean over the global batch; 0 without weight.

    The shares of all replicas sum to the mean, as their gradients do, so that a loss does not
    depend on how a batch is divided over devices.
    """
    weights = ops.broadcast_to(ops.cast(weights, "float32"), ops.shape(values))
    return masked_share(values, weights, ops.sum(weights), across_replicas)


def masked_share(
    values: Tensor, weights: Tensor, divisor: Tensor, across_replicas: AcrossReplicas
) -> Tensor:
    """Return this replica's share of a weighted sum over the global batch, divided.

    Args:
        divisor: This replica's part of what the sum is divided by; at least 1 in the whole.
    """
    weights = ops.broadcast_to(ops.cast(weights, "float32"), ops.shape(values))
    total = across_replicas(ops.cast(divisor, "float32"))
    # where, not multiply: an infinite value in a row without weight must not become NaN.
    weighted = ops.where(weights > 0, values * weights, 0.0)
    return ops.sum(weighted) / ops.maximum(total, 1.0)


def smooth_l1(targets: Tensor, predictions: Tensor, beta: float = 1.0) -> Tensor:
    """Return the element-wise smooth L1 distance (Fast R-CNN, Girshick 2015, equation 3).

    Args:
        beta: Distance from which on it is linear, as in torchvision's smooth_l1_loss; 0 for L1.
    """
    distance = ops.abs(targets - predictions)
    if not beta:
        return distance
    return ops.where(distance < beta, 0.5 * distance * distance / beta, distance - 0.5 * beta)


def _mix(state: Tensor) -> Tensor:
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        state = ops.bitwise_xor(state, ops.right_shift(state, _uint32(shift))) * _uint32(factor)
    return ops.bitwise_xor(state, ops.right_shift(state, _uint32(16)))


def _uint32(value: int) -> Tensor:
    return ops.convert_to_tensor(value % 2**32, dtype="uint32")
