"""Runs of training, as `MaskRCNN` begins them, goes on with them and ends them."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mrcnn import setting_values, terminal
from mrcnn.data.dataset import Dataset
from mrcnn.matterport import classes
from mrcnn.matterport.built import ActingSettings
from mrcnn.matterport.data import chosen_augmentations
from mrcnn.training import run as training_run
from mrcnn.training import trainer
from mrcnn.training.callbacks import Checkpoint
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

    def set_log_dir(self, model_path: str | Path | None = None) -> None:
        """Set log folder, checkpoint path and epoch: a checkpoint's, or those of a new run."""
        name = (self.config.NAME or "").lower()
        path = Path(model_path) if model_path else Path()
        self.epoch, self._resumed = 0, None
        if run := runs.run_of(path):
            time, self.epoch = run
            self.log_dir = str(Path(self.model_dir) / f"{name}{time}")
        else:
            self.log_dir = str(runs.new_run(Path(self.model_dir), name))
        if run and path.is_file():
            self._resumed = path
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
            RuntimeError: When more than a tenth of the images are bad.
            KeyboardInterrupt: After a checkpoint was written.
        """
        if self.mode != "training":
            raise ValueError('train needs MaskRCNN(mode="training")')
        learning_rate = setting_values.rate("learning_rate", learning_rate)
        epochs = setting_values.whole("epochs", epochs)
        if epochs <= self.epoch:
            logger.warning(
                "nothing trains: epochs=%d is the number of the last epoch, counted from the "
                "beginning of the run, and the weights are of epoch %d; ask for more epochs, or "
                "begin a new run: call set_log_dir() after load_weights, on the command line give "
                "another --logs and the file as --weights",
                epochs,
                self.epoch,
            )
            return keras.callbacks.History()
        config = self._settings(training=True)
        config.check_values()
        train_dataset, val_dataset = classes.adopt_classes(config, train_dataset, val_dataset)
        classes.adopt_keypoints(config, train_dataset)
        training_run.check_objects(train_dataset, val_dataset, self.config)
        self.set_trainable(layers)
        self.compile(learning_rate, config.LEARNING_MOMENTUM)
        stream = training_run.training_stream(
            train_dataset,
            config,
            chosen_augmentations(augmentation, config),
            no_augmentation_sources or (),
            self.epoch,
        )
        validation = None
        if val_dataset is not None and config.validation_steps:
            validation = training_run.validation_stream(val_dataset, config)
        self._claim_log_dir()
        rate = trainer.describe_rate(self.training_model.optimizer, learning_rate)
        terminal.show(
            f"\nStarting at epoch {self.epoch + 1}. LR={rate}\n\n"
            f"Checkpoint Path: {self.checkpoint_path}"
        )
        checkpoint = Checkpoint(self.checkpoint_path, self._write_checkpoint)
        checkpoint.finished = self.epoch
        try:
            return training_run.fit(
                self.training_model,
                stream,
                validation,
                range(self.epoch, epochs),
                checkpoint,
                Path(self.log_dir),
                custom_callbacks or (),
            )
        finally:
            self.epoch = checkpoint.finished
            skipped = training_run.bad_images(stream, validation)
            if skipped:
                print(f"{len(skipped)} bad images were skipped")

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
        step = self.epoch * self.config.steps_per_epoch
        state = hdf5.read_optimizer(self._resumed) if self._resumed else {}
        count = trainer.restore_optimizer(
            self.training_model, {"iterations": np.asarray(step), **state}
        )
        if state:
            print(f"Optimizer resumed at step {int(state['iterations'])}, {count} momentums")
        # The state is that of the file; after this training it is out of date.
        self._resumed = None

    def _write_checkpoint(self, path: Path, epoch: int) -> None:
        settings = {"config": self.training_model.config.to_dict(), "epoch": epoch}
        state = trainer.optimizer_state(self.training_model)
        hdf5.save(path, self.inference_model, settings, state)
