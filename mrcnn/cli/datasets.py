"""Options that say which annotations a command reads, and how."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from mrcnn.config import Config
from mrcnn.data.annotated import AnnotatedDataset
from mrcnn.data.check import Limits
from mrcnn.data.formats import FORMATS, Source, load, registry
from mrcnn.data.suggest import InputSize

SET = "an annotation file or dataset folder: COCO, VIA, labelme, Pascal VOC, YOLO, masks"


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options that say how annotations are read."""
    command.add_argument(
        "--format",
        choices=["auto", *FORMATS],
        default="auto",
        help="format of the annotations (default: detected from their content)",
    )
    command.add_argument(
        "--class-attribute", metavar="NAME", help="the VIA attribute that holds the class"
    )


def source(
    options: argparse.Namespace,
    path: str,
    images: str | None,
    settings: dict[str, Any],
    part: str,
) -> Source:
    """Return the dataset source that a command reads.

    Args:
        options: of a command with `add_options`.
        path: path of the annotations.
        images: the image folder; None: looked for nearby.
        settings: their IMAGE_CHANNEL_COUNT is used for reading the images.
        part: train or val.

    Raises:
        ValueError: If IMAGE_CHANNEL_COUNT is invalid.
    """
    channels = settings.get("IMAGE_CHANNEL_COUNT", Config.IMAGE_CHANNEL_COUNT)
    if not isinstance(channels, int) or channels < 1:
        raise ValueError(f"IMAGE_CHANNEL_COUNT must be a whole number from 1 on, got {channels!r}")
    return Source(Path(path), images, options.format, options.class_attribute, channels, part)


def load_pair(
    options: argparse.Namespace, settings: dict[str, Any]
) -> tuple[AnnotatedDataset, AnnotatedDataset | None]:
    """Return the datasets of --train and --val, the latter with the former's classes, by name.

    Raises:
        ValueError: If they cannot be read, or --val has objects of a class that --train lacks.
    """
    if options.val_images and not options.val:
        raise ValueError("--val-images needs --val")
    training = source(options, options.train, options.images, settings, "train")
    if not options.val:
        return load(training), None
    validation = source(options, options.val, options.val_images, settings, "val")
    return registry.load_pair(training, validation)


def limits(config: Config) -> Limits:
    """Return the limits of a network with these settings."""
    size = InputSize(*config.input_size)
    return Limits(size, float(np.min(config.RPN_ANCHOR_SCALES)), config.MAX_GT_INSTANCES)
