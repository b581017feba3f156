"""Models as functions of arrays, compiled for all input sizes at once."""

from collections.abc import Sequence

import keras
import numpy as np

from mrcnn.network.ops import backend

Arrays = dict[str, np.ndarray]


class Compiled:
    """A model with a dict of outputs, run on batches of arrays.

    Under TensorFlow it is traced once for all input sizes, at no cost in speed; Keras' own
    `predict_on_batch` would be retraced for the first few sizes, taking seconds each. JAX compiles
    once per size. Thread-safe.
    """

    def __init__(self, model: keras.Model) -> None:
        self.model = model
        self.dtypes = [tensor.dtype for tensor in model.inputs]
        self.traced = backend.compiled(model)

    def __call__(self, inputs: Sequence[np.ndarray]) -> Arrays:
        """Return the outputs for a batch."""
        arrays = [np.asarray(array, kind) for array, kind in zip(inputs, self.dtypes, strict=True)]
        return {key: np.asarray(rows) for key, rows in self.traced(arrays).items()}
