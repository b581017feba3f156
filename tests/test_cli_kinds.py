"""The commands with networks that have no masks, or keypoints."""

import functools
import json

import numpy as np
import PIL.Image
import pytest
from small import SmallConfig, make_find_objects
from test_cli import run, write_set
from test_loading import SmallTorchvision
from torch_state import classifier

from mrcnn import presets
from mrcnn.model import MaskRCNN
from mrcnn.weights import torchvision

NAMES = ("nose", "left_eye", "right_eye")
KINDS = {
    "boxes": {"HAS_MASKS": False},
    "keypoints": {
        "HAS_MASKS": False,
        "NUM_KEYPOINTS": 3,
        "KEYPOINT_NAMES": NAMES,
        "KEYPOINT_CONV_SIZE": 8,
    },
    "masks without class": {"CLASS_AGNOSTIC_MASKS": True},
}


@pytest.fixture(scope="module")
def annotations(tmp_path_factory):
    """The objects of `write_set`, each with three keypoints."""
    path = write_set(tmp_path_factory.mktemp("set"))
    content = json.loads(path.read_text())
    for category in content["categories"]:
        category |= {"keypoints": list(NAMES), "skeleton": [[1, 2], [1, 3]]}
    for annotation in content["annotations"]:
        crowd = annotation["iscrowd"]
        annotation["keypoints"] = [0] * 9 if crowd else [20, 20, 2, 12, 15, 1, 0, 0, 0]
        annotation["num_keypoints"] = 0 if crowd else 2
        if not crowd:
            annotation["area"] = 900.0
    path.write_text(json.dumps(content))
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Write an untrained network of a kind, that finds objects everywhere, once."""
    folder = tmp_path_factory.mktemp("weights")

    @functools.cache
    def write(kind: str) -> str:
        model = MaskRCNN("inference", SmallConfig().replace(**KINDS[kind]), folder)
        make_find_objects(model.network)
        path = folder / f"{kind}.h5"
        model.save_weights(path)
        return str(path)

    return write


@pytest.mark.usefixtures("detecting_eagerly")
@pytest.mark.parametrize("kind", KINDS)
def test_detect_draws_and_writes_what_there_is(kind, weights, annotations, tmp_path):
    images = annotations.parent / "images"
    output = tmp_path / "out"
    options = ["--weights", weights(kind), "--output", output, "--min-score", 0]
    assert run("detect", images, *options) == 0
    rows = json.loads((output / "detections.json").read_text())
    assert rows
    for row in rows:
        assert ("segmentation" in row) == (kind == "masks without class")
        assert ("keypoints" in row) == (kind == "keypoints")
        assert len(row.get("keypoints", [0] * 9)) == 9
    for path in images.iterdir():
        with PIL.Image.open(path) as before, PIL.Image.open(output / f"{path.stem}.png") as after:
            assert not np.array_equal(np.asarray(before), np.asarray(after))


@pytest.mark.usefixtures("detecting_eagerly")
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("boxes", ["bbox"]),
        ("keypoints", ["bbox", "keypoints"]),
        ("masks without class", ["segm", "bbox"]),
    ],
)
def test_evaluate_scores_what_there_is(kind, expected, weights, annotations, tmp_path, capsys):
    output = tmp_path / "scores.json"
    options = ["--annotations", annotations, "--images", annotations.parent / "images"]
    page = tmp_path / "pages" / "report.html"
    options += ["--json", output, "--report", page]
    assert run("evaluate", *options, "--weights", weights(kind)) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in shown[1 : len(expected) + 1]] == expected
    scores = json.loads(output.read_text())
    assert list(scores) == expected
    assert shown[-1] == f"Wrote {page}"
    text = page.read_text(encoding="utf-8")
    for name, of_kind in zip(
        ("masks", "boxes", "keypoints"), ("segm", "bbox", "keypoints"), strict=True
    ):
        assert (f'<tr><td title="{name}">' in text) == (of_kind in expected)
    assert f"its {'mask' if 'segm' in expected else 'box'} has an IoU of at least 0.5" in text
    assert run("evaluate", *options, "--weights", weights(kind), "--report", tmp_path) == 2
    assert "--report needs the name of a file" in capsys.readouterr().err


def test_training_takes_the_names_of_keypoints_from_the_data(annotations, tmp_path, untrained):
    arguments = ["train", "--train", annotations, "--logs", tmp_path / "logs"]
    settings = ["BACKBONE=resnet18", "NUM_KEYPOINTS=3", "IMAGE_MAX_DIM=64", "IMAGE_MIN_DIM=64"]
    settings += ["BACKBONE_WIDTH=8", "KEYPOINT_CONV_SIZE=8"]
    options = [word for setting in settings for word in ("--set", setting)]
    assert run(*arguments, *options) == 0
    config = untrained[0][0].config
    assert tuple(config.KEYPOINT_NAMES) == NAMES
    assert [tuple(pair) for pair in config.KEYPOINT_PAIRS] == [(1, 2)]


def trained_with(untrained, annotations, tmp_path, *options):
    """Return the model that `mrcnn train` would train, and what it is asked for."""
    arguments = ["train", "--train", annotations, "--logs", tmp_path / "logs", *options]
    assert run(*arguments) == 0
    model, *asked = untrained[0]
    return model, asked


def test_a_rate_that_is_chosen_is_not_scaled_when_a_run_goes_on(annotations, tmp_path, untrained):
    small = MaskRCNN("training", Small().replace(LEARNING_RATE_DROPS=(2, 3)), tmp_path / "logs")
    small.epoch = 5
    folder = tmp_path / "logs" / "small20261101T0000"
    folder.mkdir(parents=True)
    small.save_weights(folder / "mask_rcnn_small_0005.h5")
    options = ["--weights", "last", "--set", "LEARNING_RATE=0.004"]
    model, (*_, asked) = trained_with(untrained, annotations, tmp_path, *options)
    assert (model.run.epoch, asked.learning_rate, asked.epochs) == (5, 0.004, 25)


class Small(presets.ModernConfig):
    """A network of the modern recipe for small images."""


for name, value in vars(SmallConfig).items():
    if name.isupper() and not name.startswith(("IMAGES_PER", "WORKERS")):
        setattr(Small, name, value)


def test_weights_of_c4_start_a_training_for_other_classes(annotations, tmp_path, untrained):
    config = presets.C4Config.from_dict(
        {name: getattr(SmallConfig, name) for name in ("BACKBONE", "BACKBONE_WIDTH", "NAME")}
        | {"NUM_CLASSES": 5, "RPN_CONV_SIZE": 16, "RPN_ANCHOR_SCALES": ((8, 16, 32),)}
    )
    MaskRCNN("inference", config, tmp_path).save_weights(tmp_path / "c4.h5")
    options = ["--weights", tmp_path / "c4.h5", "--set", "IMAGE_MIN_DIM=64"]
    options += ["--set", "IMAGE_MAX_DIM=64"]
    model, _ = trained_with(untrained, annotations, tmp_path, *options)
    assert model.config.FEATURE_MAPS == "c4"
    assert model.config.CONVENTIONS == "detectron2"
    assert model.config.NUM_CLASSES == 3


def test_another_number_of_keypoints_starts_their_layer_anew(
    weights, annotations, tmp_path, untrained, capsys
):
    path = weights("keypoints")
    options = ["--weights", path, "--set", "NUM_KEYPOINTS=2", "--set", "KEYPOINT_CONV_SIZE=8"]
    content = json.loads(annotations.read_text())
    for category in content["categories"]:
        category["keypoints"] = ["left_end", "right_end"]
    for annotation in content["annotations"]:
        annotation["keypoints"] = annotation["keypoints"][:6]
    other = annotations.with_name("two.json")
    other.write_text(json.dumps(content))
    options += ["--images", annotations.parent / "images"]
    model, _ = trained_with(untrained, other, tmp_path, *options)
    assert "mrcnn_keypoint_deconv\n" in capsys.readouterr().out
    assert [tuple(pair) for pair in model.config.KEYPOINT_PAIRS] == [(0, 1)]


def test_a_classifier_starts_a_network_of_its_family(annotations, tmp_path, untrained, monkeypatch):
    source = MaskRCNN("inference", SmallTorchvision(), tmp_path)
    np.savez(tmp_path / "theirs.npz", **classifier(source))
    names = ("BACKBONE", "BACKBONE_WIDTH", "IMAGE_MIN_DIM", "IMAGE_MAX_DIM")
    settings = [f"{name}={getattr(SmallConfig, name)}" for name in names]
    options = [word for setting in settings for word in ("--set", setting)]
    monkeypatch.setattr(torchvision, "classifier_of", lambda _: "resnet18")
    options += ["--weights", tmp_path / "theirs.npz"]
    model, _ = trained_with(untrained, annotations, tmp_path, *options)
    assert model.config.CONVENTIONS == "torchvision"
    assert model.config.TRAIN_BN is False
    assert model.config.NAME == "mrcnn"
