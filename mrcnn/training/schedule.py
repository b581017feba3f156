"""Learning rate schedule: linear warm-up, then drops by ten (Goyal et al. 2017, section 2.2)."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

WARMUP_START = 0.1
DROP = 0.1


@keras.saving.register_keras_serializable("mrcnn")
class WarmupAndDrops(keras.optimizers.schedules.LearningRateSchedule):
    """A rate that rises linearly from a tenth, and falls to a tenth at every drop.

    Args:
        rate: The learning rate between warm-up and the first drop.
        warmup_steps: Steps of the rise; 0 for none.
        drop_steps: Steps after which the rate is divided by ten.
    """

    def __init__(self, rate: float, warmup_steps: int, drop_steps: Sequence[int]) -> None:
        self.rate = rate
        self.warmup_steps = warmup_steps
        self.drop_steps = list(drop_steps)

    def __call__(self, step: Any) -> Any:
        """Return the rate of a step."""
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
