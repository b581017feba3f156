"""Models as functions of arrays, compiled for inputs of every size at once."""

from collections.abc import Sequence

import keras
import numpy as np

from mrcnn.network import backend_ops

Arrays = dict[str, np.ndarray]


class Compiled:
    """A model with a dict of outputs, run on batches of arrays.

    Under TensorFlow it is traced once, for all sizes of inputs, at no cost in speed; Keras' own
    `predict_on_batch` would be traced anew for the first few sizes, seconds each. Other backends
    compile for every size.
    """

    def __init__(self, model: keras.Model) -> None:
        self.model = model
        self.inputs = [tensor.dtype for tensor in model.inputs]
        self.traced = None if backend_ops.IS_STATIC else _traced_once(model)

    def __call__(self, inputs: Sequence[np.ndarray]) -> Arrays:
        """Return the outputs for a batch."""
        arrays = [np.asarray(array, kind) for array, kind in zip(inputs, self.inputs, strict=True)]
        if self.traced is None:
            return self.model.predict_on_batch(arrays)
        return {key: rows.numpy() for key, rows in self.traced(arrays).items()}


def _traced_once(model: keras.Model):
    import tensorflow as tf

    signature = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in model.inputs]
    return tf.function(
        lambda inputs: model(inputs, training=False), input_signature=[signature], autograph=False
    )
