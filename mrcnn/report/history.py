"""The course of a training: `results.csv` of a run's folder, a row an epoch."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mrcnn.training import results

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
        return name in results.FIRST or name.startswith("val_") or bool(PRECISION.fullmatch(name))


def read(folder: Path) -> History | None:
    """Return the history in a run's folder; None if there is no file, or no epoch in it.

    Where an epoch is written twice, the later row counts.

    Raises:
        ValueError: If the file is damaged.
    """
    by_epoch = {row["epoch"]: row for row in results.read(folder)}
    if not by_epoch:
        return None
    rows = [by_epoch[epoch] for epoch in sorted(by_epoch)]
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: np.array([row.get(name, np.nan) for row in rows]) for name in names}
    known = {
        name: np.where(np.isfinite(values), values, np.nan)
        for name, values in columns.items()
        if np.isfinite(values).any()
    }
    return History(np.array(sorted(by_epoch), np.float64), known)
