import json
import logging

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from mrcnn.data.formats.coco import load_coco
from mrcnn.geometry import masks

SQUARE = [2, 1, 6, 1, 6, 4, 2, 4]


def record(segmentation, **changes):
    return {"id": 7, "image_id": 1, "category_id": 5, "segmentation": segmentation, **changes}


def write(folder, *annotations, **changes):
    content = {
        "images": [
            {"id": 1, "file_name": "a.png", "width": 10, "height": 8},
            {"id": 2, "file_name": "b.png", "width": 10, "height": 8},
        ],
        "categories": [{"id": 9, "name": "cat"}, {"id": 5, "name": "dog"}],
        "annotations": list(annotations),
        **changes,
    }
    path = folder / "coco.json"
    path.write_text(json.dumps(content))
    return path


def test_polygon_becomes_a_mask(tmp_path):
    dataset = load_coco(write(tmp_path, record([SQUARE])), tmp_path)
    mask, class_ids = dataset.load_mask(0)
    assert mask.shape == (8, 10, 1)
    assert mask.dtype == bool
    np.testing.assert_array_equal(masks.bounds(mask), [[1, 2, 4, 6]])
    assert mask.sum() == 12
    np.testing.assert_array_equal(class_ids, [1])


def test_classes_are_in_the_order_of_their_ids(tmp_path):
    dataset = load_coco(write(tmp_path, record([SQUARE], category_id=9)), tmp_path)
    assert dataset.class_names == ["BG", "dog", "cat"]
    assert dataset.source_class_ids["coco"] == [0, 1, 2]
    assert dataset.get_source_class_id(2, "coco") == 9
    np.testing.assert_array_equal(dataset.load_mask(0)[1], [2])


def test_image_without_objects_is_kept(tmp_path):
    dataset = load_coco(write(tmp_path, record([SQUARE])), tmp_path)
    assert dataset.num_images == 2
    assert dataset.image_info[1]["path"] == str(tmp_path / "b.png")
    mask, class_ids = dataset.load_mask(1)
    assert mask.shape == (8, 10, 0)
    assert class_ids.shape == (0,)


def test_crowd_has_the_negative_class(tmp_path):
    runs = {"size": [8, 10], "counts": [8, 16, 56]}
    dataset = load_coco(write(tmp_path, record(runs, iscrowd=1)), tmp_path)
    mask, class_ids = dataset.load_mask(0)
    np.testing.assert_array_equal(class_ids, [-1])
    np.testing.assert_array_equal(masks.bounds(mask), [[0, 1, 8, 3]])


def test_compressed_runs_survive(tmp_path):
    mask = np.random.default_rng(0).random((8, 10, 1)) > 0.5
    dataset = load_coco(write(tmp_path, record(masks.to_rle(mask)[0])), tmp_path)
    np.testing.assert_array_equal(dataset.load_mask(0)[0], mask)


def test_several_polygons_are_one_object(tmp_path):
    far = [8, 6, 10, 6, 10, 8, 8, 8]
    dataset = load_coco(write(tmp_path, record([SQUARE, far, [1, 2]])), tmp_path)
    mask = dataset.load_mask(0)[0]
    assert mask.shape[-1] == 1
    assert mask.sum() == 12 + 4


def test_polygon_is_cut_off_at_the_image(tmp_path):
    around = [-5, -5, 30, -5, 30, 2, -5, 2]
    mask = load_coco(write(tmp_path, record([around])), tmp_path).load_mask(0)[0]
    np.testing.assert_array_equal(masks.bounds(mask), [[0, 0, 2, 10]])


@pytest.mark.parametrize(
    "segmentation",
    [
        [],
        None,
        "",
        [[]],
        [[1, 1, 2, 2]],
        [[1, 1, 2, 2, 3]],
        [[3, 3, 3, 3, 3, 3]],
        [[50, 50, 60, 50, 60, 60]],
        [["a", 1, 2, 2, 3, 3]],
        [[float("nan"), 1, 2, 2, 3, 3]],
        [1, 1, 2, 2, 3, 3],
        {"size": [10, 8], "counts": [0, 80]},
        {"size": [8, 10], "counts": [0, 79]},
        {"size": [8, 10], "counts": [80]},
        {"size": [8, 10]},
        {"size": [8, 10], "counts": "P"},
        5,
    ],
)
def test_object_without_pixels_is_dropped_with_one_warning(tmp_path, caplog, segmentation):
    path = write(tmp_path, record([SQUARE], id=6), record(segmentation))
    with caplog.at_level(logging.WARNING, "mrcnn"):
        dataset = load_coco(path, tmp_path)
    assert dataset.dropped_objects == 1
    assert dataset.load_mask(0)[0].shape == (8, 10, 1)
    assert len(caplog.messages) == 1
    assert "object 7 of image a.png" in caplog.messages[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"annotations": [record([SQUARE], category_id=3)]}, "annotation 7 has category_id 3"),
        ({"annotations": [record([SQUARE], image_id=4)]}, "annotation 7 has image_id 4"),
        ({"annotations": []}, "has no annotations"),
        ({"images": None}, "no list of images"),
        ({"categories": None}, "no list of categories"),
        ({"images": [{"id": 1, "file_name": "a.png"}]}, "lacks width, height"),
        ({"categories": [{"id": 5, "name": "a"}, {"id": 6, "name": "a"}]}, r"ids \[5, 6\]"),
        ({"categories": [{"id": 5, "name": "a"}, {"id": 5, "name": "b"}]}, "have the id 5"),
    ],
)
def test_faults_of_the_file_are_named(tmp_path, changes, message):
    path = write(tmp_path, **{"annotations": [record([SQUARE])], **changes})
    with pytest.raises(ValueError, match=message):
        load_coco(path, tmp_path)


def test_empty_file_is_accepted_on_request(tmp_path):
    assert load_coco(write(tmp_path), tmp_path, allow_empty=True).num_images == 2


def test_no_json_is_named_with_its_place(tmp_path):
    (tmp_path / "coco.json").write_text('{"images": [],\n}')
    with pytest.raises(ValueError, match=r"coco\.json is no JSON: .* line 2, column 1"):
        load_coco(tmp_path / "coco.json", tmp_path)


def test_a_list_is_no_coco_file(tmp_path):
    (tmp_path / "coco.json").write_text("[]")
    with pytest.raises(ValueError, match="no COCO file"):
        load_coco(tmp_path / "coco.json", tmp_path)


def test_coco_itself(shared_data, capsys):
    path = shared_data / "coco" / "annotations" / "instances_train2017.json"
    dataset = load_coco(path, shared_data / "coco" / "train2017")
    assert capsys.readouterr().out == ""
    assert (dataset.num_images, dataset.num_classes, dataset.dropped_objects) == (128, 81, 0)
    ids = [dataset.load_mask(image_id)[1] for image_id in dataset.image_ids]
    assert sum(map(len, ids)) == 939
    assert (np.concatenate(ids) < 0).sum() == 10
    assert sum(len(each) == 0 for each in ids) == 2


@pytest.mark.parametrize(
    ("file", "folder", "counts"),
    [
        ("nuclei/annotations/instances_val.json", "nuclei/val", (40, 1279)),
        ("pennfudan/annotations/instances.json", "pennfudan/images", (100, 262)),
    ],
)
def test_first_image_agrees_with_pycocotools(shared_data, file, folder, counts):
    dataset = load_coco(shared_data / file, shared_data / folder)
    objects = [info["annotations"] for info in dataset.image_info]
    assert (len(objects), sum(map(len, objects))) == counts
    mask, _ = dataset.load_mask(0)
    assert mask.shape[:2] == dataset.load_image(0).shape[:2]
    rles = [annotation["segmentation"] for annotation in objects[0]]
    np.testing.assert_array_equal(mask, coco_mask.decode(rles))


def test_malformed_sets(shared_data):
    folder = shared_data / "malformed" / "annotations"
    empty = load_coco(folder / "coco_empty_segmentation" / "_annotations.coco.json", folder)
    assert (empty.num_images, empty.dropped_objects) == (7, 65)
    with pytest.raises(ValueError, match="2 categories have the name 'facade'"):
        load_coco(folder / "coco_missing_files_duplicate_name.json", folder)
    crowd = load_coco(folder / "coco_uncompressed_rle_crowd.json", folder)
    mask, class_ids = crowd.load_mask(0)
    np.testing.assert_array_equal(class_ids, [1, -2])
    np.testing.assert_array_equal(mask.sum(axis=(0, 1)), [2, 20])
