import numpy as np
import pytest
from keras import ops

from mrcnn.network.layers.head_layers import HeadLayers
from mrcnn.network.layers.roi_align import PyramidROIAlign
from mrcnn.network.ops import reductions
from mrcnn.network.roi_heads import box as box_head

STD_DEV = [0.1, 0.1, 0.2, 0.2]


def meta(side: int, window: list[int], batch: int = 1) -> np.ndarray:
    """Return records of a square input and the window of the image in it, pixels."""
    record = np.zeros((batch, 15), np.float32)
    record[:, 4:6], record[:, 7:11] = side, window
    return record


def detect(rois, class_ids, scores, *, deltas=None, min_confidence=0.0, window=None, count=5):
    """Return detections of rois whose scores of all other classes (of 3) are low."""
    rois = np.asarray([rois], np.float32)
    probs = np.zeros((1, len(class_ids), 3), np.float32)
    probs[0, np.arange(len(class_ids)), class_ids] = scores
    if deltas is None:
        deltas = np.zeros((1, len(class_ids), 3, 4), np.float32)
    layer = box_head.DetectionLayer(count, min_confidence, 0.3, STD_DEV)
    record = meta(101, window or [0, 0, 101, 101])
    return np.asarray(layer([rois, probs, deltas, record]))[0]


LEFT, SHIFTED, RIGHT = [0.1, 0.1, 0.5, 0.4], [0.1, 0.1, 0.5, 0.42], [0.1, 0.6, 0.5, 0.9]


def test_detections_are_matterports(matterport_network):
    golden = matterport_network
    layer = box_head.DetectionLayer(100, 0.7, 0.3, STD_DEV)
    inputs = [golden[name] for name in ("det_rois", "det_probs", "det_deltas", "roi_meta")]
    np.testing.assert_allclose(layer(inputs), golden["detections"], atol=1e-5)


def test_best_detections_come_first_and_padding_is_zero():
    found = detect([LEFT, RIGHT], [1, 2], [0.6, 0.8])
    np.testing.assert_allclose(found[:2], [[*RIGHT, 2, 0.8], [*LEFT, 1, 0.6]], atol=1e-6)
    np.testing.assert_array_equal(found[2:], 0)


def test_a_roi_becomes_a_detection_of_its_best_class_only():
    layer = box_head.DetectionLayer(5, 0.0, 0.3, STD_DEV)
    probs = np.array([[[0.1, 0.5, 0.4]]], "f")
    rois, deltas = np.array([[LEFT]], "f"), np.zeros((1, 1, 3, 4), "f")
    found = np.asarray(layer([rois, probs, deltas, meta(101, [0, 0, 101, 101])]))[0]
    np.testing.assert_allclose(found[0], [*LEFT, 1, 0.5], atol=1e-6)
    np.testing.assert_array_equal(found[1:], 0)


def test_a_roi_may_become_a_detection_of_every_class_each_with_its_own_box():
    layer = box_head.DetectionLayer(5, 0.15, 0.3, STD_DEV, every_class=True)
    probs = np.array([[[0.5, 0.3, 0.2]], [[0.8, 0.1, 0.1]]], "f")
    rois, deltas = np.array([[LEFT]] * 2, "f"), np.zeros((2, 1, 3, 4), "f")
    deltas[:, :, 2, 1] = 10.0  # class 2: moved right by 10 * 0.1 of the width
    found = np.asarray(layer([rois, probs, deltas, meta(101, [0, 0, 101, 101], batch=2)]))
    np.testing.assert_allclose(found[0, 0], [*LEFT, 1, 0.3], atol=1e-6)
    np.testing.assert_allclose(found[0, 1], [0.1, 0.4, 0.5, 0.7, 2, 0.2], atol=1e-6)
    np.testing.assert_array_equal(found[0, 2:], 0)
    np.testing.assert_array_equal(found[1], 0)


def test_background_is_no_detection():
    np.testing.assert_array_equal(detect([LEFT, RIGHT], [0, 0], [0.9, 0.8]), 0)


def test_overlapping_detections_of_a_class_are_suppressed():
    found = detect([LEFT, SHIFTED], [1, 1], [0.6, 0.8])
    np.testing.assert_allclose(found[0], [*SHIFTED, 1, 0.8], atol=1e-6)
    np.testing.assert_array_equal(found[1:], 0)


def test_overlapping_detections_of_two_classes_stay():
    assert detect([LEFT, SHIFTED], [1, 2], [0.6, 0.8])[:, 4].tolist() == [2, 1, 0, 0, 0]


def test_minimum_confidence_is_inclusive():
    found = detect([LEFT, RIGHT], [1, 2], [0.5, 0.499], min_confidence=0.5)
    assert found[:, 4].tolist() == [1, 0, 0, 0, 0]


def test_no_minimum_confidence_keeps_all():
    found = detect([LEFT, RIGHT], [1, 2], [0.01, 0.4], min_confidence=None)
    assert found[:, 4].tolist() == [2, 1, 0, 0, 0]


def test_detections_are_cut_at_the_window_of_the_image():
    # In a 101 px input a pixel is 0.01; the window's last row is 50, so it ends at 0.5.
    found = detect([[0.0, 0.1, 0.9, 0.4]], [1], [0.9], window=[20, 0, 51, 101])
    np.testing.assert_allclose(found[0, :4], [0.2, 0.1, 0.5, 0.4], atol=1e-6)


def test_detections_use_the_deltas_of_their_class():
    deltas = np.zeros((1, 1, 3, 4), np.float32)
    deltas[0, 0, 1], deltas[0, 0, 2] = [9, 9, 9, 9], [5, 0, 0, 0]
    found = detect([[0.1, 0.1, 0.3, 0.3]], [2], [0.9], deltas=deltas)
    np.testing.assert_allclose(found[0], [0.2, 0.1, 0.4, 0.3, 2, 0.9], atol=1e-6)


def test_only_the_best_detections_fit():
    rois = [[0.1 * i, 0, 0.1 * i + 0.05, 0.1] for i in range(8)]
    found = detect(rois, [1] * 8, np.linspace(0.1, 0.8, 8), count=3)
    np.testing.assert_allclose(found[:, 5], [0.8, 0.7, 0.6], atol=1e-6)


def test_detections_do_not_depend_on_the_batch(matterport_network):
    golden = matterport_network
    layer = box_head.DetectionLayer(20, 0.0, 0.3, STD_DEV)
    inputs = [golden[name] for name in ("det_rois", "det_probs", "det_deltas", "roi_meta")]
    found = layer(inputs)
    for i in range(2):
        np.testing.assert_array_equal(layer([a[i : i + 1] for a in inputs])[0], found[i])


def test_detection_layer_survives_serialization(reserialized, matterport_network):
    golden = matterport_network
    inputs = [golden[name] for name in ("det_rois", "det_probs", "det_deltas", "roi_meta")]
    layer = box_head.DetectionLayer(20, 0.5, 0.3, np.array(STD_DEV), name="mrcnn_detection")
    rebuilt = reserialized(layer)
    assert rebuilt.name == "mrcnn_detection"
    np.testing.assert_array_equal(rebuilt(inputs), layer(inputs))
    assert layer.compute_output_shape([a.shape for a in inputs]) == (2, 20, 6)


def test_class_loss_is_matterports(matterport_network):
    golden = matterport_network
    ids, logits = (ops.convert_to_tensor(golden[name]) for name in ("l_tci", "l_logit"))
    # Matterport reads the active classes of the first image for all images.
    active = ops.convert_to_tensor(np.repeat(golden["l_act"][:1], 2, axis=0))
    loss = box_head.class_loss(ids, logits, active, ops.ones((2, 64)), reductions.on_one_device)
    np.testing.assert_allclose(float(loss), golden["loss_class"], rtol=1e-5)


def class_loss(class_ids, logits, active, weights) -> float:
    arrays = np.array(class_ids), np.array(logits, "f"), np.array(active), np.array(weights, "f")
    tensors = (ops.convert_to_tensor(array) for array in arrays)
    return float(box_head.class_loss(*tensors, reductions.on_one_device))


def test_rois_of_padding_do_not_count_in_the_class_loss():
    logits = [[[0, 0], [9, -9]]]
    assert class_loss([[1, 1]], logits, [[1, 1]], [[1, 0]]) == pytest.approx(np.log(2), rel=1e-5)


def test_rois_predicted_as_a_class_that_the_source_lacks_do_not_count():
    logits = [[[1.0, 0, 0], [0, 0, 9]]]
    expected = np.log(1 + 2 * np.exp(-1))
    assert class_loss([[0, 0]], logits, [[1, 1, 0]], [[1, 1]]) == pytest.approx(expected, rel=1e-5)


def test_each_image_has_its_own_active_classes():
    logits = [[[0.0, 2.0]], [[0.0, 2.0]]]
    one = class_loss([[1], [0]], logits, [[1, 1], [1, 0]], [[1], [1]])
    assert one == pytest.approx(np.log(1 + np.exp(-2)), rel=1e-5)


def test_box_loss_is_matterports(matterport_network):
    golden = matterport_network
    tensors = (ops.convert_to_tensor(golden[name]) for name in ("l_tb", "l_tci", "l_pb"))
    loss = box_head.box_loss(*tensors, reductions.on_one_device)
    np.testing.assert_allclose(float(loss), golden["loss_bbox"], rtol=1e-5)


def test_box_loss_counts_positive_rois_of_their_true_class_only():
    deltas = np.full((1, 2, 3, 4), 50, np.float32)
    deltas[0, 0, 2] = [0.5, 0, 0, 2.0]
    loss = box_head.box_loss(
        ops.zeros((1, 2, 4)), ops.convert_to_tensor([[2, 0]]), deltas, reductions.on_one_device
    )
    assert float(loss) == pytest.approx((0.125 + 1.5) / 4)


def test_box_loss_of_background_alone_is_zero():
    loss = box_head.box_loss(
        ops.zeros((1, 2, 4)),
        ops.zeros((1, 2), "int32"),
        ops.ones((1, 2, 3, 4)),
        reductions.on_one_device,
    )
    assert float(loss) == 0


def test_head_returns_logits_probabilities_and_deltas_by_class():
    trunk = box_head.fully_connected(7, 16, HeadLayers())
    head = box_head.BoxHead(3, PyramidROIAlign((7, 7)), trunk)
    maps = [np.ones((2, side, side, 4), "f") for side in (16, 8, 4, 2)]
    rois = np.tile(np.array([[LEFT, RIGHT]], "f"), (2, 1, 1))
    logits, probs, deltas = head(rois, meta(64, [0, 0, 64, 64], batch=2), maps)
    assert (logits.shape, probs.shape, deltas.shape) == ((2, 2, 3), (2, 2, 3), (2, 2, 3, 4))
    np.testing.assert_allclose(probs, ops.softmax(logits), rtol=1e-5)
