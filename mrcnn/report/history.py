"""The course of a training: `results.csv` of a run's folder, a row an epoch."""

import csv
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FILE_NAME = "results.csv"
OTHERS = ("epoch", "step", "minutes", "learning_rate")  # columns that are neither loss nor AP
PRECISION = re.compile(r"(segm|bbox|keypoints)_AP\w*")


@dataclass(frozen=True)
class History:
    """The figures of every epoch.

    Attributes:
        epochs: (E,) float64.
        columns: By name, (E,) float64; NaN where nothing is written. Columns without any figure
            are left out.
    """

    epochs: np.ndarray
    columns: dict[str, np.ndarray]

    @property
    def losses(self) -> list[str]:
        """The names of the losses in training, the total first."""
        names = [name for name in self.columns if not self._is_other(name)]
        return sorted(names, key=lambda name: name != "loss")

    @property
    def precisions(self) -> list[str]:
        """The names of the average precisions."""
        return [name for name in self.columns if PRECISION.fullmatch(name)]

    @staticmethod
    def _is_other(name: str) -> bool:
        return name in OTHERS or name.startswith("val_") or bool(PRECISION.fullmatch(name))


def read(folder: Path) -> History | None:
    """Return the history in a run's folder; None if there is no file, or no epoch in it.

    Where an epoch is written twice, as by a run that was resumed, the later row counts.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        return None
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        rows = list(csv.DictReader(file))
    epochs = [_number(row.get("epoch")) for row in rows]
    by_epoch = {
        place if np.isnan(epoch) else epoch: row
        for place, (epoch, row) in enumerate(zip(epochs, rows, strict=True), start=1)
    }
    if not by_epoch:
        return None
    kept = sorted(by_epoch.items())
    names = [name for name in kept[0][1] if name]  # None: cells beyond the header
    columns = {name: np.array([_number(row.get(name)) for _, row in kept]) for name in names}
    known = {name: values for name, values in columns.items() if np.isfinite(values).any()}
    return History(np.array([epoch for epoch, _ in kept], np.float64), known)


def _number(text: str | None) -> float:
    """Return a cell as a number, NaN if it is empty or none."""
    try:
        value = float(text or "nan")
    except ValueError:
        return np.nan
    return value if np.isfinite(value) else np.nan
