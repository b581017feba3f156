"""Layers of the training graph, whose inputs have one size: its anchors, and targets by pixels."""

import keras
import numpy as np
from keras import ops

from mrcnn.geometry import boxes as box_math
from mrcnn.network import keypoint_head, matching, rpn
from mrcnn.network.geometry_layer import GeometryLayer


@keras.saving.register_keras_serializable("mrcnn")
class Anchors(GeometryLayer):
    """The anchors of a fixed input size, once for each image: (B, ...) -> (B, N, 4) normalized."""

    def __init__(self, anchors, **kwargs):
        super().__init__(**kwargs)
        self.anchors = np.asarray(anchors, np.float32)

    def call(self, images):
        anchors = ops.convert_to_tensor(self.anchors)[None]
        return ops.tile(anchors, (ops.shape(images)[0], 1, 1))

    def compute_output_shape(self, input_shape):
        return (input_shape[0], *self.anchors.shape)

    def get_config(self):
        return {**super().get_config(), "anchors": self.anchors.tolist()}


@keras.saving.register_keras_serializable("mrcnn")
class RpnTargetLayer(GeometryLayer):
    """Match (B, N) and deltas (B, N, 4) of fixed anchors; see `rpn.targets`.

    Called on [gt_class_ids (B, G), gt_boxes (B, G, 4) pixels of the input, seeds (B,)].
    """

    def __init__(self, anchors, anchors_per_image, std_dev, **kwargs):
        super().__init__(**kwargs)
        self.anchors = np.asarray(anchors, np.float32)
        self.anchors_per_image = anchors_per_image
        self.std_dev = [float(value) for value in std_dev]

    def call(self, inputs):
        gt_class_ids, gt_boxes, seeds = inputs
        return rpn.targets(
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


@keras.saving.register_keras_serializable("mrcnn")
class KeypointTargetLayer(GeometryLayer):
    """Heatmap cells (B, M, P) and weights (B, M, P); see `keypoint_head.targets`.

    Called on [rois (B, M, 4) normalized, their class ids (B, M), image_meta (B, M'), matched
    objects (B, M), gt_keypoints (B, G, P, 3) pixels of the input]. Only positive rois have weights,
    though negative ones are near an object, too.
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
        rows = matching.gather_rows(rows, matched)
        rows = ops.reshape(rows, (*ops.shape(matched), points, numbers))
        cells, weights = keypoint_head.targets(rois, rows, self.side)
        return cells, weights * ops.cast(class_ids > 0, "float32")[:, :, None]

    def compute_output_spec(self, inputs):
        shape = (*inputs[0].shape[:2], inputs[4].shape[2])
        return keras.KerasTensor(shape, "int32"), keras.KerasTensor(shape, "float32")

    def get_config(self):
        return {**super().get_config(), "side": self.side, "inclusive": self.inclusive}
