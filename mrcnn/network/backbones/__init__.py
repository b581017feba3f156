"""Backbones by name, one file per family."""

from typing import Any

import keras

from mrcnn.network.backbones import resnet
from mrcnn.network.backbones.resnet import ResNet

Tensor = Any
BACKBONES: dict[str, ResNet] = {
    "resnet18": ResNet((2, 2, 2, 2), resnet.basic_block),
    "resnet34": ResNet((3, 4, 6, 3), resnet.basic_block),
    "resnet50": ResNet((3, 4, 6, 3)),
    "resnet101": ResNet((3, 4, 23, 3)),
    "resnext50_32x4d": ResNet((3, 4, 6, 3), groups=32, group_width=4),
    "resnext101_32x8d": ResNet((3, 4, 23, 3), groups=32, group_width=8),
    "resnext101_64x4d": ResNet((3, 4, 23, 3), groups=64, group_width=4),
}


def get(name: str) -> ResNet:
    """Return the backbone with this name.

    Raises:
        ValueError: If the name is not in BACKBONES.
    """
    if name not in BACKBONES:
        raise ValueError(f"BACKBONE must be a callable or one of {sorted(BACKBONES)}, got {name!r}")
    return BACKBONES[name]


def build(
    name: str,
    image: Tensor,
    width: int,
    options: resnet.Options = resnet.DEFAULTS,
    *,
    last_stage: int = 5,
) -> list[Tensor]:
    """Return [C1, ..., C5] of the backbone with this name; see `resnet.stages`."""
    return resnet.stages(image, get(name), width, options, last_stage=last_stage)


def build_res5(
    name: str,
    channels: int,
    width: int,
    options: resnet.Options = resnet.DEFAULTS,
) -> keras.Model:
    """Return stage 5 of a backbone as an RoI head; see `resnet.stage_5`."""
    return resnet.stage_5(get(name), channels, width, options)
