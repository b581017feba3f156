import errno
import os
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import weight_files
from keras import layers
from small_model import randomized, tiny_model, values

from mrcnn.weights import hdf5, hdf5_layout

SETTINGS = {"config": {"NAME": "tiny", "NUM_CLASSES": 3}, "epoch": 7}


def assert_same(model: keras.Model, expected: dict[str, np.ndarray]) -> None:
    found = values(model)
    assert found.keys() == expected.keys()
    for key, array in expected.items():
        np.testing.assert_array_equal(found[key], array, err_msg=key)


def write(path: Path, arrays: dict[str, np.ndarray], rename) -> None:
    """Write arrays with h5py alone; `rename` makes paths of layer and weight name."""
    with h5py.File(path, "w") as file:
        for key, array in arrays.items():
            file.create_dataset(rename(*key.split("/")), data=array)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "mask_rcnn_tiny_0007.h5"


@pytest.fixture
def saved(path) -> dict[str, np.ndarray]:
    """A weight file at `path`; the values in it."""
    model = randomized(tiny_model(), seed=1)
    hdf5.save(path, model, SETTINGS)
    return values(model)


def test_weights_come_back(path, saved):
    model = tiny_model()
    report = hdf5.load(path, model)
    assert_same(model, saved)
    assert report.loaded == sorted(saved)
    assert report.skipped == report.missing == []
    assert "16 weights loaded, 0 skipped, 0 missing" in str(report)


def test_settings_travel(path, saved):
    del saved
    assert hdf5.read_settings(path) == SETTINGS


def test_a_file_of_another_program_has_no_settings(path, saved):
    write(path, saved, lambda layer, leaf: f"{layer}/{layer}/{leaf}:0")
    assert hdf5.read_settings(path) == {}
    assert hdf5.read_optimizer(path) == {}


def test_the_state_of_the_optimizer_travels_and_is_no_weight(path, saved):
    state = {"iterations": np.array(12), "conv1.kernel": np.ones((3, 3, 3, 4), "f")}
    model = randomized(tiny_model(), seed=1)
    hdf5.save(path, model, SETTINGS, state)
    found = hdf5.read_optimizer(path)
    assert found.keys() == state.keys()
    np.testing.assert_array_equal(found["conv1.kernel"], state["conv1.kernel"])
    assert int(found["iterations"]) == 12
    assert hdf5.read(path).keys() == saved.keys()


def test_other_programs_find_the_layers_as_keras_2_writes_them(path, saved):
    with h5py.File(path) as file:
        names = [name.decode() for name in file.attrs["layer_names"]]
        assert names == ["conv1", "bn_conv1", "rpn_model", "mrcnn_class_logits", "mrcnn_bbox_fc"]
        weights = {}
        for name in names:
            inner = [weight.decode() for weight in file[name].attrs["weight_names"]]
            weights |= {weight: file[name][weight][()] for weight in inner}
        rpn_weights = [weight.decode() for weight in file["rpn_model"].attrs["weight_names"]]
    assert rpn_weights == [
        f"{layer}/{leaf}:0"
        for layer in ("rpn_conv_shared", "rpn_class_raw", "rpn_bbox_pred")
        for leaf in ("kernel", "bias")
    ]
    assert weights.keys() == {f"{key}:0" for key in saved}
    assert all((weights[f"{key}:0"] == array).all() for key, array in saved.items())
    assert weights["bn_conv1/gamma:0"].dtype == np.float32


def test_weights_of_a_layer_are_in_the_order_of_keras_2(path, saved):
    del saved
    with h5py.File(path) as file:
        names = [name.decode() for name in file["bn_conv1"].attrs["weight_names"]]
    leaves = ["gamma", "beta", "moving_mean", "moving_variance"]
    assert names == [f"bn_conv1/{leaf}:0" for leaf in leaves]


def test_half_precision_kernels_are_read_as_float32(path, saved):
    hdf5.save(path, randomized(tiny_model(), seed=1), SETTINGS, kernel_dtype="float16")
    with h5py.File(path) as file:
        assert file["conv1/conv1/kernel:0"].dtype == np.float16
        assert file["conv1/conv1/bias:0"].dtype == np.float32
    model = tiny_model()
    hdf5.load(path, model)
    for key, array in values(model).items():
        assert array.dtype == np.float32
        np.testing.assert_allclose(array, saved[key], atol=1e-3)


def test_a_full_disk_leaves_the_older_file_whole(path, saved, monkeypatch):
    create, calls = h5py.Group.create_dataset, []

    def fail_late(*args, **kwargs):
        calls.append(args)
        if len(calls) > 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        return create(*args, **kwargs)

    monkeypatch.setattr(h5py.Group, "create_dataset", fail_late)
    with pytest.raises(OSError, match=r"could not be written.*No space left"):
        hdf5.save(path, randomized(tiny_model(), seed=2), SETTINGS)
    monkeypatch.undo()
    assert list(path.parent.iterdir()) == [path]
    model = tiny_model()
    hdf5.load(path, model)
    assert_same(model, saved)


def test_a_new_file_takes_the_place_of_the_old_one_at_once(path, saved, tmp_path):
    # A reader that holds the old file open, here by another name, goes on reading the old one.
    os.link(path, tmp_path / "held.h5")
    hdf5.save(path, randomized(tiny_model(), seed=2), SETTINGS)
    model = tiny_model()
    hdf5.load(tmp_path / "held.h5", model)
    assert_same(model, saved)


def test_any_other_failure_leaves_no_partial_file(path, monkeypatch):
    def fail(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(h5py.Group, "create_dataset", fail)
    with pytest.raises(KeyboardInterrupt):
        hdf5.save(path, tiny_model(), SETTINGS)
    assert list(path.parent.iterdir()) == []


def test_a_place_that_is_no_folder_is_an_error_that_names_the_file(tmp_path):
    (tmp_path / "nowhere").touch()
    with pytest.raises(OSError, match=r"nowhere.*could not be written"):
        hdf5.save(tmp_path / "nowhere" / "weights.h5", tiny_model(), SETTINGS)


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1234\n", "git lfs pull"),
        (b"weights go here\n", "cut off or not an HDF5 file"),
        (b"", "cut off or not an HDF5 file"),
    ],
    ids=["pointer", "text", "empty"],
)
def test_what_is_no_weight_file_is_refused_with_a_hint(path, content, hint):
    path.write_bytes(content)
    for read in (hdf5.read, hdf5.read_settings, hdf5.read_optimizer):
        with pytest.raises(ValueError, match=hint) as error:
            read(path)
        assert str(path) in str(error.value)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_file_that_is_cut_off_is_refused_and_changes_nothing(path, saved, share):
    del saved
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    model = randomized(tiny_model(), seed=3)
    before = values(model)
    with pytest.raises(ValueError, match="cut off"):
        hdf5.load(path, model)
    assert_same(model, before)


def test_a_missing_file_is_a_file_not_found_error(path):
    with pytest.raises(FileNotFoundError, match=path.name):
        hdf5.load(path, tiny_model())


def test_a_file_without_any_weight_of_the_network_is_refused(path):
    write(path, {"encoder/kernel": np.ones(3), "decoder/kernel": np.ones(3)}, "{}/{}".format)
    with pytest.raises(ValueError, match=r"none of its weights.*decoder/kernel.*BACKBONE"):
        hdf5.load(path, tiny_model())


def test_another_number_of_classes_is_named_with_both_remedies(path, saved):
    del saved
    model = randomized(tiny_model(num_classes=5), seed=3)
    before = values(model)
    with pytest.raises(ValueError, match="NUM_CLASSES") as error:
        hdf5.load(path, model)
    text = str(error.value)
    assert "exclude=['mrcnn_bbox_fc', 'mrcnn_class_logits']" in text.replace(
        "['mrcnn_class_logits', 'mrcnn_bbox_fc']", "['mrcnn_bbox_fc', 'mrcnn_class_logits']"
    )
    assert "file (24, 3), network (24, 5)" in text
    assert_same(model, before)


def test_other_shapes_are_not_blamed_on_the_classes(path, saved):
    del saved
    with pytest.raises(ValueError, match=r"conv1/kernel: file.*3, 4.*network.*3, 6") as error:
        hdf5.load(path, tiny_model(channels=6))
    assert "NUM_CLASSES" not in str(error.value)


def test_excluded_layers_keep_their_values_and_are_reported(path, saved):
    model = randomized(tiny_model(num_classes=5), seed=3)
    before = values(model)
    heads = ("mrcnn_class_logits", "mrcnn_bbox_fc")
    report = hdf5.load(path, model, exclude=heads)
    is_head = {key: key.split("/")[0] in heads for key in saved}
    assert_same(model, {key: before[key] if is_head[key] else saved[key] for key in saved})
    assert report.skipped == sorted(key for key in saved if is_head[key])
    assert report.missing == []


def test_layers_that_the_file_lacks_are_reported(path, saved):
    backbone = {k: v for k, v in saved.items() if not k.startswith(("rpn", "mrcnn"))}
    write(path, backbone | {"fc1000/kernel": np.ones(3)}, "{0}/{0}/{1}:0".format)
    model = randomized(tiny_model(), seed=3)
    before = values(model)
    report = hdf5.load(path, model)
    assert report.missing == sorted(set(saved) - set(backbone))
    assert report.skipped == ["fc1000/kernel"]
    assert "rpn_conv_shared" in str(report)
    assert_same(model, before | backbone)


@pytest.mark.parametrize(
    "rename",
    [
        "{0}/{0}/{1}:0".format,
        "{0}/{1}:0".format,
        "mask_rcnn/{0}/{0}/{1}:0".format,
        "model_weights/{0}/{0}/{1}:0".format,
        "rpn_model/rpn_model/{0}/{1}:0".format,
        "{0}/{0}_1/{1}:0".format,
        "{0}/{0}_12/{1}".format,
    ],
    ids=["keras 2", "flat", "prefixed", "whole model", "nested", "numbered", "numbered, no :0"],
)
def test_names_of_all_writers_are_understood(path, saved, rename):
    write(path, saved, rename)
    model = tiny_model()
    hdf5.load(path, model)
    assert_same(model, saved)


def test_numbered_layers_of_the_rpn_are_understood(path, saved):
    write(
        path, {k: v for k, v in saved.items() if k.startswith("rpn")}, "rpn_model/{}_1/{}:0".format
    )
    report = hdf5.load(path, tiny_model())
    assert report.loaded == sorted(key for key in saved if key.startswith("rpn"))


@pytest.mark.parametrize("number", ["", "_1"])
def test_keras_1_names_are_understood(path, saved, number):
    old = {
        "kernel": "W",
        "bias": "b",
        "moving_mean": "running_mean",
        "moving_variance": "running_std",
    }
    backbone = {k: v for k, v in saved.items() if k.startswith(("conv1", "bn_conv1"))}
    write(path, backbone, lambda layer, leaf: f"{layer}/{layer}_{old.get(leaf, leaf)}{number}:0")
    model = tiny_model()
    assert hdf5.load(path, model).loaded == sorted(backbone)
    assert_same(model, values(model) | backbone)


@pytest.mark.parametrize("backbone", ["resnet50", "resnet101"])
def test_names_of_matterports_files_are_understood(path, matterport_layouts, backbone):
    layout = matterport_layouts[backbone]
    with h5py.File(path, "w") as file:
        for group, weights in layout.items():
            for name, _ in weights:
                file.create_dataset(f"{group}/{name}", data=np.zeros(1, "f"))
    keys = set(hdf5.read(path))
    assert len(keys) == sum(len(weights) for weights in layout.values())
    assert {"conv1/kernel", "bn2a_branch2a/moving_variance", "rpn_class_raw/bias"} <= keys
    assert {"mrcnn_mask_deconv/kernel", "res5c_branch2c/bias", "mrcnn_class_bn2/beta"} <= keys


def test_layers_behind_wrappers_go_by_their_own_name():
    names = [layer.name for layer in hdf5.leaf_layers(tiny_model())]
    assert names == [
        "conv1",
        "bn_conv1",
        "rpn_conv_shared",
        "rpn_class_raw",
        "rpn_bbox_pred",
        "mrcnn_class_logits",
        "mrcnn_bbox_fc",
    ]


@pytest.mark.parametrize("channels", [1, 2, 4, 6])
def test_rgb_weights_answer_alike_to_images_that_are_the_same_in_all_channels(channels, tmp_path):
    def first_layer(count: int) -> keras.Model:
        image = keras.Input((8, 8, count))
        return keras.Model(image, layers.Conv2D(5, 3, name="conv1")(image))

    rgb, other = first_layer(3), first_layer(channels)
    hdf5.save(tmp_path / "rgb.h5", rgb, {})
    report = hdf5.load(tmp_path / "rgb.h5", other)
    assert report.adapted == ["conv1/kernel"]
    assert "number of image channels" in str(report)
    grey = np.random.default_rng(0).uniform(-100, 100, (1, 8, 8, 1)).astype("f")
    found, expected = (
        model.predict_on_batch(np.repeat(grey, count, axis=-1))
        for model, count in ((other, channels), (rgb, 3))
    )
    np.testing.assert_allclose(found, expected, atol=1e-3)
    if channels > 3:  # the colours are still told apart
        kernel = rgb.get_layer("conv1").get_weights()[0]
        changed = other.get_layer("conv1").get_weights()[0]
        np.testing.assert_allclose(changed[:, :, :3], kernel * 3 / channels, rtol=1e-5)


def test_an_object_inside_a_file_is_left_alone(path):
    """What h5py hands out as Python objects, such as pickled ones, is no weight."""
    model = tiny_model()
    hdf5.save(path, model, {})
    weight_files.unseal(path)
    with h5py.File(path, "a") as file:
        group = file.create_group("evil")
        text = group.create_dataset("evil/kernel:0", (1,), h5py.string_dtype())
        text[0] = "cos\nsystem\n(S'touch /tmp/evil'\ntR."
    assert "evil/kernel" not in hdf5.read(path)
    assert hdf5.load(path, model).missing == []


@pytest.mark.parametrize("text", ["[1]", "{not json", '{"config": [1]}'])
def test_settings_that_cannot_be_read_name_the_file(tmp_path, text):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["mrcnn_settings"] = text
    with pytest.raises(ValueError, match=r"a\.h5: the settings in it"):
        hdf5.read_settings(tmp_path / "a.h5")


def test_checkpoints_behind_links_and_devices(path, saved, tmp_path):
    (tmp_path / "far").mkdir()
    path.rename(tmp_path / "far" / "real.h5")
    (tmp_path / "far" / "real.h5").chmod(0o640)
    path.symlink_to(tmp_path / "far" / "real.h5")
    hdf5.save(path, randomized(tiny_model(), seed=2), SETTINGS)
    assert path.is_symlink()
    assert (tmp_path / "far" / "real.h5").stat().st_mode & 0o777 == 0o640
    assert not np.array_equal(hdf5.read(path)["conv1/kernel"], saved["conv1/kernel"])
    hdf5.save(Path("/dev/null"), tiny_model(), SETTINGS)
    assert Path("/dev/null").is_char_device()
    assert {each.name for each in tmp_path.rglob("*")} == {"far", "real.h5", path.name}


def test_attributes_may_be_large(path):
    """HDF5's oldest form, which h5py writes by default, has none above 64 KB."""
    names = [f"class number {number} of a long list" for number in range(3_000)]
    model = randomized(tiny_model(), seed=1)
    hdf5.save(path, model, {"config": {"CLASS_NAMES": names}})
    assert hdf5.read_settings(path)["config"]["CLASS_NAMES"] == names
    target = tiny_model()
    hdf5.load(path, target)
    assert_same(target, values(model))


def test_a_layer_may_have_thousands_of_weights(path):
    named = {f"backbone/block_{number:04d}/kernel:0": None for number in range(3_000)}
    assert hdf5_layout.version("", {"backbone": named}) == ("v108", "v108")
    assert hdf5_layout.version("", {"conv1": {"conv1/kernel:0": None}}) is None
    with h5py.File(path, "w", libver=("v108", "v108")) as file:
        file.attrs["weight_names"] = np.array([name.encode() for name in named])
    with h5py.File(path) as file:
        assert [name.decode() for name in file.attrs["weight_names"]] == list(named)
