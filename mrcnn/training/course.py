"""The course of a training through Keras' `fit`, which knows whole epochs only."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import keras

from mrcnn.training.signals import Signals

Logs = dict[str, Any] | None
Sums = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    epoch: finished epochs. step: steps of the next one that are done. sums: what the metrics have
    added up in these, by name. planned: the last epoch that it was to have; None where unknown.
    """

    epoch: int = 0
    step: int = 0
    sums: Sums = field(default_factory=dict)
    planned: int | None = None

    @classmethod
    def stored(cls, epoch: int, settings: Mapping[str, Any], steps_per_epoch: int) -> Self:
        """Return the progress that travels in a checkpoint.

        An epoch of another number of steps than now, or one that was interrupted before that
        number was known, is begun again.
        """
        step, planned = settings.get("step"), settings.get("epochs")
        planned = planned if isinstance(planned, int) else None
        is_same = settings.get("steps_per_epoch") == steps_per_epoch
        if isinstance(step, int) and is_same and 0 < step < steps_per_epoch:
            return cls(epoch, step, settings.get("sums", {}), planned)
        return cls(epoch, planned=planned)


class Course(keras.callbacks.CallbackList):
    """Callbacks that see a training as one, whatever number of calls of `fit` it is made of.

    The rest of an interrupted epoch is such a call: its batches are counted from where the epoch
    was left, and its metrics go on from there. Signals end the training after a step.

    Args:
        callbacks: Keras' history and progress bar are added.
        model: Compiled.
        epochs: Numbers of the epochs to train, 0-based.
        steps: In an epoch.
        start: Its `step` and `sums` are those of the first of the epochs.
        signals: Checked after every step but the last of an epoch, whose end is waited for.
        verbose: Keras'.
    """

    def __init__(
        self,
        callbacks: Sequence[keras.callbacks.Callback],
        model: keras.Model,
        epochs: range,
        steps: int,
        start: Progress,
        signals: Signals,
        verbose: int,
    ) -> None:
        super().__init__(
            list(callbacks),
            add_history=True,
            add_progbar=verbose != 0,
            model=model,
            verbose=verbose,
            epochs=epochs.stop,
            steps=steps,
        )
        self.epochs, self.steps, self.start, self.signals = epochs, steps, start, signals
        self.offset = 0
        self.has_begun = False
        self.end_logs: Logs = None

    def parts(self) -> Iterator[tuple[range, int, int]]:
        """Yield the calls of `fit`: epochs, steps in each, batches of the run before the first."""
        first, steps, rest = self.epochs.start, self.steps, self.start.step
        if rest:
            yield range(first, first + 1), steps - rest, first * steps + rest
            first += 1
        if first < self.epochs.stop and not self.model.stop_training:
            yield range(first, self.epochs.stop), steps, first * steps

    def on_train_begin(self, logs: Logs = None) -> None:
        """Pass on the first beginning."""
        if not self.has_begun:
            super().on_train_begin(logs)
        self.has_begun = True

    def on_train_end(self, logs: Logs = None) -> None:
        """Keep the end for `finish`."""
        self.end_logs = logs

    def finish(self) -> None:
        """Tell the callbacks that the training has ended."""
        super().on_train_end(self.end_logs)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Let the metrics go on where an interrupted epoch was left."""
        is_rest = epoch == self.epochs.start and self.start.step
        self.offset = self.start.step if is_rest else 0
        for metric in self.model.metrics if is_rest else ():
            for variable, value in zip(
                metric.variables, self.start.sums.get(metric.name, ()), strict=False
            ):
                variable.assign(value)
        super().on_epoch_begin(epoch, logs)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """End here where a signal asks for it; the checkpoint is written by now."""
        super().on_epoch_end(epoch, logs)
        self.signals.check()

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Count from the beginning of the epoch."""
        super().on_train_batch_begin(batch + self.offset, logs)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Count from the beginning of the epoch; end here where a signal asks for it."""
        super().on_train_batch_end(batch + self.offset, logs)
        if batch + self.offset + 1 < self.steps:
            self.signals.check()

    def on_test_batch_end(self, batch: int, logs: Logs = None) -> None:
        """End a validation where a signal asks for it."""
        super().on_test_batch_end(batch, logs)
        self.signals.check()
