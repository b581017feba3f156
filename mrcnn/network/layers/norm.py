"""Batch norm, and the function that creates all batch norms."""

from typing import Any

import keras
from keras import layers, ops

from mrcnn.network.ops import backend

Tensor = Any


@keras.saving.register_keras_serializable("mrcnn")
class BatchNorm(layers.BatchNormalization):
    """Batch normalization that can keep its statistics fixed while gamma and beta train.

    In heads, statistics are computed over the valid rows only, see `backend.norm_statistics_of`,
    across all replicas.

    Args:
        is_training: True uses and updates batch statistics in training; False always uses the
            moving ones (Matterport's TRAIN_BN = False), which is not the same as freezing. A
            training model reads it once, when it is built.
    """

    def __init__(self, is_training: bool = True, **kwargs):
        kwargs.setdefault("epsilon", 1e-3)
        if not backend.HAS_REPLICAS:  # statistics are already global
            kwargs["synchronized"] = False
        super().__init__(**kwargs)
        self.is_training = is_training

    def call(self, inputs, training=None, mask=None):
        return super().call(inputs, training=bool(training) and self.is_training, mask=mask)

    def _moments(self, inputs, mask):
        # Keras calls this method for batch statistics, in float32.
        rows = backend.norm_rows()
        if rows is None:
            return super()._moments(inputs, mask)
        return self._moments_of(inputs, ops.cast(rows > 0, inputs.dtype))

    def _moments_of(self, inputs: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and variance over the rows of all replicas: (N, ..., C), (N,) of 0 or 1."""
        weights = ops.reshape(rows, (-1, *[1] * (len(inputs.shape) - 1)))
        axes = tuple(range(len(inputs.shape) - 1))
        cells = ops.cast(ops.prod(ops.shape(inputs)[1:-1]), inputs.dtype)
        count = backend.sum_over_replicas(ops.sum(rows) * cells)
        share = weights / ops.maximum(count, 1.0)
        mean = backend.sum_over_replicas(ops.sum(inputs * share, axis=axes))
        deviation = ops.square(inputs - mean)
        variance = backend.sum_over_replicas(ops.sum(deviation * share, axis=axes))
        # Without any valid row, the moving statistics are used and left unchanged.
        is_any = count > 0
        stored = [ops.cast(each, inputs.dtype) for each in (self.moving_mean, self.moving_variance)]
        return ops.where(is_any, mean, stored[0]), ops.where(is_any, variance, stored[1])

    def get_config(self):
        return {**super().get_config(), "is_training": self.is_training}


def batch_norm(name: str, *, train_bn: bool, epsilon: float) -> BatchNorm:
    """Return a batch norm; statistics that train are synchronized across replicas.

    Replicas see different images: only synchronized statistics stay equal on all of them.
    """
    return BatchNorm(is_training=train_bn, synchronized=train_bn, epsilon=epsilon, name=name)
