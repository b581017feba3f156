import numpy as np
import pytest
from PIL import Image

from mrcnn import visualize
from mrcnn.drawing import colors, instances, labels, pictures
from mrcnn.geometry import masks

NAMES = ["BG", "cat", "dog"]


def detections_of(boxes, class_ids=None, scores=None, size=(100, 120)):
    count = len(boxes)
    masks = np.zeros((count, *size), bool)
    for mask, (y1, x1, y2, x2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = True
    return {
        "rois": np.array(boxes, np.int32).reshape(-1, 4),
        "class_ids": np.array(class_ids if class_ids is not None else [1] * count, np.int32),
        "scores": np.array(scores if scores is not None else [0.9] * count, np.float32),
        "masks": np.moveaxis(masks, 0, -1),
    }


def gray(level=100, size=(100, 120)):
    return np.full((*size, 3), level, np.uint8)


def draw_plain(image, detections, **options):
    return instances.draw_instances(image, detections, NAMES, show_labels=False, **options)


def test_class_colors_do_not_depend_on_the_number_of_classes():
    few, many = colors.class_colors(3), colors.class_colors(81)
    assert (few.shape, few.dtype) == ((3, 3), np.uint8)
    np.testing.assert_array_equal(few, many[:3])


def test_first_colors_are_far_apart():
    shades = colors.instance_colors(8).astype(int)
    distances = np.abs(shades[:, None] - shades[None]).sum(axis=-1)
    assert distances[~np.eye(8, dtype=bool)].min() > 60


def test_colors_are_legible_on_black_and_white():
    brightness = colors.instance_colors(100) @ colors.LUMA
    assert brightness.min() > 70
    assert brightness.max() < 215


def test_no_instances_have_no_colors():
    assert colors.instance_colors(0).shape == (0, 3)


def test_empty_detections_leave_the_image_as_it_is():
    image = gray()
    drawn = instances.draw_instances(image, detections_of([]), NAMES)
    np.testing.assert_array_equal(drawn, image)
    assert drawn is not image


def test_pixels_outside_boxes_are_unchanged_and_masks_are_tinted():
    image, detections = gray(), detections_of([(20, 30, 60, 80)])
    mask = detections["masks"][..., 0]
    drawn = draw_plain(image, detections)
    assert (drawn[~mask] == 100).all()
    assert (drawn[mask] != 100).any(axis=-1).all()
    assert (image == 100).all()


def test_masks_are_half_transparent_inside():
    image = gray()
    image[40, 50] = 200
    drawn = draw_plain(image, detections_of([(20, 30, 60, 80)]))
    assert (drawn[40, 50] > drawn[40, 51]).all()


@pytest.mark.parametrize("level", [0, 255])
def test_outline_stands_out_from_fill_and_background(level):
    detections = detections_of([(20, 30, 60, 80)])
    # A loose box, so that its line does not lie on the outline.
    detections["rois"] = np.array([[10, 20, 70, 90]], np.int32)
    drawn = draw_plain(gray(level), detections).astype(int)
    outline, fill = drawn[20, 50], drawn[40, 50]
    assert np.abs(outline - fill).sum() > 60
    assert np.abs(outline - level).sum() > 100


def test_labels_are_written_in_the_image_beside_the_object():
    image, detections = gray(), detections_of([(40, 30, 60, 80)])
    changed = instances.draw_instances(image, detections, NAMES) != draw_plain(image, detections)
    rows, columns = np.nonzero(changed.any(axis=-1))
    assert len(rows) > 100
    assert rows.max() < 40
    assert columns.min() == 30


@pytest.mark.parametrize("box", [(0, 0, 10, 10), (90, 110, 100, 120), (0, 0, 100, 120)])
def test_labels_at_the_border_are_whole(box):
    image, detections = gray(), detections_of([box])
    changed = instances.draw_instances(image, detections, NAMES) != draw_plain(image, detections)
    inner = instances.draw_instances(image, detections_of([(40, 30, 60, 80)]), NAMES)
    whole = inner != draw_plain(image, detections_of([(40, 30, 60, 80)]))
    assert changed.any(axis=(1, 2)).sum() == whole.any(axis=(1, 2)).sum()


def test_labels_do_not_hide_each_other():
    rois = np.array([[40, 30, 60, 80]] * 20)
    shades = colors.instance_colors(20)
    canvas, whole = gray(), gray()
    labels.draw(canvas, ["cat 0.90"] * 20, rois, shades, 12)
    labels.draw(whole, ["cat 0.90"], rois[:1], shades[:1], 12)
    plate = (canvas == shades[0]).all(axis=-1)
    np.testing.assert_array_equal(plate, (whole == shades[0]).all(axis=-1))


def test_ground_truth_without_scores_can_be_drawn():
    detections = detections_of([(40, 30, 60, 80)])
    del detections["scores"]
    assert (instances.draw_instances(gray(), detections, NAMES) != 100).any()


def test_faint_detections_are_not_drawn():
    detections = detections_of([(10, 10, 30, 30), (50, 50, 70, 70)], scores=[0.9, 0.3])
    drawn = draw_plain(gray(), detections, min_score=0.5)
    assert (drawn[50:70, 50:70] == 100).all()
    assert (drawn[10:30, 10:30] != 100).any()


def test_small_masks_are_drawn_over_large_ones():
    shades = np.array([[255, 0, 0], [0, 0, 255]], np.uint8)
    boxes = [(40, 40, 60, 60), (10, 10, 90, 110)]
    for order in ([0, 1], [1, 0]):
        detections = detections_of([boxes[place] for place in order])
        drawn = draw_plain(gray(), detections, colors=shades[order])
        assert drawn[50, 50, 0] > drawn[50, 50, 2]


def test_instances_of_a_single_class_have_their_own_colors():
    detections = detections_of([(10, 10, 40, 40), (50, 50, 80, 80)])
    single = instances.draw_instances(gray(), detections, ["BG", "cat"], show_labels=False)
    assert (single[25, 25] != single[65, 65]).any()
    several = draw_plain(gray(), detections)
    assert (several[25, 25] == several[65, 65]).all()


def test_many_objects_have_neither_labels_nor_boxes():
    boxes = [(y, x, y + 8, x + 8) for y in range(0, 90, 16) for x in range(0, 110, 16)]
    detections = detections_of(boxes)
    assert len(boxes) > instances.MAX_LABELS
    detections["masks"][:, :, 0] = False
    drawn = instances.draw_instances(gray(), detections, NAMES)
    assert (drawn[~detections["masks"].any(axis=-1)] == 100).all()


def test_scale_enlarges_the_picture():
    image, detections = gray(), detections_of([(20, 30, 60, 80)])
    drawn = draw_plain(image, detections, scale=3)
    assert drawn.shape == (300, 360, 3)
    mask = detections["masks"][..., 0].repeat(3, axis=0).repeat(3, axis=1)
    assert (drawn[~mask] == 100).all()


def test_mask_of_one_pixel_is_seen_enlarged():
    drawn = draw_plain(gray(), detections_of([(50, 50, 51, 51)] * 13), scale=3)
    assert (drawn[151, 151] != 100).any()


def test_boxes_beyond_the_image_are_clipped():
    detections = detections_of([(90, 100, 100, 120)])
    detections["rois"] = np.array([[90, 100, 130, 150]], np.int32)
    assert draw_plain(gray(), detections).shape == (100, 120, 3)


def test_masks_of_another_size_are_an_error():
    with pytest.raises(ValueError, match="do not fit"):
        draw_plain(gray(), detections_of([(0, 0, 5, 5)], size=(50, 60)))


@pytest.mark.parametrize("image", [np.zeros((5, 5), np.uint8), np.zeros((5, 5, 3), np.float32)])
def test_other_images_are_an_error(image):
    with pytest.raises(ValueError, match="expected an image"):
        draw_plain(image, detections_of([]))


def test_side_by_side_keeps_both_images():
    left, right = gray(10, (50, 40)), gray(20, (30, 60))
    both = pictures.side_by_side(left, right)
    assert both.shape == (50, 40 + 2 + 60, 3)
    np.testing.assert_array_equal(both[:, :40], left)
    np.testing.assert_array_equal(both[:30, 42:], right)
    assert (both[:, 40:42] == 255).all()
    assert (both[30:, 42:] == 255).all()


def test_saved_image_is_read_again(tmp_path):
    image = gray()
    image[:50] = 7
    path = tmp_path / "new" / "folder" / "picture.png"
    pictures.save_image(path, image)
    with Image.open(path) as picture:
        np.testing.assert_array_equal(np.asarray(picture), image)
    assert list(path.parent.iterdir()) == [path]


def test_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "picture.JPG"
    pictures.save_image(path, gray())
    before = path.read_bytes()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        pictures.save_image(path, gray(0))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_unknown_suffix_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="must end in one of"):
        pictures.save_image(tmp_path / "picture.xyz", gray())


def test_default_colors_are_those_of_the_class_and_crowds_have_their_class_color():
    found = colors.default_colors(np.array([2, 1, -2]), 3)
    np.testing.assert_array_equal(found, colors.class_colors(3)[[2, 1, 2]])


@pytest.mark.parametrize(
    "color", [(1.0, 0.0, 0.4), [255, 0, 102], np.array([255, 0, 102], np.uint8), "#ff0066"]
)
def test_colors_of_every_notation_are_the_same(color):
    np.testing.assert_array_equal(colors.to_bytes([color]), [[255, 0, 102]])


def test_ink_is_legible():
    assert colors.ink(np.array([250, 240, 60])) == "black"
    assert colors.ink(np.array([30, 20, 120])) == "white"


def test_texts_name_class_score_and_crowd():
    detections = {"class_ids": np.array([2, 1, -1]), "scores": np.array([0.987, 0.0, 0.5])}
    assert labels.texts(detections, NAMES) == ["dog 0.99", "cat", "cat (crowd) 0.50"]


def test_class_without_a_name_is_an_error():
    with pytest.raises(ValueError, match=r"class id 3 has no name: .*must include the background"):
        instances.draw_instances(gray(), detections_of([(0, 0, 5, 5)], class_ids=[3]), NAMES)


def test_letters_beyond_english_are_drawn():
    def written(text):
        canvas = gray()
        roi = np.array([[40, 30, 60, 80]])
        labels.draw(canvas, [text], roi, colors.instance_colors(1), 12)
        return canvas

    # A letter that the font lacks is drawn as the box of any other such letter.
    assert (written("é") != written("ж")).any()


def objects_of(boxes, texts=None, **options):
    detections = detections_of(boxes, **options)
    return instances.Objects(
        detections["rois"],
        detections["masks"],
        colors.instance_colors(len(boxes)),
        texts or [""] * len(boxes),
    )


def test_outlines_remain_where_masks_are_not_filled():
    image, objects = gray(), objects_of([(20, 30, 60, 80)])
    drawn = instances.draw_objects(image, objects, show_masks=False, show_boxes=False)
    assert (drawn[20, 40:70] != 100).any(axis=-1).all()
    assert (drawn[30:50, 40:70] == 100).all()


def test_boxes_are_not_drawn_when_unwanted():
    objects = objects_of([(20, 30, 60, 80)])
    objects = objects._replace(rois=np.array([[10, 10, 70, 90]]))
    assert (instances.draw_objects(gray(), objects)[10, 10:90] != 100).any(axis=-1).all()
    drawn = instances.draw_objects(gray(), objects, show_boxes=False)
    assert (drawn[10, 10:90] == 100).all()


def test_all_boxes_are_drawn_where_masks_are_not_filled():
    boxes = [(y, x, y + 8, x + 8) for y in range(0, 90, 16) for x in range(0, 110, 16)]
    objects = objects_of(boxes)
    objects.masks[...] = False
    drawn = instances.draw_objects(gray(), objects, show_masks=False)
    assert all((drawn[y1, x1:x2] != 100).any(axis=-1).all() for y1, x1, _, x2 in boxes)


def test_padding_is_not_drawn():
    objects = objects_of([(20, 30, 60, 80)], ["cat"])
    objects = objects._replace(rois=np.zeros((1, 4), int))
    assert (instances.draw_objects(gray(), objects) == 100).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32])
def test_masks_of_every_dtype_are_drawn_alike(dtype):
    objects = objects_of([(20, 30, 60, 80)])
    converted = objects._replace(masks=objects.masks.astype(dtype))
    np.testing.assert_array_equal(
        instances.draw_objects(gray(), converted), instances.draw_objects(gray(), objects)
    )


def test_masks_beyond_their_box_are_whole():
    objects = objects_of([(20, 30, 60, 80)])
    objects = objects._replace(rois=np.array([[30, 40, 50, 60]]))
    drawn = instances.draw_objects(gray(), objects, show_boxes=False)
    assert (drawn[objects.masks[..., 0]] != 100).any(axis=-1).all()


@pytest.mark.parametrize("channels", [None, 1, 3, 4, 6])
def test_images_of_any_number_of_channels_are_visible(channels):
    shape = (5, 7) if channels is None else (5, 7, channels)
    seen = pictures.visible(np.full(shape, 90, np.uint8))
    assert (seen.shape, seen.dtype) == ((5, 7, 3), np.uint8)
    assert (seen == 90).all()


def test_run_lengths_are_drawn_as_their_masks_are():
    image = np.full((40, 50, 3), 90, np.uint8)
    mask = np.zeros((40, 50, 1), bool)
    mask[5:25, 10:30] = True
    found = {
        "rois": np.array([[5, 10, 25, 30]]),
        "class_ids": np.array([1]),
        "scores": np.array([0.9], np.float32),
        "masks": mask,
    }
    drawn = instances.draw_instances(image, found, ["BG", "thing"])
    rles = {**found, "masks": masks.to_rle(mask)}
    np.testing.assert_array_equal(instances.draw_instances(image, rles, ["BG", "thing"]), drawn)


@pytest.mark.parametrize("scale", [1, 3])
def test_all_ways_of_drawing_take_run_lengths(scale):
    objects = objects_of([(20, 30, 60, 80), (0, 0, 10, 10), (40, 50, 80, 90)], ["cat", "", "dog"])
    as_runs = objects._replace(masks=masks.to_rle(objects.masks))
    for options in ({}, {"show_masks": False}, {"show_boxes": False}):
        drawn = instances.draw_objects(gray(), objects, scale=scale, **options)
        again = instances.draw_objects(gray(), as_runs, scale=scale, **options)
        np.testing.assert_array_equal(drawn, again)


def test_run_lengths_of_another_size_are_refused():
    objects = objects_of([(20, 30, 60, 80)])
    objects = objects._replace(masks=masks.to_rle(np.zeros((7, 9, 1), bool)))
    with pytest.raises(ValueError, match=r"masks of \(7, 9\) do not fit an image of"):
        instances.draw_objects(gray(), objects)


def test_a_picture_tells_what_wrote_it(tmp_path):
    pictures.save_image(tmp_path / "a.png", gray(), software="mrcnn detect")
    pictures.save_image(tmp_path / "b.png", gray())
    assert pictures.is_written_by(tmp_path / "a.png", "mrcnn detect")
    assert not pictures.is_written_by(tmp_path / "b.png", "mrcnn detect")
    (tmp_path / "c.png").write_bytes(b"no image")
    assert not pictures.is_written_by(tmp_path / "c.png", "mrcnn detect")


def test_display_instances_takes_run_lengths_without_drawing_them_whole(monkeypatch):
    seen = []
    monkeypatch.setattr(visualize.figures, "draw_picture", lambda *a, **_: seen.append(a[2]))
    monkeypatch.setattr(visualize.figures, "show", lambda: None)
    objects = objects_of([(20, 30, 60, 80)])
    rles = masks.to_rle(objects.masks)
    visualize.display_instances(gray(), objects.rois, rles, [1], ["BG", "cat"])
    assert seen[0].masks == rles
    with pytest.raises(ValueError, match="equally many"):
        visualize.display_instances(gray(), objects.rois, rles * 2, [1], ["BG", "cat"])
