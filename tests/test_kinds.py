"""Networks of every kind: ten steps on real images, and the same detections from a checkpoint."""

import numpy as np
import pytest
from conftest import detect_eagerly
from small import Rectangles, SmallConfig

from mrcnn import model as modellib
from mrcnn import presets
from mrcnn.config import Config
from mrcnn.data import augment
from mrcnn.data.annotated import AnnotatedDataset
from mrcnn.data.formats.coco import load_coco
from mrcnn.geometry import boxes
from mrcnn.model import MaskRCNN
from mrcnn.network.layers.roi_align import PyramidROIAlign
from mrcnn.training.callbacks import MeanAveragePrecisionCallback
from mrcnn.weights import hdf5

STEPS = 10
STRIDES = (4, 8, 16, 32)
SMALL = {name: value for name, value in vars(SmallConfig).items() if name.isupper()} | {
    "NUM_CLASSES": 2,
    "CLASS_NAMES": ("BG", "person"),
    "IMAGE_RESIZE_MODE": "square",
    "IMAGE_MIN_DIM": 128,
    "IMAGE_MAX_DIM": 128,
    "RPN_ANCHOR_SCALES": (8, 16, 32, 64, 128),
    "MAX_GT_INSTANCES": 20,
    "STEPS_PER_EPOCH": STEPS,
    "VALIDATION_STEPS": 0,
    "TRAIN_BN": None,
}
KEYPOINTS = {"NUM_KEYPOINTS": 17, "KEYPOINT_CONV_SIZE": 8}
OF_C4 = {name: value for name, value in vars(presets.C4Config).items() if name.isupper()}
KINDS: dict[str, tuple[type[Config], dict]] = {
    "c4": (
        presets.C4Config,
        OF_C4 | {"RPN_CONV_SIZE": 16, "RPN_ANCHOR_SCALES": ((16, 32, 64),), "MASK_CONV_SIZE": 8},
    ),
    "resnext": (presets.ModernConfig, {"BACKBONE": "resnext50_32x4d", "BACKBONE_WIDTH": 16}),
    "keypoints": (presets.ModernConfig, KEYPOINTS | {"HAS_MASKS": False}),
    "masks and keypoints": (presets.ModernConfig, KEYPOINTS | {"CLASS_AGNOSTIC_MASKS": True}),
    "boxes": (presets.ModernConfig, {"HAS_MASKS": False}),
    "competing masks of pooled features": (
        presets.ModernConfig,
        {"MASK_LOSS": "softmax", "ROI_FEATURES": "pool"},
    ),
}


@pytest.fixture(scope="module")
def persons(shared_data) -> AnnotatedDataset:
    folder = shared_data / "coco_keypoints"
    annotations = folder / "annotations" / "person_keypoints_train2017.json"
    return load_coco(annotations, folder / "train2017")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_ten_steps_then_the_same_detections_from_the_checkpoint(kind, persons, tmp_path):
    preset, settings = KINDS[kind]
    names = tuple(persons.keypoint_names)
    pairs = augment.mirror_pairs(names)
    config = preset.from_dict(SMALL | settings | {"KEYPOINT_NAMES": names, "KEYPOINT_PAIRS": pairs})
    model = MaskRCNN("training", config, tmp_path)
    history = model.train(persons, None, 0.01, 1, "all").history
    assert int(model.training_model.optimizer.iterations) == STEPS
    assert set(history) >= set(config.losses)
    assert all(np.isfinite(values).all() for values in history.values())
    assert ("mrcnn_mask_loss" in history) == config.HAS_MASKS
    assert ("mrcnn_keypoint_loss" in history) == (config.NUM_KEYPOINTS > 0)

    again = MaskRCNN.from_checkpoint(model.checkpoint_path.format(epoch=1), model_dir=tmp_path)
    image = persons.load_image(0)
    (expected,), (found,) = model.detect([image]), again.detect([image])
    count = len(expected["scores"])
    assert count > 0
    assert expected.keys() == found.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
    assert ("masks" in found) == config.HAS_MASKS
    if config.HAS_MASKS:
        assert found["masks"].shape == (*image.shape[:2], count)
    assert ("keypoints" in found) == (config.NUM_KEYPOINTS > 0)
    if config.NUM_KEYPOINTS:
        assert found["keypoints"].shape == (count, 17, 3)


def test_c4_has_one_map_and_the_last_stage_as_head(tmp_path):
    preset, settings = KINDS["c4"]
    config = preset.from_dict(SMALL | settings | {"BACKBONE": "resnet50"})
    model = MaskRCNN("inference", config, tmp_path)
    graph = model.inference_model
    names = {key.partition("/")[0] for key in hdf5.weights_by_name(graph)}
    assert {"res4f_branch2c", "res5a_branch1", "res5c_branch2c", "mrcnn_mask_deconv"} <= names
    assert not any(
        name.startswith(("fpn_", "mrcnn_mask_conv", "mrcnn_class_conv")) for name in names
    )
    # 128 / 16 cells a side, with three scales in three ratios each.
    assert len(model.get_anchors((128, 128, 3))) == 8 * 8 * 9
    assert graph.get_layer("roi_align_classifier").pool_shape == (7, 7)
    assert graph.get_layer("pad_masks").output.shape[2:4] == (14, 14)
    # Stage 5 is applied to rois, and only there: stride 1 keeps their seven cells.
    (stage,) = [layer for layer in graph.layers if layer.name == "res5"]
    assert stage.compute_output_shape((1, 5, 7, 7, 128))[2:4] == (7, 7)


def test_weights_of_c4_travel_by_the_names_of_a_backbone(tmp_path):
    preset, settings = KINDS["c4"]
    model = MaskRCNN("training", preset.from_dict(SMALL | settings), tmp_path)
    model.save_weights(tmp_path / "c4.h5")
    assert "res5a_branch2a/kernel" in hdf5.read(tmp_path / "c4.h5")
    report = model.load_weights(tmp_path / "c4.h5", verbose=0)
    assert (report.missing, report.skipped) == ([], [])
    model.set_trainable("5+", verbose=0)
    trained = {weight.path for weight in model.training_model.trainable_weights}
    assert any("res5a_branch2a" in path for path in trained)
    assert not any("res4" in path for path in trained)


@pytest.fixture(scope="module")
def boxes_only(tmp_path_factory) -> MaskRCNN:
    classes = {"NUM_CLASSES": 3, "CLASS_NAMES": SmallConfig.CLASS_NAMES}
    settings = SMALL | classes | {"HAS_MASKS": False}
    config = presets.ModernConfig.from_dict(settings)
    with pytest.MonkeyPatch.context() as monkeypatch:
        detect_eagerly(monkeypatch)
        return MaskRCNN("training", config, tmp_path_factory.mktemp("logs"))


def test_scores_while_training_without_masks(boxes_only):
    callback = MeanAveragePrecisionCallback(boxes_only, None, Rectangles(2), 1, verbose=0)
    logs: dict = {}
    callback.on_epoch_end(0, logs)
    assert np.isnan(logs["val_mask_AP"])
    assert logs["val_box_AP"] >= 0


def test_steps_of_ones_own_need_masks(boxes_only):
    with pytest.raises(ValueError, match="HAS_MASKS = True"):
        next(boxes_only.detect_in_steps([np.zeros((20, 20, 3), np.uint8)]))


@pytest.mark.usefixtures("detecting_eagerly")
def test_images_that_are_resized_already_are_detected_alike(tmp_path):
    settings = SMALL | {"IMAGE_RESIZE_MODE": "short_side", "PIXEL_STD": np.array([50.0, 60, 70])}
    model = MaskRCNN("inference", presets.ModernConfig.from_dict(settings), tmp_path)
    image = np.random.default_rng(0).integers(0, 255, (128, 100, 3), np.uint8)
    molded, metas, _ = model.mold_inputs([image])
    window = metas[0, 7:11].astype(int)
    raw = np.zeros(molded.shape, np.uint8)
    raw[0, window[0] : window[2], window[1] : window[3]] = np.rint(
        molded[0, window[0] : window[2], window[1] : window[3]] * model.config.PIXEL_STD
        + model.config.MEAN_PIXEL
    )
    (expected,) = model.detect_molded(molded, metas)
    (found,) = model.detect_molded(raw, metas)
    assert len(expected["scores"]) > 0
    # What was resized is rounded to whole grey levels.
    np.testing.assert_allclose(found["scores"], expected["scores"], atol=0.01)
    shown = modellib.unmold_image(modellib.mold_image(raw, model.config), model.config)
    np.testing.assert_array_equal(shown, raw)


def test_features_under_a_frame_that_is_not_the_forms_own():
    # The same box, of pixels 100 to 110 in an input of 1024, in both frames.
    rng = np.random.default_rng(0)
    sides = [1024 // stride for stride in STRIDES]
    maps = [rng.normal(size=(1, side, side, 2)).astype("f") for side in sides]
    record = np.zeros((1, 15), "f")
    record[:, 4:6] = 1024
    box = np.array([[[100.0, 100.0, 110.0, 110.0]]], "f")
    for form in ("aligned", "corners"):
        found = [
            PyramidROIAlign((7, 7), form=form, inclusive=inclusive)(
                [boxes.normalize(box, (1024, 1024), inclusive), record, *maps]
            )
            for inclusive in (True, False)
        ]
        np.testing.assert_allclose(found[0], found[1], atol=1e-3)
