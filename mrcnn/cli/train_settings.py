"""The settings of `mrcnn train`: from its options, the data, the weights and a recipe."""

import argparse
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from mrcnn import machine, presets, terminal
from mrcnn.cli import common, datasets, devices
from mrcnn.config import Config
from mrcnn.data import augment
from mrcnn.data import check as doctor
from mrcnn.data.annotated import AnnotatedDataset
from mrcnn.data.suggest import LARGEST_SIDE, Advice
from mrcnn.data.survey import ImageSurvey
from mrcnn.setting_marks import Mark

NEW_EPOCHS = 20
SMALL_SIDE = 320  # pixels: the largest input side with --preset small
FEWEST_STEPS = 50  # in an epoch: less training is not worth a checkpoint and a validation
PIXELS_A_STEP = 2 * 1088**2  # of ModernConfig on one device
MOST_IMAGES = 8  # in a batch on one device
EPOCH_IMAGES = 10  # a pass over the images has at least so many batches
SPARE = 0.8  # share of the available memory that a training may take
OF_C4 = ("RPN_ANCHOR_SCALES",)  # for C4, they determine the number of anchors per cell
CORE_RATE = 80e9  # operations per second of a processor core; 140e9 were measured on a server's
Surveyed = tuple[AnnotatedDataset, Sequence[ImageSurvey]]
LONG = 3600  # seconds from which the cost of a training on the CPU is announced


class Start(NamedTuple):
    """What a training starts from.

    Attributes:
        path: the weights file; None for random weights.
        stored: the settings of its network.
        is_new: the weights are random, or of other classes.
        is_resumed: the run of the weights goes on.
    """

    path: Path | None
    stored: dict[str, Any]
    is_new: bool
    is_resumed: bool


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options that determine the settings."""
    command.add_argument(
        "--settings",
        dest="rule",
        choices=["auto", "recipe"],
        help="auto: input size, anchors and others that fit the data (the default for random "
        "weights and weights of other classes); recipe: those of the recipe or the weights",
    )
    add_preset(command)
    command.add_argument("--name", help="name of the run's folder and checkpoints: NAME")
    command.add_argument("--seed", type=int, help="random seed: SEED (default: 0)")
    common.add_settings(command)


def add_preset(command: argparse.ArgumentParser) -> None:
    """Add the option --preset."""
    command.add_argument(
        "--preset",
        choices=presets.NAMED,
        help="small: a network and inputs for a computer without a GPU, from the weights nuclei",
    )


def limits(config: Config, preset: str | None) -> doctor.Limits:
    """Return the limits of a network with these settings, and of advice for a preset."""
    largest = {"small": SMALL_SIDE}.get(preset or "", LARGEST_SIDE)
    return replace(datasets.limits(config), largest_side=largest)


def stated(options: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that have an option of their own: --name, --seed, --steps."""
    own = {"NAME": options.name, "SEED": options.seed, "STEPS_PER_EPOCH": options.steps}
    return {name: value for name, value in own.items() if value is not None}


def chosen(options: argparse.Namespace, stored: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that the options state: --config, --name and the like, --set."""
    return common.chosen_settings(options, stored, stated(options))


def starting(
    options: argparse.Namespace,
    path: Path | None,
    stored: dict[str, Any],
    dataset: AnnotatedDataset,
) -> Start:
    """Return what a training starts from, with those settings of the weights that are kept.

    Raises:
        ValueError: If the settings of a run that goes on are to be chosen anew, or the weights are
            not of the preset's network.
    """
    is_new = list(stored.get("CLASS_NAMES", ())) != list(dataset.class_names)
    is_resumed = options.weights == "last"
    if is_resumed and options.preset:
        raise ValueError("--weights last goes on with the settings of its run: leave out --preset")
    if is_resumed and options.rule == "auto":
        raise ValueError(
            "--weights last goes on with the settings of its run: leave out --settings"
        )
    if options.preset and path is not None:
        _check_preset(options, stored)
    if path is not None and is_new:
        # Other data needs its own settings; the weights only determine the network's shape.
        of_network = Config.marked(Mark.NETWORK)
        kept = of_network if stored.get("FEATURE_MAPS") != "c4" else (*of_network, *OF_C4)
        stored = {name: value for name, value in stored.items() if name in kept}
    return Start(path, stored, is_new, is_resumed)


def _check_preset(options: argparse.Namespace, stored: dict[str, Any]) -> None:
    """Raise ValueError unless the weights are of the preset's network."""
    preset = presets.NAMED[options.preset]()
    for name in ("BACKBONE", "BACKBONE_WIDTH"):
        if stored.get(name) != getattr(preset, name):
            raise ValueError(
                f"--preset {options.preset} is a network with {name}={getattr(preset, name)}, but "
                f"--weights {options.weights} are of another one "
                f"({stored.get(name, 'not stated')}): leave out one of them"
            )


def decide(
    options: argparse.Namespace,
    surveyed: Surveyed,
    start: Start,
    given: dict[str, Any],
) -> Config:
    """Return the settings of a training, and print those that were chosen for the data.

    In order of precedence: the given ones, those for the data, the weights' and the recipe's.

    Args:
        surveyed: the training images, and the surveys that `doctor.survey_quickly` made of them.
        given: the settings that the options state.
    """
    dataset, _ = surveyed
    recipe = presets.NAMED[options.preset] if options.preset else _recipe(start, given)
    config = _without_advice(recipe, options, dataset, start, given)
    config.check_values()
    advice: dict[str, Advice] = {}
    if options.rule == "auto" or (options.rule is None and start.is_new and not start.is_resumed):
        # Weights keep the mean pixel that they were trained with.
        of_weights = {"MEAN_PIXEL"} & start.stored.keys()
        fixed = {*common.stated_settings(options, stated(options)), *of_weights}
        advice = advise(config, surveyed, fixed, options.preset)
        config = config.replace(**{name: each.value for name, each in advice.items()})
        most = config.IMAGES_PER_GPU if options.preset else MOST_IMAGES
        advice |= _of_machine(config, dataset, fixed, most)
        config = config.replace(**{name: each.value for name, each in advice.items()})
    elif not (start.is_resumed or "STEPS_PER_EPOCH" in given):
        config = config.replace(STEPS_PER_EPOCH=_one_pass(config, dataset))
    config = config.replace(STEPS_PER_EPOCH=config.steps_per_epoch)
    if issubclass(recipe, presets.ModernConfig):
        schedule = presets.scheduled(options.epochs or NEW_EPOCHS, config.steps_per_epoch)
        known = {**start.stored, **given}
        config = config.replace(**{k: v for k, v in schedule.items() if k not in known})
    if start.path is None:
        print("The network starts from random weights; use --weights for others")
    elif start.is_new:
        print(f"Network settings come from {start.path}; training settings are this command's")
    if advice:
        print("Settings for this dataset (--set changes one, --settings recipe all of them):")
        terminal.show("\n".join(common.table(advice)))
    if not start.is_resumed and options.minutes is None:
        _announce_cost(config, options.epochs or NEW_EPOCHS, is_small=bool(options.preset))
    return config


def advise(
    config: Config,
    surveyed: tuple[AnnotatedDataset, Sequence[ImageSurvey]],
    fixed: Collection[str],
    preset: str | None,
) -> dict[str, Advice]:
    """Return the advice of `mrcnn check` on the settings for a dataset, by name.

    Args:
        config: the settings without advice.
        surveyed: see `decide`.
        fixed: names of the settings that are decided.
        preset: see `limits`.
    """
    fixed = set(fixed)
    if config.FEATURE_MAPS == "c4":
        fixed |= {*OF_C4}
    if not config.USE_MINI_MASK:
        fixed |= {"MINI_MASK_SHAPE"}
    return doctor.advise(*surveyed, limits(config, preset), fixed)


def _announce_cost(config: Config, epochs: int, *, is_small: bool) -> None:
    """Print how long a training on the CPU will probably take, if that is more than an hour.

    Args:
        config: of the training.
        epochs: that are left to train.
        is_small: the network is that of a preset for the CPU.
    """
    if devices.used_gpus():
        return
    from mrcnn.training import estimate

    cores = machine.processors()
    images = epochs * config.steps_per_epoch * config.BATCH_SIZE
    seconds = images * estimate.operations(config) / (cores * CORE_RATE)
    if seconds < LONG:
        return
    side = int(config.IMAGE_SHAPE[0])
    print(
        f"On the CPU this training takes about {seconds / 3600:.0f} hours: {epochs} epochs of "
        f"{config.steps_per_epoch} steps with {config.BATCH_SIZE} images of {side} x {side} pixels "
        f"and {config.BACKBONE}, if each of the {cores} cores does {CORE_RATE / 1e9:.0f} billion "
        "operations a second."
        + ("" if is_small else " With --preset small it takes a network and inputs for the CPU.")
    )


def _recipe(start: Start, given: Mapping[str, Any]) -> type[Config]:
    if start.path is not None:
        from mrcnn.weights import loading

        return loading.recipe(start.path)
    family = given.get("CONVENTIONS", presets.ModernConfig.CONVENTIONS)
    return presets.OF_FAMILY.get(family, presets.ModernConfig)


def _without_advice(
    recipe: type[Config],
    options: argparse.Namespace,
    dataset: AnnotatedDataset,
    start: Start,
    given: dict[str, Any],
) -> Config:
    """Return the settings that do not depend on the sizes of images and objects."""
    defaults = {
        "NAME": "mrcnn",
        "AUGMENTATIONS": ["flip_left_right"],
        # Scoring needs every candidate; `mrcnn detect --min-score` filters what is shown.
        "DETECTION_MIN_CONFIDENCE": 0.05,
        "DETECTION_EVERY_CLASS": True,
        # Random weights need batch statistics; published ones include moving statistics.
        "TRAIN_BN": None if start.path is None else False,
    }
    if options.preset:
        defaults["TRAIN_BN"] = recipe.TRAIN_BN
    classes = {
        "NUM_CLASSES": dataset.num_classes,
        "CLASS_NAMES": list(dataset.class_names),
        "CATEGORY_IDS": [info["id"] for info in dataset.class_info],
    }
    if {**start.stored, **given}.get("NUM_KEYPOINTS"):
        names = dataset.keypoint_names
        classes["KEYPOINT_NAMES"] = list(names)
        classes["KEYPOINT_PAIRS"] = [list(pair) for pair in augment.mirror_pairs(names)]
    if "LEARNING_RATE" in given:  # taken literally, without scaling by batch size
        given = {"LEARNING_RATE_IMAGES": 0, **given}
    return recipe.from_dict({**defaults, **start.stored, **classes, **given})


def _of_machine(
    config: Config, dataset: AnnotatedDataset, fixed: Collection[str], most: int
) -> dict[str, Advice]:
    """Return the images per batch that fit the memory, and the steps per epoch that follow."""
    found = {}
    if "IMAGES_PER_GPU" not in fixed:
        found["IMAGES_PER_GPU"] = _images(config, dataset.num_images, most)
        config = config.replace(IMAGES_PER_GPU=found["IMAGES_PER_GPU"].value)
    if "STEPS_PER_EPOCH" not in fixed:
        steps = _one_pass(config, dataset)
        reason = f"{dataset.num_images} images in batches of {config.BATCH_SIZE}"
        if steps < FEWEST_STEPS:
            steps, reason = FEWEST_STEPS, f"{reason}, {FEWEST_STEPS / steps:.2g} times"
        found["STEPS_PER_EPOCH"] = Advice(steps, reason)
    return found


def _images(config: Config, num_images: int, most: int = MOST_IMAGES) -> Advice:
    """Return the images per batch on one device: as many as make sense and fit."""
    gpus = devices.used_gpus()
    from mrcnn.training import estimate, footprint

    available = footprint.available_memory(gpus)
    pixels, copies = math.prod(config.IMAGE_SHAPE[:2].tolist()), 1 if gpus else config.GPU_COUNT
    weights = estimate.num_weights(config)
    number, needed = most, math.inf
    while number > 1:
        needed = estimate.memory(config, number * copies, weights, is_gpu=bool(gpus))
        suits = number * pixels <= PIXELS_A_STEP and number * EPOCH_IMAGES <= max(num_images, 20)
        if suits and (available is None or needed <= SPARE * available):
            break
        number //= 2
    needed = estimate.memory(config, number * copies, weights, is_gpu=bool(gpus))
    room = "" if available is None else f" of {machine.in_gigabytes(available)} available"
    return Advice(number, f"takes about {machine.in_gigabytes(needed)} of memory{room}")


def _one_pass(config: Config, dataset: AnnotatedDataset) -> int:
    return math.ceil(dataset.num_images / config.BATCH_SIZE)
