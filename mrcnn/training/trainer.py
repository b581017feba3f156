"""The model that `fit` trains, and its optimizer."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from mrcnn.config import Config
from mrcnn.network import backend_ops, folding, losses
from mrcnn.network import network as networks
from mrcnn.training import distribution
from mrcnn.training.optimizer_state import optimizer_state, restore_optimizer
from mrcnn.training.schedule import WarmupAndDrops
from mrcnn.weights import hdf5

__all__ = ["optimizer_state", "restore_optimizer"]

# Which layers a `layers=` word trains.
HEADS = r"(mrcnn\_.*)|(rpn\_.*)|(fpn\_.*)"
STAGE_5 = r"(res5.*)|(bn5.*)"
LAYER_GROUPS = {
    "heads": HEADS,
    "5+": f"{STAGE_5}|{HEADS}",
    "4+": rf"(res4.*)|(bn4.*)|{STAGE_5}|{HEADS}",
    "3+": rf"(res3.*)|(bn3.*)|(res4.*)|(bn4.*)|{STAGE_5}|{HEADS}",
    "all": ".*",
}


class TrainingModel(keras.Model):
    """The training graph with its losses.

    Takes batches as dicts of `input_image` (B, H, W, C) raw pixels of any dtype, and the other
    training inputs of `mrcnn.network.network.Network`. Every loss appears in the progress bar and
    in `history` under Matterport's name, for validation with `val_`.

    A step is compiled by XLA where `Config.XLA` says so.
    """

    def __init__(self, network: networks.Network, config: Config) -> None:
        super().__init__(network.training_inputs, network.training_outputs, name="mask_rcnn")
        self.config = config
        # A bound method, since Keras would count a model among this one's layers.
        self._run = folding.folded(keras.Model(self.inputs, self.output), training=True).call
        self.loss_forms = _loss_forms(config)
        self.strategy = distribution.current()
        self.trackers = {name: keras.metrics.Mean(name=name) for name in config.losses}

    def compile(self, *args, **kwargs):
        """Prepare `fit`, by XLA as `jit_compile` says or else the settings.

        "auto" is Keras' own answer, which asks the layers and what TensorFlow can, on a GPU.
        """
        settings = {"auto": "auto", "on": True, "off": False}
        kwargs.setdefault("jit_compile", settings[self.config.XLA])
        is_alone = self.strategy.num_replicas_in_sync == 1
        suits = is_alone and distribution.suits_xla(self.weights)
        if kwargs["jit_compile"] == "auto" and not suits:
            kwargs["jit_compile"] = False
        with backend_ops.within_xla(is_alone):
            super().compile(*args, **kwargs)

    def call(self, inputs, training=None, mask=None):
        """Subtract the mean pixel on the device: images travel as raw pixels."""
        del mask
        if self.jit_compile:
            inputs = self._of_known_sizes(inputs)
        image = ops.cast(inputs["input_image"], "float32")
        image = image - np.asarray(self.config.MEAN_PIXEL, np.float32)
        image = image / np.asarray(self.config.PIXEL_STD, np.float32)
        if self.config.conventions.pads_at_end:
            image *= _inside_window(inputs["input_image_meta"], ops.shape(image))
        with backend_ops.within_xla(self.jit_compile):
            return self._run({**inputs, "input_image": image}, training=training)

    def _of_known_sizes(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return a batch whose sizes the compiler knows, which a program's dataset need not."""
        sizes = {tensor.name: tensor.shape[1:] for tensor in self.inputs}
        sizes["input_image"] = tuple(int(side) for side in self.config.IMAGE_SHAPE)
        return {name: ops.reshape(inputs[name], (-1, *size)) for name, size in sizes.items()}

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Return this replica's share of the weighted loss of the global batch."""
        del y, sample_weight, training
        found = losses.of_batch(x, y_pred, backend_ops.sum_over_replicas, self.loss_forms)
        replicas = self.strategy.num_replicas_in_sync
        batch_size = ops.shape(x["input_image"])[0]
        for name, loss in found.items():
            # Trackers average over replicas, whose shares sum to the loss.
            self.trackers[name].update_state(loss * replicas, sample_weight=batch_size)
        weights = self.config.LOSS_WEIGHTS
        total = sum(weights.get(name, 1.0) * loss for name, loss in found.items())
        # What layers of a program's backbone add, such as regularizers, is of the whole batch.
        return total + sum(ops.cast(loss, "float32") for loss in self.losses) / replicas

    def _symbolic_build(self, iterator=None, data_batch=None):
        # Keras reduces the first batch over replicas just to learn shapes, which fails for bool
        # inputs and uneven batches (keras#19246); a functional model has its shapes already.
        del iterator, data_batch
        self._build_optimizer()

    _maybe_symbolic_build = _symbolic_build

    def _get_jax_state(self, *, purge_model_variables=False, **chosen):
        # Under JAX Keras takes the values away from the variables while it trains. It notes what
        # they are after a step, so that an interruption in the first would lose them all.
        state = super()._get_jax_state(**chosen)
        if purge_model_variables:
            names = [name for name, is_chosen in chosen.items() if is_chosen]
            self._jax_state = dict(zip(names, state, strict=True))
            self._jax_state_synced = False
            self._purge_model_variables(**chosen)
        return state

    def _build_optimizer(self) -> None:
        if self.optimizer is not None and not self.optimizer.built:
            with self.strategy.scope():
                self.optimizer.build(self.trainable_variables)


def _loss_forms(config: Config) -> losses.Forms:
    """Return the forms of losses that the settings ask for."""
    family = config.conventions
    return losses.Forms(
        family.box_loss_beta,
        family.box_loss_divisor,
        config.RPN_TRAIN_ANCHORS_PER_IMAGE,
        config.MASK_LOSS,
    )


def _inside_window(image_meta: Any, shape: Any) -> Any:
    """Return 1 for the pixels of each image and 0 for its padding: (B, M) -> (B, H, W, 1)."""
    window = ops.cast(image_meta[:, 7:11], "int32")
    rows, cols = ops.arange(shape[1], dtype="int32"), ops.arange(shape[2], dtype="int32")
    in_rows = (rows >= window[:, :1]) & (rows < window[:, 2:3])
    in_cols = (cols >= window[:, 1:2]) & (cols < window[:, 3:])
    return ops.cast(in_rows[:, :, None] & in_cols[:, None, :], "float32")[..., None]


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
        if backend_ops.HAS_REPLICAS or not self.clip_norm:
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


def _expression(layers: str, names: Sequence[str]) -> str:
    """Return the regular expression of a word, for a network with layers of these names."""
    expression = LAYER_GROUPS.get(layers, layers)
    if layers not in LAYER_GROUPS or layers == "all":
        return expression
    if layers != "heads" and not any(name.startswith(f"res{layers[0]}") for name in names):
        others = [name for name in names if not re.fullmatch(HEADS, name)]
        raise ValueError(
            f"layers={layers!r} means the stages of a ResNet from {layers[0]} on, and this "
            f"backbone has none of that name; use heads, all, or an expression of its layers' "
            f"names ({', '.join(others[:4])}, ...)"
        )
    has_pyramid = any(name.startswith("fpn_") for name in names)
    return expression if has_pyramid else f"{STAGE_5}|{expression}"


def set_trainable(model: keras.Model, layers: str) -> list[str]:
    """Let the layers whose whole name matches train, freeze the others; return their names.

    Takes effect with the next `compile`.

    Args:
        layers: A word of LAYER_GROUPS or a regular expression. Without a pyramid the last stage of
            the backbone is a head (C4).

    Raises:
        ValueError: When it is no regular expression, matches no layer, or is the word of a stage
            that the backbone does not have.
    """
    leaves = list(hdf5.leaf_layers(model))
    try:
        pattern = re.compile(_expression(layers, [layer.name for layer in leaves]))
    except re.error as error:
        raise ValueError(f"layers={layers!r} is no regular expression: {error}") from error
    for layer in leaves:
        layer.trainable = bool(pattern.fullmatch(layer.name))
    chosen = [layer.name for layer in leaves if layer.trainable]
    if not chosen:
        words = ", ".join(LAYER_GROUPS)
        raise ValueError(f"layers={layers!r} matches no layer; use one of {words} or an expression")
    return chosen
