"""Layers applied to every RoI."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, ops

from mrcnn.network.ops import backend

Tensor = Any


@keras.saving.register_keras_serializable("mrcnn")
class TimeDistributed(layers.Layer):
    """A layer applied to every RoI: (B, N, ...) -> (B, N, ...), folded into one large batch.

    Keras' layer of this name would unroll a Python loop over the RoIs. Programs find the wrapped
    layer by the class name and `.layer`.

    Args:
        layer: The layer; the wrapper takes its name.
        activation: Applied after the layer, except when called for logits.
    """

    def __init__(self, layer, activation=None, **kwargs):
        kwargs.setdefault("dtype", layer.dtype_policy)
        super().__init__(**{"name": layer.name, **kwargs})
        self.layer = layer
        self.activation = keras.activations.get(activation)

    @property
    def has_norms(self) -> bool:
        """Whether the layer is or may contain batch norms, so that `call` may be given `rows`."""
        return isinstance(self.layer, layers.BatchNormalization | keras.Model)

    def build(self, input_shape):
        if not self.layer.built:  # layers that Keras loads from a file are already built
            self.layer.build((None, *input_shape[2:]))

    def call(self, features, training=None, as_logits=False, rows=None):
        lead = ops.shape(features)[:2]
        folded = ops.reshape(features, (-1, *features.shape[2:]))
        if self.has_norms:
            with backend.norm_statistics_of(None if rows is None else ops.reshape(rows, (-1,))):
                folded = self.layer(folded, training=training)
        else:
            folded = self.layer(folded)
        if not as_logits:
            folded = self.activation(folded)
        return ops.reshape(folded, (*lead, *folded.shape[1:]))

    def compute_output_shape(self, input_shape):
        folded = self.layer.compute_output_shape((None, *input_shape[2:]))
        return (*input_shape[:2], *folded[1:])

    def get_config(self):
        return {
            **super().get_config(),
            "layer": keras.saving.serialize_keras_object(self.layer),
            "activation": keras.activations.serialize(self.activation),
        }

    @classmethod
    def from_config(cls, config):
        layer = keras.saving.deserialize_keras_object(config.pop("layer"))
        return cls(layer, **config)


def apply_layers(trunk: Sequence[layers.Layer], features: Tensor, rows: Tensor | None) -> Tensor:
    """Return the output of layers applied to RoIs: (B, N, ...) -> (B, N, ...).

    Args:
        rows: (B, N), above 0 for RoIs that count in batch norm statistics; None for all.
    """
    for layer in trunk:
        is_counting = rows is not None and getattr(layer, "has_norms", False)
        features = layer(features, rows=rows) if is_counting else layer(features)
    return features
