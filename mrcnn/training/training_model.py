"""The model that `fit` trains: the training graph with its losses."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from mrcnn.config import Config
from mrcnn.network import losses
from mrcnn.network import network as networks
from mrcnn.network.layers import folding
from mrcnn.network.ops import backend
from mrcnn.training import distribution


class TrainingModel(keras.Model):
    """The training graph with its losses.

    Takes batches as dicts of `input_image` (B, H, W, C) raw pixels of any dtype, and the other
    training inputs of `mrcnn.network.network.Network`. Every loss appears in the progress bar and
    in `history` under Matterport's name, prefixed with `val_` for validation.

    A step is compiled by XLA if `Config.XLA` says so.
    """

    def __init__(self, network: networks.Network, config: Config) -> None:
        super().__init__(*network.training, name="mask_rcnn")
        self.config = config
        # A bound method, since Keras would track a model as a layer of this one.
        self._run = folding.folded(keras.Model(self.inputs, self.output), training=True).call
        self.loss_forms = _loss_forms(config)
        self.strategy = distribution.current()
        self.trackers = {name: keras.metrics.Mean(name=name) for name in config.losses}

    def compile(self, *args, **kwargs):
        """Compile the model, with XLA as `jit_compile` or else the settings say.

        "auto" leaves the decision to Keras on a GPU, which depends on the layers and TensorFlow.
        """
        settings = {"auto": "auto", "on": True, "off": False}
        kwargs.setdefault("jit_compile", settings[self.config.XLA])
        is_alone = self.strategy.num_replicas_in_sync == 1
        suits = is_alone and distribution.suits_xla(self.weights)
        if kwargs["jit_compile"] == "auto" and not suits:
            kwargs["jit_compile"] = False
        with backend.within_xla(is_alone):
            super().compile(*args, **kwargs)

    def call(self, inputs, training=None, mask=None):
        """Subtract the mean pixel on the device: batches contain raw pixels."""
        del mask
        if self.jit_compile:
            inputs = self._of_known_sizes(inputs)
        image = ops.cast(inputs["input_image"], "float32")
        image = image - np.asarray(self.config.MEAN_PIXEL, np.float32)
        image = image / np.asarray(self.config.PIXEL_STD, np.float32)
        if self.config.conventions.pads_at_end:
            image *= _inside_window(inputs["input_image_meta"], ops.shape(image))
        with backend.within_xla(self.jit_compile):
            return self._run({**inputs, "input_image": image}, training=training)

    def _of_known_sizes(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return a batch with static shapes, which a user's own dataset may lack."""
        sizes = {tensor.name: tensor.shape[1:] for tensor in self.inputs}
        sizes["input_image"] = tuple(int(side) for side in self.config.IMAGE_SHAPE)
        return {name: ops.reshape(inputs[name], (-1, *size)) for name, size in sizes.items()}

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        """Return this replica's share of the weighted loss of the global batch."""
        del y, sample_weight, training
        found = losses.compute_losses(x, y_pred, backend.sum_over_replicas, self.loss_forms)
        replicas = self.strategy.num_replicas_in_sync
        batch_size = ops.shape(x["input_image"])[0]
        for name, loss in found.items():
            # Trackers average over replicas, whereas the replicas' shares sum to the loss.
            self.trackers[name].update_state(loss * replicas, sample_weight=batch_size)
        weights = self.config.LOSS_WEIGHTS
        total = sum(weights.get(name, 1.0) * loss for name, loss in found.items())
        # Losses added by a custom backbone, such as regularizers, are for the whole batch.
        return total + sum(ops.cast(loss, "float32") for loss in self.losses) / replicas

    def _symbolic_build(self, iterator=None, data_batch=None):
        # Keras reduces the first batch over replicas just to get shapes, which fails for bool
        # inputs and uneven batches (keras#19246); a functional model already has its shapes.
        del iterator, data_batch
        self._build_optimizer()

    _maybe_symbolic_build = _symbolic_build

    def _get_jax_state(self, *, purge_model_variables=False, **chosen):
        # Under JAX, Keras donates the variables' buffers while training, and stores the values
        # only after a step, so that an interruption during the first step would lose them all.
        state = super()._get_jax_state(**chosen)
        if purge_model_variables:
            names = [name for name, is_chosen in chosen.items() if is_chosen]
            self._jax_state = dict(zip(names, state, strict=True))
            self._jax_state_synced = False
            self._purge_model_variables(**chosen)
        return state

    def settle(self) -> None:
        """Let the variables have the values of the last step, after an error in a callback.

        Under JAX, Keras holds them until the end of `fit`, and would write them over later ones.
        """
        if getattr(self, "_jax_state", None) is not None:
            self.jax_state_sync()
            self._jax_state = None

    def _build_optimizer(self) -> None:
        if self.optimizer is not None and not self.optimizer.built:
            with self.strategy.scope():
                self.optimizer.build(self.trainable_variables)


def _loss_forms(config: Config) -> losses.Forms:
    """Return the loss variants that the settings ask for."""
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
