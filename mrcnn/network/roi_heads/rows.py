"""Trimming of padding rows of RoIs and detections, for the most expensive heads."""

import keras
from keras import ops

from mrcnn.network.layers.geometry_layer import GeometryLayer
from mrcnn.network.ops import backend


@keras.saving.register_keras_serializable("mrcnn")
class TrimDetections(GeometryLayer):
    """The boxes of detections, without the padding common to all images of the batch.

    (B, D, 6) -> (B, D', 4) with 1 <= D' <= D: masks are computed for these only. D' = D if shapes
    must be static.
    """

    def call(self, detections):
        if backend.is_static():
            return detections[:, :, :4]
        found = ops.sum(ops.cast(detections[:, :, 4] > 0, "int32"), axis=1)
        # An empty batch would be an edge case for every layer that follows.
        return detections[:, : ops.maximum(ops.max(found), 1), :4]

    def compute_output_shape(self, input_shape):
        return (input_shape[0], None, 4)


@keras.saving.register_keras_serializable("mrcnn")
class TrimPositives(GeometryLayer):
    """The leading rows of tensors up to the last positive RoI of any image in the batch.

    Called on [class ids (B, R), tensors (B, M, ...)...], where positive RoIs come first; returns
    the tensors as (B, M', ...) with 1 <= M' <= M, a multiple of `step` unless it is M. The heads
    trained only on positive RoIs then run on few others. M' = M if shapes must be static.

    Args:
        step: Numbers of rows are rounded up to a multiple, so that devices with a per-shape setup
            see few different shapes.
    """

    def __init__(self, step=8, **kwargs):
        super().__init__(**kwargs)
        self.step = step

    def call(self, inputs):
        class_ids, *tensors = inputs
        if backend.is_static():
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
    """Masks padded with zeros to one row per detection: (B, D', h, w, K) -> (B, D, h, w, K)."""

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
