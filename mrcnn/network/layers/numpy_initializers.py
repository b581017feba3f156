"""Initial weights drawn with NumPy, for a backend that compiles a program per shape."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import keras
import numpy as np


@keras.saving.register_keras_serializable("mrcnn")
class NumpyGlorotUniform(keras.initializers.GlorotUniform):
    """Glorot's uniform distribution; JAX takes a second per shape to compile Keras' own."""

    def __call__(self, shape, dtype=None):
        """Return the values for this shape that the seed determines."""
        receptive = math.prod(shape[:-2])
        limit = math.sqrt(6.0 / max(1.0, receptive * sum(shape[-2:])))
        numbers = np.random.default_rng(self.seed).uniform(-limit, limit, shape)
        return keras.ops.convert_to_tensor(numbers.astype(np.float32), dtype)


@contextmanager
def numpy_draws() -> Iterator[None]:
    """Make NumpyGlorotUniform the default initializer of layers."""
    with keras.saving.custom_object_scope({"glorot_uniform": NumpyGlorotUniform}):
        yield
