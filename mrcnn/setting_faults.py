"""Validation of settings, by subject, as (is_invalid, message) pairs.

Each message has the value and the remedy. `Config.check` raises the first invalid one.
"""

import itertools
import math
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np

from mrcnn import conventions

RESIZE_MODES = ("square", "pad64", "none", "crop", "short_side")
FEATURE_MAPS = ("fpn", "c4")
PRECISIONS = ("float32", "mixed_bfloat16")
XLA = ("auto", "on", "off")
LOSSES = (
    "rpn_class_loss",
    "rpn_bbox_loss",
    "mrcnn_class_loss",
    "mrcnn_bbox_loss",
    "mrcnn_mask_loss",
    "mrcnn_keypoint_loss",
)
# Settings where None has a meaning, or its own message.
MAY_BE_NONE = (
    "NAME",
    "BACKBONE",
    "COMPUTE_BACKBONE_SHAPE",
    "GRADIENT_CLIP_NORM",
    "HEAD_NORM",
    "IMAGE_MIN_SCALE",
    "PRE_NMS_LIMIT_TRAINING",
    "ROI_FEATURES",
    "SEED",
    "STEPS_PER_EPOCH",
    "TRAIN_BN",
    "VALIDATION_STEPS",
)
# The side that a resize mode ignores.
OF_ONE_MODE = {"none": "IMAGE_MIN_DIM", "crop": "IMAGE_MAX_DIM", "pad64": "IMAGE_MIN_DIM"}
BOOLEANS = ("CLASS_AGNOSTIC_MASKS", "DETECTION_EVERY_CLASS", "HAS_MASKS", "USE_MINI_MASK")
# Numbers of optimization and loading: description and condition.
NUMBERS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "CACHE_MB": ("a number of at least 0", lambda value: value >= 0),
    "CHECKPOINT_MINUTES": ("a number of minutes, or 0", lambda value: value >= 0),
    "CHECKPOINT_STEPS": ("a number of steps, or 0", lambda value: value >= 0),
    "LEARNING_MOMENTUM": ("at least 0 and less than 1", lambda value: 0 <= value < 1),
    "LEARNING_RATE": ("a number above 0, such as 0.001", lambda value: 0 < value < 1e6),
    "LEARNING_RATE_IMAGES": ("a number of images, or 0 for any", lambda value: value >= 0),
    "WARMUP_STEPS": ("a number of steps, or 0", lambda value: value >= 0),
    "WEIGHT_DECAY": ("a number of at least 0, such as 0.0001", lambda value: 0 <= value < 1e6),
    "WORKERS": ("a whole number of threads from 0 to 1024", lambda value: value in range(1025)),
}
# The settings that the derived ones are computed from.
OF_DERIVED = ("GPU_COUNT", "IMAGES_PER_GPU", "IMAGE_CHANNEL_COUNT", "NUM_CLASSES")
Faults = list[tuple[bool, str]]


def of_all(config: Any) -> Faults:
    """Return the checks of a `Config`."""
    subjects = (of_derived, of_input, of_training, of_first_stage, of_heads, of_keypoints)
    return [fault for subject in subjects for fault in subject(config)]


def of_kinds(config: Any) -> Faults:
    """Return the checks of settings that all else is computed from; these come first."""
    may_be_none = {*MAY_BE_NONE, OF_ONE_MODE.get(config.IMAGE_RESIZE_MODE)}
    if not config.USE_MINI_MASK:
        may_be_none.add("MINI_MASK_SHAPE")
    return [
        *(
            (
                getattr(config, name) is None and name not in may_be_none,
                f"{name} must have a value, got None: leave it out for the default",
            )
            for name in config.names()
        ),
        *(
            (
                not isinstance(value := getattr(config, name), bool | np.bool_ | Integral)
                or value not in (0, 1),
                f"{name} must be True or False, got {value!r}",
            )
            for name in BOOLEANS
        ),
        (
            config.TRAIN_BN is not None
            and (not isinstance(config.TRAIN_BN, bool | Integral) or config.TRAIN_BN not in (0, 1)),
            f"TRAIN_BN must be True, False or None, got {config.TRAIN_BN!r}",
        ),
        *(
            (
                not _is_number(value := getattr(config, name)) or not is_good(value),
                f"{name} must be {wanted}, got {value!r}",
            )
            for name, (wanted, is_good) in NUMBERS.items()
        ),
        (
            config.GRADIENT_CLIP_NORM is not None
            and (not _is_number(config.GRADIENT_CLIP_NORM) or config.GRADIENT_CLIP_NORM < 0),
            "GRADIENT_CLIP_NORM must be a number above 0, or 0 or None for no clipping, got "
            f"{config.GRADIENT_CLIP_NORM!r}",
        ),
        (
            not _are_rising(config.LEARNING_RATE_DROPS),
            "LEARNING_RATE_DROPS must be a list of epochs, positive and ascending, got "
            f"{config.LEARNING_RATE_DROPS!r}",
        ),
        (
            not isinstance(config.LOSS_WEIGHTS, Mapping)
            or any(
                name not in LOSSES or not _is_number(weight) or weight < 0
                for name, weight in config.LOSS_WEIGHTS.items()
            ),
            f"LOSS_WEIGHTS must map names of {LOSSES} to numbers of at least 0, got "
            f"{config.LOSS_WEIGHTS!r}",
        ),
        *(
            (
                not isinstance(value := getattr(config, name), list | tuple | np.ndarray),
                f"{name} must be a list, got {value!r}",
            )
            for name in ("IMAGE_SCALE_JITTER", "KEYPOINT_NAMES", "RPN_ANCHOR_SCALES", "MASK_SHAPE")
        ),
    ]


def of_derived(config: Any) -> Faults:
    """Return the checks of derived settings, which programs may set themselves."""
    derived = config.derived()
    shape, expected = config.IMAGE_SHAPE.tolist(), derived["IMAGE_SHAPE"].tolist()
    if config.IMAGE_RESIZE_MODE == "none" and len(shape) == 3:
        expected = [*shape[:2], expected[2]]
    return [
        (
            shape != expected,
            f"IMAGE_SHAPE was set to {shape}, but IMAGE_RESIZE_MODE, IMAGE_MIN_DIM, IMAGE_MAX_DIM "
            f"and IMAGE_CHANNEL_COUNT make it {expected}: set those",
        ),
        (
            (size := derived["IMAGE_META_SIZE"]) != config.IMAGE_META_SIZE,
            f"IMAGE_META_SIZE was set to {config.IMAGE_META_SIZE}, but is {size} with NUM_CLASSES "
            f"= {config.NUM_CLASSES}: leave it out",
        ),
        *(
            (
                not isinstance(value := getattr(config, name), Integral) or value < 1,
                f"{name} must be a whole number from 1 on, got {value!r}",
            )
            for name in ("GPU_COUNT", "IMAGES_PER_GPU", "BATCH_SIZE")
        ),
    ]


def of_input(config: Any) -> Faults:
    """Return the checks of the name, the numerics and the images."""
    stride = max(config.BACKBONE_STRIDES)
    uneven = [int(side) for side in config.IMAGE_SHAPE[:2] if side % stride]
    side = uneven[0] if uneven else 0
    return [
        (
            config.CONVENTIONS not in conventions.FAMILIES,
            f"CONVENTIONS must be one of {list(conventions.FAMILIES)}, got {config.CONVENTIONS!r}",
        ),
        (not config.NAME, "NAME must be set, for instance NAME = 'nucleus'"),
        (
            bool(uneven),
            f"the side of the input must be a multiple of {stride}, got {side}: set "
            f"IMAGE_MIN_DIM and IMAGE_MAX_DIM, for example to {max(side // stride, 1) * stride}",
        ),
        (
            config.IMAGE_RESIZE_MODE not in RESIZE_MODES,
            f"IMAGE_RESIZE_MODE must be one of {RESIZE_MODES}, got {config.IMAGE_RESIZE_MODE!r}",
        ),
        (
            config.IMAGE_RESIZE_MODE == "square" and config.IMAGE_MIN_DIM > config.IMAGE_MAX_DIM,
            f"IMAGE_MIN_DIM ({config.IMAGE_MIN_DIM}) must not exceed "
            f"IMAGE_MAX_DIM ({config.IMAGE_MAX_DIM})",
        ),
        (
            config.IMAGE_RESIZE_MODE == "short_side"
            and not 0 < config.IMAGE_MIN_DIM <= config.IMAGE_MAX_DIM,
            "IMAGE_RESIZE_MODE = 'short_side' needs an IMAGE_MIN_DIM from 1 to IMAGE_MAX_DIM, "
            f"got {config.IMAGE_MIN_DIM} and {config.IMAGE_MAX_DIM}",
        ),
        (
            len(config.IMAGE_SCALE_JITTER) != 2
            or not 0 < config.IMAGE_SCALE_JITTER[0] <= config.IMAGE_SCALE_JITTER[1],
            "IMAGE_SCALE_JITTER needs the minimum and maximum of a factor, such as (0.8, 1.2), "
            f"got {config.IMAGE_SCALE_JITTER}",
        ),
        (
            len(np.atleast_1d(config.PIXEL_STD)) not in (1, config.IMAGE_CHANNEL_COUNT),
            f"PIXEL_STD needs one value or {config.IMAGE_CHANNEL_COUNT} (IMAGE_CHANNEL_COUNT), "
            f"got {config.PIXEL_STD}",
        ),
        (
            len(np.atleast_1d(config.MEAN_PIXEL)) not in (1, config.IMAGE_CHANNEL_COUNT),
            f"MEAN_PIXEL needs one value or {config.IMAGE_CHANNEL_COUNT} "
            f"(IMAGE_CHANNEL_COUNT), got {config.MEAN_PIXEL}",
        ),
    ]


def of_training(config: Any) -> Faults:
    """Return the checks of training and its data."""
    return [
        (
            not _is_number(config.STEPS_PER_EPOCH) or config.STEPS_PER_EPOCH <= 0,
            "STEPS_PER_EPOCH must be a number of batches above 0 (a fraction is rounded up), got "
            f"{config.STEPS_PER_EPOCH!r}",
        ),
        (
            config.VALIDATION_STEPS is not None
            and (not _is_number(config.VALIDATION_STEPS) or config.VALIDATION_STEPS < 0),
            "VALIDATION_STEPS must be a number of batches (a fraction is rounded up), or 0 for no "
            f"validation, got {config.VALIDATION_STEPS!r}",
        ),
        (
            not isinstance(config.AUGMENTATIONS, list | tuple),
            f"AUGMENTATIONS must be a list of names, got {config.AUGMENTATIONS!r}: a program's "
            "own attribute of this name needs another one",
        ),
        (
            not isinstance(config.SEED, int) or config.SEED < 0,
            f"SEED must be a whole number from 0 on, got {config.SEED!r}",
        ),
        (
            config.PRECISION not in PRECISIONS,
            f"PRECISION must be one of {PRECISIONS}, got {config.PRECISION!r} (with float16, "
            "overflows go unnoticed on several devices)",
        ),
        (config.XLA not in XLA, f"XLA must be one of {XLA}, got {config.XLA!r}"),
        (
            config.XLA == "on" and config.GPU_COUNT > 1,
            f"XLA = 'on' needs GPU_COUNT = 1, got {config.GPU_COUNT}: TensorFlow cannot compile a "
            "step over several devices",
        ),
        (
            config.TRAIN_ROIS_PER_IMAGE > config.POST_NMS_ROIS_TRAINING + config.MAX_GT_INSTANCES,
            f"TRAIN_ROIS_PER_IMAGE ({config.TRAIN_ROIS_PER_IMAGE}) must not exceed the number of "
            f"proposals, POST_NMS_ROIS_TRAINING + MAX_GT_INSTANCES "
            f"({config.POST_NMS_ROIS_TRAINING + config.MAX_GT_INSTANCES})",
        ),
        (
            not config.USE_RPN_ROIS,
            "USE_RPN_ROIS = False is not supported: the network generates its own proposals",
        ),
    ]


def of_first_stage(config: Any) -> Faults:
    """Return the checks of the feature maps and the RPN."""
    return [
        (
            len(config.RPN_ANCHOR_SCALES) != len(config.BACKBONE_STRIDES),
            f"RPN_ANCHOR_SCALES needs one scale per level ({len(config.BACKBONE_STRIDES)}), "
            f"got {config.RPN_ANCHOR_SCALES}",
        ),
        (
            config.FEATURE_MAPS not in FEATURE_MAPS,
            f"FEATURE_MAPS must be one of {FEATURE_MAPS}, got {config.FEATURE_MAPS!r}",
        ),
        (
            config.FEATURE_MAPS == "c4"
            and (list(config.BACKBONE_STRIDES) != [16] or callable(config.BACKBONE)),
            "FEATURE_MAPS = 'c4' needs a BACKBONE by name, BACKBONE_STRIDES = [16] and all "
            f"scales in one level (see presets.C4Config), got {config.BACKBONE!r}, "
            f"{config.BACKBONE_STRIDES} and {config.RPN_ANCHOR_SCALES}",
        ),
        (
            config.FEATURE_MAPS != "c4" and np.ndim(config.RPN_ANCHOR_SCALES) > 1,
            "RPN_ANCHOR_SCALES may have several scales per level for FEATURE_MAPS = 'c4' only, "
            f"got {config.RPN_ANCHOR_SCALES}",
        ),
        (
            config.FEATURE_MAPS == "c4" and bool(config.BOX_CONV_SIZES or config.HEAD_NORM),
            "FEATURE_MAPS = 'c4' uses the backbone's last stage as its heads: BOX_CONV_SIZES "
            f"({config.BOX_CONV_SIZES}) and HEAD_NORM ({config.HEAD_NORM!r}) are for 'fpn'",
        ),
        (
            config.RPN_CONV_COUNT < 1,
            f"RPN_CONV_COUNT must be at least 1, got {config.RPN_CONV_COUNT}",
        ),
    ]


def of_heads(config: Any) -> Faults:
    """Return the checks of the heads."""
    pooled, masks = config.MASK_POOL_SIZE, tuple(config.MASK_SHAPE)
    return [
        (
            config.ROI_FEATURES not in (None, *conventions.ROI_FEATURES),
            f"ROI_FEATURES must be None or one of {conventions.ROI_FEATURES}, got "
            f"{config.ROI_FEATURES!r}",
        ),
        (
            config.HEAD_NORM not in (None, *conventions.HEAD_NORMS),
            f"HEAD_NORM must be None or one of {conventions.HEAD_NORMS}, got {config.HEAD_NORM!r}",
        ),
        (
            config.MASK_LOSS not in conventions.MASK_LOSSES,
            f"MASK_LOSS must be one of {conventions.MASK_LOSSES}, got {config.MASK_LOSS!r}",
        ),
        (
            config.MASK_LOSS == "softmax" and config.CLASS_AGNOSTIC_MASKS,
            "MASK_LOSS = 'softmax' needs one mask per class, but CLASS_AGNOSTIC_MASKS = True "
            "predicts one for all classes: change one of them",
        ),
        (
            masks != (2 * pooled, 2 * pooled),
            f"MASK_SHAPE must be twice MASK_POOL_SIZE ({2 * pooled}), got {masks}",
        ),
        (
            bool(config.CLASS_NAMES) and len(config.CLASS_NAMES) != config.NUM_CLASSES,
            f"NUM_CLASSES is {config.NUM_CLASSES}, but CLASS_NAMES has "
            f"{len(config.CLASS_NAMES)} (including the background)",
        ),
    ]


def of_keypoints(config: Any) -> Faults:
    """Return the checks of the keypoints."""
    count, names, pairs = config.NUM_KEYPOINTS, config.KEYPOINT_NAMES, config.KEYPOINT_PAIRS
    return [
        (
            not isinstance(count, int) or count < 0,
            f"NUM_KEYPOINTS must be a whole number from 0 on, got {count!r}",
        ),
        (
            count > 0 and len(names) not in (0, count),
            f"NUM_KEYPOINTS is {count}, but KEYPOINT_NAMES has {len(names)}",
        ),
        (
            count > 0
            and any(len(pair) != 2 or not 0 <= min(pair) <= max(pair) < count for pair in pairs),
            f"KEYPOINT_PAIRS must be pairs of indices below NUM_KEYPOINTS ({count}), got {pairs}",
        ),
    ]


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _are_rising(epochs: Any) -> bool:
    if not isinstance(epochs, list | tuple) or not all(map(_is_number, epochs)):
        return False
    # Two equal epochs divide the rate by a hundred; very short older trainings have them.
    is_sorted = all(before <= after for before, after in itertools.pairwise(epochs))
    return is_sorted and all(epoch > 0 for epoch in epochs)


def check_derived(config: Any) -> None:
    """Raise ValueError if a setting that derived ones are computed from has a wrong type."""
    for name in OF_DERIVED:
        value = getattr(config, name)
        if not isinstance(value, Real) or isinstance(value, bool):
            raise ValueError(f"{name} must be a whole number from 1 on, got {value!r}")
    for name in ("IMAGE_MIN_DIM", "IMAGE_MAX_DIM"):
        value = getattr(config, name)
        if value is not None and (not isinstance(value, Real) or isinstance(value, bool)):
            raise ValueError(f"{name} must be a number of pixels, got {value!r}")
    strides = config.BACKBONE_STRIDES
    is_list = isinstance(strides, list | tuple | np.ndarray) and len(strides) > 0
    if not is_list or not all(isinstance(each, Real) and float(each) > 0 for each in strides):
        raise ValueError(
            f"BACKBONE_STRIDES must be a list such as [4, 8, 16, 32, 64], got {strides!r}"
        )
