import flipped_bits
import h5py
import numpy as np
import pytest
from small_model import randomized, tiny_model

from mrcnn.weights import hdf5, hdf5_content


def test_no_flipped_bit_is_loaded(tmp_path):
    refused, _ = flipped_bits.refused_and_harmless(tmp_path, 60)
    assert refused > 10


@pytest.fixture
def path(tmp_path):
    flipped_bits.written(tmp_path / "a.h5")
    return tmp_path / "a.h5"


def change(path, edit) -> None:
    with h5py.File(path, "r+") as file:
        edit(file)


def assert_refused(path) -> None:
    for read in (hdf5.read, hdf5.read_settings, hdf5.read_optimizer, hdf5.is_of_keras):
        with pytest.raises(ValueError, match=r"a\.h5: is damaged.*not what was written"):
            read(path)


def without_seal(file):
    del file.attrs[hdf5_content.SEAL]


def without_the_seal_of_an_array(file):
    del file["conv1/conv1/kernel:0"].attrs[hdf5_content.SEAL]


def other_settings(file):
    file.attrs[hdf5.SETTINGS] = file.attrs[hdf5.SETTINGS].replace('"a"', '"b"')


def another_attribute_of_a_group(file):
    file["conv1"].attrs["more"] = 1


def another_group(file):
    file.create_group("more")


def a_renamed_layer(file):
    file.move("conv1", "conv2")


def a_removed_array(file):
    del file["conv1/conv1/bias:0"]


@pytest.mark.parametrize(
    "edit",
    [
        without_seal,
        without_the_seal_of_an_array,
        other_settings,
        another_attribute_of_a_group,
        another_group,
        a_renamed_layer,
        a_removed_array,
    ],
)
def test_what_was_changed_after_it_was_written_is_refused(path, edit):
    change(path, edit)
    assert_refused(path)


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("conv1/conv1/bias:0", hdf5.read),
        ("optimizer_weights/conv1.bias:SGD.momentum", hdf5.read_optimizer),
    ],
)
def test_another_number_is_refused_where_it_is_read(path, name, read):
    def edit(file):
        file[name][1] = np.nextafter(file[name][1], np.float32(2))

    change(path, edit)
    with pytest.raises(ValueError, match=rf"the array {name} is not what was written"):
        read(path)


def test_a_refused_file_leaves_the_network_as_it_was(path):
    change(path, lambda file: file["mrcnn_bbox_fc/mrcnn_bbox_fc/bias:0"].write_direct(np.ones(12)))
    model = randomized(tiny_model(), seed=5)
    before = [np.asarray(weight) for weight in model.weights]
    with pytest.raises(ValueError, match="not what was written"):
        hdf5.load(path, model)
    for weight, array in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight, array)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_neither_written_nor_read(tmp_path, number):
    model = tiny_model()
    weight = hdf5.weights_by_name(model)["conv1/bias"]
    hdf5.save(tmp_path / "good.h5", model, {})
    with h5py.File(tmp_path / "bad.h5", "w") as file:
        file["conv1/conv1/bias:0"] = np.array([0, number, 0, 0], "f")
    with pytest.raises(ValueError, match=r"bad\.h5: conv1/bias has values that are not finite"):
        hdf5.load(tmp_path / "bad.h5", model)
    assert np.isfinite(np.asarray(weight)).all()
    state = {"conv1.bias:SGD.momentum": np.full(4, number)}
    with pytest.raises(ValueError, match=r"conv1\.bias:SGD\.momentum has values that are not"):
        hdf5.save(tmp_path / "good.h5", model, {}, state)
    weight.assign([0, 0, number, 0])
    with pytest.raises(ValueError, match=r"good\.h5: conv1/bias has values that are not finite"):
        hdf5.save(tmp_path / "good.h5", model, {})
    assert np.isfinite(hdf5.read(tmp_path / "good.h5")["conv1/bias"]).all()


def test_kernels_that_half_precision_cannot_hold_are_not_written(tmp_path):
    model = tiny_model()
    kernel = hdf5.weights_by_name(model)["conv1/kernel"]
    kernel.assign(np.full(kernel.shape, 1e5))
    with pytest.raises(ValueError, match="conv1/kernel has values that are not finite"):
        hdf5.save(tmp_path / "a.h5", model, {}, kernel_dtype="float16")
