"""Options that say which annotations a command reads, and how."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mrcnn.cli import common
from mrcnn.config import Config
from mrcnn.data import splits
from mrcnn.data.annotated import AnnotatedDataset
from mrcnn.data.check import Limits
from mrcnn.data.formats import FORMATS, Source, parts, registry
from mrcnn.data.suggest import InputSize

SET = "an annotation file or dataset folder: COCO, VIA, labelme, Pascal VOC, YOLO, masks"
WITH_PARTS = f"{SET}; its parts (train, val or valid, test) are found"


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
    part: str | None,
) -> Source:
    """Return the dataset source that a command reads.

    Args:
        options: of a command with `add_options`.
        path: path of the annotations.
        images: the image folder; None: looked for nearby.
        settings: their IMAGE_CHANNEL_COUNT is used for reading the images.
        part: train, val or test; None: none in particular.

    Raises:
        ValueError: If IMAGE_CHANNEL_COUNT is invalid.
    """
    channels = settings.get("IMAGE_CHANNEL_COUNT", Config.IMAGE_CHANNEL_COUNT)
    if not isinstance(channels, int) or channels < 1:
        raise ValueError(f"IMAGE_CHANNEL_COUNT must be a whole number from 1 on, got {channels!r}")
    return Source(Path(path), images, options.format, options.class_attribute, channels, part)


class Loaded(NamedTuple):
    """The data of a training.

    Attributes:
        training, validation: the datasets; the latter None without validation.
        split: names of the images by part, if this command split one dataset; else None.
    """

    training: AnnotatedDataset
    validation: AnnotatedDataset | None
    split: splits.Split | None = None


def load(
    options: argparse.Namespace, settings: dict[str, Any], known: splits.Split | None = None
) -> Loaded:
    """Return the training and validation data, the latter with the former's classes, by name.

    They are the parts of DATASET, or what --train and --val say. A DATASET without a validation
    part is split.

    Args:
        options: of a command with `add_options`.
        settings: of the network.
        known: the split that the weights were trained with: its validation images are set aside
            again, and images that it does not list are trained on.

    Raises:
        ValueError: If they cannot be read, or the validation data have objects of a class that
            the training data lack.
    """
    if options.val_images and not options.val:
        raise ValueError("--val-images needs --val")
    if options.train:
        training = source(options, options.train, options.images, settings, "train")
        if not options.val:
            return Loaded(registry.load(training), None)
        validation = source(options, options.val, options.val_images, settings, "val")
        return Loaded(*registry.load_pair(training, validation))
    if options.val:
        raise ValueError("--val belongs to --train; the validation part of DATASET is found")
    found = parts_of(options, settings)
    training = chosen_part(found, "train", options.dataset)
    if "val" in found:
        return Loaded(*registry.load_pair(training, found["val"]))
    dataset = registry.load(training)
    if known and options.split:
        known = splits.again(dataset, known, common.progress)
    return _of_run(dataset, known) if known else _split(dataset, options, settings)


def parts_of(options: argparse.Namespace, settings: dict[str, Any]) -> dict[str, Source]:
    """Return the parts of DATASET as sources; see `parts.find_parts`."""
    return parts.find_parts(source(options, options.dataset, options.images, settings, None))


def chosen_part(found: Mapping[str, Source], part: str, path: str) -> Source:
    """Return a part of a dataset; the whole of one that has no parts.

    Raises:
        ValueError: If there are other parts only.
    """
    if part in found or parts.WHOLE in found:
        return found.get(part) or found[parts.WHOLE]
    raise ValueError(
        f"{path} has no part {part}, only {', '.join(found)}: pass the folder or file that is meant"
    )


def _of_run(dataset: AnnotatedDataset, split: splits.Split) -> Loaded:
    """Split a dataset as the run of the weights did."""
    training, validation = (splits.part_of(dataset, split[part]) for part in ("train", "val"))
    print(
        f"{validation.num_images} of {dataset.num_images} images are set aside for validation, as "
        f"the {splits.FILE} of the weights' run says"
    )
    return Loaded(training, validation, split)


def _split(
    dataset: AnnotatedDataset, options: argparse.Namespace, settings: dict[str, Any]
) -> Loaded:
    """Split a dataset as --split says, and print the outcome."""
    seed = settings.get("SEED", Config.SEED)
    split = splits.split(dataset, options.split, seed, progress=common.progress)
    if not split["val"]:
        if options.split:
            print(
                f"Training without validation: {options.dataset} shows fewer than "
                f"{splits.FEWEST_GROUPS} different pictures, or each has a class of its own"
            )
        return Loaded(dataset, None)
    training, validation = (splits.part_of(dataset, split[part]) for part in ("train", "val"))
    print(
        f"{options.dataset} has no validation part: {validation.num_images} of its "
        f"{dataset.num_images} images are set aside for validation (--split {options.split:g})"
    )
    return Loaded(training, validation, split)


def limits(config: Config) -> Limits:
    """Return the limits of a network with these settings."""
    size = InputSize(*config.input_size)
    return Limits(size, float(np.min(config.RPN_ANCHOR_SCALES)), config.MAX_GT_INSTANCES)
