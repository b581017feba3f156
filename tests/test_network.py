import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from mrcnn.config import LOSSES, Config
from mrcnn.network import backbones, losses, network
from mrcnn.network.layers import grouped_conv
from mrcnn.network.layers.roi_align import PyramidROIAlign
from mrcnn.network.layers.time_distributed import TimeDistributed
from mrcnn.network.roi_heads import rows as roi_rows
from mrcnn.weights import hdf5

SIDE = 128


class SmallConfig(Config):
    NAME = "small"
    NUM_CLASSES = 3
    BACKBONE = "resnet18"
    BACKBONE_WIDTH = 8
    TOP_DOWN_PYRAMID_SIZE = 16
    RPN_CONV_SIZE = 16
    RPN_ANCHOR_SCALES = (8, 16, 32, 64, 128)
    FPN_CLASSIF_FC_LAYERS_SIZE = 32
    MASK_CONV_SIZE = 16
    IMAGE_MIN_DIM = IMAGE_MAX_DIM = SIDE
    POST_NMS_ROIS_TRAINING = 60
    POST_NMS_ROIS_INFERENCE = 30
    TRAIN_ROIS_PER_IMAGE = 20
    MAX_GT_INSTANCES = 5
    MINI_MASK_SHAPE = (28, 28)
    DETECTION_MAX_INSTANCES = 10
    DETECTION_MIN_CONFIDENCE = 0


@pytest.fixture(scope="module")
def small() -> network.Network:
    keras.utils.set_random_seed(0)
    built = network.Network(SmallConfig())
    # An untrained head may take everything for background; let this one see objects everywhere.
    weights = hdf5.weights_by_name(built.inference)
    weights["mrcnn_class_logits/kernel"].assign(np.zeros((32, 3)))
    weights["mrcnn_class_logits/bias"].assign([0.0, 1.0, 0.9])
    return built


def make_batch(config: Config, count: int = 2, *, has_objects: bool = True) -> dict:
    rng = np.random.default_rng(0)
    meta = np.zeros((count, config.IMAGE_META_SIZE), np.float32)
    meta[:, 4:7], meta[:, 7:11], meta[:, 12:] = (SIDE, SIDE, 3), (0, 0, SIDE, SIDE), 1
    ids = np.zeros((count, config.MAX_GT_INSTANCES), np.int32)
    boxes = np.zeros((count, config.MAX_GT_INSTANCES, 4), np.float32)
    if has_objects:
        ids[:, :2] = [1, 2]
        boxes[:, :2] = [[10, 20, 50, 70], [60, 60, 120, 110]]
    return {
        "input_image": rng.normal(0, 50, (count, SIDE, SIDE, 3)).astype("f"),
        "input_image_meta": meta,
        "input_gt_class_ids": ids,
        "input_gt_boxes": boxes,
        "input_gt_masks": np.ones((count, config.MAX_GT_INSTANCES, 28, 28), np.uint8),
        "input_seed": np.arange(count, dtype=np.int32),
    }


def inference_inputs(config: Config, count: int = 2) -> list[np.ndarray]:
    batch = make_batch(config, count)
    anchors = network.pixel_anchors(config, (SIDE, SIDE)) / (SIDE - 1)
    anchors = np.tile(anchors.astype("f"), (count, 1, 1))
    return [batch["input_image"], batch["input_image_meta"], anchors]


def run_losses(built: network.Network, batch: dict) -> dict:
    outputs = keras.Model(*built.training)(batch)
    return {name: float(loss) for name, loss in losses.compute_losses(batch, outputs).items()}


def all_layers(model: keras.Model) -> list[keras.layers.Layer]:
    found = []
    for layer in model.layers:
        found += all_layers(layer) if isinstance(layer, keras.Model) else [layer]
    return found


def test_inference_outputs_have_names(small):
    config = SmallConfig()
    inputs = inference_inputs(config)
    outputs = small.inference(inputs)
    anchor_count = inputs[2].shape[1]
    assert {name: tuple(output.shape) for name, output in outputs.items()} == {
        "detections": (2, 10, 6),
        "class_probs": (2, 30, 3),
        "box_deltas": (2, 30, 3, 4),
        "masks": (2, 10, 28, 28, 3),
        "proposals": (2, 30, 4),
        "rpn_probs": (2, anchor_count, 2),
        "rpn_deltas": (2, anchor_count, 4),
    }
    inputs = [tensor.name for tensor in small.inference.inputs]
    assert inputs == ["input_image", "input_image_meta", "input_anchors"]


def test_masks_after_the_last_detection_are_zero(small):
    config = SmallConfig()
    outputs = small.inference(inference_inputs(config))
    detections, masks = outputs["detections"], outputs["masks"]
    found = np.asarray(detections)[:, :, 4] > 0
    longest = found.sum(axis=1).max()
    assert longest > 0
    assert not np.asarray(masks)[:, longest:].any()
    assert (np.asarray(masks)[:, : found.sum(axis=1).min()] > 0).all()


def test_images_of_a_batch_do_not_mix(small):
    config = SmallConfig()
    inputs = inference_inputs(config)
    together = small.inference(inputs)
    alone = small.inference([array[1:] for array in inputs])
    for name in ("rpn_probs", "rpn_deltas"):  # anchor by anchor
        np.testing.assert_allclose(alone[name][0], together[name][1], atol=1e-4)
    # Which of near scores comes first is a matter of rounding, and so are a few proposals.
    own, other = (
        np.abs(alone["proposals"][0][:, None] - rois).max(-1).min(1)
        for rois in together["proposals"][::-1]
    )
    assert (own < 1e-4).mean() > 0.8
    assert (other < 1e-4).mean() < 0.2


def test_training_and_inference_share_their_weights(small):
    training = keras.Model(*small.training)
    mine = {key: id(weight) for key, weight in hdf5.weights_by_name(training).items()}
    others = {key: id(weight) for key, weight in hdf5.weights_by_name(small.inference).items()}
    assert mine == others
    assert len(mine) == len(small.inference.weights)


def test_names_of_layers_with_weights_are_unique(small):
    names = [layer.name for layer in hdf5.leaf_layers(small.inference)]
    assert len(names) == len(set(names))


def test_losses_are_finite_and_have_matterports_names(small):
    config = SmallConfig()
    found = run_losses(small, make_batch(config))
    assert tuple(found) == config.losses == LOSSES[:5]
    assert all(np.isfinite(value) and value > 0 for value in found.values())


def test_losses_of_images_without_objects_are_finite(small):
    config = SmallConfig()
    found = run_losses(small, make_batch(config, has_objects=False))
    assert all(np.isfinite(value) for value in found.values())
    assert [found[name] for name in LOSSES if "bbox" in name or "mask" in name] == [0, 0, 0]
    assert found["rpn_class_loss"] > 0
    assert found["mrcnn_class_loss"] > 0


def test_no_layer_is_a_lambda_or_a_time_distributed_one(small):
    training = keras.Model(*small.training)
    kinds = {type(layer) for model in (training, small.inference) for layer in all_layers(model)}
    assert not kinds & {keras.layers.Lambda, keras.layers.TimeDistributed}
    assert {TimeDistributed, PyramidROIAlign, roi_rows.PadMasks} <= kinds


def test_mixed_precision_keeps_geometry_and_losses_in_float32():
    config = SmallConfig.from_dict({"PRECISION": "mixed_bfloat16"})
    built = network.Network(config)
    assert {output.dtype for output in built.inference.outputs} == {"float32"}
    outputs = {k: v for k, v in built.training.outputs.items() if v.dtype != "int32"}
    dtypes = {name: output.dtype for name, output in outputs.items()}
    assert dtypes == dict.fromkeys(outputs, "float32")
    convolution = built.inference.get_layer("res3a_branch2a")
    assert (convolution.compute_dtype, convolution.variable_dtype) == ("bfloat16", "float32")
    assert all(np.isfinite(v) for v in run_losses(built, make_batch(config)).values())
    found = built.inference(inference_inputs(config))
    assert all(np.isfinite(np.asarray(output)).all() for output in found.values())


def test_precision_of_one_network_does_not_leak_into_the_next():
    with pytest.raises(ValueError, match="BACKBONE"):
        network.Network(SmallConfig.from_dict({"PRECISION": "mixed_bfloat16", "BACKBONE": "vgg"}))
    assert keras.config.dtype_policy().name == "float32"


def test_an_unknown_backbone_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match=r"BACKBONE must be.*resnet101.*got 'resnet99'"):
        network.Network(SmallConfig.from_dict({"BACKBONE": "resnet99"}))


def test_a_size_that_cannot_work_is_answered_with_one_that_does():
    config = SmallConfig.from_dict({"IMAGE_MAX_DIM": 200})
    with pytest.raises(ValueError, match=r"multiple of 64, got 200.*192"):
        network.Network(config)


def plain_backbone(image, stage5, train_bn):
    """Return [C1..C5], each a convolution of stride 2; Matterport's signature."""
    assert stage5
    assert train_bn is False
    stages = [image]
    for stage in range(1, 6):
        layer = keras.layers.Conv2D(4 * stage, 3, 2, "same", name=f"plain{stage}")
        stages.append(layer(stages[-1]))
    return stages[1:]


def assert_plain_backbone_is_used(config: Config) -> None:
    built = network.Network(config)
    names = [layer.name for layer in built.inference.layers]
    assert "plain5" in names
    assert "conv1" not in names
    assert built.inference.output["rpn_probs"].shape[-1] == 2


def test_a_backbone_may_be_a_static_method():
    class PlainConfig(SmallConfig):
        BACKBONE = staticmethod(plain_backbone)

    assert_plain_backbone_is_used(PlainConfig())


def test_a_backbone_may_be_a_function():
    class PlainConfig(SmallConfig):
        BACKBONE = plain_backbone

    assert_plain_backbone_is_used(PlainConfig())


def test_a_backbone_may_be_passed_as_a_setting():
    assert_plain_backbone_is_used(SmallConfig.from_dict({"BACKBONE": plain_backbone}))


@pytest.mark.parametrize("name", sorted(backbones.BACKBONES))
def test_stages_have_strides_2_to_32(name):
    image = keras.Input((128, 192, 3))
    stages = backbones.build(name, image, width=8 if backbones.get(name).groups == 1 else 64)
    # The first is the pooled stem, which Matterport calls C1: its stride is that of C2.
    assert [tuple(stage.shape[1:3]) for stage in stages] == [
        (128 // stride, 192 // stride) for stride in (4, 4, 8, 16, 32)
    ]


@pytest.mark.parametrize(("strides", "padding"), [(1, "same"), (2, "valid")])
def test_a_convolution_by_groups_is_one_over_all_channels(strides, padding):
    rng = np.random.default_rng(0)
    features = ops.convert_to_tensor(rng.normal(size=(2, 9, 8, 12)).astype("f"))
    arguments = (24, 3, strides, padding)
    theirs = keras.layers.Conv2D(*arguments, groups=4)
    ours = grouped_conv.GroupedConv2D(*arguments, groups=4)
    results = []
    for layer in (theirs, ours):
        layer.build(features.shape)
        layer.set_weights(theirs.get_weights())
        with tf.GradientTape() as tape:
            tape.watch(features)
            found = layer(features)
            total = tf.reduce_sum(found * found)
        results.append((found, *tape.gradient(total, (features, layer.kernel))))
    assert ours.kernel.shape == (3, 3, 3, 24)
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "expansion"), [("resnet34", 1), ("resnet50", 4)])
def test_every_stage_is_twice_as_wide_as_the_last(name, expansion):
    stages = backbones.build(name, keras.Input((64, 64, 3)), width=8)
    assert [stage.shape[-1] for stage in stages[1:]] == [8 * expansion * 2**i for i in range(4)]


def test_train_bn_decides_whose_statistics_are_used(small):
    def norms(built: network.Network) -> set[bool]:
        layers = hdf5.leaf_layers(built.inference)
        return {layer.is_training for layer in layers if hasattr(layer, "is_training")}

    assert norms(small) == {False}
    assert norms(network.Network(SmallConfig.from_dict({"TRAIN_BN": None}))) == {True}


def test_layers_of_constants_survive_serialization(reserialized):
    anchors = np.array([[0.1, 0.2, 0.3, 0.4], [-0.5, 0.1, 0.5, 0.2]], "f")
    layer = reserialized(network.Anchors(anchors, name="anchors"))
    np.testing.assert_array_equal(layer(np.zeros((2, 8, 8, 3), "f")), [anchors, anchors])
    pixels = np.array([[0, 0, 10, 10], [20, 20, 30, 30]], "f")
    targets = network.RpnTargetLayer(pixels, 256, np.array([0.1, 0.1, 0.2, 0.2]), name="targets")
    inputs = [np.ones((1, 1), "i"), np.array([[[0, 0, 10, 12]]], "f"), np.zeros(1, "i")]
    for one, other in zip(reserialized(targets)(inputs), targets(inputs), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(("name", "count"), [("resnet50", 45_088_120), ("resnet101", 64_158_584)])
@pytest.mark.slow
def test_networks_for_coco_have_matterports_number_of_parameters(name, count):
    config = Config.from_dict(
        {
            "NAME": "coco",
            "NUM_CLASSES": 81,
            "BACKBONE": name,
            "IMAGE_MIN_DIM": 128,
            "IMAGE_MAX_DIM": 128,
        }
    )
    assert network.Network(config).inference.count_params() == count


def test_layers_without_xla_kernels_say_so(small):
    # Else Keras' jit_compile="auto" would choose XLA on a single GPU, and fail there.
    names = {layer.name for layer in all_layers(small.inference) if not layer.supports_jit}
    assert {"ROI", "roi_align_classifier", "roi_align_mask", "mrcnn_detection"} <= names
