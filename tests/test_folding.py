"""Folded networks compute what plain ones do, over the same weights."""

import keras
import numpy as np
import pytest
from small import SmallConfig

from mrcnn import presets
from mrcnn.network import network as networks
from mrcnn.network.layers import folding

OF_C4 = {name: value for name, value in vars(presets.C4Config).items() if name.isupper()}
KINDS = {
    "matterport": {},
    "torchvision v2": {"CONVENTIONS": "torchvision", "HEAD_NORM": "convolutions"},
    "c4": OF_C4
    | {
        "CONVENTIONS": "detectron2",
        "RPN_CONV_SIZE": 16,
        "RPN_ANCHOR_SCALES": ((16, 32, 64),),
        "BACKBONE": "resnet50",
    },
    "resnext": {
        "BACKBONE": "resnext50_32x4d",
        "BACKBONE_WIDTH": 16,
        "CONVENTIONS": "torchvision",
    },
}


def network(kind: str, **settings) -> networks.Network:
    keras.utils.set_random_seed(0)
    config = SmallConfig().replace(**KINDS[kind], **settings)
    built = networks.Network(config)
    rng = np.random.default_rng(0)
    for weight in built.inference.weights:
        if weight.path.endswith(("gamma", "moving_variance")):
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        if weight.path.endswith(("beta", "moving_mean")):
            weight.assign(rng.normal(0, 0.1, weight.shape))
    return built


def some_image() -> np.ndarray:
    return np.random.default_rng(1).normal(0, 50, (2, 64, 64, 3)).astype(np.float32)


def count(model: keras.Model, kind: type) -> int:
    return sum(isinstance(layer, kind) for layer in model._flatten_layers(include_self=False))


@pytest.mark.parametrize("kind", ["torchvision v2", "resnext"])
def test_the_first_stage_is_the_same(kind):
    plain = network(kind).inference
    pyramid = keras.Model(
        plain.inputs[0], [plain.get_layer(f"fpn_p{level}").output for level in (2, 3, 4, 5)]
    )
    folded = folding.folded(pyramid)
    image = some_image()
    for expected, found in zip(pyramid(image), folded(image), strict=True):
        expected = np.asarray(expected)
        np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())
    assert count(folded, folding.FoldedConv) == count(pyramid, folding.BatchNorm) > 0


@pytest.mark.parametrize("kind", ["matterport", "c4"])
def test_no_batch_norm_of_a_whole_network_is_left_alone(kind):
    plain = network(kind).inference
    folded = folding.folded(plain)
    assert {id(weight) for weight in folded.weights} == {id(weight) for weight in plain.weights}
    assert count(folded, folding.BatchNorm) == count(folded, folding.FoldedConv)


def test_weights_that_change_later_count():
    plain = network("matterport").inference
    stage = keras.Model(plain.inputs[0], plain.get_layer("res3a_out").output)
    folded = folding.folded(stage)
    image = some_image()
    before = folded.predict_on_batch(image)
    for weight in plain.weights:
        weight.assign(weight * 1.1)
    after = folded.predict_on_batch(image)
    np.testing.assert_allclose(after, stage.predict_on_batch(image), rtol=1e-4, atol=1e-3)
    assert np.abs(after - before).max() > 1


def test_layers_keep_their_outputs_and_names():
    plain = network("matterport").inference
    before = {layer.name: layer.output for layer in plain.layers}
    folding.folded(plain)
    assert all(plain.get_layer(name).output is output for name, output in before.items())


@pytest.mark.parametrize(("train_bn", "left"), [(False, 0), (True, "all")])
def test_batch_norms_that_train_are_left_in_training(train_bn, left):
    built = network("matterport", TRAIN_BN=train_bn)
    graph = keras.Model(*built.training)
    folded = folding.folded(graph, training=True)
    norms = count(graph, folding.BatchNorm)
    expected = norms if left == "all" else 0
    assert norms - count(folded, folding.FoldedConv) == expected


def test_gamma_beta_and_kernels_learn_the_same():
    tf = pytest.importorskip("tensorflow")
    plain = network("matterport").inference
    stage = keras.Model(plain.inputs[0], plain.get_layer("res3b_out").output)
    folded = folding.folded(stage, training=True)
    image = some_image() / 50

    def gradients(model):
        with tf.GradientTape() as tape:
            loss = keras.ops.mean(keras.ops.square(model(image, training=True)))
        values = tape.gradient(loss, model.trainable_variables)
        names = [weight.path for weight in model.trainable_variables]
        return dict(zip(names, values, strict=True))

    expected, found = gradients(stage), gradients(folded)
    assert set(found) == set(expected)
    for name, gradient in expected.items():
        scale = np.abs(gradient).max()
        np.testing.assert_allclose(found[name], gradient, atol=1e-4 * scale + 1e-9, err_msg=name)


def test_a_convolution_that_is_used_elsewhere_stays():
    image = keras.Input((8, 8, 3))
    features = keras.layers.Conv2D(4, 3, name="used_twice")(image)
    normed = folding.BatchNorm(name="norm")(features)
    model = keras.Model(image, [normed, keras.layers.ReLU()(features)])
    assert count(folding.folded(model), folding.FoldedConv) == 0
    model = keras.Model(image, [normed, features])
    assert count(folding.folded(model), folding.FoldedConv) == 0


def small_image() -> np.ndarray:
    return np.random.default_rng(3).normal(size=(2, 8, 8, 4)).astype(np.float32)


def conv(**options) -> keras.layers.Conv2D:
    return keras.layers.Conv2D(4, 3, padding="same", **options)


def unlike(norm: folding.BatchNorm) -> folding.BatchNorm:
    """Return a norm that changes what it gets, once it is built."""
    norm.build((None, 8, 8, 4))
    for number, weight in enumerate(norm.weights):
        weight.assign(weight + 0.5 + number)
    return norm


class Doubled(folding.BatchNorm):
    def call(self, inputs, training=None, mask=None):
        return 2 * super().call(inputs, training, mask)


class Block(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = conv(), unlike(folding.BatchNorm())

    def call(self, features):
        return self.norm(self.convolution(features))


def called_twice(image):
    convolution = conv()
    return unlike(folding.BatchNorm())(convolution(image)) + convolution(image * 2)


def norm_of_two(image):
    norm = unlike(folding.BatchNorm())
    return norm(conv()(image)) + norm(image)


def in_a_block(image):
    return Block()(image)


def in_a_sequence(image):
    return keras.Sequential([conv(), unlike(folding.BatchNorm())])(image)


def of_its_own_kind(image):
    return unlike(Doubled())(conv()(image))


def without_scale(image):
    return unlike(folding.BatchNorm(scale=False))(conv()(image))


def over_rows(image):
    return folding.BatchNorm(axis=1)(conv(activation="relu")(image))


@pytest.mark.parametrize(
    "make",
    [
        called_twice,
        norm_of_two,
        in_a_block,
        in_a_sequence,
        of_its_own_kind,
        without_scale,
        over_rows,
    ],
)
def test_what_cannot_be_folded_is_left_as_it_is(make):
    image = keras.Input((8, 8, 4))
    model = keras.Model(image, make(image))
    folded = folding.folded(model)
    assert count(folded, folding.FoldedConv) == 0
    np.testing.assert_allclose(folded(small_image()), model(small_image()), rtol=1e-6)


def test_kernels_are_rounded_once_to_bfloat16():
    image = keras.Input((8, 8, 4))
    norm = unlike(folding.BatchNorm(dtype="mixed_bfloat16"))
    model = keras.Model(image, norm(conv(dtype="mixed_bfloat16")(image)))
    folded = folding.folded(model)
    assert folded.outputs[0].dtype == model.outputs[0].dtype == "bfloat16"
    (layer,) = [each for each in folded.layers if isinstance(each, folding.FoldedConv)]
    factor = norm.gamma / np.sqrt(norm.moving_variance + norm.epsilon)
    kernel = keras.ops.cast(layer.convolution.kernel.numpy() * factor, "bfloat16")
    bias = keras.ops.cast(norm.beta - norm.moving_mean * factor, "bfloat16")
    image = keras.ops.cast(small_image(), "bfloat16")
    expected = keras.ops.conv(image, kernel, padding="same") + bias
    found, expected = (
        keras.ops.convert_to_numpy(keras.ops.cast(values, "float32"))
        for values in (folded(small_image()), expected)
    )
    assert np.abs(found - expected).max() < 0.02


@pytest.mark.parametrize(("train_bn", "is_folded"), [(None, False), (False, True)])
def test_train_bn_none_trains_what_is_not_frozen(train_bn, is_folded):
    built = network("matterport", TRAIN_BN=train_bn)
    graph = keras.Model(*built.training)
    assert (count(folding.folded(graph, training=True), folding.FoldedConv) > 0) == is_folded
