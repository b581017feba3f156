import numpy as np
import tensorflow as tf
from keras import ops

from mrcnn.network import matching
from mrcnn.network.ops import gathers, reductions


def noise(seeds, count: int, stream: int = 0) -> np.ndarray:
    seeds = ops.convert_to_tensor(seeds, "int32")
    return np.asarray(matching.uniform_noise(seeds, count, stream))


def kept(candidates, count, most: int, seed: int = 0) -> np.ndarray:
    candidates = ops.convert_to_tensor(candidates)
    random = matching.uniform_noise(ops.arange(candidates.shape[0]) + seed, candidates.shape[1], 0)
    count = ops.convert_to_tensor(count, "int32")
    return np.asarray(matching.keep_random(candidates, count, most, random))


def test_noise_is_in_the_unit_interval_and_uniform():
    found = noise(range(4), 50_000)
    assert found.dtype == np.float32
    assert found.min() >= 0
    assert found.max() < 1
    shares = np.histogram(found, bins=20, range=(0, 1))[0] / found.size
    # Three deviations of a share of 1/20 among 200,000 are 0.0015.
    np.testing.assert_allclose(shares, 0.05, atol=0.002)


def test_noise_of_neighbours_is_not_correlated():
    found = noise([11, 12], 50_000)
    assert abs(np.corrcoef(found[0, 1:], found[0, :-1])[0, 1]) < 0.02
    assert abs(np.corrcoef(found[0], found[1])[0, 1]) < 0.02


def test_noise_depends_on_seed_and_stream():
    seeds_differ = noise([1, 2], 100)
    assert (seeds_differ[0] != seeds_differ[1]).mean() > 0.95
    assert (noise([1], 100, stream=0) != noise([1], 100, stream=1)).mean() > 0.95


def test_noise_is_the_same_every_time_and_of_any_length():
    np.testing.assert_array_equal(noise([5], 100), noise([5], 100))
    np.testing.assert_array_equal(noise([5], 100)[:, :40], noise([5], 40))


def test_noise_does_not_depend_on_the_batch():
    singles = np.concatenate([noise([seed], 64) for seed in (3, 1, 4)])
    np.testing.assert_array_equal(noise([3, 1, 4], 64), singles)


def test_noise_takes_large_seeds():
    assert np.isfinite(noise([2**31 - 1], 8)).all()


def test_keep_random_keeps_exactly_the_count():
    candidates = np.ones((3, 200), bool)
    candidates[:, ::2] = False
    found = kept(candidates, [10, 25, 100], most=100)
    np.testing.assert_array_equal(found.sum(axis=1), [10, 25, 100])
    assert not (found & ~candidates).any()


def test_keep_random_keeps_all_where_there_are_fewer():
    candidates = np.zeros((2, 30), bool)
    candidates[0, [3, 7]] = True
    np.testing.assert_array_equal(kept(candidates, [10, 10], most=20), candidates)


def test_keep_random_keeps_none_for_a_count_of_zero():
    assert not kept(np.ones((1, 30), bool), [0], most=20).any()


def test_keep_random_draws_every_candidate_alike():
    candidates = np.ones((2000, 10), bool)
    share = kept(candidates, np.full(2000, 3), most=5).mean(axis=0)
    np.testing.assert_allclose(share, 0.3, atol=0.04)


def test_best_match_leaves_crowds_and_padding_out():
    overlaps = ops.convert_to_tensor([[[0.2, 0.9, 0.3], [0.0, 0.8, 0.0]]])
    is_object = ops.convert_to_tensor([[True, False, True]])
    best, index = matching.best_match(overlaps, is_object)
    np.testing.assert_allclose(best, [[0.3, 0.0]])
    np.testing.assert_array_equal(index, [[2, 0]])


def test_best_match_without_objects_is_minus_one():
    best, _ = matching.best_match(ops.zeros((1, 2, 3)), ops.zeros((1, 3), "bool"))
    np.testing.assert_array_equal(best, [[-1, -1]])


def in_crowd(boxes, class_ids, gt_boxes):
    arrays = (ops.convert_to_tensor([array], "float32") for array in (boxes, gt_boxes))
    boxes, gt_boxes = arrays
    class_ids = ops.convert_to_tensor([class_ids], "int32")
    return np.asarray(matching.lies_in_crowd(boxes, class_ids, gt_boxes))[0].tolist()


def test_only_negative_classes_are_crowds():
    boxes = [[0, 0, 10, 10], [20, 20, 30, 30], [50, 50, 60, 60]]
    gt_boxes = [[0, 0, 10, 10], [20, 20, 30, 30], [0, 0, 0, 0]]
    assert in_crowd(boxes, [1, -1, 0], gt_boxes) == [False, True, False]


def test_a_small_box_inside_a_large_crowd_is_of_it():
    small = [500, 500, 508, 508]  # an IoU of 6e-5
    assert in_crowd([small, [0, 0, 1024, 1024]], [-3], [[0, 0, 1024, 1024]]) == [True, True]


def test_half_of_a_box_makes_it_of_a_crowd():
    boxes = [[0, 0, 10, 10], [0, 1, 10, 11], [0, 0, 10, 100], [0, 0, 0, 0]]
    assert in_crowd(boxes, [-1], [[0, 0, 10, 5]]) == [True, False, False, False]


def test_masked_mean_by_hand():
    values = ops.convert_to_tensor([[1.0, 2.0], [3.0, 40.0]])
    weights = ops.convert_to_tensor([[True, True], [True, False]])
    assert float(reductions.masked_mean(values, weights, reductions.on_one_device)) == 2.0


def test_masked_mean_broadcasts_weights_over_components():
    values = ops.convert_to_tensor([[[1.0, 3.0], [100.0, 100.0]]])
    weights = ops.convert_to_tensor([[[True], [False]]])
    assert float(reductions.masked_mean(values, weights, reductions.on_one_device)) == 2.0


def test_masked_mean_without_weight_is_zero():
    assert float(reductions.masked_mean(ops.ones((2, 3)), ops.zeros((2, 3)), lambda x: x)) == 0.0


def test_infinite_values_without_weight_do_not_become_nan():
    values, weights = tf.constant([2.0, np.inf, np.nan]), tf.constant([1.0, 0.0, 0.0])
    with tf.GradientTape() as tape:
        tape.watch(values)
        mean = reductions.masked_mean(values, weights, reductions.on_one_device)
    assert float(mean) == 2.0
    np.testing.assert_array_equal(tape.gradient(mean, values), [1, 0, 0])


def test_shares_of_replicas_sum_to_the_mean_of_the_batch():
    rng = np.random.default_rng(0)
    values, weights = rng.normal(size=(4, 6)).astype("f"), rng.random((4, 6)) < 0.4
    whole = reductions.masked_mean(values, weights, reductions.on_one_device)
    halves = [slice(0, 1), slice(1, 4)]
    shares = [
        float(reductions.masked_mean(values[half], weights[half], lambda _: float(weights.sum())))
        for half in halves
    ]
    np.testing.assert_allclose(sum(shares), float(whole), rtol=1e-6)


def test_of_class_picks_the_class_of_each_roi():
    deltas = np.arange(24, dtype="f").reshape(1, 2, 3, 4)
    found = gathers.of_class(ops.convert_to_tensor(deltas), ops.convert_to_tensor([[2, 0]]))
    np.testing.assert_array_equal(found, [[[8, 9, 10, 11], [12, 13, 14, 15]]])


def test_of_class_picks_masks():
    masks = np.arange(2 * 2 * 2 * 3, dtype="f").reshape(1, 2, 2, 2, 3)
    found = gathers.of_class(
        ops.convert_to_tensor(masks[..., None]), ops.convert_to_tensor([[1, 2]])
    )
    np.testing.assert_array_equal(found[0, 0, ..., 0], masks[0, 0, ..., 1])
    np.testing.assert_array_equal(found[0, 1, ..., 0], masks[0, 1, ..., 2])


def test_gather_rows_stays_within_the_image():
    values = np.arange(12, dtype="f").reshape(2, 3, 2)
    found = gathers.gather_rows(ops.convert_to_tensor(values), ops.convert_to_tensor([[2], [0]]))
    np.testing.assert_array_equal(found, [[[4, 5]], [[6, 7]]])


def test_smooth_l1_is_quadratic_below_one():
    found = reductions.smooth_l1(
        ops.convert_to_tensor([0.0, 0.0, 3.0]), ops.convert_to_tensor([0.5, -1.0, 0.0])
    )
    np.testing.assert_allclose(found, [0.125, 0.5, 2.5])
