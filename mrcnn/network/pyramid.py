"""Feature Pyramid Network: maps P2..P6 of one width (Lin et al. 2017, section 3)."""

from collections.abc import Callable, Sequence
from typing import Any

from keras import layers

Tensor = Any


def build(
    stages: Sequence[Tensor], channels: int, norm: Callable[[str], layers.Layer] | None = None
) -> list[Tensor]:
    """Return [P2, P3, P4, P5, P6] from [C2, C3, C4, C5]; strides 4 to 64, `channels` wide.

    P6 is every second cell of P5; only the RPN reads it.

    Args:
        norm: Makes the batch norm of this name; convolutions before one have no biases.
    """

    def conv(features: Tensor, size: int, name: str) -> Tensor:
        layer = layers.Conv2D(channels, size, padding="same", use_bias=norm is None, name=name)
        return layer(features) if norm is None else norm(f"{name}_bn")(layer(features))

    merged = conv(stages[-1], 1, "fpn_c5p5")
    levels = [merged]
    for level in (4, 3, 2):
        upsampled = layers.UpSampling2D(name=f"fpn_p{level + 1}upsampled")(merged)
        lateral = conv(stages[level - 2], 1, f"fpn_c{level}p{level}")
        merged = layers.Add(name=f"fpn_p{level}add")([upsampled, lateral])
        levels.insert(0, merged)
    maps = [conv(features, 3, f"fpn_p{level}") for level, features in enumerate(levels, start=2)]
    return maps + [layers.MaxPooling2D(1, 2, name="fpn_p6")(maps[-1])]
