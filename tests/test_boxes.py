import numpy as np
import pytest
from keras import ops

from mrcnn.geometry import boxes

both = pytest.mark.parametrize("xp", [np, ops], ids=["numpy", "keras"])


def random_boxes(count: int, seed: int, scale: float = 100.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, scale, (count, 2))
    return np.concatenate([low, low + rng.uniform(0.01, 0.5, (count, 2)) * scale], 1).astype("f")


def tensors(xp, *arrays):
    arrays = [np.asarray(array, np.float32) for array in arrays]
    return arrays if xp is np else [ops.convert_to_tensor(array) for array in arrays]


@both
@pytest.mark.parametrize("scale", [1.0, 1e-3], ids=["pixels", "normalized"])
def test_iou_by_hand_at_any_scale(xp, scale):
    box = [[0, 0, 10 * scale, 10 * scale]]
    others = np.array([[0, 5, 10, 15], [0, 0, 10, 10], [2, 2, 4, 4], [10, 10, 20, 20]]) * scale
    found = boxes.iou(*tensors(xp, box, others), xp)
    np.testing.assert_allclose(np.asarray(found), [[1 / 3, 1, 0.04, 0]], rtol=1e-5)


@both
def test_iou_of_padding_is_zero(xp):
    padding = np.zeros((2, 4))
    box = [[0, 0, 1e-3, 1e-3]]
    assert not np.asarray(boxes.iou(*tensors(xp, padding, padding), xp)).any()
    assert not np.asarray(boxes.iou(*tensors(xp, padding, box), xp)).any()


def test_iou_keeps_leading_axes_apart():
    first, second = random_boxes(6, seed=1), random_boxes(4, seed=2)
    found = boxes.iou(first.reshape(2, 3, 4), second.reshape(2, 2, 4))
    assert found.shape == (2, 3, 2)
    np.testing.assert_array_equal(found[1], boxes.iou(first[3:], second[2:]))


def test_iou_agrees_with_matterports(matterport_network):
    golden = matterport_network
    np.testing.assert_allclose(
        boxes.iou(golden["iou_a"], golden["iou_b"]), golden["iou"], atol=1e-6
    )


@both
@pytest.mark.parametrize("scale", [1.0, 1e-3], ids=["pixels", "normalized"])
def test_share_inside_is_of_the_first_box(xp, scale):
    found = np.array([[0, 0, 10, 10], [0, 0, 2, 2], [0, 5, 10, 15], [0, 0, 0, 0]]) * scale
    regions = np.array([[0, 0, 10, 10], [0, 0, 1, 100]]) * scale
    expected = [[1, 0.1], [1, 0.5], [0.5, 0.1], [0, 0]]
    found = np.asarray(boxes.share_inside(*tensors(xp, found, regions), xp))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_share_inside_is_what_coco_compares_with_crowds():
    coco_mask = pytest.importorskip("pycocotools.mask")
    first, second = random_boxes(30, seed=1), random_boxes(8, seed=2)
    sides = [
        np.concatenate([b[:, 1::-1], (b[:, 2:] - b[:, :2])[:, ::-1]], 1) for b in (first, second)
    ]
    expected = coco_mask.iou(*(side.astype(np.float64) for side in sides), [1] * len(second))
    assert (expected > 0).sum() > 50
    np.testing.assert_allclose(boxes.share_inside(first, second), expected, atol=1e-5)


@both
def test_area_of_inverted_boxes_is_zero(xp):
    found = boxes.area(*tensors(xp, [[0, 0, 2, 3], [2, 3, 0, 0], [0, 3, 2, 0]]), xp)
    np.testing.assert_array_equal(np.asarray(found), [6, 0, 0])


@both
def test_deltas_by_hand(xp):
    deltas = boxes.encode(*tensors(xp, [[0, 0, 10, 20]], [[5, 10, 25, 30]]), xp)
    np.testing.assert_allclose(np.asarray(deltas), [[1.0, 0.5, np.log(2), 0.0]], rtol=1e-6)


@both
@pytest.mark.parametrize("scale", [100.0, 0.1])
def test_decode_inverts_encode(xp, scale):
    anchors, gt_boxes = random_boxes(50, 3, scale), random_boxes(50, 4, scale)
    anchors, gt_boxes = tensors(xp, anchors, gt_boxes)
    decoded = boxes.decode(anchors, boxes.encode(anchors, gt_boxes, xp), xp)
    np.testing.assert_allclose(np.asarray(decoded), np.asarray(gt_boxes), atol=1e-5 * scale)


def test_numpy_and_keras_agree():
    first, second = random_boxes(20, seed=5), random_boxes(20, seed=6)
    for function in (boxes.iou, boxes.encode, boxes.decode, boxes.clip):
        # Decoding takes the second argument for deltas: keep them small.
        other = second / 100 if function is boxes.decode else second
        in_graph = function(*tensors(ops, first, other), ops)
        np.testing.assert_allclose(in_graph, function(first, other), rtol=1e-5, atol=1e-5)


@both
@pytest.mark.parametrize(
    ("box", "gt_box"),
    [
        ([0, 0, 0, 0], [0, 0, 5, 5]),
        ([0, 0, 5, 5], [0, 0, 0, 0]),
        ([0, 0, 0, 0], [0, 0, 0, 0]),
        ([1, 1, 1, 4], [0, 0, 5, 5]),
    ],
)
def test_boxes_without_extent_get_zero_deltas(xp, box, gt_box):
    deltas = np.asarray(boxes.encode(*tensors(xp, [box, [0, 0, 1, 1]], [gt_box, [0, 0, 2, 1]]), xp))
    np.testing.assert_array_equal(deltas[0], 0)
    np.testing.assert_allclose(deltas[1], [0.5, 0, np.log(2), 0], rtol=1e-6)


@both
def test_clip_cuts_at_the_window(xp):
    window = [10, 20, 30, 40]
    outside = [[0, 0, 100, 100], [12, 22, 28, 38], [0, 0, 5, 5], [15, 0, 50, 30]]
    clipped = boxes.clip(*tensors(xp, outside, window), xp)
    expected = [[10, 20, 30, 40], [12, 22, 28, 38], [10, 20, 10, 20], [15, 20, 30, 30]]
    np.testing.assert_array_equal(np.asarray(clipped), expected)


def test_the_whole_input_is_the_unit_box():
    normalized = boxes.normalize(np.array([[0, 0, 512, 1024], [511, 0, 512, 1]]), (512, 1024))
    np.testing.assert_array_equal(normalized, [[0, 0, 1, 1], [1, 0, 1, 0]])
    assert normalized.dtype == np.float32


def test_denormalize_inverts_normalize():
    pixels = random_boxes(30, seed=7, scale=500.0)
    normalized = boxes.normalize(pixels, (640, 768))
    np.testing.assert_allclose(boxes.denormalize(normalized, (640, 768)), pixels, atol=1e-3)


def test_normalization_in_the_graph_agrees_and_leaves_padding_alone():
    pixels = np.stack([random_boxes(3, seed=8), random_boxes(3, seed=9)])
    pixels[:, 2] = 0
    shapes = np.array([[128, 256], [320, 192]], np.float32)
    found = np.asarray(boxes.normalize_in_graph(*tensors(ops, pixels, shapes), ops))
    for i, shape in enumerate([(128, 256), (320, 192)]):
        np.testing.assert_allclose(found[i, :2], boxes.normalize(pixels[i, :2], shape), atol=1e-6)
        np.testing.assert_array_equal(found[i, 2], 0)


def test_boxes_of_a_letterboxed_input_become_pixels_of_the_image():
    # A 100 x 200 image, resized by 1.28 to 128 x 256, in rows 64..192 of a 256 x 256 input.
    window = np.array([64, 0, 192, 256])
    pixels = np.array([[64, 0, 192, 256], [96, 64, 160, 192], [64, 0, 128, 128]])
    found = boxes.to_image(boxes.normalize(pixels, (256, 256)), window, (100, 200), (256, 256))
    expected = [[0, 0, 100, 200], [25, 50, 75, 150], [0, 0, 50, 100]]
    np.testing.assert_array_equal(np.around(found), expected)
    # Where 0 and 1 are the borders, and not centres of pixels, nothing is lost.
    whole = boxes.normalize(pixels, (256, 256), inclusive=False)
    found = boxes.to_image(whole, window, (100, 200), (256, 256), inclusive=False)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert found.dtype == np.float32


def test_no_boxes_become_no_boxes():
    none = np.zeros((0, 4), np.float32)
    assert boxes.to_image(none, np.array([0, 0, 9, 9]), (9, 9), (64, 64)).shape == (0, 4)
    assert boxes.iou(none, random_boxes(2, seed=1)).shape == (0, 2)
    assert boxes.encode(none, none).shape == (0, 4)
