"""The samples, from the command line, with the options that users know, on real data.

`samples/shapes`, which makes its own, is tested in test_shapes.py.
"""

import csv
import importlib.util
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from mrcnn.geometry import images
from mrcnn.weights import hdf5

SAMPLES = Path(__file__).resolve().parents[1] / "samples"
# A network small enough for two epochs in seconds, whatever the sample's own is.
SMALL = {
    "BACKBONE": "resnet18",
    "BACKBONE_WIDTH": 8,
    "TOP_DOWN_PYRAMID_SIZE": 16,
    "RPN_CONV_SIZE": 16,
    "FPN_CLASSIF_FC_LAYERS_SIZE": 16,
    "MASK_CONV_SIZE": 8,
    "IMAGE_MIN_DIM": 128,
    "IMAGE_MAX_DIM": 128,
    "IMAGE_MIN_SCALE": 0,
    "POST_NMS_ROIS_TRAINING": 60,
    "POST_NMS_ROIS_INFERENCE": 20,
    "TRAIN_ROIS_PER_IMAGE": 16,
    "DETECTION_MAX_INSTANCES": 10,
    "DETECTION_MIN_CONFIDENCE": 0,
    "IMAGES_PER_GPU": 2,
    "STEPS_PER_EPOCH": 2,
    "VALIDATION_STEPS": 1,
    "TRAIN_BN": None,
}


def load(name: str, file: str | None = None):
    """Return the module of a sample."""
    path = SAMPLES / name / f"{file or name}.py"
    spec = importlib.util.spec_from_file_location(f"sample_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def small(**changes) -> list[str]:
    return [f"--set={name}={value}" for name, value in {**SMALL, **changes}.items()]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def weights(tmp_path):
    """The path of weights that a sample starts from, of the small network with two classes."""

    def make(num_classes: int, **changes) -> str:
        from mrcnn.config import Config
        from mrcnn.model import MaskRCNN

        settings = {"NAME": "start", **SMALL, **changes, "NUM_CLASSES": num_classes}
        path = tmp_path / "start.h5"
        MaskRCNN("inference", Config.from_dict(settings), tmp_path).save_weights(path)
        return str(path)

    return make


def checkpoints(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*.h5"))


def test_color_splash_keeps_colours_only_in_the_masks():
    balloon = load("balloon")
    image = np.random.default_rng(0).integers(0, 255, (8, 8, 3), np.uint8)
    masks = np.zeros((8, 8, 2), bool)
    masks[2:4, 2:4, 0] = masks[6, 6, 1] = True
    splash = balloon.color_splash(image, masks)
    inside = masks.any(axis=-1)
    np.testing.assert_array_equal(splash[inside], image[inside])
    assert (splash[~inside] == splash[~inside][:, :1]).all()
    assert (balloon.color_splash(image, masks[..., :0]).std(axis=-1) == 0).all()


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
def test_balloon(shared_data, weights, tmp_path, capsys):
    balloon = load("balloon")
    start = weights(2)
    common = [*small(), f"--logs={tmp_path / 'logs'}"]
    arguments = [f"--dataset={shared_data / 'balloon'}", f"--weights={start}", "--epochs=2"]
    assert balloon.main(["train", *arguments, *common]) == 0
    names = ["mask_rcnn_balloon_0001.h5", "mask_rcnn_balloon_0002.h5"]
    assert checkpoints(tmp_path / "logs") == names

    photograph = next((shared_data / "balloon" / "val").glob("*.jpg"))
    capsys.readouterr()
    assert balloon.main(["splash", "--weights=last", f"--image={photograph}", *common]) == 0
    output = Path(re.search(r"Saved to (\S+)", capsys.readouterr().out)[1])
    image = images.read_image(photograph)
    assert images.read_image(output).shape == image.shape

    video = tmp_path / "video.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"MJPG"), 5, (96, 64))
    for _ in range(3):
        writer.write(np.ascontiguousarray(image[:64, :96, ::-1]))
    writer.release()
    assert balloon.main(["splash", "--weights=last", f"--video={video}", *common]) == 0
    output = re.search(r"Saved to (\S+)", capsys.readouterr().out)[1]
    capture = cv2.VideoCapture(output)
    assert int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) == 3
    assert capture.read()[1].shape == (64, 96, 3)
    assert capture.get(cv2.CAP_PROP_FPS) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--image=no.jpg"], "no.jpg: there is no such file"),
        ([], "--image or --video"),
        (["--image=a.jpg", "--video=b.avi"], "one of them"),
    ],
)
def test_a_splash_of_nothing_says_what_is_wrong(arguments, message, weights, capsys):
    command = ["splash", f"--weights={weights(2)}", *small(), *arguments]
    assert load("balloon").main(command) == 2
    assert message in capsys.readouterr().err


@pytest.fixture
def coco_of_2017(shared_data, tmp_path):
    """The images of train2017 as those of val2017, too."""
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    for subset in ("train", "val"):
        (root / f"{subset}2017").symlink_to(shared_data / "coco" / "train2017")
        annotations = shared_data / "coco" / "annotations" / "instances_train2017.json"
        (root / "annotations" / f"instances_{subset}2017.json").symlink_to(annotations)
    return root


@pytest.mark.slow
def test_coco(coco_of_2017, weights, tmp_path, capsys):
    coco = load("coco")
    start = weights(81)
    common = [*small(), f"--logs={tmp_path / 'logs'}", f"--dataset={coco_of_2017}", "--year=2017"]
    assert coco.main(["train", f"--model={start}", "--epochs=2", *common]) == 0
    names = ["mask_rcnn_coco_0001.h5", "mask_rcnn_coco_0002.h5"]
    assert checkpoints(tmp_path / "logs") == names
    assert coco.main(["evaluate", "--model=last", "--limit=3", *common]) == 0
    printed = capsys.readouterr().out
    assert "Running COCO evaluation on 3 images." in printed
    assert "AP50" in printed


def test_coco_of_some_classes(coco_of_2017):
    coco = load("coco")
    everything, dogs = coco.CocoDataset(), coco.CocoDataset()
    truth = everything.load_coco(coco_of_2017, "train", "2017", return_coco=True)
    dogs.load_coco(coco_of_2017, "train", "2017", class_ids=[18])
    everything.prepare()
    dogs.prepare()
    assert (everything.num_images, everything.num_classes) == (128, 81)
    assert dogs.class_names == ["BG", "dog"]
    assert {info["id"] for info in dogs.image_info} == set(truth.getImgIds(catIds=[18]))
    assert all((abs(dogs.load_mask(image_id)[1]) == 1).all() for image_id in dogs.image_ids)
    assert str(truth.getImgIds()[0]) in everything.image_reference(0)


def test_what_cannot_be_downloaded_says_so(tmp_path, capsys):
    command = ["evaluate", f"--dataset={tmp_path}", "--model=none", "--year=2014"]
    with pytest.raises(ValueError, match="--year=2017"):
        load("coco").CocoDataset().auto_download(tmp_path, "minival", "2014")
    assert load("coco").main(command) == 2
    assert "coco:" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
def test_nucleus(shared_data, weights, tmp_path, capsys):
    nucleus = load("nucleus")
    common = [f"--dataset={shared_data / 'nuclei'}", f"--logs={tmp_path / 'logs'}", *small()]
    start = weights(2)
    arguments = ["train", "--subset=train", f"--weights={start}", "--epochs=2"]
    assert nucleus.main([*arguments, *common]) == 0
    names = ["mask_rcnn_nucleus_0001.h5", "mask_rcnn_nucleus_0002.h5"]
    assert checkpoints(tmp_path / "logs") == names
    capsys.readouterr()
    assert nucleus.main(["detect", "--subset=stage1_train", "--weights=last", *common]) == 0
    folder = Path(re.search(r"Saved to (\S+)", capsys.readouterr().out)[1])
    with open(folder / "submit.csv", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["ImageId", "EncodedPixels"]
    ids = {path.name for path in (shared_data / "nuclei" / "stage1_train").iterdir()}
    assert {image_id for image_id, _ in rows} == ids
    assert {path.stem for path in folder.glob("*.png")} == ids


def test_nuclei_of_the_competition_are_split_once(shared_data):
    nucleus = load("nucleus")
    parts = {}
    for subset in ("train", "val", "stage1_train"):
        dataset = nucleus.NucleusDataset()
        dataset.load_nucleus(shared_data / "nuclei", subset)
        dataset.prepare()
        parts[subset] = {info["id"] for info in dataset.image_info}
        masks, class_ids = dataset.load_mask(0)
        assert masks.shape[:2] == dataset.load_image(0).shape[:2]
        assert len(class_ids) > 1
        assert set(class_ids) == {1}
    assert parts["train"] | parts["val"] == parts["stage1_train"]
    assert not parts["train"] & parts["val"]
    assert parts["val"]


def test_run_lengths_of_the_competition_worked_by_hand():
    nucleus = load("nucleus")
    mask = np.array([[1, 0, 1], [1, 0, 0], [0, 1, 0]], bool)
    # By column, from 1: pixels 1, 2, 6, 7.
    assert nucleus.rle_encode(mask) == "1 2 6 2"
    np.testing.assert_array_equal(nucleus.rle_decode("1 2 6 2", (3, 3)), mask)
    random = np.random.default_rng(0).random((9, 7)) > 0.5
    np.testing.assert_array_equal(nucleus.rle_decode(nucleus.rle_encode(random), (9, 7)), random)
    with pytest.raises(ValueError, match="does not fit"):
        nucleus.rle_decode("8 4", (3, 3))


def test_a_pixel_of_a_submission_belongs_to_the_best_object():
    nucleus = load("nucleus")
    masks = np.zeros((2, 2, 3), bool)
    masks[:, 0, 0] = masks[0, :, 1] = masks[0, 0, 2] = True
    rows = nucleus.mask_to_rle("id", masks, np.array([0.5, 0.9, 0.1]))
    assert rows == [("id", "1 1 3 1"), ("id", "2 1")]
    assert nucleus.mask_to_rle("id", masks[..., :0], np.zeros(0)) == [("id", "")]


@pytest.fixture
def few_nuclei(shared_data, tmp_path):
    """The first images of each part of the set."""
    source, folder = shared_data / "nuclei", tmp_path / "nuclei"
    (folder / "annotations").mkdir(parents=True)
    for part in ("train", "val"):
        (folder / part).symlink_to(source / part)
        annotations = Path("annotations") / f"instances_{part}.json"
        content = json.loads((source / annotations).read_text())
        content["images"] = content["images"][:6]
        kept = {image["id"] for image in content["images"]}
        content["annotations"] = [
            item for item in content["annotations"] if item["image_id"] in kept
        ]
        (folder / annotations).write_text(json.dumps(content))
    return folder


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
def test_bundled_weights_are_trained_scored_and_exported(few_nuclei, tmp_path, capsys):
    bundled = load("nucleus", "bundled")
    folder, logs = [f"--dataset={few_nuclei}"], [f"--logs={tmp_path / 'logs'}"]
    assert bundled.main(["train", "--epochs=2", *folder, *logs, *small()]) == 0
    run = next((tmp_path / "logs").iterdir())
    output = tmp_path / "curve.png"
    command = ["curve", str(run), "--every=1", f"--output={output}"]
    assert bundled.main([*command, *folder, *logs]) == 0
    assert len(output.with_suffix(".csv").read_text().splitlines()) == 3
    assert bundled.main(["evaluate", "--weights=last", *folder, *logs]) == 0
    assert "AP50" in capsys.readouterr().out
    chosen = ["--set", "DETECTION_NMS_THRESHOLD=0.25"]
    assert bundled.main(["export", "last", str(tmp_path / "small.h5"), *logs, *chosen]) == 0
    assert (tmp_path / "small.h5").stat().st_size < 1e6
    settings = hdf5.read_settings(tmp_path / "small.h5")["config"]
    assert settings["DETECTION_NMS_THRESHOLD"] == 0.25


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
def test_keypoints(shared_data, tmp_path, capsys):
    keypoints = load("keypoints")
    folder = shared_data / "coco_keypoints"
    common = [
        f"--dataset={folder / 'train2017'}",
        f"--annotations={folder / 'annotations' / 'person_keypoints_train2017.json'}",
        f"--logs={tmp_path / 'logs'}",
        *small(KEYPOINT_CONV_SIZE=8),
    ]
    assert keypoints.main(["train", "--epochs=2", *common]) == 0
    names = ["mask_rcnn_keypoints_0001.h5", "mask_rcnn_keypoints_0002.h5"]
    assert checkpoints(tmp_path / "logs") == names
    capsys.readouterr()
    assert keypoints.main(["evaluate", *common]) == 0
    assert re.search(r"keypoints +\d\.\d{3}", capsys.readouterr().out)
    output = tmp_path / "skeletons.png"
    arguments = ["draw", "--images", "0", "3", "--min-score=0", f"--output={output}", *common]
    assert keypoints.main(arguments) == 0
    assert images.read_image(output).std() > 1
