"""Grouped convolutions."""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from mrcnn.network.ops import backend

Tensor = Any


@keras.saving.register_keras_serializable("mrcnn")
class GroupedConv2D(layers.Conv2D):
    """A grouped convolution *(ResNeXt, Xie et al. 2017)*; on CPUs computed as a dense one.

    On CPUs, TensorFlow's grouped convolution is some fifty times slower than a dense convolution,
    which is equivalent if the kernel is zero between groups.
    """

    def convolution_op(self, inputs, kernel):
        if self.groups > 1 and not backend.has_gpu():
            kernel = ops.tile(kernel, (1, 1, self.groups, 1)) * self._same_group(kernel)
        return super().convolution_op(inputs, kernel)

    def _same_group(self, kernel: Tensor) -> Tensor:
        """Return 1 where input and output channel are in the same group: (inputs, outputs)."""
        inputs, outputs = kernel.shape[2] * self.groups, kernel.shape[3]
        groups = (
            np.arange(inputs) // kernel.shape[2],
            np.arange(outputs) // (outputs // self.groups),
        )
        return ops.convert_to_tensor(groups[0][:, None] == groups[1], dtype=kernel.dtype)
