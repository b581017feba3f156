"""The anchors of a fixed input size, as a layer."""

import keras
import numpy as np
from keras import ops

from mrcnn.network.layers.geometry_layer import GeometryLayer


@keras.saving.register_keras_serializable("mrcnn")
class Anchors(GeometryLayer):
    """The anchors of a fixed input size, repeated per image: (B, ...) -> (B, N, 4) normalized."""

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
