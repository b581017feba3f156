"""Weights of other classes: their heads start anew, by the command, in Python, as a function."""

import numpy as np
import pytest
from small import SmallConfig
from test_cli import small_settings, write_set

import mrcnn
from mrcnn.mask_rcnn import MaskRCNN
from mrcnn.model import MaskRCNN as MatterportsMaskRCNN
from mrcnn.weights import hdf5


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Weights whose every value is recognised."""
    path = tmp_path_factory.mktemp("weights") / "weights.h5"
    model = MaskRCNN(SmallConfig())
    for weight in model.network.inference.weights:
        weight.assign(np.full(weight.shape, 0.25))
    model.save(path)
    return path


def values(model, layer: str) -> np.ndarray:
    return np.asarray(hdf5.weights_by_name(model.network.inference)[f"{layer}/kernel"])


@pytest.mark.parametrize("kind", [MaskRCNN, MatterportsMaskRCNN])
def test_the_layers_of_classes_start_anew(kind, weights, tmp_path):
    options = {"mode": "training"} if kind is MatterportsMaskRCNN else {}
    model = kind.from_checkpoint(weights, classes=["cat"], model_dir=tmp_path, **options)
    assert list(model.config.CLASS_NAMES) == ["BG", "cat"]
    assert model.config.NUM_CLASSES == 2
    assert (values(model, "fpn_p2") == 0.25).all()
    for layer in ("mrcnn_class_logits", "mrcnn_mask"):
        assert not (values(model, layer) == 0.25).any()
    assert model.run.epoch == 0


def test_the_same_classes_keep_their_layers(weights, tmp_path, capsys):
    for classes in (None, ["dark", "bright"]):
        model = MaskRCNN.from_checkpoint(weights, classes=classes, model_dir=tmp_path)
        assert (values(model, "mrcnn_class_logits") == 0.25).all()
    assert capsys.readouterr().out == ""


def test_a_network_says_what_it_is(weights, tmp_path):
    model = MaskRCNN.from_checkpoint(weights, model_dir=tmp_path)
    assert repr(model) == "<MaskRCNN 'small': resnet18, matterport, 2 classes (dark, bright)>"
    model.run.epoch = 3
    assert f"epoch 3 of {tmp_path}" in repr(model)


@pytest.mark.usefixtures("eagerly", "detecting_eagerly")
def test_the_command_as_a_function(tmp_path):
    annotations = write_set(tmp_path / "set")
    settings = dict(text.split("=", 1) for text in small_settings() if "=" in text)
    model = mrcnn.train(
        annotations,
        images=annotations.parent / "images",
        split=0,
        epochs=1,
        steps=1,
        logs=tmp_path / "logs",
        **{**settings, "IMAGES_PER_GPU": 2, "MEAN_PIXEL": np.array([1.0, 2.0, 3.0])},
    )
    assert model.run.epoch == 1
    assert list(model.config.MEAN_PIXEL) == [1, 2, 3]
    assert list(model.config.CLASS_NAMES) == ["BG", "dark", "bright"]
    with pytest.raises(ValueError, match="unrecognized arguments: --minuets=3"):
        mrcnn.train(annotations, minuets=3)
    with pytest.raises(ValueError, match="invalid"):
        mrcnn.train(annotations, epochs="many")
