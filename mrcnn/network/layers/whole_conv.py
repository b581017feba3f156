"""Convolutions over the whole input: fully connected layers in Matterport's layout."""

import math
from typing import Any

import keras
from keras import layers, ops

Tensor = Any


@keras.saving.register_keras_serializable("mrcnn")
class WholeConv2D(layers.Conv2D):
    """A convolution without padding, whose kernel is as large as its input; a matrix product.

    On a CPU, TensorFlow's convolution takes many times as long for the gradient of such an input.
    """

    def convolution_op(self, inputs: Tensor, kernel: Tensor) -> Tensor:
        """Return (N, 1, 1, filters) for inputs (N, h, w, C) and a kernel (h, w, C, filters)."""
        size = math.prod(kernel.shape[:-1])
        rows = ops.matmul(ops.reshape(inputs, (-1, size)), ops.reshape(kernel, (size, -1)))
        return ops.reshape(rows, (-1, 1, 1, kernel.shape[-1]))
