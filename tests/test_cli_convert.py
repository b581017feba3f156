import h5py
import numpy as np
import pytest
import weight_files
from small import SmallConfig
from test_cli import run, small_settings
from test_loading import SmallTorchvision
from torch_state import classifier, detector

from mrcnn.model import MaskRCNN
from mrcnn.weights import hdf5

IMAGE = np.random.default_rng(0).integers(0, 255, (50, 60, 3), np.uint8)


def settings_of(config: type) -> list[str]:
    """Return the options for what the arrays of a small network do not tell."""
    told = ("NAME", "NUM_CLASSES", "BACKBONE_WIDTH", "TOP_DOWN_PYRAMID_SIZE", "RPN_CONV_SIZE")
    told += ("FPN_CLASSIF_FC_LAYERS_SIZE", "MASK_CONV_SIZE")
    names = [name for name in vars(config) if name.isupper() and name not in told]
    return [word for name in names for word in ("--set", f"{name}={getattr(config, name)}")]


def test_a_detector_of_torchvision(tmp_path, capsys):
    model = MaskRCNN("inference", SmallTorchvision(), tmp_path)
    source, output = tmp_path / "theirs.npz", tmp_path / "ours.h5"
    np.savez(source, **detector(model), **{"extra.weight": np.zeros(3, "f")})
    model.load_weights(source, verbose=0)
    assert run("convert", source, output, *settings_of(SmallTorchvision)) == 0
    shown = capsys.readouterr().out
    assert f"Wrote {output}" in shown
    assert "torchvision" in shown
    assert "extra.weight" in shown
    again = MaskRCNN.from_checkpoint(output, model_dir=tmp_path)
    assert again.config.CONVENTIONS == "torchvision"
    (expected,), (found,) = model.detect([IMAGE]), again.detect([IMAGE])
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


def test_a_file_of_matterport(tmp_path):
    model = MaskRCNN("inference", SmallConfig(), tmp_path)
    model.save_weights(tmp_path / "ours.h5")
    weight_files.unseal(tmp_path / "ours.h5")
    with h5py.File(tmp_path / "ours.h5", "r+") as file:
        del file.attrs[hdf5.SETTINGS]
    settings = [*small_settings(), "--set", "NUM_CLASSES=3"]
    assert run("convert", tmp_path / "ours.h5", tmp_path / "again.h5", *settings) == 0
    assert hdf5.read_settings(tmp_path / "again.h5")["config"]["NUM_CLASSES"] == 3
    ours, again = hdf5.read(tmp_path / "ours.h5"), hdf5.read(tmp_path / "again.h5")
    assert ours.keys() == again.keys()
    assert all(np.array_equal(ours[key], again[key]) for key in ours)


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (classifier, ["a classifier with [2, 2, 2, 2] blocks"]),
        (lambda model: without_a_layer(detector(model)), ["be incomplete", "fpn_p3"]),
        (lambda _: {"conv.weight": np.zeros(3)}, ["not a torchvision model"]),
    ],
)
def test_what_is_no_whole_detector_is_refused(make, parts, tmp_path, capsys):
    model = MaskRCNN("inference", SmallTorchvision(), tmp_path)
    np.savez(tmp_path / "theirs.npz", **make(model))
    settings = settings_of(SmallTorchvision) if "fpn_p3" in parts else []
    assert run("convert", tmp_path / "theirs.npz", tmp_path / "ours.h5", *settings) == 2
    error = capsys.readouterr().err
    assert all(part in error for part in parts)
    assert not (tmp_path / "ours.h5").exists()


def test_other_endings_are_refused(tmp_path, capsys):
    assert run("convert", "nuclei", tmp_path / "ours.pth") == 2
    assert ".h5" in capsys.readouterr().err


def without_a_layer(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {key: array for key, array in state.items() if "layer_blocks.1" not in key}
