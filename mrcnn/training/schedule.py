"""Learning rate schedule: linear warm-up, then tenfold drops (Goyal et al. 2017, section 2.2)."""

import logging
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

logger = logging.getLogger("mrcnn")

WARMUP_START = 0.1
DROP = 0.1
# Where the rate drops in a training of unknown length: detectron2's 1x schedule, as parts of it.
DROPS_AT = (60 / 90, 80 / 90)
WARMUP_SHARE = 0.1  # of such a training, at most
NEVER = 1e9  # a step that no training reaches
PARTS = {1: "tenth", 2: "hundredth", 3: "thousandth"}


@keras.saving.register_keras_serializable("mrcnn")
class WarmupAndDrops(keras.optimizers.schedules.LearningRateSchedule):
    """A rate that rises linearly from a tenth, and is divided by ten at every drop.

    Args:
        rate: The learning rate between warm-up and the first drop.
        warmup_steps: Number of warm-up steps; 0 for none.
        drop_steps: Steps after which the rate is divided by ten.
    """

    def __init__(self, rate: float, warmup_steps: int, drop_steps: Sequence[int]) -> None:
        self.rate = rate
        self.warmup_steps = warmup_steps
        self.drop_steps = list(drop_steps)

    def __call__(self, step: Any) -> Any:
        """Return the learning rate at a step."""
        step = ops.cast(step, "float32")
        progress = ops.minimum(step / max(self.warmup_steps, 1), 1.0)
        rise = WARMUP_START + (1.0 - WARMUP_START) * progress if self.warmup_steps else 1.0
        drops = sum(ops.cast(step >= at, "float32") for at in self.drop_steps)
        return self.rate * rise * DROP**drops

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {
            "rate": self.rate,
            "warmup_steps": self.warmup_steps,
            "drop_steps": self.drop_steps,
        }


@keras.saving.register_keras_serializable("mrcnn")
class Replannable(keras.optimizers.schedules.LearningRateSchedule):
    """Warm-up and drops at fractions of a length that can change while training.

    The steps are a variable, which belongs to the optimizer and so to its state in a checkpoint.

    Args:
        rate: The learning rate between warm-up and the first drop.
        warmup_steps: Number of warm-up steps, in a training that is long enough.
    """

    def __init__(self, rate: float, warmup_steps: int) -> None:
        self.rate, self.warmup_steps = rate, warmup_steps
        steps = [max(warmup_steps, 1), *(NEVER for _ in DROPS_AT)]
        self.steps = keras.Variable(steps, dtype="float32", trainable=False, name="plan")

    def __call__(self, step: Any) -> Any:
        """Return the learning rate at a step."""
        step = ops.cast(step, "float32")
        progress = ops.minimum(step / self.steps[0], 1.0)
        drops = ops.sum(ops.cast(step >= self.steps[1:], "float32"))
        return self.rate * (WARMUP_START + (1.0 - WARMUP_START) * progress) * DROP**drops

    def plan(self, total: int, done: int) -> None:
        """Set the steps for a training of `total` steps; what is `done` stays as it was."""
        warmup, *drops = ops.convert_to_numpy(self.steps).tolist()
        if done < warmup:
            warmup = max(min(WARMUP_SHARE * total, self.warmup_steps), 1)
        planned = [max(round(at * total), done) for at in DROPS_AT]
        drops = [old if old <= done else new for old, new in zip(drops, planned, strict=True)]
        self.steps.assign([warmup, *drops])

    def get_config(self) -> dict[str, Any]:
        """Return the arguments."""
        return {"rate": self.rate, "warmup_steps": self.warmup_steps}


def warn_of_end(drops: Sequence[int], finished: int, planned: int | None, epochs: int) -> None:
    """Warn about epochs beyond the end of a run's schedule, which change little.

    Args:
        drops: Epochs after which the rate is divided by ten.
        finished: Number of finished epochs of the run; 0 for a new one.
        planned: The last epoch that was planned before; None if unknown.
        epochs: The last epoch that is planned now.
    """
    end = finished if planned is None else max(planned, finished)
    if finished and drops and max(drops) <= end < epochs:
        logger.warning(
            "epochs %d to %d are beyond the schedule of this run: they train at a %s of the "
            "learning rate, which drops after epochs %s, and will change little; for the full "
            "rate set LEARNING_RATE_DROPS to [] or to later epochs (on the command line: --set "
            "LEARNING_RATE_DROPS=[])",
            end + 1,
            epochs,
            PARTS.get(len(drops), f"10^{len(drops)}th"),
            list(drops),
        )
