"""Training in several calls of Keras' `fit`, which only supports whole epochs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import keras

from mrcnn.training.signals import Signals

Logs = dict[str, Any] | None
Sums = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Progress:
    """Progress of a run.

    epoch: finished epochs. step: finished steps of the next epoch. sums: accumulated metrics of
    these steps, by name. planned: the last epoch that was planned; None if unknown. minutes: time
    of training. rate_factor: what the learning rate is multiplied by since the training diverged.
    """

    epoch: int = 0
    step: int = 0
    sums: Sums = field(default_factory=dict)
    planned: int | None = None
    minutes: float = 0.0
    rate_factor: float = 1.0

    @classmethod
    def stored(cls, epoch: int, settings: Mapping[str, Any], steps_per_epoch: int) -> Self:
        """Return the progress stored in a checkpoint.

        An interrupted epoch is restarted if its number of steps has changed, or was not stored.
        """
        step, planned = settings.get("step"), settings.get("epochs")
        planned = planned if isinstance(planned, int) else None
        numbers: dict[str, Any] = {
            name: float(settings[name])
            for name in ("minutes", "rate_factor")
            if isinstance(settings.get(name), int | float)
        }
        is_same = settings.get("steps_per_epoch") == steps_per_epoch
        if isinstance(step, int) and is_same and 0 < step < steps_per_epoch:
            return cls(epoch, step, settings.get("sums", {}), planned, **numbers)
        return cls(epoch, planned=planned, **numbers)


class _Unknown(int):
    """A number of epochs that the progress bar compares like any, and shows as a question mark."""

    def __format__(self, spec: str) -> str:
        return "?"


class Course(keras.callbacks.CallbackList):
    """Callbacks to which a training looks like one call of `fit`, although it may take several.

    The rest of an interrupted epoch is a call of its own: its batch numbers and metrics continue
    from where the epoch was interrupted. Signals end the training after a step.

    Args:
        callbacks: Keras' history and progress bar are added.
        model: Compiled.
        epochs: Numbers of the epochs to train, 0-based.
        steps: Number of steps per epoch.
        start: Provides `step` and `sums` of the first of the epochs.
        signals: Checked after every step except the last of an epoch, which is completed first.
        verbose: As in Keras.

    Attributes:
        is_in_step: Between the beginning and the end of a step.
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
        self.is_in_step = False
        self.end_logs: Logs = None

    def parts(self) -> Iterator[tuple[range, int, int]]:
        """Yield the calls of `fit`: epochs, steps per epoch, number of batches already run."""
        first, steps, rest = self.epochs.start, self.steps, self.start.step
        if rest:
            yield range(first, first + 1), steps - rest, first * steps + rest
            first += 1
        if first < self.epochs.stop and not self.model.stop_training:
            yield range(first, self.epochs.stop), steps, first * steps

    def show_epochs(self, epochs: int | None) -> None:
        """Let the progress bar show another number of epochs than `fit` was called with."""
        if self._progbar is not None:
            self._progbar.epochs = _Unknown(self.epochs.stop) if epochs is None else epochs

    def on_train_begin(self, logs: Logs = None) -> None:
        """Pass on only the first call."""
        if not self.has_begun:
            super().on_train_begin(logs)
        self.has_begun = True

    def on_train_end(self, logs: Logs = None) -> None:
        """Defer the call to `finish`."""
        self.end_logs = logs

    def finish(self) -> None:
        """Notify the callbacks that training has ended."""
        super().on_train_end(self.end_logs)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Restore the metrics of an interrupted epoch."""
        is_rest = epoch == self.epochs.start and self.start.step
        self.offset = self.start.step if is_rest else 0
        for metric in self.model.metrics if is_rest else ():
            for variable, value in zip(
                metric.variables, self.start.sums.get(metric.name, ()), strict=False
            ):
                variable.assign(value)
        super().on_epoch_begin(epoch, logs)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Stop if a signal asks for it; the checkpoint has been written."""
        super().on_epoch_end(epoch, logs)
        self.signals.check()

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Renumber the batch from the beginning of the epoch."""
        super().on_train_batch_begin(batch + self.offset, logs)
        self.is_in_step = True

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Renumber the batch from the beginning of the epoch; stop if a signal asks for it."""
        self.is_in_step = False
        super().on_train_batch_end(batch + self.offset, logs)
        if batch + self.offset + 1 < self.steps:
            self.signals.check()

    def on_test_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Stop validation if a signal asks for it."""
        super().on_test_batch_end(batch, logs)
        self.signals.check()
