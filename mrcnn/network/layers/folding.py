"""Batch norms that nothing trains, folded into the convolutions before them.

A batch norm with stored statistics is a factor and a summand per channel, which a convolution can
have in its kernel and bias *(Jacob et al. 2018, section 3.2)*: large maps are then gone through
once instead of three times. The weights stay those of the two layers, and are folded anew in every
step, so that what trains or loads them need not know.
"""

from collections import defaultdict
from typing import Any

import keras
from keras import layers, ops

from mrcnn.network.layers.grouped_conv import GroupedConv2D
from mrcnn.network.layers.norm import BatchNorm
from mrcnn.network.layers.time_distributed import TimeDistributed

Tensor = Any
CONVOLUTIONS = (layers.Conv2D, GroupedConv2D)


class FoldedConv(layers.Layer):
    """What a convolution and the batch norm after it compute together, with stored statistics.

    Folds in float32; the kernel is rounded once, to the precision of the convolution.

    Args:
        convolution, norm: Built; their weights are used, and are the weights of this layer.
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
        return ops.add(features, bias)  # which becomes TensorFlow's bias_add, where `+` would not

    def compute_output_shape(self, input_shape):
        return self.convolution.compute_output_shape(input_shape)

    def compute_output_spec(self, features):
        shape = self.compute_output_shape(features.shape)
        return keras.KerasTensor(shape, self.convolution.compute_dtype)


def folded(model: keras.Model, *, training: bool = False) -> keras.Model:
    """Return a model that computes what a functional model does, over the same weights.

    Args:
        training: Only the batch norms that use stored statistics in training, too, are folded.
    """
    partners = _partners(model, training=training)
    norms = {id(norm) for norm in partners.values()}
    made: dict[int, layers.Layer] = {}  # a layer that is used twice is replaced by one

    def replacement(layer: layers.Layer) -> layers.Layer:
        inner = _inner(layer)
        if id(layer) in partners:
            found = FoldedConv(inner, _inner(partners[id(layer)]))
        elif type(inner) is type(model):  # functional, too
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
    """Return the batch norm that alone follows a convolution, by the convolution's id.

    Both are called once in the model.
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
