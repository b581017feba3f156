"""Matterport's functions on tensors: losses, frames, meta records, rows of padding."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from mrcnn.config import Config
from mrcnn.geometry import boxes as box_math
from mrcnn.network.ops import gathers, reductions
from mrcnn.network.roi_heads import box as box_head
from mrcnn.network.roi_heads import mask as mask_head
from mrcnn.network.rpn import losses as rpn_losses

Tensor = Any


def smooth_l1_loss(y_true: Tensor, y_pred: Tensor) -> Tensor:
    """Return the element-wise smooth L1 distance, same shape."""
    return reductions.smooth_l1(y_true, y_pred)


def rpn_class_loss_graph(rpn_match: Tensor, rpn_class_logits: Tensor) -> Tensor:
    """Return the RPN's class loss: match (B, N, 1) of 1, -1, 0, logits (B, N, 2) -> scalar."""
    return rpn_losses.class_loss(rpn_match[..., 0], rpn_class_logits, reductions.on_one_device)


def rpn_bbox_loss_graph(
    config: Config,  # noqa: ARG001 (Matterport's signature)
    target_bbox: Tensor,
    rpn_match: Tensor,
    rpn_bbox: Tensor,
) -> Tensor:
    """Return the RPN's box loss.

    Args:
        target_bbox: (B, M, 4), row k for the k-th anchor whose match is 1.
        rpn_match: (B, N, 1).
        rpn_bbox: (B, N, 4).
    """
    match = rpn_match[..., 0]
    place = ops.cumsum(ops.cast(match == 1, "int32"), axis=1) - 1
    place = ops.clip(place, 0, target_bbox.shape[1] - 1)
    targets = gathers.gather_rows(target_bbox, place)
    return rpn_losses.box_loss(targets, match, rpn_bbox, reductions.on_one_device)


def mrcnn_class_loss_graph(
    target_class_ids: Tensor, pred_class_logits: Tensor, active_class_ids: Tensor
) -> Tensor:
    """Return the class loss of all rois: (B, R), (B, R, K), (B, K) -> scalar."""
    weights = ops.ones(ops.shape(target_class_ids), "float32")
    return box_head.class_loss(
        target_class_ids, pred_class_logits, active_class_ids, weights, reductions.on_one_device
    )


def mrcnn_bbox_loss_graph(
    target_bbox: Tensor, target_class_ids: Tensor, pred_bbox: Tensor
) -> Tensor:
    """Return the box loss of positive rois: (B, R, 4), (B, R), (B, R, K, 4) -> scalar."""
    class_ids = ops.cast(target_class_ids, "int32")
    return box_head.box_loss(target_bbox, class_ids, pred_bbox, reductions.on_one_device)


def mrcnn_mask_loss_graph(
    target_masks: Tensor, target_class_ids: Tensor, pred_masks: Tensor
) -> Tensor:
    """Return the mask loss of positive rois: (B, R, h, w), (B, R), (B, R, h, w, K) -> scalar.

    Args:
        pred_masks: Probabilities, which are clipped as in the original.
    """
    class_ids = ops.cast(target_class_ids, "int32")
    lowest = keras.config.epsilon()
    probs = ops.clip(pred_masks, lowest, 1.0 - lowest)
    logits = ops.log(probs) - ops.log(1.0 - probs)
    return mask_head.mask_loss(target_masks, class_ids, logits, reductions.on_one_device)


def log2_graph(x: Tensor) -> Tensor:
    """Return the logarithm to base 2, same shape."""
    return ops.log(x) / math.log(2.0)


def parse_image_meta_graph(meta: Tensor) -> dict[str, Tensor]:
    """Return the fields of meta records (B, 12 + K) by name."""
    return {
        "image_id": meta[:, 0],
        "original_image_shape": meta[:, 1:4],
        "image_shape": meta[:, 4:7],
        "window": meta[:, 7:11],
        "scale": meta[:, 11],
        "active_class_ids": meta[:, 12:],
    }


def norm_boxes_graph(boxes: Tensor, shape: Tensor) -> Tensor:
    """Return pixel boxes in the normalized frame: (..., 4), (2,) height and width -> (..., 4)."""
    scale = ops.cast(ops.convert_to_tensor(shape), "float32")
    scale = ops.concatenate([scale, scale]) - 1.0
    shift = ops.convert_to_tensor([0.0, 0.0, 1.0, 1.0])
    return (ops.cast(boxes, "float32") - shift) / scale


def denorm_boxes_graph(boxes: Tensor, shape: Tensor) -> Tensor:
    """Return normalized boxes in whole pixels, int32: (..., 4), (2,) -> (..., 4)."""
    scale = ops.cast(ops.convert_to_tensor(shape), "float32")
    scale = ops.concatenate([scale, scale]) - 1.0
    shift = ops.convert_to_tensor([0.0, 0.0, 1.0, 1.0])
    return ops.cast(ops.round(boxes * scale + shift), "int32")


def trim_zeros_graph(boxes: Tensor, name: str = "trim_zeros") -> tuple[Tensor, Tensor]:
    """Return the rows of one image that are not all zero, and which they are: (n, 4), (N,) bool.

    Eager only: the number of rows depends on the data.
    """
    del name
    boxes = ops.convert_to_tensor(boxes)
    is_real = ops.sum(ops.abs(boxes), axis=1) > 0
    return ops.take(boxes, ops.nonzero(is_real)[0], axis=0), is_real


def batch_pack_graph(x: Tensor, counts: Sequence[int], num_rows: int) -> Tensor:
    """Return the first counts[i] rows of each x[i], one after the other."""
    return ops.concatenate([x[i, : counts[i]] for i in range(num_rows)], axis=0)


def box_refinement_graph(box: Tensor, gt_box: Tensor) -> Tensor:
    """Return the deltas that turn boxes into gt_boxes: (N, 4), (N, 4) -> (N, 4)."""
    box, gt_box = ops.cast(box, "float32"), ops.cast(gt_box, "float32")
    return box_math.encode(box, gt_box, ops)
