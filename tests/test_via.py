import json

import numpy as np
import PIL.Image
import pytest

from mrcnn.data.formats.via import load_via

RECTANGLE = {"name": "rect", "x": 1, "y": 2, "width": 3, "height": 2}
INSIDE = [[2, 1], [2, 2], [2, 3], [3, 1], [3, 2], [3, 3]]


def region(shape, **attributes):
    return {"shape_attributes": shape, "region_attributes": attributes}


def write(folder, *regions, content=None):
    """Write a 6 x 5 image and its VIA file, version 2 unless another content is given."""
    PIL.Image.new("RGB", (6, 5)).save(folder / "a.png")
    if content is None:
        content = {"a.png123": {"filename": "a.png", "size": 123, "regions": list(regions)}}
    path = folder / "via_region_data.json"
    path.write_text(json.dumps(content))
    return path


def pixels(dataset, place=0):
    return np.argwhere(dataset.load_mask(0)[0][..., place]).tolist()


@pytest.mark.parametrize(
    "shape",
    [
        RECTANGLE,
        {"name": "polygon", "all_points_x": [1, 4, 4, 1], "all_points_y": [2, 2, 4, 4]},
        {"name": "polyline", "all_points_x": [1, 4, 4, 1, 1], "all_points_y": [2, 2, 4, 4, 2]},
    ],
)
def test_shapes_with_corners(tmp_path, shape):
    dataset = load_via(write(tmp_path, region(shape, kind="leaf")))
    assert pixels(dataset) == INSIDE
    assert dataset.class_names == ["BG", "leaf"]
    assert (dataset.format, dataset.sources) == ("via", ["", "via"])


@pytest.mark.parametrize(
    "shape",
    [
        {"name": "circle", "cx": 3, "cy": 2, "r": 1.2},
        {"name": "ellipse", "cx": 3, "cy": 2, "rx": 1.2, "ry": 1.2},
        {"name": "ellipse", "cx": 3, "cy": 2, "rx": 1.2, "ry": 1.2, "theta": 1.5},
    ],
)
def test_round_shapes(tmp_path, shape):
    dataset = load_via(write(tmp_path, region(shape, kind="leaf")))
    assert pixels(dataset) == [[1, 2], [1, 3], [2, 2], [2, 3]]


def test_an_ellipse_is_turned_by_theta(tmp_path):
    shape = {"name": "ellipse", "cx": 3, "cy": 2.5, "rx": 2, "ry": 0.6, "theta": np.pi / 2}
    assert {column for _, column in pixels(load_via(write(tmp_path, region(shape))))} <= {2, 3}


def test_regions_in_a_dict_are_version_1(tmp_path):
    entry = {"filename": "a.png", "size": 1, "regions": {"0": region(RECTANGLE, kind="leaf")}}
    assert pixels(load_via(write(tmp_path, content={"a.png1": entry}))) == INSIDE


def test_entries_of_both_versions_are_read_each_in_its_form(tmp_path):
    entries = {
        "a": {"filename": "a.png", "regions": {"0": region(RECTANGLE, kind="leaf")}},
        "b": {"filename": "b.png", "regions": [region(RECTANGLE, kind="stem")]},
        "c": {"filename": "c.png", "regions": {}},
    }
    dataset = load_via(write(tmp_path, content=entries))
    assert [len(dataset.objects(image_id)) for image_id in dataset.image_ids] == [1, 1, 0]
    assert dataset.class_names == ["BG", "leaf", "stem"]


def test_a_project_is_read(tmp_path):
    entries = {"a": {"filename": "a.png", "regions": [region(RECTANGLE, kind="leaf")]}}
    project = {"_via_settings": {}, "_via_img_metadata": entries, "_via_attributes": {}}
    assert pixels(load_via(write(tmp_path, content=project))) == INSIDE


def test_classes_are_numbered_by_name(tmp_path):
    regions = [region(RECTANGLE, kind=name) for name in ("stem", "leaf", "stem", " leaf ")]
    dataset = load_via(write(tmp_path, *regions))
    assert dataset.class_names == ["BG", "leaf", "stem"]
    np.testing.assert_array_equal(dataset.load_mask(0)[1], [2, 1, 2, 1])


def test_either_of_two_attributes_with_the_same_values_is_the_class(tmp_path):
    dataset = load_via(write(tmp_path, region(RECTANGLE, inseto="kudzu", insect="kudzu")))
    assert dataset.class_names == ["BG", "kudzu"]


def test_an_attribute_without_values_is_not_the_class(tmp_path):
    dataset = load_via(write(tmp_path, region(RECTANGLE, kind="leaf", note="", **{"": ""})))
    assert dataset.class_names == ["BG", "leaf"]


def test_several_attributes_are_refused_unless_one_is_named(tmp_path):
    path = write(tmp_path, region(RECTANGLE, kind="leaf", age="old"))
    with pytest.raises(ValueError, match=r"'kind' with leaf; 'age' with old; name one by class_at"):
        load_via(path)
    assert load_via(path, class_attribute="age").class_names == ["BG", "old"]


def test_the_ticked_box_is_the_value(tmp_path):
    dataset = load_via(write(tmp_path, region(RECTANGLE, kind={"leaf": True, "stem": False})))
    assert dataset.class_names == ["BG", "leaf"]


def test_attributes_inside_the_shape_are_found(tmp_path):
    shape = {**RECTANGLE, "region_attributes": {"kind": "leaf"}}
    dataset = load_via(write(tmp_path, {"shape_attributes": shape}))
    assert dataset.class_names == ["BG", "leaf"]


def test_an_object_without_its_class_is_refused(tmp_path):
    path = write(tmp_path, region(RECTANGLE, kind="leaf"), region(RECTANGLE))
    with pytest.raises(ValueError, match=r"object 1 of image a\.png: it has no value of 'kind'"):
        load_via(path)


def test_without_attributes_the_class_is_named_after_the_folder(tmp_path):
    folder = tmp_path / "balloon" / "train"
    folder.mkdir(parents=True)
    path = write(folder, region(RECTANGLE))
    assert load_via(path).class_names == ["BG", "balloon"]
    assert load_via(path, class_names=["ball"]).class_names == ["BG", "ball"]
    np.testing.assert_array_equal(load_via(path, class_names=["ball"]).load_mask(0)[1], [1])


@pytest.mark.parametrize(
    "shape",
    [
        {"name": "point", "cx": 1, "cy": 2},
        {"name": "star"},
        {"name": "circle", "cx": 1},
        {"name": "polygon", "all_points_x": [1, 2], "all_points_y": [1, 2]},
        {"name": "polygon", "all_points_x": [1, 2, "a"], "all_points_y": [1, 2, 3]},
    ],
)
def test_what_has_no_area_is_dropped_with_a_warning(tmp_path, caplog, shape):
    dataset = load_via(write(tmp_path, region(shape), region(RECTANGLE)))
    assert pixels(dataset) == INSIDE
    assert len(caplog.messages) == 1
    assert "object 0 of image a.png: dropped" in caplog.messages[0]


def test_images_may_lie_elsewhere(tmp_path):
    for name in ("images", "json"):
        (tmp_path / name).mkdir()
    path = write(tmp_path / "json", region(RECTANGLE))
    (tmp_path / "json" / "a.png").rename(tmp_path / "images" / "a.png")
    for images in (tmp_path / "images", None):
        assert load_via(path, images).load_image(0).shape == (5, 6, 3)


def test_other_json_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no VIA file"):
        load_via(write(tmp_path, content={"shapes": []}))


def test_a_comma_too_many_is_named_with_its_place(shared_data):
    path = shared_data / "malformed" / "annotations" / "via1_trailing_comma.json"
    with pytest.raises(ValueError, match=r"no JSON: .* at line \d+, column \d+ \(a comma too many"):
        load_via(path)


def test_polygons_are_those_of_the_upright_picture(shared_data):
    folder = shared_data / "malformed"
    dataset = load_via(folder / "annotations" / "via1_exif6.json", folder / "images")
    masks, class_ids = dataset.load_mask(0)
    assert masks.shape[:2] == dataset.load_image(0).shape[:2] == (1008, 756)
    assert masks.any(axis=(0, 1)).all()
    assert len(class_ids) == len(dataset.objects(0))


def test_balloons_at_the_border_are_cut_off(shared_data):
    dataset = load_via(shared_data / "balloon" / "train" / "via_region_data.json")
    beyond = 0
    for image_id in dataset.image_ids:
        height, width = dataset.object_size(image_id)
        objects = dataset.objects(image_id)
        beyond += sum((item.shapes[0].points >= (width, height)).any() for item in objects)
        assert len(dataset.load_mask(image_id)[1]) == len(objects)
    assert beyond == 13


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"filename": "a.png", "regions": 5}, "image a.png: its regions are neither"),
        ({"filename": "a.png", "regions": [5]}, "object 0 of image a.png: it has no shape_attrib"),
        (
            {"filename": "a.png", "regions": [{**region(RECTANGLE), "region_attributes": "x"}]},
            "region_attributes are no dict",
        ),
    ],
)
def test_damaged_entries_are_named(tmp_path, entry, message):
    with pytest.raises(ValueError, match=message):
        load_via(write(tmp_path, content={"a": entry}))


def test_an_attribute_that_no_region_has_is_told_once(tmp_path):
    path = write(tmp_path, region(RECTANGLE, kind="leaf"), region(RECTANGLE, kind="stem"))
    with pytest.raises(ValueError, match=r"no region has the attribute 'colour'; .* \['kind'\]"):
        load_via(path, class_attribute="colour")
