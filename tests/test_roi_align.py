import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

from mrcnn.network.layers import roi_align as roi_align_layer
from mrcnn.network.layers import time_distributed
from mrcnn.network.layers.norm import BatchNorm
from mrcnn.network.ops import backend, roi_align, tensorflow_ops

RAMP = np.arange(25, dtype="f").reshape(1, 5, 5, 1)
SIDE = 1024  # of the input; the maps of the tests are smaller than its strides would have them


def meta(side: float, batch: int = 1) -> np.ndarray:
    record = np.zeros((batch, 17), np.float32)
    record[:, 4:6] = side
    return record


def random_maps(seed: int, batch: int = 2, channels: int = 3) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = [(batch, side, side * 3 // 4, channels) for side in (32, 16, 8, 4)]
    return [rng.normal(size=shape).astype("f") for shape in shapes]


def clustered_boxes(seed: int, batch: int = 2, count: int = 40) -> np.ndarray:
    """Overlapping boxes of all sizes around a few points, some beyond the image, one zero."""
    rng = np.random.default_rng(seed)
    centre = rng.choice([0.2, 0.5, 0.9], (batch, count, 2)) + rng.normal(0, 0.02, (batch, count, 2))
    size = rng.choice([0.04, 0.1, 0.3, 0.8], (batch, count, 2)) * rng.uniform(
        0.8, 1.2, (batch, count, 2)
    )
    boxes = np.concatenate([centre - size / 2, centre + size / 2], axis=-1)
    boxes[:, 0] = 0
    return boxes.astype("f")


def expected_levels(boxes: np.ndarray) -> np.ndarray:
    height, width = (boxes[..., 2:] - boxes[..., :2]).astype("d").transpose(2, 0, 1)
    side = np.maximum(np.sqrt(height * width) * SIDE, 1e-9)
    return np.clip(np.round(4 + np.log2(side / 224)), 2, 5).astype(int)


def interpolation(low: float, high: float, count: int, length: int) -> np.ndarray:
    """Return the weights by which cells make the samples of one axis: (count, length) float64."""
    positions = low * (length - 1) + np.arange(count) * (high - low) * (length - 1) / (count - 1)
    distance = np.abs(positions[:, None] - np.arange(length))
    inside = (positions >= 0) & (positions <= length - 1)
    return np.maximum(1 - distance, 0) * inside[:, None]


def expected_gradients(shapes: list, boxes: np.ndarray, upstream: np.ndarray) -> list[np.ndarray]:
    """Return the gradients of sum(crops * upstream) with respect to the maps, in float64."""
    gradients = [np.zeros(shape) for shape in shapes]
    chosen = expected_levels(boxes) - 2
    for image, index in np.ndindex(chosen.shape):
        gradient = gradients[chosen[image, index]]
        y1, x1, y2, x2 = boxes[image, index].astype("d")
        rows = interpolation(y1, y2, upstream.shape[2], gradient.shape[1])
        cols = interpolation(x1, x2, upstream.shape[3], gradient.shape[2])
        gradient[image] += np.einsum("yh,yxc,xw->hwc", rows, upstream[image, index], cols)
    return gradients


def align_with_gradients(maps, boxes, upstream):
    maps, boxes = [tf.constant(features) for features in maps], tf.constant(boxes)
    layer = roi_align_layer.PyramidROIAlign(upstream.shape[2:4])
    with tf.GradientTape() as tape:
        tape.watch([*maps, boxes])
        crops = layer([boxes, tf.constant(meta(SIDE, len(boxes))), *maps])
        total = tf.reduce_sum(crops * upstream)
    *gradients, of_boxes = tape.gradient(total, [*maps, boxes])
    return np.asarray(crops), gradients, of_boxes


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ([0, 0, 1, 1], [[0, 2, 4], [10, 12, 14], [20, 22, 24]]),
        ([0.25, 0.25, 0.75, 0.75], [[6, 7, 8], [11, 12, 13], [16, 17, 18]]),
        ([0, 0.125, 0.5, 0.375], [[0.5, 1, 1.5], [5.5, 6, 6.5], [10.5, 11, 11.5]]),
        ([0.5, 0.5, 1.5, 1.5], [[12, 14, 0], [22, 24, 0], [0, 0, 0]]),
        ([0, 0, 0, 0], np.zeros((3, 3))),
    ],
    ids=["whole", "inner", "between cells", "beyond the map", "padding"],
)
def test_corner_samples_lie_on_the_corners_of_the_box(box, expected):
    maps = [RAMP] + [np.full((1, side, side, 1), 99, "f") for side in (3, 2, 1)]
    boxes = np.array([[box]], np.float32)
    crops = roi_align_layer.PyramidROIAlign((3, 3))([boxes, meta(20), *maps])
    np.testing.assert_allclose(crops[0, 0, ..., 0], expected, atol=1e-5)


def test_rows_and_columns_of_an_oblong_crop_are_not_mixed():
    crops = tensorflow_ops.crop_and_resize(
        tf.constant(RAMP), tf.constant([[0.0, 0, 1, 0.5]]), tf.constant([0]), (2, 3)
    )
    np.testing.assert_allclose(crops[0, ..., 0], [[0, 1, 2], [20, 21, 22]])


@pytest.mark.parametrize("size", [7, 14])
def test_crops_are_matterports(matterport_network, size):
    golden = matterport_network
    maps = [golden[f"roi_fm{level}"] for level in range(4)]
    layer = roi_align_layer.PyramidROIAlign((size, size))
    crops = layer([golden["roi_boxes"], golden["roi_meta"], *maps])
    np.testing.assert_allclose(crops, golden[f"roi_align_{size}"], atol=1e-5)


@pytest.mark.parametrize(
    ("pixels", "level"),
    [
        (0, 2),
        (20, 2),
        (79, 2),
        (80, 3),
        (112, 3),
        (158, 3),
        (159, 4),
        (224, 4),
        (448, 5),
        (1024, 5),
    ],
)
def test_levels_by_hand_at_1024(pixels, level):
    side = pixels / 1024
    boxes = ops.convert_to_tensor([[[0.0, 0.0, side, side]]])
    assert int(roi_align_layer.levels(boxes, 1024.0 * 1024.0)[0, 0]) == level


def test_level_follows_the_area():
    boxes = ops.convert_to_tensor([[[0, 0, 0.4375, 0.109375], [0, 0, 0.21875, 0.21875]]])
    np.testing.assert_array_equal(roi_align_layer.levels(boxes, 1024.0**2), [[4, 4]])


def test_inverted_boxes_go_to_the_finest_level():
    boxes = ops.convert_to_tensor([[[0.9, 0.9, 0.1, 0.1]]])
    assert int(roi_align_layer.levels(boxes, 1024.0**2)[0, 0]) == 2


def test_boxes_of_all_levels_keep_their_order():
    maps = [np.full((1, side, side, 1), level, "f") for level, side in enumerate((32, 16, 8, 4), 2)]
    boxes = clustered_boxes(seed=0, batch=1)
    boxes = np.clip(boxes, 0.05, 0.95)
    crops = np.asarray(roi_align_layer.PyramidROIAlign((2, 2))([boxes, meta(SIDE), *maps]))
    expected = expected_levels(boxes)
    assert set(expected.ravel()) == {2, 3, 4, 5}
    np.testing.assert_allclose(
        crops[..., 0], np.broadcast_to(expected[..., None, None], (1, 40, 2, 2))
    )


@pytest.mark.parametrize("size", [(7, 7), (14, 14), (3, 5)])
def test_gradient_is_the_transpose_of_interpolation(size):
    maps, boxes = random_maps(seed=1), clustered_boxes(seed=2)
    upstream = np.random.default_rng(3).normal(size=(2, 40, *size, 3)).astype("f")
    _, gradients, _ = align_with_gradients(maps, boxes, upstream)
    expected = expected_gradients([m.shape for m in maps], boxes, upstream)
    assert all(oracle.any() for oracle in expected)
    for gradient, oracle in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(gradient, oracle, atol=1e-4 * max(np.abs(oracle).max(), 1))


def test_gradient_is_the_same_every_time():
    # TensorFlow's own gradient of crop_and_resize adds without locks (tensorflow#42033).
    maps, boxes = random_maps(seed=4, channels=16), clustered_boxes(seed=5, count=120)
    upstream = np.random.default_rng(6).normal(size=(2, 120, 7, 7, 16)).astype("f")
    expected = expected_gradients([m.shape for m in maps], boxes, upstream)
    first = None
    for _ in range(20):
        _, gradients, _ = align_with_gradients(maps, boxes, upstream)
        found = np.concatenate([np.ravel(gradient) for gradient in gradients])
        first = found if first is None else first
        np.testing.assert_array_equal(found, first)
    oracle = np.concatenate([np.ravel(gradient) for gradient in expected])
    assert np.linalg.norm(first - oracle) < 1e-4 * np.linalg.norm(oracle)


def test_gradient_agrees_with_finite_differences():
    maps, boxes = random_maps(seed=7), clustered_boxes(seed=8)
    upstream = np.random.default_rng(9).normal(size=(2, 40, 7, 7, 3)).astype("f")
    _, gradients, _ = align_with_gradients(maps, boxes, upstream)
    for level, gradient in enumerate(np.asarray(g) for g in gradients):
        entry = np.unravel_index(np.abs(gradient).argmax(), gradient.shape)
        sums = []
        for step in (1.0, -1.0):
            moved = [features.copy() for features in maps]
            moved[level][entry] += step
            crops, _, _ = align_with_gradients(moved, boxes, upstream)
            sums.append((crops.astype("d") * upstream).sum())
        np.testing.assert_allclose((sums[0] - sums[1]) / 2, gradient[entry], rtol=1e-4)


def test_gradient_of_boxes_at_the_border_belongs_to_their_crops():
    # Rounding may put the last sample of a box that ends at 1 beyond the map: in the crop and in
    # its gradient alike. Both are linear, so <crops(maps), upstream> = <maps, gradient>.
    rng = np.random.default_rng(10)
    boxes = np.ones((2, 200, 4), np.float32)
    boxes[..., :2] = rng.uniform(0, 0.9, (2, 200, 2))
    maps = [np.abs(features) for features in random_maps(seed=11)]
    upstream = np.zeros((2, 200, 7, 7, 3), np.float32)
    upstream[:, :, -1, -1] = 1
    crops, gradients, _ = align_with_gradients(maps, boxes, upstream)
    forward = (crops.astype("d") * upstream).sum()
    backward = sum((np.asarray(g, "d") * m).sum() for g, m in zip(gradients, maps, strict=True))
    np.testing.assert_allclose(backward, forward, rtol=1e-5)


def test_boxes_get_no_gradient():
    maps, boxes = random_maps(seed=12), clustered_boxes(seed=13)
    _, _, of_boxes = align_with_gradients(maps, boxes, np.ones((2, 40, 7, 7, 3), "f"))
    assert of_boxes is None


def test_no_boxes_give_no_crops_and_zero_gradient():
    maps, boxes = random_maps(seed=14), np.zeros((2, 0, 4), np.float32)
    crops, gradients, _ = align_with_gradients(maps, boxes, np.ones((2, 0, 7, 7, 3), "f"))
    assert crops.shape == (2, 0, 7, 7, 3)
    assert all(not np.asarray(gradient).any() for gradient in gradients)


def test_a_batch_gives_what_single_images_give():
    maps, boxes = random_maps(seed=15), clustered_boxes(seed=16)
    layer = roi_align_layer.PyramidROIAlign((7, 7))
    crops = layer([boxes, meta(SIDE, 2), *maps])
    for i in range(2):
        alone = layer([boxes[i : i + 1], meta(SIDE), *(m[i : i + 1] for m in maps)])
        np.testing.assert_array_equal(crops[i], alone[0])


def test_declared_shape_is_the_real_one():
    layer = roi_align_layer.PyramidROIAlign((7, 5))
    maps, boxes = random_maps(seed=17), clustered_boxes(seed=18)
    inputs = [boxes, meta(SIDE, 2), *maps]
    assert layer.compute_output_shape([a.shape for a in inputs]) == tuple(layer(inputs).shape)


def test_roi_align_survives_serialization(reserialized):
    maps, boxes = random_maps(seed=19), clustered_boxes(seed=20)
    layer = roi_align_layer.PyramidROIAlign((7, 5), name="align")
    rebuilt = reserialized(layer)
    assert rebuilt.name == "align"
    inputs = [boxes, meta(SIDE, 2), *maps]
    np.testing.assert_array_equal(rebuilt(inputs), layer(inputs))


@pytest.mark.parametrize(
    "layer",
    [
        layers.Conv2D(5, 3, padding="same", name="conv"),
        layers.Conv2DTranspose(5, 2, 2, name="deconv"),
        BatchNorm(name="norm"),
    ],
    ids=lambda layer: layer.name,
)
def test_per_roi_is_the_layer_on_folded_rois(layer):
    features = np.random.default_rng(0).normal(size=(2, 6, 4, 4, 3)).astype("f")
    wrapped = time_distributed.TimeDistributed(layer)
    found = wrapped(features)
    folded = layer(features.reshape(12, 4, 4, 3))
    np.testing.assert_allclose(np.reshape(found, folded.shape), folded, atol=1e-6)
    assert tuple(found.shape) == wrapped.compute_output_shape(features.shape)
    assert wrapped.name == layer.name


def test_per_roi_passes_training_on_to_batch_norm():
    features = np.random.default_rng(0).normal(5, 3, (2, 6, 4, 4, 3)).astype("f")
    live, frozen = (
        time_distributed.TimeDistributed(BatchNorm(is_training=flag)) for flag in (True, False)
    )
    assert abs(float(ops.mean(live(features, training=True)))) < 1e-3
    assert float(ops.mean(live(features, training=False))) > 3
    assert float(ops.mean(frozen(features, training=True))) > 3


def test_batch_norm_with_stored_statistics_does_not_change_them():
    norm = BatchNorm(is_training=False)
    norm(np.random.default_rng(0).normal(5, 3, (8, 3)).astype("f"), training=True)
    np.testing.assert_array_equal(norm.moving_mean, 0)
    np.testing.assert_array_equal(norm.moving_variance, 1)
    assert len(norm.trainable_weights) == 2


def test_batch_norm_survives_serialization(reserialized):
    rebuilt = reserialized(BatchNorm(is_training=False, name="norm"))
    assert (rebuilt.is_training, rebuilt.epsilon, rebuilt.name) == (False, 1e-3, "norm")


def test_per_roi_survives_serialization(reserialized):
    rebuilt = reserialized(
        time_distributed.TimeDistributed(layers.Dense(7, name="dense", dtype="float32"))
    )
    assert (rebuilt.name, rebuilt.layer.name, rebuilt.layer.units) == ("dense", "dense", 7)
    assert rebuilt(np.ones((2, 3, 4), "f")).shape == (2, 3, 7)


@pytest.mark.parametrize("half_pixel", [True, False])
@pytest.mark.parametrize("samples", [1, 2, 3])
def test_crops_and_their_gradient_are_those_of_single_samples(half_pixel, samples):
    rng = np.random.default_rng(21)
    features = ops.convert_to_tensor(rng.normal(size=(2, 20, 30, 3)).astype("f"))
    low = rng.uniform(-4, 25, (60, 2))  # some boxes leave the map on each side
    boxes = np.concatenate([low, low + rng.uniform(0, 20, (60, 2))], axis=1).astype("f")
    indices = ops.convert_to_tensor(rng.integers(0, 2, 60).astype("int32"))
    upstream = rng.normal(size=(60, 7, 5, 3)).astype("f")
    results = []
    for take in (roi_align.crop, roi_align.sampled):
        with tf.GradientTape() as tape:
            tape.watch(features)
            found = take(features, boxes, indices, (7, 5), samples, half_pixel=half_pixel)
            total = tf.reduce_sum(found * upstream)
        results.append((np.asarray(found), np.asarray(tape.gradient(total, features))))
    (crops, of_crops), (singles, of_singles) = results
    np.testing.assert_allclose(crops, singles, atol=1e-4)
    np.testing.assert_allclose(of_crops, of_singles, atol=1e-3)
    assert np.abs(of_singles).max() > 1


def by_hand(cells: np.ndarray, box: list[float], size: int, take) -> np.ndarray:
    """Return 2 x 2 samples a bin of a box, in cells whose values lie at their centres."""
    y1, x1, y2, x2 = box
    found = np.zeros((size, size))
    for row, col in np.ndindex(size, size):
        values = []
        for i, j in np.ndindex(2, 2):
            y = y1 + (y2 - y1) * (row + (i + 0.5) / 2) / size - 0.5
            x = x1 + (x2 - x1) * (col + (j + 0.5) / 2) / size - 0.5
            top, left = int(np.floor(y)), int(np.floor(x))
            corner = cells[top : top + 2, left : left + 2]
            weights = np.outer([1 - y + top, y - top], [1 - x + left, x - left])
            values.append((corner * weights).sum())
        found[row, col] = take(values)
    return found


@pytest.mark.parametrize(
    ("form", "box", "take"),
    [
        ("aligned", [2.3, 3.6, 9.4, 11.5], np.mean),
        ("aligned_max", [2.3, 3.6, 9.4, 11.5], np.max),
        # RoIWarp: from cell 2 to cell 9, and 4 to 12, the last ones included.
        ("warp", [2, 4, 10, 13], np.mean),
        ("warp_max", [2, 4, 10, 13], np.max),
    ],
)
@pytest.mark.parametrize("is_static", [False, True])
def test_forms_of_the_papers_table_2c_by_hand(form, box, take, is_static):
    cells = np.random.default_rng(2).normal(size=(16, 16)).astype("f")
    layer = roi_align_layer.PyramidROIAlign((3, 3), form=form, inclusive=False)
    boxes = np.array([[[2.3, 3.6, 9.4, 11.5]]], "f") / 16
    with backend.within_xla(is_static):
        found = layer([boxes, meta(256), cells[None, :, :, None]])
    np.testing.assert_allclose(found[0, 0, ..., 0], by_hand(cells, box, 3, take), atol=1e-4)
