"""`mrcnn train`, `evaluate` and `detect` on sets that are no COCO files, and on other channels."""

import json
import logging

import numpy as np
import PIL.Image
import pytest
from test_cli import run, small_settings
from via_set import polygon, rectangle, write_via

from mrcnn.data.formats import load_dataset
from mrcnn.evaluation import coco
from mrcnn.weights import hdf5, runs

DARK = rectangle(8, 8, 30, 30, kind="dark")
BRIGHT = polygon((30, 30), (60, 30), (60, 60), kind="bright")


@pytest.fixture
def sets(tmp_path):
    """A training set of two classes, and a validation set of one of them; four channels."""
    names = [f"{number}.png" for number in range(3)]
    train = write_via(tmp_path / "train", {name: [DARK, BRIGHT] for name in names}, channels=4)
    val = write_via(tmp_path / "val" / "v", {"v.png": [DARK]}, channels=4)
    return train.parent, val.parent


@pytest.fixture
def trained(sets, tmp_path, eagerly, detecting_eagerly):  # noqa: ARG001
    """The checkpoint of a step of training on four channels."""
    train, val = sets
    arguments = ["train", "--train", train, "--val", val, "--logs", tmp_path / "logs"]
    arguments += ["--epochs", 1, "--steps", 1, "--set", "IMAGE_CHANNEL_COUNT=4"]
    assert run(*arguments, *small_settings()) == 0
    return runs.last_checkpoint(tmp_path / "logs")


def test_a_folder_of_four_channels_is_trained_scored_and_detected_in(
    trained, sets, tmp_path, capsys
):
    config = hdf5.read_settings(trained)["config"]
    assert config["CLASS_NAMES"] == ["BG", "bright", "dark"]
    assert config["IMAGE_CHANNEL_COUNT"] == 4
    images = [load_dataset(sets[0], channels=4).load_image(number) for number in range(3)]
    assert config["MEAN_PIXEL"] == np.mean(images, axis=(0, 1, 2)).round(1).tolist()
    kernel = hdf5.read(trained)["conv1/kernel"]
    assert kernel.shape[2] == 4

    scores = tmp_path / "scores.json"
    weights = ["--weights", trained]
    assert run("evaluate", "--annotations", sets[0], *weights, "--json", scores) == 0
    assert set(json.loads(scores.read_text())["segm"]["per_class"]) == {"dark", "bright"}
    assert "3 images" in capsys.readouterr().out

    output = tmp_path / "found"
    assert run("detect", sets[1], *weights, "--output", output, "--min-score", 0) == 0
    with PIL.Image.open(output / "v.png") as picture:
        assert (picture.size, picture.mode) == ((64, 64), "RGB")


def test_images_of_other_channels_are_refused_by_name(trained, tmp_path, caplog):
    PIL.Image.new("RGB", (64, 64)).save(tmp_path / "rgb.png")
    with caplog.at_level(logging.WARNING, "mrcnn"):
        weights = ["--weights", trained, "--output", tmp_path / "found"]
        assert run("detect", tmp_path / "rgb.png", *weights) == 1
    assert "rgb.png: cannot be read as an image: it has 3 channels, 4 are wanted" in caplog.text


def test_training_is_told_what_the_doctor_sees(sets, tmp_path, untrained, caplog):  # noqa: ARG001
    content = json.loads((sets[0] / "via.json").read_text())
    for name in ("0.png", "1.png"):
        content[name]["regions"] += [rectangle(30, 5, 90, 9, kind="dark")]
    content["2.png"]["regions"] += [{"shape_attributes": {"name": "point", "cx": 1, "cy": 2}}]
    content["2.png"]["regions"][-1]["region_attributes"] = {"kind": "dark"}
    (sets[0] / "via.json").write_text(json.dumps(content))
    with caplog.at_level(logging.WARNING, "mrcnn"):
        arguments = ["train", "--train", sets[0], "--logs", tmp_path / "logs"]
        assert run(*arguments, *small_settings()) == 0
    lines = [line for line in caplog.messages if "its outline" in line or "point" in line]
    assert len(lines) == 2
    assert lines[0] == "object 2 of image 2.png: dropped: a point has no area"
    assert "object 2 of image 0.png: its outline reaches" in lines[1]
    assert lines[1].endswith("(and 1 more like it)")
    assert caplog.messages[-1] == "run mrcnn check for details and remedies"


def test_faults_that_stop_a_training_are_named(sets, tmp_path, capsys):
    content = json.loads((sets[0] / "via.json").read_text())
    content["0.png"]["regions"][0]["region_attributes"] = {}
    (sets[0] / "via.json").write_text(json.dumps(content))
    assert run("train", "--train", sets[0], "--logs", tmp_path / "logs") == 2
    assert "mrcnn train: object 0 of image 0.png: it has no value" in capsys.readouterr().err


def test_the_format_may_be_forced(sets, tmp_path, capsys):
    arguments = ["train", "--train", sets[0], "--logs", tmp_path / "logs", "--format", "voc"]
    assert run(*arguments) == 2
    assert "train has no images; voc is an XML file" in capsys.readouterr().err


def test_truth_is_what_the_reader_made_of_a_turned_picture(tmp_path):
    """A COCO file whose sizes are those of the stored pictures is scored all the same."""
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.new("RGB", (10, 8)).save(tmp_path / "a.jpg", exif=exif)
    square = [2, 1, 6, 1, 6, 4, 2, 4]
    annotation = {"id": 1, "image_id": 7, "category_id": 3, "segmentation": [square], "area": 99}
    content = {
        "images": [{"id": 7, "file_name": "a.jpg", "width": 10, "height": 8}],
        "categories": [{"id": 3, "name": "dog"}],
        "annotations": [annotation],
    }
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(content))
    truth = coco.ground_truth_of(load_dataset(path))
    assert (truth.imgs[0]["height"], truth.imgs[0]["width"]) == (10, 8)
    assert truth.anns[1]["area"] == 12  # what is stated is of the stored picture, as the box is
    assert truth.anns[1]["bbox"] == [4, 2, 3, 4]
    PIL.Image.new("RGB", (10, 8)).save(tmp_path / "a.jpg")
    truth = coco.ground_truth_of(load_dataset(path))
    assert (truth.imgs[0]["height"], truth.anns[1]["area"]) == (8, 99)
