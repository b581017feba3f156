"""Callbacks of `fit`: checkpoints, and a stop before a diverged network is written."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mrcnn.data.dataset import Dataset

Logs = dict[str, float] | None


class TrainingDiverged(RuntimeError):  # noqa: N818 (it names what happened)
    """The loss or a weight is no longer finite."""


class StopOnDivergence(keras.callbacks.Callback):
    """Stops with the cause as soon as a loss is not finite."""

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Raise TrainingDiverged when a loss is NaN or infinite."""
        wrong = [name for name, value in (logs or {}).items() if not math.isfinite(value)]
        if wrong:
            rate = float(self.model.optimizer.learning_rate)
            raise TrainingDiverged(
                f"{', '.join(sorted(wrong))} not finite at step {batch + 1} of this epoch, at "
                f"learning rate {rate:g}. Lower LEARNING_RATE (a tenth, say), raise WARMUP_STEPS, "
                "or look for wrong boxes in the data. The last checkpoint is good."
            )


class Checkpoint(keras.callbacks.Callback):
    """Writes a checkpoint after every epoch.

    Args:
        path: With the field {epoch:04d}, counted from 1.
        write: Called with path and number of finished epochs.
    """

    def __init__(self, path: str, write: Callable[[Path, int], None]) -> None:
        super().__init__()
        self.path = path
        self.write = write
        self.finished = 0

    def write_interrupted(self) -> Path:
        """Write a checkpoint from the middle of an epoch, beside that of the last whole one.

        Training then goes on at the beginning of the interrupted epoch.
        """
        whole = Path(self.path.format(epoch=self.finished))
        path = whole.with_stem(f"{whole.stem}_interrupted")
        self._check_weights()
        self.write(path, self.finished)
        return path

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Remember how many epochs are finished, for a checkpoint on interruption."""
        del logs
        self.finished = epoch

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Write the checkpoint of this epoch.

        Raises:
            TrainingDiverged: When a weight is not finite; nothing is written then.
        """
        del logs
        self._check_weights()
        self.write(Path(self.path.format(epoch=epoch + 1)), epoch + 1)
        self.finished = epoch + 1

    def _check_weights(self) -> None:
        for weight in self.model.weights:
            if not np.isfinite(keras.ops.convert_to_numpy(weight)).all():
                raise TrainingDiverged(
                    f"the weights {weight.path} are not finite. Lower LEARNING_RATE (a tenth, "
                    "say). The last checkpoint is good."
                )


class MeanAveragePrecisionCallback(keras.callbacks.Callback):
    """Scores a dataset every few epochs, with the weights that are being trained.

    Adds val_mask_AP, val_mask_AP50, val_box_AP and val_box_AP50 (COCO's, see `MaskRCNN.evaluate`)
    to the epoch's logs, so that TensorBoard and callbacks which come after it see them. In the
    epochs between they are the last ones; not a number before the first, and for what the network
    does not have.

    Args:
        train_model: The `MaskRCNN` that is being trained; it can detect as well.
        inference_model: Another `MaskRCNN`, or None. One of its own is not needed; where it is
            given, it gets the trained weights before every evaluation.
        dataset: Prepared.
        calculate_map_at_every_X_epoch: Epochs from one evaluation to the next.
        dataset_limit: Only so many of the images, the first ones; None for all.
        verbose: 1 prints the table.
    """

    def __init__(
        self,
        train_model: Any,
        inference_model: Any,
        dataset: Dataset,
        calculate_map_at_every_X_epoch: int = 5,  # noqa: N803 (its published name)
        dataset_limit: int | None = None,
        verbose: int = 1,
    ) -> None:
        super().__init__()
        if calculate_map_at_every_X_epoch < 1:
            raise ValueError(
                "calculate_map_at_every_X_epoch must be at least 1, got "
                f"{calculate_map_at_every_X_epoch}"
            )
        self.train_model, self.inference_model = train_model, inference_model
        self.dataset = dataset
        self.every = calculate_map_at_every_X_epoch
        self.limit = dataset_limit
        self.verbose = verbose
        self.figures = dict.fromkeys(
            ("val_mask_AP", "val_mask_AP50", "val_box_AP", "val_box_AP50"), math.nan
        )

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Score, if it is time."""
        if (epoch + 1) % self.every == 0:
            scores = self._detector().evaluate(self.dataset, self.verbose, limit=self.limit)
            for name, kind in (("mask", "segm"), ("box", "bbox")):
                for figure in ("AP", "AP50"):
                    value = scores.get(kind, {}).get(figure)
                    self.figures[f"val_{name}_{figure}"] = math.nan if value is None else value
        if logs is not None:
            logs.update(self.figures)

    def _detector(self) -> Any:
        model = self.inference_model
        if model is None or model is self.train_model:
            return self.train_model
        model.inference_model.set_weights(self.train_model.inference_model.get_weights())
        return model
