"""TensorFlow implementations of crops and NMS, with their gradients."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from keras import ops

from mrcnn.network.ops import bilinear, portable_ops


def compiled(model: Any) -> Callable[[Sequence[np.ndarray]], dict[str, tf.Tensor]]:
    """Return a model with a dict of outputs as a function, traced once for all input sizes."""
    signature = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in model.inputs]
    return tf.function(
        lambda inputs: model(inputs, training=False), input_signature=[signature], autograph=False
    )


def crop_and_resize(
    features: tf.Tensor, boxes: tf.Tensor, indices: tf.Tensor, size: tuple[int, int]
) -> tf.Tensor:
    """Return bilinear crops with an exact gradient: (B, H, W, C), (M, 4) -> (M, h, w, C).

    Samples lie on a grid whose corners are the corners of the box; outside the map they are 0.
    TensorFlow's own gradient of this operation accumulates without locks on several CPU threads,
    so that it is sometimes wrong (tensorflow#42033) and never reproducible; this one uses segment
    sums.

    Args:
        features: float32.
        boxes: (M, 4) normalized. No gradient flows into them.
        indices: (M,) int32, the image of each box.
        size: Height and width of a crop, at least 2 each.
    """
    boxes, indices = tf.stop_gradient(boxes), tf.stop_gradient(indices)

    @tf.custom_gradient
    def crop(features: tf.Tensor) -> tuple:
        shape = tf.shape(features)

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            return _scatter_crops(upstream, boxes, indices, shape)

        return tf.image.crop_and_resize(features, boxes, indices, size), gradient

    return crop(features)


def weighted_rows(
    cells: tf.Tensor, index: Sequence[tf.Tensor], weights: Sequence[tf.Tensor]
) -> tf.Tensor:
    """Return weighted sums of rows of each image: (B, S, C), K of (B, ...) -> (B, ..., C).

    No gradient flows into the weights; that of the cells is accumulated part by part, whereas the
    gradient that TensorFlow would derive holds one copy of the cells per part.

    Args:
        index: K of (B, ...) int32, rows of cells. weights: K of (B, ...).
    """

    @tf.custom_gradient
    def sums(cells: tf.Tensor) -> tuple:
        batch, count, channels = ops.shape(cells)
        start = tf.range(batch)[:, None] * count

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            total = tf.zeros([batch * count, channels], upstream.dtype)
            for rows, weight in zip(index, weights, strict=True):
                places = start + tf.reshape(rows, [batch, -1])
                values = tf.reshape(upstream * weight[..., None], [-1, channels])
                total = tf.tensor_scatter_nd_add(total, tf.reshape(places, [-1, 1]), values)
            return tf.reshape(total, [batch, count, channels])

        return portable_ops.weighted_rows(cells, index, weights), gradient

    return sums(cells)


def by_level(
    crop: Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor],
    maps: Sequence[tf.Tensor],
    boxes: tf.Tensor,
    indices: tf.Tensor,
    levels: tf.Tensor,
) -> tf.Tensor:
    """Return crops, each from the map of its box, in the order of the boxes: (M, h, w, C).

    Args:
        crop: (map, boxes (m, 4), indices (m,)) -> (m, h, w, C).
        boxes: (M, 4). indices: (M,) int32, the image of each box.
        levels: (M,) int32, index into maps.
    """
    if len(maps) == 1:
        return crop(maps[0], boxes, indices)
    rows = [tf.where(levels == level)[:, 0] for level in range(len(maps))]
    crops = [
        crop(features, tf.gather(boxes, chosen), tf.gather(indices, chosen))
        for features, chosen in zip(maps, rows, strict=True)
    ]
    stitched = tf.dynamic_stitch([tf.cast(chosen, tf.int32) for chosen in rows], crops)
    # Without any box, the stitched tensor is empty and of unknown shape.
    return tf.ensure_shape(stitched, (None, *crops[0].shape[1:]))


def suppress(
    boxes: tf.Tensor, scores: tf.Tensor, max_boxes: int, iou_threshold: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return the boxes kept by greedy non-maximum suppression within each class.

    Args:
        boxes: (B, N, 1, 4), shared by the classes, or (B, N, K, 4).
        scores: (B, N, K); non-positive entries are ignored.
        max_boxes: Number of rows returned per image, over all classes, highest scores first.
        iou_threshold: A box is dropped if its IoU with a higher-scoring one exceeds this.

    Returns:
        boxes (B, max_boxes, 4), scores (B, max_boxes) and classes (B, max_boxes) float32, zero
        padded.
    """
    kept = tf.image.combined_non_max_suppression(
        tf.stop_gradient(boxes),
        tf.stop_gradient(scores),
        max_output_size_per_class=max_boxes,
        max_total_size=max_boxes,
        iou_threshold=iou_threshold,
        score_threshold=0.0,
        clip_boxes=False,
    )
    return kept.nmsed_boxes, kept.nmsed_scores, kept.nmsed_classes


def kept_rows(
    boxes: tf.Tensor, scores: tf.Tensor, max_boxes: int, iou_threshold: float
) -> tf.Tensor:
    """Return the rows that `suppress` keeps of one image and class: (N, 4), (N,) -> (n,) int32."""
    return tf.image.non_max_suppression(boxes, scores, max_boxes, iou_threshold)


def _scatter_crops(
    upstream: tf.Tensor, boxes: tf.Tensor, indices: tf.Tensor, shape: tf.Tensor
) -> tf.Tensor:
    """Return the transpose of crop_and_resize applied to (M, h, w, C): (B, H, W, C)."""
    size = upstream.shape[1:3]
    rows = bilinear.corner_taps(boxes[:, 0], boxes[:, 2], size[0], shape[1])
    cols = bilinear.corner_taps(boxes[:, 1], boxes[:, 3], size[1], shape[2])
    start = indices[:, None, None] * shape[1] * shape[2]
    channels = shape[3]
    cells = shape[0] * shape[1] * shape[2]
    total = tf.zeros([cells, channels], upstream.dtype)
    for row, row_weight in rows:
        for col, col_weight in cols:
            cell = start + row[:, :, None] * shape[2] + col[:, None, :]
            weight = row_weight[:, :, None, None] * col_weight[:, None, :, None]
            total += tf.math.unsorted_segment_sum(
                tf.reshape(upstream * weight, [-1, channels]), tf.reshape(cell, [-1]), cells
            )
    return tf.reshape(total, shape)


def sum_over_replicas(value: tf.Tensor) -> tf.Tensor:
    """Return the sum of a tensor over the replicas of the current step, with its gradient."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return value
    return context.all_reduce(tf.distribute.ReduceOp.SUM, value)
