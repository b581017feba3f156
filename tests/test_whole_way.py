"""What is read is trained on, scored and detected in: every set takes the whole way."""

import json
from pathlib import Path

import numpy as np
import pytest
import sets
from small import SmallConfig

from mrcnn.cli import common, main
from mrcnn.data.formats import load_dataset

# Steps on images of every set are traced alike: `test_kinds.py` and others see that they are.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("eagerly"),
    pytest.mark.filterwarnings("ignore"),
]

NETWORK = (
    "BACKBONE", "BACKBONE_WIDTH", "TOP_DOWN_PYRAMID_SIZE", "RPN_CONV_SIZE",
    "FPN_CLASSIF_FC_LAYERS_SIZE", "MASK_CONV_SIZE", "IMAGE_MIN_DIM", "IMAGE_MAX_DIM",
    "POST_NMS_ROIS_TRAINING", "POST_NMS_ROIS_INFERENCE", "TRAIN_ROIS_PER_IMAGE",
    "DETECTION_MAX_INSTANCES", "WORKERS",
)  # fmt: skip
# Path, exit status of check, and settings.
PUBLIC = [
    ("nuclei/annotations/instances_val.json", 0, []),
    ("nuclei/stage1_train", 0, []),
    ("balloon/val", 0, []),
    ("pennfudan", 0, []),
    ("coco", 0, []),
    ("coco_keypoints/annotations/instances_train2017.json", 0, []),
    ("lvis_mini", 0, []),
    ("coco_yoloseg", 0, []),
    ("kudzu_via2/val", 0, []),
    ("rice_leaf_via1_multiclass/val", 0, []),
    ("car_damage_roboflow_coco/valid", 0, []),
    ("nuts_labelme/as_coco.json", 0, []),
    ("labelme_examples/instance_segmentation/data_annotated", 0, []),
    ("labelme_examples/primitives", 0, []),
    ("naip_4band_labelme", 0, ["IMAGE_CHANNEL_COUNT=4"]),
    ("uint16/spacenet_pan_uint16.coco.json", 0, ["IMAGE_CHANNEL_COUNT=1"]),
    ("uint16/landsat_3band_int16.coco.json", 0, []),
    ("kangaroo_voc_boxes", 1, []),  # one picture is cut off
]


def edited(path: Path, change) -> Path:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


def text_ids(folder):
    def change(content):
        content["images"][0]["id"] = "dish_a"
        content["annotations"][0]["image_id"] = "dish_a"

    return edited(sets.coco(folder / "set.json", ["a.png", "b.png"]), change)


def keyed_by_id(folder):
    def change(content):
        content["annotations"] = {str(each["id"]): each for each in content["annotations"]}

    return edited(sets.coco(folder / "set.json", ["a.png", "b.png"]), change)


def export_of_via(folder):
    def change(content):
        for annotation in content["annotations"]:
            annotation |= {"image_id": "0", "segmentation": annotation["segmentation"][0]}
        content["images"][1] |= {"width": -1, "height": -1}

    return edited(sets.coco(folder / "set.json", ["a.png", "b.png"]), change)


def names_with_commas(folder):
    names = ("bottle, clear", "bottle, green")
    return sets.coco(folder / "set.json", ["a.png"], (sets.NUT, sets.BOLT), names)


def background_as_a_category(folder):
    def change(content):
        content["categories"].insert(0, {"id": 0, "name": "_background_"})

    return edited(sets.coco(folder / "set.json"), change)


def listed_twice(folder):
    return sets.coco(folder / "set.json", ["a.png", "a.png", "b.png"])


def outlines_without_names(folder):
    return sets.via(folder / "via.json", {"a.png": [sets.NUT], "b.png": [sets.BOLT]})


def csv_of_via(folder):
    shape = json.dumps({"name": "rect", "x": 8, "y": 8, "width": 16, "height": 16})
    cells = shape.replace('"', '""')
    row = f'a.png,1,"{{}}",1,0,"{cells}","{{}}"'
    header = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,"
    (folder / "via.csv").write_text(f"{header}region_attributes\n{row}\n")
    return folder / "via.csv"


def rectangles_of_four_corners(folder):
    shape = {"label": "nut", "points": sets.corners(sets.NUT), "shape_type": "rectangle"}
    return sets.labelme(folder / "a.json", [shape])


def decimal_class_ids(folder):
    (folder / "a.txt").write_text("1.000e+00 0.125 0.25 0.375 0.25 0.375 0.5\n")
    (folder / "data.yaml").write_text("names: [nut, 'bolt, long']\n")
    return folder


CASES = [
    text_ids,
    keyed_by_id,
    export_of_via,
    names_with_commas,
    background_as_a_category,
    listed_twice,
    outlines_without_names,
    csv_of_via,
    rectangles_of_four_corners,
    decimal_class_ids,
]


@pytest.fixture(autouse=True)
def each_network_is_built_once(monkeypatch):
    """Evaluate and detect take the same file: the time of the test is that of building."""
    load, loaded = common.load_network, {}

    def load_once(options):
        if options.weights not in loaded:
            loaded[options.weights] = load(options)
        return loaded[options.weights]

    monkeypatch.setattr(common, "load_network", load_once)


def settings_of(extra):
    settings = [f"{name}={getattr(SmallConfig, name)}" for name in NETWORK]
    return [part for each in [*settings, *extra] for part in ("--set", each)]


def take(path, status, extra, folder, capsys):
    """Take a set through check, two steps of training, evaluate and detect."""
    channels = [part for each in extra for part in ("--set", each)]
    assert main(["check", str(path), *channels]) == status
    logs = str(folder / "logs")
    arguments = ["train", "--train", str(path), "--logs", logs]
    assert main([*arguments, "--steps", "2", "--epochs", "1", *settings_of(extra)]) == 0
    (weights,) = (folder / "logs").glob("*/*_0001.h5")
    scores = folder / "scores.json"
    capsys.readouterr()
    evaluated = ["evaluate", "--annotations", str(path), "--weights", str(weights)]
    assert main([*evaluated, "--json", str(scores)]) == 0
    dataset = load_dataset(path, channels=int(extra[0].split("=")[1]) if extra else 3)
    assert json.loads(scores.read_text())["segm"]["per_class"]
    assert f"{dataset.num_images} images" in capsys.readouterr().out
    image = dataset.source_image_link(0)
    arguments = ["detect", str(image), "--weights", str(weights), "--min-score", "0"]
    assert main([*arguments, "--output", str(folder / "found")]) == 0
    found = json.loads((folder / "found" / "detections.json").read_text())
    assert all({"bbox", "score", "segmentation", "category_id"} <= set(row) for row in found)


@pytest.mark.parametrize(("path", "status", "extra"), PUBLIC, ids=[each[0] for each in PUBLIC])
def test_public_sets(shared_data, path, status, extra, tmp_path, capsys):
    take(shared_data / path, status, extra, tmp_path, capsys)


@pytest.mark.usefixtures("detecting_eagerly")
@pytest.mark.parametrize("write", CASES, ids=[each.__name__ for each in CASES])
def test_cases_of_public_reports(write, tmp_path, capsys):
    folder = tmp_path / "set"
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png"):
        sets.picture(folder / name, level=int(rng.integers(255)))
    path = write(folder)
    take(path, 0, [], tmp_path, capsys)
