"""Callbacks for `fit`: checkpoints, pace, and average precision as programs ask for it."""

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mrcnn import machine, terminal
from mrcnn.data.dataset import Dataset
from mrcnn.training import optimizer_state
from mrcnn.training.divergence import TrainingDiverged

Logs = dict[str, float] | None
TIMED_STEPS, TIMED_SECONDS = 5, 10


class Checkpoint(keras.callbacks.Callback):
    """Writes a checkpoint after every epoch, and in the middle of epochs that take long.

    Args:
        path: With the field {epoch:04d}, counted from 1.
        steps: Number of steps per epoch.
        write: Called with a path and the progress to store: `epoch`, the number of finished
            epochs; in the middle of an epoch also `step` and `sums`, see `Progress`.
        keep: Number of epochs whose checkpoints are kept; None for all.
        every: Number of steps, and of minutes, after which one is written in the middle of an
            epoch; 0 for never.

    Attributes:
        finished: Number of finished epochs.
        left_at: The checkpoint written on interruption.
        latest: The checkpoint written last.
        has_stepped: Whether any training step has run.
    """

    def __init__(
        self,
        path: str,
        steps: int,
        write: Callable[[Path, dict[str, Any]], None],
        *,
        keep: int | None = None,
        every: tuple[int, float] = (0, 0),
    ) -> None:
        super().__init__()
        self.path = path
        self.steps = steps
        self.write = write
        self.keep, self.every = keep, every
        self.finished = 0
        self.left_at: Path | None = None
        self.latest: Path | None = None
        self.has_stepped = False
        self._written: int | None = None  # epoch of the last complete checkpoint
        self._at = time.monotonic()  # of the latest
        self.held: Callable[[], AbstractContextManager] = nullcontext  # entered while writing

    def write_interrupted(self) -> Path:
        """Write a checkpoint from which training can be resumed, and return its path.

        In the middle of an epoch it gets its own name, in addition to the last complete one.

        Raises:
            TrainingDiverged: If a weight is not finite; nothing is written then.
        """
        step = max(self._iterations() - self.finished * self.steps, 0)
        if step >= self.steps:  # during or after validation
            self._write_whole(self.finished + 1)
            step = 0
        if step == 0 and self._written == self.finished:
            self.left_at = Path(self.path.format(epoch=self.finished))
        else:
            self.left_at = self._write_part(step)
        return self.left_at

    def again(self) -> "Checkpoint":
        """Return a callback for another training of the same run."""
        return Checkpoint(self.path, self.steps, self.write, keep=self.keep, every=self.every)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Record the number of finished epochs, for a checkpoint on interruption."""
        del logs
        self.finished = epoch

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Record that the weights have changed; write a checkpoint if one is due."""
        del logs
        self.has_stepped = True
        steps, minutes = self.every
        is_due = bool(steps) and (batch + 1) % steps == 0
        is_due |= bool(minutes) and time.monotonic() - self._at >= 60 * minutes
        if is_due and batch + 1 < self.steps:
            self._write_part(batch + 1)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Write the checkpoint of this epoch.

        Raises:
            TrainingDiverged: If a weight is not finite; nothing is written then.
        """
        del logs
        self._write_whole(epoch + 1)

    def _write_whole(self, epoch: int) -> None:
        self._write(Path(self.path.format(epoch=epoch)), {"epoch": epoch})
        self.finished = self._written = epoch
        self._interrupted(epoch - 1).unlink(missing_ok=True)  # no longer needed
        self._prune(epoch)

    def _write_part(self, step: int) -> Path:
        sums = {metric.name: _values(metric) for metric in self.model.metrics}
        path = self._interrupted(self.finished)
        self._write(path, {"epoch": self.finished, "step": step, "sums": sums if step else {}})
        return path

    def _write(self, path: Path, progress: dict[str, Any]) -> None:
        with self.held():
            self._check_weights()
            self.write(path, progress)
        self.latest, self._at = path, time.monotonic()

    def _prune(self, epoch: int) -> None:
        """Remove the checkpoints of the run that are older than the newest `keep`."""
        if self.keep is None:
            return
        for older in range(epoch - self.keep, 0, -1):
            path = Path(self.path.format(epoch=older))
            if not path.exists():  # what is older still was removed before, or kept on purpose
                break
            path.unlink()

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


class Pace(keras.callbacks.Callback):
    """Prints the time to the first step, and after some steps speed, memory and the time left.

    Args:
        epochs: Number of the last epoch, 1-based; None if the time decides.
        steps: Number of steps per epoch.
        images: Number of images per step.
    """

    def __init__(self, epochs: int | None, steps: int, images: int) -> None:
        super().__init__()
        self.epochs, self.steps, self.images = epochs, steps, images
        self.epoch = 0
        self.started = time.monotonic()
        self.has_stepped = self.is_told = False
        self.begun: tuple[int, float] | None = None  # step of the run, and the time after it

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Restart the timing: epochs are separated by more than training steps."""
        del logs
        self.epoch, self.begun = epoch, None

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Print what is known; the first step includes compilation."""
        del logs
        step, now = self.epoch * self.steps + batch + 1, time.monotonic()
        if not self.has_stepped and now - self.started >= TIMED_SECONDS / 5:
            terminal.show(f"\nfirst step after {now - self.started:.0f} s")
        self.has_stepped = True
        if self.is_told or self.begun is None:
            self.begun = self.begun or (step, now)
            return
        done, passed = step - self.begun[0], now - self.begun[1]
        if done >= TIMED_STEPS and passed >= TIMED_SECONDS:
            self.is_told = True
            self._tell(passed / done, step)

    def _tell(self, seconds: float, step: int) -> None:
        parts = [f"{self.images / seconds:.3g} images/s", *_memory()]
        if self.epochs is not None:
            left = seconds * (self.epochs * self.steps - step)
            if left <= 10 * TIMED_SECONDS:
                return
            parts.append(f"about {_in_words(left)} to epoch {self.epochs}, validation apart")
        terminal.show(f"\n{', '.join(parts)}")


def _memory() -> list[str]:
    """Return the memory that this process has taken at most, in words; nothing if unknown."""
    peak = machine.peak_memory()
    return [] if peak is None else [machine.in_gigabytes(peak)]


def _in_words(seconds: float) -> str:
    minutes = max(round(seconds / 60), 1)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


class MeanAveragePrecisionCallback(keras.callbacks.Callback):
    """Evaluates the weights being trained on a dataset every few epochs.

    Adds val_mask_AP, val_mask_AP50, val_box_AP and val_box_AP50 (COCO's, see `MaskRCNN.evaluate`)
    to the epoch's logs, so that TensorBoard and subsequent callbacks see them. In the epochs
    between evaluations they keep the last values; they are NaN before the first evaluation, and
    for outputs that the network does not have.

    Args:
        train_model: The `MaskRCNN` being trained; it can detect as well.
        inference_model: Another `MaskRCNN`, or None. A separate model is not needed; if given, it
            gets the trained weights before every evaluation.
        dataset: Prepared.
        calculate_map_at_every_X_epoch: Number of epochs between evaluations.
        dataset_limit: Evaluate only the first `dataset_limit` images; None for all.
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
        """Evaluate if this epoch is due."""
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
