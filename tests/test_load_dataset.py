import json
import logging

import numpy as np
import PIL.Image
import pytest

from mrcnn.data.dataset import BadSample
from mrcnn.data.formats import FORMATS, files, load_dataset
from mrcnn.data.problems import Problems

# Folder or file, format, images, objects, crowds, as the README of the data sets has them.
SETS = [
    ("nuclei/annotations/instances_train.json", "coco", 160, 7768, 0),
    ("nuclei/annotations/instances_val.json", "coco", 40, 1279, 0),
    ("nuclei/stage1_train", "masks", 12, 866, 0),
    ("balloon/train", "via", 61, 255, 0),
    ("balloon/val", "via", 13, 50, 0),
    ("pennfudan", "coco", 100, 262, 0),
    ("coco", "coco", 128, 939, 10),
    ("coco_keypoints/annotations/person_keypoints_train2017.json", "coco", 36, 172, 5),
    ("coco_keypoints/annotations/instances_train2017.json", "coco", 36, 442, 7),
    ("lvis_mini", "coco", 9, 55, 0),
    ("coco_yoloseg", "yolo", 8, 60, 0),
    ("kudzu_via2/train", "via", 24, 520, 0),
    ("kudzu_via2/val", "via", 16, 349, 0),
    ("rice_leaf_via1_multiclass/train", "via", 30, 172, 0),
    ("rice_leaf_via1_multiclass/val", "via", 10, 95, 0),
    ("car_damage_roboflow_coco/train", "coco", 40, 95, 0),
    ("car_damage_roboflow_coco/valid", "coco", 12, 30, 0),
    ("nuts_labelme/as_coco.json", "coco", 5, 45, 0),
    ("labelme_examples/bbox_detection/data_annotated", "labelme", 3, 9, 0),
    ("labelme_examples/instance_segmentation/data_annotated", "labelme", 3, 14, 2),
    ("labelme_examples/primitives", "labelme", 1, 5, 0),
    ("labelme_examples/tutorial", "labelme", 1, 4, 0),
    ("naip_4band_labelme", "labelme", 1, 7, 0),
    ("uint16/spacenet_pan_uint16.coco.json", "coco", 1, 43, 0),
    ("uint16/landsat_3band_int16.coco.json", "coco", 1, 19, 0),
    ("kangaroo_voc_boxes", "voc", 12, 28, 0),
]
UNREADABLE = {"kangaroo_voc_boxes": {"00090"}}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("path", "name", "images", "objects", "crowds"), SETS)
def test_public_sets_have_the_counts_of_their_readme(
    shared_data, path, name, images, objects, crowds
):
    dataset = load_dataset(shared_data / path)
    assert (dataset.format, dataset.num_images, dataset.num_objects) == (name, images, objects)
    found = [item for image_id in dataset.image_ids for item in dataset.objects(image_id)]
    assert sum(item.is_crowd for item in found) == crowds
    unreadable = set()
    for image_id in dataset.image_ids:
        masks, class_ids = dataset.load_mask(image_id)
        assert masks.shape[-1] == len(class_ids) == len(dataset.objects(image_id))
        assert (np.abs(class_ids) < dataset.num_classes).all()
        try:
            assert masks.shape[:2] == dataset.load_image(image_id).shape[:2]
        except BadSample:
            unreadable.add(dataset.image_info[image_id]["id"])
    assert unreadable == UNREADABLE.get(path, set())


def test_a_folder_of_two_formats_is_refused_unless_one_is_named(shared_data):
    folder = shared_data / "nuts_labelme"
    with pytest.raises(ValueError, match=r"several formats: labelme \(.*10\.json\); coco \(.*as_c"):
        load_dataset(folder)
    dataset = load_dataset(folder, "labelme")
    assert (dataset.format, dataset.num_images, dataset.num_objects) == ("labelme", 5, 45)


@pytest.mark.parametrize("name", ["nuclei", "uint16"])
def test_several_files_of_one_format_are_refused(shared_data, name):
    with pytest.raises(ValueError, match=r"must hold one coco file, found \[.*\]; pass the file"):
        load_dataset(shared_data / name)


def test_an_empty_folder_tells_what_was_looked_for(tmp_path):
    with pytest.raises(ValueError, match="no known annotations") as refusal:
        load_dataset(tmp_path)
    assert all(name in str(refusal.value) for name in FORMATS)


@pytest.mark.parametrize("content", ["[]", "{}", '{"a": 1}', "3"])
def test_other_json_tells_what_was_looked_for(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    for path in (tmp_path, tmp_path / "a.json"):
        with pytest.raises(ValueError, match="no known annotations"):
            load_dataset(path)


def test_a_missing_path_is_named(tmp_path):
    for form in ("auto", "masks"):
        with pytest.raises(ValueError, match=r"nothing: there is no such file or folder"):
            load_dataset(tmp_path / "nothing", form)


def test_an_unknown_format_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"auto or one of .*'coco'.* got 'cocoa'"):
        load_dataset(tmp_path, "cocoa")


def write_via(folder, encoding="utf-8", label="leaf"):
    entry = {
        "filename": "a.png",
        "regions": [
            {
                "shape_attributes": {"name": "rect", "x": 1, "y": 2, "width": 3, "height": 2},
                "region_attributes": {"kind": label},
            }
        ],
    }
    PIL.Image.new("RGBA", (6, 5)).save(folder / "a.png")
    text = json.dumps({"a": entry}, ensure_ascii=False)
    (folder / "via.json").write_bytes(text.encode(encoding))
    return folder


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16"])
def test_letters_of_old_files_are_read(tmp_path, encoding):
    dataset = load_dataset(write_via(tmp_path, encoding, "Löwe"))
    assert dataset.class_names == ["BG", "Löwe"]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_have_the_channels_that_are_asked_for(tmp_path, channels):
    dataset = load_dataset(write_via(tmp_path), channels=channels)
    assert dataset.channels == channels
    assert dataset.load_image(0).shape == (5, 6, channels)


def test_missing_channels_are_a_bad_sample(tmp_path):
    dataset = load_dataset(write_via(tmp_path), channels=5)
    with pytest.raises(BadSample, match="it has 4 channels, 5 are wanted"):
        dataset.load_image(0)


def test_annotations_without_objects_are_refused(tmp_path):
    write_via(tmp_path)
    content = json.loads((tmp_path / "via.json").read_text())
    content["a"]["regions"] = []
    (tmp_path / "via.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="no annotations of objects"):
        load_dataset(tmp_path)


def test_problems_are_collected_where_training_would_be_stopped(tmp_path, caplog):
    write_via(tmp_path, label="")
    content = json.loads((tmp_path / "via.json").read_text())
    content["a"]["regions"] *= 2
    content["a"]["regions"].append(
        {**content["a"]["regions"][0], "region_attributes": {"kind": "leaf"}}
    )
    (tmp_path / "via.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"no value of 'kind' \(2 of 3 objects"):
        load_dataset(tmp_path)
    problems = Problems(strict=False)
    with caplog.at_level(logging.WARNING, "mrcnn"):
        dataset = load_dataset(tmp_path, problems=problems)
    assert [finding.code for finding in dataset.problems] == ["object-without-class"] * 2
    assert [finding.object for finding in dataset.problems] == [0, 1]
    assert dataset.num_objects == 1
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("balloon/train", "balloon"),
        ("kudzu_via2/val2017", "kudzu_via2"),
        ("cells/stage1_train", "cells"),
        ("cells/images", "cells"),
        ("cells/Train Data/labels", "cells"),
        ("trains", "trains"),
    ],
)
def test_a_class_without_name_is_named_after_what_the_set_shows(tmp_path, folder, name):
    (tmp_path / folder).mkdir(parents=True)
    assert files.descriptive_name(tmp_path / folder) == name


def via_named(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    regions = json.loads((write_via(folder) / "via.json").read_text())["a"]["regions"]
    (folder / "a.png").unlink()
    entries = {name: {"filename": name, "regions": regions} for name in names}
    (folder / "via.json").write_text(json.dumps(entries))


def test_images_of_the_same_names_in_another_part_are_not_taken(tmp_path):
    via_named(tmp_path / "train", "1.png", "2.png")
    (tmp_path / "val").mkdir()
    for path in ("train/1.png", "val/1.png", "val/2.png"):
        PIL.Image.new("RGB", (6, 5)).save(tmp_path / path)
    dataset = load_dataset(tmp_path / "train")
    assert [info["path"] for info in dataset.image_info] == [
        str(tmp_path / "train" / name) for name in ("1.png", "2.png")
    ]


def test_a_neighbour_with_few_of_the_images_is_not_taken(tmp_path):
    via_named(tmp_path / "train", "1.png", "2.png")
    (tmp_path / "other").mkdir()
    PIL.Image.new("RGB", (6, 5)).save(tmp_path / "other" / "1.png")
    assert load_dataset(tmp_path / "train").image_info[0]["path"] == str(tmp_path / "train/1.png")
