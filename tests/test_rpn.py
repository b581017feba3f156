import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from mrcnn.geometry import anchors as anchor_grid
from mrcnn.geometry import boxes as box_math
from mrcnn.network.ops import reductions
from mrcnn.network.rpn import head as rpn_head
from mrcnn.network.rpn import losses as rpn_losses
from mrcnn.network.rpn import proposals
from mrcnn.network.rpn import targets as rpn_targets

STD_DEV = [0.1, 0.1, 0.2, 0.2]
FAR = [500, 500, 510, 510]  # background; half of a sample at most is foreground


def targets(anchors, gt_boxes, gt_class_ids=None, *, seeds=None, most: int = 256):
    """Return match and deltas of a batch; the class of every object is 1 unless given."""
    gt_boxes = np.asarray(gt_boxes, np.float32)
    gt_boxes = gt_boxes[None] if gt_boxes.ndim == 2 else gt_boxes
    if gt_class_ids is None:
        gt_class_ids = gt_boxes.any(axis=-1)
    gt_class_ids = np.reshape(gt_class_ids, gt_boxes.shape[:2]).astype(np.int32)
    match, deltas = rpn_targets.targets(
        np.asarray(anchors, np.float32),
        ops.convert_to_tensor(gt_class_ids),
        ops.convert_to_tensor(gt_boxes),
        ops.convert_to_tensor(range(len(gt_boxes)) if seeds is None else seeds, "int32"),
        anchors_per_image=most,
        std_dev=STD_DEV,
    )
    return np.asarray(match), np.asarray(deltas)


def propose(probs, deltas, anchors, count: int, limit: int = 6000, threshold: float = 0.7):
    layer = proposals.ProposalLayer(count, threshold, limit, STD_DEV)
    probs, deltas, anchors = (np.asarray(array, np.float32) for array in (probs, deltas, anchors))
    return np.asarray(layer([np.stack([1 - probs, probs], axis=-1), deltas, anchors]))


def test_foreground_and_background_by_hand():
    # IoU with the object: 0.83, 0.6 (between the thresholds), 0.17, 0.
    anchors = [[0, 0, 10, 10], [0, 0, 10, 20], [0, 0, 2, 10], [50, 50, 60, 60]]
    match, deltas = targets(anchors, [[0, 0, 10, 12]])
    np.testing.assert_array_equal(match, [[1, 0, -1, -1]])
    expected = [0, 1 / 10 / 0.1, 0, np.log(1.2) / 0.2]
    np.testing.assert_allclose(deltas[0, 0], expected, rtol=1e-5, atol=1e-6)


def test_the_best_anchor_of_an_object_is_foreground_however_small_its_iou():
    anchors = [[0, 0, 10, 10], [0, 0, 5, 5], [40, 40, 50, 50]]
    match, deltas = targets(anchors, [[0, 0, 10, 40]])
    np.testing.assert_array_equal(match, [[1, -1, -1]])
    decoded = box_math.decode(np.array(anchors[:1], "f"), deltas[0, :1] * STD_DEV)
    np.testing.assert_allclose(decoded, [[0, 0, 10, 40]], atol=1e-4)


def test_all_equally_good_anchors_are_forced():
    match, _ = targets([[0, 0, 10, 10], [0, 0, 10, 10], FAR, FAR], [[0, 0, 10, 40]])
    np.testing.assert_array_equal(match, [[1, 1, -1, -1]])


def test_anchors_that_only_rounding_tells_apart_are_forced_alike():
    """Of a size that is no sum of powers of 2, inside an object, whose IoU is 0.1 in truth."""
    anchors = np.array([[y, x, y + 9.7, x + 9.7] for y in (0.1, 3.3, 11.7) for x in (0.3, 7.9)])
    match, _ = targets([*anchors, *[FAR] * 6], [[0, 0, 23.3, 31.1]])
    assert (match[0, :6] == 1).all()


@pytest.mark.parametrize("seed", range(3))
def test_every_object_that_an_anchor_touches_forces_one_compiled_or_not(seed):
    rng = np.random.default_rng(seed)
    anchors = anchor_grid.pyramid_anchors(
        [32, 64, 128], [0.5, 1, 2], [(32, 32), (16, 16), (8, 8)], [8, 16, 32]
    ).astype("f")
    low = rng.uniform(0, 200, (40, 2))
    objects = np.concatenate([low, low + rng.lognormal(3, 1, (40, 2))], axis=1).clip(0, 256)
    arrays = objects[None].astype("f"), np.ones((1, 40), np.int32)

    def forced(boxes, class_ids):
        return rpn_targets._matched(anchors[None], class_ids, boxes).forced_by

    eager = np.asarray(forced(*map(ops.convert_to_tensor, arrays)))
    compiled = np.asarray(tf.function(forced, jit_compile=True)(*arrays))
    np.testing.assert_array_equal(compiled, eager)
    # An object that another one precedes on all of its best anchors has none of its own.
    overlaps = box_math.iou(anchors.astype("d"), objects)
    for number, column in enumerate(overlaps.T):
        best = np.flatnonzero(column > column.max() * (1 - 1e-6))
        assert ((eager[0, best] <= number) & (eager[0, best] >= 0)).all()


def test_an_object_that_no_anchor_touches_forces_none():
    match, _ = targets([[0, 0, 10, 10], [20, 20, 30, 30]], [[100, 100, 110, 110]])
    np.testing.assert_array_equal(match, [[-1, -1]])


def test_a_forced_anchor_learns_the_object_that_forced_it():
    # The first anchor overlaps object 0 more, but only object 1 has no better anchor.
    anchors = np.array([[0, 0, 10, 10], [1, 0, 10, 12], FAR, FAR], "f")
    objects = np.array([[1, 0, 10, 12], [8, 0, 20, 1]], "f")
    match, deltas = targets(anchors, objects)
    np.testing.assert_array_equal(match, [[1, 1, -1, -1]])
    overlaps = box_math.iou(anchors, objects)
    assert overlaps[0].argmax() == 0
    assert overlaps[:, 1].argmax() == 0
    decoded = box_math.decode(anchors[:2], deltas[0, :2] * STD_DEV)
    np.testing.assert_allclose(decoded, objects[::-1], atol=1e-4)


def test_anchors_on_crowds_are_neither_foreground_nor_background():
    anchors = [[0, 0, 10, 10], [50, 50, 60, 60], [90, 90, 99, 99]]
    match, _ = targets(anchors, [[0, 0, 10, 10], [40, 40, 70, 70]], [3, -3])
    np.testing.assert_array_equal(match, [[1, 0, -1]])


def test_small_anchors_in_a_large_crowd_are_not_background():
    anchors = [[500, 500, 508, 508], [0, 1000, 32, 1032], [0, 1010, 32, 1042]]
    match, _ = targets(anchors, [[0, 0, 1024, 1024]], [-1])
    np.testing.assert_array_equal(match, [[0, 0, -1]])


def test_a_crowd_forces_no_anchor():
    match, _ = targets([[0, 0, 10, 10], [50, 50, 60, 60]], [[0, 0, 10, 10]], [-1])
    np.testing.assert_array_equal(match, [[0, -1]])


def test_an_object_inside_a_crowd_still_counts():
    match, _ = targets(
        [[0, 0, 10, 10], [50, 50, 60, 60]], [[0, 0, 10, 10], [0, 0, 80, 80]], [1, -1]
    )
    np.testing.assert_array_equal(match, [[1, 0]])


def test_an_image_without_objects_has_only_background():
    anchors = anchor_grid.pyramid_anchors([32], [0.5, 1, 2], [(16, 16)], [16])
    match, deltas = targets(anchors, np.zeros((1, 5, 4)))
    assert (match == 1).sum() == 0
    assert (match == -1).sum() == 256
    np.testing.assert_array_equal(deltas, 0)


def test_at_most_half_of_the_sample_is_foreground():
    anchors = np.array([[0, 0, 10, 10]] * 400 + [[50, 50, 60, 60]] * 600, "f")
    match, _ = targets(anchors, [[0, 0, 10, 10]])
    assert (match == 1).sum() == 128
    assert (match == -1).sum() == 128


def test_background_fills_the_sample():
    anchors = np.array([[0, 0, 10, 10]] * 3 + [[50, 50, 60, 60]] * 600, "f")
    match, _ = targets(anchors, [[0, 0, 10, 10]])
    assert (match == 1).sum() == 3
    assert (match == -1).sum() == 253


def test_the_sample_is_random_and_repeatable():
    anchors = np.array([[0, 0, 10, 10]] * 400 + [[50, 50, 60, 60]] * 600, "f")
    first, again, other = (targets(anchors, [[0, 0, 10, 10]], seeds=[s])[0] for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_targets_do_not_depend_on_the_batch():
    anchors = anchor_grid.pyramid_anchors([32, 64], [0.5, 1, 2], [(16, 16), (8, 8)], [8, 16])
    objects = np.array(
        [[[5, 5, 40, 50], [60, 70, 120, 120]], [[0, 0, 128, 30], [0, 0, 0, 0]]], np.float32
    )
    match, deltas = targets(anchors, objects, seeds=[7, 9])
    for i, seed in enumerate([7, 9]):
        alone_match, alone_deltas = targets(anchors, objects[i], seeds=[seed])
        np.testing.assert_array_equal(match[i], alone_match[0])
        np.testing.assert_array_equal(deltas[i], alone_deltas[0])


def test_foreground_anchors_are_matterports_but_for_ties(matterport_network):
    golden = matterport_network
    anchors, objects = golden["anchors_px"], golden["rpn_gt_boxes"].astype("f")
    match, deltas = targets(anchors, objects, golden["rpn_gt_ids"])
    found, expected = np.flatnonzero(match[0] == 1), golden["rpn_positive"]
    common, _, rows = np.intersect1d(found, expected, return_indices=True)
    assert len(common) >= 20
    np.testing.assert_allclose(deltas[0, common], golden["rpn_bbox"][rows], atol=1e-4)
    # All anchors of one level that lie inside an object overlap it alike; rounding chooses.
    overlaps = box_math.iou(anchors.astype("d"), objects.astype("d"))
    is_tied = (overlaps > overlaps.max(axis=0) - 1e-6).any(axis=1)
    assert is_tied[np.setxor1d(found, expected)].all()
    assert (match == -1).sum() == 256 - len(found)


def test_background_anchors_are_matterports(matterport_network):
    golden = matterport_network
    # Without a limit, all anchors that may be background are.
    match, _ = targets(
        golden["anchors_px"], golden["rpn_gt_boxes"], golden["rpn_gt_ids"], most=10**6
    )
    assert (match[0, golden["rpn_negative"]] == -1).all()


def test_class_loss_is_matterports(matterport_network):
    golden = matterport_network
    match = ops.convert_to_tensor(golden["l_rm"][..., 0])
    loss = rpn_losses.class_loss(
        match, ops.convert_to_tensor(golden["l_rl"]), reductions.on_one_device
    )
    np.testing.assert_allclose(float(loss), golden["loss_rpn_class"], rtol=1e-5)


def test_box_loss_is_matterports(matterport_network):
    golden = matterport_network
    match, deltas = golden["l_rm"][..., 0], golden["l_rb"]
    # Matterport packs the targets of foreground anchors at the front of each image's rows.
    target = np.zeros_like(deltas)
    for image in range(len(match)):
        foreground = np.flatnonzero(match[image] == 1)
        target[image, foreground] = golden["l_rt"][image, : len(foreground)]
    loss = rpn_losses.box_loss(
        *(ops.convert_to_tensor(array) for array in (target, match, deltas)),
        reductions.on_one_device,
    )
    np.testing.assert_allclose(float(loss), golden["loss_rpn_bbox"], rtol=1e-5)


def test_losses_without_foreground_are_finite():
    match = ops.convert_to_tensor([[-1, 0, 0]])
    logits, deltas = ops.zeros((1, 3, 2)), ops.zeros((1, 3, 4))
    assert float(rpn_losses.class_loss(match, logits, reductions.on_one_device)) == pytest.approx(
        np.log(2)
    )
    assert float(rpn_losses.box_loss(deltas + 9, match, deltas, reductions.on_one_device)) == 0


def test_losses_of_ignored_anchors_are_zero():
    match = ops.zeros((2, 3), "int32")
    assert float(rpn_losses.class_loss(match, ops.ones((2, 3, 2)), reductions.on_one_device)) == 0


def test_proposals_are_matterports(matterport_network):
    golden = matterport_network
    found = propose(golden["prop_probs"], golden["prop_deltas"], golden["prop_anchors"], 200)
    np.testing.assert_allclose(found, golden["proposals"], atol=1e-5)


def test_proposals_by_hand():
    anchors = np.array([[[0.1, 0.1, 0.3, 0.3], [0.1, 0.1, 0.3, 0.31], [0.6, 0.6, 0.9, 1.3]]])
    deltas = np.zeros((1, 3, 4))
    deltas[0, 0] = [5, 0, 0, 0]  # down by half its height
    found = propose([[0.5, 0.4, 0.9]], deltas, anchors, count=4)
    expected = [[0.6, 0.6, 0.9, 1], [0.2, 0.1, 0.4, 0.3], [0.1, 0.1, 0.3, 0.31], [0, 0, 0, 0]]
    np.testing.assert_allclose(found[0], expected, atol=1e-6)


def test_overlapping_proposals_are_suppressed_and_padded_with_zeros():
    anchors = np.array([[[0.1, 0.1, 0.3, 0.3], [0.1, 0.1, 0.3, 0.31], [0.6, 0.6, 0.9, 0.9]]])
    found = propose([[0.8, 0.9, 0.5]], np.zeros((1, 3, 4)), anchors, count=5)
    expected = [[0.1, 0.1, 0.3, 0.31], [0.6, 0.6, 0.9, 0.9], *[[0, 0, 0, 0]] * 3]
    np.testing.assert_allclose(found[0], expected, atol=1e-6)


def test_only_the_most_probable_anchors_are_considered():
    anchors = np.array([[[0.0, 0, 0.1, 0.1], [0.3, 0.3, 0.4, 0.4], [0.6, 0.6, 0.7, 0.7]]])
    found = propose([[0.1, 0.9, 0.5]], np.zeros((1, 3, 4)), anchors, count=3, limit=2)
    np.testing.assert_allclose(found[0], [*anchors[0, 1:], [0, 0, 0, 0]], atol=1e-6)


def test_proposals_do_not_depend_on_the_batch(matterport_network):
    golden = matterport_network
    arrays = [golden[name][:, :2000] for name in ("prop_probs", "prop_deltas", "prop_anchors")]
    found = propose(*arrays, count=50)
    for i in range(2):
        alone = propose(*(array[i : i + 1] for array in arrays), count=50)
        np.testing.assert_array_equal(found[i], alone[0])


def test_proposal_layer_survives_serialization(reserialized):
    layer = proposals.ProposalLayer(4, 0.7, 6000, np.array(STD_DEV), name="ROI")
    anchors = np.array([[[0.1, 0.1, 0.3, 0.3], [0.6, 0.6, 0.9, 0.9]]], "f")
    probs = np.array([[[0.1, 0.9], [0.7, 0.3]]], "f")
    inputs = [probs, np.zeros((1, 2, 4), "f"), anchors]
    rebuilt = reserialized(layer)
    assert rebuilt.name == "ROI"
    np.testing.assert_array_equal(rebuilt(inputs), layer(inputs))
    np.testing.assert_allclose(layer(inputs)[0, :2], anchors[0], atol=1e-6)
    assert layer.compute_output_shape([a.shape for a in inputs]) == (1, 4, 4)


def test_rpn_head_orders_cells_by_row_and_anchors_fastest():
    head = rpn_head.build_rpn_model(1, 3, depth=4, channels=8)
    # A head whose class scores are the index of their channel, and nothing else.
    raw = head.get_layer("rpn_class_raw")
    raw.set_weights([np.zeros(raw.kernel.shape), np.arange(6.0)])
    logits, probs, deltas = head(np.ones((2, 2, 3, 4), "f"))
    assert logits.shape == (2, 18, 2)
    assert deltas.shape == (2, 18, 4)
    np.testing.assert_array_equal(logits[0, :4], [[0, 1], [2, 3], [4, 5], [0, 1]])
    np.testing.assert_allclose(np.sum(probs, axis=-1), 1, rtol=1e-6)
