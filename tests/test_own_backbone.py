"""A program's own backbone in checkpoints."""

import numpy as np
import pytest
from keras import layers
from small import SmallConfig

from mrcnn.config import Config
from mrcnn.model import MaskRCNN
from mrcnn.weights import hdf5


def attentive(image, stage5=True, train_bn=None):
    """Return five stages of which the last has an attention block."""
    del stage5, train_bn
    stages, x = [], image
    for number, stride in enumerate((2, 2, 2, 2, 2), start=1):
        x = layers.Conv2D(8, 3, stride, padding="same", activation="relu", name=f"stage{number}")(x)
        stages.append(x)
    rows = layers.Reshape((-1, 8), name="rows")(x)
    rows = layers.MultiHeadAttention(2, 4, name="attention")(rows, rows)
    stages[-1] = layers.Reshape((2, 2, 8), name="map")(rows)
    return stages


class AttentiveConfig(SmallConfig):
    BACKBONE = staticmethod(attentive)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    model = MaskRCNN("inference", AttentiveConfig(), folder)
    for weight in hdf5.weights_by_name(model.inference_model).values():
        weight.assign(np.random.default_rng(1).uniform(0.01, 0.1, weight.shape))
    model.save_weights(folder / "a.h5")
    return folder / "a.h5"


def test_a_network_without_its_function_is_not_built(checkpoint):
    with pytest.raises(ValueError, match=r"built by a function.*pass BACKBONE=") as error:
        MaskRCNN.from_checkpoint(checkpoint)
    assert "attentive" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_network_is_built_again_with_its_function(checkpoint):
    model = MaskRCNN.from_checkpoint(checkpoint, BACKBONE=attentive)
    assert model.load_report.missing == model.load_report.skipped == []
    found = hdf5.weights_by_name(model.inference_model)
    assert sum(name.startswith("attention/") for name in found) == 8
    stored = hdf5.read(checkpoint)
    assert stored.keys() == found.keys()
    for name, array in stored.items():
        np.testing.assert_array_equal(np.asarray(found[name]), array)


def test_the_settings_that_differ_are_not_blamed_on_the_function(checkpoint):
    model = MaskRCNN("inference", AttentiveConfig().replace(MASK_CONV_SIZE=4), "logs")
    with pytest.raises(ValueError, match=r"the file has MASK_CONV_SIZE 8") as error:
        model.load_weights(checkpoint)
    assert "BACKBONE" not in str(error.value).partition("use its settings")[0]


def test_what_is_no_function_travels_as_it_is():
    assert Config().to_dict()["BACKBONE"] == "resnet101"
    assert Config().to_dict()["COMPUTE_BACKBONE_SHAPE"] is None
