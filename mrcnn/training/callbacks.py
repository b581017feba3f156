"""Callbacks of `fit`: checkpoints, and average precision while training."""

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mrcnn import terminal
from mrcnn.data.dataset import Dataset
from mrcnn.training import optimizer_state
from mrcnn.training.divergence import TrainingDiverged

Logs = dict[str, float] | None
TIMED_STEPS, TIMED_SECONDS = 5, 10


class Checkpoint(keras.callbacks.Callback):
    """Writes a checkpoint after every epoch.

    Args:
        path: With the field {epoch:04d}, counted from 1.
        steps: In an epoch.
        write: Called with a path and what the checkpoint tells of the progress: `epoch`, the
            number of finished epochs; in the middle of one also `step` and `sums`, see `Progress`.

    Attributes:
        finished: Number of finished epochs.
        left_at: The checkpoint that an interruption wrote.
        has_stepped: Whether anything was trained.
    """

    def __init__(
        self, path: str, steps: int, write: Callable[[Path, dict[str, Any]], None]
    ) -> None:
        super().__init__()
        self.path = path
        self.steps = steps
        self.write = write
        self.finished = 0
        self.left_at: Path | None = None
        self.has_stepped = False
        self._written: int | None = None  # epoch of the last whole one
        self.held: Callable[[], AbstractContextManager] = nullcontext  # entered while it writes

    def write_interrupted(self) -> Path:
        """Write a checkpoint to go on from where the training is, and return its path.

        In the middle of an epoch it has a name of its own, beside that of the last whole one.

        Raises:
            TrainingDiverged: When a weight is not finite; nothing is written then.
        """
        step = max(self._iterations() - self.finished * self.steps, 0)
        if step >= self.steps:  # in the validation, or in what comes after it
            self._write_whole(self.finished + 1)
            step = 0
        if step == 0 and self._written == self.finished:
            self.left_at = Path(self.path.format(epoch=self.finished))
            return self.left_at
        sums = {metric.name: _values(metric) for metric in self.model.metrics}
        path = self._interrupted(self.finished)
        self._write(path, {"epoch": self.finished, "step": step, "sums": sums if step else {}})
        self.left_at = path
        return path

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Remember how many epochs are finished, for a checkpoint on interruption."""
        del logs
        self.finished = epoch

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Note that the weights are not those of the beginning any more."""
        del batch, logs
        self.has_stepped = True

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Write the checkpoint of this epoch.

        Raises:
            TrainingDiverged: When a weight is not finite; nothing is written then.
        """
        del logs
        self._write_whole(epoch + 1)

    def _write_whole(self, epoch: int) -> None:
        self._write(Path(self.path.format(epoch=epoch)), {"epoch": epoch})
        self.finished = self._written = epoch
        self._interrupted(epoch - 1).unlink(missing_ok=True)  # nobody goes on from there any more

    def _write(self, path: Path, progress: dict[str, Any]) -> None:
        with self.held():
            self._check_weights()
            self.write(path, progress)

    def _interrupted(self, epoch: int) -> Path:
        whole = Path(self.path.format(epoch=epoch))
        return whole.with_stem(f"{whole.stem}_interrupted")

    def _iterations(self) -> int:
        return int(keras.ops.convert_to_numpy(optimizer_state.step_of(self.model.optimizer)))

    def _check_weights(self) -> None:
        for weight in self.model.weights:
            if not np.isfinite(keras.ops.convert_to_numpy(weight)).all():
                raise TrainingDiverged(
                    f"the weights {weight.path} are not finite. Lower LEARNING_RATE (a tenth, "
                    "say). The last checkpoint is good."
                )


def _values(metric: keras.Metric) -> list[float]:
    return [float(keras.ops.convert_to_numpy(variable)) for variable in metric.variables]


class TimeLeft(keras.callbacks.Callback):
    """Tells once, after some steps, how long the training will take; nothing of short ones.

    Args:
        epochs: Number of the last epoch, 1-based.
        steps: In an epoch.
    """

    def __init__(self, epochs: int, steps: int) -> None:
        super().__init__()
        self.epochs, self.steps = epochs, steps
        self.epoch = 0
        self.begun: tuple[int, float] | None = None  # step of the run, and the time after it
        self.is_told = False

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Begin to count anew: between epochs there is more than steps."""
        del logs
        self.epoch, self.begun = epoch, None

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Tell the time left, once enough steps were timed. The first one is compiled."""
        del logs
        step, now = self.epoch * self.steps + batch + 1, time.monotonic()
        if self.is_told or self.begun is None:
            self.begun = self.begun or (step, now)
            return
        done, passed = step - self.begun[0], now - self.begun[1]
        if done >= TIMED_STEPS and passed >= TIMED_SECONDS:
            self.is_told = True
            left = passed / done * (self.epochs * self.steps - step)
            if left > 10 * TIMED_SECONDS:
                terminal.show(f"\nabout {_in_words(left)} to epoch {self.epochs}, validation apart")


def _in_words(seconds: float) -> str:
    minutes = max(round(seconds / 60), 1)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


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
