"""The optimizer of a training, and its rate as text."""

from typing import Any

import keras
import numpy as np
from keras import ops

from mrcnn.config import Config
from mrcnn.network.ops import backend
from mrcnn.training import distribution
from mrcnn.training.schedule import WarmupAndDrops


class ClippedSGD(keras.optimizers.SGD):
    """SGD with momentum that clips the norm of the gradients of the global batch.

    Keras clips each replica's gradients before they are summed, which depends on how many devices
    there are; here the sum is clipped, so that n devices do what one would. Where there are no
    replicas, as under JAX, the gradients are those of the global batch from the beginning.

    Args:
        clip_norm: Largest norm of all gradients together; None or 0 does not clip.
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
        # Keras calls this one on every backend, on TensorFlow before the sum.
        if backend.HAS_REPLICAS or not self.clip_norm:
            return super()._clip_gradients(grads)
        return distribution.clip(grads, self.clip_norm)

    def get_config(self):
        """Return the arguments."""
        return {**super().get_config(), "clip_norm": self.clip_norm}


def make_optimizer(config: Config, learning_rate: float, momentum: float) -> ClippedSGD:
    """Return the optimizer for these settings: SGD, warm-up, drops, clipping, weight decay.

    WEIGHT_DECAY is meant as the paper's, an L2 penalty inside the gradient. Keras subtracts decay
    beside the momentum instead, where the same pull is 1 / (1 - momentum) times as large.
    """
    rate: Any = float(learning_rate)
    momentum = float(momentum)
    if config.WARMUP_STEPS or config.LEARNING_RATE_DROPS:
        drops = [epoch * config.steps_per_epoch for epoch in config.LEARNING_RATE_DROPS]
        rate = WarmupAndDrops(float(learning_rate), config.WARMUP_STEPS, drops)
    optimizer = ClippedSGD(
        config.GRADIENT_CLIP_NORM,
        learning_rate=rate,
        momentum=momentum,
        weight_decay=config.WEIGHT_DECAY / (1.0 - momentum),
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def describe_rate(optimizer: keras.optimizers.Optimizer, rate: float) -> str:
    """Return the rate of the next step as text, with that between warm-up and drops."""
    now = float(ops.convert_to_numpy(optimizer.learning_rate))
    if np.isclose(now, rate):
        return f"{rate:g}"
    is_ours = isinstance(optimizer._learning_rate, WarmupAndDrops)
    return f"{now:g} (of {rate:g}, by warm-up or drops)" if is_ours else f"{now:g} (its own)"
