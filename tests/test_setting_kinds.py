"""Every setting set to what it cannot be: refused in one line that names it, or it is meant so."""

import math

import pytest

from mrcnn.config import Config

VALUES = [None, -1, 0, math.nan, math.inf, "x", [], [None], {}, 1e9, True]


def by_class(name, value):
    return type("Own", (Config,), {"NAME": "a", "NUM_CLASSES": 3, name: value})()


def by_dict(name, value):
    return Config.from_dict({"NAME": "a", "NUM_CLASSES": 3, name: value})


def by_attribute(name, value):
    config = Config.from_dict({"NAME": "a", "NUM_CLASSES": 3})
    setattr(config, name, value)
    return config


def refusal(way, name, value) -> str | None:
    try:
        way(name, value).check()
    except ValueError as error:
        return str(error)
    return None


@pytest.mark.parametrize("way", [by_class, by_dict, by_attribute])
@pytest.mark.parametrize("name", Config.names())
def test_a_value_of_another_kind_is_refused_by_name(way, name):
    for value in VALUES:
        message = refusal(way, name, value)
        if message is not None:
            assert name in message
            assert "\n" not in message


@pytest.mark.parametrize("way", [by_class, by_dict, by_attribute])
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("LEARNING_RATE", [-1, 0, math.nan, math.inf, "x", None, True, [0.1]]),
        ("LEARNING_MOMENTUM", [1, -0.1, math.nan, "x", None]),
        ("WEIGHT_DECAY", [-1e-4, math.inf, None]),
        ("GRADIENT_CLIP_NORM", [-1, math.nan, "x"]),
        ("WARMUP_STEPS", [-1, math.nan, None]),
        ("LEARNING_RATE_DROPS", [[3, 2], [0], [-1, 2], [None], ["2"], 3]),
        ("LOSS_WEIGHTS", [{"mask_loss": 1}, {"rpn_class_loss": -1}, {"rpn_class_loss": None}, 3]),
        ("GPU_COUNT", [0, -1, 1.5, None, "2"]),
        ("IMAGES_PER_GPU", [0, None]),
        ("STEPS_PER_EPOCH", [0, -1, None, math.inf]),
        ("BACKBONE_STRIDES", [[0, 8, 16, 32, 64], [], [None], None]),
        ("RPN_ANCHOR_SCALES", [(math.nan,) * 5, (), None]),
        ("NUM_CLASSES", [None, "x", 0, []]),
        ("WORKERS", [-1, 1.5, None, math.inf]),
        ("HAS_MASKS", [None, "x", 2, []]),
    ],
)
def test_settings_that_cannot_work_are_refused(way, name, values):
    for value in values:
        message = refusal(way, name, value)
        assert message is not None, value
        assert name in message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GRADIENT_CLIP_NORM", None),
        ("GRADIENT_CLIP_NORM", 0),
        ("LEARNING_MOMENTUM", 0),
        ("LEARNING_RATE_DROPS", [30, 36.5]),
        ("LOSS_WEIGHTS", {"mrcnn_mask_loss": 0}),
        ("TRAIN_BN", None),
        ("USE_MINI_MASK", 0),
        ("VALIDATION_STEPS", None),
        ("WORKERS", 0),
    ],
)
def test_settings_that_work_are_taken(name, value):
    for way in (by_class, by_dict, by_attribute):
        assert refusal(way, name, value) is None
