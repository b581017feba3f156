"""The whole network against Matterport's own, on weights that are functions of their names."""

import math
import zlib
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import GOLDEN

from mrcnn import model as modellib
from mrcnn import utils
from mrcnn.config import Config
from mrcnn.evaluation.matterport import overlaps_of_masks
from mrcnn.geometry import boxes as box_math
from mrcnn.model import MaskRCNN
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
IMAGE_PARTS = ("image", "window", "scale", "pad")
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


def outputs(
    name: str, which: int, folder: Path
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], MaskRCNN]:
    """Return our outputs and Matterport's by name, and the network."""
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
    facade = MaskRCNN("inference", config, folder)
    model = facade.keras_model
    inner = inner_names(which)
    for key, weight in hdf5.weights_by_name(model).items():
        layer, leaf = key.split("/")
        weight.assign(seeded(inner.get(layer, layer), leaf, tuple(weight.shape)).astype("f"))
    with np.load(GOLDEN / f"matterport_{name}.npz") as arrays:
        expected = dict(arrays)
    levels = [model.get_layer(level).output for level in PYRAMID]
    whole = keras.Model(model.inputs, [*model.outputs, *levels])
    inputs = [expected["molded"].astype("f"), expected["image_meta"].astype("f")]
    arrays = whole.predict_on_batch([*inputs, expected["anchors"][None]])
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
    found = dict(zip(names, arrays, strict=True))
    for level in PYRAMID[:3]:
        found[level] = found[level][:, ::8, ::8]
    return found, expected, facade


def run(name: str, which: int, folder: Path) -> tuple[dict[str, np.ndarray], ...]:
    """Return our outputs and Matterport's by name, and what our `detect` returns."""
    found, expected, facade = outputs(name, which, folder)
    return found, expected, facade.detect([expected["image"]])[0]


@pytest.fixture(scope="module")
def resnet50(tmp_path_factory):
    return run("resnet50", 0, tmp_path_factory.mktemp("resnet50"))


@pytest.fixture(scope="module")
def resnet101(tmp_path_factory):
    found, expected, detected = run("resnet101", 1, tmp_path_factory.mktemp("resnet101"))
    # Scores that differ by less than rounding stand in an order that the processor decides.
    order = places_of(expected["rois"][0], found["rois"][0])
    assert np.abs(order - np.arange(len(order))).max() <= 3
    for name in ("rois", "mrcnn_class", "mrcnn_bbox"):
        found[name] = found[name][:, order]
    return found, expected, detected


def places_of(rois: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Return where each of the rois (N, 4) stands among others (N, 4), which all occur once."""
    order = np.abs(rois[:, None] - among[None]).max(axis=-1).argmin(axis=1)
    assert len(set(order.tolist())) == len(order)
    return order


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
def test_resnet50_is_matterports(resnet50, name, assert_as_golden):
    found, expected, _ = resnet50
    assert_as_golden(f"resnet50 {name}", found[name], expected[name], 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*PYRAMID, "rpn_class", "rpn_bbox", "rois"])
def test_first_stage_of_resnet101_is_matterports(resnet101, name, assert_as_golden):
    found, expected, _ = resnet101
    assert_as_golden(f"resnet101 {name}", found[name], expected[name], 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mrcnn_class", "mrcnn_bbox"])
def test_heads_of_resnet101_are_matterports_but_for_rounding(resnet101, name, assert_as_golden):
    found, expected, _ = resnet101
    # The last sample of a roi that ends at the border is 0 if rounding puts it beyond the map.
    is_near = np.isclose(found[name][0], expected[name][0], atol=1e-4)
    is_near = is_near.reshape(1000, -1).all(axis=1)
    assert is_near.sum() >= 998
    assert (expected["rois"][0, ~is_near, 2:] == 1).any(axis=1).all()
    label = f"resnet101 {name}, {is_near.sum()} of 1000 rois"
    assert_as_golden(label, found[name][0, is_near], expected[name][0, is_near], 1e-4)


@pytest.mark.slow
def test_detections_of_resnet101_are_matterports_but_for_rounding(resnet101):
    found, expected = (results["detections"][0] for results in resnet101[:2])
    count = (expected[:, 4] > 0).sum()
    distance = np.abs(found[:, None] - expected[None, :count]).max(axis=-1)
    assert (distance.min(axis=0) < 1e-4).sum() >= count - 1


@pytest.mark.parametrize(
    ("model", "strays"), [("resnet50", 0), pytest.param("resnet101", 1, marks=pytest.mark.slow)]
)
def test_detect_is_matterports(model, strays, request, assert_as_golden):
    _, expected, found = request.getfixturevalue(model)
    rois, scores = expected["detect_rois"], expected["detect_scores"]
    # Near-equal scores may stand in another order, so each is looked for by box and class.
    same = (found["rois"][:, None] == rois).all(axis=-1)
    same &= found["class_ids"][:, None] == expected["detect_class_ids"]
    theirs = np.flatnonzero(same.any(axis=0))
    ours = same.argmax(axis=0)[theirs]
    assert len(theirs) >= len(rois) - strays
    assert len(found["rois"]) == len(rois)
    assert_as_golden(f"{model} detect scores", found["scores"][ours], scores[theirs], 1e-4)
    shape = expected["detect_masks_shape"]
    masks = np.unpackbits(expected["detect_masks"], axis=0)[: shape[0]].astype(bool)
    lack = 1 - np.diag(overlaps_of_masks(found["masks"][..., ours], masks[..., theirs]))
    is_empty = ~masks[..., theirs].any(axis=(0, 1))
    np.testing.assert_array_equal(~found["masks"][..., ours].any(axis=(0, 1)), is_empty)
    label = f"{model} detect, 1 - IoU of {(~is_empty).sum()} masks"
    assert_as_golden(label, lack[~is_empty], np.zeros((~is_empty).sum()), 1e-2)


def test_anchors_are_matterports_at_256():
    with np.load(GOLDEN / "matterport_resnet50.npz") as arrays:
        expected = arrays["anchors"]
    config = Config()
    anchors = network.pixel_anchors(config, (256, 256))
    np.testing.assert_allclose(box_math.normalize(anchors, (256, 256)), expected, atol=1e-6)


def small_config(**settings) -> Config:
    return Config.from_dict({"NAME": "golden", "NUM_CLASSES": 5, **settings})


def test_roi_align_is_matterports(matterport_network, assert_as_golden):
    maps = [matterport_network[f"roi_fm{i}"] for i in range(4)]
    for size in (7, 14):
        layer = modellib.PyramidROIAlign([size, size])
        crops = layer([matterport_network["roi_boxes"], matterport_network["roi_meta"], *maps])
        assert_as_golden(
            f"PyramidROIAlign {size}", crops, matterport_network[f"roi_align_{size}"], 1e-5
        )


def test_proposals_are_matterports(matterport_network, assert_as_golden):
    probs = np.stack(
        [1 - matterport_network["prop_probs"], matterport_network["prop_probs"]], axis=-1
    )
    layer = modellib.ProposalLayer(200, 0.7, config=small_config())
    found = layer([probs, matterport_network["prop_deltas"], matterport_network["prop_anchors"]])
    assert_as_golden("ProposalLayer", found, matterport_network["proposals"], 1e-5)


def test_detections_are_matterports(matterport_network, assert_as_golden):
    inputs = [
        matterport_network[name] for name in ("det_rois", "det_probs", "det_deltas", "roi_meta")
    ]
    found = modellib.DetectionLayer(small_config())(inputs)
    assert_as_golden("DetectionLayer", found, matterport_network["detections"], 1e-5)


def test_detections_of_one_image_are_those_of_the_layer(matterport_network):
    config, meta = small_config(), matterport_network["roi_meta"]
    fields = utils.norm_boxes(meta[1, 7:11], (int(meta[1, 4]), int(meta[1, 5])))
    rows = [matterport_network[name][1] for name in ("det_rois", "det_probs", "det_deltas")]
    found = modellib.refine_detections_graph(*rows, fields, config)
    np.testing.assert_allclose(found, matterport_network["detections"][1], atol=1e-5)


def test_losses_are_matterports(matterport_network, assert_as_golden):
    masks = np.unpackbits(matterport_network["l_tm"]).reshape(2, 64, 28, 28).astype(np.float32)
    # Matterport takes the annotated classes of the first image for the whole batch; we do not.
    active = np.repeat(matterport_network["l_act"][:1], 2, axis=0)
    losses = {
        "rpn_class": modellib.rpn_class_loss_graph(
            matterport_network["l_rm"], matterport_network["l_rl"]
        ),
        "rpn_bbox": modellib.rpn_bbox_loss_graph(
            small_config(),
            matterport_network["l_rt"],
            matterport_network["l_rm"],
            matterport_network["l_rb"],
        ),
        "class": modellib.mrcnn_class_loss_graph(
            matterport_network["l_tci"], matterport_network["l_logit"], active
        ),
        "bbox": modellib.mrcnn_bbox_loss_graph(
            matterport_network["l_tb"], matterport_network["l_tci"], matterport_network["l_pb"]
        ),
        "mask": modellib.mrcnn_mask_loss_graph(
            masks, matterport_network["l_tci"], matterport_network["l_pm"].astype(np.float32)
        ),
    }
    for name, loss in losses.items():
        assert_as_golden(f"loss {name}", loss, matterport_network[f"loss_{name}"], 1e-5)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("square", {"min_dim": 128, "max_dim": 256}),
        ("big", {"min_dim": 256, "max_dim": 256}),
        ("pad64", {"min_dim": 128, "min_scale": 1.2, "mode": "pad64"}),
        ("none", {"mode": "none"}),
    ],
)
def test_resized_images_are_matterports(matterport_geometry, name, options, assert_as_golden):
    image, window, scale, padding, crop = utils.resize_image(
        matterport_geometry["util_image"], **options
    )
    expected = {key: matterport_geometry[f"resize_{name}_{key}"] for key in IMAGE_PARTS}
    # Where order 1 lands on a whole number, rounding truncates it to that or the one below.
    assert_as_golden(f"resize_image {name}", image, expected["image"], 1)
    assert np.mean(image != expected["image"]) < 1e-3
    np.testing.assert_array_equal(window, expected["window"])
    np.testing.assert_allclose(scale, expected["scale"])
    np.testing.assert_array_equal(padding, expected["pad"])
    assert crop is None


def test_masks_and_boxes_are_matterports(matterport_geometry):
    boxes = utils.extract_bboxes(matterport_geometry["util_masks"])
    np.testing.assert_array_equal(boxes, matterport_geometry["extract_bboxes"])
    mini = utils.minimize_mask(boxes, matterport_geometry["util_masks"], (56, 56))
    np.testing.assert_array_equal(mini, matterport_geometry["minimize_mask"])
    full = utils.expand_mask(boxes, mini, (90, 120))
    np.testing.assert_array_equal(full, matterport_geometry["expand_mask"])
    pasted = utils.unmold_mask(
        matterport_geometry["unmold_in"], np.array([10, 20, 70, 95]), (90, 120)
    )
    np.testing.assert_array_equal(pasted, matterport_geometry["unmold_out"])


def test_overlaps_are_matterports(matterport_network, assert_as_golden):
    found = utils.compute_overlaps(matterport_network["iou_a"], matterport_network["iou_b"])
    assert_as_golden("compute_overlaps", found, matterport_network["iou"], 1e-6)


def test_pyramid_anchors_are_matterports(matterport_network, assert_as_golden):
    config = small_config(IMAGE_MIN_DIM=512, IMAGE_MAX_DIM=512)
    found = utils.generate_pyramid_anchors(
        config.RPN_ANCHOR_SCALES,
        config.RPN_ANCHOR_RATIOS,
        modellib.compute_backbone_shapes(config, config.IMAGE_SHAPE),
        config.BACKBONE_STRIDES,
        config.RPN_ANCHOR_STRIDE,
    )
    assert_as_golden("generate_pyramid_anchors", found, matterport_network["anchors_px"], 1e-3)


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
    model = network.Network(config).inference
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
