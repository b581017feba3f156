import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from conftest import detect_eagerly, run_steps_eagerly
from pycocotools.coco import COCO
from small import SmallConfig, make_find_objects

from mrcnn import cli
from mrcnn.model import MaskRCNN
from mrcnn.weights import catalog, hdf5, runs

COMMANDS = ("demo", "check", "train", "detect", "evaluate", "convert")
SMALL = (
    "NAME",
    "BACKBONE",
    "BACKBONE_WIDTH",
    "TOP_DOWN_PYRAMID_SIZE",
    "RPN_CONV_SIZE",
    "RPN_ANCHOR_SCALES",
    "FPN_CLASSIF_FC_LAYERS_SIZE",
    "MASK_CONV_SIZE",
    "IMAGE_MIN_DIM",
    "IMAGE_MAX_DIM",
    "POST_NMS_ROIS_TRAINING",
    "POST_NMS_ROIS_INFERENCE",
    "TRAIN_ROIS_PER_IMAGE",
    "MAX_GT_INSTANCES",
    "MINI_MASK_SHAPE",
    "DETECTION_MAX_INSTANCES",
    "DETECTION_MIN_CONFIDENCE",
    "WORKERS",
)


def small_settings() -> list[str]:
    pairs = [("--set", f"{name}={getattr(SmallConfig, name)}") for name in SMALL]
    return list(itertools.chain.from_iterable(pairs))


def write_set(folder: Path, categories=("dark", "bright"), count=4) -> Path:
    """Write 64 x 64 images and their COCO file: polygons, a crowd, an image without objects."""
    images = folder / "images"
    images.mkdir(parents=True)
    content = {
        "images": [],
        "annotations": [],
        # As in COCO, category ids are not the numbers of the classes.
        "categories": [{"id": 3 + 4 * i, "name": name} for i, name in enumerate(categories)],
    }
    for number in range(count):
        pixels = np.random.default_rng(number).integers(100, 140, (64, 64, 3), np.uint8)
        # A number as name is COCO's image id; another name is the id itself.
        name = f"{number + 20:012d}.png" if number % 2 else f"image {number}.png"
        info = {"id": number + 20, "file_name": name, "height": 64, "width": 64}
        content["images"].append(info)
        if number != 1:
            pixels[10:40, 8:30] = 20
            add_object(content, info, 3, [[8, 10, 30, 10, 30, 40, 8, 40]])
            pixels[45:60, 35:60] = 230
            add_object(content, info, 7, [[35, 45, 60, 45, 60, 60, 35, 60]])
        if number == 2:
            # Column by column: the last two columns of the image.
            crowd = {"size": [64, 64], "counts": [62 * 64, 2 * 64]}
            add_object(content, info, 3, crowd, iscrowd=1)
        PIL.Image.fromarray(pixels).save(images / name)
    path = folder / "instances.json"
    path.write_text(json.dumps(content))
    return path


def add_object(content, info, category_id, segmentation, iscrowd=0) -> None:
    content["annotations"].append(
        {
            "id": len(content["annotations"]) + 1,
            "image_id": info["id"],
            "category_id": category_id,
            "segmentation": segmentation,
            "iscrowd": iscrowd,
        }
    )


@pytest.fixture(scope="module")
def coco_set(tmp_path_factory) -> Path:
    return write_set(tmp_path_factory.mktemp("coco"))


@pytest.fixture(scope="module")
def trained(coco_set, tmp_path_factory) -> Path:
    """The folder of logs after `mrcnn train` of two epochs."""
    logs = tmp_path_factory.mktemp("logs")
    images = str(coco_set.parent / "images")
    arguments = ["train", "--train", coco_set, "--images", images, "--logs", logs]
    arguments += ["--val", coco_set, "--val-images", images, "--epochs", 2, "--steps", 2]
    arguments += [*small_settings(), "--set", "IMAGES_PER_GPU=2"]
    with pytest.MonkeyPatch.context() as monkeypatch:
        run_steps_eagerly(monkeypatch)
        detect_eagerly(monkeypatch)
        assert cli.main([str(argument) for argument in arguments]) == 0
    return logs


@pytest.fixture(scope="module")
def checkpoint(trained) -> Path:
    """What the training wrote last."""
    return runs.last_checkpoint(trained)


@pytest.fixture(scope="module")
def finder(checkpoint, tmp_path_factory) -> Path:
    """A checkpoint that finds objects everywhere, which four steps of training cannot promise."""
    path = tmp_path_factory.mktemp("finder") / "finder.h5"
    model = MaskRCNN.from_checkpoint(checkpoint)
    make_find_objects(model.network)
    model.save_weights(path)
    return path


@pytest.fixture
def logs(trained, tmp_path) -> Path:
    """A copy of the folder of logs, to go on in."""
    return Path(shutil.copytree(trained, tmp_path / "logs"))


def run(*arguments) -> int:
    return cli.main([str(argument) for argument in arguments])


def assert_refused(capsys, arguments, *parts) -> None:
    """Run a command; expect status 2 and one line on stderr with all these parts."""
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert len(error.strip().splitlines()) == 1
    assert error.startswith(f"mrcnn {arguments[0]}: ")
    for part in parts:
        assert str(part) in error


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)])
def test_help_is_given_and_is_no_error(capsys, command):
    with pytest.raises(SystemExit) as stop:
        cli.main([*command, "--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert "usage: mrcnn" in shown
    assert all(name in shown for name in command or COMMANDS)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["segment"],
        ["demo", "--unknown"],
        ["check"],
        ["check", "a.json", "--format", "cocoa"],
        ["train"],
        ["train", "a", "--train", "a.json"],
        ["train", "a", "--minutes", "0"],
        ["train", "a", "--keep", "none"],
        ["detect", "--weights", "nuclei", "--output", "out"],
        ["detect", "a.png", "--weights", "nuclei", "--output", "out", "--min-score", "high"],
        ["detect", "a.png", "--weights", "nuclei", "--output", "out", "--min-score", "1.1"],
        ["evaluate", "--weights", "nuclei"],
    ],
)
def test_wrong_use_ends_with_2_and_the_usage(capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2
    assert "usage: mrcnn" in capsys.readouterr().err


def test_annotations_that_are_missing(capsys, tmp_path):
    path = tmp_path / "none.json"
    arguments = ["train", "--train", path, "--images", tmp_path, "--logs", tmp_path / "logs"]
    assert_refused(capsys, arguments, path)
    assert not (tmp_path / "logs").exists()


def test_annotations_that_are_no_json(capsys, tmp_path):
    path = tmp_path / "broken.json"
    path.write_text('{"images": [,]}')
    arguments = ["train", "--train", path, "--images", tmp_path, "--logs", tmp_path]
    assert_refused(capsys, arguments, path, "line 1, column 13")


def test_broken_annotations_are_refused_by_evaluate_too(capsys, checkpoint, tmp_path):
    path = tmp_path / "broken.json"
    path.write_text('{"images": [,]}')
    arguments = ["evaluate", "--annotations", path, "--images", tmp_path, "--weights", checkpoint]
    assert_refused(capsys, arguments, path, "line 1, column 13")


@pytest.mark.parametrize(
    ("setting", "parts"),
    [
        ("IMAGE_MIN_DIN=64", ["IMAGE_MIN_DIN", "did you mean IMAGE_MIN_DIM?"]),
        ("IMAGE_MAX_DIM=100 IMAGE_RESIZE_MODE=square", ["multiple of 64, got 100", "to 64"]),
        ("IMAGE_MAX_DIM=large", ["'large'", "must be a number"]),
        ("IMAGE_MAX_DIM", ["NAME=VALUE", "'IMAGE_MAX_DIM'"]),
        ("BACKBONE=resnet51", ["'resnet51'", "resnet50"]),
        ("RPN_ANCHOR_SCALES=64", ["RPN_ANCHOR_SCALES"]),
        ("GPU_COUNT=99", ["GPU_COUNT is 99", "device(s)"]),
        ("NUM_CLASSES=7", ["NUM_CLASSES is 7", "CLASS_NAMES has 3"]),
    ],
)
def test_settings_that_cannot_be(capsys, coco_set, tmp_path, setting, parts):
    arguments = ["train", "--train", coco_set, "--images", coco_set.parent / "images"]
    arguments += ["--logs", tmp_path, *small_settings()]
    arguments += itertools.chain.from_iterable(("--set", word) for word in setting.split())
    assert_refused(capsys, arguments, *parts)


def test_weights_that_are_missing(capsys, tmp_path):
    PIL.Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    path = tmp_path / "none.h5"
    arguments = ["detect", tmp_path / "a.png", "--weights", path, "--output", tmp_path / "out"]
    assert_refused(capsys, arguments, path, "nuclei")
    assert not (tmp_path / "out").exists()


def test_weights_that_are_cut_off(capsys, checkpoint, coco_set, tmp_path):
    path = tmp_path / "cut.h5"
    path.write_bytes(checkpoint.read_bytes()[:40000])
    images = coco_set.parent / "images"
    detect = ["detect", images, "--weights", path, "--output", tmp_path / "out"]
    assert_refused(capsys, detect, path, "cut off")
    train = ["train", "--train", coco_set, "--images", images, "--logs", tmp_path]
    assert_refused(capsys, [*train, "--weights", path], path, "cut off")


@pytest.mark.parametrize(("option", "value"), [("--steps", 0), ("--steps", -2), ("--epochs", -1)])
@pytest.mark.usefixtures("untrained")  # training to a negative number of steps has no end
def test_numbers_that_cannot_be(capsys, coco_set, tmp_path, option, value):
    arguments = ["train", "--train", coco_set, "--images", coco_set.parent / "images"]
    arguments += ["--logs", tmp_path, *small_settings(), option, value]
    try:
        status = run(*arguments)
    except SystemExit as stop:
        status = stop.code
    assert status == 2
    assert str(value) in capsys.readouterr().err


def test_no_run_to_go_on_with(capsys, coco_set, tmp_path):
    arguments = ["train", "--train", coco_set, "--images", coco_set.parent / "images"]
    arguments += ["--logs", tmp_path / "logs", "--weights", "last"]
    assert_refused(capsys, arguments, tmp_path / "logs")


def test_a_folder_without_images(capsys, tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    arguments = ["detect", tmp_path, "--weights", "nuclei", "--output", tmp_path / "out"]
    assert_refused(capsys, arguments, tmp_path, "no images in this folder")


def test_an_image_that_is_missing(capsys, tmp_path):
    arguments = ["detect", tmp_path / "a.png", "--weights", "nuclei", "--output", tmp_path]
    assert_refused(capsys, arguments, tmp_path / "a.png", "no such image or folder")


def test_images_of_a_validation_set_need_the_set(capsys, coco_set, tmp_path):
    arguments = ["train", "--train", coco_set, "--logs", tmp_path, "--val-images", tmp_path]
    assert_refused(capsys, arguments, "--val-images needs --val")


def test_sets_of_other_classes_do_not_go_together(capsys, coco_set, tmp_path):
    other = write_set(tmp_path, ("dark", "shiny"))
    arguments = ["train", "--train", coco_set, "--val", other, "--logs", tmp_path / "logs"]
    unknown = "there are objects of the unknown classes ['shiny']; known are ['dark', 'bright']"
    assert_refused(capsys, arguments, unknown)


def test_an_interruption_is_a_failure_without_traceback(monkeypatch, capsys, tmp_path):
    PIL.Image.new("RGB", (64, 64)).save(tmp_path / "a.png")

    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.common, "load_network", interrupt)
    assert run("detect", tmp_path, "--weights", "nuclei", "--output", tmp_path / "out") == 130
    assert capsys.readouterr().err.strip() == "Interrupted"


def test_train_writes_a_checkpoint_an_epoch(checkpoint):
    names = sorted(path.name for path in checkpoint.parent.glob("*.h5"))
    assert names == ["best.h5", "mask_rcnn_small_0002.h5"]
    assert (checkpoint.parent / "report.html").stat().st_size > 10_000
    settings = hdf5.read_settings(checkpoint)
    assert settings["epoch"] == 2
    config = settings["config"]
    assert config["CLASS_NAMES"] == ["BG", "dark", "bright"]
    assert config["CATEGORY_IDS"] == [0, 3, 7]
    assert config["STEPS_PER_EPOCH"] == 2
    # A network from nothing is trained in the numerics of today.
    assert config["CONVENTIONS"] == "detectron2"
    assert config["WARMUP_STEPS"] == 0
    assert config["LEARNING_RATE_DROPS"] == [1]


def test_detect_needs_no_settings_and_writes_coco_results(finder, coco_set, tmp_path):
    images, output = coco_set.parent / "images", tmp_path / "out"
    weights = ["--weights", finder, "--output", output]
    assert run("detect", images, *weights, "--min-score", 0) == 0
    rows = json.loads((output / "detections.json").read_text())
    assert rows
    assert {row["category_id"] for row in rows} <= {3, 7}
    truth = COCO(coco_set)
    names = {info["file_name"]: info["id"] for info in truth.imgs.values()}
    for row in rows:
        assert row["image_id"] in (row["file_name"], names[row["file_name"]])
    mapped = [{**row, "image_id": names[row["file_name"]]} for row in rows]
    loaded = truth.loadRes(mapped)
    assert len(loaded.anns) == len(rows)
    for annotation in loaded.anns.values():
        assert loaded.annToMask(annotation).shape == (64, 64)
        assert 0 < annotation["score"] <= 1
    for name in names:
        with PIL.Image.open(output / f"{Path(name).stem}.png") as picture:
            assert picture.size == (64, 64)


def test_evaluate_needs_no_settings_and_writes_its_scores(finder, coco_set, tmp_path, capsys):
    path = tmp_path / "scores" / "scores.json"
    images = ["--images", coco_set.parent / "images", "--weights", finder]
    assert run("evaluate", "--annotations", coco_set, *images, "--json", path) == 0
    scores = json.loads(path.read_text())
    for kind in ("segm", "bbox"):
        assert all(0 <= scores[kind][name] <= 1 for name in ("AP", "AP50", "AP75"))
    shown = capsys.readouterr().out
    assert "AP50" in shown
    assert "4 images, at most 8 detections each" in shown


def test_evaluate_refuses_other_classes(checkpoint, coco_set, tmp_path, capsys):
    other = write_set(tmp_path, ("dark", "shiny"))
    images = ["--images", coco_set.parent / "images", "--weights", checkpoint]
    arguments = ["evaluate", "--annotations", other, *images]
    unknown = "there are objects of the unknown classes ['shiny']; known are ['dark', 'bright']"
    assert_refused(capsys, arguments, unknown)


@pytest.mark.usefixtures("eagerly")
def test_train_goes_on_with_the_last_run(logs, coco_set, capsys):
    arguments = ["train", "--train", coco_set, "--images", coco_set.parent / "images"]
    assert run(*arguments, "--logs", logs, "--weights", "last", "--epochs", 3, "--steps", 2) == 0
    shown = capsys.readouterr().out
    assert "Starting at epoch 3." in shown
    assert "Optimizer resumed at step 4" in shown
    last = runs.last_checkpoint(logs)
    assert last.name == "mask_rcnn_small_0003.h5"
    assert int(hdf5.read_optimizer(last)["iterations"]) == 6
    assert len(list(logs.iterdir())) == 1


def test_a_run_that_is_finished_is_left_as_it_is(logs, coco_set, caplog):
    before = runs.last_checkpoint(logs).read_bytes()
    arguments = ["train", "--train", coco_set, "--images", coco_set.parent / "images"]
    assert run(*arguments, "--logs", logs, "--weights", "last", "--epochs", 2) == 0
    assert "nothing to train" in caplog.text
    assert runs.last_checkpoint(logs).read_bytes() == before


@pytest.mark.usefixtures("eagerly")
def test_other_classes_start_the_class_layers_anew(checkpoint, tmp_path, capsys):
    other = write_set(tmp_path, ("dark", "bright", "shiny"))
    arguments = ["train", "--train", other, "--images", tmp_path / "images"]
    arguments += ["--logs", tmp_path / "logs", "--weights", checkpoint, "--epochs", 1, "--steps", 1]
    # So little is learned that what is not begun anew is what it was.
    assert run(*arguments, *small_settings(), "--set", "LEARNING_RATE=1e-12") == 0
    shown = capsys.readouterr().out
    assert "Layers re-initialized" in shown
    assert "Starting at epoch 1." in shown
    assert all(name in shown for name in hdf5.CLASS_LAYERS)
    written = runs.last_checkpoint(tmp_path / "logs")
    new, old = hdf5.read(written), hdf5.read(checkpoint)
    assert new["mrcnn_class_logits/kernel"].shape == (16, 4)
    np.testing.assert_allclose(new["fpn_p2/kernel"], old["fpn_p2/kernel"], atol=1e-6)
    assert hdf5.read_settings(written)["config"]["CATEGORY_IDS"] == [0, 3, 7, 11]


@pytest.mark.skipif(
    not catalog.BUNDLED["nuclei"].exists(), reason="the bundled weights are not there"
)
def test_demo_writes_its_picture_and_what_it_found(tmp_path, capsys):
    assert run("demo", "--output", tmp_path / "demo.png") == 0
    with PIL.Image.open(tmp_path / "demo.png") as picture:
        assert min(picture.size) > 500
    shown = capsys.readouterr().out
    for name in ("nuclei_fluorescence.png", "nuclei_stained.png", "nuclei_tissue.png"):
        assert f"{name}: " in shown
    assert "nuclei, median area" in shown
    assert f"Wrote {tmp_path / 'demo.png'}" in shown
