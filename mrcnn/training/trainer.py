"""The trainer: optimizer and its state, run folder, `fit`, checkpoints."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from mrcnn import setting_values, terminal
from mrcnn.data.augment import Augmentation
from mrcnn.data.dataset import Dataset
from mrcnn.data.pipeline import BatchStream
from mrcnn.training import distribution, fitting, footprint, optimizers, schedule, trainable
from mrcnn.training.callbacks import Checkpoint
from mrcnn.training.course import Progress
from mrcnn.training.optimizer_state import optimizer_state, restore_optimizer
from mrcnn.training.run_folder import RunFolder
from mrcnn.training.training_model import TrainingModel
from mrcnn.weights import hdf5, runs

logger = logging.getLogger("mrcnn")


class Options(NamedTuple):
    """The options of one call of `train`.

    Attributes:
        learning_rate: the rate after warm-up and before the drops.
        epochs: number of the last epoch, counted from the beginning of the run.
        layers: heads, 3+, 4+, 5+, all, or a regular expression of layer names.
        augmentations: see `mrcnn.data.augment`; None for those that the settings name.
        no_augmentation_sources: sources whose images are not augmented.
        callbacks: called in addition to the built-in ones.
    """

    learning_rate: float
    epochs: int
    layers: str = "all"
    augmentations: Sequence[Augmentation] | None = None
    no_augmentation_sources: Sequence[str] = ()
    callbacks: Sequence[keras.callbacks.Callback] = ()


class Trainer:
    """Trains a network.

    Args:
        model: The training model.
        weights: A model with the same layers, whose weights are saved in checkpoints.
        run: The folder that checkpoints are written to.
        initial: The backbone's first kernel as initialized.

    Attributes:
        compile: (learning_rate, momentum) -> None, sets the optimizer of `model`; may be replaced.
    """

    def __init__(
        self, model: TrainingModel, weights: keras.Model, run: RunFolder, initial: np.ndarray
    ) -> None:
        self.model, self.weights, self.run = model, weights, run
        self.compile: Callable[[float, float], None] = self.compile_sgd
        self._resumed_with: keras.optimizers.Optimizer | None = None
        self._initial = initial

    def train(
        self, dataset: Dataset, validation: Dataset | None, options: Options
    ) -> keras.callbacks.History:
        """Train up to an epoch, writing a checkpoint after each; return the history.

        Args:
            dataset, validation: Prepared, with the classes of the network.

        Raises:
            TrainingDiverged: If a loss is not finite; the last checkpoint is good.
            RuntimeError: If more than a tenth of the images are bad, or another training is
                writing to the same folder.
            KeyboardInterrupt, SystemExit: On Ctrl-C, SIGTERM or SIGHUP, after a checkpoint has
                been written; only if the program has no handlers of its own for the last two.
        """
        learning_rate = setting_values.rate("learning_rate", options.learning_rate)
        options = options._replace(
            learning_rate=learning_rate, epochs=setting_values.whole("epochs", options.epochs)
        )
        if self._has_ended(options.epochs):
            return keras.callbacks.History()
        config = self.model.config
        config.check_values()
        fitting.check_objects(dataset, validation, config)
        self.set_trainable(options.layers)
        self._warn_of_random_backbone(options.layers)
        start = self.run.progress(config.steps_per_epoch)
        stream = fitting.training_stream(
            dataset,
            config,
            fitting.augmentations(options.augmentations, config),
            options.no_augmentation_sources,
            start.epoch * config.steps_per_epoch + start.step,
        )
        validation_stream = fitting.validation_stream(validation, config)
        self.run.claim()
        with runs.locked(self.run.folder):
            self._make_ready(options, start)
            return self._fit(stream, validation_stream, options, start)

    def _fit(
        self,
        stream: BatchStream,
        validation: BatchStream | None,
        options: Options,
        start: Progress,
    ) -> keras.callbacks.History:
        run = self.run
        checkpoint = Checkpoint(
            run.checkpoint_path, self.model.config.steps_per_epoch, self.write_checkpoint
        )
        checkpoint.finished, run.planned = run.epoch, options.epochs
        try:
            return fitting.fit(
                self.model,
                stream,
                validation,
                options.epochs,
                start,
                checkpoint,
                options.callbacks,
            )
        finally:
            if checkpoint.has_stepped or checkpoint.left_at:
                # After an interruption, the next training resumes from here.
                run.epoch, run.resumed = checkpoint.finished, checkpoint.left_at
            _show_bad_images(stream, validation)

    def set_trainable(self, layers: str) -> None:
        """Set which layers train, from the next `compile` on; see `trainable.set_trainable`."""
        chosen = trainable.set_trainable(self.weights, layers)
        terminal.show(f"Selecting layers to train: {len(chosen)} layers")

    def compile_sgd(self, learning_rate: float, momentum: float) -> None:
        """Compile the model with SGD as configured, and restore the state of a resumed run."""
        with self.model.strategy.scope():
            self.model.compile(
                optimizers.make_optimizer(self.model.config, learning_rate, momentum)
            )
        self.resume_optimizer()

    def resume_optimizer(self) -> None:
        """Restore the optimizer's step and state from the resumed checkpoint."""
        steps_per_epoch = self.model.config.steps_per_epoch
        start = self.run.progress(steps_per_epoch)
        state = hdf5.read_optimizer(self.run.resumed) if self.run.resumed else {}
        # From the epoch, which LEARNING_RATE_DROPS counts, even if epochs had other lengths.
        step = start.epoch * steps_per_epoch + start.step
        count = restore_optimizer(self.model, {**state, "iterations": np.asarray(step)})
        if state:
            terminal.show(f"Optimizer resumed at step {step}, {count} momentums")
        self._resumed_with = self.model.optimizer

    def write_checkpoint(self, path: Path, progress: dict[str, Any]) -> None:
        """Write weights, settings, optimizer state and the progress of the run."""
        config = self.model.config
        settings = {
            "config": config.to_dict(),
            "steps_per_epoch": config.steps_per_epoch,
            "epochs": self.run.planned,
            **progress,
        }
        hdf5.save(path, self.weights, settings, optimizer_state(self.model))

    def _make_ready(self, options: Options, start: Progress) -> None:
        """Compile, print what will be trained, and warn about likely mistakes."""
        config = self.model.config
        self.compile(options.learning_rate, config.LEARNING_MOMENTUM)
        if self.model.optimizer is not self._resumed_with:  # set by a custom `compile`
            self.resume_optimizer()
        rate = optimizers.describe_rate(self.model.optimizer, options.learning_rate)
        distribution.warn_of_unused_gpu()
        terminal.show(
            f"\nTraining on {distribution.describe(config.GPU_COUNT)}\n"
            f"Starting at epoch {self.run.epoch + 1}. LR={rate}\n\n"
            f"Checkpoint Path: {self.run.checkpoint_path}"
        )
        footprint.check(self.model, options.epochs - self.run.epoch, self.run.folder)
        schedule.warn_of_end(config.LEARNING_RATE_DROPS, start.epoch, start.planned, options.epochs)

    def _has_ended(self, epochs: int) -> bool:
        """Return whether nothing is left to train, and log that."""
        if epochs <= self.run.epoch:
            logger.warning(
                "nothing to train: epochs=%d is the number of the last epoch, counted from the "
                "beginning of the run, and the weights are of epoch %d; ask for more epochs, or "
                "begin a new run: call set_log_dir() after load_weights, or on the command line "
                "pass another --logs and the file as --weights",
                epochs,
                self.run.epoch,
            )
        return epochs <= self.run.epoch

    def _warn_of_random_backbone(self, layers: str) -> None:
        """Warn if layers are trained on top of a frozen, randomly initialized backbone."""
        first = self.weights.weights[0]
        is_own = callable(self.model.config.BACKBONE)  # and may come with weights
        if first.trainable or is_own:
            return
        if np.array_equal(keras.ops.convert_to_numpy(first), self._initial):
            logger.warning(
                "layers=%r trains on top of a frozen backbone with random weights, whose features "
                "say little about the images: load weights first (load_weights('coco'), on the "
                "command line --weights coco), or train all layers",
                layers,
            )


def _show_bad_images(*streams: BatchStream | None) -> None:
    skipped = fitting.bad_images(*streams)
    if skipped:
        terminal.show(f"{len(skipped)} bad images were skipped")
