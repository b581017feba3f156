"""Callbacks of `fit`: checkpoints, and a stop before a diverged network is written."""

import math
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

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
