"""Runs of training, as `MaskRCNN` begins them, goes on with them and ends them."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mrcnn import setting_values, terminal
from mrcnn.data.dataset import Dataset
from mrcnn.data.pipeline import BatchStream
from mrcnn.matterport import classes
from mrcnn.matterport.built import ActingSettings
from mrcnn.matterport.data import chosen_augmentations
from mrcnn.training import distribution, footprint, schedule, trainer
from mrcnn.training import run as training_run
from mrcnn.training.callbacks import Checkpoint
from mrcnn.training.course import Progress
from mrcnn.weights import hdf5, runs

logger = logging.getLogger("mrcnn")


class TrainingRuns(ActingSettings):
    """Mixed into `MaskRCNN`."""

    mode: str
    model_dir: str
    strategy: Any
    # Of the class, for subclasses whose own __init__ does not call MaskRCNN's.
    _resumed: Path | None = None
    _claimed: str | None = None
    _planned: int | None = None
    _gone_on_with: keras.optimizers.Optimizer | None = None
    _initial: np.ndarray | None = None  # the first kernel of the backbone, as it was drawn

    def set_log_dir(self, model_path: str | Path | None = None) -> None:
        """Set log folder, checkpoint path and epoch: a checkpoint's, or those of a new run."""
        name = (self.config.NAME or "").lower()
        path = Path(model_path) if model_path else Path()
        self.epoch, self._resumed, self._planned = 0, None, None
        if run := runs.run_of(path):
            time, self.epoch = run
            self.log_dir = str(Path(self.model_dir) / f"{name}{time}")
        else:
            self.log_dir = str(runs.new_run(Path(self.model_dir), name))
        if run and path.is_file():
            self._resumed, self._claimed = path, self.log_dir
        self.checkpoint_path = str(Path(self.log_dir) / f"mask_rcnn_{name}_{{epoch:04d}}.h5")

    def _claim_log_dir(self) -> None:
        """Make the log folder; another one where another training has begun there meanwhile."""
        while self.epoch == 0 and self.log_dir != self._claimed:
            try:
                runs.begin(Path(self.log_dir))
            except FileExistsError:
                self.set_log_dir()
            else:
                self._claimed = self.log_dir
        runs.make_folder(Path(self.log_dir))

    def train(
        self,
        train_dataset: Dataset,
        val_dataset: Dataset | None,
        learning_rate: float,
        epochs: int,
        layers: str,
        augmentation: Any = None,
        custom_callbacks: Sequence[keras.callbacks.Callback] | None = None,
        no_augmentation_sources: Sequence[str] | None = None,
    ) -> keras.callbacks.History:
        """Train up to an epoch, writing a checkpoint after each; return the history.

        Args:
            train_dataset: Prepared.
            val_dataset: Prepared, or None.
            epochs: Number of the last epoch, counted from the beginning of the first run.
            layers: heads, 3+, 4+, 5+, all, or a regular expression of layer names.
            augmentation: An imgaug augmenter, or callables of `mrcnn.data.augment`.
            custom_callbacks: Called beside this package's own.
            no_augmentation_sources: Sources whose images are not augmented.

        Raises:
            TrainingDiverged: When a loss is not finite; the last checkpoint is good.
            RuntimeError: When more than a tenth of the images are bad, or another training is
                writing into the same folder.
            KeyboardInterrupt, SystemExit: On Ctrl-C, SIGTERM or SIGHUP, after a checkpoint was
                written; only where the program has no handlers of its own for the last two.
        """
        if self.mode != "training":
            raise ValueError('train needs MaskRCNN(mode="training")')
        learning_rate = setting_values.rate("learning_rate", learning_rate)
        epochs = setting_values.whole("epochs", epochs)
        if self._has_ended(epochs):
            return keras.callbacks.History()
        config = self._settings(training=True)
        config.check_values()
        train_dataset, val_dataset = classes.adopt_classes(config, train_dataset, val_dataset)
        classes.adopt_keypoints(config, train_dataset)
        training_run.check_objects(train_dataset, val_dataset, self.config)
        self.set_trainable(layers)
        self._warn_of_random_backbone(layers)
        start = self._progress()
        stream = training_run.training_stream(
            train_dataset,
            config,
            chosen_augmentations(augmentation, config),
            no_augmentation_sources or (),
            start.epoch * config.steps_per_epoch + start.step,
        )
        validation = training_run.validation_stream(val_dataset, config)
        self._claim_log_dir()
        checkpoint = Checkpoint(
            self.checkpoint_path, config.steps_per_epoch, self._write_checkpoint
        )
        with runs.locked(Path(self.log_dir)):
            self._make_ready(learning_rate)
            self._announce(learning_rate)
            footprint.check(self.training_model, epochs - self.epoch, Path(self.log_dir))
            schedule.warn_of_end(config.LEARNING_RATE_DROPS, start.epoch, start.planned, epochs)
            checkpoint.finished, self._planned = self.epoch, epochs
            try:
                return training_run.fit(
                    self.training_model,
                    stream,
                    validation,
                    epochs,
                    start,
                    checkpoint,
                    custom_callbacks or (),
                )
            finally:
                if checkpoint.has_stepped or checkpoint.left_at:
                    # After an interruption the next training goes on where this one was.
                    self.epoch, self._resumed = checkpoint.finished, checkpoint.left_at
                _show_bad_images(stream, validation)

    def _has_ended(self, epochs: int) -> bool:
        """Tell whether nothing is left to train, and log it then."""
        if epochs <= self.epoch:
            logger.warning(
                "nothing trains: epochs=%d is the number of the last epoch, counted from the "
                "beginning of the run, and the weights are of epoch %d; ask for more epochs, or "
                "begin a new run: call set_log_dir() after load_weights, on the command line give "
                "another --logs and the file as --weights",
                epochs,
                self.epoch,
            )
        return epochs <= self.epoch

    def _remember_initial(self) -> None:
        self._initial = keras.ops.convert_to_numpy(self.inference_model.weights[0]).copy()

    def _warn_of_random_backbone(self, layers: str) -> None:
        """Log where layers are trained over a frozen backbone that nobody gave weights."""
        first = self.inference_model.weights[0]
        is_own = callable(self.config.BACKBONE)  # which may bring weights with it
        if self._initial is None or first.trainable or is_own:
            return
        if np.array_equal(keras.ops.convert_to_numpy(first), self._initial):
            logger.warning(
                "layers=%r trains over a backbone of random weights, whose features tell little of "
                "the images: load weights first (load_weights('coco'), on the command line "
                "--weights coco), or train all layers",
                layers,
            )

    def _announce(self, learning_rate: float) -> None:
        rate = trainer.describe_rate(self.training_model.optimizer, learning_rate)
        distribution.warn_of_unused_gpu()
        terminal.show(
            f"\nTraining on {distribution.describe(self.training_model.config.GPU_COUNT)}\n"
            f"Starting at epoch {self.epoch + 1}. LR={rate}\n\n"
            f"Checkpoint Path: {self.checkpoint_path}"
        )

    def set_trainable(
        self,
        layer_regex: str,
        keras_model: keras.Model | None = None,
        indent: int = 0,
        verbose: int = 1,
    ) -> None:
        """Let layers train whose whole name matches; takes effect with the next `compile`."""
        del indent
        chosen = trainer.set_trainable(keras_model or self.inference_model, layer_regex)
        if verbose:
            print(f"Selecting layers to train: {len(chosen)} layers")

    def compile(self, learning_rate: float, momentum: float) -> None:
        """Prepare the training model: optimizer, the losses, and the state of a resumed run."""
        with self.strategy.scope():
            optimizer = trainer.make_optimizer(self.config, learning_rate, momentum)
            self.training_model.compile(optimizer)
        self._go_on()

    def _make_ready(self, learning_rate: float) -> None:
        self.compile(learning_rate, self.config.LEARNING_MOMENTUM)
        # A program's own `compile` may have chosen another optimizer.
        if self.training_model.optimizer is not self._gone_on_with:
            self._go_on()

    def _go_on(self) -> None:
        """Set the step, and the state of a resumed run, of the optimizer."""
        start = self._progress()
        state = hdf5.read_optimizer(self._resumed) if self._resumed else {}
        # By the epochs, which LEARNING_RATE_DROPS counts, also where they had other steps.
        step = start.epoch * self.config.steps_per_epoch + start.step
        count = trainer.restore_optimizer(
            self.training_model, {**state, "iterations": np.asarray(step)}
        )
        if state:
            print(f"Optimizer resumed at step {step}, {count} momentums")
        self._gone_on_with = self.training_model.optimizer

    def _progress(self) -> Progress:
        """Return how far the run is whose checkpoint is gone on from."""
        stored = hdf5.read_settings(self._resumed) if self._resumed else {"epochs": self._planned}
        return Progress.stored(self.epoch, stored, self.config.steps_per_epoch)

    def _write_checkpoint(self, path: Path, progress: dict[str, Any]) -> None:
        config = self.training_model.config
        settings = {
            "config": config.to_dict(),
            "steps_per_epoch": config.steps_per_epoch,
            "epochs": self._planned,
            **progress,
        }
        state = trainer.optimizer_state(self.training_model)
        hdf5.save(path, self.inference_model, settings, state)


def _show_bad_images(*streams: BatchStream | None) -> None:
    skipped = training_run.bad_images(*streams)
    if skipped:
        print(f"{len(skipped)} bad images were skipped")
