import h5py
import keras
import numpy as np
import pytest
import weight_files
from keras import layers
from small_model import randomized, values

from mrcnn.weights import hdf5, layer_names


class Block(layers.Layer):
    """A layer of layers that a program has not named, and of two weights of one name."""

    def __init__(self, **options):
        super().__init__(**options)
        self.first = layers.Dense(3)
        self.rest = [layers.Dense(3), layers.Dense(3)]

    def build(self, shape):
        self.scale, self.shift = (self.add_weight(shape=shape[1:], name="w") for _ in range(2))
        self.free = self.add_weight(shape=shape[1:])
        for layer in (self.first, *self.rest):
            layer.build(shape)

    def call(self, x):
        for layer in (self.first, *self.rest):
            x = layer(x * self.scale + self.shift + self.free)
        return x


def nested_model() -> keras.Model:
    """Return a model with an attention block, a recurrent layer and a layer of layers."""
    x = keras.Input((5, 3))
    y = layers.MultiHeadAttention(2, 4, name="attention")(x, x)
    y = layers.LSTM(3, name="lstm")(y)
    return keras.Model(x, Block(name="block")(y))


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for key, array in expected.items():
        np.testing.assert_array_equal(found[key], array, err_msg=key)


def test_every_weight_of_nested_layers_has_a_name_of_its_own():
    model = nested_model()
    parts = ("query", "key", "value", "attention_output")
    attention = {f"attention/{part}/{leaf}" for part in parts for leaf in ("kernel", "bias")}
    lstm = {f"lstm/lstm_cell/{leaf}" for leaf in ("kernel", "recurrent_kernel", "bias")}
    dense = ("dense", "dense_1", "dense_2")
    block = {f"block/{part}/{leaf}" for part in dense for leaf in ("kernel", "bias")}
    block |= {"block/w", "block/w_1", "block/variable"}
    found = layer_names.weights_by_name(model)
    assert found.keys() == attention | lstm | block
    assert {id(weight) for weight in found.values()} == {id(weight) for weight in model.weights}


def test_names_do_not_depend_on_what_the_session_built_before():
    names = [layer_names.weights_by_name(nested_model()).keys() for _ in range(2)]
    assert names[0] == names[1]


def test_nested_layers_come_back(tmp_path):
    model, other = randomized(nested_model(), seed=1), randomized(nested_model(), seed=2)
    hdf5.save(tmp_path / "a.h5", model, {})
    report = hdf5.load(tmp_path / "a.h5", other)
    assert (len(report.loaded), report.missing, report.skipped) == (20, [], [])
    assert_same(values(other), values(model))


def test_nested_layers_are_read_from_files_that_are_not_ours(tmp_path):
    model, other = randomized(nested_model(), seed=1), randomized(nested_model(), seed=2)
    hdf5.save(tmp_path / "a.h5", model, {})
    weight_files.unseal(tmp_path / "a.h5")
    assert hdf5.load(tmp_path / "a.h5", other).missing == []
    assert_same(values(other), values(model))


def test_what_older_versions_wrote_of_a_layer_of_one_layer_is_read(tmp_path):
    model, other = randomized(nested_model(), seed=1), randomized(nested_model(), seed=2)
    expected = values(model)
    with h5py.File(tmp_path / "old.h5", "w") as file:
        for leaf in ("kernel", "recurrent_kernel", "bias"):
            file[f"lstm/lstm/{leaf}:0"] = expected[f"lstm/lstm_cell/{leaf}"]
        file["attention/attention/kernel:0"] = np.zeros(3)  # of one of four, nobody knows which
    report = hdf5.load(tmp_path / "old.h5", other)
    assert report.loaded == sorted(key for key in expected if key.startswith("lstm"))
    assert report.skipped == ["attention/kernel"]
    assert "attention/query/kernel" in report.missing
    found = values(other)
    assert_same({k: found[k] for k in report.loaded}, {k: expected[k] for k in report.loaded})


def test_two_layers_of_one_name_are_refused_by_name(tmp_path):
    inputs = [keras.Input((3,)), keras.Input((3,))]
    parts = [
        keras.Model(x, layers.Dense(2, name="same")(x), name=f"part{i}")
        for i, x in enumerate(inputs)
    ]
    x = keras.Input((3,))
    model = keras.Model(x, [part(x) for part in parts])
    for call in (
        lambda: layer_names.weights_by_name(model),
        lambda: hdf5.save(tmp_path / "a.h5", model, {}),
    ):
        with pytest.raises(ValueError, match=r"two weights .* same/kernel: give every layer"):
            call()
    assert not list(tmp_path.iterdir())


def test_a_layer_that_is_used_twice_is_one():
    x = keras.Input((3,))
    dense = layers.Dense(3, name="shared")
    inner = keras.Model(x, dense(x), name="inner")
    y = keras.Input((3,))
    model = keras.Model(y, inner(dense(y)))
    assert layer_names.weights_by_name(model).keys() == {"shared/kernel", "shared/bias"}


def test_weights_of_a_wrapper_beside_those_of_its_layer_are_kept():
    x = keras.Input((3,))
    wrapped = layers.SpectralNormalization(layers.Dense(3, name="inside"), name="spectral")
    found = layer_names.weights_by_name(keras.Model(x, wrapped(x)))
    assert {"spectral/inside/kernel", "spectral/inside/bias"} < found.keys()
    assert len(found) == 3


def test_two_arrays_for_one_weight_are_refused(tmp_path):
    model = randomized(nested_model())
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["lstm/lstm/lstm_cell/bias:0"] = np.zeros(12)
        file["copy/lstm/lstm_cell/bias:0"] = np.ones(12)
    with pytest.raises(ValueError, match=r"two arrays for lstm/lstm_cell/bias: copy/lstm"):
        hdf5.load(tmp_path / "a.h5", model)
