"""Average precision while a network trains: when it is measured, and what follows from it."""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras

from mrcnn import terminal

logger = logging.getLogger("mrcnn")

Logs = dict[str, Any] | None
Scores = Mapping[str, Mapping[str, Any]]

SHARE = 0.2  # of the time of a training may go into scoring
FIGURES = ("AP", "AP50", "AP75")


def deciding(names: Any) -> str | None:
    """Return the score that tells which weights are best: mask AP, or box AP without masks."""
    return next((name for name in ("segm_AP", "bbox_AP") if name in names), None)


class Scorer(NamedTuple):
    """Scores a network on the validation images.

    Attributes:
        score: () -> scores as `evaluation.coco` has them, of the weights as they are.
        estimate: () -> the seconds that this will take, found out in far fewer.
    """

    score: Callable[[], Scores]
    estimate: Callable[[], float] = lambda: 0.0


class ValidationScores(keras.callbacks.Callback):
    """Scores the network after epochs, keeps the best weights, and stops when they get no better.

    Adds segm_AP, segm_AP50, segm_AP75, bbox_AP, ... to the logs of the epochs that it scores: the
    last, and as many before as take a fifth of the time.

    Args:
        scorer: Scores the network.
        epochs: Number of the last epoch, 1-based.
        keep: (epoch, scores) -> None, called with the best weights so far.
        patience: Number of epochs without better weights after which training stops; None: never.
        before: Rows of the epochs that were trained earlier, see `results.read`.

    Attributes:
        cost: Seconds that the last scoring took; None before the first.
        best: The highest deciding score, and its epoch (1-based).
    """

    def __init__(
        self,
        scorer: Scorer,
        epochs: int,
        keep: Callable[[int, dict[str, float]], None],
        patience: int | None = None,
        before: Sequence[Mapping[str, float]] = (),
    ) -> None:
        super().__init__()
        self.scorer, self.epochs, self.keep, self.patience = scorer, epochs, keep, patience
        self.cost: float | None = None
        self.best = _best(before)
        self._spent = 0.0
        self._begun = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Score if this epoch (0-based) is due."""
        is_last = epoch + 1 >= self.epochs or self.model.stop_training
        if not is_last and not self._is_due():
            return
        started = time.monotonic()
        found = flat(self.scorer.score())
        self.cost = time.monotonic() - started
        self._spent += self.cost
        if logs is not None:
            logs.update(found)
        name = deciding(found)
        if name and not math.isnan(found[name]):
            self._compare(epoch + 1, name, found)

    def _is_due(self) -> bool:
        """Return whether scoring now leaves training four fifths of the time.

        The first scores may take as long as the training has so far: they tell whether it learns.
        """
        passed = time.monotonic() - self._begun
        if self.cost is None:
            return self.scorer.estimate() <= passed
        return self._spent + self.cost <= SHARE * passed

    def _compare(self, epoch: int, name: str, found: dict[str, float]) -> None:
        value, best_epoch = found[name], self.best[1] if self.best else epoch
        if self.best is None or value > self.best[0]:
            self.best = (value, epoch)
            self.keep(epoch, found)
        elif self.patience is not None and epoch - best_epoch >= self.patience:
            self.model.stop_training = True
            terminal.show(
                f"\nstopped after epoch {epoch}: {name} has not exceeded the {self.best[0]:.3f} of "
                f"epoch {best_epoch} for {epoch - best_epoch} epochs"
            )
        if value == 0 < self.best[0]:
            logger.warning(
                "%s fell to 0 in epoch %d from %.3f in epoch %d: the training has collapsed, even "
                "if its loss looks well; go on from best.h5 with a lower LEARNING_RATE",
                name,
                epoch,
                self.best[0],
                self.best[1],
            )


def flat(scores: Scores) -> dict[str, float]:
    """Return the main figures of scores under one name each, such as segm_AP50."""
    return {
        f"{kind}_{figure}": math.nan if figures[figure] is None else float(figures[figure])
        for kind, figures in scores.items()
        for figure in FIGURES
        if figure in figures
    }


def _best(rows: Sequence[Mapping[str, float]]) -> tuple[float, int] | None:
    found = [(row[name], -int(row["epoch"])) for row in rows if (name := deciding(row))]
    value, epoch = max(found, default=(math.nan, 0))
    return (value, -epoch) if found else None
