"""The whole network against Matterport's own, on weights that are functions of their names."""

import math
import zlib

import keras
import numpy as np
import pytest
from conftest import GOLDEN

from mrcnn.config import Config
from mrcnn.geometry import anchors as anchor_grid
from mrcnn.geometry import boxes as box_math
from mrcnn.network import network
from mrcnn.weights import hdf5

SMALL_GAIN = ("rpn_class_raw", "rpn_bbox_pred", "mrcnn_class_logits", "mrcnn_bbox_fc")
# Heads in the order in which Keras 2 numbered the layers inside their wrappers.
INNER = {
    "conv2d": (
        "mrcnn_class_conv1",
        "mrcnn_class_conv2",
        *(f"mrcnn_mask_conv{i}" for i in range(1, 5)),
        "mrcnn_mask",
    ),
    "batch_norm": (
        "mrcnn_class_bn1",
        "mrcnn_class_bn2",
        *(f"mrcnn_mask_bn{i}" for i in range(1, 5)),
    ),
    "dense": ("mrcnn_class_logits", "mrcnn_bbox_fc"),
    "conv2d_transpose": ("mrcnn_mask_deconv",),
}
PYRAMID = ("fpn_p2", "fpn_p3", "fpn_p4", "fpn_p5", "fpn_p6")


def inner_names(which: int) -> dict[str, str]:
    """Return the inner names of the heads of the peer's first (0) or second (1) model."""
    numbered = {
        layer: (kind, which * len(layers) + number)
        for kind, layers in INNER.items()
        for number, layer in enumerate(layers)
    }
    return {layer: f"{kind}_{n}" if n else kind for layer, (kind, n) in numbered.items()}


def seeded(layer: str, leaf: str, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(zlib.crc32(f"{layer}/{leaf}:0".encode()))
    if leaf == "kernel":
        gain = 0.2 if layer in SMALL_GAIN else 1.0
        return gain * rng.standard_normal(shape) / math.sqrt(math.prod(shape[:-1]))
    if leaf == "bias":
        return 0.05 * rng.standard_normal(shape)
    if leaf == "gamma":
        return rng.uniform(0.5, 1.0, shape)
    if leaf in ("beta", "moving_mean"):
        return 0.1 * rng.standard_normal(shape)
    return (2500 if layer == "bn_conv1" else 1) * rng.uniform(0.5, 1.5, shape)


def run(name: str, which: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return our outputs and Matterport's by name."""
    config = Config.from_dict(
        {
            "NAME": "golden",
            "NUM_CLASSES": 5,
            "BACKBONE": name,
            "IMAGE_MIN_DIM": 256,
            "IMAGE_MAX_DIM": 256,
            "DETECTION_MIN_CONFIDENCE": 0.0,
        }
    )
    model = network.build(config).inference
    inner = inner_names(which)
    for key, weight in hdf5.weights_by_name(model).items():
        layer, leaf = key.split("/")
        weight.assign(seeded(inner.get(layer, layer), leaf, tuple(weight.shape)).astype("f"))
    with np.load(GOLDEN / f"matterport_{name}.npz") as arrays:
        expected = dict(arrays)
    levels = [model.get_layer(level).output for level in PYRAMID]
    whole = keras.Model(model.inputs, [*model.outputs, *levels])
    inputs = [expected["molded"].astype("f"), expected["image_meta"].astype("f")]
    outputs = whole.predict_on_batch([*inputs, expected["anchors"][None]])
    names = (
        "detections",
        "mrcnn_class",
        "mrcnn_bbox",
        "mrcnn_mask",
        "rois",
        "rpn_class",
        "rpn_bbox",
        *PYRAMID,
    )
    found = dict(zip(names, outputs, strict=True))
    for level in PYRAMID[:3]:
        found[level] = found[level][:, ::8, ::8]
    return found, expected


@pytest.fixture(scope="module")
def resnet50():
    return run("resnet50", which=0)


@pytest.fixture(scope="module")
def resnet101():
    return run("resnet101", which=1)


def assert_equal_to_matterport(results: tuple[dict, dict], name: str) -> None:
    found, expected = results
    np.testing.assert_allclose(found[name], expected[name], atol=1e-4)


@pytest.mark.parametrize(
    "name",
    [
        *PYRAMID,
        "rpn_class",
        "rpn_bbox",
        "rois",
        "mrcnn_class",
        "mrcnn_bbox",
        "mrcnn_mask",
        "detections",
    ],
)
def test_resnet50_is_matterports(resnet50, name):
    assert_equal_to_matterport(resnet50, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*PYRAMID, "rpn_class", "rpn_bbox", "rois"])
def test_first_stage_of_resnet101_is_matterports(resnet101, name):
    assert_equal_to_matterport(resnet101, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mrcnn_class", "mrcnn_bbox"])
def test_heads_of_resnet101_are_matterports_but_for_rounding(resnet101, name):
    found, expected = resnet101
    # The last sample of a roi that ends at the border is 0 if rounding puts it beyond the map.
    is_near = np.isclose(found[name][0], expected[name][0], atol=1e-4)
    is_near = is_near.reshape(1000, -1).all(axis=1)
    assert is_near.sum() >= 998
    assert (expected["rois"][0, ~is_near, 2:] == 1).any(axis=1).all()


@pytest.mark.slow
def test_detections_of_resnet101_are_matterports_but_for_rounding(resnet101):
    found, expected = (results["detections"][0] for results in resnet101)
    count = (expected[:, 4] > 0).sum()
    distance = np.abs(found[:, None] - expected[None, :count]).max(axis=-1)
    assert (distance.min(axis=0) < 1e-4).sum() >= count - 1


def test_detections_become_matterports_pixels(resnet50):
    found, expected = resnet50
    boxes = box_math.to_image(
        found["detections"][0, :, :4], expected["window"][0], (200, 256), (256, 256)
    )
    np.testing.assert_array_equal(boxes, expected["detect_rois"])


def test_anchors_are_matterports_at_256():
    with np.load(GOLDEN / "matterport_resnet50.npz") as arrays:
        expected = arrays["anchors"]
    config = Config()
    anchors = anchor_grid.pyramid_anchors(
        config.RPN_ANCHOR_SCALES, config.RPN_ANCHOR_RATIOS, (256, 256), config.BACKBONE_STRIDES
    )
    np.testing.assert_allclose(box_math.normalize(anchors, (256, 256)), expected, atol=1e-6)


@pytest.mark.parametrize("name", ["resnet50", pytest.param("resnet101", marks=pytest.mark.slow)])
def test_weights_have_matterports_layers_names_and_shapes(matterport_layouts, name):
    config = Config.from_dict(
        {
            "NAME": "golden",
            "NUM_CLASSES": 5,
            "BACKBONE": name,
            "IMAGE_MIN_DIM": 128,
            "IMAGE_MAX_DIM": 128,
        }
    )
    model = network.build(config).inference
    ours = {key: list(w.shape) for key, w in hdf5.weights_by_name(model).items()}
    # The peer numbered the layers of its second model: conv1/conv1_1/kernel:0.
    suffix = "" if name == "resnet50" else "_1"
    theirs = {}
    for group, weights in matterport_layouts[name].items():
        for path, shape in weights:
            layer, leaf = path.split("/")
            assert group in (layer.removesuffix(suffix), "rpn_model")
            theirs[f"{layer.removesuffix(suffix)}/{leaf.removesuffix(':0')}"] = shape
    assert ours == theirs
    assert len(matterport_layouts[name]) == {"resnet50": 131, "resnet101": 233}[name]
    groups = [layer.name for layer in model.layers if layer.weights]
    assert sorted(groups) == sorted(matterport_layouts[name])
