"""Stops a diverging training early, before a checkpoint is written."""

import math
import statistics
from collections import deque
from typing import NoReturn

import keras

from mrcnn.config import Config

Logs = dict[str, float] | None

# Divergence: SUSTAINED consecutive steps above RISE times the baseline, which is the lowest median
# of ten losses so far, but at least the loss of a network that guesses.
#
# Measured over 100 steps of the network of tests/small.py from random weights, one image per batch:
# with learning rates that converge (0.001, 0.02) the loss stays below 1.0 times the baseline in
# every step, and below 0.7 times over five consecutive steps, also without batch statistics, where
# the first loss is twice that of guessing. At a rate of 0.1 it once jumps to 12 times, and
# recovers; at rates of 1 and 10 it jumps to 20,000 times and more, in the 16th step and within the
# first four.
SUSTAINED = 5
RISE = 10
WINDOW = 10
# A single step is enough here: no batch is that hard, the outputs have exploded.
EXPLOSION = 1000
# For the loss of guessing: number of cells of a keypoint heatmap; loss of unknown box deltas.
KEYPOINT_CELLS = 56 * 56
OF_BOXES = 1.0


class TrainingDiverged(RuntimeError):  # noqa: N818 (it names what happened)
    """The loss keeps rising, or the loss or a weight is no longer finite."""


def guessing(config: Config) -> float:
    """Return the approximate loss of an untrained network."""
    classes = math.log(max(config.NUM_CLASSES, 2))
    levels = {
        "rpn_class_loss": math.log(2),
        "mrcnn_class_loss": classes,
        "mrcnn_mask_loss": classes if config.MASK_LOSS == "softmax" else math.log(2),
        "mrcnn_keypoint_loss": math.log(KEYPOINT_CELLS),
    }
    return sum(
        config.LOSS_WEIGHTS.get(name, 1.0) * levels.get(name, OF_BOXES) for name in config.losses
    )


class StopOnDivergence(keras.callbacks.Callback):
    """Stops training, naming the cause, when the loss keeps rising or is not finite.

    Args:
        least: Losses up to this one are not suspicious, see `guessing`.
    """

    def __init__(self, least: float) -> None:
        super().__init__()
        self.least = least
        self.recent: deque[float] = deque(maxlen=WINDOW)
        self.lowest = math.inf  # median of recent losses
        self.risen = 0  # number of consecutive steps
        self.seen: tuple[int, float] | None = None  # steps of this epoch, the sum of their losses

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Reset the mean of the epoch."""
        del epoch, logs
        self.seen = (0, 0.0)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Raise TrainingDiverged if a loss has risen too far, or is NaN or infinite."""
        logs = logs or {}
        wrong = [name for name, value in logs.items() if not math.isfinite(value)]
        if wrong:
            self._stop(f"{', '.join(sorted(wrong))} not finite", batch)
        loss = self._of_step(batch, logs.get("loss", 0.0))
        if loss is None:
            return
        self.recent.append(loss)
        self.lowest = min(self.lowest, statistics.median(self.recent))
        baseline = max(self.least, self.lowest)
        self.risen = self.risen + 1 if loss > RISE * baseline else 0
        if self.risen >= SUSTAINED or loss > EXPLOSION * baseline:
            self._stop(f"the loss rose from {baseline:.3g} to {loss:.3g}", batch)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Raise TrainingDiverged if the loss is rising, so that no checkpoint is written."""
        del epoch, logs
        if self.risen > 1 and self.seen:
            self._stop(f"the loss has risen for {self.risen} steps", self.seen[0] - 1)

    def _of_step(self, batch: int, mean: float) -> float | None:
        """Return the loss of a step from the epoch's running mean; None if unknown."""
        total = mean * (batch + 1)
        before, self.seen = self.seen, (batch + 1, total)
        return total - before[1] if before is not None and before[0] == batch else None

    def _stop(self, what: str, batch: int) -> NoReturn:
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        raise TrainingDiverged(
            f"{what} at step {batch + 1} of this epoch, at learning rate {rate:g}. Lower "
            "LEARNING_RATE (a tenth, say), raise WARMUP_STEPS, or look for wrong boxes in the "
            "data. The last checkpoint is good."
        )
