"""Feature Pyramid Network: maps P2..P6 of one width (Lin et al. 2017, section 3)."""

from collections.abc import Sequence
from typing import Any

from keras import layers

Tensor = Any


def build(stages: Sequence[Tensor], channels: int) -> list[Tensor]:
    """Return [P2, P3, P4, P5, P6] from [C2, C3, C4, C5]; strides 4 to 64, `channels` wide.

    P6 is every second cell of P5; only the RPN reads it.
    """
    merged = _lateral(stages[-1], channels, "fpn_c5p5")
    levels = [merged]
    for level in (4, 3, 2):
        upsampled = layers.UpSampling2D(name=f"fpn_p{level + 1}upsampled")(merged)
        lateral = _lateral(stages[level - 2], channels, f"fpn_c{level}p{level}")
        merged = layers.Add(name=f"fpn_p{level}add")([upsampled, lateral])
        levels.insert(0, merged)
    maps = [
        layers.Conv2D(channels, 3, padding="same", name=f"fpn_p{level}")(features)
        for level, features in enumerate(levels, start=2)
    ]
    return maps + [layers.MaxPooling2D(1, 2, name="fpn_p6")(maps[-1])]


def _lateral(features: Tensor, channels: int, name: str) -> Tensor:
    return layers.Conv2D(channels, 1, name=name)(features)
