"""What can be wrong with settings, by subject: pairs of whether it is so, and what to say.

Each message has the value and the remedy. `Config.check` raises the first that is so.
"""

import math
from numbers import Integral, Real
from typing import Any

import numpy as np

from mrcnn import conventions

RESIZE_MODES = ("square", "pad64", "none", "crop", "short_side")
FEATURE_MAPS = ("fpn", "c4")
PRECISIONS = ("float32", "mixed_bfloat16")
XLA = ("auto", "on", "off")
Faults = list[tuple[bool, str]]


def of_all(config: Any) -> Faults:
    """Return what can be wrong with a `Config`."""
    subjects = (of_derived, of_input, of_training, of_first_stage, of_heads, of_keypoints)
    return [fault for subject in subjects for fault in subject(config)]


def of_derived(config: Any) -> Faults:
    """Return what can be wrong with derived settings, which programs may set themselves."""
    derived = config.derived()
    shape, expected = config.IMAGE_SHAPE.tolist(), derived["IMAGE_SHAPE"].tolist()
    if config.IMAGE_RESIZE_MODE == "none" and len(shape) == 3:
        expected = [*shape[:2], expected[2]]
    return [
        (
            shape != expected,
            f"IMAGE_SHAPE was set to {shape}, but images become {expected} by IMAGE_RESIZE_MODE, "
            "IMAGE_MIN_DIM, IMAGE_MAX_DIM and IMAGE_CHANNEL_COUNT: set those",
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
    """Return what can be wrong with the name, the numerics and the images."""
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
            f"IMAGE_MIN_DIM and IMAGE_MAX_DIM to {max(side // stride, 1) * stride}, say",
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
            "IMAGE_SCALE_JITTER needs the least and the most of a factor, such as (0.8, 1.2), "
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
    """Return what can be wrong with the training and its data."""
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
            f"PRECISION must be one of {PRECISIONS}, got {config.PRECISION!r} (float16 loses "
            "overflows on several devices)",
        ),
        (config.XLA not in XLA, f"XLA must be one of {XLA}, got {config.XLA!r}"),
        (
            config.XLA == "on" and config.GPU_COUNT > 1,
            f"XLA = 'on' needs GPU_COUNT = 1, got {config.GPU_COUNT}: TensorFlow cannot compile a "
            "step over several devices",
        ),
        (
            config.LEARNING_RATE_IMAGES < 0,
            "LEARNING_RATE_IMAGES must be a number of images, or 0 for any, got "
            f"{config.LEARNING_RATE_IMAGES}",
        ),
        (
            config.TRAIN_ROIS_PER_IMAGE > config.POST_NMS_ROIS_TRAINING + config.MAX_GT_INSTANCES,
            f"TRAIN_ROIS_PER_IMAGE ({config.TRAIN_ROIS_PER_IMAGE}) must not exceed the proposals "
            f"to choose from, POST_NMS_ROIS_TRAINING + MAX_GT_INSTANCES "
            f"({config.POST_NMS_ROIS_TRAINING + config.MAX_GT_INSTANCES})",
        ),
        (
            not config.USE_RPN_ROIS,
            "USE_RPN_ROIS = False is not supported: the network makes its own proposals",
        ),
        (
            not isinstance(config.CACHE_MB, int | float) or config.CACHE_MB < 0,
            f"CACHE_MB must be a number from 0 on, got {config.CACHE_MB!r}",
        ),
    ]


def of_first_stage(config: Any) -> Faults:
    """Return what can be wrong with the maps and the RPN."""
    return [
        (
            len(config.RPN_ANCHOR_SCALES) != len(config.BACKBONE_STRIDES),
            f"RPN_ANCHOR_SCALES needs one scale a level ({len(config.BACKBONE_STRIDES)}), "
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
            "RPN_ANCHOR_SCALES may have several scales a level for FEATURE_MAPS = 'c4' only, "
            f"got {config.RPN_ANCHOR_SCALES}",
        ),
        (
            config.FEATURE_MAPS == "c4" and bool(config.BOX_CONV_SIZES or config.HEAD_NORM),
            "FEATURE_MAPS = 'c4' has the backbone's last stage as its heads: BOX_CONV_SIZES "
            f"({config.BOX_CONV_SIZES}) and HEAD_NORM ({config.HEAD_NORM!r}) are for 'fpn'",
        ),
        (
            config.RPN_CONV_COUNT < 1,
            f"RPN_CONV_COUNT must be at least 1, got {config.RPN_CONV_COUNT}",
        ),
    ]


def of_heads(config: Any) -> Faults:
    """Return what can be wrong with the heads."""
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
            "MASK_LOSS = 'softmax' lets the masks of the classes compete, which "
            "CLASS_AGNOSTIC_MASKS = True leaves out: set one of them back",
        ),
        (
            masks != (2 * pooled, 2 * pooled),
            f"MASK_SHAPE must be twice MASK_POOL_SIZE ({2 * pooled}), got {masks}",
        ),
        (
            bool(config.CLASS_NAMES) and len(config.CLASS_NAMES) != config.NUM_CLASSES,
            f"NUM_CLASSES is {config.NUM_CLASSES}, but CLASS_NAMES has "
            f"{len(config.CLASS_NAMES)} (the background included)",
        ),
    ]


def of_keypoints(config: Any) -> Faults:
    """Return what can be wrong with the keypoints."""
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
            f"KEYPOINT_PAIRS must be pairs of places below NUM_KEYPOINTS ({count}), got {pairs}",
        ),
    ]


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
