import contextlib
import io
import json
import logging

import numpy as np
import PIL.Image
import pytest
from pycocotools.coco import COCO

from mrcnn.data.dataset import Dataset
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
        {"size": [8, 10], "counts": [-1, 81]},
        [[1e9, 1, 2, 2, 3, 3]],
        5,
    ],
)
def test_object_without_pixels_is_dropped_with_one_warning(tmp_path, caplog, segmentation):
    path = write(tmp_path, record([SQUARE], id=6), record(segmentation))
    with caplog.at_level(logging.WARNING, "mrcnn"):
        dataset = load_coco(path, tmp_path)
    assert [(found.code, found.object) for found in dataset.problems] == [("no-area", 7)]
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
        ({"images": [{"file_name": "a.png"}]}, "lacks id"),
        ({"images": [{"id": 1, "width": 1e9, "height": 5}]}, "a size of 5 x 1000000000"),
        ({"images": [{"id": 1, "width": 1e5, "height": 1e5}]}, "larger than any image"),
        ({"images": [{"id": 1, "width": 5, "height": "x"}]}, "states no size, but 'x' x 5"),
        ({"images": [{"id": [1], "width": 5, "height": 5}]}, "neither a whole number nor a text"),
        ({"images": [7]}, "an entry of images is no object: 7"),
        ({"annotations": [7]}, "an entry of annotations is no object: 7"),
        ({"annotations": {"a": 1}}, "an entry of annotations is no object"),
        (
            {
                "categories": [{"id": 5, "name": "a"}, {"id": 6, "name": "a"}],
                "annotations": [record([SQUARE]), record([SQUARE], category_id=6)],
            },
            r"ids \[5, 6\]",
        ),
        ({"categories": [{"id": 5, "name": "a"}, {"id": 5, "name": "b"}]}, "have the id 5"),
    ],
)
def test_faults_of_the_file_are_named(tmp_path, changes, message):
    path = write(tmp_path, **{"annotations": [record([SQUARE])], **changes})
    with pytest.raises(ValueError, match=message):
        load_coco(path, tmp_path)


def test_ids_that_a_program_wrote_as_fractions_are_found(tmp_path):
    dataset = load_coco(write(tmp_path, record([SQUARE], category_id=9.0, image_id=1.0)), tmp_path)
    np.testing.assert_array_equal(dataset.load_mask(0)[1], [2])


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


ROBOFLOW = [
    {"id": 0, "name": "cars", "supercategory": "none"},
    {"id": 5, "name": "dent", "supercategory": "cars"},
]


def test_roboflows_unused_title_is_no_class(tmp_path, caplog):
    dataset = load_coco(write(tmp_path, record([SQUARE]), categories=ROBOFLOW), tmp_path)
    assert dataset.class_names == ["BG", "dent"]
    assert caplog.messages == []


def test_roboflows_title_with_objects_is_a_class(tmp_path):
    path = write(tmp_path, record([SQUARE], category_id=0), categories=ROBOFLOW)
    dataset = load_coco(path, tmp_path)
    assert dataset.class_names == ["BG", "cars", "dent"]
    np.testing.assert_array_equal(dataset.load_mask(0)[1], [1])


def test_unused_category_zero_without_the_mark_is_kept(tmp_path):
    categories = [{"id": 0, "name": "cat"}, {"id": 5, "name": "dog"}]
    dataset = load_coco(write(tmp_path, record([SQUARE]), categories=categories), tmp_path)
    assert dataset.class_names == ["BG", "cat", "dog"]


def test_unused_category_of_a_used_name_is_left_out_with_a_warning(tmp_path, caplog):
    categories = [{"id": 0, "name": "dog"}, {"id": 5, "name": "dog"}]
    dataset = load_coco(write(tmp_path, record([SQUARE]), categories=categories), tmp_path)
    assert dataset.class_names == ["BG", "dog"]
    assert "category 0 is left out" in caplog.text
    np.testing.assert_array_equal(dataset.load_mask(0)[1], [1])


def test_boxes_are_the_masks_where_no_object_has_an_outline(tmp_path, caplog):
    boxes = [record([], bbox=[2, 1, 4, 3]), record(None, bbox=[0, 0, 1, 0.02], id=8)]
    dataset = load_coco(write(tmp_path, *boxes), tmp_path)
    mask, _ = dataset.load_mask(0)
    np.testing.assert_array_equal(masks.bounds(mask), [[1, 2, 4, 6]])
    assert mask.sum() == 12
    assert [found.code for found in dataset.problems] == ["boxes-as-masks", "no-area"]
    assert len(caplog.messages) == 2


def test_a_box_is_no_mask_where_others_have_outlines(tmp_path):
    boxed = record([], bbox=[2, 1, 4, 3], id=8)
    dataset = load_coco(write(tmp_path, record([SQUARE]), boxed), tmp_path)
    assert dataset.load_mask(0)[0].shape[-1] == 1


def test_images_are_found_by_the_id_or_the_url_of_lvis(tmp_path):
    images = [
        {"id": 1, "file_name": "COCO_val2014_1.jpg", "width": 10, "height": 8},
        {"id": 2, "coco_url": "http://a.org/val/b.jpg", "width": 10, "height": 8},
    ]
    (tmp_path / "val").mkdir()
    for name in ("000000000001.jpg", "b.jpg"):
        (tmp_path / "val" / name).touch()
    dataset = load_coco(write(tmp_path, record([SQUARE]), images=images), tmp_path / "val")
    names = [info["path"] for info in dataset.image_info]
    assert names == [str(tmp_path / "val" / name) for name in ("000000000001.jpg", "b.jpg")]


@pytest.mark.parametrize("folder", [".", "images", "../val", "../images/val"])
def test_images_are_looked_for_nearby(tmp_path, folder):
    (tmp_path / "annotations").mkdir()
    for name in ("annotations/images", "other", "val", "images/val"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "c.png").touch()
    path = write(tmp_path / "annotations", record([SQUARE]))
    for name in ("a.png", "b.png"):
        (path.parent / folder / name).touch()
    dataset = load_coco(path)
    for info, name in zip(dataset.image_info, ("a.png", "b.png"), strict=True):
        assert (path.parent / folder / name).samefile(info["path"])


def test_paths_of_another_machine_count_by_their_last_part(tmp_path):
    (tmp_path / "A.PNG").touch()
    images = [{"id": 1, "file_name": "C:\\set\\a.png", "width": 10, "height": 8}]
    dataset = load_coco(write(tmp_path, record([SQUARE]), images=images), tmp_path)
    assert dataset.image_info[0]["path"] == str(tmp_path / "A.PNG")


def turned_set(folder, orientation, size):
    """Write a 10 x 8 picture with an EXIF orientation, and a square in a frame of this size."""
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    PIL.Image.new("RGB", (10, 8)).save(folder / "a.jpg", exif=exif)
    image = {"id": 1, "file_name": "a.jpg", "height": size[0], "width": size[1]}
    return load_coco(write(folder, record([SQUARE]), images=[image]), folder)


def test_annotations_of_the_upright_picture_are_taken_as_they_are(tmp_path):
    dataset = turned_set(tmp_path, 6, (10, 8))
    assert dataset.load_image(0).shape == (10, 8, 3)
    np.testing.assert_array_equal(masks.bounds(dataset.load_mask(0)[0]), [[1, 2, 4, 6]])


def test_annotations_of_the_stored_picture_are_turned_with_it(tmp_path):
    # Orientation 6 is turned clockwise: row y becomes column 8 - 1 - y, column x row x.
    dataset = turned_set(tmp_path, 6, (8, 10))
    mask, _ = dataset.load_mask(0)
    assert mask.shape == (10, 8, 1)
    np.testing.assert_array_equal(masks.bounds(mask), [[2, 4, 6, 7]])


def test_classes_are_numbered_as_another_set_has_them(tmp_path):
    path = write(tmp_path, record([SQUARE], category_id=9))
    dataset = load_coco(path, tmp_path, class_names=["cow", "cat", "dog"])
    assert dataset.class_names == ["BG", "cow", "cat", "dog"]
    np.testing.assert_array_equal(dataset.load_mask(0)[1], [2])


def test_objects_of_a_class_that_the_other_set_lacks_are_refused(tmp_path):
    path = write(tmp_path, record([SQUARE], category_id=9))
    with pytest.raises(ValueError, match=r"of the unknown classes \['cat'\]; known are \['dog'\]"):
        load_coco(path, tmp_path, class_names=["dog"])


def test_coco_itself(shared_data, capsys):
    path = shared_data / "coco" / "annotations" / "instances_train2017.json"
    dataset = load_coco(path, shared_data / "coco" / "train2017")
    assert capsys.readouterr().out == ""
    assert (dataset.num_images, dataset.num_classes, dataset.problems) == (128, 81, [])
    ids = [dataset.load_mask(image_id)[1] for image_id in dataset.image_ids]
    assert sum(map(len, ids)) == 939
    assert (np.concatenate(ids) < 0).sum() == 10
    assert sum(len(each) == 0 for each in ids) == 2


@pytest.mark.parametrize(
    ("file", "folder"),
    [
        ("nuclei/annotations/instances_val.json", "nuclei/val"),
        ("pennfudan/annotations/instances.json", "pennfudan/images"),
        ("coco/annotations/instances_train2017.json", "coco/train2017"),
    ],
)
def test_first_image_agrees_with_pycocotools(shared_data, file, folder):
    dataset = load_coco(shared_data / file, shared_data / folder)
    mask, _ = dataset.load_mask(0)
    assert mask.shape[:2] == dataset.load_image(0).shape[:2]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(shared_data / file)
    annotations = coco.imgToAnns[dataset.image_info[0]["id"]]
    assert mask.shape[-1] == len(annotations)
    for plane, annotation in zip(np.moveaxis(mask, -1, 0), annotations, strict=True):
        np.testing.assert_array_equal(plane, coco.annToMask(annotation))


def test_malformed_sets(shared_data):
    folder = shared_data / "malformed" / "annotations"
    empty = load_coco(folder / "coco_empty_segmentation" / "_annotations.coco.json")
    assert (empty.num_images, empty.num_objects) == (7, 63)
    facade = load_coco(folder / "coco_missing_files_duplicate_name.json", folder)
    assert facade.class_names.count("facade") == 1
    crowd = load_coco(folder / "coco_uncompressed_rle_crowd.json", folder)
    mask, class_ids = crowd.load_mask(0)
    np.testing.assert_array_equal(class_ids, [1, -2])
    np.testing.assert_array_equal(mask.sum(axis=(0, 1)), [2, 20])


def test_images_of_a_class_are_chosen_without_drawing_a_mask(tmp_path, monkeypatch):
    objects = [record([SQUARE]), record([SQUARE], id=8, image_id=2, category_id=9)]
    loaded = load_coco(write(tmp_path, *objects), tmp_path)
    assert [loaded.classes_in(image_id) for image_id in loaded.image_ids] == [{1}, {2}]
    cats = Dataset()
    monkeypatch.setattr(loaded, "load_mask", None)
    cats.add_dataset("coco", loaded, class_ids=[2])
    cats.prepare()
    assert cats.class_names == ["BG", "cat"]
    assert [info["id"] for info in cats.image_info] == [2]
