import json
import math
import re

import numpy as np
import pytest

from mrcnn.config import LOSSES, Config
from mrcnn.setting_marks import Mark, marks
from mrcnn.setting_values import parse_setting


class CellConfig(Config):
    NAME = "cells"
    NUM_CLASSES = 3
    IMAGE_MIN_DIM = IMAGE_MAX_DIM = 256
    IMAGES_PER_GPU = 4
    GPU_COUNT = 2
    RPN_BBOX_STD_DEV = np.array([0.2, 0.2, 0.4, 0.4])


def test_derived_settings_follow_the_others():
    config = CellConfig()
    assert config.BATCH_SIZE == 8
    assert config.IMAGE_SHAPE.tolist() == [256, 256, 3]
    assert config.IMAGE_META_SIZE == 12 + 3


def test_crops_are_of_the_smaller_side():
    config = CellConfig.from_dict({"IMAGE_RESIZE_MODE": "crop", "IMAGE_MAX_DIM": 1024})
    assert config.IMAGE_SHAPE.tolist() == [256, 256, 3]


def test_defaults_work_once_a_name_is_set():
    Config.from_dict({"NAME": "any"}).check()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"NAME": None}, ["NAME must be set"]),
        ({"IMAGE_MAX_DIM": 1000}, ["multiple of 64", "got 1000", "IMAGE_MAX_DIM", "960"]),
        ({"IMAGE_MAX_DIM": 40, "IMAGE_MIN_DIM": 40}, ["got 40", "to 64"]),
        ({"IMAGE_RESIZE_MODE": "stretch"}, ["IMAGE_RESIZE_MODE", "'stretch'", "pad64"]),
        ({"IMAGE_MIN_DIM": 512}, ["IMAGE_MIN_DIM (512)", "IMAGE_MAX_DIM (256)"]),
        ({"PRECISION": "float16"}, ["PRECISION", "'float16'", "mixed_bfloat16"]),
        ({"XLA": True}, ["XLA must be a word", "True"]),
        ({"XLA": "on", "GPU_COUNT": 2}, ["XLA = 'on'", "GPU_COUNT = 1, got 2"]),
        ({"RPN_ANCHOR_SCALES": (32, 64)}, ["RPN_ANCHOR_SCALES", "5", "(32, 64)"]),
        ({"MASK_SHAPE": [56, 56]}, ["MASK_SHAPE", "28", "(56, 56)"]),
        ({"MEAN_PIXEL": [1.0, 2.0]}, ["MEAN_PIXEL", "IMAGE_CHANNEL_COUNT"]),
        ({"CLASS_NAMES": ("BG", "cell")}, ["NUM_CLASSES is 3", "CLASS_NAMES has 2"]),
        ({"USE_RPN_ROIS": False}, ["USE_RPN_ROIS"]),
        ({"NUM_KEYPOINTS": -1}, ["NUM_KEYPOINTS", "-1"]),
        ({"NUM_KEYPOINTS": 3, "KEYPOINT_NAMES": ("nose",)}, ["NUM_KEYPOINTS is 3", "has 1"]),
        ({"NUM_KEYPOINTS": 3, "KEYPOINT_PAIRS": ((1, 5),)}, ["KEYPOINT_PAIRS", "(1, 5)"]),
        ({"IMAGE_SCALE_JITTER": (1.2, 0.8)}, ["IMAGE_SCALE_JITTER", "(1.2, 0.8)"]),
        ({"IMAGE_SCALE_JITTER": (1.2,)}, ["IMAGE_SCALE_JITTER", "(1.2,)"]),
        ({"IMAGE_RESIZE_MODE": "short_side", "IMAGE_MIN_DIM": 0}, ["short_side", "got 0 and 256"]),
        ({"RPN_CONV_COUNT": 0}, ["RPN_CONV_COUNT", "got 0"]),
        ({"LEARNING_RATE_IMAGES": -5}, ["LEARNING_RATE_IMAGES", "-5"]),
        ({"ROI_FEATURES": "alined"}, ["ROI_FEATURES", "'alined'", "aligned"]),
        ({"HEAD_NORM": "some"}, ["HEAD_NORM", "'some'"]),
        ({"MASK_LOSS": "dice"}, ["MASK_LOSS", "'dice'", "softmax"]),
        ({"MASK_LOSS": "softmax", "CLASS_AGNOSTIC_MASKS": True}, ["MASK_LOSS", "CLASS_AGNOSTIC"]),
        ({"FEATURE_MAPS": "c5"}, ["FEATURE_MAPS", "'c5'", "c4"]),
        ({"FEATURE_MAPS": "c4"}, ["FEATURE_MAPS = 'c4'", "[16]", "C4Config"]),
    ],
)
def test_check_names_the_value_and_the_remedy(settings, words):
    with pytest.raises(ValueError, match=re.escape(words[0])) as error:
        CellConfig.from_dict(settings).check()
    for word in words[1:]:
        assert word in str(error.value)


def test_check_refuses_more_rois_to_learn_from_than_proposals():
    config = CellConfig.from_dict({"POST_NMS_ROIS_TRAINING": 50, "MAX_GT_INSTANCES": 10})
    with pytest.raises(ValueError, match="TRAIN_ROIS_PER_IMAGE"):
        config.check()


def test_settings_survive_json():
    config = CellConfig.from_dict({"LEARNING_RATE": 0.25, "CLASS_NAMES": ("BG", "a", "b")})
    restored = Config.from_dict(json.loads(json.dumps(config.to_dict())))
    assert restored.to_dict() == config.to_dict()
    assert restored.CLASS_NAMES == ("BG", "a", "b")
    assert isinstance(restored.RPN_BBOX_STD_DEV, np.ndarray)
    assert restored.BATCH_SIZE == 8


def test_derived_settings_do_not_travel():
    assert not {"BATCH_SIZE", "IMAGE_SHAPE", "IMAGE_META_SIZE"} & set(CellConfig().to_dict())


def test_a_function_travels_as_a_text_that_builds_nothing():
    stored = CellConfig.from_dict({"BACKBONE": test_settings_survive_json}).to_dict()
    assert "test_settings_survive_json" in stored["BACKBONE"]
    with pytest.raises(ValueError, match=r"built by a function of the program.*pass BACKBONE="):
        CellConfig.from_dict(stored)
    assert CellConfig.from_dict({**stored, "BACKBONE": repr}).BACKBONE is repr


def test_unknown_names_get_the_nearest_one():
    with pytest.raises(ValueError, match=r"LERNING_RATE is not a setting.*mean LEARNING_RATE"):
        CellConfig.from_dict({"LERNING_RATE": 0.1})


def test_derived_settings_cannot_be_set():
    with pytest.raises(ValueError, match="BATCH_SIZE is not a setting"):
        CellConfig.from_dict({"BATCH_SIZE": 2})


def test_subclass_overrides_survive_changes():
    config = CellConfig.from_dict({"LEARNING_RATE": 0.5})
    assert isinstance(config, CellConfig)
    assert (config.NUM_CLASSES, config.LEARNING_RATE) == (3, 0.5)
    assert CellConfig.LEARNING_RATE == 0.001


def test_replace_keeps_what_was_set_on_the_instance():
    config = CellConfig()
    config.LEARNING_MOMENTUM = 0.5
    replaced = config.replace(SEED=7)
    assert (replaced.LEARNING_MOMENTUM, replaced.SEED, config.SEED) == (0.5, 7, 0)


def test_loss_weights_that_are_not_named_stay():
    weights = CellConfig.from_dict({"LOSS_WEIGHTS": {"mrcnn_mask_loss": 2.0}}).LOSS_WEIGHTS
    assert weights == {**dict.fromkeys(LOSSES, 1.0), "mrcnn_mask_loss": 2.0}


def test_words_are_no_numbers():
    with pytest.raises(ValueError, match=r"LEARNING_RATE must be a number.*'fast'"):
        CellConfig.from_dict({"LEARNING_RATE": "fast"})


def test_whole_numbers_become_floats_where_the_default_is_one():
    rate = CellConfig.from_dict({"LEARNING_RATE": 1}).LEARNING_RATE
    assert isinstance(rate, float)


def test_words_of_the_command_line_are_no_truth():
    assert CellConfig.from_dict({"CLASS_AGNOSTIC_MASKS": "false"}).CLASS_AGNOSTIC_MASKS is False
    assert CellConfig.from_dict({"CLASS_AGNOSTIC_MASKS": "True"}).CLASS_AGNOSTIC_MASKS is True
    with pytest.raises(ValueError, match="must be True or False, got 'no'"):
        CellConfig.from_dict({"CLASS_AGNOSTIC_MASKS": "no"})


@pytest.mark.parametrize("train_bn", [None, False, True])
def test_train_bn_has_three_values(train_bn):
    assert CellConfig.from_dict({"TRAIN_BN": train_bn}).TRAIN_BN is train_bn


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("LEARNING_RATE=0.01", ("LEARNING_RATE", 0.01)),
        ("BACKBONE=resnet50", ("BACKBONE", "resnet50")),
        (" MASK_SHAPE = [14, 14]", ("MASK_SHAPE", [14, 14])),
        ("TRAIN_BN=None", ("TRAIN_BN", None)),
        ("NAME=a=b", ("NAME", "a=b")),
        ("NAME=__import__('os')", ("NAME", "__import__('os')")),
    ],
)
def test_settings_of_the_command_line(text, expected):
    assert parse_setting(text) == expected


@pytest.mark.parametrize("text", ["LEARNING_RATE", "=3"])
def test_a_setting_without_name_or_value_is_refused(text):
    with pytest.raises(ValueError, match="NAME=VALUE"):
        parse_setting(text)


def test_display_prints_every_setting(capsys):
    CellConfig().display()
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("LEARNING_RATE", "BATCH_SIZE", "IMAGE_META_SIZE"))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("cell", "wall"), ("BG", "cell", "wall")),
        (["BG", "cell", "wall"], ("BG", "cell", "wall")),
        ((), ()),
        ({1: "cell"}, ()),
    ],
)
def test_names_of_classes_may_leave_out_the_background(names, expected, caplog):
    class Named(CellConfig):
        NUM_CLASSES = 3
        CLASS_NAMES = names

    config = Named()
    config.check()
    assert expected == config.CLASS_NAMES
    assert bool(caplog.records) == isinstance(names, dict)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [("AUGMENTATIONS", True, "list of names"), ("SEED", None, "SEED must be a whole number")],
)
def test_attributes_of_programs_that_are_settings_here_are_told(name, value, message):
    config = CellConfig()
    setattr(config, name, value)
    with pytest.raises(ValueError, match=message):
        config.check()


def test_a_name_that_is_nearly_a_setting_is_warned_about(caplog):
    class Mistyped(CellConfig):
        IMAGE_MIN_DIMM = 64
        MY_OWN_FOLDER = "data"

    Mistyped().check()
    assert [record.message for record in caplog.records] == [
        "IMAGE_MIN_DIMM is not a setting; is IMAGE_MIN_DIM meant?"
    ]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"NUM_CLASSES": 4}, (8, [256, 256, 3], 16)),
        ({"IMAGES_PER_GPU": 1}, (2, [256, 256, 3], 15)),
        ({"GPU_COUNT": 1, "IMAGES_PER_GPU": 3}, (3, [256, 256, 3], 15)),
        ({"IMAGE_MAX_DIM": 512}, (8, [512, 512, 3], 15)),
        ({"IMAGE_MIN_DIM": 128, "IMAGE_RESIZE_MODE": "crop"}, (8, [128, 128, 3], 15)),
        ({"IMAGE_RESIZE_MODE": "short_side", "IMAGE_MAX_DIM": 300}, (8, [320, 320, 3], 15)),
        ({"IMAGE_CHANNEL_COUNT": 1}, (8, [256, 256, 1], 15)),
    ],
)
def test_derived_settings_follow_changes_of_an_instance(changes, expected):
    for order in (changes.items(), reversed(changes.items())):
        config = CellConfig()
        for name, value in order:
            setattr(config, name, value)
        found = (config.BATCH_SIZE, config.IMAGE_SHAPE.tolist(), config.IMAGE_META_SIZE)
        assert found == expected
    assert CellConfig().BATCH_SIZE == 8


def test_background_is_added_to_class_names_set_on_an_instance():
    config = CellConfig()
    config.CLASS_NAMES = ["a", "b", "c"]
    config.NUM_CLASSES = 4
    assert config.CLASS_NAMES == ("BG", "a", "b", "c")
    config.check()


def test_a_batch_size_of_the_program_holds_and_is_told(caplog):
    config = CellConfig()
    config.BATCH_SIZE = 1
    config.IMAGES_PER_GPU = 2
    assert config.BATCH_SIZE == config.replace(SEED=3).BATCH_SIZE == 1
    config.check()
    assert "BATCH_SIZE was set to 1, so IMAGES_PER_GPU * GPU_COUNT (4) is not used" in caplog.text


def test_a_batch_size_that_is_the_derived_one_follows_later_changes(caplog):
    config = CellConfig()
    config.BATCH_SIZE = 8
    config.GPU_COUNT = 1
    assert config.BATCH_SIZE == 4
    config.check()
    assert not caplog.messages


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("IMAGE_SHAPE", [512, 512, 3], "IMAGE_SHAPE was set to [512, 512, 3]"),
        ("IMAGE_META_SIZE", 93, "IMAGE_META_SIZE was set to 93"),
        ("BATCH_SIZE", 0, "BATCH_SIZE must be a whole number from 1 on, got 0"),
        ("IMAGES_PER_GPU", 0, "IMAGES_PER_GPU must be a whole number from 1 on, got 0"),
        ("GPU_COUNT", 1.5, "GPU_COUNT must be a whole number from 1 on, got 1.5"),
        ("STEPS_PER_EPOCH", 0, "STEPS_PER_EPOCH must be a number of batches above 0"),
        ("STEPS_PER_EPOCH", -2, "got -2"),
        ("STEPS_PER_EPOCH", math.nan, "got nan"),
        ("STEPS_PER_EPOCH", math.inf, "got inf"),
        ("STEPS_PER_EPOCH", None, "got None"),
        ("VALIDATION_STEPS", -1, "VALIDATION_STEPS must be a number of batches"),
        ("VALIDATION_STEPS", math.nan, "VALIDATION_STEPS"),
    ],
)
def test_values_set_on_an_instance_that_cannot_hold_are_refused(name, value, words):
    config = CellConfig()
    setattr(config, name, value)
    with pytest.raises(ValueError, match=re.escape(words)):
        config.check()


def test_an_input_that_is_not_square_may_be_set_where_images_are_not_resized():
    config = CellConfig.from_dict({"IMAGE_RESIZE_MODE": "none"})
    config.IMAGE_SHAPE = (256, 512, 3)
    config.check()
    config.IMAGE_SHAPE = (256, 500, 3)
    with pytest.raises(ValueError, match="multiple of 64, got 500"):
        config.check()


def test_a_derived_setting_of_a_class_is_warned_about(caplog):
    config = type("Mine", (CellConfig,), {"BATCH_SIZE": 5})()
    config.check()
    assert config.BATCH_SIZE == 8
    assert caplog.messages == [
        "BATCH_SIZE of the class is not used: it follows from IMAGES_PER_GPU and GPU_COUNT"
    ]


@pytest.mark.parametrize(
    ("value", "steps"), [(7, 7), (2.5, 3), (0.2, 1), (np.int64(4), 4), (np.float32(1.5), 2)]
)
def test_steps_are_rounded_up(value, steps):
    config = CellConfig()
    config.STEPS_PER_EPOCH = config.VALIDATION_STEPS = value
    config.check()
    assert config.steps_per_epoch == config.validation_steps == steps
    assert config.replace(SEED=1).steps_per_epoch == steps


def test_every_setting_is_marked():
    assert set(marks(Config)) == set(Config.names())
    assert "BACKBONE" in Config.marked(Mark.NETWORK)
    assert set(Config.marked(Mark.SHAPES)) <= set(Config.marked(Mark.GRAPH))
    assert not set(Config.marked(Mark.DATA)) & set(Config.marked(Mark.TRAINING))
