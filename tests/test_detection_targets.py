import keras
import numpy as np
import pytest
from keras import ops

from mrcnn.geometry import boxes as box_math
from mrcnn.network.roi_heads.sampling import RoiTargetLayer, sample_rois

OBJECT, OTHER = [0.1, 0.1, 0.5, 0.5], [0.6, 0.6, 0.9, 0.9]
NEAR = [0.1, 0.1, 0.5, 0.48]  # IoU 0.95 with OBJECT
FAR = [0.6, 0.1, 0.8, 0.3]  # touches neither
PADDING = [0, 0, 0, 0]


def sample(proposals, gt_class_ids, gt_boxes, *, count=6, most_positive=2, seed=0):
    """Return rois, class ids, matched objects and weights of one image."""
    found = sample_rois(
        ops.convert_to_tensor([proposals], "float32"),
        ops.convert_to_tensor([gt_class_ids], "int32"),
        ops.convert_to_tensor([gt_boxes], "float32"),
        ops.convert_to_tensor([seed], "int32"),
        count=count,
        most_positive=most_positive,
    )
    return [np.asarray(array)[0] for array in found]


def test_positive_rois_come_first_with_the_class_of_their_object():
    proposals = [FAR, NEAR, FAR, OTHER, FAR]
    rois, class_ids, matched, weights = sample(
        proposals, [3, 7], [OBJECT, OTHER], count=7, most_positive=4
    )
    assert set(class_ids[:4]) == {3, 7}
    np.testing.assert_array_equal(class_ids[4:], 0)
    np.testing.assert_array_equal(matched[:4], np.where(class_ids[:4] == 3, 0, 1))
    np.testing.assert_allclose(rois[4:], [FAR] * 3)
    np.testing.assert_array_equal(weights, 1)


def test_positive_is_an_iou_of_a_half():
    gt_box, half, less = [0, 0, 0.5, 0.5], [0, 0, 0.5, 0.25], [0, 0, 0.5, 0.24]
    _, class_ids, _, _ = sample([half, less], [1], [gt_box], count=3, most_positive=3)
    assert class_ids.tolist() == [1, 1, 0]


def test_boxes_of_objects_are_proposals_too():
    rois, class_ids, _, weights = sample([FAR] * 5, [4], [OBJECT])
    assert class_ids.tolist() == [4, 0, 0, 0, 0, 0]
    np.testing.assert_allclose(rois[0], OBJECT)
    np.testing.assert_array_equal(weights, 1)


def test_at_most_so_many_are_positive():
    _, class_ids, _, weights = sample([NEAR] * 20 + [FAR] * 20, [1], [OBJECT])
    assert class_ids.tolist() == [1, 1, 0, 0, 0, 0]
    assert weights.sum() == 6


def test_rows_that_cannot_be_filled_have_no_weight():
    rois, class_ids, _, weights = sample([NEAR, FAR, PADDING, PADDING, PADDING], [2], [OBJECT])
    assert class_ids.tolist() == [2, 2, 0, 0, 0, 0]
    assert weights.tolist() == [1, 1, 1, 0, 0, 0]
    np.testing.assert_array_equal(rois[3:], 0)


def test_rois_on_crowds_do_not_learn():
    rois, class_ids, _, weights = sample([NEAR, FAR, FAR], [-2, 0, 0], [OBJECT, PADDING, PADDING])
    assert weights.sum() == 2
    np.testing.assert_array_equal(class_ids, 0)
    np.testing.assert_allclose(rois[:2], [FAR, FAR])


def test_small_rois_in_a_large_crowd_do_not_learn():
    small = [0.3, 0.3, 0.301, 0.301]
    rois, class_ids, _, weights = sample([small] * 9 + [FAR], [-1], [[0, 0, 0.55, 0.55]], count=4)
    assert weights.tolist() == [1, 0, 0, 0]
    np.testing.assert_allclose(rois[0], FAR)
    assert not class_ids.any()


def test_a_roi_on_an_object_inside_a_crowd_is_positive():
    _, class_ids, matched, weights = sample(
        [FAR, NEAR], [-1, 5], [[0, 0, 0.55, 0.55], OBJECT], count=4
    )
    assert class_ids.tolist() == [5, 5, 0, 0]
    assert matched[:2].tolist() == [1, 1]
    assert weights.tolist() == [1, 1, 1, 0]


def test_without_objects_all_rois_are_negative():
    rois, class_ids, _, weights = sample([FAR, NEAR] * 10, [0, 0], [PADDING, PADDING])
    np.testing.assert_array_equal(class_ids, 0)
    np.testing.assert_array_equal(weights, 1)
    assert rois.any(axis=1).all()


def test_without_proposals_and_objects_nothing_has_weight():
    rois, class_ids, _, weights = sample([PADDING] * 8, [0], [PADDING])
    assert not np.concatenate([rois.ravel(), class_ids, weights]).any()


def test_the_choice_is_random_and_repeatable():
    proposals = [[0.6, 0.1 + i / 100, 0.8, 0.2 + i / 100] for i in range(40)]
    first, again, other = (sample(proposals, [1], [OBJECT], seed=s)[0] for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def layer_inputs() -> list[np.ndarray]:
    """Return two images of 101 px, so that a pixel is 0.01: one with two objects, one without."""
    rng = np.random.default_rng(0)
    proposals = np.tile(np.array([NEAR, FAR, [0.6, 0.6, 0.9, 0.8], FAR, FAR], "f"), (2, 1, 1))
    meta = np.zeros((2, 15), "f")
    meta[:, 4:6] = 101
    boxes = np.zeros((2, 3, 4), "f")
    boxes[0, 0], boxes[0, 1] = [10, 10, 51, 51], [60, 60, 91, 91]
    masks = (rng.random((2, 3, 28, 28)) < 0.5).astype("u1")
    ids = np.array([[4, 2, 0], [0, 0, 0]], "i")
    return [proposals, meta, ids, boxes, masks, np.array([3, 4], "i")]


def make_layer(**changes) -> RoiTargetLayer:
    settings = {
        "count": 8,
        "positive_ratio": 0.5,
        "mask_shape": (28, 28),
        "uses_mini_masks": True,
        "std_dev": np.array([0.1, 0.1, 0.2, 0.2]),
        "name": "proposal_targets",
    }
    return RoiTargetLayer(**(settings | changes))


def test_targets_lead_rois_to_their_objects():
    inputs = layer_inputs()
    rois, class_ids, deltas, _, weights, _ = (np.asarray(a) for a in make_layer()(inputs))
    assert sorted(class_ids[0]) == [0, 0, 0, 0, 2, 2, 4, 4]
    decoded = box_math.decode(rois[0, :4], deltas[0, :4] * [0.1, 0.1, 0.2, 0.2])
    expected = np.where(class_ids[0, :4, None] == 4, OBJECT, OTHER)
    np.testing.assert_allclose(decoded, expected, atol=1e-5)
    assert weights[0].tolist() == [1] * 7 + [0]


def test_rois_that_are_their_objects_get_the_whole_mask():
    inputs = layer_inputs()
    _, class_ids, deltas, masks, *_ = (np.asarray(a) for a in make_layer()(inputs))
    exact = np.flatnonzero((np.abs(deltas[0, :4]) < 1e-5).all(axis=-1) & (class_ids[0, :4] > 0))
    assert len(exact) == 2
    for i in exact:
        np.testing.assert_array_equal(masks[0, i], inputs[4][0, 0 if class_ids[0, i] == 4 else 1])


def test_an_image_without_objects_gets_finite_targets():
    outputs = make_layer()(layer_inputs())
    assert all(np.isfinite(np.asarray(array)[1]).all() for array in outputs)
    assert not np.asarray(outputs[1])[1].any()


def test_targets_do_not_depend_on_the_batch():
    inputs, layer = layer_inputs(), make_layer()
    together = layer(inputs)
    for i in range(2):
        alone = layer([array[i : i + 1] for array in inputs])
        for one, many in zip(alone, together, strict=True):
            np.testing.assert_array_equal(one[0], many[i])


def test_declared_shapes_and_types_are_the_real_ones():
    inputs, layer = layer_inputs(), make_layer()
    symbolic = [keras.KerasTensor((None, *a.shape[1:]), str(a.dtype)) for a in inputs]
    for declared, real in zip(layer.compute_output_spec(symbolic), layer(inputs), strict=True):
        assert (declared.shape[1:], declared.dtype) == (tuple(real.shape[1:]), real.dtype.name)


@pytest.mark.parametrize(("count", "ratio", "expected"), [(200, 0.33, 66), (2, 0.33, 1)])
def test_the_share_of_positive_rois_is_rounded_down_but_never_to_zero(count, ratio, expected):
    assert make_layer(count=count, positive_ratio=ratio).most_positive == expected


def test_detection_target_layer_survives_serialization(reserialized):
    inputs, layer = layer_inputs(), make_layer()
    rebuilt = reserialized(layer)
    assert rebuilt.name == "proposal_targets"
    for one, other in zip(rebuilt(inputs), layer(inputs), strict=True):
        np.testing.assert_array_equal(one, other)
