"""A model of a few layers with the names of the network, for files of weights."""

import keras
import numpy as np
from keras import layers

from mrcnn.network.layers.norm import BatchNorm
from mrcnn.network.layers.time_distributed import TimeDistributed
from mrcnn.network.rpn import head as rpn_head
from mrcnn.weights import hdf5


def tiny_model(num_classes: int = 3, channels: int = 4) -> keras.Model:
    """Return a model with a plain layer, batch norm, the RPN and a head behind a wrapper."""
    image = keras.Input((6, 6, 3))
    features = layers.Conv2D(channels, 3, padding="same", name="conv1")(image)
    features = BatchNorm(name="bn_conv1")(features)
    _, probs, deltas = rpn_head.build_rpn_model(1, 3, channels, 8)(features)
    rois = layers.Reshape((6, 6 * channels))(features)
    logits = TimeDistributed(layers.Dense(num_classes, name="mrcnn_class_logits"))(rois)
    boxes = TimeDistributed(layers.Dense(4 * num_classes, name="mrcnn_bbox_fc"))(rois)
    return keras.Model(image, [probs, deltas, logits, boxes])


def randomized(model: keras.Model, seed: int = 0) -> keras.Model:
    """Give every weight numbers from a tenth to 1."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        weight.assign(rng.uniform(0.1, 1, weight.shape))
    return model


def values(model: keras.Model) -> dict[str, np.ndarray]:
    """Return the weights by name."""
    return {key: np.asarray(weight) for key, weight in hdf5.weights_by_name(model).items()}
