"""Backbones: residual networks that turn an image into feature maps C2..C5.

*(Deep Residual Learning, He et al. 2016)* with Matterport's layer names and numerics: biased
convolutions, batch norm epsilon 1e-3, and in bottlenecks the stride on the first 1x1 convolution.
"""

from collections.abc import Callable
from functools import partial
from string import ascii_lowercase
from typing import Any

import keras
from keras import layers

Tensor = Any


@keras.saving.register_keras_serializable("mrcnn")
class BatchNorm(layers.BatchNormalization):
    """Batch normalization that can hold its statistics still while gamma and beta train.

    Args:
        is_training: True uses and updates batch statistics in training; False always uses the
            stored ones (Matterport's TRAIN_BN = False), which is not the same as freezing.
    """

    def __init__(self, is_training: bool = True, **kwargs):
        kwargs.setdefault("epsilon", 1e-3)
        super().__init__(**kwargs)
        self.is_training = is_training

    def call(self, inputs, training=None, mask=None):
        return super().call(inputs, training=bool(training) and self.is_training, mask=mask)

    def get_config(self):
        return {**super().get_config(), "is_training": self.is_training}


def conv_norm(
    features: Tensor,
    filters: int,
    size: int,
    names: tuple[str, str],
    *,
    strides: int = 1,
    use_bias: bool = True,
    train_bn: bool = True,
) -> Tensor:
    """Return convolution and batch norm, named (convolution, norm): (B, H, W, C)."""
    convolution = layers.Conv2D(filters, size, strides, "same", use_bias=use_bias, name=names[0])
    features = convolution(features)
    return _norm(names[1], train_bn)(features)


def bottleneck(features: Tensor, block: str, width: int, strides: int, train_bn: bool) -> Tensor:
    """Return a block of 1x1, 3x3, 1x1 convolutions, four times `width` channels wide.

    The first block of a stage ("2a") projects its shortcut.
    """
    shortcut = features
    add = partial(conv_norm, train_bn=train_bn)
    features = add(features, width, 1, _names(block, "2a"), strides=strides)
    features = layers.ReLU()(features)
    features = layers.ReLU()(add(features, width, 3, _names(block, "2b")))
    features = add(features, 4 * width, 1, _names(block, "2c"))
    if block.endswith("a"):
        shortcut = add(shortcut, 4 * width, 1, _names(block, "1"), strides=strides)
    return layers.ReLU(name=f"res{block}_out")(layers.Add()([features, shortcut]))


def basic_block(features: Tensor, block: str, width: int, strides: int, train_bn: bool) -> Tensor:
    """Return a block of two 3x3 convolutions, `width` channels wide (ResNet-18 and -34)."""
    shortcut = features
    add = partial(conv_norm, train_bn=train_bn)
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
    last_stage: int = 5,
) -> list[Tensor]:
    """Return [C1, ..., C5] of a residual network, strides 4 to 32, from an image (B, H, W, C).

    Args:
        depths: Number of blocks of stages 2 to 5.
        width: Channels of the stem; stage s is width * 2**(s - 2) wide.
        last_stage: 4 leaves out C5.
    """
    features = layers.ZeroPadding2D(3)(image)
    features = layers.Conv2D(width, 7, 2, "valid", name="conv1")(features)
    features = layers.ReLU()(_norm("bn_conv1", train_bn)(features))
    # Matterport pads the stem's pool 'same', at bottom and right where sides are even.
    features = layers.MaxPooling2D(3, 2, "same")(features)
    stages = [features]
    for stage, depth in enumerate(depths[: last_stage - 1], start=2):
        for letter in ascii_lowercase[:depth]:
            strides = 2 if letter == "a" and stage > 2 else 1
            name = f"{stage}{letter}"
            features = block(features, name, width * 2 ** (stage - 2), strides, train_bn)
        stages.append(features)
    return stages


BACKBONES: dict[str, Callable[..., list[Tensor]]] = {
    "resnet18": partial(resnet, depths=(2, 2, 2, 2), block=basic_block),
    "resnet34": partial(resnet, depths=(3, 4, 6, 3), block=basic_block),
    "resnet50": partial(resnet, depths=(3, 4, 6, 3), block=bottleneck),
    "resnet101": partial(resnet, depths=(3, 4, 23, 3), block=bottleneck),
}


def build(
    name: str, image: Tensor, width: int, train_bn: bool, *, last_stage: int = 5
) -> list[Tensor]:
    """Return [C1, ..., C5] of the backbone with this name.

    Raises:
        ValueError: For a name that is not in BACKBONES.
    """
    if name not in BACKBONES:
        raise ValueError(f"BACKBONE must be a callable or one of {sorted(BACKBONES)}, got {name!r}")
    return BACKBONES[name](image, width=width, train_bn=train_bn, last_stage=last_stage)


def _norm(name: str, train_bn: bool) -> BatchNorm:
    # Replicas see different images: only synchronized statistics stay equal on all of them.
    return BatchNorm(is_training=train_bn, synchronized=train_bn, name=name)


def _names(block: str, branch: str) -> tuple[str, str]:
    return f"res{block}_branch{branch}", f"bn{block}_branch{branch}"
