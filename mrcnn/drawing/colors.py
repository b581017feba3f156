"""Colours of classes and objects.

They are spread in OKLCH (Ottosson 2020), where equal steps look equal, so that no class is louder
than another and every one is legible on dark and on light.
"""

import colorsys
from collections.abc import Iterable, Sequence

import numpy as np

GOLDEN_RATIO = 0.618034
LUMA = np.array([0.299, 0.587, 0.114], np.float32)

# Fractions (r, g, b), a name of matplotlib, or bytes 0..255.
Color = str | Sequence[float] | np.ndarray


def class_colors(num_classes: int) -> np.ndarray:
    """Return one colour per class, grey for the background: (K, 3) uint8.

    The colour of a class does not depend on how many classes there are.
    """
    background = np.array([[128, 128, 128]], np.uint8)
    return np.concatenate([background, instance_colors(num_classes - 1)])[:num_classes]


def instance_colors(num_instances: int) -> np.ndarray:
    """Return colours of which neighbours in the list differ most: (N, 3) uint8."""
    order = np.arange(max(num_instances, 0))
    # Steps of the golden ratio never come back near the last few hues; lightness varies too,
    # since about a dozen hues are all that an eye can tell apart.
    hues = (0.07 + order * GOLDEN_RATIO) % 1
    lightness = np.array([0.72, 0.64, 0.80])[order % 3]
    return _oklch_to_rgb(lightness, 0.17, hues)


def random_colors(N: int, bright: bool = True) -> list[tuple[float, float, float]]:  # noqa: N803
    """Return N different colours, fractions (r, g, b), in a mixed order that is always the same."""
    value = 1.0 if bright else 0.7
    order = np.random.default_rng(0).permutation(N)
    return [colorsys.hsv_to_rgb(float(place) / N, 1, value) for place in order]


def default_colors(class_ids: np.ndarray, num_classes: int) -> np.ndarray:
    """Return a colour per class, or per instance if there is but one class: (N, 3) uint8."""
    if num_classes <= 2:
        return instance_colors(len(class_ids))
    return class_colors(num_classes)[np.abs(class_ids)]


def ink(color: np.ndarray) -> str:
    """Return "black" or "white", whichever is legible on a colour (3,) uint8."""
    return "black" if color @ LUMA > 100 else "white"


def fractions(color: Color) -> np.ndarray:
    """Return a colour, in any way to write it, as fractions: (3,) float64."""
    if isinstance(color, str):
        from matplotlib.colors import to_rgb

        return np.array(to_rgb(color))
    values = np.asarray(color, float)[:3]
    return values / 255 if values.max() > 1 else values


def to_bytes(colors: Iterable[Color]) -> np.ndarray:
    """Return colours as (N, 3) uint8."""
    values = np.array([fractions(color) for color in colors]).reshape(-1, 3)
    return np.round(255 * values).astype(np.uint8)


def _oklch_to_rgb(lightness: np.ndarray, chroma: float, hue: np.ndarray) -> np.ndarray:
    """Return sRGB colours (N, 3) uint8; hue in turns. Matrices: Ottosson 2020, "Oklab"."""
    angle = 2 * np.pi * hue
    lab = np.stack([lightness, chroma * np.cos(angle), chroma * np.sin(angle)], axis=-1)
    cone_roots = lab @ np.array(
        [
            [1.0, 1.0, 1.0],
            [0.39633778, -0.10556135, -0.08948418],
            [0.21580376, -0.06385417, -1.291485548],
        ]
    )
    linear = cone_roots**3 @ np.array(
        [
            [4.07674166, -1.26843801, -0.00419609],
            [-3.30771159, 2.60975740, -0.70341861],
            [0.23096993, -0.34131940, 1.70761470],
        ]
    )
    linear = np.clip(linear, 0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.round(255 * srgb).astype(np.uint8)
