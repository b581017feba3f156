"""One training run: `fit` with checkpoints, until the last epoch, Ctrl-C or an error."""

import dataclasses
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, cast

import keras

from mrcnn import memory
from mrcnn.config import Config
from mrcnn.data import augment, census
from mrcnn.data.dataset import Dataset
from mrcnn.data.image_cache import CachedImages
from mrcnn.data.pipeline import BatchStream, SampleFormat
from mrcnn.data.suggest import InputSize
from mrcnn.training import callbacks, distribution, divergence
from mrcnn.training.budget import Budget
from mrcnn.training.course import Course, Progress
from mrcnn.training.signals import Signals
from mrcnn.training.training_model import TrainingModel

logger = logging.getLogger("mrcnn")

ENDLESS = 10**6  # epochs; time ends the training long before


def sample_format(config: Config) -> SampleFormat:
    """Return the settings that the data pipeline needs."""
    mini_mask = None
    if config.USE_MINI_MASK:
        mini_mask = (int(config.MINI_MASK_SHAPE[0]), int(config.MINI_MASK_SHAPE[1]))
    return SampleFormat(
        min_dim=config.IMAGE_MIN_DIM,
        max_dim=config.IMAGE_MAX_DIM,
        min_scale=config.IMAGE_MIN_SCALE,
        mode=config.IMAGE_RESIZE_MODE,
        mini_mask_shape=mini_mask,
        max_instances=config.MAX_GT_INSTANCES,
        num_classes=config.NUM_CLASSES,
        channels=config.IMAGE_CHANNEL_COUNT,
        scale_jitter=(config.IMAGE_SCALE_JITTER[0], config.IMAGE_SCALE_JITTER[1]),
        side=int(config.IMAGE_SHAPE[0]),
        edge_padding=config.conventions.pads_at_end,
        keypoints=config.NUM_KEYPOINTS,
        mirror_pairs=tuple((left, right) for left, right in config.KEYPOINT_PAIRS),
    )


def _of_one_size(config: Config) -> SampleFormat:
    """Return the sample format with the fixed input size of the training graph."""
    height, width = (int(side) for side in config.IMAGE_SHAPE[:2])
    return dataclasses.replace(sample_format(config), input_shape=(height, width))


def check_objects(train: Dataset, validation: Dataset | None, config: Config) -> None:
    """Log how many of the objects will be left out of training or validation, and why.

    Raises:
        ValueError: No objects are left in a dataset, or in a class of the training set.
    """
    size, most = InputSize(*config.input_size), config.MAX_GT_INSTANCES
    census.check_training(train, size, most)
    if validation is not None:
        census.check_training(validation, size, most, is_scored=True)


def augmentations(
    chosen: Sequence[augment.Augmentation] | None, config: Config
) -> list[augment.Augmentation]:
    """Return the given augmentations, or those that the settings name if None.

    Those that would swap keypoints without renaming them are left out.
    """
    if chosen is None:
        chosen = [augment.by_name(name) for name in config.AUGMENTATIONS]
    if not config.NUM_KEYPOINTS:
        return list(chosen)
    return augment.without_mirrors(chosen, config.KEYPOINT_NAMES, config.KEYPOINT_PAIRS)


def training_stream(
    dataset: Dataset,
    config: Config,
    augmentations: Sequence[augment.Augmentation],
    no_augmentation_sources: Sequence[str],
    start: int,
) -> BatchStream:
    """Return the endless stream of training batches, starting at a batch number (0-based)."""
    cached = CachedImages(dataset, config.CACHE_MB) if config.CACHE_MB > 0 else dataset
    return BatchStream(
        cast(Dataset, cached),
        _of_one_size(config),
        config.BATCH_SIZE,
        seed=config.SEED,
        augmentation=augmentations,
        no_augmentation_sources=tuple(no_augmentation_sources),
        workers=config.WORKERS,
        start=start,
    )


def validation_stream(dataset: Dataset | None, config: Config) -> BatchStream | None:
    """Return the validation batches, the same every time; None without validation."""
    if dataset is None or not config.validation_steps:
        return None
    passes = -(-dataset.num_images // config.BATCH_SIZE)
    return BatchStream(
        dataset,
        dataclasses.replace(_of_one_size(config), scale_jitter=(1.0, 1.0)),
        config.BATCH_SIZE,
        seed=config.SEED,
        shuffle=False,
        workers=config.WORKERS,
        count=min(config.validation_steps, passes),
    )


class Plan(NamedTuple):
    """What `fit` is to do.

    Attributes:
        epochs: number of the last epoch, 1-based; None if the budget decides.
        start: progress of the run so far.
        checkpoint: writes a checkpoint after every epoch, and on the signals of `Signals`; the
            training curves go to its folder, too, see `distribution`.
        before: callbacks that are called before a checkpoint is written.
        budget: the time that is left.
    """

    epochs: int | None
    start: Progress
    checkpoint: callbacks.Checkpoint
    before: Sequence[keras.callbacks.Callback] = ()
    budget: Budget | None = None


def fit(
    model: TrainingModel, train: BatchStream, validation: BatchStream | None, plan: Plan
) -> keras.callbacks.History:
    """Train a compiled model and return its history.

    Raises:
        TrainingDiverged: If a loss is not finite; the last checkpoint is good.
        RuntimeError: If more than a tenth of the images are bad.
        KeyboardInterrupt, SystemExit: On a signal, after a checkpoint has been written.
    """
    feeds = []
    if validation is not None:
        feeds.append(distribution.Feed(validation, validation.count))
    with (
        memory.explain_oom(model.config, training=True),
        model.strategy.scope(),
        Signals() as signals,
    ):
        plan.checkpoint.held = signals.held
        course = _course(model, plan, signals)
        try:
            with _unfinished(model.optimizer):
                for part, steps, train.start in course.parts():
                    feeds.append(distribution.Feed(train))
                    model.fit(
                        feeds[-1].dataset(),
                        shuffle=False,
                        initial_epoch=part.start,
                        epochs=part.stop,
                        steps_per_epoch=steps,
                        validation_data=feeds[0].dataset() if validation is not None else None,
                        callbacks=course,
                    )
            model.optimizer.finalize_variable_values(model.trainable_variables)
            course.finish()
            signals.check()
        except (KeyboardInterrupt, SystemExit):
            _leave(model, course, plan.checkpoint)
            raise
        except distribution.ERRORS as error:
            _raise_cause(error, feeds)
            raise
        return model.history


def _course(model: TrainingModel, plan: Plan, signals: Signals) -> Course:
    """Return the callbacks of a training."""
    steps, config = model.config.steps_per_epoch, model.config
    first: list[keras.callbacks.Callback] = [
        divergence.StopOnDivergence(divergence.guessing(config)),
        callbacks.Pace(plan.epochs, steps, config.BATCH_SIZE),
    ]
    first += [plan.budget] if plan.budget else []
    course = Course(
        [
            *first,
            *plan.before,
            plan.checkpoint,
            *distribution.loggers(Path(plan.checkpoint.path).parent),
        ],
        model,
        range(plan.start.epoch, plan.epochs or ENDLESS),
        steps,
        plan.start,
        signals,
        verbose=1 if sys.stdout.isatty() else 2,
    )
    if plan.budget:
        plan.budget.show_epochs = course.show_epochs
    if plan.epochs is None:
        course.show_epochs(None)
    return course


def _leave(model: TrainingModel, course: Course, checkpoint: callbacks.Checkpoint) -> None:
    """Write a checkpoint on an interruption, and log where it is."""
    if course.is_in_step and model.run_eagerly:
        # Some of the weights and statistics may be those before the step, others those after it.
        logger.warning("interrupted in the middle of a step; the last checkpoint is unchanged")
    else:
        logger.warning("interrupted; checkpoint written to %s", checkpoint.write_interrupted())


@contextmanager
def _unfinished(optimizer: keras.optimizers.Optimizer) -> Iterator[None]:
    """Keep `fit` from replacing weights by their averages: it may be only a part of training."""
    optimizer.finalize_variable_values = lambda _: None
    try:
        yield
    finally:
        del optimizer.finalize_variable_values


def bad_images(*streams: BatchStream | None) -> dict[int, str]:
    """Return the skipped images, each with the reason."""
    return {k: v for stream in streams if stream for k, v in stream.bad_images.items()}


def _raise_cause(error: Exception, feeds: Sequence[distribution.Feed]) -> None:
    """Raise the error of a loading thread if it caused this one."""
    for feed in feeds:
        if feed.error is not None:
            raise feed.error from error
