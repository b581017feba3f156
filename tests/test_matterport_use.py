"""Programs written for Matterport's package, in the ways that are seen in public code."""

import os
import random
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from small import Rectangles, SmallConfig

import mrcnn.model as modellib
from mrcnn import utils
from mrcnn.model import log
from mrcnn.network import network as networks
from mrcnn.parallel_model import ParallelModel

pytestmark = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")


class DetectConfig(SmallConfig):
    """Two images at once, and whatever is found."""

    DETECTION_MIN_CONFIDENCE = 0.0


@pytest.fixture(scope="module")
def config():
    return DetectConfig()


@pytest.fixture(scope="module")
def dataset():
    dataset = Rectangles()
    dataset.prepare()
    return dataset


@pytest.fixture(scope="module")
def model(config, tmp_path_factory):
    with tf.device("/cpu:0"):
        return modellib.MaskRCNN(
            mode="inference", model_dir=str(tmp_path_factory.mktemp("logs")), config=config
        )


# Data


@pytest.mark.parametrize("options", [{}, {"use_mini_mask": False}, {"augmentation": None}])
def test_load_image_gt_returns_full_masks_by_default(dataset, config, options):
    image, meta, class_ids, boxes, masks = modellib.load_image_gt(dataset, config, 0, **options)
    assert (image.shape, image.dtype) == ((64, 64, 3), np.uint8)
    assert (meta.shape, meta.dtype) == ((12 + config.NUM_CLASSES,), np.float64)
    assert (boxes.dtype, class_ids.dtype, masks.dtype) == (np.int32, np.int32, bool)
    assert masks.shape == (64, 64, len(class_ids))
    np.testing.assert_array_equal(utils.extract_bboxes(masks), boxes)
    assert modellib.parse_image_meta(meta[np.newaxis])["image_id"][0] == 0


def test_load_image_gt_with_the_older_flag_mirrors_half_of_the_images(dataset, config):
    plain = modellib.load_image_gt(dataset, config, 0)[3]
    np.random.seed(0)
    boxes = [
        modellib.load_image_gt(dataset, config, 0, augment=True, use_mini_mask=True)[3]
        for _ in range(20)
    ]
    mirrored = [not np.array_equal(found, plain) for found in boxes]
    assert 3 < sum(mirrored) < 17
    flipped = boxes[mirrored.index(True)]
    np.testing.assert_array_equal(64 - flipped[:, [3, 1]], plain[:, [1, 3]])


def test_the_seed_of_numpy_repeats_a_generator(dataset, config):
    batches = []
    for _ in range(2):
        np.random.seed(3)
        batches.append(next(modellib.data_generator(dataset, config, batch_size=2))[0])
    for first, second in zip(*batches, strict=True):
        np.testing.assert_array_equal(first, second)


def test_generator_with_targets_has_nine_inputs_and_three_outputs(dataset, config):
    generator = modellib.data_generator(
        dataset, config, shuffle=True, random_rois=300, batch_size=4, detection_targets=True
    )
    inputs, outputs = next(generator)
    images, metas, match, deltas, class_ids, boxes, masks, rpn_rois, rois = inputs
    target_ids, target_deltas, target_masks = outputs
    anchors = networks.pixel_anchors(config, (64, 64))
    objects, kept = config.MAX_GT_INSTANCES, config.TRAIN_ROIS_PER_IMAGE
    assert images.shape == (4, 64, 64, 3)
    assert images.min() < 0  # the mean is subtracted
    assert metas.shape == (4, config.IMAGE_META_SIZE)
    assert match.shape == (4, len(anchors), 1)
    assert set(np.unique(match)) <= {-1, 0, 1}
    assert deltas.shape == (4, config.RPN_TRAIN_ANCHORS_PER_IMAGE, 4)
    assert class_ids.shape == (4, objects)
    assert boxes.shape == (4, objects, 4)
    assert masks.shape == (4, *config.MINI_MASK_SHAPE, objects)
    assert rpn_rois.shape == (4, 300, 4)
    assert rois.shape == (4, kept, 4)
    assert target_ids.shape == (4, kept, 1)
    assert target_deltas.shape == (4, kept, config.NUM_CLASSES, 4)
    assert target_masks.shape == (4, kept, 28, 28, config.NUM_CLASSES)
    # Refined by its target, a positive roi is its object's box.
    image, row = np.argwhere(target_ids[..., 0] > 0)[0]
    delta = target_deltas[image, row, target_ids[image, row, 0]] * config.BBOX_STD_DEV
    refined = utils.apply_box_deltas(rois[image, row : row + 1].astype(float), delta[None])
    assert np.abs(refined - boxes[image]).max(axis=1).min() < 1.5


def test_refined_by_their_targets_positive_anchors_are_boxes(dataset, config):
    image, _, class_ids, boxes, _ = modellib.load_image_gt(dataset, config, 1)
    anchors = networks.pixel_anchors(config, (64, 64))
    match, deltas = modellib.build_rpn_targets(image.shape, anchors, class_ids, boxes, config)
    positive = anchors[match == 1]
    assert len(positive) > 0
    refined = utils.apply_box_deltas(positive, deltas[: len(positive)] * config.RPN_BBOX_STD_DEV)
    distance = np.abs(refined[:, None] - boxes[None]).max(axis=-1)
    assert distance.min(axis=1).max() < 1e-3


def test_targets_of_an_image_without_objects_are_background(config):
    none = np.zeros((0, 4), np.int32), np.zeros((0,), np.int32)
    anchors = networks.pixel_anchors(config, (64, 64))
    match, deltas = modellib.build_rpn_targets((64, 64, 3), anchors, none[1], none[0], config)
    assert set(np.unique(match)) == {-1, 0}
    assert not deltas.any()
    random = modellib.generate_random_rois((64, 64), 300, none[1], none[0])
    masks = np.zeros((64, 64, 0), bool)
    rois, ids, deltas, masks = modellib.build_detection_targets(
        random, none[1], none[0], masks, config
    )
    assert len(rois) == config.TRAIN_ROIS_PER_IMAGE
    assert [array.any() for array in (ids, deltas, masks)] == [False] * 3


def test_random_rois_lie_in_the_image_and_mostly_about_the_objects():
    boxes = np.array([[10, 10, 20, 20]])
    rois = modellib.generate_random_rois((100, 80), 200, np.array([1]), boxes)
    assert (rois.shape, rois.dtype) == ((200, 4), np.int32)
    assert (rois[:, :2] >= 0).all()
    assert (rois[:, 2:] <= [100, 80]).all()
    assert (rois[:, 2:] > rois[:, :2]).all()
    assert (rois[:180, 2:] <= 30).all()


def test_sequence_of_the_forks_is_a_pass_of_batches(dataset, config):
    sequence = modellib.DataGenerator(dataset, config, shuffle=False)
    assert len(sequence) == -(-dataset.num_images // config.BATCH_SIZE)
    first, again, second = sequence[0][0], sequence[0][0], sequence[1][0]
    np.testing.assert_array_equal(first[0], again[0])
    ids = [int(row[0]) for inputs in (first, second) for row in inputs[1]]
    assert ids == [0, 1, 2, 3][: len(ids)]


# The model as it is built, saved and loaded


@pytest.mark.usefixtures("eagerly")
def test_loss_and_every_part_of_it_are_in_the_history_of_the_keras_model(dataset, tmp_path):
    model = modellib.MaskRCNN("training", SmallConfig(), str(tmp_path))
    model.keras_model.metrics_tensors = []
    model.train(
        train_dataset=dataset, val_dataset=dataset, learning_rate=0.001, epochs=1, layers="heads"
    )
    history = model.keras_model.history.history
    assert {"loss", "val_loss", "val_mrcnn_mask_loss", "rpn_bbox_loss"} <= set(history)
    model.keras_model.optimizer.learning_rate.assign(0.5)
    assert float(model.keras_model.optimizer.learning_rate) == 0.5
    path = model.find_last()
    folder, second = path
    assert os.path.basename(path) == "mask_rcnn_small_0001.h5"
    assert (path[1], path[0]) == (path, os.path.dirname(path)) == (second, folder)
    resumed = modellib.MaskRCNN("training", SmallConfig(), str(tmp_path))
    resumed.load_weights(model.find_last()[1], by_name=True)
    assert resumed.epoch == 1
    assert resumed.log_dir == model.log_dir


def test_a_checkpoint_of_matterport_is_resumed_by_its_name(model, tmp_path):
    old = tmp_path / "elsewhere" / "shapes20180605T1530" / "mask_rcnn_shapes_0010.h5"
    old.parent.mkdir(parents=True)
    model.keras_model.save_weights(str(old))
    fresh = modellib.MaskRCNN("training", SmallConfig(), str(tmp_path / "logs"))
    fresh.load_weights(str(old), by_name=True)
    assert fresh.epoch == 10
    assert Path(fresh.log_dir) == tmp_path / "logs" / "small20180605T1530"


@pytest.mark.parametrize("name", ["weights.h5", "weights.hdf5", "mine.weights.h5"])
def test_the_keras_model_writes_and_reads_weights_under_any_name(model, name, tmp_path):
    path = tmp_path / name
    model.keras_model.save_weights(str(path))
    before = model.keras_model.get_layer("conv1").get_weights()
    model.keras_model.get_layer("conv1").set_weights([0 * array for array in before])
    model.keras_model.load_weights(str(path))
    for found, array in zip(
        model.keras_model.get_layer("conv1").get_weights(), before, strict=True
    ):
        np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("name", ["model.h5", "model.keras"])
def test_a_saved_keras_model_is_loaded_by_keras(model, name, tmp_path, capsys):
    model.keras_model.save(tmp_path / name)
    loaded = keras.models.load_model(tmp_path / name, compile=False)
    image = np.zeros((64, 64, 3), np.uint8)
    molded, metas, _ = model.mold_inputs([image])
    anchors = model.get_anchors(molded[0].shape)[None]
    for found, expected in zip(
        loaded.predict([molded, metas, anchors], verbose=0),
        model.keras_model.predict([molded, metas, anchors], verbose=0),
        strict=True,
    ):
        np.testing.assert_allclose(found, expected, atol=1e-6)
    assert "mrcnn_mask" in loaded.to_json()
    loaded.summary()
    assert "mrcnn_mask" in capsys.readouterr().out


def test_predict_and_unmold_is_detect(model):
    image = np.random.default_rng(0).integers(0, 255, (50, 60, 3), np.uint8)
    molded_images, image_metas, windows = model.mold_inputs([image])
    anchors = model.get_anchors(molded_images[0].shape)
    anchors = np.broadcast_to(anchors, (1,) + anchors.shape)
    detections, _, _, mrcnn_mask, _, _, _ = model.keras_model.predict(
        [molded_images, image_metas, anchors], verbose=0
    )
    rois, class_ids, scores, masks = model.unmold_detections(
        detections[0], mrcnn_mask[0], image.shape, molded_images[0].shape, windows[0]
    )
    (found,) = model.detect([image], verbose=0)
    np.testing.assert_array_equal(found["rois"], rois)
    np.testing.assert_array_equal(found["class_ids"], class_ids)
    np.testing.assert_allclose(found["scores"], scores, atol=1e-6)
    np.testing.assert_array_equal(found["masks"], masks)
    assert (rois.dtype, class_ids.dtype, masks.dtype) == (np.int32, np.int32, bool)


def test_detect_molded_takes_what_load_image_gt_returns(model, dataset, config):
    image, meta, *_ = modellib.load_image_gt(dataset, config, 0)
    (raw,) = model.detect_molded(image[np.newaxis], meta[np.newaxis], verbose=0)
    molded = modellib.mold_image(image, config)
    (found,) = model.detect_molded(molded[np.newaxis], meta[np.newaxis])
    np.testing.assert_allclose(raw["scores"], found["scores"], atol=1e-6)
    assert raw["masks"].shape[:2] == (64, 64)


def test_images_that_are_molded_already_do_not_crash(model, config):
    molded = modellib.mold_image(np.zeros((64, 64, 3), np.uint8), config)
    assert len(model.detect(np.expand_dims(molded, 0))) == 1


def test_a_batch_size_may_change_after_the_model_is_built(tmp_path):
    model = modellib.MaskRCNN("inference", DetectConfig(), str(tmp_path))
    model.config.BATCH_SIZE = 3
    assert len(model.detect(np.zeros((3, 64, 64, 3), np.uint8))) == 3


def test_a_model_inside_a_parallel_one_computes_saves_and_loads(model, tmp_path):
    parallel = ParallelModel(model.keras_model, 2)
    assert hasattr(parallel, "inner_model")
    parallel.save_weights(tmp_path / "weights.h5")
    parallel.load_weights(tmp_path / "weights.h5")
    assert [output.shape for output in parallel.outputs] == [
        output.shape for output in model.keras_model.outputs
    ]


class Counting(modellib.MaskRCNN):
    """A subclass, as people write them."""

    def __init__(self, mode, config, model_dir):
        self.built = 0
        super().__init__(mode=mode, config=config, model_dir=model_dir)

    def build(self, mode, config):
        self.built += 1
        return super().build(mode=mode, config=config)


def test_subclasses_build_once_and_keep_their_own(tmp_path):
    model = Counting("inference", DetectConfig(), str(tmp_path))
    assert model.built == 1
    assert model.keras_model.name == "mask_rcnn"


def backbone_of_resnet_graph(input_image, stage5=True, train_bn=None):
    return modellib.resnet_graph(input_image, "resnet50", stage5=stage5, train_bn=train_bn)


def test_a_function_as_backbone_is_the_named_one(tmp_path):
    shapes = []

    def compute(image_shape):
        shapes.append(tuple(image_shape))
        sides = (4, 8, 16, 32, 64)
        return np.array([[image_shape[0] // s, image_shape[1] // s] for s in sides])

    class OwnBackbone(SmallConfig):
        BACKBONE = backbone_of_resnet_graph
        COMPUTE_BACKBONE_SHAPE = compute

    model = modellib.MaskRCNN("inference", OwnBackbone(), str(tmp_path))
    names = {layer.name for layer in model.keras_model.layers}
    assert {"conv1", "res2c_out", "res4f_out", "res5c_branch2c"} <= names
    found = modellib.compute_backbone_shapes(model.config, (64, 128, 3))
    np.testing.assert_array_equal(found, [[16, 32], [8, 16], [4, 8], [2, 4], [1, 2]])
    assert (64, 128, 3) in shapes


@pytest.mark.parametrize("form", ["generator", "sequence"])
def test_a_loop_of_ones_own_trains_on_matterports_batches(form, dataset, tmp_path, request):
    if form == "sequence":  # whose batches are traced alike
        request.getfixturevalue("eagerly")
    config = SmallConfig()
    model = modellib.MaskRCNN("training", config, str(tmp_path))
    model.set_trainable(".*", verbose=0)
    model.compile(0.01, config.LEARNING_MOMENTUM)
    before = model.keras_model.get_layer("conv1").get_weights()[0]
    if form == "generator":
        train, val = (
            modellib.data_generator(dataset, config, shuffle=True, batch_size=config.BATCH_SIZE)
            for _ in range(2)
        )
    else:
        train, val = (modellib.DataGenerator(dataset, config) for _ in range(2))
    history = model.keras_model.fit_generator(
        train,
        initial_epoch=0,
        epochs=2,
        steps_per_epoch=2,
        validation_data=val,
        validation_steps=2,
        max_queue_size=100,
        workers=4,
        use_multiprocessing=True,
        verbose=0,
    ).history
    assert len(history["loss"]) == len(history["val_loss"]) == 2
    assert np.isfinite([*history["loss"], *history["val_loss"]]).all()
    assert not np.array_equal(before, model.keras_model.get_layer("conv1").get_weights()[0])


@pytest.mark.usefixtures("eagerly", "detecting_eagerly")
def test_average_precision_of_an_epoch_is_in_the_history(dataset, tmp_path, capsys):
    model = modellib.MaskRCNN("training", SmallConfig(), str(tmp_path))
    other = modellib.MaskRCNN("inference", SmallConfig(), str(tmp_path))
    callback = modellib.MeanAveragePrecisionCallback(
        model, other, dataset, calculate_map_at_every_X_epoch=2, dataset_limit=3, verbose=1
    )
    history = model.train(dataset, None, 0.01, 2, "heads", custom_callbacks=[callback]).history
    assert np.isnan(history["val_mask_AP"][0])
    assert 0 <= history["val_mask_AP50"][1] <= 1
    assert "AP50" in capsys.readouterr().out
    for found, expected in zip(
        other.keras_model.get_weights(), model.inference_model.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


# What the inspection notebooks do


def test_run_graph_shows_the_way_from_anchors_to_proposals(model, dataset, capsys):
    image = dataset.load_image(0)
    pillar = model.keras_model.get_layer("ROI").output
    names = ("ROI/rpn_non_max_suppression:0", "ROI/rpn_non_max_suppression/NonMaxSuppressionV3:0")
    nms_node = model.ancestor(pillar, names[0])
    if nms_node is None:
        nms_node = model.ancestor(pillar, names[1])
    rpn = model.run_graph(
        [image],
        [
            ("rpn_class", model.keras_model.get_layer("rpn_class").output),
            ("pre_nms_anchors", model.ancestor(pillar, "ROI/pre_nms_anchors:0")),
            ("refined_anchors", model.ancestor(pillar, "ROI/refined_anchors:0")),
            ("refined_anchors_clipped", model.ancestor(pillar, "ROI/refined_anchors_clipped:0")),
            ("post_nms_anchor_ix", nms_node),
            ("proposals", pillar),
            ("image", tf.identity(model.keras_model.get_layer("input_image").output)),
        ],
    )
    assert "post_nms_anchor_ix" in capsys.readouterr().out
    order = np.argsort(-rpn["rpn_class"][0, :, 1], kind="stable")
    anchors = model.get_anchors(model.config.IMAGE_SHAPE)
    first = rpn["pre_nms_anchors"][0]
    np.testing.assert_allclose(first, anchors[order[: len(first)]], atol=1e-6)
    np.testing.assert_allclose(
        np.clip(rpn["refined_anchors"], 0, 1), rpn["refined_anchors_clipped"], atol=1e-6
    )
    kept = rpn["post_nms_anchor_ix"]
    assert kept.ndim == 1
    proposals = rpn["refined_anchors_clipped"][0][kept]
    np.testing.assert_allclose(proposals, rpn["proposals"][0, : len(kept)], atol=1e-6)
    assert rpn["image"].shape == (1, 64, 64, 3)
    assert model.anchors.shape == anchors.shape
    assert model.anchors.max() > 1  # pixels


def test_run_graph_takes_molded_images_with_their_metas(model, dataset, config):
    image, meta, *_ = modellib.load_image_gt(dataset, config, 0)
    wanted = [("detections", model.keras_model.get_layer("mrcnn_detection").output)]
    by_hand = model.run_graph(image[np.newaxis], wanted, image_metas=meta[np.newaxis])
    assert by_hand["detections"].shape == (1, config.DETECTION_MAX_INSTANCES, 6)


def test_a_tensor_of_an_unknown_name_is_none_and_says_so_when_it_is_run(model):
    missing = model.ancestor(None, "ROI/nothing:0")
    assert missing is None
    with pytest.raises(ValueError, match="'nothing' is None"):
        model.run_graph([np.zeros((64, 64, 3), np.uint8)], [("nothing", missing)])


def test_trainable_layers_are_unwrapped(model):
    layers = model.get_trainable_layers()
    kinds = {layer.__class__.__name__ for layer in layers}
    assert {"Conv2D", "Dense", "Conv2DTranspose", "BatchNorm"} <= kinds
    assert "TimeDistributed" not in kinds
    assert "rpn_model" in {layer.name for layer in layers}
    assert "TimeDistributed" in {layer.__class__.__name__ for layer in model.keras_model.layers}


def test_log_prints_shape_range_and_dtype(capsys):
    log("image", np.array([[1.5, 3.0]]))
    log("nothing", np.zeros((0, 4), np.int32))
    first, second = capsys.readouterr().out.splitlines()
    for word in ("image", "(1, 2)", "1.5", "3.0", "float64"):
        assert word in first
    assert "(0, 4)" in second


# Weights


@pytest.mark.parametrize(
    ("backbone", "suffix", "layers", "weights"),
    [("resnet50", "", 131, 384), pytest.param("resnet101", "_1", 233, 690, marks=pytest.mark.slow)],
)
def test_what_we_write_is_found_by_a_reader_of_matterports_layout(
    backbone, suffix, layers, weights, matterport_layouts, tmp_path
):
    """The reader knows nothing of this package: groups, `weight_names`, and what they name."""

    class Table(SmallConfig):
        NAME, NUM_CLASSES, CLASS_NAMES = "golden", 5, ()
        BACKBONE_WIDTH, TOP_DOWN_PYRAMID_SIZE, RPN_CONV_SIZE = 64, 256, 512
        FPN_CLASSIF_FC_LAYERS_SIZE, MASK_CONV_SIZE = 1024, 256

    path = tmp_path / "mask_rcnn_golden_0001.h5"
    config = Table().replace(BACKBONE=backbone)
    modellib.MaskRCNN("inference", config, str(tmp_path)).keras_model.save_weights(path)
    found = {}
    with h5py.File(path, "r") as file:
        assert file.attrs["backend"] == "tensorflow"
        for layer in [name.decode() for name in file.attrs["layer_names"]]:
            for name in [name.decode() for name in file[layer].attrs["weight_names"]]:
                found[(layer, name)] = file[layer][name].shape
    # That fork numbered the layers of its second model: conv1/conv1_1/kernel:0.
    expected = {
        (group, f"{name.split('/')[0].removesuffix(suffix)}/{name.split('/')[1]}"): tuple(shape)
        for group, arrays in matterport_layouts[backbone].items()
        for name, shape in arrays
    }
    assert (len({layer for layer, _ in expected}), len(expected)) == (layers, weights)
    assert found == expected


# What a review with programs of Matterport's users found


def test_every_model_writes_and_reads_weights_of_any_h5_name(config, tmp_path):
    training = modellib.MaskRCNN("training", config, tmp_path)
    inference = modellib.MaskRCNN("inference", config, tmp_path)
    for name in ("best.h5", "best.weights.h5"):
        for weight in training.keras_model.weights:
            weight.assign(np.random.default_rng(0).normal(size=weight.shape))
        training.keras_model.save_weights(tmp_path / name)
        report = inference.load_weights(tmp_path / name, verbose=0)
        assert report.missing == report.skipped == []
        kernels = [
            model.keras_model.get_layer("mrcnn_class_logits").layer.get_weights()[0]
            for model in (training, inference)
        ]
        np.testing.assert_array_equal(*kernels)
        assert training.keras_model.load_weights(tmp_path / name, by_name=True).missing == []


def test_a_file_of_keras_own_form_is_refused_with_the_remedy(config, tmp_path):
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save_weights(
        tmp_path / "a.weights.h5"
    )
    model = modellib.MaskRCNN("inference", config, tmp_path)
    with pytest.raises(ValueError, match=r"does not name layers; load it with keras_model"):
        model.load_weights(tmp_path / "a.weights.h5")


def test_one_layer_may_be_excluded_by_its_name_and_unknown_ones_are_named(model, tmp_path, caplog):
    model.save_weights(tmp_path / "a.h5")
    report = model.load_weights(tmp_path / "a.h5", exclude="mrcnn_mask", verbose=0)
    assert report.excluded == ["mrcnn_mask"]
    assert {key.partition("/")[0] for key in report.skipped} == {"mrcnn_mask"}
    assert "excluded" in str(report)
    # The list that the samples of Matterport have; mrcnn_bbox is a layer without weights.
    heads = ["mrcnn_class_logits", "mrcnn_bbox_fc", "mrcnn_bbox", "mrcnn_mask"]
    assert model.load_weights(tmp_path / "a.h5", True, heads, verbose=0).excluded == sorted(heads)
    assert not caplog.messages
    model.load_weights(tmp_path / "a.h5", exclude=["mrcnn_masks"], verbose=0)
    assert "unknown layers: ['mrcnn_masks']" in caplog.messages[0]


def test_what_json_does_not_know_does_not_stop_a_checkpoint(config, tmp_path):
    config = type(config)()
    config.WEIGHTS_OF_CLASSES = {1: np.float32(0.5)}
    config.__class__.DATA_DIR = tmp_path
    try:
        model = modellib.MaskRCNN("inference", config, tmp_path)
        model.save_weights(tmp_path / "a.h5")
        assert modellib.MaskRCNN.from_checkpoint(tmp_path / "a.h5").config.NAME == config.NAME
    finally:
        del config.__class__.DATA_DIR


def test_building_a_network_leaves_the_programs_chance_alone(config, tmp_path):
    random.seed(7)
    np.random.seed(7)
    expected = random.random(), np.random.random()
    random.seed(7)
    np.random.seed(7)
    modellib.MaskRCNN("inference", config, tmp_path)
    assert (random.random(), np.random.random()) == expected


@pytest.mark.usefixtures("detecting_eagerly")
def test_steps_of_a_subclass_and_a_model_of_ones_own_are_used(config, tmp_path):
    seen = []

    class Own(modellib.MaskRCNN):
        def mold_inputs(self, images):
            seen.append("mold")
            return super().mold_inputs(images)

        def unmold_detections(self, *arguments):
            seen.append("unmold")
            return super().unmold_detections(*arguments)

    model = Own("inference", config, tmp_path)
    image = np.zeros((40, 50, 3), np.uint8)
    (found,) = model.detect([image])
    assert seen == ["mold", "unmold"]
    (expected,) = modellib.MaskRCNN("inference", config, tmp_path).detect([image])
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name])
    plain = modellib.MaskRCNN("inference", config, tmp_path)
    plain.keras_model = keras.Model(plain.keras_model.inputs, plain.keras_model.outputs)
    assert plain.has_own_steps(modellib.MaskRCNN)
    np.testing.assert_array_equal(plain.detect([image])[0]["rois"], expected["rois"])


@pytest.mark.usefixtures("eagerly")
def test_two_networks_built_together_train_into_folders_of_their_own(config, tmp_path):
    config = config.replace(STEPS_PER_EPOCH=1, VALIDATION_STEPS=0)
    one, other = (modellib.MaskRCNN("training", config, tmp_path) for _ in range(2))
    assert one.log_dir == other.log_dir
    for model in (one, other):
        model.train(Rectangles(), None, 0.001, 1, "heads")
    assert one.log_dir != other.log_dir
    assert len(list(tmp_path.rglob("*_0001.h5"))) == 2
    # The second training of a network goes on in its folder.
    one.train(Rectangles(), None, 0.001, 2, "heads")
    assert sorted(path.name[-7:-3] for path in Path(one.log_dir).glob("*.h5")) == ["0001", "0002"]


@pytest.mark.usefixtures("eagerly")
def test_an_optimizer_and_settings_of_ones_own_train(config, tmp_path):
    class WithAdam(modellib.MaskRCNN):
        def compile(self, learning_rate, momentum):
            del momentum
            self.keras_model.compile(keras.optimizers.Adam(float(learning_rate)))

    settings = {"STEPS_PER_EPOCH": 1, "VALIDATION_STEPS": 0, "GRADIENT_CLIP_NORM": None}
    config = config.replace(**settings, LEARNING_MOMENTUM=0)
    for kind in (WithAdam, modellib.MaskRCNN):
        model = kind("training", config, tmp_path)
        model.train(Rectangles(), None, np.float32(0.001), 1, "heads")
        assert model.epoch == 1
    batches = modellib.data_generator(Rectangles(), config, batch_size=2)
    model.keras_model.fit(
        batches, steps_per_epoch=1, workers=4, use_multiprocessing=True, max_queue_size=9, verbose=0
    )
