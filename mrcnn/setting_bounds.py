"""Bounds of settings: ranges of numbers, sizes of lists, lengths of strings.

Settings also come from weights files, which anybody may have written. The bounds are far beyond
what is useful, and keep hostile values from exhausting memory or leading to other folders.
"""

import math
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any

import numpy as np

from mrcnn.setting_values import is_function

MOST_CLASSES = 100_000
MOST_NAME = 100  # characters; used in the names of folders and checkpoints
MOST_TEXT = 1_000  # characters
FUNCTIONS = ("BACKBONE", "COMPUTE_BACKBONE_SHAPE")
TEXTS = (
    "CONVENTIONS",
    "FEATURE_MAPS",
    "HEAD_NORM",
    "IMAGE_RESIZE_MODE",
    "MASK_LOSS",
    "PRECISION",
    "ROI_FEATURES",
    "XLA",
)
# Whole numbers: minimum and maximum.
WHOLE = {
    "BACKBONE_WIDTH": (1, 4096),
    "DETECTION_MAX_INSTANCES": (1, 1_000_000),
    "FPN_CLASSIF_FC_LAYERS_SIZE": (1, 65_536),
    "IMAGE_CHANNEL_COUNT": (1, 1024),
    "IMAGE_MAX_DIM": (0, 32_768),
    "IMAGE_MIN_DIM": (0, 32_768),
    "KEYPOINT_CONV_SIZE": (1, 16_384),
    "MASK_CONV_SIZE": (1, 16_384),
    "MASK_POOL_SIZE": (1, 256),
    "MAX_GT_INSTANCES": (1, 1_000_000),
    "NUM_CLASSES": (1, MOST_CLASSES),
    "NUM_KEYPOINTS": (0, 10_000),
    "POOL_SIZE": (1, 256),
    "POST_NMS_ROIS_INFERENCE": (1, 1_000_000),
    "POST_NMS_ROIS_TRAINING": (1, 1_000_000),
    "PRE_NMS_LIMIT": (1, 100_000_000),
    "PRE_NMS_LIMIT_TRAINING": (1, 100_000_000),
    "RPN_ANCHOR_STRIDE": (1, 1024),
    "RPN_CONV_COUNT": (1, 64),
    "RPN_CONV_SIZE": (1, 16_384),
    "RPN_TRAIN_ANCHORS_PER_IMAGE": (1, 1_000_000),
    "TOP_DOWN_PYRAMID_SIZE": (1, 16_384),
    "TRAIN_ROIS_PER_IMAGE": (1, 1_000_000),
}
# Floats: minimum and maximum.
NUMBERS = {
    "DETECTION_MIN_CONFIDENCE": (-1e9, 1e9),
    "DETECTION_NMS_THRESHOLD": (-1e9, 1e9),
    "IMAGE_MIN_SCALE": (0, 1e6),
    "ROI_POSITIVE_RATIO": (0, 1),
    "RPN_NMS_THRESHOLD": (-1e9, 1e9),
}
# Lists: maximum length, and minimum and maximum of their numbers.
LISTS = {
    "BACKBONE_STRIDES": (16, 1, 4096),
    "BBOX_STD_DEV": (4, 1e-9, 1e9),
    "BOX_CONV_SIZES": (64, 1, 16_384),
    "IMAGE_SCALE_JITTER": (2, -1e6, 1e6),
    "MASK_SHAPE": (2, 1, 4096),
    "MEAN_PIXEL": (1024, -1e9, 1e9),
    "MINI_MASK_SHAPE": (2, 1, 4096),
    "PIXEL_STD": (1024, 1e-9, 1e9),
    "RPN_ANCHOR_RATIOS": (256, 1e-6, 1e6),
    "RPN_ANCHOR_SCALES": (256, 1e-6, 1e6),
    "RPN_BBOX_STD_DEV": (4, 1e-9, 1e9),
}
# Lists of exactly that length, and those where a single number may stand for all entries.
EXACT = ("BBOX_STD_DEV", "IMAGE_SCALE_JITTER", "MASK_SHAPE", "MINI_MASK_SHAPE", "RPN_BBOX_STD_DEV")
ONE_FOR_ALL = ("MEAN_PIXEL", "PIXEL_STD")
# Lists of strings and numbers: maximum length.
NAMES = {
    "AUGMENTATIONS": 1_000,
    "CATEGORY_IDS": MOST_CLASSES,
    "CLASS_NAMES": MOST_CLASSES,
    "KEYPOINT_NAMES": 10_000,
}


def check(settings: Mapping[str, Any]) -> None:
    """Raise ValueError for the first setting out of bounds, with its value and the remedy.

    Args:
        settings: some or all of them; None means not set.
    """
    for name, value in settings.items():
        if value is None or name not in KINDS:
            continue
        if (problem := KINDS[name](name, value)) is not None:
            raise ValueError(f"{problem}, got {_shown(value)}")


def _of_whole(name: str, value: Any) -> str | None:
    least, most = WHOLE[name]
    fits = _is_within(value, least, most) and value == int(value)
    return None if fits else f"{name} must be a whole number from {least} to {most}"


def _of_number(name: str, value: Any) -> str | None:
    least, most = NUMBERS[name]
    fits = _is_within(value, least, most)
    return None if fits else f"{name} must be a number from {least:g} to {most:g}"


def _of_list(name: str, value: Any) -> str | None:
    count, least, most = LISTS[name]
    numbers = _flat(value, count)
    fits = all(_is_within(each, least, most) for each in numbers)
    fits = fits and (bool(numbers) or name == "BOX_CONV_SIZES")
    is_list = isinstance(value, list | tuple | np.ndarray)
    fits = fits and (is_list or name in ONE_FOR_ALL)
    fits = fits and (name not in EXACT or len(numbers) == count)
    how_many = "" if name in EXACT else "up to "
    return None if fits else f"{name} must be {how_many}{count} numbers from {least:g} to {most:g}"


def _of_names(name: str, value: Any) -> str | None:
    fits = isinstance(value, list | tuple) and len(value) <= NAMES[name]
    fits = fits and all(not isinstance(each, str) or len(each) <= MOST_TEXT for each in value)
    return None if fits else f"{name} must be a list of names, up to {NAMES[name]} short ones"


def _of_pairs(name: str, value: Any) -> str | None:
    fits = isinstance(value, list | tuple) and len(value) <= NAMES["KEYPOINT_NAMES"]
    fits = fits and all(
        isinstance(pair, list | tuple)
        and len(pair) == 2
        and all(_is_within(each, 0, 1e9) for each in pair)
        for pair in value
    )
    return None if fits else f"{name} must be a list of pairs of indices"


def _of_weights(name: str, value: Any) -> str | None:
    fits = isinstance(value, Mapping)
    fits = fits and all(_is_within(each, -1e9, 1e9) for each in value.values())
    return None if fits else f"{name} must be a dict of numbers, one for each loss"


def _of_word(name: str, value: Any) -> str | None:
    return None if _is_text(value) else f"{name} must be a word"


def _of_function(name: str, value: Any) -> str | None:
    if callable(value):
        return None
    if is_function(value):
        return (
            "the network was built by a function of the program that wrote the file: pass "
            f"{name}=..., that function"
        )
    return None if _is_text(value) else f"{name} must be a word or a function"


def _of_name(name: str, value: Any) -> str | None:
    fits = isinstance(value, str) and len(value.encode("utf-8", "replace")) <= MOST_NAME
    fits = fits and value.isprintable() and not set(value) & set("/\\{}")
    if fits and not value.startswith((".", "~")):
        return None
    return (
        f"{name} names folders and files: it must have up to {MOST_NAME} characters, "
        "without / \\ { } and without a leading dot"
    )


KINDS: dict[str, Callable[[str, Any], str | None]] = {
    **dict.fromkeys(WHOLE, _of_whole),
    **dict.fromkeys(NUMBERS, _of_number),
    **dict.fromkeys(LISTS, _of_list),
    **dict.fromkeys(NAMES, _of_names),
    **dict.fromkeys(TEXTS, _of_word),
    **dict.fromkeys(FUNCTIONS, _of_function),
    "KEYPOINT_PAIRS": _of_pairs,
    "LOSS_WEIGHTS": _of_weights,
    "NAME": _of_name,
}


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MOST_TEXT


def _is_within(value: Any, least: float, most: float) -> bool:
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and least <= value <= most


def _flat(value: Any, count: int) -> list[Any]:
    """Return the numbers of a list, or of a list of lists; None if there are too many."""
    entries = list(value) if isinstance(value, list | tuple | np.ndarray) else [value]
    if len(entries) > count:
        return [None]
    flat: list[Any] = []
    for entry in entries:
        is_list = isinstance(entry, list | tuple | np.ndarray)
        flat += [None] if is_list and len(entry) > count else entry if is_list else [entry]
    return flat


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= MOST_NAME else f"{text[:MOST_NAME]}..."
