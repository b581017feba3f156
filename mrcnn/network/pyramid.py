"""Feature Pyramid Network: maps P2..P6 with equal channels (Lin et al. 2017, section 3)."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from keras import layers

Tensor = Any


class Pyramid(NamedTuple):
    """Feature maps, finest first.

    Attributes:
        maps: (B, H, W, C) each; the RPN uses all of them.
        finest: level of the first map; level l has stride 2**l, and the next map is level l + 1.
        num_roi_maps: number of maps, from the finest, that RoI features are taken from.
    """

    maps: list[Tensor]
    finest: int
    num_roi_maps: int

    @property
    def roi_maps(self) -> list[Tensor]:
        """The maps that RoI features are taken from."""
        return self.maps[: self.num_roi_maps]

    @property
    def channels(self) -> int:
        """The number of channels, equal in all maps."""
        return self.maps[0].shape[-1]


def single(features: Tensor, level: int) -> Pyramid:
    """Return a single map as a pyramid, for networks without FPN."""
    return Pyramid([features], level, 1)


def build(
    stages: Sequence[Tensor], channels: int, norm: Callable[[str], layers.Layer] | None = None
) -> Pyramid:
    """Return [P2, ..., P5, P6] from [C2, ..., C5]; strides 4 to 64, with `channels` channels.

    P6 is every second cell of P5; only the RPN uses it.

    Args:
        norm: Creates a batch norm by name; convolutions before one have no biases.
    """

    def conv(features: Tensor, size: int, name: str) -> Tensor:
        layer = layers.Conv2D(channels, size, padding="same", use_bias=norm is None, name=name)
        return layer(features) if norm is None else norm(f"{name}_bn")(layer(features))

    finest, coarsest = 2, 1 + len(stages)
    merged = conv(stages[-1], 1, f"fpn_c{coarsest}p{coarsest}")
    top_down = [merged]
    for level in range(coarsest - 1, finest - 1, -1):
        upsampled = layers.UpSampling2D(name=f"fpn_p{level + 1}upsampled")(merged)
        lateral = conv(stages[level - finest], 1, f"fpn_c{level}p{level}")
        merged = layers.Add(name=f"fpn_p{level}add")([upsampled, lateral])
        top_down.insert(0, merged)
    maps = [
        conv(features, 3, f"fpn_p{level}") for level, features in enumerate(top_down, start=finest)
    ]
    subsampled = layers.MaxPooling2D(1, 2, name=f"fpn_p{coarsest + 1}")(maps[-1])
    return Pyramid([*maps, subsampled], finest, len(maps))
