"""Settings that a network was built with: a program may change them when it is too late."""

import copy
import logging
from typing import Any

import numpy as np

from mrcnn.config import Config

logger = logging.getLogger("mrcnn")

# What `network.build` reads; a test compares.
OF_GRAPH = (
    "BACKBONE",
    "BACKBONE_STRIDES",
    "BACKBONE_WIDTH",
    "BBOX_STD_DEV",
    "BOX_CONV_SIZES",
    "CLASS_AGNOSTIC_MASKS",
    "COMPUTE_BACKBONE_SHAPE",
    "CONVENTIONS",
    "DETECTION_EVERY_CLASS",
    "DETECTION_MAX_INSTANCES",
    "DETECTION_MIN_CONFIDENCE",
    "DETECTION_NMS_THRESHOLD",
    "FEATURE_MAPS",
    "FPN_CLASSIF_FC_LAYERS_SIZE",
    "HAS_MASKS",
    "HEAD_NORM",
    "IMAGE_CHANNEL_COUNT",
    "KEYPOINT_CONV_SIZE",
    "MASK_CONV_SIZE",
    "MASK_LOSS",
    "MASK_POOL_SIZE",
    "MASK_SHAPE",
    "MAX_GT_INSTANCES",
    "MINI_MASK_SHAPE",
    "NUM_CLASSES",
    "NUM_KEYPOINTS",
    "POOL_SIZE",
    "POST_NMS_ROIS_INFERENCE",
    "POST_NMS_ROIS_TRAINING",
    "PRECISION",
    "PRE_NMS_LIMIT",
    "PRE_NMS_LIMIT_TRAINING",
    "ROI_FEATURES",
    "ROI_POSITIVE_RATIO",
    "RPN_ANCHOR_RATIOS",
    "RPN_ANCHOR_SCALES",
    "RPN_ANCHOR_STRIDE",
    "RPN_BBOX_STD_DEV",
    "RPN_CONV_COUNT",
    "RPN_CONV_SIZE",
    "RPN_NMS_THRESHOLD",
    "RPN_TRAIN_ANCHORS_PER_IMAGE",
    "TOP_DOWN_PYRAMID_SIZE",
    "TRAIN_BN",
    "TRAIN_ROIS_PER_IMAGE",
    "USE_MINI_MASK",
)
# What the training model is built for; detection takes images as these settings are now.
OF_INPUT = ("IMAGE_RESIZE_MODE", "IMAGE_MIN_DIM", "IMAGE_MAX_DIM", "IMAGE_SHAPE")


class BuiltSettings:
    """The settings a network was built with.

    Args:
        config: Theirs, of which copies are kept.
    """

    def __init__(self, config: Config) -> None:
        names = (*OF_GRAPH, *OF_INPUT, "GPU_COUNT")
        self.values = {name: _copied(getattr(config, name)) for name in names}
        self.told: dict[str, str] = {}

    def in_force(self, config: Config, *, training: bool) -> Config:
        """Return the settings that act: those of now, but what is built in as it was built.

        What was changed in vain is warned about, once a change.
        """
        changed = self._changed(config, training)
        self._warn(config, changed)
        return self._with_built(config, changed) if changed else config

    def _changed(self, config: Config, training: bool) -> list[str]:
        names = list(OF_GRAPH)
        if training:
            is_same_input = np.array_equal(config.IMAGE_SHAPE, self.values["IMAGE_SHAPE"])
            names += ["GPU_COUNT", *(() if is_same_input else OF_INPUT)]
        return [name for name in names if not _are_equal(getattr(config, name), self.values[name])]

    def _warn(self, config: Config, changed: list[str]) -> None:
        new = {name: repr(getattr(config, name)) for name in changed}
        lines = [
            f"{name} = {value} (built with {self.values[name]!r})"
            for name, value in new.items()
            if self.told.get(name) != value
        ]
        self.told = new
        if lines:
            logger.warning(
                "changed after the network was built, so without effect: %s; make a new MaskRCNN "
                "with these settings",
                ", ".join(lines),
            )

    def _with_built(self, config: Config, changed: list[str]) -> Config:
        acting = copy.copy(config)
        for name in changed:
            setattr(acting, name, self.values[name])
        if len(acting.CLASS_NAMES) != acting.NUM_CLASSES:
            acting.CLASS_NAMES = ()  # those of the classes that it was not built for
        return acting


class ActingSettings:
    """Mixed into `MaskRCNN`."""

    config: Config
    training_model: Any
    inference_model: Any
    predictor: Any
    # Of the class, for subclasses that build everything themselves.
    _built: BuiltSettings | None = None

    def _settings(self, *, training: bool = False) -> Config:
        """Return the settings that act, and let the models know them."""
        if self._built is None:
            return self.config
        config = self._built.in_force(self.config, training=training)
        for part in (self.training_model, self.inference_model, self.predictor):
            part.config = config
        return config


def _copied(value: Any) -> Any:
    return value if callable(value) else copy.deepcopy(value)


def _are_equal(one: Any, other: Any) -> bool:
    if callable(one) or callable(other):  # a function among class attributes is a method
        return getattr(one, "__func__", one) == getattr(other, "__func__", other)
    return np.array_equal(np.asarray(one, object), np.asarray(other, object))
