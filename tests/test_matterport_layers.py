import keras
import numpy as np
import pytest
from keras import ops
from small import SmallConfig

import mrcnn.model as modellib
from mrcnn.network import backbones

BOXES = np.array([[0.1, 0.1, 0.5, 0.5], [0.2, 0.1, 0.6, 0.5]], np.float32)


@pytest.mark.parametrize("stage5", [True, False])
def test_resnet_graph_is_the_backbone(stage5):
    image = keras.Input((64, 64, 3))
    stages = modellib.resnet_graph(image, "resnet50", stage5=stage5, train_bn=False)
    expected = backbones.build("resnet50", keras.Input((64, 64, 3)), 64)
    assert len(stages) == 5
    assert (stages[4] is not None) == stage5
    for found, stage in zip(stages[:4], expected[:4], strict=True):
        assert found.shape == stage.shape


def test_blocks_have_matterports_layers_and_shapes():
    features = keras.Input((16, 16, 8))
    reduced = modellib.conv_block(features, 3, [4, 4, 16], stage=3, block="a", strides=(2, 2))
    same = modellib.identity_block(reduced, 3, [4, 4, 16], 3, "b", use_bias=False, train_bn=False)
    assert reduced.shape == same.shape == (None, 8, 8, 16)
    model = keras.Model(features, same)
    names = {layer.name for layer in model.layers}
    assert {"res3a_branch1", "bn3a_branch2c", "res3a_out", "res3b_branch2b", "res3b_out"} <= names
    assert model.get_layer("res3a_branch2a").use_bias
    assert not model.get_layer("res3b_branch2a").use_bias


def test_heads_have_the_shapes_of_their_rois():
    rois, meta = keras.Input((5, 4)), keras.Input((15,))
    maps = [keras.Input((side, side, 8)) for side in (16, 8, 4, 2)]
    logits, probs, deltas = modellib.fpn_classifier_graph(
        rois, maps, meta, 7, 3, train_bn=False, fc_layers_size=6
    )
    assert logits.shape == probs.shape == (None, 5, 3)
    assert deltas.shape == (None, 5, 3, 4)
    masks = modellib.build_fpn_mask_graph(rois, maps, meta, 14, 3)
    assert masks.shape == (None, 5, 28, 28, 3)


def test_rpn_graph_is_the_head_of_one_level():
    logits, probs, deltas = modellib.rpn_graph(keras.Input((4, 4, 8)), 3, 1)
    assert logits.shape == probs.shape == (None, 48, 2)
    assert deltas.shape == (None, 48, 4)
    assert modellib.build_rpn_model(1, 3, 8).name == "rpn_model"


def test_detection_targets_are_matched_and_padded():
    config = SmallConfig()
    proposals = np.zeros((40, 4), np.float32)
    proposals[:2] = BOXES
    proposals[2:10] = [0.7, 0.7, 0.9, 0.9]
    masks = np.ones((14, 14, 1), bool)
    rois, class_ids, deltas, target_masks = modellib.detection_targets_graph(
        proposals, np.array([2]), BOXES[:1], masks, config
    )
    count = config.TRAIN_ROIS_PER_IMAGE
    assert (rois.shape, class_ids.shape) == ((count, 4), (count,))
    assert (deltas.shape, target_masks.shape) == ((count, 4), (count, 28, 28))
    positive = ops.convert_to_numpy(class_ids) == 2
    assert 1 <= positive.sum() <= 3
    refined = modellib.apply_box_deltas_graph(rois, deltas * config.BBOX_STD_DEV.astype("f"))
    np.testing.assert_allclose(
        ops.convert_to_numpy(refined)[positive],
        np.repeat(BOXES[:1], positive.sum(), axis=0),
        atol=1e-6,
    )
    assert not ops.convert_to_numpy(deltas)[~positive].any()
    assert not ops.convert_to_numpy(target_masks)[~positive].any()


def test_detection_target_layer_draws_anew_in_a_model():
    config = SmallConfig()
    inputs = [
        keras.Input((40, 4)),
        keras.Input((4,), dtype="int32"),
        keras.Input((4, 4)),
        keras.Input((14, 14, 4), dtype="bool"),
    ]
    model = keras.Model(inputs, modellib.DetectionTargetLayer(config, name="t")(inputs))
    random = np.random.default_rng(0).uniform(0, 0.5, (1, 40, 4)).astype("f")
    random[..., 2:] += 0.3
    ids, boxes = np.zeros((1, 4), "i"), np.zeros((1, 4, 4), "f")
    arrays = [random, ids, boxes, np.zeros((1, 14, 14, 4), bool)]
    first, second = (model.predict_on_batch(arrays)[0] for _ in range(2))
    assert first.shape == (1, config.TRAIN_ROIS_PER_IMAGE, 4)
    assert not np.array_equal(first, second)


def test_functions_of_boxes():
    window = ops.convert_to_tensor([0.0, 0.0, 0.3, 0.3])
    clipped = modellib.clip_boxes_graph(BOXES, window)
    np.testing.assert_allclose(clipped[0], [0.1, 0.1, 0.3, 0.3])
    np.testing.assert_allclose(modellib.overlaps_graph(BOXES, BOXES)[0, 1], 0.6, rtol=1e-5)
    np.testing.assert_allclose(modellib.log2_graph(ops.convert_to_tensor(8.0)), 3, rtol=1e-6)
    pixels = modellib.denorm_boxes_graph(BOXES, (101, 201))
    np.testing.assert_array_equal(pixels[0], [10, 20, 51, 101])
    normalized = modellib.norm_boxes_graph(pixels, (101, 201))
    np.testing.assert_allclose(normalized, BOXES, atol=1e-6)


def test_functions_of_rows():
    boxes = np.array([[0, 0, 0, 0], [1, 2, 3, 4]], np.float32)
    kept, is_real = modellib.trim_zeros_graph(boxes, name="trim")
    np.testing.assert_array_equal(kept, boxes[1:])
    np.testing.assert_array_equal(is_real, [False, True])
    packed = modellib.batch_pack_graph(ops.convert_to_tensor(boxes[None]), [1], 1)
    np.testing.assert_array_equal(packed, boxes[:1])


def test_meta_records_are_the_same_in_graph_and_numpy():
    meta = modellib.compose_image_meta(
        7, (480, 640, 3), (1024, 1024, 3), (128, 0, 896, 1024), 1.6, [1, 0, 1]
    )
    in_graph = modellib.parse_image_meta_graph(ops.convert_to_tensor(meta[None]))
    for name, value in modellib.parse_image_meta(meta[None]).items():
        np.testing.assert_allclose(in_graph[name], value, rtol=1e-6)


def test_smooth_l1_is_quadratic_then_linear():
    found = modellib.smooth_l1_loss(np.array([0.0, 0.0], "f"), np.array([0.5, 3.0], "f"))
    np.testing.assert_allclose(found, [0.125, 2.5])
