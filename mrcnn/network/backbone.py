"""Backbones: residual networks that turn an image into feature maps C2..C5.

*(Deep Residual Learning, He et al. 2016)* with Matterport's layer names, in the `Style` of one or
another family of weights.
"""

from collections.abc import Callable
from functools import partial
from string import ascii_lowercase
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers, ops

from mrcnn.network import backend_ops

Tensor = Any


class Style(NamedTuple):
    """In what residual networks of the same name differ; by default Matterport's.

    Attributes:
        stride_on_first: of a bottleneck, on its first 1x1 convolution; else on its 3x3.
        pads_evenly: strided convolutions and the stem's pool, on all sides alike.
        epsilon: of batch norm. use_bias: of convolutions.
        groups, group_width: of the 3x3 convolutions of bottlenecks *(ResNeXt, Xie et al. 2017)*:
            their number, and the channels of each in the first stage.
    """

    stride_on_first: bool = True
    pads_evenly: bool = False
    epsilon: float = 1e-3
    use_bias: bool = True
    groups: int = 1
    group_width: int = 64


MATTERPORTS = Style()


@keras.saving.register_keras_serializable("mrcnn")
class BatchNorm(layers.BatchNormalization):
    """Batch normalization that can hold its statistics still while gamma and beta train.

    In heads its statistics are of the rows that count, see `backend_ops.counting`, over all
    replicas.

    Args:
        is_training: True uses and updates batch statistics in training; False always uses the
            stored ones (Matterport's TRAIN_BN = False), which is not the same as freezing. A
            training model reads it once, when it is made.
    """

    def __init__(self, is_training: bool = True, **kwargs):
        kwargs.setdefault("epsilon", 1e-3)
        if not backend_ops.HAS_REPLICAS:  # statistics are of the global batch as it is
            kwargs["synchronized"] = False
        super().__init__(**kwargs)
        self.is_training = is_training

    def call(self, inputs, training=None, mask=None):
        return super().call(inputs, training=bool(training) and self.is_training, mask=mask)

    def _moments(self, inputs, mask):
        # Keras calls this one for the statistics of a batch, in float32.
        rows = backend_ops.rows_that_count()
        if rows is None:
            return super()._moments(inputs, mask)
        return self._moments_of(inputs, ops.cast(rows > 0, inputs.dtype))

    def _moments_of(self, inputs: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and variance over rows of all replicas: (N, ..., C), (N,) of 0 or 1."""
        weights = ops.reshape(rows, (-1, *[1] * (len(inputs.shape) - 1)))
        axes = tuple(range(len(inputs.shape) - 1))
        cells = ops.cast(ops.prod(ops.shape(inputs)[1:-1]), inputs.dtype)
        count = backend_ops.sum_over_replicas(ops.sum(rows) * cells)
        share = weights / ops.maximum(count, 1.0)
        mean = backend_ops.sum_over_replicas(ops.sum(inputs * share, axis=axes))
        deviation = ops.square(inputs - mean)
        variance = backend_ops.sum_over_replicas(ops.sum(deviation * share, axis=axes))
        # Without any row the stored statistics are used, and stay.
        is_any = count > 0
        stored = [ops.cast(each, inputs.dtype) for each in (self.moving_mean, self.moving_variance)]
        return ops.where(is_any, mean, stored[0]), ops.where(is_any, variance, stored[1])

    def get_config(self):
        return {**super().get_config(), "is_training": self.is_training}


@keras.saving.register_keras_serializable("mrcnn")
class GroupedConv2D(layers.Conv2D):
    """A convolution by groups *(ResNeXt, Xie et al. 2017)*; on CPUs one over all channels.

    There TensorFlow's own is some fifty times slower than a convolution of all channels, which is
    the same with zeros between the groups.
    """

    def convolution_op(self, inputs, kernel):
        if self.groups > 1 and not backend_ops.has_gpu():
            kernel = ops.tile(kernel, (1, 1, self.groups, 1)) * self._same_group(kernel)
        return super().convolution_op(inputs, kernel)

    def _same_group(self, kernel: Tensor) -> Tensor:
        """Return 1 where input and output channel are of one group: (inputs, outputs)."""
        inputs, outputs = kernel.shape[2] * self.groups, kernel.shape[3]
        groups = (
            np.arange(inputs) // kernel.shape[2],
            np.arange(outputs) // (outputs // self.groups),
        )
        return ops.convert_to_tensor(groups[0][:, None] == groups[1], dtype=kernel.dtype)


def conv_norm(
    features: Tensor,
    filters: int,
    size: int,
    names: tuple[str, str],
    *,
    strides: int = 1,
    train_bn: bool = True,
    style: Style = MATTERPORTS,
) -> Tensor:
    """Return convolution and batch norm, named (convolution, norm): (B, H, W, C)."""
    padding, groups = "same", style.groups if size > 1 else 1
    if strides > 1 and size > 1 and style.pads_evenly:
        features, padding = layers.ZeroPadding2D(size // 2)(features), "valid"
    kind = layers.Conv2D if groups == 1 else GroupedConv2D
    convolution = kind(
        filters, size, strides, padding, groups=groups, use_bias=style.use_bias, name=names[0]
    )
    return _norm(names[1], train_bn, style)(convolution(features))


def bottleneck(
    features: Tensor, block: str, width: int, strides: int, train_bn: bool, style: Style
) -> Tensor:
    """Return a block of 1x1, 3x3, 1x1 convolutions, four times `width` channels wide.

    The first block of a stage ("2a") projects its shortcut.
    """
    shortcut = features
    add = partial(conv_norm, train_bn=train_bn, style=style)
    inner = width * style.group_width * style.groups // 64
    first, second = (strides, 1) if style.stride_on_first else (1, strides)
    features = add(features, inner, 1, _names(block, "2a"), strides=first)
    features = layers.ReLU()(features)
    features = add(features, inner, 3, _names(block, "2b"), strides=second)
    features = add(layers.ReLU()(features), 4 * width, 1, _names(block, "2c"))
    if block.endswith("a"):
        shortcut = add(shortcut, 4 * width, 1, _names(block, "1"), strides=strides)
    return layers.ReLU(name=f"res{block}_out")(layers.Add()([features, shortcut]))


def basic_block(
    features: Tensor, block: str, width: int, strides: int, train_bn: bool, style: Style
) -> Tensor:
    """Return a block of two 3x3 convolutions, `width` channels wide (ResNet-18 and -34)."""
    shortcut = features
    add = partial(conv_norm, train_bn=train_bn, style=style)
    features = layers.ReLU()(add(features, width, 3, _names(block, "2a"), strides=strides))
    features = add(features, width, 3, _names(block, "2b"))
    if block.endswith("a") and (strides > 1 or shortcut.shape[-1] != width):
        shortcut = add(shortcut, width, 1, _names(block, "1"), strides=strides)
    return layers.ReLU(name=f"res{block}_out")(layers.Add()([features, shortcut]))


def resnet(
    image: Tensor,
    depths: tuple[int, ...],
    block: Callable,
    width: int = 64,
    train_bn: bool = True,
    *,
    style: Style = MATTERPORTS,
    last_stage: int = 5,
) -> list[Tensor]:
    """Return [C1, ..., C5] of a residual network, strides 4 to 32, from an image (B, H, W, C).

    Args:
        depths: Number of blocks of stages 2 to 5.
        width: Channels of the stem; stage s is width * 2**(s - 2) wide.
        last_stage: 4 leaves out C5.
    """
    features = layers.ZeroPadding2D(3)(image)
    stem = layers.Conv2D(width, 7, 2, "valid", use_bias=style.use_bias, name="conv1")
    features = layers.ReLU()(_norm("bn_conv1", train_bn, style)(stem(features)))
    if style.pads_evenly:
        # Zeros are never larger than what a ReLU leaves.
        features = layers.MaxPooling2D(3, 2, "valid")(layers.ZeroPadding2D(1)(features))
    else:
        features = layers.MaxPooling2D(3, 2, "same")(features)
    stages = [features]
    styled = partial(block, train_bn=train_bn, style=style)
    for stage, depth in enumerate(depths[: last_stage - 1], start=2):
        strides = 2 if stage > 2 else 1
        features = residual_stage(features, stage, depth, styled, width, strides)
        stages.append(features)
    return stages


def residual_stage(
    features: Tensor, stage: int, depth: int, block: Callable, width: int, strides: int
) -> Tensor:
    """Return what the blocks of a stage make of features; the first one has the strides.

    Args:
        depth: Number of blocks. width: Channels of the stem.
    """
    channels = width * 2 ** (stage - 2)
    for letter in ascii_lowercase[:depth]:
        first = strides if letter == "a" else 1
        features = block(features, f"{stage}{letter}", channels, first)
    return features


# Blocks of stages 2 to 5, and their kind.
BACKBONES: dict[str, tuple[tuple[int, ...], Callable]] = {
    "resnet18": ((2, 2, 2, 2), basic_block),
    "resnet34": ((3, 4, 6, 3), basic_block),
    "resnet50": ((3, 4, 6, 3), bottleneck),
    "resnet101": ((3, 4, 23, 3), bottleneck),
    "resnext50_32x4d": ((3, 4, 6, 3), bottleneck),
    "resnext101_32x8d": ((3, 4, 23, 3), bottleneck),
    "resnext101_64x4d": ((3, 4, 23, 3), bottleneck),
}
# Number of groups and the channels of each, of those that have several.
GROUPS = {"resnext50_32x4d": (32, 4), "resnext101_32x8d": (32, 8), "resnext101_64x4d": (64, 4)}


def build(
    name: str,
    image: Tensor,
    width: int,
    train_bn: bool,
    *,
    style: Style = MATTERPORTS,
    last_stage: int = 5,
) -> list[Tensor]:
    """Return [C1, ..., C5] of the backbone with this name.

    Raises:
        ValueError: For a name that is not in BACKBONES.
    """
    depths, block = _plan(name)
    style = _grouped(style, name)
    return resnet(image, depths, block, width, train_bn, style=style, last_stage=last_stage)


def build_res5(
    name: str, channels: int, width: int, train_bn: bool, *, style: Style = MATTERPORTS
) -> keras.Model:
    """Return stage 5 of a backbone as a head that keeps the size of RoIs, (N, h, w, channels).

    *(Mask R-CNN, figure 4, left: "res5 ... altered so that the first conv operates on a 7x7 RoI
    with stride 1")*
    """
    depths, block = _plan(name)
    features = keras.Input((None, None, channels))
    styled = partial(block, train_bn=train_bn, style=_grouped(style, name))
    outputs = residual_stage(features, 5, depths[3], styled, width, 1)
    return keras.Model(features, outputs, name="res5")


def _plan(name: str) -> tuple[tuple[int, ...], Callable]:
    if name not in BACKBONES:
        raise ValueError(f"BACKBONE must be a callable or one of {sorted(BACKBONES)}, got {name!r}")
    return BACKBONES[name]


def _grouped(style: Style, name: str) -> Style:
    groups, group_width = GROUPS.get(name, (1, 64))
    return style._replace(groups=groups, group_width=group_width)


def _norm(name: str, train_bn: bool, style: Style) -> BatchNorm:
    # Replicas see different images: only synchronized statistics stay equal on all of them.
    return BatchNorm(is_training=train_bn, synchronized=train_bn, epsilon=style.epsilon, name=name)


def _names(block: str, branch: str) -> tuple[str, str]:
    return f"res{block}_branch{branch}", f"bn{block}_branch{branch}"
