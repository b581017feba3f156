"""Building blocks of the losses: distances, and means over the global batch."""

from collections.abc import Callable
from typing import Any

from keras import ops

Tensor = Any
# Sums a count over the replicas of a distributed step; the identity on one device.
AcrossReplicas = Callable[[Tensor], Tensor]


def on_one_device(count: Tensor) -> Tensor:
    """Return the count unchanged: the `across_replicas` of a step on one device."""
    return count


def masked_mean(values: Tensor, weights: Tensor, across_replicas: AcrossReplicas) -> Tensor:
    """Return this replica's share of the weighted mean over the global batch; 0 if no weight.

    The shares of all replicas sum to the mean, as do their gradients, so that a loss does not
    depend on how a batch is split over devices.
    """
    weights = ops.broadcast_to(ops.cast(weights, "float32"), ops.shape(values))
    return masked_share(values, weights, ops.sum(weights), across_replicas)


def masked_share(
    values: Tensor, weights: Tensor, divisor: Tensor, across_replicas: AcrossReplicas
) -> Tensor:
    """Return this replica's share of a weighted sum over the global batch, over a divisor.

    Args:
        divisor: This replica's part of the divisor, whose total is clamped to at least 1.
    """
    weights = ops.broadcast_to(ops.cast(weights, "float32"), ops.shape(values))
    total = across_replicas(ops.cast(divisor, "float32"))
    # where, not multiply: an infinite value in a row of weight 0 must not become NaN.
    weighted = ops.where(weights > 0, values * weights, 0.0)
    return ops.sum(weighted) / ops.maximum(total, 1.0)


def smooth_l1(targets: Tensor, predictions: Tensor, beta: float = 1.0) -> Tensor:
    """Return the element-wise smooth L1 distance (Fast R-CNN, Girshick 2015, equation 3).

    Args:
        beta: Distance beyond which it is linear, as in torchvision's smooth_l1_loss; 0 for L1.
    """
    distance = ops.abs(targets - predictions)
    if not beta:
        return distance
    return ops.where(distance < beta, 0.5 * distance * distance / beta, distance - 0.5 * beta)
