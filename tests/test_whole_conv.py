import keras
import numpy as np
import pytest
import tensorflow as tf

from mrcnn.network.layers.whole_conv import WholeConv2D


@pytest.mark.parametrize(("height", "width", "channels"), [(7, 7, 8), (3, 5, 4), (1, 1, 6)])
@pytest.mark.parametrize("use_bias", [True, False])
def test_it_is_the_convolution_of_its_kernel(height, width, channels, use_bias):
    rng = np.random.default_rng(0)
    layer = WholeConv2D(5, (height, width), use_bias=use_bias)
    layer.build((None, height, width, channels))
    for weight in layer.weights:
        weight.assign(rng.normal(size=weight.shape))
    features = tf.constant(rng.normal(size=(4, height, width, channels)), tf.float32)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(features)
        found = layer(features)
        expected = tf.nn.conv2d(features, layer.kernel, 1, "VALID")
        expected = expected + layer.bias if use_bias else expected
    assert found.shape == layer.compute_output_shape(features.shape) == (4, 1, 1, 5)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    for of in (features, layer.kernel.value):
        ours, theirs = tape.gradient(found, of), tape.gradient(expected, of)
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_hand_worked_case():
    layer = WholeConv2D(1, (1, 2), use_bias=False)
    layer.build((None, 1, 2, 1))
    layer.kernel.assign(np.array([2.0, 3.0]).reshape(1, 2, 1, 1))
    assert float(layer(np.array([5.0, 7.0]).reshape(1, 1, 2, 1)).numpy().item()) == 31.0


def test_it_comes_back_from_its_settings(reserialized):
    layer = reserialized(WholeConv2D(5, 7, name="whole"))
    assert isinstance(layer, WholeConv2D)
    assert isinstance(layer, keras.layers.Conv2D)
