import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from mrcnn.geometry import boxes as box_math
from mrcnn.geometry import masks as mask_math
from mrcnn.matterport import tensors
from mrcnn.network.layers.head_layers import HeadLayers
from mrcnn.network.layers.roi_align import PyramidROIAlign
from mrcnn.network.roi_heads import mask as mask_head
from mrcnn.network.roi_heads import rows as roi_rows

# An L, so that flips and transposes show.
LETTER = np.array([[1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1]], np.uint8)


def targets(rois, gt_boxes, gt_masks, matched=None, *, shape=(4, 4), uses_mini_masks=True):
    rois, gt_boxes = (ops.convert_to_tensor([boxes], "float32") for boxes in (rois, gt_boxes))
    matched = ops.convert_to_tensor([matched or [0] * rois.shape[1]])
    masks = ops.convert_to_tensor(np.asarray([gt_masks]))
    found = mask_head.targets(
        rois, gt_boxes, masks, matched, mask_shape=shape, uses_mini_masks=uses_mini_masks
    )
    return np.asarray(found)[0]


def test_a_roi_on_its_object_sees_the_whole_mask():
    box = [0.2, 0.3, 0.6, 0.9]
    np.testing.assert_array_equal(targets([box], [box], [LETTER])[0], LETTER)


def test_a_roi_on_a_quarter_of_the_box_sees_that_quarter():
    mask = np.zeros((8, 8), np.uint8)
    mask[:4, :4] = 1
    mask[4:, 4:] = LETTER
    box = [0.0, 0.0, 0.7, 0.7]
    # Samples lie on the corners: cells 4 to 7 of 8 are 4/7 to 1 of the box.
    roi = [0.4, 0.4, 0.7, 0.7]
    np.testing.assert_array_equal(targets([roi], [box], [mask])[0], LETTER)


def test_beyond_its_object_a_roi_sees_nothing():
    box = [0.4, 0.4, 0.6, 0.6]
    found = targets([[0.4, 0.4, 0.8, 0.8]], [box], [np.ones((4, 4), np.uint8)], shape=(5, 5))
    expected = np.zeros((5, 5))
    expected[:3, :3] = 1
    np.testing.assert_array_equal(found[0], expected)


def test_every_roi_sees_the_mask_of_its_own_object():
    boxes = [[0.1, 0.1, 0.5, 0.5], [0.5, 0.5, 0.9, 0.9]]
    found = targets(boxes[::-1], boxes, [LETTER, LETTER.T], matched=[1, 0])
    np.testing.assert_array_equal(found, [LETTER.T, LETTER])


def test_images_of_a_batch_keep_their_masks():
    box = np.tile(np.array([0.1, 0.1, 0.5, 0.5], "f"), (2, 1, 1))
    masks = np.stack([LETTER, LETTER.T])[:, None]
    found = mask_head.targets(
        ops.convert_to_tensor(box),
        ops.convert_to_tensor(box),
        ops.convert_to_tensor(masks),
        ops.zeros((2, 1), "int32"),
        mask_shape=(4, 4),
        uses_mini_masks=True,
    )
    np.testing.assert_array_equal(found[:, 0], masks[:, 0])


def test_mini_masks_and_full_masks_give_nearly_the_same_targets():
    rows, cols = np.mgrid[:128, :128]
    disc = ((rows - 60) ** 2 + (cols - 70) ** 2 < 40**2)[:, :, None]
    pixels = mask_math.bounds(disc)
    mini = mask_math.minimize(pixels, disc, (56, 56))
    box = box_math.normalize(pixels, (128, 128))
    roi = box + np.array([0.05, -0.1, 0.1, 0.05], "f")
    small = targets(roi, box, mini.astype("u1"), shape=(28, 28))
    full = targets(
        roi, box, np.moveaxis(disc, -1, 0).astype("u1"), shape=(28, 28), uses_mini_masks=False
    )
    assert full.mean() > 0.3
    assert (small != full).mean() < 0.03


def test_targets_are_zero_or_one():
    box = [0.0, 0.0, 1.0, 1.0]
    found = targets([[0.03, 0.01, 0.91, 0.87]], [box], [LETTER], shape=(28, 28))
    assert set(np.unique(found)) == {0.0, 1.0}


def test_padding_rois_see_something_finite():
    assert np.isfinite(targets([[0, 0, 0, 0]], [[0, 0, 0, 0]], [LETTER])).all()


def test_mask_loss_is_matterports(matterport_network):
    golden = matterport_network
    target = np.unpackbits(golden["l_tm"]).reshape(2, 64, 28, 28).astype("f")
    arrays = target, golden["l_tci"], golden["l_pm"].astype("f")
    loss = tensors.mrcnn_mask_loss_graph(*(ops.convert_to_tensor(array) for array in arrays))
    np.testing.assert_allclose(float(loss), golden["loss_mask"], rtol=1e-5)


def logit(probs: np.ndarray) -> np.ndarray:
    return np.log(probs / (1 - probs))


def test_mask_loss_counts_the_true_class_of_positive_rois_only():
    masks = np.full((1, 2, 1, 2, 3), 0.001, np.float32)
    masks[0, 0, 0, :, 2] = [0.5, 0.25]
    target = ops.convert_to_tensor([[[[1.0, 0.0]], [[1.0, 1.0]]]])
    loss = mask_head.mask_loss(target, ops.convert_to_tensor([[2, 0]]), logit(masks), lambda x: x)
    assert float(loss) == pytest.approx(-(np.log(0.5) + np.log(0.75)) / 2, rel=1e-5)


def test_softmax_loss_is_that_of_the_true_class_inside_and_of_the_background_outside():
    masks = np.full((1, 2, 1, 2, 3), 1 / 3, np.float32)
    masks[0, 0, 0] = [[0.2, 0.3, 0.5], [0.7, 0.2, 0.1]]  # of background, class 1, class 2
    target = ops.convert_to_tensor([[[[1.0, 0.0]], [[1.0, 1.0]]]])
    class_ids = ops.convert_to_tensor([[2, 0]])
    loss = mask_head.mask_loss(target, class_ids, np.log(masks), lambda x: x, "softmax")
    assert float(loss) == pytest.approx(-(np.log(0.5) + np.log(0.7)) / 2, rel=1e-5)


def test_masks_without_class_learn_from_every_class():
    masks = np.array([[[[[0.5], [0.25]]], [[[0.1], [0.1]]], [[[0.8], [0.9]]]]], np.float32)
    target = ops.convert_to_tensor([[[[1.0, 0.0]], [[1.0, 1.0]], [[1.0, 1.0]]]])
    class_ids = ops.convert_to_tensor([[2, 0, 1]])
    loss = mask_head.mask_loss(target, class_ids, logit(masks), lambda x: x)
    expected = -(np.log(0.5) + np.log(0.75) + np.log(0.8) + np.log(0.9)) / 4
    assert float(loss) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", ["sigmoid", "softmax"])
@pytest.mark.parametrize("certainty", [10.0, 16.0, 40.0, 1e4])
def test_a_wrong_cell_learns_however_certain_it_is(loss, certainty):
    logits = tf.Variable([[[[[-certainty, certainty]]]]])
    target, class_ids = ops.zeros((1, 1, 1, 1)), ops.ones((1, 1), "int32")
    with tf.GradientTape() as tape:
        found = mask_head.mask_loss(target, class_ids, logits, lambda x: x, loss)
    assert float(found) == pytest.approx(certainty * (1 if loss == "sigmoid" else 2), rel=1e-3)
    assert float(tape.gradient(found, logits)[0, 0, 0, 0, 1]) == pytest.approx(1, rel=1e-3)


def test_inference_has_the_probabilities_of_the_logits_that_training_has():
    rois, meta = keras.Input((3, 4)), keras.Input((14,))
    maps = [keras.Input((16 // 2**i, 16 // 2**i, 8)) for i in range(4)]
    roi_align = PyramidROIAlign((7, 7))
    head = mask_head.MaskHead(2, 8, roi_align, mask_head.convolutions(8, HeadLayers()))
    masks = head(rois, meta, maps), head(rois, meta, maps, as_logits=True)
    model = keras.Model([rois, meta, *maps], masks)
    rng = np.random.default_rng(0)
    boxes = np.sort(rng.random((1, 3, 2, 2)), axis=2).reshape(1, 3, 4)
    image_meta = np.array([[0, 64, 64, 3, 64, 64, 3, 0, 0, 64, 64, 1, 1, 1]])
    probs, found = model([boxes, image_meta, *(rng.random((1, *m.shape[1:])) for m in maps)])
    np.testing.assert_allclose(probs, ops.sigmoid(found), atol=1e-6)
    assert model.get_layer("mrcnn_mask").output is masks[0]


def test_mask_loss_without_positive_rois_is_zero():
    loss = mask_head.mask_loss(
        ops.zeros((1, 2, 4, 4)), ops.zeros((1, 2), "int32"), ops.ones((1, 2, 4, 4, 3)), lambda x: x
    )
    assert float(loss) == 0


def detections(*counts: int) -> np.ndarray:
    rows = np.zeros((len(counts), 6, 6), np.float32)
    for image, count in enumerate(counts):
        rows[image, :count] = [0.1, 0.1, 0.5, 0.5, 2, 0.9]
    return rows


@pytest.mark.parametrize(("counts", "rows"), [((2, 4), 4), ((0, 1), 1), ((0, 0), 1), ((6, 6), 6)])
def test_trimming_keeps_the_longest_list_and_at_least_one_row(counts, rows):
    given = detections(*counts)
    found = roi_rows.TrimDetections()(given)
    np.testing.assert_array_equal(found, given[:, :rows, :4])


def test_padding_gives_one_mask_a_detection():
    found = roi_rows.PadMasks(6)(np.ones((2, 4, 3, 3, 5), "f"))
    assert found.shape == (2, 6, 3, 3, 5)
    np.testing.assert_array_equal(found[:, :4], 1)
    np.testing.assert_array_equal(found[:, 4:], 0)


def test_layers_of_detections_survive_serialization(reserialized):
    assert reserialized(roi_rows.TrimDetections(name="trim")).name == "trim"
    assert reserialized(roi_rows.PadMasks(6, name="pad")).max_detections == 6


def test_head_returns_one_mask_a_class():
    head = mask_head.MaskHead(
        3, 8, PyramidROIAlign((7, 7)), mask_head.convolutions(8, HeadLayers())
    )
    maps = [np.ones((2, side, side, 4), "f") for side in (16, 8, 4, 2)]
    record = np.zeros((2, 15), "f")
    record[:, 4:6] = 64
    found = np.asarray(head(np.tile(np.array([0.1, 0.1, 0.5, 0.5], "f"), (2, 5, 1)), record, maps))
    assert found.shape == (2, 5, 14, 14, 3)
    assert 0 < found.min() < found.max() < 1


@pytest.mark.parametrize(
    ("counts", "rows"), [((0, 0), 8), ((1, 3), 8), ((8, 2), 8), ((9, 2), 16), ((18, 20), 20)]
)
def test_rows_up_to_the_last_positive_roi_are_kept(counts, rows):
    class_ids = np.array([[2] * count + [0] * (40 - count) for count in counts], np.int32)
    tensor = np.arange(2 * 20 * 3, dtype=np.float32).reshape(2, 20, 3)
    (kept,) = roi_rows.TrimPositives()([class_ids, tensor])
    np.testing.assert_array_equal(kept, tensor[:, :rows])


def test_shares_of_mini_masks_are_those_of_whole_masks():
    """A mini-mask that is as fine as the input has the same pixels, half a pixel off too."""
    rng = np.random.default_rng(1)
    whole = np.zeros((40, 40), np.uint8)
    whole[8:32, 4:36] = rng.random((24, 32)) > 0.4
    box = np.array([8, 4, 32, 36]) / 40
    rois = np.array([[9.3, 6.1, 30.2, 33.4], [10, 20, 18.5, 30]]) / 40
    settings = {"mask_shape": (7, 7), "form": "shares"}
    gt_boxes, matched = ops.convert_to_tensor([[box]], "float32"), ops.zeros((1, 2), "int32")
    expected = mask_head.targets(
        ops.convert_to_tensor([rois], "float32"),
        gt_boxes,
        whole[None, None],
        matched,
        uses_mini_masks=False,
        **settings,
    )
    found = mask_head.targets(
        ops.convert_to_tensor([rois + 0.5 / 40], "float32"),
        gt_boxes,
        whole[None, None, 8:32, 4:36],
        matched,
        uses_mini_masks=True,
        **settings,
    )
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert len(np.unique(np.round(expected, 3))) > 10
