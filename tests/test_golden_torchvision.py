"""torchvision's own outputs on seeded weights: each piece alone, and whole models from the image.

Weights are functions of their names (`seeded`), so that none are stored.
"""

import functools
import json
import zlib
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from mrcnn import presets
from mrcnn.geometry import anchors, boxes, keypoints, pasting
from mrcnn.model import MaskRCNN
from mrcnn.network.layers import roi_align as roi_align_layer
from mrcnn.network.ops import backend, roi_align, roi_pool
from mrcnn.weights import hdf5, torchvision

GOLDEN = Path(__file__).parent / "golden"
STD_DEV = np.array([0.1, 0.1, 0.2, 0.2])
LARGEST = np.log(1000 / 16)
MODELS = {
    "maskrcnn_resnet50_fpn": presets.TorchvisionConfig,
    "maskrcnn_resnet50_fpn_v2": presets.TorchvisionV2Config,
    "keypointrcnn_resnet50_fpn": presets.TorchvisionKeypointConfig,
}


def by_y(array: np.ndarray) -> np.ndarray:
    """Return boxes of (x, y) as boxes of (y, x)."""
    return array[..., [1, 0, 3, 2]]


def channels_last(array: np.ndarray) -> np.ndarray:
    return np.moveaxis(array, 1, -1)


@pytest.fixture(scope="module")
def units():
    with np.load(GOLDEN / "torchvision_units.npz") as arrays:
        return dict(arrays)


def assert_roi_align(units, take, half_pixel, samples, compare, name, atol):
    rows = units["ra_boxes"]
    found = take(
        ops.convert_to_tensor(channels_last(units["ra_features"])),
        ops.convert_to_tensor(by_y(rows[:, 1:]) * np.float32(0.25)),
        ops.convert_to_tensor(rows[:, 0].astype(np.int32)),
        (7, 7),
        samples,
        half_pixel=half_pixel,
    )
    expected = channels_last(units[f"ra_aligned{int(half_pixel)}_sr{samples or -1}"])
    compare(f"{name} aligned={half_pixel} {samples}", found, expected, atol)


@pytest.mark.parametrize("samples", [1, 2, 4, None])
@pytest.mark.parametrize("half_pixel", [False, True])
def test_roi_align(units, half_pixel, samples, assert_as_golden):
    take = roi_align.sampled
    assert_roi_align(units, take, half_pixel, samples, assert_as_golden, "roi_align", 1e-5)


@pytest.mark.parametrize("samples", [1, 2, 4])
@pytest.mark.parametrize("half_pixel", [False, True])
def test_roi_align_by_crops(units, half_pixel, samples, assert_as_golden):
    # Places are rounded once more on their way through fractions of the map.
    assert_roi_align(units, roi_align.crop, half_pixel, samples, assert_as_golden, "crops", 1e-4)


def test_roi_pool(units, assert_as_golden):
    rows = units["ra_boxes"]
    found = roi_pool.pool(
        ops.convert_to_tensor(channels_last(units["ra_features"])),
        ops.convert_to_tensor(by_y(rows[:, 1:]) * np.float32(0.25)),
        ops.convert_to_tensor(rows[:, 0].astype(np.int32)),
        (7, 7),
    )
    assert_as_golden("roi_pool", found, channels_last(units["roi_pool"]), 1e-5)


@pytest.mark.parametrize("size", [7, 14])
def test_features_over_the_pyramid(units, size, assert_as_golden):
    maps = [channels_last(units[f"msra_fm{level}"]) for level in range(4)]
    boxes = by_y(units["msra_boxes"])[None] / np.float32(512)
    expected = channels_last(units[f"msra_{size}"])

    record = np.zeros((1, 15), np.float32)
    record[:, 4:6] = 512
    layer = roi_align_layer.PyramidROIAlign(
        (size, size), form="unaligned", floors_level=True, inclusive=False
    )
    found = layer([boxes, record, *maps])[0]
    assert_as_golden(f"MultiScaleRoIAlign {size} by crops", found, expected, 1e-4)

    chosen = roi_align_layer.levels(boxes, 512.0 * 512.0, floors=True)[0] - layer.finest_level
    found = roi_align.features(
        [ops.convert_to_tensor(features) for features in maps],
        ops.convert_to_tensor(boxes[0]),
        ops.zeros(len(boxes[0]), "int32"),
        chosen,
        (size, size),
        form="unaligned",
        aligned=roi_align.sampled,
    )
    assert_as_golden(f"MultiScaleRoIAlign {size}", found, expected, 1e-5)


def test_roi_align_worked_by_hand_in_detectron2():
    features = np.arange(25, dtype=np.float32).reshape(1, 5, 5, 1)
    for half_pixel, first in ((True, [4.5, 5, 5.5, 6]), (False, [7.5, 8, 8.5, 9])):
        for take in (roi_align.sampled, roi_align.crop):
            found = take(
                ops.convert_to_tensor(features),
                ops.convert_to_tensor([[1.0, 1.0, 3.0, 3.0]]),
                ops.zeros(1, "int32"),
                (4, 4),
                2,
                half_pixel=half_pixel,
            )
            np.testing.assert_allclose(np.asarray(found)[0, 0, :, 0], first, rtol=1e-6)


def test_anchors(units, assert_as_golden):
    grids = [(256 // stride, 320 // stride) for stride in (4, 8, 16, 32, 64)]
    found = anchors.pyramid_anchors(
        presets.TorchvisionConfig.RPN_ANCHOR_SCALES,
        presets.TorchvisionConfig.RPN_ANCHOR_RATIOS,
        grids,
        (4, 8, 16, 32, 64),
        whole=True,
    )
    assert_as_golden("anchors", found, by_y(units["anchors_256x320"]), 1e-5)


def test_box_coder(units, assert_as_golden):
    proposals = by_y(units["bc_prop"])
    deltas = boxes.encode(proposals, by_y(units["bc_ref"])) / STD_DEV
    expected = by_y(units["bc_encoded"])
    # Some are in the hundreds, where float32 itself has no fifth decimal.
    assert_as_golden("encode, relative", deltas / expected, np.ones_like(expected), 1e-5)
    deltas = by_y(units["bc_rel"].reshape(-1, 3, 4)) * STD_DEV
    found = boxes.decode(proposals[:, None], deltas, largest_log_scale=LARGEST)
    expected = by_y(units["bc_decoded"])
    scale = np.abs(expected).max()
    assert_as_golden("decode, relative", found / scale, expected / scale, 1e-5)


@pytest.mark.parametrize(("name", "threshold"), [("nms_05", 0.5), ("nms_07", 0.7)])
def test_suppression(units, name, threshold):
    found = backend.operations().kept_rows(
        by_y(units["nms_boxes"]), units["nms_scores"], 400, threshold
    )
    np.testing.assert_array_equal(found, units[name])


def test_suppression_by_class(units, assert_as_golden):
    classes = np.eye(units["nms_classes"].max() + 1, dtype=np.float32)[units["nms_classes"]]
    found, scores, _ = backend.operations().suppress(
        ops.convert_to_tensor(by_y(units["nms_boxes"])[None, :, None]),
        ops.convert_to_tensor((classes * units["nms_scores"][:, None])[None]),
        400,
        0.5,
    )
    kept = units["nms_batched_05"]
    assert int((np.asarray(scores) > 0).sum()) == len(kept)
    found = np.asarray(found)[0, : len(kept)]
    assert_as_golden("batched_nms", found, by_y(units["nms_boxes"][kept]), 1e-5)


def test_iou(units, assert_as_golden):
    rows = units["nms_boxes"]
    assert_as_golden("box_iou", boxes.iou(rows[:30], rows[30:70]), units["iou"], 1e-6)


def test_masks_are_pasted_alike(units, assert_as_golden):
    found = pasting.paste(
        units["paste_masks"][:, 0], by_y(units["paste_boxes"]), (150, 160), None, "padded"
    )
    expected = units["pasted"][:, 0].astype(np.float32)
    assert_as_golden("paste_masks_in_image", np.moveaxis(found, -1, 0), expected, 1e-3)


def test_keypoints_are_decoded_alike(units, assert_as_golden):
    heatmaps = channels_last(units["kp_heatmaps"].astype(np.float32))
    found = keypoints.decode(heatmaps, by_y(units["kp_boxes"]))
    expected = units["kp_xy"][..., [1, 0]]
    assert_as_golden("heatmaps_to_keypoints", found[..., :2], expected, 1e-3)
    assert_as_golden("their scores", found[..., 2], units["kp_scores"], 1e-3)


def seeded(key: str, shape: list[int]) -> np.ndarray:
    """Return an array of a state dict, as the golden models were given it."""
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    leaf = key.rpartition(".")[2]
    if leaf == "weight" and len(shape) > 1:
        gain = 0.2 if "bbox_pred" in key else 4 if "cls_score" in key else 1
        return (gain * rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype("f")
    if leaf in ("weight", "running_var"):
        return rng.uniform(0.5, 1.0 if leaf == "weight" else 1.5, shape).astype("f")
    return ((0.05 if leaf == "bias" else 0.1) * rng.standard_normal(shape)).astype("f")


class Whole:
    """A model on seeded weights, with what torchvision's had at each step."""

    def __init__(self, name: str) -> None:
        shapes = json.loads((GOLDEN / "torchvision_state_dicts.json").read_text())[name]
        state = {key: seeded(key, shape) for key, shape in shapes.items()}
        with np.load(GOLDEN / f"torchvision_{name}.npz") as arrays:
            self.golden = dict(arrays)
        config = MODELS[name]().replace(
            NAME="golden",
            NUM_CLASSES=2 if "keypoint" in name else 5,
            IMAGE_MIN_DIM=256,
            IMAGE_MAX_DIM=320,
            DETECTION_MIN_CONFIDENCE=0,
            DETECTION_MAX_INSTANCES=50,
        )
        self.model = MaskRCNN("inference", config, "logs")
        arrays, self.unknown = torchvision.by_layer(state)
        self.report = hdf5.assign(name, arrays, self.model.inference_model)
        self.molded, self.meta = self.model.predictor.mold(self.golden["image"])
        self.name = name.removesuffix("_resnet50_fpn").replace("_resnet50_fpn", "")
        self.outputs = self.run()

    @functools.cached_property
    def detected(self) -> dict[str, np.ndarray]:
        """What `detect` returns, as it is: traced."""
        (found,) = self.model.detect([self.golden["image"]])
        return found

    def nearest(self, found: dict[str, np.ndarray]) -> np.ndarray:
        """Return the detection that is nearest to each of torchvision's, of the same class."""
        apart = np.abs(found["boxes"][:, None] - by_y(self.golden["out_boxes"])).max(axis=-1)
        is_other = found["class_ids"][:, None] != self.golden["out_labels"]
        return (apart + 1e3 * is_other).argmin(axis=0)

    def run(self) -> dict[str, np.ndarray]:
        graph = self.model.inference_model
        names = {layer.name for layer in graph.layers}
        outputs = {
            f"fpn_p{level}": graph.get_layer(
                f"fpn_p{level}_bn" if f"fpn_p{level}_bn" in names else f"fpn_p{level}"
            ).output
            for level in range(2, 7)
        }
        outputs |= {
            "detections": graph.get_layer("mrcnn_detection").output,
            "rois": graph.get_layer("ROI").output,
            "probs": graph.get_layer("rpn_class").output,
            "deltas": graph.get_layer("rpn_bbox").output,
        }
        if "pad_masks" in names:
            outputs["masks"] = graph.get_layer("pad_masks").output
        anchors = self.model.predictor.anchors(self.molded.shape[:2])
        inputs = [self.molded[None], self.meta[None], anchors[None]]
        found = keras.Model(graph.inputs, outputs).predict_on_batch(inputs)
        return {key: np.asarray(array) for key, array in found.items()}


@pytest.fixture(scope="module", params=sorted(MODELS))
def whole(request) -> Whole:
    return Whole(request.param)


def test_every_weight_finds_its_place(whole):
    assert whole.unknown == whole.report.missing == whole.report.skipped == []


def test_image_enters_alike(whole, assert_as_golden):
    expected = channels_last(whole.golden["transformed"])[0]
    assert_as_golden(f"{whole.name} transformed", whole.molded, expected, 1e-5)


@pytest.mark.parametrize("level", [2, 3, 4, 5, 6])
def test_pyramid(whole, level, assert_as_golden):
    key = "feature_pool" if level == 6 else f"feature_{level - 2}"
    found = whole.outputs[f"fpn_p{level}"][:, ::4, ::4]
    assert_as_golden(f"{whole.name} fpn_p{level}", found, channels_last(whole.golden[key]), 1e-3)


def test_rpn(whole, assert_as_golden):
    probs, deltas = whole.outputs["probs"][0].astype(np.float64), whole.outputs["deltas"][0]
    start = 0
    for level in range(5):
        expected = whole.golden[f"rpn_obj_{level}"]
        _, count, height, width = expected.shape
        rows = slice(start, start + count * height * width)
        start = rows.stop
        logits = np.log(probs[rows, 1] / probs[rows, 0]).reshape(height, width, count)
        expected = np.moveaxis(expected[0], 0, -1)
        assert_as_golden(f"{whole.name} objectness {level}", logits, expected, 1e-3)
        found = by_y(deltas[rows].reshape(height, width, count, 4))[::2, ::2]
        expected = np.moveaxis(whole.golden[f"rpn_reg_{level}"][0], 0, -1)
        found = found.reshape(expected.shape)
        assert_as_golden(f"{whole.name} rpn deltas {level}", found, expected, 1e-3)


def test_proposals(whole, assert_as_golden):
    found = whole.outputs["rois"][0] * np.tile(whole.molded.shape[:2], 2)
    expected = by_y(whole.golden["proposals"])
    # Near-equal scores may change places.
    nearest = np.abs(found[:, None] - expected).max(axis=-1).argmin(axis=0)
    assert len(set(nearest.tolist())) == len(expected)
    assert_as_golden(f"{whole.name} proposals, px", found[nearest], expected, 0.05)


def test_detections(whole, assert_as_golden):
    found = whole.detected
    assert len(found["scores"]) == len(whole.golden["out_scores"])
    nearest = whole.nearest(found)
    assert len(set(nearest.tolist())) == len(nearest)
    expected = by_y(whole.golden["out_boxes"])
    assert_as_golden(f"{whole.name} boxes, px", found["boxes"][nearest], expected, 0.05)
    assert_as_golden(
        f"{whole.name} scores", found["scores"][nearest], whole.golden["out_scores"], 1e-4
    )
    np.testing.assert_array_equal(found["class_ids"][nearest], whole.golden["out_labels"])


def test_masks_or_keypoints(whole, assert_as_golden):
    if "out_keypoints" in whole.golden:
        check_keypoints(whole, assert_as_golden)
    else:
        check_masks(whole, assert_as_golden)


def check_keypoints(whole, assert_as_golden):
    found = whole.detected
    points = found["keypoints"][whole.nearest(found)]
    expected = whole.golden["out_keypoints"][..., [1, 0]]
    # On noise, two pixels of a heatmap may be equally high but for the last bit.
    is_near = np.abs(points[..., :2] - expected).max(axis=-1) < 0.05
    assert is_near.mean() > 0.99
    assert_as_golden(f"{whole.name} keypoints, px", points[is_near][:, :2], expected[is_near], 0.05)
    scores = whole.golden["out_keypoints_scores"]
    assert_as_golden(f"{whole.name} keypoint scores", points[..., 2], scores, 1e-3)


def check_masks(whole, assert_as_golden):
    found = whole.detected
    rows = whole.outputs["detections"][0]
    inside = whole.outputs["masks"][0][np.arange(len(rows)), ..., rows[:, 4].astype(int)]
    shape = whole.golden["image"].shape
    pasted = pasting.paste(inside[: len(found["boxes"])], found["boxes"], shape, None, "padded")
    nearest = whole.nearest(found)
    expected = np.moveaxis(whole.golden["out_masks"][:, 0].astype(np.float32), 0, -1)
    # The golden file holds halves: 0.5 and its neighbours are 0.0005 apart.
    assert_as_golden(f"{whole.name} mask probabilities", pasted[..., nearest], expected, 1e-3)
    is_sure = np.abs(expected - 0.5) > 5e-4
    one, other = found["masks"][..., nearest] & is_sure, (expected > 0.5) & is_sure
    union = np.maximum((one | other).sum(axis=(0, 1)), 1)
    worst = ((one ^ other).sum(axis=(0, 1)) / union).max()
    assert_as_golden(f"{whole.name} 1 - IoU of masks", worst, 0, 0.01)
