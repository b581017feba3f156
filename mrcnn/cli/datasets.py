"""Options that say which annotations a command reads, and how."""

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np

from mrcnn.config import Config
from mrcnn.data.annotated import AnnotatedDataset
from mrcnn.data.check import Limits
from mrcnn.data.formats import FORMATS, load_dataset
from mrcnn.data.suggest import InputSize

SET = "an annotation file, or the folder of a set: COCO, VIA, labelme, Pascal VOC, YOLO, masks"


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options that tell how annotations are read."""
    command.add_argument(
        "--format",
        choices=["auto", *FORMATS],
        default="auto",
        help="of the annotations (default: told by their content)",
    )
    command.add_argument(
        "--class-attribute", metavar="NAME", help="the attribute of VIA that holds the class"
    )


def reading(
    options: argparse.Namespace, images: str | None, settings: dict[str, Any]
) -> dict[str, Any]:
    """Return the arguments of `load_dataset` that the options stand for.

    Args:
        options: of a command with `add_options`.
        images: the folder of the images, None: looked for nearby.
        settings: whose IMAGE_CHANNEL_COUNT the images are read with.

    Raises:
        ValueError: the number of channels is none.
    """
    channels = settings.get("IMAGE_CHANNEL_COUNT", Config.IMAGE_CHANNEL_COUNT)
    if not isinstance(channels, int) or channels < 1:
        raise ValueError(f"IMAGE_CHANNEL_COUNT must be a whole number from 1 on, got {channels!r}")
    return {
        "format": options.format,
        "images": images,
        "channels": channels,
        "class_attribute": options.class_attribute,
    }


def load_pair(
    options: argparse.Namespace, settings: dict[str, Any]
) -> tuple[AnnotatedDataset, AnnotatedDataset | None]:
    """Return the sets of --train and --val, the latter with the classes of the former.

    Raises:
        ValueError: they cannot be read, or differ in their classes.
    """
    if options.val_images and not options.val:
        raise ValueError("--val-images needs --val")
    dataset = load_dataset(options.train, **reading(options, options.images, settings))
    if not options.val:
        return dataset, None
    arguments = reading(options, options.val_images, settings)
    if dataset.format == "coco":
        # Its files list their classes, with or without objects, so a difference is a mistake.
        validation = load_dataset(options.val, **arguments)
    else:
        validation = load_dataset(options.val, class_names=dataset.class_names[1:], **arguments)
    if validation.class_names != dataset.class_names:
        raise ValueError(
            f"the classes of --train {_names(dataset)} and of --val {_names(validation)} differ"
        )
    return dataset, validation


def limits(config: Config) -> Limits:
    """Return what a network with these settings can take."""
    size = InputSize(
        int(config.IMAGE_MIN_DIM or 0),
        int(config.IMAGE_MAX_DIM or 0),
        float(config.IMAGE_MIN_SCALE or 0),
        config.IMAGE_RESIZE_MODE,
    )
    return Limits(size, float(np.min(config.RPN_ANCHOR_SCALES)), config.MAX_GT_INSTANCES)


def _names(dataset: AnnotatedDataset) -> Sequence[str]:
    return dataset.class_names[1:]
