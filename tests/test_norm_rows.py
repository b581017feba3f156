"""Which rows the batch norms of the heads take their statistics of."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from small import Rectangles, SmallConfig

from mrcnn.network import losses, network
from mrcnn.network.layers.norm import BatchNorm
from mrcnn.network.layers.time_distributed import TimeDistributed, apply_layers
from mrcnn.network.ops import backend
from mrcnn.training import fitting

CHANNELS = 3


def normed(rows, features: np.ndarray, norm: BatchNorm) -> np.ndarray:
    layer = TimeDistributed(norm)
    return np.asarray(layer(ops.convert_to_tensor(features), training=True, rows=rows))


@pytest.fixture
def features() -> np.ndarray:
    return np.random.default_rng(0).normal(3, 2, (2, 5, 4, 4, CHANNELS)).astype("f")


def test_other_rows_change_nothing(features):
    rows = np.array([[1, 2, 0, 0, 0], [7, 0, 0, 0, 0]])
    norm = BatchNorm(name="norm")
    found = normed(rows, features, norm)
    counted = features[rows > 0]
    expected = (counted - counted.mean((0, 1, 2))) / np.sqrt(counted.var((0, 1, 2)) + 1e-3)
    np.testing.assert_allclose(found[rows > 0], expected, atol=1e-5)
    np.testing.assert_allclose(norm.moving_mean, 0.01 * counted.mean((0, 1, 2)), rtol=1e-5)
    features[rows == 0] *= 1e3
    np.testing.assert_array_equal(normed(rows, features, BatchNorm())[rows > 0], found[rows > 0])


def test_all_rows_are_what_keras_takes(features):
    found, expected = BatchNorm(name="own"), layers.BatchNormalization(epsilon=1e-3, name="keras")
    rows = np.ones((2, 5))
    np.testing.assert_allclose(
        normed(rows, features, found),
        expected(features.reshape(10, 4, 4, CHANNELS), training=True)
        .numpy()
        .reshape(features.shape),
        atol=1e-5,
    )
    np.testing.assert_allclose(found.moving_variance, expected.moving_variance, rtol=1e-5)


def test_without_a_row_the_stored_statistics_are_used_and_stay(features):
    norm = BatchNorm(name="norm")
    found = normed(np.zeros((2, 5)), features, norm)
    np.testing.assert_allclose(found, features / np.sqrt(1 + 1e-3), rtol=1e-5)
    np.testing.assert_array_equal(norm.moving_mean, np.zeros(CHANNELS))
    np.testing.assert_array_equal(norm.moving_variance, np.ones(CHANNELS))


def test_norms_deep_in_a_stage_of_rois_take_the_same_rows(features):
    """As those of a backbone's last stage, which is the head of a network over C4."""
    image = keras.Input((None, None, CHANNELS))
    norm = BatchNorm(name="norm")
    stage = TimeDistributed(keras.Model(image, norm(image), name="stage"))
    rows = np.array([[1, 1, 0, 0, 0], [1, 0, 0, 0, 0]])
    found = np.asarray(stage(features, training=True, rows=rows))
    expected = normed(rows, features, BatchNorm(name="alone"))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert backend.norm_rows() is None


def test_layers_between_are_called_as_ever(features):
    trunk = [TimeDistributed(layers.Conv2D(4, 1)), TimeDistributed(BatchNorm()), layers.ReLU()]
    assert apply_layers(trunk, features, np.ones((2, 5))).shape == (2, 5, 4, 4, 4)
    assert apply_layers(trunk, features, None).shape == (2, 5, 4, 4, 4)


KINDS = {
    "pyramid": {},
    "c4": {
        "FEATURE_MAPS": "c4",
        "BACKBONE_STRIDES": [16],
        "RPN_ANCHOR_SCALES": ((16, 32, 64),),
        "MASK_SHAPE": [14, 14],
        "MASK_POOL_SIZE": 7,
        "POOL_SIZE": 7,
    },
}


@pytest.mark.parametrize("kind", KINDS)
def test_heads_learn_alike_with_and_without_the_rows_that_xla_needs(kind):
    """There the heads of masks run on all rows that can be positive, else on those that are."""
    config = SmallConfig.from_dict(
        {"TRAIN_BN": None, "TRAIN_ROIS_PER_IMAGE": 40, "ROI_POSITIVE_RATIO": 0.9, **KINDS[kind]}
    )
    built = network.Network(config)
    model = keras.Model(*built.training)
    batch = next(iter(fitting.validation_stream(Rectangles(4), config)))
    batch["input_image"] = batch["input_image"].astype("f")
    before = model.get_weights()
    found, stored = [], []
    for is_static in (False, True):
        model.set_weights(before)
        with backend.within_xla(is_static):
            outputs = model(batch, training=True)
        found.append({k: float(v) for k, v in losses.compute_losses(batch, outputs).items()})
        stored.append({w.path: np.asarray(w) for w in model.non_trainable_variables})
        assert (outputs["target_masks"].shape[1] == 36) == is_static
    assert found[1] == pytest.approx(found[0], rel=1e-4)
    for path, value in stored[0].items():
        np.testing.assert_allclose(stored[1][path], value, rtol=1e-3, atol=1e-4, err_msg=path)
