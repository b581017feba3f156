"""Batch norms that nothing trains, folded into the convolutions before them.

A batch norm with stored statistics is a factor and a summand a channel, which a convolution can
have in its kernel and bias *(Jacob et al. 2018, section 3.2)*: large maps are then gone through
once instead of three times. The weights stay those of the two layers, and are folded anew in every
step, so that what trains or loads them need not know.
"""

from typing import Any

import keras
from keras import layers, ops

from mrcnn.network.backbone import BatchNorm, GroupedConv2D
from mrcnn.network.roi_align import TimeDistributed

Tensor = Any
CONVOLUTIONS = (layers.Conv2D, GroupedConv2D)


class FoldedConv(layers.Layer):
    """What a convolution and the batch norm after it compute together, with stored statistics.

    Args:
        convolution, norm: Built; their weights are used, and are the weights of this layer.
    """

    def __init__(self, convolution: layers.Conv2D, norm: BatchNorm) -> None:
        # Kernels are folded in float32 and rounded once, so variables must not be cast before.
        super().__init__(dtype=convolution.dtype_policy, autocast=False)
        self.convolution, self.norm = convolution, norm
        self.built = True

    def call(self, features):
        norm, convolution = self.norm, self.convolution
        factor = ops.rsqrt(norm.moving_variance + norm.epsilon) * norm.gamma
        bias = norm.beta - norm.moving_mean * factor
        if convolution.use_bias:
            bias += convolution.bias * factor
        kernel = ops.cast(convolution.kernel * factor, self.compute_dtype)
        features = ops.cast(features, self.compute_dtype)
        features = convolution.convolution_op(features, kernel)
        bias = ops.reshape(ops.cast(bias, self.compute_dtype), (1, 1, 1, -1))
        return ops.add(features, bias)  # which becomes TensorFlow's bias_add, where `+` would not

    def compute_output_shape(self, input_shape):
        return self.convolution.compute_output_shape(input_shape)


def folded(model: keras.Model, *, training: bool = False) -> keras.Model:
    """Return a model that computes what a functional model does, over the same weights.

    Args:
        training: Only the batch norms that use stored statistics in training, too, are folded.
    """
    partners = _partners(model, training=training)
    norms = {id(norm) for norm in partners.values()}
    made: dict[int, layers.Layer] = {}  # a layer that is used twice is replaced by one

    def replace(layer: layers.Layer) -> layers.Layer | None:
        if id(layer) in norms:
            return None
        if id(layer) not in made:
            made[id(layer)] = _replacement(layer, partners.get(id(layer)), training=training)
        return made[id(layer)]

    def call(layer: layers.Layer | None, *inputs: Tensor, **options: Any) -> Tensor:
        return inputs[0] if layer is None else layer(*inputs, **options)

    return keras.models.clone_model(model, clone_function=replace, call_function=call)


def _replacement(layer: layers.Layer, norm: layers.Layer | None, *, training: bool) -> layers.Layer:
    inner = _inner(layer)
    if norm is not None:
        replacement = FoldedConv(inner, _inner(norm))
    elif isinstance(inner, keras.Model):
        replacement = folded(inner, training=training)
    else:
        return layer
    return TimeDistributed(replacement) if inner is not layer else replacement


def _partners(model: keras.Model, *, training: bool) -> dict[int, layers.Layer]:
    """Return the batch norm that alone follows a convolution, by the convolution's id."""
    consumers: dict[int, list[layers.Layer]] = {}
    for operation in model.operations:
        for node in operation._inbound_nodes:
            for tensor in node.input_tensors:
                consumers.setdefault(id(tensor), []).append(operation)
    kept = {id(tensor) for tensor in model.outputs}
    found = {}
    for layer in model.layers:
        if type(_inner(layer)) not in CONVOLUTIONS or id(layer.output) in kept:
            continue
        following = consumers.get(id(layer.output), [])
        if len(following) == 1 and _can_fold(layer, following[0], training=training):
            found[id(layer)] = following[0]
    return found


def _can_fold(layer: layers.Layer, norm: layers.Layer, *, training: bool) -> bool:
    inner = _inner(norm)
    return (
        isinstance(inner, BatchNorm)
        and isinstance(norm, TimeDistributed) == isinstance(layer, TimeDistributed)
        and not (training and inner.is_training)
        and _inner(layer).activation in (None, keras.activations.linear)
    )


def _inner(layer: layers.Layer) -> layers.Layer:
    return layer.layer if isinstance(layer, TimeDistributed) else layer
