"""Class and box head: head, loss, detections (FPN, Lin et al. 2017, section 4.2)."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, ops

from mrcnn.geometry import boxes as box_math
from mrcnn.network.layers.geometry_layer import GeometryLayer
from mrcnn.network.layers.head_layers import HeadLayers
from mrcnn.network.layers.roi_align import PyramidROIAlign
from mrcnn.network.layers.time_distributed import TimeDistributed, apply_layers
from mrcnn.network.ops import backend, gathers, reductions

Tensor = Any


def fully_connected(
    side: int, fc_size: int, norms: HeadLayers, convs: Sequence[int] = ()
) -> list[layers.Layer]:
    """Return the layers from RoI features to vectors: (B, N, side, side, C) -> (B, N, F).

    Args:
        fc_size: F, width of the two fully connected layers, or of the one after convolutions.
        convs: Channels of 3x3 convolutions before the fully connected layer.
    """
    trunk: list[layers.Layer] = []
    for number, width in enumerate(convs, start=1):
        trunk += norms.conv(f"mrcnn_box_conv{number}", f"mrcnn_box_bn{number}", width, 3)
    sizes = (side, 1)[: 1 if convs else 2]
    for number, size in enumerate(sizes, start=1):
        trunk += norms.dense(f"mrcnn_class_conv{number}", f"mrcnn_class_bn{number}", fc_size, size)
    return [*trunk, TimeDistributed(layers.Reshape((fc_size,), name="pool_squeeze"))]


def averaged(stage: layers.Layer) -> list[layers.Layer]:
    """Return the layers to vectors if the RoI stage is the backbone's last stage (C4)."""
    return [stage, TimeDistributed(layers.GlobalAveragePooling2D(name="pool_squeeze"))]


class BoxHead:
    """Class logits and one box per class, from RoI vectors; shared by both graphs."""

    def __init__(
        self, num_classes: int, roi_align: PyramidROIAlign, trunk: Sequence[layers.Layer]
    ) -> None:
        """Create the layers.

        Args:
            roi_align: Extracts the RoI features.
            trunk: Turns them into vectors, see `fully_connected` and `averaged`.
        """
        self.roi_align = roi_align
        self.trunk = trunk
        normal = keras.initializers.RandomNormal
        # Standard deviations of the new layers as in Fast R-CNN, section 4.5.
        self.logits = TimeDistributed(
            layers.Dense(
                num_classes,
                kernel_initializer=normal(stddev=0.01),
                dtype="float32",
                name="mrcnn_class_logits",
            )
        )
        self.softmax = layers.Softmax(name="mrcnn_class", dtype="float32")
        self.deltas = TimeDistributed(
            layers.Dense(
                4 * num_classes,
                kernel_initializer=normal(stddev=0.001),
                dtype="float32",
                name="mrcnn_bbox_fc",
            )
        )
        self.by_class = TimeDistributed(
            layers.Reshape((num_classes, 4), dtype="float32", name="mrcnn_bbox")
        )

    def __call__(
        self,
        rois: Tensor,
        image_meta: Tensor,
        maps: Sequence[Tensor],
        rows: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits (B, N, K), probabilities (B, N, K) and deltas (B, N, K, 4) of RoIs.

        Args:
            rows: See `apply_layers`.
        """
        features = apply_layers(self.trunk, self.roi_align([rois, image_meta, *maps]), rows)
        logits = self.logits(features)
        return logits, self.softmax(logits), self.by_class(self.deltas(features))


def class_loss(
    target_class_ids: Tensor,
    logits: Tensor,
    active_class_ids: Tensor,
    weights: Tensor,
    across_replicas: reductions.AcrossReplicas,
) -> Tensor:
    """Return the mean cross-entropy of RoIs: (B, R), (B, R, K) -> scalar.

    A RoI counts only if its predicted class is annotated in the source of its image, so that
    datasets with different classes can be mixed.

    Args:
        active_class_ids: (B, K), 1 for the classes that the image's source annotates.
        weights: (B, R), 0 for padding.
    """
    entropy = ops.sparse_categorical_crossentropy(
        ops.cast(target_class_ids, "int32"), logits, from_logits=True
    )
    active = ops.cast(active_class_ids, "float32")
    is_active = ops.take_along_axis(active, ops.argmax(logits, axis=-1), axis=1)
    return reductions.masked_mean(entropy, is_active * weights, across_replicas)


def box_loss(
    target_deltas: Tensor,
    target_class_ids: Tensor,
    deltas: Tensor,
    across_replicas: reductions.AcrossReplicas,
    weights: Tensor | None = None,
    beta: float = 1.0,
) -> Tensor:
    """Return the smooth L1 loss of positive RoIs, for their true class.

    Args:
        target_deltas: (B, R, 4).
        target_class_ids: (B, R), 0 for background and padding.
        deltas: (B, R, K, 4).
        weights: (B, R), 0 for padding: the sum is divided by the number of sampled RoIs, as in
            torchvision and detectron2; None: mean over positive RoIs, as in Matterport's network.
        beta: See `reductions.smooth_l1`.
    """
    distance = reductions.smooth_l1(target_deltas, gathers.of_class(deltas, target_class_ids), beta)
    is_positive = (target_class_ids > 0)[:, :, None]
    if weights is None:
        return reductions.masked_mean(distance, is_positive, across_replicas)
    return reductions.masked_share(distance, is_positive, ops.sum(weights), across_replicas)


@keras.saving.register_keras_serializable("mrcnn")
class DetectionLayer(GeometryLayer):
    """Detections from the head's outputs: (B, D, 6) of y1, x1, y2, x2, class id, score.

    Called on [rois (B, P, 4), probs (B, P, K), deltas (B, P, K, 4), image_meta (B, M)]. Boxes are
    normalized and clipped to the image's window. NMS runs per class. Rows after the last detection
    are zero.

    Args:
        max_detections: D.
        min_confidence: Minimum score of a detection; 0 or None keeps all.
        every_class: A RoI yields a detection for every class that reaches the score, as in
            Detectron; else at most one, of its best class, as in Matterport's network.
        largest_log_scale: See `boxes.decode`. inclusive: Whether the frame is inclusive.
    """

    def __init__(
        self,
        max_detections,
        min_confidence,
        nms_threshold,
        std_dev,
        every_class=False,
        largest_log_scale=box_math.LARGEST_LOG_SCALE,
        inclusive=True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.max_detections = max_detections
        self.min_confidence = min_confidence
        self.nms_threshold = nms_threshold
        self.std_dev = [float(value) for value in std_dev]
        self.every_class = every_class
        self.largest_log_scale = largest_log_scale
        self.inclusive = inclusive

    def call(self, inputs):
        rois, probs, deltas, image_meta = inputs
        window = box_math.window_in_graph(image_meta, ops, self.inclusive)
        return self.detections(rois, probs, deltas, window)

    def detections(self, rois: Tensor, probs: Tensor, deltas: Tensor, window: Tensor) -> Tensor:
        """Return the detections of RoIs, clipped to a window (B, 4), normalized."""
        scores = ops.where(probs >= (self.min_confidence or 0.0), probs, 0.0)
        if not self.every_class:
            best = ops.argmax(probs, axis=-1)
            scores *= ops.one_hot(best, probs.shape[-1], dtype="float32")
        refined = refine(rois, deltas, window, self.std_dev, self.largest_log_scale)
        scores = scores[:, :, 1:]
        if self.every_class:  # drop empty boxes, including padding
            scores = ops.where(box_math.area(refined, ops) > 0, scores, 0.0)
        boxes, scores, classes = backend.operations().suppress(
            refined,
            scores,
            self.max_detections,
            self.nms_threshold,
        )
        # NMS ran without the background, so its class 0 is class 1.
        class_ids = ops.where(scores > 0, classes + 1.0, 0.0)
        return ops.concatenate([boxes, class_ids[:, :, None], scores[:, :, None]], axis=-1)

    def compute_output_shape(self, input_shape):
        return (input_shape[0][0], self.max_detections, 6)

    def get_config(self):
        return {
            **super().get_config(),
            "max_detections": self.max_detections,
            "min_confidence": self.min_confidence,
            "nms_threshold": self.nms_threshold,
            "std_dev": self.std_dev,
            "every_class": self.every_class,
            "largest_log_scale": self.largest_log_scale,
            "inclusive": self.inclusive,
        }


def refine(
    rois: Tensor,
    deltas: Tensor,
    window: Tensor,
    std_dev: Sequence[float],
    largest_log_scale: float = box_math.LARGEST_LOG_SCALE,
) -> Tensor:
    """Return RoIs refined for each class except the background: (B, P, K-1, 4) normalized.

    Args:
        rois: (B, P, 4) normalized. Padding yields empty boxes, as in Matterport's network.
        deltas: (B, P, K, 4), divided by std_dev.
        window: (B, 4) normalized, which boxes are clipped to.
        largest_log_scale: See `boxes.decode`.
    """
    deltas = deltas[:, :, 1:] * ops.convert_to_tensor(std_dev, "float32")
    refined = box_math.decode(rois[:, :, None, :], deltas, ops, largest_log_scale)
    return box_math.clip(refined, window[:, None, None, :], ops)
