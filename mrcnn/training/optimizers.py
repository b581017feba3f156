"""The training optimizer, and a description of its learning rate."""

from typing import Any

import keras
import numpy as np
from keras import ops

from mrcnn.config import Config
from mrcnn.network.ops import backend
from mrcnn.training import distribution
from mrcnn.training.schedule import Replannable, WarmupAndDrops


class ClippedSGD(keras.optimizers.SGD):
    """SGD with momentum that clips the gradient norm of the global batch.

    Keras clips each replica's gradients before they are summed, so that the result depends on the
    number of devices; here the sum is clipped, so that N devices are equivalent to one. Without
    replicas, as under JAX, the gradients are those of the global batch to begin with.

    Args:
        clip_norm: Largest global norm of the gradients; None or 0: no clipping.
    """

    def __init__(self, clip_norm: float | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.clip_norm = clip_norm

    def _all_reduce_sum_gradients(self, grads_and_vars):
        reduced = super()._all_reduce_sum_gradients(grads_and_vars)
        if not self.clip_norm:
            return reduced
        gradients, variables = zip(*reduced, strict=True)
        gradients = distribution.clip(gradients, self.clip_norm)
        return list(zip(gradients, variables, strict=True))

    def _clip_gradients(self, grads):
        # Keras calls this method on every backend, under TensorFlow before the sum.
        if backend.HAS_REPLICAS or not self.clip_norm:
            return super()._clip_gradients(grads)
        return distribution.clip(grads, self.clip_norm)

    def get_config(self):
        """Return the arguments."""
        return {**super().get_config(), "clip_norm": self.clip_norm}


def make_optimizer(
    config: Config, learning_rate: float, momentum: float, *, has_budget: bool = False
) -> ClippedSGD:
    """Return the optimizer for these settings: SGD, warm-up, drops, clipping, weight decay.

    Args:
        has_budget: The schedule can change while training, see `budget`; without the drops of the
            settings.

    WEIGHT_DECAY has the paper's meaning, an L2 penalty inside the gradient. Keras applies decay
    outside the momentum, where the equivalent value is 1 / (1 - momentum) times as large.
    """
    rate: Any = float(learning_rate)
    momentum = float(momentum)
    if has_budget:
        rate = Replannable(float(learning_rate), config.WARMUP_STEPS)
    elif config.WARMUP_STEPS or config.LEARNING_RATE_DROPS:
        drops = [epoch * config.steps_per_epoch for epoch in config.LEARNING_RATE_DROPS]
        rate = WarmupAndDrops(float(learning_rate), config.WARMUP_STEPS, drops)
    optimizer = ClippedSGD(
        config.GRADIENT_CLIP_NORM,
        learning_rate=rate,
        momentum=momentum,
        weight_decay=config.WEIGHT_DECAY / (1.0 - momentum),
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    if has_budget:
        optimizer._track_variable(rate.steps)
    return optimizer


def replannable(optimizer: keras.optimizers.Optimizer) -> Replannable | None:
    """Return the schedule of an optimizer if it can change while training."""
    rate = optimizer._learning_rate
    return rate if isinstance(rate, Replannable) else None


def describe_rate(optimizer: keras.optimizers.Optimizer, rate: float) -> str:
    """Format the learning rate of the next step, together with the base rate."""
    now = float(ops.convert_to_numpy(optimizer.learning_rate))
    if np.isclose(now, rate):
        return f"{rate:g}"
    is_ours = isinstance(optimizer._learning_rate, (WarmupAndDrops, Replannable))
    return f"{now:g} (of {rate:g}, by warm-up or drops)" if is_ours else f"{now:g} (its own)"
