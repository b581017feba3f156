import random

import h5py
import numpy as np
import pytest
from keras import ops

from mrcnn import utils
from mrcnn.geometry import images

BOXES = np.array([[0, 0, 10, 10], [0, 5, 10, 15], [20, 20, 30, 40]])


def test_iou_of_boxes_that_share_a_third():
    found = utils.compute_overlaps(BOXES, BOXES)
    np.testing.assert_allclose(found, [[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, 1]])
    np.testing.assert_allclose(utils.compute_iou(BOXES[0], BOXES, 100, [100, 100, 200]), found[0])


def test_iou_of_masks_is_that_of_their_boxes():
    masks = np.zeros((40, 40, 3))
    for index, (y1, x1, y2, x2) in enumerate(BOXES):
        masks[y1:y2, x1:x2, index] = 1
    found = utils.compute_overlaps_masks(masks, masks > 0)
    np.testing.assert_allclose(found, utils.compute_overlaps(BOXES, BOXES))
    assert utils.compute_overlaps_masks(masks, masks[..., :0]).shape == (3, 0)
    assert not utils.compute_overlaps_masks(0 * masks, 0 * masks).any()


def test_suppression_keeps_the_best_of_a_heap():
    kept = utils.non_max_suppression(BOXES, np.array([0.8, 0.9, 0.1]), 0.3)
    np.testing.assert_array_equal(kept, [1, 2])
    assert kept.dtype == np.int32
    # An IoU of exactly the threshold is not above it.
    kept = utils.non_max_suppression(BOXES, np.array([0.8, 0.9, 0.1]), 1 / 3)
    np.testing.assert_array_equal(kept, [1, 0, 2])


def test_refinement_and_its_application_are_inverse():
    deltas = utils.box_refinement(BOXES, BOXES[::-1])
    np.testing.assert_allclose(utils.apply_box_deltas(BOXES, deltas), BOXES[::-1], atol=1e-4)
    in_graph = ops.convert_to_numpy(utils.box_refinement_graph(BOXES, BOXES[::-1]))
    np.testing.assert_allclose(in_graph, deltas, atol=1e-6)


def test_normalized_boxes_come_back_as_whole_pixels():
    normalized = utils.norm_boxes(BOXES, (50, 60))
    np.testing.assert_allclose(normalized[0], [0, 0, 9 / 49, 9 / 59], rtol=1e-6)
    pixels = utils.denorm_boxes(normalized, (50, 60))
    np.testing.assert_array_equal(pixels, BOXES)
    assert (normalized.dtype, pixels.dtype) == (np.float32, np.int32)


def test_rows_of_zeros_are_trimmed_wherever_they_stand():
    rows = np.array([[0, 0], [1, 0], [0, 0], [0, 2]])
    np.testing.assert_array_equal(utils.trim_zeros(rows), [[1, 0], [0, 2]])


def test_anchors_of_several_scales_share_their_cells():
    found = utils.generate_anchors([10, 20], [1], (1, 2), 16, 1)
    expected = [[-5, -5, 5, 5], [-10, -10, 10, 10], [-5, 11, 5, 21], [-10, 6, 10, 26]]
    np.testing.assert_allclose(found, expected)


def test_ratios_run_before_scales():
    found = utils.generate_anchors([10, 20], [0.25, 4], (1, 1), 16, 1)
    heights = found[:, 2] - found[:, 0]
    np.testing.assert_allclose(heights, [20, 40, 5, 10])


@pytest.mark.parametrize("shape", [(100, 60, 3), (33, 90, 3), (128, 128, 3)])
def test_masks_move_with_their_image(shape):
    image = np.zeros(shape, np.uint8)
    image[20:30, 10:50] = 255
    mask = image[..., :1] > 0
    fitted, window, scale, padding, crop = utils.resize_image(image, 64, 128)
    moved = utils.resize_mask(mask, scale, padding, crop)
    assert moved.shape == (128, 128, 1)
    assert moved.dtype == bool
    # The mask is where the image is half as bright, but for corners.
    assert (moved[..., 0] != (fitted[..., 0] > 127)).sum() <= 4
    y1, _, y2, x2 = window
    assert not moved[:y1].any()
    assert not moved[y2:].any()
    assert not moved[:, x2:].any()


def test_a_crop_is_repeated_by_the_seed_of_random():
    image = np.arange(200 * 150, dtype=np.uint32).reshape(200, 150, 1)
    crops = []
    for seed in (1, 1, 2):
        random.seed(seed)
        crops.append(utils.resize_image(image, 64, 128, mode="crop"))
    np.testing.assert_array_equal(crops[0][0], crops[1][0])
    assert crops[0][4] != crops[2][4]
    fitted, window, scale, padding, crop = crops[0]
    assert (fitted.shape, window, scale) == ((64, 64, 1), (0, 0, 64, 64), 1)
    y, x, height, width = crop
    np.testing.assert_array_equal(fitted, image[y : y + height, x : x + width])
    mask = image > 20000
    np.testing.assert_array_equal(
        utils.resize_mask(mask, scale, padding, crop), mask[y : y + height, x : x + width]
    )


def test_without_resize_any_shape_stays_what_it_is():
    image = np.ones((33, 70, 3), np.uint8)
    same, window, scale, padding, crop = utils.resize_image(image, 64, 64, mode="none")
    assert same is image
    assert (window, scale, padding, crop) == ((0, 0, 33, 70), 1, [(0, 0)] * 3, None)


def test_resize_takes_booleans_and_keeps_a_range():
    enlarged = utils.resize(np.array([[True, False]]), (1, 4), mode="edge")
    assert enlarged.dtype == np.float64
    np.testing.assert_allclose(enlarged[0, 1:3], [0.75, 0.25])
    image = np.full((4, 4), 200, np.uint8)
    assert utils.resize(image, (2, 2), preserve_range=True).max() == pytest.approx(200)
    # As the placement of images does it, but for the truncation.
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    found = utils.resize(image, (7, 9), preserve_range=True)
    np.testing.assert_array_equal(np.floor(found + 1e-9), images.resize(image, (7, 9)))


def test_a_mask_survives_minimizing_and_expanding():
    mask = np.zeros((50, 60, 2), bool)
    mask[10:38, 5:33, 0] = True
    mask[10:20, 5:15, 0] = False
    mask[0:28, 32:60, 1] = True
    boxes = utils.extract_bboxes(mask)
    mini = utils.minimize_mask(boxes, mask, (28, 28))
    assert mini.shape == (28, 28, 2)
    np.testing.assert_array_equal(utils.expand_mask(boxes, mini, (50, 60, 3)), mask)


def test_a_box_without_area_is_refused_by_name():
    with pytest.raises(ValueError, match="Invalid bounding box with area of zero"):
        utils.minimize_mask(np.zeros((1, 4), int), np.zeros((8, 8, 1), bool), (4, 4))


def test_unmolded_mask_fills_its_box_and_nothing_else():
    found = utils.unmold_mask(np.ones((28, 28), np.float32), np.array([2, 3, 12, 9]), (20, 20, 3))
    expected = np.zeros((20, 20), bool)
    expected[2:12, 3:9] = True
    np.testing.assert_array_equal(found, expected)


def test_batches_are_sliced_and_stacked():
    values = np.arange(6.0).reshape(3, 2)
    both = utils.batch_slice([values, values], lambda a, b: (a + b, a[:1]), 3, names=["x", "y"])
    np.testing.assert_allclose(both[0], 2 * values)
    np.testing.assert_allclose(both[1], values[:, :1])
    np.testing.assert_allclose(utils.batch_slice(values, lambda a: -a, 2), -values[:2])


def test_download_goes_to_the_path_it_is_given(monkeypatch, tmp_path, capsys):
    fetched = []
    monkeypatch.setattr(utils.download, "fetch", lambda *arguments: fetched.append(arguments))
    target = tmp_path / "here" / "mask_rcnn_coco.h5"
    utils.download_trained_weights(str(target))
    published = utils.catalog.PUBLISHED["coco"]
    assert [each[:2] for each in fetched] == [(published.url, target)]
    assert fetched[0][2].size == published.size
    assert str(target) in capsys.readouterr().out


def test_a_readable_weight_file_is_not_replaced_by_a_download(tmp_path):
    path = tmp_path / "mask_rcnn_coco.h5"
    with h5py.File(path, "w") as file:
        file["a"] = 1
    content = path.read_bytes()
    utils.download_trained_weights(path)
    assert path.read_bytes() == content
