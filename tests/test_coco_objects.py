"""Annotations of COCO in the spellings that programs write."""

import json

import numpy as np
import pytest
import sets

from mrcnn.data.formats import load_dataset
from mrcnn.data.formats.coco_objects import Ids, is_crowd
from mrcnn.geometry import masks

MASK = np.zeros((48, 64), bool)
MASK[8:24, 8:24] = True
TEXT = masks.to_rle(MASK[..., None])[0]["counts"]
RUNS = np.diff(np.flatnonzero(np.diff(MASK.T.ravel(), prepend=~MASK[0, 0], append=2))).tolist()


def written(folder, change):
    sets.picture(folder / "a.png")
    path = sets.coco(folder / "set.json", outlines=(sets.NUT,))
    content = json.loads(path.read_text())
    changed = change(content)
    path.write_text(json.dumps(content if changed is None else changed))
    return path


def areas(dataset):
    return dataset.load_mask(0)[0].sum(axis=(0, 1)).tolist()


@pytest.mark.parametrize(
    "segmentation",
    [
        [sets.NUT],
        sets.NUT,
        sets.corners(sets.NUT),
        [sets.corners(sets.NUT)],
        [[str(value) for value in sets.NUT]],
        [sets.NUT, [1, 1, 2, 2]],
        {"size": [48, 64], "counts": RUNS},
        {"size": [48, 64], "counts": [float(run) for run in RUNS]},
        {"size": [48, 64], "counts": TEXT},
        [{"size": [48, 64], "counts": TEXT}],
        [{"size": [48, 64], "counts": TEXT}, {"size": [48, 64], "counts": RUNS}],
        {"counts": TEXT},
    ],
)
def test_outlines_in_every_spelling(tmp_path, segmentation):
    def change(content):
        content["annotations"][0]["segmentation"] = segmentation

    assert areas(load_dataset(written(tmp_path, change))) == [256]


@pytest.mark.parametrize("key", ["iscrowd", "bbox", "area", "id", "keypoints"])
@pytest.mark.parametrize("value", [None, "gone"])
def test_what_is_null_or_absent_is_not_needed(tmp_path, key, value):
    def change(content):
        content["annotations"][0][key] = None
        if value == "gone":
            del content["annotations"][0][key]

    assert areas(load_dataset(written(tmp_path, change))) == [256]


def test_boxes_stand_for_masks_where_no_object_has_an_outline(tmp_path):
    def change(content):
        content["annotations"][0] |= {"segmentation": None, "bbox": [8, 8, 16, 16]}

    assert areas(load_dataset(written(tmp_path, change))) == [256]


@pytest.mark.parametrize(
    ("value", "crowd"),
    [(None, False), (0, False), (1, True), ("0", False), ("1", True), ("False", False), ("", False),
     ("true", True), (True, True), (1.0, True)],
)  # fmt: skip
def test_crowds_in_every_spelling(value, crowd):
    assert is_crowd(value) is crowd


def test_a_crowd_that_says_neither_is_dropped_by_name(tmp_path):
    def change(content):
        content["annotations"].append({**content["annotations"][0], "iscrowd": "maybe"})

    dataset = load_dataset(written(tmp_path, change))
    assert areas(dataset) == [256]
    assert "its iscrowd is 'maybe', neither 0 nor 1" in dataset.problems[0].message


@pytest.mark.parametrize("listed", [7, "7", "name"])
@pytest.mark.parametrize("given", [7, "7", 7.0])
def test_ids_match_as_numbers_and_as_text(listed, given):
    ids = Ids([listed, "other"])
    assert ids.find(given) == (None if listed == "name" else listed)
    assert ids.find([7]) is None


def test_of_a_number_and_its_text_each_is_found():
    ids = Ids([1, "1"])
    assert (ids.find(1), ids.find("1")) == (1, "1")


@pytest.mark.parametrize("size", [(0, 0), (-1, -1), (None, None), ("64", "48"), (64.0, 48.0)])
def test_sizes_that_are_not_known_are_the_pictures(tmp_path, size):
    def change(content):
        content["images"][0] |= {"width": size[0], "height": size[1]}

    dataset = load_dataset(written(tmp_path, change))
    assert dataset.object_size(0) == (48, 64)
    assert areas(dataset) == [256]


@pytest.mark.parametrize("part", ["annotations", "images", "categories"])
def test_lists_may_be_keyed_by_id(tmp_path, part):
    def change(content):
        content[part] = {str(entry["id"]): entry for entry in content[part]}

    assert areas(load_dataset(written(tmp_path, change))) == [256]


def test_an_image_without_name_is_named_by_its_id(tmp_path):
    def change(content):
        content["images"][0] = {"id": 7, "width": 64, "height": 48}
        content["annotations"][0]["image_id"] = "7"

    path = written(tmp_path, change)
    sets.picture(tmp_path / "000000000007.jpg")
    assert areas(load_dataset(path)) == [256]


def test_scores_go_by_the_area_and_the_box_that_are_stated(tmp_path):
    def change(content):
        content["annotations"][0] |= {"area": 99, "bbox": [8, 8, 17, 18]}

    (record,) = load_dataset(written(tmp_path, change)).records(0)
    assert (record["area"], record["bbox"]) == (99, [8, 8, 17, 18])


@pytest.mark.parametrize("bbox", [[8, 8, 0, 4], [8, 8], ["a"] * 4, [1e999, 0, 1, 1], "box"])
def test_boxes_that_are_none_are_computed(tmp_path, bbox):
    def change(content):
        content["annotations"][0] |= {"bbox": bbox, "area": "large"}

    (record,) = load_dataset(written(tmp_path, change)).records(0)
    assert not {"area", "bbox"} & set(record)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([[1, 1, 2, 2]], "its 4 numbers are no polygon: three points of x and y are six"),
        ([[1, 1, 2, 2, 3, 3, 4]], "its 7 numbers are no polygon"),
        ("[[1, 1]]", "its segmentation is a str"),
        ({"counts": [1]}, "its RLE counts add up to 1, not 3072"),
    ],
)
def test_the_form_that_was_found_is_named(tmp_path, segmentation, message):
    def change(content):
        content["annotations"].append({**content["annotations"][0], "segmentation": segmentation})

    assert message in load_dataset(written(tmp_path, change)).problems[0].message


def test_a_category_that_is_listed_twice_is_one(tmp_path):
    def change(content):
        content["categories"] *= 2

    assert load_dataset(written(tmp_path, change)).class_names == ["BG", "nut"]
