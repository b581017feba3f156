"""Settings: subclass `Config`, override class attributes, instantiate.

Names and defaults are Matterport's where it had the setting; the default numerics match its trained
weights. `Config.check` validates all settings once, before a network is built.
"""

import difflib
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

import numpy as np

from mrcnn import conventions, setting_bounds, setting_faults, setting_values, terminal
from mrcnn.class_names import BACKGROUND
from mrcnn.setting_marks import Mark, marks

logger = logging.getLogger("mrcnn")

# Derived settings, and the settings that each is computed from.
DERIVED = {
    "BATCH_SIZE": "IMAGES_PER_GPU and GPU_COUNT",
    "IMAGE_SHAPE": "IMAGE_RESIZE_MODE, IMAGE_MIN_DIM, IMAGE_MAX_DIM and IMAGE_CHANNEL_COUNT",
    "IMAGE_META_SIZE": "NUM_CLASSES",
}
LOSSES = setting_faults.LOSSES

NETWORK, SHAPES, GRAPH, INPUT, DATA, TRAINING, DETECTION = Mark
MEANING = NETWORK | GRAPH
SHAPING = MEANING | SHAPES


class Config:
    """Settings of a network, its training and its detections. Lengths are in input pixels.

    BATCH_SIZE, IMAGE_SHAPE and IMAGE_META_SIZE are derived, and updated when a setting is changed
    on an instance. A derived setting that a program assigns itself keeps the assigned value.
    """

    BATCH_SIZE: int
    IMAGE_SHAPE: np.ndarray  # height, width and channels of the network's input
    IMAGE_META_SIZE: int
    _set_by_program: frozenset[str] = frozenset()

    # lower-cased in the names of log folders and checkpoints; must be set
    NAME: Annotated[str | None, TRAINING] = None

    # Devices and batches: a global batch is IMAGES_PER_GPU * GPU_COUNT images.
    GPU_COUNT: Annotated[int, TRAINING] = 1
    IMAGES_PER_GPU: Annotated[int, TRAINING] = 2
    STEPS_PER_EPOCH: Annotated[int, TRAINING] = 1000
    VALIDATION_STEPS: Annotated[int, TRAINING] = 50
    # In the middle of an epoch a checkpoint is written after so many steps, or minutes; 0: never.
    CHECKPOINT_STEPS: Annotated[int, TRAINING] = 0
    CHECKPOINT_MINUTES: Annotated[float, TRAINING] = 10.0
    # number of threads that load samples; 0 loads in the training thread
    WORKERS: Annotated[int, TRAINING] = 2
    # memory for caching the training images that were read, before resizing
    CACHE_MB: Annotated[int, TRAINING] = 0
    # random seed of the initial weights, image order, augmentation and sampling
    SEED: Annotated[int, TRAINING] = 0
    # or "mixed_bfloat16"; geometry and losses stay float32
    PRECISION: Annotated[str, GRAPH] = "float32"
    # XLA compilation of TensorFlow's training step: auto (on a single GPU), on or off
    XLA: Annotated[str, TRAINING] = "auto"

    # Numerics of a family of weights, see mrcnn.conventions; the settings that usually accompany
    # them are in mrcnn.presets.
    CONVENTIONS: Annotated[str, MEANING] = "matterport"  # or torchvision, detectron2
    # one of mrcnn.conventions.ROI_FEATURES; None: as the conventions say
    ROI_FEATURES: Annotated[str | None, MEANING] = None
    # all, none or convolutions; None: as the conventions say
    HEAD_NORM: Annotated[str | None, MEANING] = None

    # Backbone and pyramid
    # resnet18, 34, 50, 101, resnext50_32x4d, resnext101_32x8d, resnext101_64x4d, or a function
    # (image, stage5=True, train_bn=...) -> [C1..C5]
    BACKBONE: Annotated[Any, SHAPING] = "resnet101"
    # if BACKBONE is a function: image shape -> height and width per level; None: from the strides
    COMPUTE_BACKBONE_SHAPE: Annotated[Any, GRAPH] = None
    BACKBONE_WIDTH: Annotated[int, SHAPING] = 64  # channels of the stem; every stage scales with it
    BACKBONE_STRIDES: Annotated[Sequence, MEANING] = [4, 8, 16, 32, 64]
    TOP_DOWN_PYRAMID_SIZE: Annotated[int, SHAPING] = 256

    # Classes, including the background. Checkpoints store the dataset's names and ids.
    NUM_CLASSES: Annotated[int, SHAPES | GRAPH | DATA] = 1
    CLASS_NAMES: Annotated[Sequence, DATA] = ()
    # the dataset's own id of each class; 0 for the background
    CATEGORY_IDS: Annotated[Sequence, DATA] = ()

    # Region proposals
    # one per level, the side of the square anchor
    RPN_ANCHOR_SCALES: Annotated[Sequence, GRAPH] = (32, 64, 128, 256, 512)
    RPN_ANCHOR_RATIOS: Annotated[Sequence, SHAPING] = [0.5, 1, 2]  # width / height
    RPN_ANCHOR_STRIDE: Annotated[int, MEANING] = 1
    RPN_CONV_SIZE: Annotated[int, SHAPING] = 512
    RPN_CONV_COUNT: Annotated[int, MEANING] = 1
    RPN_NMS_THRESHOLD: Annotated[float, GRAPH] = 0.7
    RPN_TRAIN_ANCHORS_PER_IMAGE: Annotated[int, GRAPH | TRAINING] = 256
    RPN_BBOX_STD_DEV: Annotated[np.ndarray, MEANING] = np.array([0.1, 0.1, 0.2, 0.2])
    # per level, if the conventions select proposals per level
    PRE_NMS_LIMIT: Annotated[int, GRAPH] = 6000
    PRE_NMS_LIMIT_TRAINING: Annotated[int | None, GRAPH | TRAINING] = None  # None: PRE_NMS_LIMIT
    POST_NMS_ROIS_TRAINING: Annotated[int, GRAPH | TRAINING] = 2000
    POST_NMS_ROIS_INFERENCE: Annotated[int, GRAPH | DETECTION] = 1000
    USE_RPN_ROIS: Annotated[bool, TRAINING] = True

    # Heads
    # or c4: one feature map of stride 16, with the backbone's last stage as the head
    FEATURE_MAPS: Annotated[str, SHAPING] = "fpn"
    FPN_CLASSIF_FC_LAYERS_SIZE: Annotated[int, SHAPING] = 1024
    # channels of 3x3 convolutions before one fully connected layer; (): two fully connected layers
    BOX_CONV_SIZES: Annotated[Sequence, SHAPING] = ()
    MASK_CONV_SIZE: Annotated[int, SHAPING] = 256
    POOL_SIZE: Annotated[int, SHAPING] = 7
    MASK_POOL_SIZE: Annotated[int, MEANING] = 14
    MASK_SHAPE: Annotated[Sequence, MEANING] = [28, 28]
    # True: one mask per RoI, shared by all classes; False: one per class
    CLASS_AGNOSTIC_MASKS: Annotated[bool, SHAPING] = False
    MASK_LOSS: Annotated[str, MEANING] = "sigmoid"  # or softmax: the classes compete in every cell
    # False: boxes only (Faster R-CNN), or boxes and keypoints
    HAS_MASKS: Annotated[bool, MEANING] = True
    NUM_KEYPOINTS: Annotated[int, SHAPING] = 0  # per object; 0: no keypoint head
    KEYPOINT_CONV_SIZE: Annotated[int, SHAPING] = 512
    KEYPOINT_NAMES: Annotated[Sequence, DATA] = ()
    # index pairs of left and right keypoints, swapped when an image is flipped
    KEYPOINT_PAIRS: Annotated[Sequence, DATA] = ()
    TRAIN_ROIS_PER_IMAGE: Annotated[int, GRAPH | TRAINING] = 200
    ROI_POSITIVE_RATIO: Annotated[float, GRAPH | TRAINING] = 0.33
    BBOX_STD_DEV: Annotated[np.ndarray, MEANING] = np.array([0.1, 0.1, 0.2, 0.2])

    # Images and objects
    IMAGE_RESIZE_MODE: Annotated[str, INPUT] = "square"  # or pad64, none, crop, short_side
    IMAGE_MIN_DIM: Annotated[int, INPUT] = 800
    IMAGE_MAX_DIM: Annotated[int, INPUT] = 1024
    IMAGE_MIN_SCALE: Annotated[float, INPUT] = 0  # smallest resize factor; 0: none
    # range of a random resize factor in training
    IMAGE_SCALE_JITTER: Annotated[Sequence, TRAINING] = (1.0, 1.0)
    IMAGE_CHANNEL_COUNT: Annotated[int, SHAPING] = 3
    MEAN_PIXEL: Annotated[np.ndarray, NETWORK] = np.array([123.7, 116.8, 103.9])  # RGB
    # divisor after the mean is subtracted; one value, or one per channel
    PIXEL_STD: Annotated[np.ndarray, NETWORK] = np.array([1.0])
    USE_MINI_MASK: Annotated[bool, GRAPH | TRAINING] = True
    MINI_MASK_SHAPE: Annotated[Sequence, GRAPH | TRAINING] = (56, 56)
    MAX_GT_INSTANCES: Annotated[int, GRAPH | DATA] = 100
    # names of mrcnn.data.augment, applied in this order
    AUGMENTATIONS: Annotated[Sequence, TRAINING] = ()

    # Detections
    DETECTION_MAX_INSTANCES: Annotated[int, GRAPH | DETECTION] = 100
    DETECTION_MIN_CONFIDENCE: Annotated[float, GRAPH | DETECTION] = 0.7
    DETECTION_NMS_THRESHOLD: Annotated[float, GRAPH | DETECTION] = 0.3
    # one detection per class above the threshold, not only the best class
    DETECTION_EVERY_CLASS: Annotated[bool, GRAPH | DETECTION] = False

    # Optimization
    LEARNING_RATE: Annotated[float, TRAINING] = 0.001
    # reference batch size of LEARNING_RATE, see learning_rate; 0: no scaling
    LEARNING_RATE_IMAGES: Annotated[int, TRAINING] = 0
    LEARNING_MOMENTUM: Annotated[float, TRAINING] = 0.9
    WARMUP_STEPS: Annotated[int, TRAINING] = 0  # linear from a tenth of LEARNING_RATE
    # epochs after which the rate is divided by 10
    LEARNING_RATE_DROPS: Annotated[Sequence, TRAINING] = ()
    # of kernels only, equivalent to an L2 penalty inside the gradient
    WEIGHT_DECAY: Annotated[float, TRAINING] = 0.0001
    GRADIENT_CLIP_NORM: Annotated[float | None, TRAINING] = (
        5.0  # largest global norm of the gradients
    )
    LOSS_WEIGHTS: Annotated[dict[str, float], TRAINING] = dict.fromkeys(LOSSES, 1.0)
    # None: train batch norm; False: use its moving statistics
    TRAIN_BN: Annotated[bool | None, GRAPH | TRAINING] = False

    def __init__(self) -> None:
        """Derive BATCH_SIZE, IMAGE_SHAPE and IMAGE_META_SIZE from the settings."""
        self._derive()

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a setting and update the derived ones."""
        if name in DERIVED and not np.array_equal(value, self.derived()[name]):
            super().__setattr__("_set_by_program", self._set_by_program | {name})
        elif name in DERIVED:
            super().__setattr__("_set_by_program", self._set_by_program - {name})
        super().__setattr__(name, np.asarray(value) if name == "IMAGE_SHAPE" else value)
        if name.isupper():
            self._derive()

    def _derive(self) -> None:
        setting_faults.check_derived(self)
        names = _with_background(self.CLASS_NAMES, self.NUM_CLASSES)
        super().__setattr__("CLASS_NAMES", names)
        for name, value in self.derived().items():
            if name not in self._set_by_program:
                super().__setattr__(name, value)

    def derived(self) -> dict[str, Any]:
        """Return BATCH_SIZE, IMAGE_SHAPE and IMAGE_META_SIZE as the other settings imply them."""
        side = self.IMAGE_MIN_DIM if self.IMAGE_RESIZE_MODE == "crop" else self.IMAGE_MAX_DIM
        if self.IMAGE_RESIZE_MODE == "short_side":  # the largest possible input
            side = -(-side // max(self.BACKBONE_STRIDES)) * max(self.BACKBONE_STRIDES)
        return {
            "BATCH_SIZE": self.IMAGES_PER_GPU * self.GPU_COUNT,
            "IMAGE_SHAPE": np.array([side, side, self.IMAGE_CHANNEL_COUNT]),
            "IMAGE_META_SIZE": 1 + 3 + 3 + 4 + 1 + self.NUM_CLASSES,
        }

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Self:
        """Return an instance with these settings changed.

        Raises:
            ValueError: If a name is not a setting (the message suggests the closest one), or a
                value is invalid.
        """
        for name in settings:
            if name not in cls.names():
                near = difflib.get_close_matches(name, cls.names(), 1)
                hint = f"; did you mean {near[0]}?" if near else ""
                raise ValueError(f"{name} is not a setting of Config{hint}")
        changed = {k: setting_values.like(k, getattr(cls, k), v) for k, v in settings.items()}
        setting_bounds.check(changed)
        return type(cls.__name__, (cls,), changed)()

    @staticmethod
    def marked(mark: Mark) -> tuple[str, ...]:
        """Return the names of the settings with this mark."""
        return tuple(name for name, own in marks(Config).items() if mark in own)

    @classmethod
    def names(cls) -> list[str]:
        """Return the names of all settings except the derived ones."""
        return sorted({name for name in dir(cls) if name.isupper()} - set(DERIVED))

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as values that JSON can represent.

        A BACKBONE function becomes a descriptive string, from which no network can be built.
        """
        return {name: setting_values.plain(getattr(self, name)) for name in self.names()}

    def replace(self, **settings: Any) -> "Config":
        """Return a copy with these settings changed."""
        values = {k: getattr(self, k) for k in self.names()}
        replaced = type(self).from_dict(values | settings)
        for name in self._set_by_program:
            setattr(replaced, name, getattr(self, name))
        return replaced

    def display(self) -> None:
        """Print all settings, including the derived ones."""
        print("\nConfigurations:")
        names = {name for name in dir(self) if name.isupper()}
        for name in sorted(names):
            if not callable(getattr(self, name)):
                terminal.show(f"{name:30} {getattr(self, name)}")
        print()

    @property
    def losses(self) -> tuple[str, ...]:
        """The names of the losses of a network with these settings."""
        absent = set()
        if not self.HAS_MASKS:
            absent.add("mrcnn_mask_loss")
        if not self.NUM_KEYPOINTS:
            absent.add("mrcnn_keypoint_loss")
        return tuple(name for name in LOSSES if name not in absent)

    @property
    def learning_rate(self) -> float:
        """LEARNING_RATE scaled linearly to the batch size (Goyal et al. 2017)."""
        share = self.BATCH_SIZE / self.LEARNING_RATE_IMAGES if self.LEARNING_RATE_IMAGES else 1.0
        return self.LEARNING_RATE * share

    @property
    def steps_per_epoch(self) -> int:
        """STEPS_PER_EPOCH as an integer: programs often set it to a quotient (images / batch)."""
        return math.ceil(self.STEPS_PER_EPOCH or 0)

    @property
    def validation_steps(self) -> int:
        """VALIDATION_STEPS as an integer; 0 for no validation."""
        return math.ceil(self.VALIDATION_STEPS or 0)

    @property
    def input_size(self) -> tuple[int, int, float, str]:
        """The resize settings: minimum and maximum side, minimum scale, and mode."""
        sides = int(self.IMAGE_MIN_DIM or 0), int(self.IMAGE_MAX_DIM or 0)
        return (*sides, float(self.IMAGE_MIN_SCALE or 0), self.IMAGE_RESIZE_MODE)

    @property
    def iou_types(self) -> tuple[str, ...]:
        """The COCO IoU types that a network with these settings can be scored on."""
        masks = ("segm",) if self.HAS_MASKS else ()
        return (*masks, "bbox", *(("keypoints",) if self.NUM_KEYPOINTS else ()))

    @property
    def conventions(self) -> conventions.Conventions:
        """The numerics of the weight family that CONVENTIONS names."""
        return conventions.FAMILIES[self.CONVENTIONS]

    def check(self) -> None:
        """Raise ValueError for the first invalid setting, with its value and the remedy.

        Logs a warning for attributes whose names look like misspelt settings.
        """
        self._warn_of_names()
        self.check_values()

    def check_values(self) -> None:
        """Raise ValueError for the first invalid setting, with its value and the remedy."""
        setting_bounds.check({name: getattr(self, name) for name in Config.names()})
        for subject in (setting_faults.of_kinds, setting_faults.of_all):
            for is_wrong, message in subject(self):
                if is_wrong:
                    raise ValueError(message)

    def _warn_of_names(self) -> None:
        for name in {name for name in dir(self) if name.isupper()} - {*Config.names(), *DERIVED}:
            near = difflib.get_close_matches(name, Config.names(), 1, cutoff=0.85)
            if near:
                logger.warning("%s is not a setting; is %s meant?", name, near[0])
        for name in DERIVED.keys() & {name for name in dir(type(self)) if name.isupper()}:
            if not np.array_equal(getattr(type(self), name), getattr(self, name)):
                logger.warning(
                    "%s of the class is not used: it follows from %s", name, DERIVED[name]
                )
        if "BATCH_SIZE" in self._set_by_program:
            logger.warning(
                "BATCH_SIZE was set to %s, so IMAGES_PER_GPU * GPU_COUNT (%s) is not used",
                self.BATCH_SIZE,
                self.derived()["BATCH_SIZE"],
            )


def _with_background(names: Any, num_classes: int) -> tuple:
    """Return class names starting with the background, which programs often leave out.

    Programs used this attribute name before it became a setting. Anything but a list is ignored.
    """
    if not isinstance(names, list | tuple):
        logger.warning("CLASS_NAMES is not used: it must be a list of names, got %r", names)
        return ()
    if names and len(names) == num_classes - 1 and str(names[0]).lower() not in BACKGROUND:
        return ("BG", *names)
    return tuple(names)
