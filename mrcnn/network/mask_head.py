"""Mask head: head, targets, loss (Mask R-CNN, He et al. 2017, section 3)."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, ops

from mrcnn.network import backend_ops, matching, roi_align
from mrcnn.network.geometry_layer import GeometryLayer
from mrcnn.network.norms import Norms
from mrcnn.network.roi_align import PyramidROIAlign, TimeDistributed

Tensor = Any
# Samples in each direction of a cell where it learns the share that is covered: torchvision takes
# one a pixel, so that masks of boxes up to four times the size of the targets are exactly its.
MOST_SAMPLES = 4


def convolutions(channels: int, norms: Norms) -> list[layers.Layer]:
    """Return four 3x3 convolutions: (B, N, h, w, C) -> (B, N, h, w, channels)."""
    trunk: list[layers.Layer] = []
    for i in range(1, 5):
        trunk += norms.conv(f"mrcnn_mask_conv{i}", f"mrcnn_mask_bn{i}", channels, 3)
    return trunk


class MaskHead:
    """An upsampling and masks, from features of rois; shared by both graphs."""

    def __init__(
        self,
        num_masks: int,
        channels: int,
        roi_align: PyramidROIAlign,
        trunk: Sequence[layers.Layer],
        loss: str = "sigmoid",
    ) -> None:
        """Create the layers.

        Args:
            num_masks: K, one a class, the background included; or 1 for all classes.
            roi_align: Takes the features; masks are twice as large.
            trunk: Layers between, see `convolutions`.
            loss: One of `conventions.MASK_LOSSES`.
        """
        self.roi_align = roi_align
        deconv = layers.Conv2DTranspose(channels, 2, 2, activation="relu", name="mrcnn_mask_deconv")
        masks = layers.Conv2D(num_masks, 1, dtype="float32", name="mrcnn_mask")
        self.trunk = [*trunk, TimeDistributed(deconv)]
        self.masks = TimeDistributed(masks, activation=loss)

    def __call__(
        self,
        rois: Tensor,
        image_meta: Tensor,
        maps: Sequence[Tensor],
        rows: Tensor | None = None,
        *,
        as_logits: bool = False,
    ) -> Tensor:
        """Return mask probabilities, or their logits: (B, N, 4) -> (B, N, h, w, K).

        Args:
            rows: See `roi_align.through`.
        """
        features = self.roi_align([rois, image_meta, *maps])
        features = roi_align.through(self.trunk, features, rows)
        return self.masks(features, as_logits=as_logits)


def targets(
    rois: Tensor,
    gt_boxes: Tensor,
    gt_masks: Tensor,
    matched: Tensor,
    *,
    mask_shape: tuple[int, int],
    uses_mini_masks: bool,
    form: str = "corners",
) -> Tensor:
    """Return the part of its object's mask that each roi sees, from 0 to 1: (B, M, h, w).

    Args:
        rois: (B, M, 4) normalized.
        gt_boxes: (B, G, 4) normalized.
        gt_masks: (B, G, h', w'): mini-masks inside gt_boxes, or of the whole input.
        matched: (B, M) int, the object of each roi.
        form: One of `conventions.MASK_TARGETS`. Of mini-masks, "shares" takes rois that are half a
            pixel of the input further, since how large a pixel is they do not tell.
    """
    if uses_mini_masks:
        rois = _relative(rois, matching.gather_rows(gt_boxes, matched))
    shape = ops.shape(gt_masks)
    image = ops.arange(shape[0], dtype="int32")[:, None] * shape[1]
    planes = ops.reshape(ops.cast(gt_masks, "float32"), (-1, shape[2], shape[3], 1))
    rois_, index = ops.reshape(rois, (-1, 4)), ops.cast(matched, "int32")
    index = ops.reshape(image + index, (-1,))
    if form == "corners":
        crops = backend_ops.operations().crop_and_resize(planes, rois_, index, mask_shape)
    else:
        crops = _sampled(planes, rois_, index, mask_shape, uses_mini_masks, form)
    crops = ops.reshape(crops, (*ops.shape(rois)[:2], *mask_shape))
    return crops if form == "shares" else ops.round(crops)


def _sampled(
    planes: Tensor,
    rois: Tensor,
    index: Tensor,
    mask_shape: tuple[int, int],
    uses_mini_masks: bool,
    form: str,
) -> Tensor:
    """Return masks in cells of rois (N, 4), in fractions of the planes, as RoIAlign samples."""
    extent = ops.cast(ops.shape(planes)[1:3], "float32")
    cells = rois * ops.concatenate([extent, extent])
    samples, most = (None, MOST_SAMPLES) if form == "shares" else (1, None)
    if form == "shares" and not uses_mini_masks:  # torchvision's own call
        return roi_align.sampled(
            planes, cells, index, mask_shape, samples, half_pixel=False, most=most
        )
    # Around a mask there is nothing, where around features their border goes on.
    planes = ops.pad(planes, [[0, 0], [1, 1], [1, 1], [0, 0]])
    return roi_align.sampled(
        planes, cells + 1.0, index, mask_shape, samples, half_pixel=True, most=most
    )


def mask_loss(
    target_masks: Tensor,
    target_class_ids: Tensor,
    logits: Tensor,
    across_replicas: matching.AcrossReplicas,
    loss: str = "sigmoid",
) -> Tensor:
    """Return the mean cross-entropy of the masks of positive rois.

    Args:
        target_masks: (B, M, h, w), between 0 and 1.
        target_class_ids: (B, M), 0 for background and padding.
        logits: (B, M, h, w, K), from which a wrong cell learns however certain it is, as it would
            not from probabilities that are clipped; K = 1 for masks without class.
        loss: One of `conventions.MASK_LOSSES`.
    """
    if loss == "softmax":
        class_ids = ops.where(target_masks > 0.5, target_class_ids[:, :, None, None], 0)
        entropy = ops.sparse_categorical_crossentropy(class_ids, logits, from_logits=True)
    else:
        own = target_class_ids if logits.shape[-1] > 1 else ops.zeros_like(target_class_ids)
        logits = matching.of_class(logits[..., None], own)[..., 0]
        # -t log(sigmoid(x)) - (1 - t) log(1 - sigmoid(x))
        entropy = ops.softplus(logits) - target_masks * logits
    weights = (target_class_ids > 0)[:, :, None, None]
    return matching.masked_mean(entropy, weights, across_replicas)


@keras.saving.register_keras_serializable("mrcnn")
class TrimDetections(GeometryLayer):
    """The boxes of detections, without the padding that all images of the batch share.

    (B, D, 6) -> (B, D', 4) with 1 <= D' <= D: masks are computed for these only. D' = D where
    shapes must be known.
    """

    def call(self, detections):
        if backend_ops.is_static():
            return detections[:, :, :4]
        found = ops.sum(ops.cast(detections[:, :, 4] > 0, "int32"), axis=1)
        # An empty batch would be an edge case for every layer that follows.
        return detections[:, : ops.maximum(ops.max(found), 1), :4]

    def compute_output_shape(self, input_shape):
        return (input_shape[0], None, 4)


@keras.saving.register_keras_serializable("mrcnn")
class TrimPositives(GeometryLayer):
    """The leading rows of tensors up to the last positive roi of any image of the batch.

    Called on [class ids (B, R), tensors (B, M, ...)...], where positive rois come first; returns
    the tensors as (B, M', ...) with 1 <= M' <= M, a multiple of `step` unless it is M. The heads
    that learn from positive rois alone then run on few others. M' = M where shapes must be known.

    Args:
        step: Numbers of rows between are rounded up, so that devices which prepare for every
            shape see few.
    """

    def __init__(self, step=8, **kwargs):
        super().__init__(**kwargs)
        self.step = step

    def call(self, inputs):
        class_ids, *tensors = inputs
        if backend_ops.is_static():
            return tensors
        positives = ops.max(ops.sum(ops.cast(class_ids > 0, "int32"), axis=1))
        # An empty batch would be an edge case for every layer that follows.
        rows = ops.maximum((positives + self.step - 1) // self.step, 1) * self.step
        return [tensor[:, :rows] for tensor in tensors]

    def compute_output_spec(self, inputs):
        return [
            keras.KerasTensor((tensor.shape[0], None, *tensor.shape[2:]), tensor.dtype)
            for tensor in inputs[1:]
        ]

    def get_config(self):
        return {**super().get_config(), "step": self.step}


@keras.saving.register_keras_serializable("mrcnn")
class PadMasks(GeometryLayer):
    """Masks padded with zeros to one row a detection: (B, D', h, w, K) -> (B, D, h, w, K)."""

    def __init__(self, max_detections, **kwargs):
        super().__init__(**kwargs)
        self.max_detections = max_detections

    def call(self, masks):
        missing = self.max_detections - ops.shape(masks)[1]
        padded = ops.pad(masks, [[0, 0], [0, missing], [0, 0], [0, 0], [0, 0]])
        return ops.reshape(padded, (-1, self.max_detections, *masks.shape[2:]))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.max_detections, *input_shape[2:])

    def get_config(self):
        return {**super().get_config(), "max_detections": self.max_detections}


def _relative(rois: Tensor, boxes: Tensor) -> Tensor:
    """Return rois in the frame in which each box is (0, 0, 1, 1)."""
    low, size = boxes[..., :2], boxes[..., 2:] - boxes[..., :2]
    size = ops.where(size > 0, size, 1.0)
    return ops.concatenate([(rois[..., :2] - low) / size, (rois[..., 2:] - low) / size], axis=-1)
