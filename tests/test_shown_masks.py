import numpy as np
import pytest

from mrcnn.geometry import images, masks
from mrcnn.geometry import placement as placements

PLACES = {
    "enlarged": {"min_dim": 64, "max_dim": 128},
    "shrunk": {"min_dim": None, "max_dim": 64},
    "crop": {"min_dim": 64, "max_dim": None, "mode": "crop"},
    "as it is": {"min_dim": None, "max_dim": None, "mode": "none"},
}


def objects(shape, count, rng):
    """Rectangles, half of them with holes, some of them of a pixel."""
    drawn = np.zeros((*shape, count), bool)
    for number in range(count):
        y, x = rng.integers(0, shape)
        height, width = rng.integers(1, 50, 2) if number % 3 else (1, 1)
        drawn[y : y + height, x : x + width, number] = True
        if number % 2:
            drawn[..., number] &= rng.random(shape) < 0.8
    return drawn


def layouts(drawn):
    """The same masks as programs hold them: stacked last, a plane each, by columns, mirrored."""
    yield drawn
    yield np.moveaxis(np.ascontiguousarray(np.moveaxis(drawn, -1, 0)), 0, -1)
    yield np.ascontiguousarray(drawn.transpose(2, 1, 0)).transpose(2, 1, 0)
    yield drawn[:, ::-1].copy()[:, ::-1]


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("seed", range(8))
def test_boxes_and_mini_masks_are_those_of_whole_masks(name, seed):
    rng = np.random.default_rng(seed)
    drawn = objects((128, 192) if name == "as it is" else tuple(rng.integers(70, 200, 2)), 9, rng)
    placement = placements.place(drawn.shape, rng=rng, **PLACES[name])
    whole = images.fit_masks(drawn, placement)
    boxes = masks.bounds(whole)
    kept = np.flatnonzero(boxes[:, 2] > boxes[:, 0])[::2]
    for layout in layouts(drawn):
        shown = images.show_masks(layout, placement)
        start = np.tile(placement.window[:2], 2)
        has_pixels = shown.boxes[:, 2:] > shown.boxes[:, :2]
        np.testing.assert_array_equal(shown.boxes + start * has_pixels[:, :1], boxes)
        np.testing.assert_array_equal(
            shown.minimized(kept, (14, 9)),
            masks.minimize(boxes[kept], whole[..., kept], (14, 9)),
        )
        planes = shown.whole(kept, placement.window[:2], placement.input_size)
        np.testing.assert_array_equal(np.moveaxis(planes, 0, -1), whole[..., kept])


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float32])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 8, 5), (40, 31, 2), (7, 1, 4)])
def test_bounds_do_not_depend_on_the_layout(shape, dtype):
    drawn = np.random.default_rng(1).random(shape) < 0.05
    drawn[0, 0, 0] = True
    expected = masks.bounds(np.moveaxis(np.ascontiguousarray(np.moveaxis(drawn, -1, 0)), 0, -1))
    for layout in layouts(drawn.astype(dtype)):
        np.testing.assert_array_equal(masks.bounds(layout), expected)
    rows, cols = np.nonzero(drawn[..., 0])
    np.testing.assert_array_equal(
        expected[0], [rows.min(), cols.min(), rows.max() + 1, cols.max() + 1]
    )
