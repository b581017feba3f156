"""`mrcnn train`: from annotations to a checkpoint."""

import argparse
import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrcnn import terminal
from mrcnn.cli import check, common, datasets
from mrcnn.data import augment, census, pipeline
from mrcnn.data import check as doctor
from mrcnn.data.annotated import AnnotatedDataset
from mrcnn.data.problems import Finding
from mrcnn.setting_marks import Mark

if TYPE_CHECKING:
    from mrcnn.config import Config

NEW_EPOCHS = 20
logger = logging.getLogger("mrcnn")

OF_IMAGES = ("missing-image", "unreadable-image", "image-size")
OF_C4 = ("RPN_ANCHOR_SCALES",)  # for C4, they determine the number of anchors per cell


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
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
    datasets.add_options(command)
    command.add_argument(
        "--logs", required=True, metavar="DIR", help="folder for logs and checkpoints"
    )
    command.add_argument(
        "--weights",
        default="none",
        help="none (random, the default), imagenet, coco, nuclei, torchvision-v2, last (resume "
        "the newest run) or a file",
    )
    command.add_argument(
        "--epochs",
        type=common.positive,
        help=f"last epoch, counted from the start of the run (default: {NEW_EPOCHS} more)",
    )
    command.add_argument(
        "--steps", type=common.positive, help="steps per epoch (default: one pass)"
    )
    command.add_argument("--layers", default="all", help="heads, 3+, 4+, 5+, all or a regex")
    common.add_settings(command)


def run(options: argparse.Namespace) -> int:
    """Train on annotated images."""
    path, stored = _weights(options)
    chosen = common.chosen_settings(options, stored)
    dataset, validation, _ = datasets.load(options, {**stored, **chosen})
    if path is None:
        print("The network starts from random weights; use --weights for others")
    elif _is_new(stored, dataset):
        # Other data needs its own settings; the weights only determine the network's shape.
        from mrcnn.config import Config

        of_network = Config.marked(Mark.NETWORK)
        kept = of_network if stored.get("FEATURE_MAPS") != "c4" else (*of_network, *OF_C4)
        stored = {name: value for name, value in stored.items() if name in kept}
        print(f"Network settings come from {path}; training settings are this command's")
    config = _config(options, dataset, stored, chosen, path)
    _warn(dataset, validation, config)
    with common.quiet_start():
        from mrcnn.mask_rcnn import MaskRCNN
        from mrcnn.training.options import Options
        from mrcnn.weights.hdf5 import leaf_layers
    model = MaskRCNN(config, options.logs, devices=config.GPU_COUNT)
    if path is not None:
        layers = {layer.name for layer in leaf_layers(model.network.inference)}
        exclude = [name for name in _of_classes(stored, config, dataset) if name in layers]
        if exclude:
            print(f"Layers re-initialized for other classes or keypoints: {', '.join(exclude)}")
        terminal.show(model.load(path, exclude=exclude))
    if options.weights != "last":
        model.run.begin()
    epochs = options.epochs or model.run.epoch + NEW_EPOCHS
    model.train(dataset, validation, Options(config.learning_rate, epochs, options.layers))
    print(f"\nCheckpoint: {model.run.checkpoint_path.format(epoch=model.run.epoch)}")
    return 0


def _is_new(stored: dict[str, Any], dataset: AnnotatedDataset) -> bool:
    """Return whether a dataset's classes differ from those of the weights."""
    return list(stored.get("CLASS_NAMES", ())) != list(dataset.class_names)


def _of_classes(
    stored: dict[str, Any], config: "Config", dataset: AnnotatedDataset
) -> Sequence[str]:
    """Return the layers whose weights do not fit the classes and keypoints of a dataset."""
    from mrcnn.weights.hdf5 import CLASS_LAYERS

    layers: list[str] = []
    if _is_new(stored, dataset):
        kept = {"mrcnn_mask"} if config.CLASS_AGNOSTIC_MASKS else set()
        layers += [name for name in CLASS_LAYERS if name not in kept]
    if stored.get("NUM_KEYPOINTS", 0) != config.NUM_KEYPOINTS:
        layers.append("mrcnn_keypoint_deconv")
    return layers


def _weights(options: argparse.Namespace) -> tuple[Path | None, dict[str, Any]]:
    """Return the file that the training starts from, and its settings."""
    if options.weights == "none":
        return None, {}
    with common.quiet_start():
        from mrcnn.weights import catalog
    name = common.chosen_settings(options, {}).get("NAME")
    path = catalog.resolve(options.weights, options.logs, name)
    return path, catalog.settings(options.weights, path)


def _config(
    options: argparse.Namespace,
    dataset: AnnotatedDataset,
    stored: dict[str, Any],
    chosen: dict[str, Any],
    path: Path | None,
) -> "Config":
    """Return the settings, in order of precedence: --set, the data, the weights, this command.

    All others come from the recipe of the weights' family.
    """
    from mrcnn import presets
    from mrcnn.weights import loading

    recipe = loading.recipe(path) if path else presets.ModernConfig
    if "CONVENTIONS" in chosen and path is None:
        recipe = presets.OF_FAMILY.get(chosen["CONVENTIONS"], presets.ModernConfig)
    defaults = {
        "NAME": "mrcnn",
        "AUGMENTATIONS": ["flip_left_right"],
        # Scoring needs every candidate; `mrcnn detect --min-score` filters what is shown.
        "DETECTION_MIN_CONFIDENCE": 0.05,
        "DETECTION_EVERY_CLASS": True,
        # Random weights need batch statistics; published ones include moving statistics.
        "TRAIN_BN": None if options.weights == "none" else False,
    }
    classes = {
        "NUM_CLASSES": dataset.num_classes,
        "CLASS_NAMES": list(dataset.class_names),
        "CATEGORY_IDS": [info["id"] for info in dataset.class_info],
    }
    if {**stored, **chosen}.get("NUM_KEYPOINTS"):
        names = dataset.keypoint_names
        classes["KEYPOINT_NAMES"] = list(names)
        classes["KEYPOINT_PAIRS"] = [list(pair) for pair in augment.mirror_pairs(names)]
    if "LEARNING_RATE" in chosen:  # taken literally, without scaling by batch size
        chosen = {"LEARNING_RATE_IMAGES": 0, **chosen}
    config = recipe.from_dict({**defaults, **stored, **classes, **chosen})
    one_pass = math.ceil(dataset.num_images / config.BATCH_SIZE)
    usual = config.STEPS_PER_EPOCH if options.weights == "last" else one_pass
    steps = chosen.get("STEPS_PER_EPOCH", usual) if options.steps is None else options.steps
    steps = config.replace(STEPS_PER_EPOCH=steps).steps_per_epoch
    schedule = {}
    if recipe is presets.ModernConfig:
        schedule = presets.scheduled(options.epochs or NEW_EPOCHS, steps)
    known = {**stored, **chosen}
    schedule = {name: value for name, value in schedule.items() if name not in known}
    return config.replace(STEPS_PER_EPOCH=steps, **schedule)


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


def _warn(dataset: AnnotatedDataset, validation: AnnotatedDataset | None, config: "Config") -> None:
    """Log the findings of a quick check; those of the readers are already logged.

    Raises:
        ValueError: If no objects are left to train on.
    """
    findings = doctor.check(dataset, validation, datasets.limits(config), thorough=False)
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
