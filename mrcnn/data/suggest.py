"""Suggested settings for a dataset: input size, anchors, number of objects, mean pixel.

They are a starting point, not the optimum.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mrcnn.data.survey import ImageSurvey
from mrcnn.geometry import placement as placements

FIRST_ANCHORS = (8, 12, 16, 24, 32, 48, 64)  # candidate sides of the smallest anchor
LEVELS = 5
REACH = 1.5  # an anchor covers objects of its side, divided or multiplied by this
LARGEST_SIDE = 1024  # largest input side that typical memory allows
SEEN = 16  # pixels: side from which an object is well visible


@dataclass(frozen=True)
class InputSize:
    """How images are resized: the settings of the same names."""

    min_dim: int = 800
    max_dim: int = 1024
    min_scale: float = 0
    mode: str = "square"


def suggest(surveys: Sequence[ImageSurvey], input_size: InputSize) -> dict[str, Any]:
    """Return settings for a dataset by name, omitting those that cannot be inferred."""
    settings: dict[str, Any] = {}
    sizes = np.array([each.size for each in surveys if each.size])
    if not len(sizes):
        return settings
    if input_size.mode == "square":
        chosen = _input_size(surveys, sizes)
        settings |= {"IMAGE_MIN_DIM": chosen.min_dim, "IMAGE_MAX_DIM": chosen.max_dim}
        input_size = chosen
    sides = object_sides(surveys, input_size)
    if len(sides):
        settings["RPN_ANCHOR_SCALES"] = _anchor_scales(sides)
        most = max(len(each.class_ids) for each in surveys)
        settings["MAX_GT_INSTANCES"] = max(10, -(-most // 10) * 10)
    means = [each.mean for each in surveys if each.mean is not None]
    if means:
        settings["MEAN_PIXEL"] = [round(float(value), 1) for value in np.mean(means, axis=0)]
    return settings


def object_sides(surveys: Sequence[ImageSurvey], input_size: InputSize) -> np.ndarray:
    """Return the square root of each object's box area, in input pixels."""
    sides = [np.zeros(0)]
    for each in surveys:
        if each.size and len(each.boxes):
            height, width = (each.boxes[:, 2:] - each.boxes[:, :2]).T
            sides.append(np.sqrt(height * width) * scale_of(each.size, input_size))
    all_sides = np.concatenate(sides)
    return all_sides[all_sides > 0]


def scale_of(size: tuple[int, int], input_size: InputSize) -> float:
    """Return the resize factor of an image of size (H, W)."""
    if input_size.mode == "none":
        return 1.0
    return placements.place(
        size,
        input_size.min_dim,
        input_size.max_dim,
        min_scale=input_size.min_scale,
        mode=input_size.mode,
    ).scale


def _input_size(surveys: Sequence[ImageSurvey], sizes: np.ndarray) -> InputSize:
    """Return a square that holds 95 % of the images, enlarged if the objects are small."""
    longer, shorter = np.percentile(sizes.max(axis=1), 95), np.median(sizes.min(axis=1))
    as_it_is = InputSize(min_dim=1, max_dim=int(max(sizes.max(), 1)))
    sides = object_sides(surveys, as_it_is)
    least = np.percentile(sides, 10) if len(sides) else SEEN
    factor = float(np.clip(SEEN / least, 1, 4))
    max_dim = min(LARGEST_SIDE, _strides(longer * factor, up=True))
    factor = min(factor, max_dim / longer)
    return InputSize(min_dim=min(max_dim, _strides(shorter * factor, up=False)), max_dim=max_dim)


def _strides(length: float, *, up: bool) -> int:
    count = -(-length // placements.STRIDE) if up else length // placements.STRIDE
    return int(max(count, 1)) * placements.STRIDE


def _anchor_scales(sides: np.ndarray) -> list[int]:
    """Return the scales that cover most objects; ties go to those around the median."""
    reached = [
        np.mean((sides >= first / REACH) & (sides <= first * 2 ** (LEVELS - 1) * REACH))
        for first in FIRST_ANCHORS
    ]
    middle = np.median(sides) / 2 ** (LEVELS // 2)
    best = [n for n, share in zip(FIRST_ANCHORS, reached, strict=True) if share == max(reached)]
    first = min(best, key=lambda side: abs(np.log(side / middle)))
    return [first * 2**level for level in range(LEVELS)]
