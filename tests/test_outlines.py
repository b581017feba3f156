import numpy as np
import PIL.Image
import pytest

from mrcnn.data import outlines
from mrcnn.data.outlines import AnnotatedObject, MaskFile


def drawn(*shapes, size=(5, 6)):
    mask, kept = outlines.rasterise([AnnotatedObject(1, shapes)], size)
    assert (mask.shape, mask.dtype, list(kept)) == ((*size, 1), bool, [0])
    return mask[..., 0].astype(int).tolist()


def test_rectangle_covers_whole_pixels():
    assert drawn(outlines.rectangle(1, 2, 4, 4)) == [
        [0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
        [0, 1, 1, 1, 0, 0],
        [0, 1, 1, 1, 0, 0],
        [0, 0, 0, 0, 0, 0],
    ]


def test_corners_of_a_rectangle_come_in_any_order():
    assert drawn(outlines.rectangle(4, 4, 1, 2)) == drawn(outlines.rectangle(1, 2, 4, 4))


def test_points_on_the_far_border_are_cut_off():
    whole = drawn(outlines.polygon([0, 6, 6, 0], [0, 0, 5, 5]))
    assert whole == np.ones((5, 6), int).tolist()
    assert drawn(outlines.polygon([-9, 60, 60, -9], [-9, -9, 50, 50])) == whole


def test_circle_of_radius_two():
    assert drawn(outlines.ellipse((3, 3), (2, 2)), size=(6, 6)) == [
        [0, 0, 0, 0, 0, 0],
        [0, 0, 1, 1, 0, 0],
        [0, 1, 1, 1, 1, 0],
        [0, 1, 1, 1, 1, 0],
        [0, 0, 1, 1, 0, 0],
        [0, 0, 0, 0, 0, 0],
    ]


@pytest.mark.parametrize(
    ("angle", "height", "width"),
    [(0, 10, 40), (np.pi / 2, 40, 10), (np.pi, 10, 40)],
)
def test_ellipse_turns(angle, height, width):
    mask = np.array(drawn(outlines.ellipse((30, 30), (20, 5), angle), size=(60, 60)))
    assert (np.ptp(np.nonzero(mask), axis=1) + 1 == [height, width]).all()
    assert abs(mask.sum() - np.pi * 20 * 5) < 8


def test_ellipse_turns_clockwise():
    mask = np.array(drawn(outlines.ellipse((30, 30), (20, 3), np.pi / 4), size=(60, 60)))
    assert mask[40, 40]
    assert not mask[20, 40]


def test_parts_are_one_object():
    both = drawn(outlines.rectangle(0, 0, 1, 1), outlines.rectangle(5, 4, 6, 5))
    assert np.argwhere(both).tolist() == [[0, 0], [4, 5]]


def test_relative_points_are_fractions_of_width_and_height():
    points = outlines.rectangle(0.5, 0.2, 1, 0.4).points
    mask = drawn(outlines.Polygon(points, is_relative=True))
    assert np.argwhere(mask).tolist() == [[1, 3], [1, 4], [1, 5]]


def test_objects_without_a_pixel_are_left_out():
    objects = [
        AnnotatedObject(1, [outlines.rectangle(10, 10, 12, 12)]),
        AnnotatedObject(2, [outlines.rectangle(1, 1, 2, 2)]),
    ]
    mask, kept = outlines.rasterise(objects, (5, 6))
    assert list(kept) == [1]
    assert mask.sum() == 1


def test_no_objects_have_no_masks():
    mask, kept = outlines.rasterise([], (5, 6))
    assert (mask.shape, len(kept)) == ((5, 6, 0), 0)


def test_runs_are_the_mask_they_were_made_of():
    mask = np.random.default_rng(0).random((5, 6)) > 0.5
    assert drawn(outlines.run_lengths(mask)) == mask.astype(int).tolist()


def test_values_of_a_label_image_are_objects(tmp_path):
    labels = np.zeros((5, 6), np.uint16)
    labels[0, 0], labels[1:3, 2] = 300, 7
    path = str(tmp_path / "labels.png")
    PIL.Image.fromarray(labels).save(path)
    assert outlines.labels_of(path) == [7, 300]
    assert np.argwhere(drawn(MaskFile(path, 7))).tolist() == [[1, 2], [2, 2]]
    assert np.argwhere(drawn(MaskFile(path))).tolist() == [[0, 0], [1, 2], [2, 2]]
    with_box = drawn(MaskFile(path, 300), outlines.rectangle(5, 4, 6, 5))
    assert np.argwhere(with_box).tolist() == [[0, 0], [4, 5]]


def test_mask_of_another_size_is_refused(tmp_path):
    path = str(tmp_path / "mask.png")
    PIL.Image.new("L", (4, 4), 255).save(path)
    for shape in (MaskFile(path), outlines.run_lengths(np.ones((4, 4), bool))):
        with pytest.raises(ValueError, match=r"\[4, 4\], the image \[5, 6\]"):
            outlines.rasterise([AnnotatedObject(1, [shape])], (5, 6))


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([0, 1], [0, 1], "fewer than three points"),
        ([0, 1, "a"], [0, 1, 2], "not pairs of numbers"),
        ([0, 1, 2], [0, 1], "not pairs of numbers"),
        (None, [0, 1], "not pairs of numbers"),
        ([0, 1, float("nan")], [0, 1, 2], "not numbers"),
        ([0, 1, 1e9], [0, 1, 2], "beyond any image"),
    ],
)
def test_faults_of_a_polygon_are_named(x, y, message):
    with pytest.raises(ValueError, match=message):
        outlines.polygon(x, y)
