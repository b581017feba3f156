"""A training that ends within a time: its length and its schedule follow from its speed."""

import math
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import keras

from mrcnn.training.schedule import Replannable

Logs = dict[str, Any] | None

SETTLING = 8  # steps until the speed counts: the first ones trace, compile and fill caches
RECENT = 200  # steps that the speed is measured over
SHARE = 0.25  # of the time goes into validation, scores and checkpoints, until that is measured
ENDING = 0.1  # of the time is kept for the end, until that is measured


class Budget(keras.callbacks.Callback):
    """Lays out a training to end within a time, and lays it out anew after every epoch.

    The number of steps follows from the speed of the steps so far; warm-up and drops are scaled
    to it. The training stops when only the time for its end is left.

    Args:
        seconds: Time left.
        steps: Number of steps per epoch.
        at_end: () -> the seconds that the end takes after the last step; None if unknown.

    Attributes:
        schedule: Of the optimizer; None if the program has its own.
        show_epochs: Called with the number of the last epoch, 1-based, as it is planned now.
        total: The number of steps that are planned; None before the speed is known.
    """

    def __init__(
        self,
        seconds: float,
        steps: int,
        at_end: Callable[[], float | None],
    ) -> None:
        super().__init__()
        self.begun = time.monotonic()
        self.seconds, self.steps = seconds, steps
        self.at_end = at_end
        self.schedule: Replannable | None = None
        self.show_epochs: Callable[[int], None] = lambda _: None
        self.total: int | None = None
        self._durations: deque[float] = deque(maxlen=RECENT)
        self._last: float | None = None  # the time after the last step of this epoch
        self._first: float | None = None  # after the first step of this process
        self._epoch = self._done = self._stepped = 0
        self._training = 0.0  # seconds in steps since then

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Restart the timing of steps: epochs are separated by more than steps."""
        del logs
        self._epoch, self._last = epoch, None

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Measure the step; stop if no time is left."""
        del logs
        now = time.monotonic()
        self._done = self._epoch * self.steps + batch + 1
        self._stepped += 1
        self._first = self._first or now
        if self._last is not None and self._stepped > 2:
            self._durations.append(now - self._last)
            self._training += now - self._last
        self._last = now
        if self._stepped == SETTLING:
            self._lay_out()
        if self._left() <= 0:
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Lay out what is left; stop if it is too little for another tenth of an epoch."""
        del epoch, logs
        if self._durations:
            self._lay_out()
            if self._left() < self._speed() * self.steps / 10:
                self.model.stop_training = True

    def _lay_out(self) -> None:
        if not self._durations:
            return
        steps = max(self._left(), 0) * (1 - self._share()) / self._speed()
        self.total = self._done + int(steps)
        self.show_epochs(max(math.ceil(self.total / self.steps), self._epoch + 1))
        if self.schedule is not None:
            _ = self.model  # under JAX this gives the variables their values in the middle of `fit`
            self.schedule.plan(self.total, self._done)

    def _speed(self) -> float:
        """Return the seconds of a step."""
        return sum(self._durations) / len(self._durations)

    def _share(self) -> float:
        """Return the part of the time that goes into anything but steps."""
        passed = time.monotonic() - (self._first or 0)
        if self._epoch == 0 or passed <= 0:
            return SHARE
        return min(max(1 - self._training / passed, 0), 0.5)

    def _left(self) -> float:
        """Return the seconds that are left for steps and what is between them."""
        ending = self.at_end()
        ending = ENDING * self.seconds if ending is None else ending
        return self.begun + self.seconds - ending - time.monotonic()
