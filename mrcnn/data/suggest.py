"""Settings that fit a dataset: resize mode, input size, anchors, objects, mini-masks, mean pixel.

`mrcnn train` takes them, and `mrcnn check` prints them. They are a starting point, not the optimum.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from mrcnn.data.survey import ImageSurvey
from mrcnn.geometry import placement as placements

FIRST_ANCHORS = (8, 12, 16, 24, 32, 48, 64)  # candidate sides of the smallest anchor
LEVELS = 5
REACH = 1.5  # an anchor covers objects of its side, divided or multiplied by this
LARGEST_SIDE = 1024  # largest input side that typical memory allows
SEEN = 16  # pixels: side from which an object is well visible
NOT_SEEN = 12  # pixels: objects that are smaller are worth a crop of an enlarged image
LARGEST_IMAGE = 2048  # pixels: side of an image that can be detected in as a whole
WORTH = 1.25  # how much larger the objects of a crop must be
OBJECTS_ACROSS = 4  # a crop has room for so many large objects side by side
SMALLEST_CROP = 256
SMALL = 32  # pixels: objects of which a mini-mask of 28 x 28 keeps the outline
OF_SIZE = frozenset({"IMAGE_MIN_DIM", "IMAGE_MAX_DIM", "IMAGE_MIN_SCALE"})


@dataclass(frozen=True)
class InputSize:
    """How images are resized: the settings of the same names."""

    min_dim: int = 800
    max_dim: int = 1024
    min_scale: float = 0
    mode: str = "square"


class Advice(NamedTuple):
    """The value of a setting, and the reason for it in a few words."""

    value: Any
    reason: str


def suggest(
    surveys: Sequence[ImageSurvey],
    recipe: InputSize,
    fixed: Collection[str] = (),
    *,
    largest: int = LARGEST_SIDE,
    most_objects: int = 0,
) -> dict[str, Advice]:
    """Return advice on settings by name, omitting those that are fixed or cannot be inferred.

    Args:
        surveys: of the training images, or a sample of them.
        recipe: how images are resized without advice; its mode is kept, except for a crop where
            small objects need it.
        fixed: names of settings that are decided. If one of a size is, so are all of them.
        largest: side of the input.
        most_objects: of an image, if images outside the sample have more.
    """
    sizes = np.array([each.size for each in surveys if each.size])
    if not len(sizes):
        return {}
    found, size = {}, recipe
    if not OF_SIZE & set(fixed) and recipe.mode in ("square", "short_side", "crop"):
        modes = {recipe.mode} if "IMAGE_RESIZE_MODE" in fixed else {recipe.mode, "crop"}
        size, reason = _input_size(surveys, sizes, recipe, modes, largest)
        found = _of_size(size, recipe, reason)
    sides = object_sides(surveys, size)
    if len(sides):
        found |= _of_objects(sides)
        most = max(most_objects, *(len(each.class_ids) for each in surveys))
        room = Advice(max(10, -(-most // 10) * 10), f"an image has up to {most} objects")
        found["MAX_GT_INSTANCES"] = room
    means = [each.mean for each in surveys if each.mean is not None and len(each.mean) != 3]
    if means:  # published weights have one for three channels
        mean = [round(float(value), 1) for value in np.mean(means, axis=0)]
        found["MEAN_PIXEL"] = Advice(mean, "mean of the images")
    return {name: advice for name, advice in found.items() if name not in fixed}


def adapted(size: InputSize, advice: Mapping[str, Advice]) -> InputSize:
    """Return an input size with the advice on it followed."""
    fields = {
        "min_dim": "IMAGE_MIN_DIM",
        "max_dim": "IMAGE_MAX_DIM",
        "min_scale": "IMAGE_MIN_SCALE",
        "mode": "IMAGE_RESIZE_MODE",
    }
    changes = {field: advice[name].value for field, name in fields.items() if name in advice}
    return replace(size, **changes)


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


def _of_size(size: InputSize, recipe: InputSize, reason: str) -> dict[str, Advice]:
    side = size.min_dim if size.mode == "crop" else size.max_dim
    parts = {
        "crop": "random parts of the images",
        "square": "whole images, padded to a square",
        "short_side": "whole images, by their shorter side",
    }
    found = {
        "IMAGE_RESIZE_MODE": Advice(size.mode, parts[size.mode]),
        "IMAGE_MIN_DIM": Advice(size.min_dim, reason),
        "IMAGE_MAX_DIM": Advice(size.max_dim, f"inputs of up to {side} x {side} pixels"),
    }
    if size.min_scale != recipe.min_scale:
        found["IMAGE_MIN_SCALE"] = Advice(size.min_scale, "the least by which images are enlarged")
    return found


def _of_objects(sides: np.ndarray) -> dict[str, Advice]:
    low, middle, high = np.percentile(sides, [5, 50, 95])
    seen = f"objects are {low:.0f} to {high:.0f} pixels in the input"
    mini = (28, 28) if middle <= SMALL else (56, 56)
    return {
        "RPN_ANCHOR_SCALES": Advice(_anchor_scales(sides), seen),
        "MINI_MASK_SHAPE": Advice(list(mini), f"half of the objects are below {middle:.0f} pixels"),
    }


def _input_size(
    surveys: Sequence[ImageSurvey],
    sizes: np.ndarray,
    recipe: InputSize,
    modes: Collection[str],
    largest: int,
) -> tuple[InputSize, str]:
    """Return the input size that shows 95 % of the images, enlarged if the objects are small.

    Crops of enlarged images are taken if the objects stay small in whole ones.
    """
    longer, shorter = np.percentile(np.sort(sizes, axis=1), 95, axis=0)[::-1]
    sides = object_sides(surveys, InputSize(min_dim=1, max_dim=int(max(sizes.max(), 1))))
    least, high = np.percentile(sides, [10, 95]) if len(sides) else (SEEN, SEEN)
    wanted = float(np.clip(SEEN / least, 1, 4))
    max_dim = min(largest, _strides(longer * wanted, up=True))
    factor = min(wanted, max_dim / longer)
    min_dim = max(1, round(shorter * factor))
    if recipe.mode == "square":
        # Where images differ in size, the smaller ones are not enlarged more.
        min_dim = _strides(np.median(sizes.min(axis=1)) * factor, up=False)
    size = InputSize(min(max_dim, min_dim), max_dim, 0, recipe.mode)
    whole_at = min(wanted, LARGEST_IMAGE / longer)  # the enlarged image is detected in as a whole
    is_worth_it = "crop" in modes and whole_at > max(1, WORTH * factor)
    if recipe.mode == "crop" or (is_worth_it and _are_small(object_sides(surveys, size))):
        scale = max(1.0, whole_at)
        return _crop(shorter * scale, OBJECTS_ACROSS * high * scale, scale, largest)
    sizes_are = f"sides of the images are {shorter:.0f} to {longer:.0f} pixels"
    how = "" if factor == 1 else f", {'enlarged' if factor > 1 else 'shrunk'} {factor:.2g} times"
    return size, sizes_are + how


def _are_small(sides: np.ndarray) -> bool:
    return bool(len(sides)) and float(np.percentile(sides, 10)) < NOT_SEEN


def _crop(shorter: float, wanted: float, factor: float, largest: int) -> tuple[InputSize, str]:
    """Return the size of crops of enlarged images.

    Args:
        shorter: side of the enlarged images.
        wanted: side with room for large objects.
        factor: by which images are enlarged.
        largest: side of the input.
    """
    side = min(_strides(max(wanted, SMALLEST_CROP), up=True), _strides(shorter, up=False))
    side = max(min(side, largest // placements.STRIDE * placements.STRIDE), placements.STRIDE)
    scale = round(factor, 2)
    reason = f"for small objects, images are enlarged {scale:g} times"
    return InputSize(side, side, scale, "crop"), reason


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
