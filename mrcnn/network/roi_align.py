"""RoIAlign over the pyramid: features of each box from the level that fits its size."""

import math
from typing import Any

import keras
from keras import layers, ops

from mrcnn.network import tensorflow_ops
from mrcnn.network.geometry_layer import GeometryLayer

Tensor = Any
FINEST, COARSEST = 2, 5
CANONICAL_LEVEL, CANONICAL_SIZE = 4, 224.0


def levels(boxes: Tensor, input_area: Tensor) -> Tensor:
    """Return the pyramid level of each box, 2 to 5: (B, N, 4) -> (B, N) int32.

    *(FPN, Lin et al. 2017, equation 1)*, rounded where the paper floors, as in Matterport's
    weights. Padding (zero boxes) goes to level 2.

    Args:
        boxes: Normalized.
        input_area: Pixels of the input; the canonical 224 pixels are of the input.
    """
    height = ops.maximum(boxes[..., 2] - boxes[..., 0], 0.0)
    width = ops.maximum(boxes[..., 3] - boxes[..., 1], 0.0)
    side = ops.maximum(ops.sqrt(height * width), 1e-12)
    exponent = ops.log(side / (CANONICAL_SIZE / ops.sqrt(input_area))) / math.log(2.0)
    level = CANONICAL_LEVEL + ops.cast(ops.round(exponent), "int32")
    return ops.clip(level, FINEST, COARSEST)


@keras.saving.register_keras_serializable("mrcnn")
class PyramidROIAlign(GeometryLayer):
    """RoIAlign with one sample a bin: features of boxes as (B, N, h, w, C), float32.

    Called on [boxes (B, N, 4) normalized, image_meta (B, M), P2, P3, P4, P5]. The corner samples
    of the grid lie on the corners of the box (`tf.image.crop_and_resize`). No gradient to boxes.

    Args:
        pool_shape: (h, w), at least 2 each.
    """

    def __init__(self, pool_shape, **kwargs):
        super().__init__(**kwargs)
        self.pool_shape = tuple(pool_shape)

    def call(self, inputs):
        boxes, image_meta, *maps = inputs
        boxes = ops.stop_gradient(boxes)
        # Columns 4 and 5 of the record: height and width of the input, one for the batch.
        input_area = image_meta[0, 4] * image_meta[0, 5]
        batch, count = ops.shape(boxes)[0], ops.shape(boxes)[1]
        crops = tensorflow_ops.pyramid_crop(
            maps,
            ops.reshape(boxes, (-1, 4)),
            ops.repeat(ops.arange(batch, dtype="int32"), count),
            ops.reshape(levels(boxes, input_area), (-1,)) - FINEST,
            self.pool_shape,
        )
        return ops.reshape(crops, (batch, count, *self.pool_shape, maps[0].shape[-1]))

    def compute_output_shape(self, input_shape):
        return (*input_shape[0][:2], *self.pool_shape, input_shape[2][-1])

    def get_config(self):
        return {**super().get_config(), "pool_shape": self.pool_shape}


@keras.saving.register_keras_serializable("mrcnn")
class TimeDistributed(layers.Layer):
    """A layer applied to every RoI: (B, N, ...) -> (B, N, ...), folded into one large batch.

    Keras' layer of this name would unroll a Python loop over the RoIs. Programs find the layer
    inside by the class's name and by `.layer`.

    Args:
        layer: The layer; the wrapper bears its name.
    """

    def __init__(self, layer, **kwargs):
        kwargs.setdefault("dtype", layer.dtype_policy)
        super().__init__(**{"name": layer.name, **kwargs})
        self.layer = layer

    def build(self, input_shape):
        if not self.layer.built:  # a layer that Keras loads from a file comes built
            self.layer.build((None, *input_shape[2:]))

    def call(self, features, training=None):
        lead = ops.shape(features)[:2]
        folded = ops.reshape(features, (-1, *features.shape[2:]))
        if isinstance(self.layer, layers.BatchNormalization):
            folded = self.layer(folded, training=training)
        else:
            folded = self.layer(folded)
        return ops.reshape(folded, (*lead, *folded.shape[1:]))

    def compute_output_shape(self, input_shape):
        folded = self.layer.compute_output_shape((None, *input_shape[2:]))
        return (*input_shape[:2], *folded[1:])

    def get_config(self):
        return {**super().get_config(), "layer": keras.saving.serialize_keras_object(self.layer)}

    @classmethod
    def from_config(cls, config):
        layer = keras.saving.deserialize_keras_object(config.pop("layer"))
        return cls(layer, **config)
