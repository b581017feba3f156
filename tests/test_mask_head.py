import numpy as np
import pytest
from keras import ops

from mrcnn.geometry import boxes as box_math
from mrcnn.geometry import masks as mask_math
from mrcnn.network import mask_head, matching
from mrcnn.network.norms import Norms
from mrcnn.network.roi_align import PyramidROIAlign

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
    loss = mask_head.mask_loss(
        *(ops.convert_to_tensor(array) for array in arrays), matching.on_one_device
    )
    np.testing.assert_allclose(float(loss), golden["loss_mask"], rtol=1e-5)


def test_mask_loss_counts_the_true_class_of_positive_rois_only():
    masks = np.full((1, 2, 1, 2, 3), 0.001, np.float32)
    masks[0, 0, 0, :, 2] = [0.5, 0.25]
    target = ops.convert_to_tensor([[[[1.0, 0.0]], [[1.0, 1.0]]]])
    loss = mask_head.mask_loss(target, ops.convert_to_tensor([[2, 0]]), masks, lambda x: x)
    assert float(loss) == pytest.approx(-(np.log(0.5) + np.log(0.75)) / 2, rel=1e-5)


def test_softmax_loss_is_that_of_the_true_class_inside_and_of_the_background_outside():
    masks = np.full((1, 2, 1, 2, 3), 1 / 3, np.float32)
    masks[0, 0, 0] = [[0.2, 0.3, 0.5], [0.7, 0.2, 0.1]]  # of background, class 1, class 2
    target = ops.convert_to_tensor([[[[1.0, 0.0]], [[1.0, 1.0]]]])
    class_ids = ops.convert_to_tensor([[2, 0]])
    loss = mask_head.mask_loss(target, class_ids, masks, lambda x: x, "softmax")
    assert float(loss) == pytest.approx(-(np.log(0.5) + np.log(0.7)) / 2, rel=1e-5)


def test_masks_without_class_learn_from_every_class():
    masks = np.array([[[[[0.5], [0.25]]], [[[0.1], [0.1]]], [[[0.8], [0.9]]]]], np.float32)
    target = ops.convert_to_tensor([[[[1.0, 0.0]], [[1.0, 1.0]], [[1.0, 1.0]]]])
    loss = mask_head.mask_loss(target, ops.convert_to_tensor([[2, 0, 1]]), masks, lambda x: x)
    expected = -(np.log(0.5) + np.log(0.75) + np.log(0.8) + np.log(0.9)) / 4
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_mask_loss_of_certain_errors_is_finite():
    masks = ops.convert_to_tensor([[[[[0.0, 1.0]]]]])
    loss = mask_head.mask_loss(
        ops.zeros((1, 1, 1, 1)), ops.ones((1, 1), "int32"), masks, lambda x: x
    )
    assert 10 < float(loss) < 20


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
    found = mask_head.TrimDetections()(given)
    np.testing.assert_array_equal(found, given[:, :rows, :4])


def test_padding_gives_one_mask_a_detection():
    found = mask_head.PadMasks(6)(np.ones((2, 4, 3, 3, 5), "f"))
    assert found.shape == (2, 6, 3, 3, 5)
    np.testing.assert_array_equal(found[:, :4], 1)
    np.testing.assert_array_equal(found[:, 4:], 0)


def test_layers_of_detections_survive_serialization(reserialized):
    assert reserialized(mask_head.TrimDetections(name="trim")).name == "trim"
    assert reserialized(mask_head.PadMasks(6, name="pad")).max_detections == 6


def test_head_returns_one_mask_a_class():
    head = mask_head.MaskHead(3, 8, PyramidROIAlign((7, 7)), mask_head.convolutions(8, Norms()))
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
    (kept,) = mask_head.TrimPositives()([class_ids, tensor])
    np.testing.assert_array_equal(kept, tensor[:, :rows])
