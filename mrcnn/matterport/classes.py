"""Whether the classes of a dataset are those of the network."""

import logging

from mrcnn.config import Config
from mrcnn.data import augment
from mrcnn.data.dataset import Dataset

logger = logging.getLogger("mrcnn")


def adopt_classes(config: Config, train: Dataset, validation: Dataset | None) -> None:
    """Take names of classes from the training set where the settings have none; compare others.

    They travel in checkpoints, so that detections have names.
    """
    if not config.CLASS_NAMES and train.num_classes == config.NUM_CLASSES:
        config.CLASS_NAMES = tuple(train.class_names)
    if train.num_classes < config.NUM_CLASSES:
        logger.warning(
            "NUM_CLASSES is %d, but the dataset has %d classes, the background included: %s; the "
            "others learn nothing",
            config.NUM_CLASSES,
            train.num_classes,
            list(train.class_names),
        )
    for dataset in (train, validation):
        if dataset is not None:
            warn_of_other_classes(config, dataset)


def adopt_keypoints(config: Config, train: Dataset) -> None:
    """Take names and pairs of keypoints from the training set where the settings have none."""
    if config.NUM_KEYPOINTS and len(train.keypoint_names) == config.NUM_KEYPOINTS:
        config.KEYPOINT_NAMES = config.KEYPOINT_NAMES or tuple(train.keypoint_names)
    if config.NUM_KEYPOINTS and not config.KEYPOINT_PAIRS:
        config.KEYPOINT_PAIRS = augment.mirror_pairs(config.KEYPOINT_NAMES)


def warn_of_other_classes(config: Config, dataset: Dataset) -> None:
    """Log a warning where a dataset's classes are not those of the network, in its order."""
    names, own = list(dataset.class_names), list(config.CLASS_NAMES)
    if own and names != own[: len(names)]:
        logger.warning(
            "the dataset has the classes %s, the network %s: each number is taken for the "
            "network's class",
            names,
            own,
        )
