"""Reconcile the classes of a dataset with those of the network."""

import logging

from mrcnn.config import Config
from mrcnn.data import augment
from mrcnn.data.dataset import Dataset
from mrcnn.data.renumbered import renumbered

logger = logging.getLogger("mrcnn")


def adopt_classes(
    config: Config, train: Dataset, validation: Dataset | None
) -> tuple[Dataset, Dataset | None]:
    """Return the datasets with their classes mapped to the network's by name.

    If the settings have no class names, they are taken from the training set. Checkpoints store
    them, so that detections have names.
    """
    for dataset in (train, validation):
        if dataset is not None and not hasattr(dataset, "num_classes"):
            raise ValueError("the dataset is not prepared: call prepare() after the last add_image")
    if not config.CLASS_NAMES and train.num_classes == config.NUM_CLASSES:
        config.CLASS_NAMES = tuple(train.class_names)
    if train.num_classes < config.NUM_CLASSES:
        logger.warning(
            "NUM_CLASSES is %d, but the dataset has %d classes, including the background: %s; the "
            "remaining outputs will not be trained",
            config.NUM_CLASSES,
            train.num_classes,
            list(train.class_names),
        )
    return by_name(config, train), None if validation is None else by_name(config, validation)


def adopt_keypoints(config: Config, train: Dataset) -> None:
    """Take keypoint names and left/right pairs from the training set if the settings lack them."""
    if config.NUM_KEYPOINTS and len(train.keypoint_names) == config.NUM_KEYPOINTS:
        config.KEYPOINT_NAMES = config.KEYPOINT_NAMES or tuple(train.keypoint_names)
    if config.NUM_KEYPOINTS and not config.KEYPOINT_PAIRS:
        config.KEYPOINT_PAIRS = augment.mirror_pairs(config.KEYPOINT_NAMES)


def by_name(config: Config, dataset: Dataset) -> Dataset:
    """Return a dataset whose class ids are those of the network, matched by name.

    If it has classes that the network lacks, it is returned unchanged, with a warning.
    """
    own = list(config.CLASS_NAMES)
    if not own:
        return dataset
    try:
        return renumbered(dataset, own)
    except ValueError:
        logger.warning(
            "the dataset has the classes %s, the network %s: each number is taken for the "
            "network's class",
            list(dataset.class_names),
            own,
        )
        return dataset
