"""Keypoint head: head, targets, loss (Mask R-CNN, He et al. 2017, section 5)."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, ops

from mrcnn.geometry import boxes as box_math
from mrcnn.network.layers.geometry_layer import GeometryLayer
from mrcnn.network.layers.roi_align import PyramidROIAlign
from mrcnn.network.layers.time_distributed import TimeDistributed
from mrcnn.network.ops import gathers, reductions

Tensor = Any
CONVOLUTIONS = 8


class KeypointHead:
    """Eight 3x3 convolutions and one heatmap per keypoint; shared by both graphs."""

    def __init__(self, num_keypoints: int, channels: int, roi_align: PyramidROIAlign) -> None:
        """Create the layers.

        Args:
            roi_align: Extracts the RoI features; heatmaps are four times as large.
        """
        self.roi_align = roi_align
        self.trunk: list[layers.Layer] = []
        for number in range(1, CONVOLUTIONS + 1):
            name = f"mrcnn_keypoint_conv{number}"
            conv = layers.Conv2D(channels, 3, padding="same", activation="relu", name=name)
            self.trunk.append(TimeDistributed(conv))
        deconv = layers.Conv2DTranspose(
            num_keypoints, 4, 2, "same", dtype="float32", name="mrcnn_keypoint_deconv"
        )
        enlarge = layers.UpSampling2D(
            2, interpolation="bilinear", dtype="float32", name="mrcnn_keypoint"
        )
        self.trunk += [TimeDistributed(deconv), TimeDistributed(enlarge)]

    def __call__(self, rois: Tensor, image_meta: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """Return the heatmap logits of each keypoint: (B, N, 4) -> (B, N, h, w, P)."""
        features = self.roi_align([rois, image_meta, *maps])
        for layer in self.trunk:
            features = layer(features)
        return features


def targets(rois: Tensor, keypoints: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Return the heatmap cell of each keypoint, and whether it has one: (B, M, P), (B, M, P).

    Cells are numbered row-major. An unlabelled keypoint (visibility 0), or one outside the RoI,
    has none.

    Args:
        rois: (B, M, 4), and keypoints: (B, M, P, 3), in input pixels.
        side: h and w of the heatmaps.
    """
    low, high = rois[:, :, None, :2], rois[:, :, None, 2:]
    points = keypoints[..., :2]
    size = ops.where(high > low, high - low, 1.0)
    cells = ops.cast(ops.floor((points - low) * (side / size)), "int32")
    # The far border belongs to the last cell.
    cells = ops.where(points == high, side - 1, cells)
    is_inside = ops.all((cells >= 0) & (cells < side), axis=-1) & (keypoints[..., 2] > 0)
    cells = ops.clip(cells, 0, side - 1)
    return cells[..., 0] * side + cells[..., 1], ops.cast(is_inside, "float32")


def keypoint_loss(
    target_cells: Tensor,
    target_weights: Tensor,
    logits: Tensor,
    across_replicas: reductions.AcrossReplicas,
) -> Tensor:
    """Return the mean cross-entropy over heatmap cells, for keypoints that have a target cell.

    Args:
        target_cells, target_weights: (B, M, P), see `targets`.
        logits: (B, M, h, w, P).
    """
    height, width, points = logits.shape[2:]
    rows = ops.reshape(logits, (*ops.shape(logits)[:2], height * width, points))
    entropy = ops.sparse_categorical_crossentropy(
        target_cells, ops.transpose(rows, (0, 1, 3, 2)), from_logits=True
    )
    return reductions.masked_mean(entropy, target_weights, across_replicas)


@keras.saving.register_keras_serializable("mrcnn")
class KeypointTargetLayer(GeometryLayer):
    """Heatmap cells (B, M, P) and weights (B, M, P); see `targets`.

    Called on [rois (B, M, 4) normalized, their class ids (B, M), image_meta (B, M'), matched
    objects (B, M), gt_keypoints (B, G, P, 3) in input pixels]. Only positive RoIs have weights,
    although negative ones may also be close to an object.
    """

    def __init__(self, side, inclusive, **kwargs):
        super().__init__(**kwargs)
        self.side = side
        self.inclusive = inclusive

    def call(self, inputs):
        rois, class_ids, image_meta, matched, keypoints = inputs
        rois = box_math.denormalize_in_graph(rois, image_meta[:, 4:6], ops, self.inclusive)
        points, numbers = keypoints.shape[2:]
        rows = ops.reshape(keypoints, (*ops.shape(keypoints)[:2], points * numbers))
        rows = gathers.gather_rows(rows, matched)
        rows = ops.reshape(rows, (*ops.shape(matched), points, numbers))
        cells, weights = targets(rois, rows, self.side)
        return cells, weights * ops.cast(class_ids > 0, "float32")[:, :, None]

    def compute_output_spec(self, inputs):
        shape = (*inputs[0].shape[:2], inputs[4].shape[2])
        return keras.KerasTensor(shape, "int32"), keras.KerasTensor(shape, "float32")

    def get_config(self):
        return {**super().get_config(), "side": self.side, "inclusive": self.inclusive}
