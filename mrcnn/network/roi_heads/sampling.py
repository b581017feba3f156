"""Targets of the second stage: sampled proposals with their class, box and mask targets."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from mrcnn.geometry import boxes as box_math
from mrcnn.network import matching
from mrcnn.network.layers.geometry_layer import GeometryLayer
from mrcnn.network.ops import gathers
from mrcnn.network.roi_heads import mask as mask_head

Tensor = Any
POSITIVE_IOU = 0.5


def sample_rois(
    proposals: Tensor,
    gt_class_ids: Tensor,
    gt_boxes: Tensor,
    seeds: Tensor,
    *,
    count: int,
    most_positive: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return a random sample of RoIs to train on, positives first.

    A RoI is positive if its IoU with an object is at least 0.5, and negative if it is less and
    less than half of its area is in a crowd. The ground truth boxes are added to the proposals, so
    that the heads get positives before the RPN is trained *(as in Fast R-CNN's reference code)*;
    negatives fill the remaining rows.

    Args:
        proposals: (B, P, 4) normalized; zero rows are padding and never chosen.
        gt_class_ids: (B, G), 0 padding, negative crowd.
        gt_boxes: (B, G, 4) normalized.
        seeds: (B,) random seeds of the sample.
        count: R; most_positive: maximum number of positive RoIs.

    Returns:
        rois (B, R, 4), class ids (B, R) int32 with 0 for negatives, the index of the matched
        object (B, R), and weights (B, R) float32, 0 for rows that could not be filled.
    """
    is_object = gt_class_ids > 0
    own_boxes = ops.where(is_object[:, :, None], gt_boxes, 0.0)
    proposals = ops.stop_gradient(ops.concatenate([own_boxes, proposals], axis=1))
    overlaps = box_math.iou(proposals, gt_boxes, ops)
    best_iou, matched = matching.best_match(overlaps, is_object)

    is_real = box_math.area(proposals, ops) > 0
    is_positive = is_real & (best_iou >= POSITIVE_IOU)
    is_in_crowd = matching.lies_in_crowd(proposals, gt_class_ids, gt_boxes)
    is_negative = is_real & ~is_positive & ~is_in_crowd
    noise = matching.uniform_noise(seeds, proposals.shape[1], stream=1)
    wanted = ops.full_like(seeds, most_positive)
    positives = matching.keep_random(is_positive, wanted, most_positive, noise)
    missing = count - ops.sum(ops.cast(positives, "int32"), axis=1)
    negatives = matching.keep_random(is_negative, missing, count, noise)

    rank = 2.0 * ops.cast(positives, "float32") + ops.cast(negatives, "float32")
    rank, chosen = ops.top_k(rank, count)
    matched = ops.take_along_axis(matched, chosen, axis=1)
    class_ids = ops.take_along_axis(ops.cast(gt_class_ids, "int32"), matched, axis=1)
    class_ids = ops.where(rank > 1.5, class_ids, 0)
    weights = ops.cast(rank > 0.5, "float32")
    rois = gathers.gather_rows(proposals, chosen) * weights[:, :, None]
    return rois, class_ids, matched, weights


@keras.saving.register_keras_serializable("mrcnn")
class RoiTargetLayer(GeometryLayer):
    """Sampled RoIs with their targets.

    Called on [proposals (B, P, 4) normalized, image_meta (B, M), gt_class_ids (B, G),
    gt_boxes (B, G, 4) in input pixels, gt_masks (B, G, h', w'), seeds (B,)]. Returns rois
    (B, R, 4), class ids (B, R), deltas (B, R, 4), masks (B, M, h, w) of the first M RoIs, which
    include all positives, weights (B, R), and the matched objects of those M (B, M).

    Args:
        count: R.
        positive_ratio: M = int(R * positive_ratio).
        mask_shape: (h, w) of the targets.
        uses_mini_masks: gt_masks are mini-masks inside their boxes; else they cover the input.
        std_dev: (4,), divisor of the deltas.
        inclusive: Whether the normalized frame is inclusive.
        mask_targets: One of `conventions.MASK_TARGETS`.
    """

    def __init__(
        self,
        count: int,
        positive_ratio: float,
        mask_shape: Sequence[int],
        uses_mini_masks: bool,
        std_dev: Sequence[float],
        inclusive: bool = True,
        mask_targets: str = "corners",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.count = count
        self.positive_ratio = positive_ratio
        self.mask_shape = (int(mask_shape[0]), int(mask_shape[1]))
        self.uses_mini_masks = uses_mini_masks
        self.std_dev = [float(value) for value in std_dev]
        self.inclusive = inclusive
        self.mask_targets = mask_targets

    @property
    def most_positive(self) -> int:
        """The maximum number of positive RoIs, and so the number of mask targets."""
        return max(int(self.count * self.positive_ratio), 1)

    def call(self, inputs):
        proposals, image_meta, gt_class_ids, gt_boxes, gt_masks, seeds = inputs
        size = image_meta[:, 4:6]
        gt_boxes = box_math.normalize_in_graph(gt_boxes, size, ops, self.inclusive)
        shift = 0.0
        if self.mask_targets == "shares" and self.uses_mini_masks:
            shift = 0.5 / ops.concatenate([size, size], axis=1)[:, None]
        return self.of_normalized(proposals, gt_class_ids, gt_boxes, gt_masks, seeds, shift)

    def of_normalized(
        self,
        proposals: Tensor,
        gt_class_ids: Tensor,
        gt_boxes: Tensor,
        gt_masks: Tensor,
        seeds: Tensor,
        shift: Tensor | float = 0.0,
    ) -> tuple[Tensor, ...]:
        """Return the same as `call`, for gt_boxes that are already normalized.

        Args:
            shift: Offset of the RoIs for mask targets, broadcast to (B, M, 4).
        """
        rois, class_ids, matched, weights = sample_rois(
            proposals,
            gt_class_ids,
            gt_boxes,
            seeds,
            count=self.count,
            most_positive=self.most_positive,
        )
        deltas = box_math.encode(rois, gathers.gather_rows(gt_boxes, matched), ops)
        masks = mask_head.targets(
            rois[:, : self.most_positive] + shift,
            gt_boxes,
            gt_masks,
            matched[:, : self.most_positive],
            mask_shape=self.mask_shape,
            uses_mini_masks=self.uses_mini_masks,
            form=self.mask_targets,
        )
        deltas = deltas / ops.convert_to_tensor(self.std_dev)
        matched = ops.cast(matched[:, : self.most_positive], "int32")
        return rois, class_ids, deltas, masks, weights, matched

    def compute_output_shape(self, input_shape):
        batch = input_shape[0][0]
        rois = (batch, self.count)
        masks = (batch, self.most_positive, *self.mask_shape)
        return (*rois, 4), rois, (*rois, 4), masks, rois, (batch, self.most_positive)

    def compute_output_spec(self, inputs):
        shapes = self.compute_output_shape([tensor.shape for tensor in inputs])
        dtypes = ("float32", "int32", "float32", "float32", "float32", "int32")
        return tuple(
            keras.KerasTensor(shape, dtype) for shape, dtype in zip(shapes, dtypes, strict=True)
        )

    def get_config(self):
        return {
            **super().get_config(),
            "count": self.count,
            "positive_ratio": self.positive_ratio,
            "mask_shape": self.mask_shape,
            "uses_mini_masks": self.uses_mini_masks,
            "std_dev": self.std_dev,
            "inclusive": self.inclusive,
            "mask_targets": self.mask_targets,
        }
