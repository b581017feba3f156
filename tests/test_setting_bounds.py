import json
import math

import numpy as np
import pytest

from mrcnn import setting_bounds
from mrcnn.config import Config

CASES = [
    ("BACKBONE_WIDTH", 1_000_000),
    ("BACKBONE_WIDTH", 0),
    ("BACKBONE_WIDTH", 64.5),
    ("NUM_CLASSES", 1_000_000_000),
    ("NUM_CLASSES", math.nan),
    ("IMAGE_MAX_DIM", 1_000_000_000),
    ("IMAGE_MIN_DIM", -1),
    ("IMAGE_MIN_SCALE", math.inf),
    ("RPN_ANCHOR_SCALES", [32] * 1_000_000),
    ("RPN_ANCHOR_SCALES", [[32] * 1_000_000]),
    ("RPN_ANCHOR_SCALES", ["32"]),
    ("RPN_ANCHOR_RATIOS", [0]),
    ("BACKBONE_STRIDES", []),
    ("BACKBONE_STRIDES", [4, None]),
    ("MEAN_PIXEL", [math.nan] * 3),
    ("PIXEL_STD", [0]),
    ("MASK_SHAPE", [28, 10**9]),
    ("CLASS_NAMES", ["x" * 2_000]),
    ("CLASS_NAMES", ["x"] * 200_000),
    ("KEYPOINT_PAIRS", [1]),
    ("KEYPOINT_PAIRS", [[0, "b"]]),
    ("LOSS_WEIGHTS", {"rpn_class_loss": "much"}),
    ("CONVENTIONS", ["matterport"]),
    ("BACKBONE", {"name": "resnet50"}),
    ("NAME", 3),
    ("NAME", "../../evil"),
    ("NAME", "a/b"),
    ("NAME", "a\\b"),
    ("NAME", ".hidden"),
    ("NAME", "~root"),
    ("NAME", "a\nb"),
    ("NAME", "a{epoch.__class__}"),
    ("NAME", "x" * 300),
]


@pytest.mark.parametrize(("name", "value"), CASES)
def test_what_no_network_can_have_is_refused_where_it_enters(name, value):
    with pytest.raises(ValueError, match=f"^{name} ") as error:
        Config.from_dict({"NAME": "a", **{name: value}})
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(("name", "value"), [("NAME", "../evil"), ("NUM_CLASSES", 10**9)])
def test_the_same_holds_for_attributes_of_a_class(name, value):
    with pytest.raises(ValueError, match=f"^{name} "):
        type("Own", (Config,), {"NAME": "a", name: value})().check()


def test_names_that_people_give():
    for name in ("shapes", "Zellkerne 2", "a.b-c_d", "\u7ec6\u80de"):
        setting_bounds.check({"NAME": name})


def test_every_setting_has_its_own_value_within_the_bounds():
    setting_bounds.check({name: getattr(Config, name) for name in Config.names()})
    assert set(setting_bounds.KINDS) <= set(Config.names())


@pytest.mark.parametrize("value", [{"a": 1}, "much", [[1], [2, 3]]])
def test_numbers_that_are_none(value):
    with pytest.raises(ValueError, match="MEAN_PIXEL must be numbers"):
        Config.from_dict(json.loads(json.dumps({"MEAN_PIXEL": value})))


def test_numbers_of_numpy_are_numbers():
    setting_bounds.check({"NUM_CLASSES": np.int64(3), "IMAGE_MIN_SCALE": np.float32(0.5)})
