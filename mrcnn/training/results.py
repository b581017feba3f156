"""The results of a run, an epoch per row: in the history, and in `results.csv` of its folder."""

import csv
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from mrcnn import files
from mrcnn.training.clock import Clock

Logs = dict[str, Any] | None
NAME = "results.csv"
FIRST = ("epoch", "step", "minutes", "learning_rate")  # the columns that every row has


class History(keras.callbacks.History):
    """Keras' history, but of several calls of `fit`; values that an epoch lacks are NaN."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[int, dict[str, float]] = {}

    def on_train_begin(self, logs: Logs = None) -> None:
        """Keep the rows of an earlier call."""
        del logs
        self._list()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Add the row of an epoch (0-based)."""
        self.rows[epoch] = dict(logs or {})
        self._list()

    def go_back(self, epoch: int) -> None:
        """Drop the rows from an epoch on (0-based)."""
        self.rows = {number: row for number, row in self.rows.items() if number < epoch}
        self._list()

    def _list(self) -> None:
        self.epoch = list(self.rows)
        names = dict.fromkeys(name for row in self.rows.values() for name in row)
        self.history = {
            name: [row.get(name, math.nan) for row in self.rows.values()] for name in names
        }


class Results(keras.callbacks.Callback):
    """Writes `results.csv`: epoch (from 1), step and minutes of the run, rate, losses, scores.

    Args:
        folder: Of the run.
        epochs: Number of finished epochs; later rows of the file are dropped.
        steps: Number of steps per epoch.
        clock: Counts the minutes of the run.
    """

    def __init__(self, folder: Path, epochs: int, steps: int, clock: Clock) -> None:
        super().__init__()
        self.path = folder / NAME
        self.steps, self.clock = steps, clock
        self.rows = [row for row in read(folder) if row["epoch"] <= epochs]

    def go_back(self, epoch: int) -> None:
        """Drop the rows from an epoch on (0-based)."""
        self.rows = [row for row in self.rows if row["epoch"] <= epoch]

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Write the file with a row for this epoch (0-based)."""
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        row = {
            "epoch": epoch + 1,
            "step": (epoch + 1) * self.steps,
            "minutes": round(self.clock.minutes(), 3),
            "learning_rate": rate,
        }
        self.rows.append({**row, **(logs or {})})
        with files.replacing(self.path) as partial:
            _write(partial, self.rows)

    def fill(self, epochs: int) -> None:
        """Add the row of an epoch that was interrupted in its validation; it has no losses."""
        if epochs and not any(row["epoch"] == epochs for row in self.rows):
            self.on_epoch_end(epochs - 1)


def read(folder: Path) -> list[dict[str, float]]:
    """Return the rows of a run's `results.csv`, without empty cells; none without the file.

    Raises:
        ValueError: If it is damaged, or not such a file.
    """
    path = folder / NAME
    if not path.exists():
        return []
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = [
                {name: float(text) for name, text in row.items() if text}
                for row in csv.DictReader(file)
            ]
            if any("epoch" not in row for row in rows):
                raise ValueError("a row has no epoch")
    except (ValueError, AttributeError, csv.Error) as error:
        raise ValueError(
            f"{path}: not a table of results ({error}); move it elsewhere to go on"
        ) from None
    return rows


def _write(path: str | os.PathLike[str], rows: Sequence[Mapping[str, float]]) -> None:
    names = dict.fromkeys([*FIRST, *(name for row in rows for name in row)])
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(names), restval="", lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({name: _cell(value) for name, value in row.items()})


def _cell(value: float) -> str:
    """Format a number with the digits that single precision has; nothing if it is not finite."""
    if not math.isfinite(value):
        return ""
    return str(int(value)) if float(value).is_integer() else f"{value:.7g}"
