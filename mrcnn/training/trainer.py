"""The trainer: optimizer and its state, run folder, `fit`, checkpoints."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mrcnn import terminal
from mrcnn.data.dataset import Dataset
from mrcnn.data.pipeline import BatchStream
from mrcnn.training import (
    distribution,
    fitting,
    footprint,
    optimizers,
    recovery,
    results,
    schedule,
    trainable,
)
from mrcnn.training.budget import Budget
from mrcnn.training.callbacks import Checkpoint
from mrcnn.training.clock import Clock
from mrcnn.training.course import Progress
from mrcnn.training.divergence import TrainingDiverged
from mrcnn.training.optimizer_state import optimizer_state, restore_optimizer
from mrcnn.training.options import Options
from mrcnn.training.run_folder import RunFolder
from mrcnn.training.scoring import Scorer, ValidationScores
from mrcnn.training.training_model import TrainingModel
from mrcnn.weights import hdf5, runs

logger = logging.getLogger("mrcnn")

# Kept at the end of a training of limited time, beside the last scoring and as much again: for
# what the caller makes of it, such as a report.
REPORT_SECONDS = 30


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
        self._has_budget = False
        self._clock = Clock()
        self._rate_factor = 1.0

    def train(
        self,
        dataset: Dataset,
        validation: Dataset | None,
        options: Options,
        scorer: Scorer | None = None,
    ) -> keras.callbacks.History:
        """Train up to an epoch or a time, writing a checkpoint after each epoch.

        A training that diverges goes back to its last checkpoint, at most three times, with a
        lower rate.

        Args:
            dataset, validation: Prepared, with the classes of the network.
            scorer: Scores the network on the validation images; the best weights are then kept in
                `best.h5`. None for no scores.

        Returns:
            The history: losses and scores of each epoch; NaN where an epoch was not scored.

        Raises:
            TrainingDiverged: If a loss is not finite; the last checkpoint is good.
            RuntimeError: If more than a tenth of the images are bad, or another training is
                writing to the same folder.
            KeyboardInterrupt, SystemExit: On Ctrl-C, SIGTERM or SIGHUP, after a checkpoint has
                been written; only if the program has no handlers of its own for the last two.
        """
        options = options.checked()
        if self._has_ended(options):
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
            self._clock, self._rate_factor = Clock(start.minutes), start.rate_factor
            self._has_budget = options.minutes is not None
            self.run.write_json({"config.json": config.to_dict(), **options.files})
            self._make_ready(options, start)
            return self._fit_again(stream, validation_stream, options, start, scorer)

    def _fit_again(
        self,
        stream: BatchStream,
        validation: BatchStream | None,
        options: Options,
        start: Progress,
        scorer: Scorer | None,
    ) -> keras.callbacks.History:
        """Train; after a divergence go back and train on with a lower rate."""
        plan = self._plan(options, start, scorer)
        first = recovery.Start(self.weights, self.run.resumed, self.run.epoch)
        base = self._rate_factor
        for factor in (*recovery.FACTORS, None):
            try:
                return self._fit(stream, validation, plan)
            except TrainingDiverged as error:
                if factor is None:
                    raise
                self._rate_factor = base * factor
                plan = self._go_back(plan, first, error)
                self._compile(options.learning_rate)
        raise AssertionError("unreachable: the last round returns or raises")

    def _go_back(self, plan: fitting.Plan, first: recovery.Start, error: Exception) -> fitting.Plan:
        """Return to the last good state, and log that."""
        run = self.run
        self.model.settle()
        run.resumed, run.epoch = first.restore(plan.checkpoint.latest)
        start = run.progress(self.model.config.steps_per_epoch)
        logger.warning(
            "the training diverged: %s Going back to epoch %d, step %d, with %g times the "
            "learning rate",
            error,
            start.epoch + 1,
            start.step + 1,
            self._rate_factor,
        )
        for callback in plan.before:
            if isinstance(callback, results.History | results.Results):
                callback.go_back(start.epoch)
        return plan._replace(start=start, checkpoint=plan.checkpoint.again())

    def _plan(self, options: Options, start: Progress, scorer: Scorer | None) -> fitting.Plan:
        """Return the callbacks of a training."""
        config, run = self.model.config, self.run
        steps = config.steps_per_epoch
        checkpoint = Checkpoint(
            run.checkpoint_path,
            steps,
            self.write_checkpoint,
            keep=options.keep,
            every=(config.CHECKPOINT_STEPS, config.CHECKPOINT_MINUTES),
        )
        table = results.Results(run.folder, start.epoch, steps, self._clock)
        before = [*options.callbacks]
        scores = budget = None
        if scorer is not None:
            epochs = options.epochs or fitting.ENDLESS
            scores = ValidationScores(scorer, epochs, self._keep_best, options.patience, table.rows)
            before.insert(0, scores)
        if options.minutes is not None:
            left = 60 * (options.minutes - self._clock.minutes())
            budget = Budget(left, steps, partial(_ending, scores))
        # The row before the checkpoint: a run that is killed between them trains the epoch again.
        before += [table, results.History()]
        return fitting.Plan(options.epochs, start, checkpoint, before, budget)

    def _fit(
        self, stream: BatchStream, validation: BatchStream | None, plan: fitting.Plan
    ) -> keras.callbacks.History:
        run, checkpoint = self.run, plan.checkpoint
        checkpoint.finished, run.planned = run.epoch, plan.epochs
        if plan.budget:
            plan.budget.schedule = optimizers.replannable(self.model.optimizer)
        try:
            return fitting.fit(self.model, stream, validation, plan)
        finally:
            if checkpoint.has_stepped or checkpoint.left_at:
                # After an interruption, the next training resumes from here.
                run.epoch, run.resumed = checkpoint.finished, checkpoint.left_at
                run.minutes, run.rate_factor = self._clock.minutes(), self._rate_factor
            if checkpoint.left_at:
                _fill(plan, run.epoch)
            _show_bad_images(stream, validation)

    def _keep_best(self, epoch: int, scores: dict[str, float]) -> None:
        """Write the weights, without the optimizer's state, as the best so far."""
        settings = {"config": self.model.config.to_dict(), "epoch": epoch, "scores": scores}
        hdf5.save(self.run.best_path, self.weights, settings)

    def set_trainable(self, layers: str) -> None:
        """Set which layers train, from the next `compile` on; see `trainable.set_trainable`."""
        chosen = trainable.set_trainable(self.weights, layers)
        terminal.show(f"Selecting layers to train: {len(chosen)} layers")

    def compile_sgd(self, learning_rate: float, momentum: float) -> None:
        """Compile the model with SGD as configured, and restore the state of a resumed run."""
        with self.model.strategy.scope():
            self.model.compile(
                optimizers.make_optimizer(
                    self.model.config, learning_rate, momentum, has_budget=self._has_budget
                )
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
            "minutes": self._clock.minutes(),
            "rate_factor": self._rate_factor,
            **progress,
        }
        hdf5.save(path, self.weights, settings, optimizer_state(self.model))

    def _make_ready(self, options: Options, start: Progress) -> None:
        """Compile, print what will be trained, and warn about likely mistakes."""
        config = self.model.config
        self._compile(options.learning_rate)
        rate = optimizers.describe_rate(self.model.optimizer, options.learning_rate)
        distribution.warn_of_unused_gpu()
        terminal.show(
            f"\nTraining on {distribution.describe(config.GPU_COUNT)}\n"
            f"Starting at epoch {self.run.epoch + 1}. LR={rate}\n\n"
            f"Checkpoint Path: {self.run.checkpoint_path}"
        )
        drops, epochs = config.LEARNING_RATE_DROPS, options.epochs
        num_files = 1 if epochs is None else epochs - self.run.epoch
        footprint.check(self.model, min(num_files, options.keep or num_files), self.run.folder)
        if epochs is not None and not self._has_budget:
            schedule.warn_of_end(drops, start.epoch, start.planned, epochs)

    def _compile(self, learning_rate: float) -> None:
        """Compile with the rate, lowered if the training diverged, and the optimizer's state."""
        self.compile(self._rate_factor * learning_rate, self.model.config.LEARNING_MOMENTUM)
        if self.model.optimizer is not self._resumed_with:  # set by a custom `compile`
            self.resume_optimizer()

    def _has_ended(self, options: Options) -> bool:
        """Return whether nothing is left to train, and log that."""
        epochs = options.epochs
        if epochs is None:
            return self._has_no_time(options)
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

    def _has_no_time(self, options: Options) -> bool:
        """Return whether the time is used up, and log that."""
        used = self.run.progress(self.model.config.steps_per_epoch).minutes
        is_over = options.minutes is not None and used >= options.minutes
        if is_over:
            logger.warning(
                "nothing to train: the run has taken %.1f minutes of its %g; allow more, or begin "
                "a new run",
                used,
                options.minutes,
            )
        return is_over

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


def _fill(plan: fitting.Plan, epochs: int) -> None:
    """Let the table of results have a row for every finished epoch."""
    for callback in plan.before:
        if isinstance(callback, results.Results):
            callback.fill(epochs)


def _ending(scores: ValidationScores | None) -> float | None:
    """Return the seconds that the end of a training takes after its last step; None if unknown."""
    if scores is None or scores.cost is None:
        return None
    return 2 * scores.cost + REPORT_SECONDS


def _show_bad_images(*streams: BatchStream | None) -> None:
    skipped = fitting.bad_images(*streams)
    if skipped:
        terminal.show(f"{len(skipped)} bad images were skipped")
