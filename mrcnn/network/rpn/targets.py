"""RPN targets: which anchors are foreground, and their deltas."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from mrcnn.geometry import boxes as box_math
from mrcnn.network import matching
from mrcnn.network.layers.geometry_layer import GeometryLayer
from mrcnn.network.ops import gathers

Tensor = Any
POSITIVE_IOU, NEGATIVE_IOU = 0.7, 0.3
POSITIVE_SHARE = 0.5
# Relative tolerance for ties with an object's best IoU. Anchors inside an object are equal except
# for rounding, which is up to the compiler: it may even compute a number twice, so that the best
# does not equal itself.
TIE = 1e-5


def targets(
    anchors: np.ndarray,
    gt_class_ids: Tensor,
    gt_boxes: Tensor,
    seeds: Tensor,
    *,
    anchors_per_image: int,
    std_dev: Sequence[float],
) -> tuple[Tensor, Tensor]:
    """Return the target of each anchor: match (B, N) int32 and deltas (B, N, 4).

    Match is 1 for foreground, -1 for background, 0 for ignored anchors: those in between, those
    with half of their area in a crowd, and all but a random sample of `anchors_per_image`, at most
    half of it foreground. An anchor is foreground if its IoU is at least 0.7, or if no anchor has
    a higher IoU with some object; it is then matched to that object.

    Args:
        anchors: (N, 4), input pixels.
        gt_class_ids: (B, G), 0 padding, negative crowd.
        gt_boxes: (B, G, 4), input pixels.
        seeds: (B,) random seeds of the sample.
        std_dev: (4,), divisor of the deltas.
    """
    boxes = ops.convert_to_tensor(anchors, "float32")[None]
    found = _matched(boxes, gt_class_ids, gt_boxes)
    is_forced = found.forced_by >= 0
    best_gt = ops.where(is_forced, found.forced_by, found.best_gt)

    is_positive = (found.best_iou >= POSITIVE_IOU) | is_forced
    is_negative = ~is_positive & (found.best_iou < NEGATIVE_IOU) & ~found.is_in_crowd
    match = _sample(is_positive, is_negative, seeds, anchors_per_image)

    matched_boxes = gathers.gather_rows(gt_boxes, best_gt)
    deltas = box_math.encode(boxes, matched_boxes, ops)
    return match, deltas / ops.convert_to_tensor(std_dev, "float32")


class _Matches(NamedTuple):
    """Matches of anchors with the objects of their images, (B, N) each.

    Attributes:
        best_iou, best_gt: largest IoU of an anchor, and the object; -1 if there is none.
        forced_by: the first object that no anchor overlaps more; -1 for most anchors.
        is_in_crowd: bool, see `matching.lies_in_crowd`.
    """

    best_iou: Tensor
    best_gt: Tensor
    forced_by: Tensor
    is_in_crowd: Tensor


def _matched(anchors: Tensor, gt_class_ids: Tensor, gt_boxes: Tensor) -> _Matches:
    """Match anchors (1, N, 4) with objects (B, G), (B, G, 4), one object per image at a time.

    All pairs at once would take gigabytes for the anchors of a large input and a hundred objects,
    most of them padding.
    """
    shape = (ops.shape(gt_boxes)[0], anchors.shape[1])

    def add_object(number: Tensor, found: _Matches) -> _Matches:
        box = ops.take(gt_boxes, number, axis=1)[:, None]
        class_id = ops.take(gt_class_ids, number, axis=1)[:, None]
        iou = box_math.iou(anchors, box, ops)[:, :, 0]
        is_object = class_id > 0
        is_better = is_object & (iou > found.best_iou)
        best = ops.max(iou, axis=1, keepdims=True) * (1.0 - TIE)
        is_best = is_object & (iou >= best) & (iou > 0) & (found.forced_by < 0)
        return _Matches(
            ops.where(is_better, iou, found.best_iou),
            ops.where(is_better, number, found.best_gt),
            ops.where(is_best, number, found.forced_by),
            found.is_in_crowd | matching.lies_in_crowd(anchors, class_id, box),
        )

    nothing = _Matches(
        ops.full(shape, -1.0),
        ops.zeros(shape, "int32"),
        ops.full(shape, -1),
        ops.zeros(shape, bool),
    )
    last = ops.max(ops.where(gt_class_ids != 0, ops.arange(1, gt_class_ids.shape[1] + 1), 0))
    return _Matches(*ops.fori_loop(0, last, add_object, nothing))


def _sample(
    is_positive: Tensor, is_negative: Tensor, seeds: Tensor, anchors_per_image: int
) -> Tensor:
    total = min(anchors_per_image, is_positive.shape[1])
    most_positive = int(total * POSITIVE_SHARE)
    noise = matching.uniform_noise(seeds, is_positive.shape[1], stream=0)
    wanted = ops.full_like(seeds, most_positive)
    positives = matching.keep_random(is_positive, wanted, most_positive, noise)
    missing = total - ops.sum(ops.cast(positives, "int32"), axis=1)
    negatives = matching.keep_random(is_negative, missing, total, noise)
    return ops.cast(positives, "int32") - ops.cast(negatives, "int32")


@keras.saving.register_keras_serializable("mrcnn")
class RpnTargetLayer(GeometryLayer):
    """Match (B, N) and deltas (B, N, 4) of fixed anchors; see `rpn.targets`.

    Called on [gt_class_ids (B, G), gt_boxes (B, G, 4) in input pixels, seeds (B,)].
    """

    def __init__(self, anchors, anchors_per_image, std_dev, **kwargs):
        super().__init__(**kwargs)
        self.anchors = np.asarray(anchors, np.float32)
        self.anchors_per_image = anchors_per_image
        self.std_dev = [float(value) for value in std_dev]

    def call(self, inputs):
        gt_class_ids, gt_boxes, seeds = inputs
        return targets(
            self.anchors,
            gt_class_ids,
            gt_boxes,
            seeds,
            anchors_per_image=self.anchors_per_image,
            std_dev=self.std_dev,
        )

    def compute_output_spec(self, inputs):
        shape = (inputs[0].shape[0], len(self.anchors))
        return keras.KerasTensor(shape, "int32"), keras.KerasTensor((*shape, 4), "float32")

    def get_config(self):
        return {
            **super().get_config(),
            "anchors": self.anchors.tolist(),
            "anchors_per_image": self.anchors_per_image,
            "std_dev": self.std_dev,
        }
