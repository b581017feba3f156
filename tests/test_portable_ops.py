"""Crops and suppression in `keras.ops` against TensorFlow's own, over random cases."""

import numpy as np
import pytest
import tensorflow as tf

from mrcnn.network.ops import portable_ops, roi_align, roi_align_gather, roi_pool, tensorflow_ops


def random_boxes(rng: np.random.Generator, *shape: int, largest: float = 0.3) -> np.ndarray:
    low = rng.uniform(0, 0.8, (*shape, 2))
    size = rng.uniform(0, largest, (*shape, 2))
    return np.concatenate([low, low + size], axis=-1).astype(np.float32)


def value_and_gradient(function, *arrays) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return a function's value, and the gradient of a sum that weighs every element otherwise."""
    tensors = [tf.constant(array) for array in arrays]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = function(*tensors)
        places = tf.range(tf.cast(tf.size(value), "float32"))
        total = tf.reduce_sum(tf.reshape(value, [-1]) ** 2 * tf.cos(places))
    return value.numpy(), [gradient.numpy() for gradient in tape.gradient(total, tensors)]


@pytest.mark.parametrize("size", [(7, 5), (2, 2)])
def test_crops_and_their_gradient_are_tensorflows(size):
    rng = np.random.default_rng(0)
    features = rng.standard_normal((2, 9, 12, 5)).astype("f")
    boxes = random_boxes(rng, 60) * 1.4 - 0.2  # beyond the map, too
    boxes[:3] = [[0, 0, 1, 1], [0.2, 0.3, 1, 1], [0, 0, 0, 0]]
    indices = rng.integers(0, 2, 60).astype(np.int32)

    def crops_of(module):
        return value_and_gradient(
            lambda tensor: module.crop_and_resize(tensor, boxes, indices, size), features
        )

    (found, (slope,)), (expected, (steepness,)) = map(crops_of, (portable_ops, tensorflow_ops))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(slope, steepness, atol=1e-4)


@pytest.mark.parametrize("form", ["corners", "aligned", "unaligned"])
def test_features_of_the_pyramid_are_those_map_by_map(form):
    rng = np.random.default_rng(1)
    maps = [rng.standard_normal((2, side, side + 4, 6)).astype("f") for side in (40, 20, 10, 5)]
    boxes = random_boxes(rng, 2, 60, largest=0.6)
    boxes[:, :2] = [[0, 0, 0, 0], [0.2, 0.3, 1, 1]]
    chosen = rng.integers(0, 4, (2, 60)).astype(np.int32)

    def gathered(*maps):
        return roi_align_gather.features(maps, tf.constant(boxes), chosen, (7, 7), form)

    def by_map(*maps):
        rows, images = tf.reshape(boxes, (-1, 4)), tf.repeat(tf.range(2), 60)
        crops = roi_align.features(maps, rows, images, chosen.reshape(-1), (7, 7), form=form)
        return tf.reshape(crops, (2, 60, 7, 7, 6))

    (found, slopes), (expected, others) = (
        value_and_gradient(function, *maps) for function in (gathered, by_map)
    )
    # By map places are rounded once more; see `roi_align.crop`.
    np.testing.assert_allclose(found, expected, atol=1e-4)
    for slope, other in zip(slopes, others, strict=True):
        np.testing.assert_allclose(slope, other, atol=5e-3)


def test_largest_cells_are_tensorflows():
    rng = np.random.default_rng(2)
    features = rng.standard_normal((2, 9, 12, 5)).astype("f")
    first = rng.integers(0, 6, (30, 7)).astype(np.int32)
    stop = rng.integers(3, 10, (30, 7)).astype(np.int32)  # some are empty
    indices = rng.integers(0, 2, 30).astype(np.int32)
    arguments = [tf.constant(array) for array in (features, indices)]
    rows = tf.constant(first), tf.constant(stop)
    found = roi_pool.largest_in_rectangles(*arguments, rows, rows)
    expected = roi_pool.largest_in_rectangles(*arguments, rows, rows)
    np.testing.assert_array_equal(found, expected)


def test_crops_by_level_are_tensorflows():
    rng = np.random.default_rng(3)
    maps = [tf.constant(rng.standard_normal((1, side, side, 3)), "float32") for side in (16, 8)]
    boxes, levels = random_boxes(rng, 20), rng.integers(0, 2, 20).astype(np.int32)

    def crops_of(module):
        def crop(features, boxes, indices):
            return tensorflow_ops.crop_and_resize(features, boxes, indices, (3, 3))

        return module.by_level(crop, maps, boxes, np.zeros(20, np.int32), levels)

    np.testing.assert_array_equal(crops_of(portable_ops), crops_of(tensorflow_ops))


# Boxes, classes, whether classes share boxes, boxes wanted: below and above a tile of 1024.
CASES = [
    (1, 1, False, 5),
    (50, 1, False, 100),
    (300, 3, False, 40),
    (300, 80, True, 100),
    (1100, 2, True, 900),
    (2500, 1, False, 300),
]


@pytest.mark.parametrize(("count", "classes", "is_shared", "wanted"), CASES)
@pytest.mark.parametrize("threshold", [0.3, 0.7])
def test_suppression_is_tensorflows(count, classes, is_shared, wanted, threshold):
    rng = np.random.default_rng(count)
    boxes = random_boxes(rng, 2, count, 1 if is_shared else classes, largest=0.2)
    scores = rng.random((2, count, classes)).astype(np.float32)
    scores[scores < 0.2] = 0
    arguments = tf.constant(boxes), tf.constant(scores), wanted, threshold
    found = portable_ops.suppress(*arguments)
    for ours, theirs in zip(found, tensorflow_ops.suppress(*arguments), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_nothing_is_kept_of_an_image_without_scores():
    boxes, scores = random_boxes(np.random.default_rng(4), 2, 30, 1), np.zeros((2, 30, 1), "f")
    scores[0, 3] = 0.5
    found, best, classes = portable_ops.suppress(tf.constant(boxes), tf.constant(scores), 10, 0.5)
    np.testing.assert_array_equal(found[0, 0], boxes[0, 3, 0])
    assert np.count_nonzero(best) == 1
    assert not np.any(found[1])
    assert not np.any(classes)


def test_boxes_without_area_suppress_nothing():
    boxes = np.zeros((1, 6, 1, 4), np.float32)
    scores = np.full((1, 6, 1), 0.5, np.float32)
    arguments = tf.constant(boxes), tf.constant(scores), 6, 0.5
    for module in (portable_ops, tensorflow_ops):
        assert np.count_nonzero(module.suppress(*arguments)[1]) == 6


def test_of_equal_scores_the_first_box_is_better():
    # Both overlap the third; TensorFlow promises no order here.
    boxes = np.array([[0, 0, 2, 2], [0, 0, 2, 2.1], [4, 4, 6, 6]], np.float32)
    rows = portable_ops.kept_rows(boxes, np.full(3, 0.5, np.float32), 3, 0.5)
    np.testing.assert_array_equal(rows, [0, 2])


@pytest.mark.parametrize("scale", [1.0, -1.0])
def test_kept_rows_are_tensorflows(scale):
    rng = np.random.default_rng(5)
    boxes = random_boxes(rng, 500)
    scores = rng.random(500).astype(np.float32) * scale  # negative ones count here, too
    scores[:20] = scores[20:40]
    found, expected = (
        module.kept_rows(boxes, scores, 100, 0.5) for module in (portable_ops, tensorflow_ops)
    )
    np.testing.assert_array_equal(found, expected)


def test_a_chain_of_overlaps_is_followed_to_its_end(monkeypatch):
    # Each box suppresses the next one alone, so every second stays, over several tiles.
    monkeypatch.setattr(portable_ops, "TILE", 32)
    count = 2 * 32 + 7
    low = np.arange(count, dtype=np.float32)[:, None] * [1, 0]
    boxes = np.concatenate([low, low + [2, 1]], axis=1).astype(np.float32)
    scores = np.linspace(1, 0.5, count, dtype=np.float32)
    rows = portable_ops.kept_rows(boxes, scores, count, 0.3)
    np.testing.assert_array_equal(rows, np.arange(0, count, 2))
