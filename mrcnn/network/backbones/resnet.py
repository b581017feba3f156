"""Residual networks, which turn an image into feature maps C1..C5.

*(Deep Residual Learning, He et al. 2016; ResNeXt, Xie et al. 2017)*, with Matterport's layer names.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from string import ascii_lowercase
from typing import Any, NamedTuple

import keras
from keras import layers

from mrcnn.network.layers.grouped_conv import GroupedConv2D
from mrcnn.network.layers.norm import BatchNorm, batch_norm

Tensor = Any
# Regular expression of the layer names of a stage.
STAGE_LAYERS = r"(res{stage}.*)|(bn{stage}.*)"


class Options(NamedTuple):
    """Variants of ResNets that share a name; the defaults are Matterport's.

    Attributes:
        stride_on_first: a strided bottleneck has its stride on the first 1x1 convolution; else on
            the 3x3 convolution.
        symmetric_padding: strided convolutions and the stem's pooling pad all sides equally; else
            like TensorFlow's "same".
        epsilon: epsilon of batch norm.
        use_bias: convolutions have biases.
        train_bn: batch norms use and update batch statistics.
    """

    stride_on_first: bool = True
    symmetric_padding: bool = False
    epsilon: float = 1e-3
    use_bias: bool = True
    train_bn: bool = True

    def batch_norm(self, name: str) -> BatchNorm:
        """Return a batch norm."""
        return batch_norm(name, train_bn=self.train_bn, epsilon=self.epsilon)


DEFAULTS = Options()


def bottleneck(
    features: Tensor, block: str, width: int, strides: int, conv: partial, net: "ResNet"
) -> Tensor:
    """Return a block of 1x1, 3x3, 1x1 convolutions, four times `width` channels wide.

    The first block of a stage ("2a") projects its shortcut.

    Args:
        conv: `conv_norm` bound to an `Options`.
    """
    shortcut = features
    inner = width * net.group_width * net.groups // 64
    first, second = (strides, 1) if conv.keywords["options"].stride_on_first else (1, strides)
    features = conv(features, inner, 1, _names(block, "2a"), strides=first)
    features = layers.ReLU()(features)
    features = conv(features, inner, 3, _names(block, "2b"), strides=second, groups=net.groups)
    features = conv(layers.ReLU()(features), 4 * width, 1, _names(block, "2c"))
    if block.endswith("a"):
        shortcut = conv(shortcut, 4 * width, 1, _names(block, "1"), strides=strides)
    return layers.ReLU(name=f"res{block}_out")(layers.Add()([features, shortcut]))


def basic_block(
    features: Tensor, block: str, width: int, strides: int, conv: partial, net: "ResNet"
) -> Tensor:
    """Return a block of two 3x3 convolutions, `width` channels wide (ResNet-18 and -34)."""
    del net
    shortcut = features
    features = layers.ReLU()(conv(features, width, 3, _names(block, "2a"), strides=strides))
    features = conv(features, width, 3, _names(block, "2b"))
    if block.endswith("a") and (strides > 1 or shortcut.shape[-1] != width):
        shortcut = conv(shortcut, width, 1, _names(block, "1"), strides=strides)
    return layers.ReLU(name=f"res{block}_out")(layers.Add()([features, shortcut]))


@dataclass(frozen=True)
class ResNet:
    """A residual network.

    Attributes:
        depths: number of blocks in each of stages 2 to 5.
        block: `bottleneck` or `basic_block`.
        groups, group_width: number of groups of the bottlenecks' 3x3 convolutions, and channels
            per group in stage 2.
    """

    depths: tuple[int, ...]
    block: Callable = bottleneck
    groups: int = 1
    group_width: int = 64


def stages(
    image: Tensor,
    net: ResNet,
    width: int = 64,
    options: Options = DEFAULTS,
    *,
    last_stage: int = 5,
) -> list[Tensor]:
    """Return [C1, ..., C5] of an image (B, H, W, C), strides 4, 4, 8, 16 and 32.

    Args:
        width: Channels of the stem; stage s has a width of width * 2**(s - 2).
        last_stage: 4 omits C5.
    """
    features = layers.ZeroPadding2D(3)(image)
    stem = layers.Conv2D(width, 7, 2, "valid", use_bias=options.use_bias, name="conv1")
    features = layers.ReLU()(options.batch_norm("bn_conv1")(stem(features)))
    if options.symmetric_padding:
        # Zero padding is safe: ReLU outputs are never negative.
        features = layers.MaxPooling2D(3, 2, "valid")(layers.ZeroPadding2D(1)(features))
    else:
        features = layers.MaxPooling2D(3, 2, "same")(features)
    maps = [features]
    conv = partial(conv_norm, options=options)
    for stage in range(2, last_stage + 1):
        maps.append(_stage(maps[-1], stage, net, width, 2 if stage > 2 else 1, conv))
    return maps


def stage_5(
    net: ResNet,
    channels: int,
    width: int,
    options: Options = DEFAULTS,
) -> keras.Model:
    """Return stage 5 as a head that preserves the RoI size, (N, h, w, channels).

    *(Mask R-CNN, figure 4, left: "res5 ... altered so that the first conv operates on a 7x7 RoI
    with stride 1")*
    """
    features = keras.Input((None, None, channels))
    conv = partial(conv_norm, options=options)
    return keras.Model(features, _stage(features, 5, net, width, 1, conv), name="res5")


def conv_norm(
    features: Tensor,
    filters: int,
    size: int,
    names: tuple[str, str],
    *,
    strides: int = 1,
    groups: int = 1,
    options: Options = DEFAULTS,
) -> Tensor:
    """Return convolution and batch norm, named (convolution, norm): (B, H, W, C)."""
    padding = "same"
    if strides > 1 and size > 1 and options.symmetric_padding:
        features, padding = layers.ZeroPadding2D(size // 2)(features), "valid"
    kind = layers.Conv2D if groups == 1 else GroupedConv2D
    convolution = kind(
        filters, size, strides, padding, groups=groups, use_bias=options.use_bias, name=names[0]
    )
    return options.batch_norm(names[1])(convolution(features))


def _stage(
    features: Tensor, stage: int, net: ResNet, width: int, strides: int, conv: Callable
) -> Tensor:
    """Return the features after the blocks of a stage; only the first block is strided."""
    channels = width * 2 ** (stage - 2)
    for letter in ascii_lowercase[: net.depths[stage - 2]]:
        first = strides if letter == "a" else 1
        features = net.block(features, f"{stage}{letter}", channels, first, conv, net)
    return features


def _names(block: str, branch: str) -> tuple[str, str]:
    return f"res{block}_branch{branch}", f"bn{block}_branch{branch}"
