"""The images that `mrcnn evaluate` scores a network on."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mrcnn.cli import common, datasets
from mrcnn.data import splits
from mrcnn.data.annotated import AnnotatedDataset
from mrcnn.data.formats import Source, parts, registry


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options that say which images are scored."""
    form = command.add_mutually_exclusive_group(required=True)
    form.add_argument("dataset", nargs="?", metavar="DATASET", help=datasets.WITH_PARTS)
    form.add_argument(
        "--annotations", metavar="DATASET", help="instead: the annotations to score on, all of them"
    )
    command.add_argument(
        "--part",
        choices=parts.PARTS,
        help="the part of DATASET to score (default: val; all images of a DATASET without parts)",
    )
    command.add_argument("--images", metavar="DIR", help="its images (default: looked for nearby)")


def load(
    options: argparse.Namespace, settings: dict[str, Any], names: Sequence[str] | None
) -> AnnotatedDataset:
    """Return the images to score: all of --annotations, or a part of DATASET.

    If the run of the weights split a DATASET, its split says which images are in which part.

    Args:
        options: of a command with `add_options`.
        settings: of the network.
        names: its classes, without background; None if they have no names.

    Raises:
        ValueError: If they cannot be read, or there is no such part.
    """
    if options.annotations:
        if options.part:
            raise ValueError("--part belongs to DATASET; of --annotations all images are scored")
        source = datasets.source(options, options.annotations, options.images, settings, "val")
        return registry.load(source, class_names=names)
    found = datasets.parts_of(options, settings)
    divided = found.get("train") or found.get(parts.WHOLE)
    split = _split_of(options.weights)
    if split and divided and "val" not in found and options.part != "test":
        return _part_of_run(registry.load(divided, class_names=names), split, options)
    return registry.load(_part(found, options), class_names=names)


def _part(found: dict[str, Source], options: argparse.Namespace) -> Source:
    if parts.WHOLE not in found:
        return datasets.chosen_part(found, options.part or "val", options.dataset)
    if options.part:
        raise ValueError(f"{options.dataset} has no parts: leave out --part {options.part}")
    print(f"{options.dataset} has no parts: all of its images are scored")
    return found[parts.WHOLE]


def _part_of_run(
    dataset: AnnotatedDataset, split: splits.Split, options: argparse.Namespace
) -> AnnotatedDataset:
    """Return the images that a run set aside for validation; all if it was on other images."""
    names = split.get(options.part or "val", [])
    if not set(names) & set(splits.image_names(dataset)):
        print(f"The run was split on other images: all images of {options.dataset} are scored")
        return dataset
    part = splits.part_of(dataset, names)
    print(f"{part.num_images} of {dataset.num_images} images, as the run's {splits.FILE} says")
    return part


def _split_of(weights: str) -> splits.Split | None:
    """Return the split that the run of these weights recorded, if it did."""
    with common.quiet_start():
        from mrcnn.weights import catalog
    path = Path(catalog.resolve(weights, "logs")).parent / splits.FILE
    return splits.read_split(path) if path.is_file() else None
