"""The losses of the RPN *(Faster R-CNN, equation 1)*."""

from typing import Any

from keras import ops

from mrcnn.network.ops import reductions

Tensor = Any


def class_loss(
    match: Tensor,
    logits: Tensor,
    across_replicas: reductions.AcrossReplicas,
    anchors_per_image: int | None = None,
) -> Tensor:
    """Return the mean cross-entropy of the sampled anchors: (B, N), (B, N, 2) -> scalar.

    Args:
        anchors_per_image: Nominal sample size, which the sum is divided by, as in detectron2; None
            for the actual one.
    """
    target = ops.cast(match == 1, "int32")
    entropy = ops.sparse_categorical_crossentropy(target, logits, from_logits=True)
    divisor = _count(match, anchors_per_image)
    return reductions.masked_share(entropy, match != 0, divisor, across_replicas)


def box_loss(
    target_deltas: Tensor,
    match: Tensor,
    deltas: Tensor,
    across_replicas: reductions.AcrossReplicas,
    *,
    beta: float = 1.0,
    divisor: str = "positives",
    anchors_per_image: int | None = None,
) -> Tensor:
    """Return the smooth L1 loss of foreground anchors: (B, N, 4), (B, N), (B, N, 4) -> scalar.

    Args:
        beta: See `reductions.smooth_l1`.
        divisor: One of `conventions.BOX_LOSS_DIVISORS`; anchors_per_image: nominal sample size.
    """
    distance = reductions.smooth_l1(target_deltas, deltas, beta)
    is_positive = (match == 1)[:, :, None]
    if divisor == "positives":
        return reductions.masked_mean(distance, is_positive, across_replicas)
    count = _count(match, anchors_per_image if divisor == "wanted" else None)
    return reductions.masked_share(distance, is_positive, count, across_replicas)


def _count(match: Tensor, anchors_per_image: int | None) -> Tensor:
    """Return the actual or the nominal number of sampled anchors of a batch."""
    if anchors_per_image is None:
        return ops.sum(ops.cast(match != 0, "float32"))
    return ops.cast(ops.shape(match)[0] * anchors_per_image, "float32")
