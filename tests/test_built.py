import re
from pathlib import Path

import numpy as np
import pytest
from small import Rectangles, SmallConfig, make_find_objects

import mrcnn
from mrcnn.config import DERIVED, Config
from mrcnn.matterport.built import BuiltSettings
from mrcnn.model import MaskRCNN
from mrcnn.setting_marks import Mark
from mrcnn.weights import hdf5


@pytest.fixture
def detector(detecting_eagerly) -> MaskRCNN:  # noqa: ARG001
    model = MaskRCNN("inference", SmallConfig(), "logs")
    make_find_objects(model.network)
    return model


def said(caplog) -> list[str]:
    """Return what this package logged of changes; TensorFlow logs, too."""
    own = [record.getMessage() for record in caplog.records if record.name == "mrcnn"]
    return [message for message in own if "built" in message]


def test_every_setting_that_the_graph_reads_is_known():
    folder = Path(mrcnn.__file__).parent / "network"
    text = "".join((folder / name).read_text() for name in ("network.py", "parts.py"))
    read = set(re.findall(r"config\.([A-Z_]+)\b", text))
    assert read - set(DERIVED) == set(Config.marked(Mark.GRAPH)) - {"CONVENTIONS"}


def test_nothing_is_said_of_settings_that_act_at_once(caplog):
    config = SmallConfig()
    built = BuiltSettings(config)
    config.STEPS_PER_EPOCH, config.WORKERS, config.LEARNING_MOMENTUM = 7, 1, 0.5
    config.BATCH_SIZE = 1
    assert built.in_force(config, training=True) is config
    assert not caplog.messages


def test_a_list_that_is_changed_in_place_is_noticed(caplog):
    config = SmallConfig.from_dict({"RPN_ANCHOR_RATIOS": [0.5, 1, 2]})
    built = BuiltSettings(config)
    config.RPN_ANCHOR_RATIOS.append(4)
    assert built.in_force(config, training=False).RPN_ANCHOR_RATIOS == [0.5, 1, 2]
    assert "RPN_ANCHOR_RATIOS = [0.5, 1, 2, 4] (built with [0.5, 1, 2])" in caplog.text


def test_another_config_with_the_same_function_as_backbone_is_no_change(caplog):
    class Own(SmallConfig):
        def BACKBONE(image, **settings):  # noqa: N802, N805
            return image, settings

    assert BuiltSettings(Own()).in_force(Own(), training=True)
    assert not caplog.messages


def test_what_is_changed_after_the_network_was_built_is_told_once_a_change(detector, caplog):
    image = np.full((60, 60, 3), 90, np.uint8)
    (before,) = detector.detect([image])
    detector.config.DETECTION_MIN_CONFIDENCE = 0.99
    detector.config.NUM_CLASSES = 5
    (found,) = detector.detect([image])
    np.testing.assert_array_equal(found["scores"], before["scores"])
    detector.detect([image])
    (message,) = said(caplog)
    assert "DETECTION_MIN_CONFIDENCE = 0.99 (built with 0)" in message
    assert "NUM_CLASSES = 5 (built with 3)" in message
    assert "new MaskRCNN" in message
    detector.config.DETECTION_MIN_CONFIDENCE = 0.98
    detector.detect([image])
    assert len(said(caplog)) == 2
    assert "NUM_CLASSES" not in said(caplog)[1]


def test_the_size_of_images_to_detect_in_may_change(detector, caplog):
    detector.config.IMAGE_MIN_DIM = detector.config.IMAGE_MAX_DIM = 128
    detector.detect([np.zeros((60, 60, 3), np.uint8)])
    assert not said(caplog)
    assert detector.anchors.max() > 64


def test_files_have_the_settings_that_the_weights_were_built_with(detector, tmp_path):
    detector.config.NUM_CLASSES = 9
    detector.save_weights(tmp_path / "a.h5")
    assert hdf5.read_settings(tmp_path / "a.h5")["config"]["NUM_CLASSES"] == 3


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
def test_training_goes_on_with_what_was_built(tmp_path, caplog):
    model = MaskRCNN("training", SmallConfig(), tmp_path)
    model.config.IMAGE_MAX_DIM, model.config.MAX_GT_INSTANCES, model.config.NUM_CLASSES = 128, 9, 5
    history = model.train(Rectangles(), Rectangles(), np.float32(0.001), np.int64(1), "heads")
    assert np.isfinite(history.history["val_loss"]).all()
    (message,) = [text for text in caplog.messages if "built" in text]
    for words in ("NUM_CLASSES = 5", "MAX_GT_INSTANCES = 9", "IMAGE_MAX_DIM = 128"):
        assert words in message


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
def test_settings_that_are_changed_before_the_network_is_built_hold(tmp_path, caplog):
    config = SmallConfig()
    config.IMAGE_MIN_DIM = config.IMAGE_MAX_DIM = 128
    config.NUM_CLASSES, config.CLASS_NAMES = 4, ()
    config.STEPS_PER_EPOCH, config.VALIDATION_STEPS = 3 / 2, 1 / 2
    model = MaskRCNN("training", config, tmp_path)
    history = model.train(Rectangles(), Rectangles(), 0.001, 1.0, "heads")
    assert np.isfinite(history.history["val_loss"]).all()
    assert int(model.training_model.optimizer.iterations) == 2
    assert not [text for text in caplog.messages if "built" in text]


@pytest.fixture(scope="module")
def to_train(tmp_path_factory) -> MaskRCNN:
    return MaskRCNN("training", SmallConfig(), tmp_path_factory.mktemp("logs"))


@pytest.mark.parametrize(
    ("rate", "epochs", "words"),
    [
        (0.001, 1.5, "epochs must be a whole number, got 1.5"),
        (0.001, None, "nothing says when the training ends: give epochs or minutes"),
        (float("nan"), 1, "learning_rate must be a number such as 0.001, got nan"),
        (-0.1, 1, "learning_rate"),
        ("fast", 1, "learning_rate"),
    ],
)
def test_rates_and_epochs_that_are_none_are_refused(to_train, rate, epochs, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        to_train.train(Rectangles(), None, rate, epochs, "heads")


def test_an_epoch_of_no_steps_is_refused(to_train, monkeypatch):
    monkeypatch.setattr(to_train.config, "STEPS_PER_EPOCH", 0)
    with pytest.raises(ValueError, match="STEPS_PER_EPOCH must be"):
        to_train.train(Rectangles(), None, 0.001, 1, "heads")


def test_anchors_are_those_of_the_last_input(detector):
    assert detector.anchors is None
    detector.detect([np.zeros((60, 60, 3), np.uint8)])
    expected = detector.anchors
    np.testing.assert_array_equal(detector.get_anchors((64, 64, 3)).shape, expected.shape)
    np.testing.assert_array_equal(detector.anchors, expected)
    assert expected.max() > 1  # pixels
    assert len(detector.get_anchors((128, 64, 3))) == len(detector.anchors) > len(expected)


def test_a_model_to_train_has_the_anchors_of_its_input(detector, to_train):
    detector.get_anchors((64, 64, 3))
    np.testing.assert_array_equal(to_train.anchors, detector.anchors)


def test_anchors_that_a_program_sets_stay(detector):
    detector.anchors = np.zeros((3, 4))
    assert detector.anchors.shape == (3, 4)
