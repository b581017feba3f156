"""`mrcnn train`: from annotations to a checkpoint."""

import argparse
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrcnn import terminal
from mrcnn.cli import check, common, datasets, devices, train_results, train_settings
from mrcnn.data import census, pipeline, splits
from mrcnn.data import check as doctor
from mrcnn.data.annotated import AnnotatedDataset
from mrcnn.data.problems import Finding
from mrcnn.data.survey import ImageSurvey

if TYPE_CHECKING:
    from mrcnn.config import Config
    from mrcnn.mask_rcnn import MaskRCNN
    from mrcnn.training.options import Options

logger = logging.getLogger("mrcnn")

OF_IMAGES = ("missing-image", "unreadable-image", "image-size")


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    _add_data(command)
    datasets.add_options(command)
    command.add_argument(
        "--logs",
        default="logs",
        metavar="DIR",
        help="folder of the runs, each with a folder of its own (default: %(default)s)",
    )
    command.add_argument(
        "--weights",
        help="none (random, the default; with --preset small: nuclei), imagenet, coco, nuclei, "
        "torchvision-v2, last (resume the newest run) or a file",
    )
    _add_length(command)
    command.add_argument("--layers", default="all", help="heads, 3+, 4+, 5+, all or a regex")
    devices.add_option(command)
    train_settings.add_options(command)


def _add_data(command: argparse.ArgumentParser) -> None:
    """Add the options that say what is trained on, and validated."""
    form = command.add_mutually_exclusive_group(required=True)
    form.add_argument("dataset", nargs="?", metavar="DATASET", help=datasets.WITH_PARTS)
    form.add_argument("--train", metavar="DATASET", help="instead: the training set alone")
    command.add_argument("--images", metavar="DIR", help="its images (default: looked for nearby)")
    command.add_argument("--val", metavar="DATASET", help="the validation set, with --train")
    command.add_argument("--val-images", metavar="DIR", help="images of the validation set")
    command.add_argument(
        "--split",
        type=float,
        default=0.2,
        metavar="SHARE",
        help="of the images of a DATASET without a validation part, the share that is set aside "
        "for validation (default: %(default)s; 0: none)",
    )


def _add_length(command: argparse.ArgumentParser) -> None:
    """Add the options that say how long is trained, and which checkpoints are kept."""
    command.add_argument(
        "--epochs",
        type=common.positive,
        help="last epoch, counted from the start of the run (default: "
        f"{train_settings.NEW_EPOCHS} more)",
    )
    command.add_argument(
        "--steps", type=common.positive, help="steps per epoch (default: one pass)"
    )
    command.add_argument(
        "--minutes",
        type=common.above_zero,
        help="time that the run may take: length, schedule and validation follow from the speed "
        "of its first steps",
    )
    command.add_argument(
        "--patience",
        type=common.positive,
        metavar="EPOCHS",
        help="stop when the validation AP has not risen for so many epochs",
    )
    command.add_argument(
        "--keep",
        type=_number_or_all,
        default=1,
        metavar="N",
        help="epochs whose checkpoints are kept besides best.h5, or all (default: %(default)s)",
    )


def _number_or_all(text: str) -> int | str:
    """Argument type: a positive integer, or the word all."""
    return text if text == "all" else common.positive(text)


def run(options: argparse.Namespace) -> int:
    """Train on annotated images."""
    train(options)
    return 0


def train(options: argparse.Namespace) -> "MaskRCNN":
    """Train as the options say; return the network with its best weights."""
    started = time.monotonic()
    terminal.show(f"Reading {options.dataset or options.train}")
    devices.choose(options.device)
    options.weights = options.weights or ("nuclei" if options.preset else "none")
    path, stored = _weights(options)
    given = train_settings.chosen(options, stored)
    known = path.parent / splits.FILE if path else None
    split = splits.read_split(known) if known and known.is_file() else None
    data = datasets.load(options, {**stored, **given}, split)
    start = train_settings.starting(options, path, stored, data.training)
    devices.check(options.device)
    surveys = doctor.survey_quickly(
        data.training, read_pixels=data.training.channels != 3, progress=common.progress
    )
    config = train_settings.decide(options, (data.training, surveys), start, given)
    _warn(data.training, data.validation, config, surveys)
    with common.quiet_start():
        from mrcnn.mask_rcnn import MaskRCNN
    model = MaskRCNN(config, options.logs, devices=config.GPU_COUNT)
    if path is not None:
        _load(model, path, start)
    if options.weights != "last":
        model.run.begin()
    history = model.train(
        data.training,
        data.validation,
        _training_options(options, model, data, started),
    )
    if history.history:  # nothing if there was nothing to train
        train_results.finish(model, data)
    return model


def _training_options(
    options: argparse.Namespace, model: "MaskRCNN", data: datasets.Loaded, started: float
) -> "Options":
    """Return the options of the training.

    Args:
        started: Time at which the command started, on the monotonic clock.
    """
    from mrcnn.training.options import Options

    epochs = options.epochs
    if epochs is None and options.minutes is None:
        epochs = model.run.epoch + train_settings.NEW_EPOCHS
    return Options(
        model.config.learning_rate,
        epochs,
        options.layers,
        minutes=None
        if options.minutes is None
        else max(options.minutes - (time.monotonic() - started) / 60, 0.1),
        keep=None if options.keep == "all" else options.keep,
        patience=options.patience,
        files={} if data.split is None else {splits.FILE: data.split},
    )


def _load(model: "MaskRCNN", path: Path, start: train_settings.Start) -> None:
    """Load the weights, without those of other classes or keypoints, and print what was loaded."""
    from mrcnn.weights import loading

    exclude = loading.of_other_classes(start.stored, model.config, model.network.inference)
    if exclude:
        print(f"Layers re-initialized for other classes or keypoints: {', '.join(exclude)}")
    terminal.show(model.load(path, exclude=exclude))


def _weights(options: argparse.Namespace) -> tuple[Path | None, dict[str, Any]]:
    """Return the file that the training starts from, and its settings."""
    if options.weights == "none":
        return None, {}
    with common.quiet_start():
        from mrcnn.weights import catalog
    name = train_settings.chosen(options, {}).get("NAME")
    path = catalog.resolve(options.weights, options.logs, name)
    return path, catalog.settings(options.weights, path)


def _refuse_bad_images(findings: Sequence[Finding], dataset: AnnotatedDataset) -> None:
    """Raise ValueError before the network is built if too many images are bad for training."""
    bad = [
        each
        for each in findings
        if each.code in OF_IMAGES and each.severity == "error" and each.part != "validation"
    ]
    looked_at = min(dataset.num_images, doctor.QUICK)
    if pipeline.are_too_many(len(bad), looked_at):
        raise ValueError(
            f"{len(bad)} of {looked_at} images cannot be used, more than a tenth: {bad[0]}; "
            f"{bad[0].remedy}"
        )


def _warn(
    dataset: AnnotatedDataset,
    validation: AnnotatedDataset | None,
    config: "Config",
    surveys: list[ImageSurvey],
) -> None:
    """Log the findings of a quick check; those of the readers are already logged.

    Args:
        surveys: of the training images.

    Raises:
        ValueError: If no objects are left to train on.
    """
    made = {"training": surveys}
    limits = datasets.limits(config)
    findings = doctor.check(dataset, validation, limits, surveys=made, thorough=False)
    of_census = [each for each in findings if each.code in census.CODES]
    for finding in of_census:
        if finding.severity == "error":
            raise ValueError(f"{finding}; {finding.remedy}")
    _refuse_bad_images(findings, dataset)
    # Warnings of the census are logged during training.
    findings = [each for each in findings if each not in of_census]
    read = [*dataset.problems, *(validation.problems if validation else ())]
    known = {str(finding) for finding in read}
    lines = check.summary([finding for finding in findings if str(finding) not in known])
    for line in lines:
        logger.warning("%s", line)
    if lines:
        logger.warning("run mrcnn check for details and remedies")
