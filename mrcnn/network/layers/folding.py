"""Batch norm folding: frozen batch norms are merged into the preceding convolutions.

A batch norm with moving statistics is a scale and an offset per channel, which can be folded into
the convolution's kernel and bias *(Jacob et al. 2018, section 3.2)*: large maps are then traversed
once instead of three times. The two layers keep their weights, which are folded anew in every
step, so that training and loading need not know about it.
"""

from collections import defaultdict
from typing import Any

import keras
from keras import layers, ops

from mrcnn.network.layers.grouped_conv import GroupedConv2D
from mrcnn.network.layers.norm import BatchNorm
from mrcnn.network.layers.time_distributed import TimeDistributed
from mrcnn.network.layers.whole_conv import WholeConv2D

Tensor = Any
CONVOLUTIONS = (layers.Conv2D, GroupedConv2D, WholeConv2D)


class FoldedConv(layers.Layer):
    """A convolution and the batch norm after it, with moving statistics, as one convolution.

    Folds in float32; the kernel is rounded once, to the convolution's precision.

    Args:
        convolution, norm: Built; this layer shares their weights.
    """

    def __init__(self, convolution: layers.Conv2D, norm: BatchNorm) -> None:
        super().__init__(dtype="float32", autocast=False)
        self.convolution, self.norm = convolution, norm
        self.built = True

    def call(self, features):
        norm, convolution = self.norm, self.convolution
        factor = ops.rsqrt(norm.moving_variance + norm.epsilon) * norm.gamma
        bias = norm.beta - norm.moving_mean * factor
        if convolution.use_bias:
            bias += convolution.bias * factor
        precision = convolution.compute_dtype
        kernel = ops.cast(convolution.kernel * factor, precision)
        features = convolution.convolution_op(ops.cast(features, precision), kernel)
        bias = ops.reshape(ops.cast(bias, precision), (1, 1, 1, -1))
        return ops.add(features, bias)  # compiles to TensorFlow's bias_add, unlike `+`

    def compute_output_shape(self, input_shape):
        return self.convolution.compute_output_shape(input_shape)

    def compute_output_spec(self, features):
        shape = self.compute_output_shape(features.shape)
        return keras.KerasTensor(shape, self.convolution.compute_dtype)


def folded(model: keras.Model, *, training: bool = False) -> keras.Model:
    """Return an equivalent of a functional model with folded batch norms and the same weights.

    Args:
        training: Fold only batch norms that also use moving statistics during training.
    """
    partners = _partners(model, training=training)
    norms = {id(norm) for norm in partners.values()}
    made: dict[int, layers.Layer] = {}  # a shared layer gets one replacement

    def replacement(layer: layers.Layer) -> layers.Layer:
        inner = _inner(layer)
        if id(layer) in partners:
            found = FoldedConv(inner, _inner(partners[id(layer)]))
        elif type(inner) is type(model):  # also functional
            found = folded(inner, training=training)
        else:
            return layer
        return TimeDistributed(found, dtype=layer.dtype_policy) if inner is not layer else found

    def replace(layer: layers.Layer) -> layers.Layer | None:
        if id(layer) in norms:
            return None
        if id(layer) not in made:
            made[id(layer)] = replacement(layer)
        return made[id(layer)]

    def call(layer: layers.Layer | None, *inputs: Tensor, **options: Any) -> Tensor:
        return inputs[0] if layer is None else layer(*inputs, **options)

    return keras.models.clone_model(model, clone_function=replace, call_function=call)


def _partners(model: keras.Model, *, training: bool) -> dict[int, layers.Layer]:
    """Return, by a convolution's id, the batch norm that is its only consumer.

    Both are called exactly once in the model.
    """
    calls, consumers = defaultdict(list), defaultdict(list)
    for nodes in model._nodes_by_depth.values():
        for node in nodes:
            calls[id(node.operation)].append(node)
            for tensor in node.input_tensors:
                consumers[id(tensor)].append(node.operation)
    kept = {id(tensor) for tensor in model.outputs}
    found = {}
    for layer in model.layers:
        if len(calls[id(layer)]) != 1 or not _is_convolution(_inner(layer)):
            continue
        (output,) = calls[id(layer)][0].outputs
        following = consumers[id(output)] if id(output) not in kept else []
        if len(following) == 1 and len(calls[id(following[0])]) == 1:
            norm = following[0]
            is_alike = isinstance(norm, TimeDistributed) == isinstance(layer, TimeDistributed)
            if is_alike and _can_fold(_inner(norm), training=training):
                found[id(layer)] = norm
    return found


def _is_convolution(layer: layers.Layer) -> bool:
    return (
        type(layer) in CONVOLUTIONS
        and layer.data_format == "channels_last"
        and layer.activation in (None, keras.activations.linear)
    )


def _can_fold(norm: layers.Layer, *, training: bool) -> bool:
    return (
        type(norm) is BatchNorm
        and norm.scale
        and norm.center
        and norm.axis in (-1, 3)
        and not (training and norm.is_training)
    )


def _inner(layer: layers.Layer) -> layers.Layer:
    return layer.layer if isinstance(layer, TimeDistributed) else layer
