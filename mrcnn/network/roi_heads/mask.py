"""Mask head: head, targets, loss (Mask R-CNN, He et al. 2017, section 3)."""

from collections.abc import Sequence
from typing import Any

from keras import layers, ops

from mrcnn.network.layers import time_distributed
from mrcnn.network.layers.head_layers import HeadLayers
from mrcnn.network.layers.roi_align import PyramidROIAlign
from mrcnn.network.layers.time_distributed import TimeDistributed
from mrcnn.network.ops import backend, gathers, reductions, roi_align

Tensor = Any
# Samples per cell and direction for "shares" targets: torchvision takes one per pixel, so that
# targets of boxes up to four times their size match torchvision's exactly.
MOST_SAMPLES = 4


def convolutions(channels: int, norms: HeadLayers) -> list[layers.Layer]:
    """Return four 3x3 convolutions: (B, N, h, w, C) -> (B, N, h, w, channels)."""
    trunk: list[layers.Layer] = []
    for i in range(1, 5):
        trunk += norms.conv(f"mrcnn_mask_conv{i}", f"mrcnn_mask_bn{i}", channels, 3)
    return trunk


class MaskHead:
    """Upsampling and mask prediction from RoI features; shared by both graphs."""

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
            num_masks: K, one per class including background; or 1 for class-agnostic masks.
            roi_align: Extracts the RoI features; masks are twice as large.
            trunk: Layers in between, see `convolutions`.
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
            rows: See `time_distributed.apply_layers`.
        """
        features = self.roi_align([rois, image_meta, *maps])
        features = time_distributed.apply_layers(self.trunk, features, rows)
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
    """Return the mask target of each RoI, cropped from its object's mask, 0 to 1: (B, M, h, w).

    Args:
        rois: (B, M, 4) normalized.
        gt_boxes: (B, G, 4) normalized.
        gt_masks: (B, G, h', w'): mini-masks inside gt_boxes, or masks of the whole input.
        matched: (B, M) int, the object of each RoI.
        form: One of `conventions.MASK_TARGETS`. With mini-masks, "shares" needs RoIs shifted by
            half an input pixel, since mini-masks do not know the size of a pixel.
    """
    if uses_mini_masks:
        rois = _relative(rois, gathers.gather_rows(gt_boxes, matched))
    shape = ops.shape(gt_masks)
    image = ops.arange(shape[0], dtype="int32")[:, None] * shape[1]
    planes = ops.reshape(ops.cast(gt_masks, "float32"), (-1, shape[2], shape[3], 1))
    rois_, index = ops.reshape(rois, (-1, 4)), ops.cast(matched, "int32")
    index = ops.reshape(image + index, (-1,))
    if form == "corners":
        crops = backend.operations().crop_and_resize(planes, rois_, index, mask_shape)
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
    """Return masks sampled in the cells of RoIs (N, 4), in fractions of the mask planes."""
    extent = ops.cast(ops.shape(planes)[1:3], "float32")
    cells = rois * ops.concatenate([extent, extent])
    samples, most = (None, MOST_SAMPLES) if form == "shares" else (1, None)
    if form == "shares" and not uses_mini_masks:  # exactly torchvision's operation
        return roi_align.sampled(
            planes, cells, index, mask_shape, samples, half_pixel=False, most=most
        )
    # Zero padding around a mask, unlike the edge padding around features.
    planes = ops.pad(planes, [[0, 0], [1, 1], [1, 1], [0, 0]])
    return roi_align.sampled(
        planes, cells + 1.0, index, mask_shape, samples, half_pixel=True, most=most
    )


def mask_loss(
    target_masks: Tensor,
    target_class_ids: Tensor,
    logits: Tensor,
    across_replicas: reductions.AcrossReplicas,
    loss: str = "sigmoid",
) -> Tensor:
    """Return the mean cross-entropy of the masks of positive RoIs.

    Args:
        target_masks: (B, M, h, w), between 0 and 1.
        target_class_ids: (B, M), 0 for background and padding.
        logits: (B, M, h, w, K), since clipped probabilities would give no gradient to a cell that
            is confidently wrong; K = 1 for class-agnostic masks.
        loss: One of `conventions.MASK_LOSSES`.
    """
    if loss == "softmax":
        class_ids = ops.where(target_masks > 0.5, target_class_ids[:, :, None, None], 0)
        entropy = ops.sparse_categorical_crossentropy(class_ids, logits, from_logits=True)
    else:
        own = target_class_ids if logits.shape[-1] > 1 else ops.zeros_like(target_class_ids)
        logits = gathers.of_class(logits[..., None], own)[..., 0]
        # -t log(sigmoid(x)) - (1 - t) log(1 - sigmoid(x))
        entropy = ops.softplus(logits) - target_masks * logits
    weights = (target_class_ids > 0)[:, :, None, None]
    return reductions.masked_mean(entropy, weights, across_replicas)


def _relative(rois: Tensor, boxes: Tensor) -> Tensor:
    """Return RoIs relative to their boxes: in the frame where each box is (0, 0, 1, 1)."""
    low, size = boxes[..., :2], boxes[..., 2:] - boxes[..., :2]
    size = ops.where(size > 0, size, 1.0)
    return ops.concatenate([(rois[..., :2] - low) / size, (rois[..., 2:] - low) / size], axis=-1)
