"""What a file claims is checked before memory is taken."""

import json

import numpy as np
import PIL.Image
import pytest
import sets
from pycocotools import mask as coco_mask

from mrcnn.data import outlines
from mrcnn.data.dataset import BadSample
from mrcnn.data.formats import load_dataset
from mrcnn.data.outlines import AnnotatedObject
from mrcnn.geometry import masks


def far_zigzag(count, reach):
    """Return count points that go to and fro between both ends of a square of this reach."""
    x = np.where(np.arange(count) % 2, reach, -reach)
    return np.stack([x, np.linspace(-reach, reach, count)], axis=1)


def test_points_a_million_pixels_away_do_not_end_the_process():
    shape = outlines.checked(far_zigzag(2000, 1e6))
    mask, kept = outlines.rasterise([AnnotatedObject(1, [shape])], (48, 64))
    assert mask.shape == (48, 64, len(kept))


def test_an_outline_too_long_to_be_drawn_is_no_object():
    zigzag = np.abs(far_zigzag(4000, 4000)).clip(0, 4000)
    zigzag[::2, 0] = 0
    shape = outlines.checked(zigzag)
    with pytest.raises(outlines.TooLongError, match="pixels long, at most"):
        outlines.encode([shape], (4000, 4000))
    rles = outlines.encode_each([AnnotatedObject(1, [shape])], (4000, 4000))
    assert [int(coco_mask.area(rle)) for rle in rles] == [0]


@pytest.mark.parametrize("seed", range(5))
def test_what_is_clipped_far_away_is_the_same_in_the_image(seed):
    """pycocotools rounds the ends of each side, so a border may differ by a pixel."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(-300, 364, (9, 2))
    clipped = outlines._bounded(points, (48, 64))
    drawn = [
        coco_mask.decode(coco_mask.frPyObjects([each.ravel().tolist()], 48, 64))
        for each in (points, clipped)
    ]
    assert (drawn[0] != drawn[1]).mean() < 0.03
    assert clipped.min() >= -64
    assert (clipped <= [128, 96]).all()


def test_near_points_are_left_as_they_are():
    points = np.array([(-60.0, 5), (120, 5), (30, 90)])
    assert outlines._bounded(points, (48, 64)) is points


def test_a_polygon_around_the_image_covers_all_of_it():
    shape = outlines.rectangle(-1e6, -1e6, 1e6, 1e6)
    assert outlines.rasterise([AnnotatedObject(1, [shape])], (48, 64))[0].all()


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([-1, 81], "not non-negative integers"),
        ([2**33, 1], "add up to"),
        ([0.5, 79.5], "not non-negative integers"),
        ([True, "79"], "not non-negative integers"),
        ("", "cut off"),
        ("o" * 40, "cut off"),
        ("o" * 40 + "0", "damaged"),
        ("\x7f0", "damaged"),
        ("ü", "damaged"),
        ("0", "do not fill"),
        (None, "no counts"),
    ],
)
def test_run_lengths_are_checked_before_they_are_drawn(counts, message):
    with pytest.raises(ValueError, match=message):
        outlines.stored_runs(counts, [8, 10], (8, 10))


@pytest.mark.parametrize("kind", [list, str, bytes])
def test_sound_run_lengths_pass(kind):
    mask = np.random.default_rng(0).random((8, 10, 1)) > 0.5
    rle = masks.to_rle(mask)[0]
    counts = {"str": rle["counts"], "bytes": rle["counts"].encode()}.get(kind.__name__)
    if kind is list:
        column = mask[..., 0].T.ravel()
        counts = np.diff(np.flatnonzero(np.diff(column, prepend=not column[0], append=2))).tolist()
        counts = [0, *counts] if column[0] else counts
    runs = outlines.stored_runs(counts, [8, 10], (8, 10))
    np.testing.assert_array_equal(masks.from_rle([runs.rle], (8, 10)), mask)


def test_a_large_stated_size_is_compared_with_the_image_first(tmp_path):
    sets.picture(tmp_path / "a.png")
    path = sets.coco(tmp_path / "set.json")
    content = json.loads(path.read_text())
    content["images"][0] |= {"width": 40_000, "height": 40_000}
    path.write_text(json.dumps(content))
    dataset = load_dataset(path)
    with pytest.raises(BadSample, match="40000 x 40000 pixels, the image has 64 x 48"):
        dataset.load_mask(0)


def test_a_label_image_of_many_labels_is_read_once(tmp_path):
    labels = np.arange(100 * 100, dtype=np.uint16).reshape(100, 100)
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    PIL.Image.fromarray(np.zeros((100, 100), np.uint8)).save(tmp_path / "images" / "a.png")
    PIL.Image.fromarray(labels.repeat(2, 0).repeat(2, 1)[:100, :100]).save(
        tmp_path / "masks" / "a.png"
    )
    dataset = load_dataset(tmp_path)
    found = [outlines.encode(item.shapes, (100, 100)) for item in dataset.objects(0)]
    # One by one: pycocotools fails at 256.
    assert sum(int(coco_mask.area(rle)) for rle in found) == 100 * 100 - 4  # 0 is no object


@pytest.mark.parametrize(
    ("points", "sure"),
    [
        ([(8, 8), (24, 8), (24, 24)], True),
        ([(8, 8), (24, 8), (24, 8.5)], False),  # a splinter
        ([(8, 8), (8.4, 8), (8.4, 8.4)], False),  # a speck
        ([(-8, 8), (24, 8), (24, 24)], False),  # cut off
        ([(8, 8), (8, 8), (8, 8)], False),
    ],
)
def test_polygons_that_surely_cover_a_pixel(points, sure):
    found = outlines.surely_cover_a_pixel([np.array(points, float)] * 2, np.array([[48, 64]] * 2))
    assert found.tolist() == [sure, sure]


def test_what_is_sure_is_drawn():
    rng = np.random.default_rng(0)
    polygons = [rng.uniform(0, 40, 2) + rng.uniform(0, 8, (3, 2)) for _ in range(500)]
    sure = outlines.surely_cover_a_pixel(polygons, np.tile([48, 64], (500, 1)))
    assert 20 < sure.sum() < 480
    for points in [p for p, is_sure in zip(polygons, sure, strict=True) if is_sure]:
        assert coco_mask.area(outlines.encode([outlines.checked(points)], (48, 64)))
