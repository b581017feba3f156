import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from skimage.transform import resize

from mrcnn.geometry import masks, pasting


def blobs(count, height, width, seed=0):
    rng = np.random.default_rng(seed)
    coarse = rng.random((height // 4 + 1, width // 4 + 1, count)) > 0.5
    return coarse.repeat(4, axis=0).repeat(4, axis=1)[:height, :width]


def skimage_resize(mask, shape):
    return resize(mask.astype(float), shape, order=1, mode="constant", cval=0, anti_aliasing=False)


def test_bounds_are_tight_and_exclusive():
    mask = np.zeros((5, 6, 2), bool)
    mask[1:3, 2:6, 0] = True
    mask[4, 0, 1] = True
    np.testing.assert_array_equal(masks.bounds(mask), [[1, 2, 3, 6], [4, 0, 5, 1]])
    assert masks.bounds(mask).dtype == np.int32


def test_bounds_of_an_empty_mask_are_zero():
    np.testing.assert_array_equal(masks.bounds(np.zeros((4, 4, 1), bool)), [[0, 0, 0, 0]])


@pytest.mark.parametrize("shape", [(4, 4, 0), (0, 0, 0), (0, 0, 3)])
def test_bounds_of_no_pixels_or_no_masks(shape):
    assert masks.bounds(np.zeros(shape, bool)).shape == (shape[-1], 4)


def test_bounds_take_any_dtype():
    mask = np.zeros((3, 3, 1), np.uint8)
    mask[1, 1] = 255
    np.testing.assert_array_equal(masks.bounds(mask), [[1, 1, 2, 2]])


def test_mini_mask_halves_by_majority():
    mask = np.zeros((4, 4, 1), bool)
    mask[:, :2] = True
    mini = masks.minimize(np.array([[0, 0, 4, 4]]), mask, (2, 2))
    np.testing.assert_array_equal(mini, [[[True, False], [True, False]]])


def test_half_covered_mini_mask_pixel_is_outside():
    mask = np.array([[1, 0], [1, 0]], bool)[..., None]
    assert not masks.minimize(np.array([[0, 0, 2, 2]]), mask, (1, 1)).any()


def test_minimize_agrees_with_skimage():
    mask = blobs(3, 70, 50)
    boxes = np.array([[0, 0, 70, 50], [3, 8, 66, 41], [10, 10, 13, 49]])
    mini = masks.minimize(boxes, mask, (28, 20))
    for index, (y1, x1, y2, x2) in enumerate(boxes):
        expected = skimage_resize(mask[y1:y2, x1:x2, index], (28, 20))
        clear = np.abs(expected - 0.5) > 1e-9
        np.testing.assert_array_equal(mini[index][clear], (expected > 0.5)[clear])


def test_minimize_takes_the_whole_part_of_boxes():
    mask = blobs(1, 20, 20)
    np.testing.assert_array_equal(
        masks.minimize(np.array([[2.0, 3.0, 9.0, 12.0]], np.float32), mask, (8, 8)),
        masks.minimize(np.array([[2, 3, 9, 12]]), mask, (8, 8)),
    )


def test_minimize_rejects_a_box_without_area():
    with pytest.raises(ValueError, match=r"area of zero: \[2, 2, 2, 5\]"):
        masks.minimize(np.array([[2, 2, 2, 5]]), np.ones((8, 8, 1), bool), (4, 4))


def test_expand_inverts_minimize_where_the_mini_mask_is_not_smaller():
    mask = np.zeros((30, 30, 1), bool)
    mask[5:20, 7:25] = True
    mask[5:10, 7:12] = False
    boxes = masks.bounds(mask)
    expanded = pasting.expand(boxes, masks.minimize(boxes, mask, (56, 56)), (30, 30))
    np.testing.assert_array_equal(expanded, mask)


def test_matterport_masks(matterport_geometry):
    golden = matterport_geometry
    boxes = masks.bounds(golden["util_masks"])
    np.testing.assert_array_equal(boxes, golden["extract_bboxes"])
    mini = masks.minimize(boxes, golden["util_masks"], (56, 56))
    np.testing.assert_array_equal(np.moveaxis(mini, 0, -1), golden["minimize_mask"])
    np.testing.assert_array_equal(pasting.expand(boxes, mini, (90, 120)), golden["expand_mask"])
    pasted = pasting.paste(golden["unmold_in"][None], np.array([[10, 20, 70, 95]]), (90, 120))
    np.testing.assert_array_equal(pasted[..., 0], golden["unmold_out"])


@pytest.mark.parametrize("shape", [(85, 60), (28, 28), (3, 5), (1, 200)])
def test_paste_agrees_with_skimage(shape):
    probability = np.random.default_rng(1).random((28, 28)).astype(np.float32)
    pasted = pasting.paste(probability[None], np.array([[0, 0, *shape]]), shape)[..., 0]
    expected = skimage_resize(probability, shape)
    clear = np.abs(expected - 0.5) > 1e-5
    np.testing.assert_array_equal(pasted[clear], (expected >= 0.5)[clear])


def test_constant_mask_fills_its_box():
    pasted = pasting.paste(
        np.full((1, 28, 28), 0.6, np.float32), np.array([[2, 3, 90, 97]]), (99, 99)
    )
    assert pasted[2:90, 3:97].all()
    assert pasted.sum() == 88 * 94


def test_paste_cuts_off_what_is_outside_the_image():
    probability = np.random.default_rng(2).random((1, 28, 28)).astype(np.float32)
    whole = pasting.paste(probability, np.array([[10, 10, 50, 60]]), (70, 70))
    part = pasting.paste(probability, np.array([[-20, -30, 20, 20]]), (15, 12))
    np.testing.assert_array_equal(part, whole[30:45, 40:52])


@pytest.mark.parametrize("form", ["whole", "centres"])
@pytest.mark.parametrize(
    "box", [[5, 5, 5, 9], [9, 9, 5, 5], [20, 0, 30, 5], [-9, 0, 0, 5], [2.5, 1, 2.5, 6]]
)
def test_paste_of_boxes_without_area_is_empty(box, form):
    arguments = np.ones((2, 4, 4), np.float32), np.array([box, [0, 0, 5, 5]]), (10, 10)
    pasted = pasting.paste(*arguments, form=form)
    assert pasted.sum(axis=(0, 1)).tolist() == [0, 25]
    assert pasting.paste_rle(*arguments, form=form) == masks.to_rle(pasted)


@pytest.mark.parametrize("form", pasting.PASTES)
@pytest.mark.parametrize("probabilities", [np.zeros((0, 28, 28)), np.zeros((0, 0, 0)), []])
def test_paste_of_nothing(probabilities, form):
    pasted = pasting.paste(probabilities, np.zeros((0, 4), np.int32), (10, 12, 3), form=form)
    assert pasted.shape == (10, 12, 0)
    assert pasted.dtype == bool
    assert pasting.paste_rle(probabilities, [], (10, 12), form=form) == []


def test_paste_in_the_form_padded_makes_a_box_without_area_a_pixel_wide():
    # torchvision's: max(size, 1).
    box = np.array([[2.0, 5.0, 7.0, 5.0]], np.float32)
    pasted = pasting.paste(np.ones((1, 4, 4), np.float32), box, (10, 10), form="padded")[..., 0]
    assert np.flatnonzero(pasted.any(axis=0)).tolist() == [5]


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([[0, 0, 5, 5]], "there are 2 masks, but 1 boxes"),
        ([[0, 0, 5, 5], [0, np.nan, 5, 5]], r"must be finite, got \[0.0, nan, 5.0, 5.0\]"),
    ],
)
def test_paste_refuses_boxes_that_fit_no_masks(boxes, message):
    for paste in (pasting.paste, pasting.paste_rle):
        with pytest.raises(ValueError, match=message):
            paste(np.ones((2, 4, 4), np.float32), boxes, (10, 10))


@pytest.mark.parametrize("threshold", [0.3, 0.7, 0.9])
def test_a_threshold_is_met_in_the_precision_of_the_masks(threshold):
    mask = np.full((1, 4, 4), threshold, np.float32)
    assert pasting.paste(mask, [[0, 0, 9, 9]], (9, 9), threshold).all()


def test_a_large_mask_is_pasted_in_stripes_as_in_one(monkeypatch):
    rng = np.random.default_rng(0)
    arguments = rng.random((3, 28, 28), np.float32), [[0, 0, 90, 80]] * 3, (100, 100)
    expected = pasting.paste(*arguments, None)
    monkeypatch.setattr(pasting, "STRIPE_PIXELS", 7 * 80)
    monkeypatch.setattr(pasting, "GROUP_PIXELS", 1)
    np.testing.assert_allclose(pasting.paste(*arguments, None), expected, atol=1e-6)


def test_pasting_does_not_pay_for_the_image_outside_the_boxes():
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 2500, (100, 2))
    boxes = np.concatenate([corners, corners + rng.integers(50, 400, (100, 2))], axis=1)
    probabilities = rng.random((100, 28, 28), np.float32)
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        pasting.paste(probabilities, boxes, (3000, 4000))
        seconds.append(time.perf_counter() - started)
    # About 0.1 s; resizing or copying whole planes of 12 million pixels would take 10.
    assert min(seconds) < 4


def test_run_lengths_agree_with_pycocotools():
    mask = blobs(5, 61, 83)
    rles = masks.to_rle(mask)
    np.testing.assert_array_equal(coco_mask.decode(rles), mask)
    np.testing.assert_array_equal(masks.from_rle(rles, mask.shape), mask)


@pytest.mark.parametrize("fill", [True, False])
def test_run_lengths_of_full_and_empty_masks(fill):
    mask = np.full((7, 9, 1), fill)
    rles = masks.to_rle(mask)
    assert isinstance(rles[0]["counts"], str)
    np.testing.assert_array_equal(masks.from_rle(rles, (7, 9)), mask)


def test_run_lengths_of_large_masks():
    mask = np.zeros((2000, 1500, 1), bool)
    mask[3, 2] = mask[1500:, 1200:] = True
    np.testing.assert_array_equal(masks.from_rle(masks.to_rle(mask), (2000, 1500)), mask)


def test_no_run_lengths_are_no_masks():
    assert masks.to_rle(np.zeros((4, 5, 0), bool)) == []
    assert masks.from_rle([], (4, 5)).shape == (4, 5, 0)


def test_run_lengths_of_another_size_are_rejected():
    rles = masks.to_rle(np.ones((4, 5, 1), bool))
    with pytest.raises(ValueError, match="the mask has size"):
        masks.from_rle(rles, (5, 4))


@pytest.mark.parametrize("counts", ["", "0", "PPP", "0d00d0"])
def test_damaged_run_lengths_are_rejected(counts):
    with pytest.raises(ValueError, match="mask"):
        masks.from_rle([{"size": [4, 5], "counts": counts}], (4, 5))


@pytest.mark.parametrize("form", pasting.PASTES)
@pytest.mark.parametrize("shape", [(40, 30), (33, 64), (7, 5)])
def test_pasted_run_lengths_are_those_of_pasted_masks(form, shape):
    rng = np.random.default_rng(shape[0])
    for power in (0.2, 1, 5):
        probabilities = rng.random((12, 14, 14), np.float32) ** power
        low = rng.uniform(-10, 1, (12, 2)) + rng.uniform(0, 1, (12, 2)) * shape
        boxes = np.concatenate([low, low + rng.uniform(0, 40, (12, 2))], axis=1).round(1)
        boxes[0] = [0, 0, *shape]  # runs go on from column to column
        boxes[1] = [0, 0, 0, 0]
        expected = masks.to_rle(pasting.paste(probabilities, boxes, shape, form=form))
        assert pasting.paste_rle(probabilities, boxes, shape, form=form) == expected


def test_run_lengths_of_a_large_image_need_no_memory_of_its_size():
    boxes = np.tile([[100, 200, 700, 900]], (100, 1))
    tracemalloc.start()
    pasting.paste_rle(np.ones((100, 28, 28), np.float32), boxes, (3000, 4000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20e6


def test_weights_of_a_place_are_one_minus_its_distance():
    places = np.array([-3.2, -1.0, -0.75, 0.0, 1.25, 3.0, 3.5, 4.0, 9.1])
    expected = np.maximum(0, 1 - np.abs(places[:, None] - np.arange(4)))
    found = pasting._linear_weights(places, 4, np.dtype(np.float64))
    np.testing.assert_array_equal(found, expected)


def test_threads_that_paste_leave_the_number_of_threads_as_it_was():
    def threads():
        return [
            info["num_threads"] for info in pasting._blas().info() if info["user_api"] == "blas"
        ]

    before = threads()
    arguments = np.ones((20, 28, 28), np.float32), np.tile([[0, 0, 90, 90]], (20, 1)), (100, 100)
    with ThreadPoolExecutor(4) as executor:
        for _ in executor.map(lambda _: pasting.paste_rle(*arguments), range(40)):
            pass
    assert threads() == before


def random_masks(seed: int = 0) -> np.ndarray:
    """Return masks of every kind: a few pixels, noise, whole columns, everything, nothing."""
    noise = np.random.default_rng(seed).random((13, 17, 8)) < [0.02, 0.3, 0.7, 0.5, 0, 0, 0, 0]
    noise[3:9, 4:11, 4] = True
    noise[:, 5:8, 5] = True
    noise[..., 6] = True
    return noise


def test_boxes_and_parts_of_runs_are_those_of_the_masks():
    inside = random_masks()
    expected = masks.bounds(inside)
    for number, rle in enumerate(masks.to_rle(inside)):
        runs = masks.runs_of(rle, inside.shape)
        assert masks.bounds_of_runs(runs, 13).tolist() == expected[number].tolist()
        for y1, x1, y2, x2 in ([0, 0, 13, 17], [2, 3, 9, 12], [5, 5, 5, 5], [12, 16, 13, 17]):
            part = masks.part_of_runs(runs, 13, [y1, x1, y2, x2])
            np.testing.assert_array_equal(part, inside[y1:y2, x1:x2, number])
