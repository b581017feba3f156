"""Settings of `mrcnn train`: those that fit the data, and the options that change them."""

import json
import os

import numpy as np
import pytest
from sets import coco, picture
from test_cli import assert_refused, run

from mrcnn import machine
from mrcnn.cli import devices, train_settings
from mrcnn.network.network import Network
from mrcnn.presets import ModernConfig, SmallConfig
from mrcnn.training import distribution
from mrcnn.weights import catalog, hdf5

# A network that is built at once.
TINY = {
    "BACKBONE": "resnet18",
    "BACKBONE_WIDTH": 8,
    "TOP_DOWN_PYRAMID_SIZE": 16,
    "RPN_CONV_SIZE": 16,
    "FPN_CLASSIF_FC_LAYERS_SIZE": 16,
    "MASK_CONV_SIZE": 8,
}


@pytest.fixture
def nuts(tmp_path):
    """A training file with 12 images of 64 x 48 and an object of side 16."""
    names = [f"{number}.png" for number in range(12)]
    for number, name in enumerate(names):
        picture(tmp_path / "nuts" / name, level=number)
    return coco(tmp_path / "nuts" / "nuts.json", names)


def train(nuts, *arguments):
    tiny = [word for name, value in TINY.items() for word in ("--set", f"{name}={value}")]
    logs = ["--logs", nuts.parent.parent / "logs"]
    return run("train", "--train", nuts, *logs, *tiny, *arguments)


def test_train_chooses_what_check_prints(nuts, untrained, capsys):
    assert train(nuts) == 0
    shown = capsys.readouterr().out
    run("check", nuts, "--json")
    settings = json.loads(capsys.readouterr().out)["settings"]
    assert settings["RPN_ANCHOR_SCALES"] == [8, 16, 32, 64, 128]
    assert settings["MAX_GT_INSTANCES"] == 10
    chosen = untrained[0][0].config.to_dict()
    assert {name: chosen[name] for name in settings} == settings
    table = [line.split(maxsplit=2) for line in shown.splitlines() if line.startswith("  ")]
    shown_values = {name: value for name, value, _ in table}
    assert shown_values == shown_values | {
        "IMAGE_RESIZE_MODE": "short_side",
        "IMAGE_MIN_DIM": "48",
        "IMAGE_MAX_DIM": "64",
        "RPN_ANCHOR_SCALES": "[8,16,32,64,128]",
        "MINI_MASK_SHAPE": "[28,28]",
        "IMAGES_PER_GPU": "2",
        "STEPS_PER_EPOCH": "50",
    }


def test_settings_of_options_are_not_chosen(nuts, untrained, capsys):
    arguments = ["--set", "MAX_GT_INSTANCES=77", "--set", "IMAGE_MIN_DIM=64", "--steps", 3]
    assert train(nuts, *arguments, "--set", "IMAGES_PER_GPU=3") == 0
    config = untrained[0][0].config
    assert (config.MAX_GT_INSTANCES, config.IMAGES_PER_GPU, config.STEPS_PER_EPOCH) == (77, 3, 3)
    # With one size decided, the recipe says the others.
    assert (config.IMAGE_MIN_DIM, config.IMAGE_MAX_DIM) == (64, ModernConfig.IMAGE_MAX_DIM)
    shown = capsys.readouterr().out
    assert "RPN_ANCHOR_SCALES" in shown
    for name in ("MAX_GT_INSTANCES", "IMAGE_M", "IMAGES_PER_GPU", "STEPS_PER_EPOCH"):
        assert name not in shown


def test_the_recipe_does_not_look_at_the_data(nuts, untrained, capsys):
    assert train(nuts, "--settings", "recipe") == 0
    assert untrained[0][0].config.IMAGE_MIN_DIM == ModernConfig.IMAGE_MIN_DIM
    assert untrained[0][0].config.RPN_ANCHOR_SCALES == ModernConfig.RPN_ANCHOR_SCALES
    assert untrained[0][0].config.STEPS_PER_EPOCH == 6  # one pass in batches of 2
    assert "RPN_ANCHOR_SCALES" not in capsys.readouterr().out


@pytest.mark.parametrize("available", [None, 10**9, 10**12])
def test_images_per_batch_fit_the_memory(monkeypatch, available):
    monkeypatch.setattr(machine, "available_memory", lambda: available)
    monkeypatch.setattr(distribution.chosen, "used_gpus", list)
    config = ModernConfig.from_dict({"NAME": "a", "IMAGE_MIN_DIM": 256, "IMAGE_MAX_DIM": 256})
    advice = train_settings._images(config, 1000)
    assert advice.value == (1 if available == 10**9 else 8)
    if available != 10**9:
        assert train_settings._images(config, 25).value == 2
        assert train_settings._images(config.replace(IMAGE_MAX_DIM=1088), 1000).value == 2


def test_a_run_that_goes_on_keeps_its_settings(nuts, tmp_path, eagerly, capsys):  # noqa: ARG001
    assert train(nuts, "--steps", 1, "--epochs", 1) == 0
    arguments = ["train", "--train", nuts, "--logs", tmp_path / "logs", "--weights", "last"]
    assert_refused(capsys, [*arguments, "--settings", "auto"], "leave out --settings")
    assert_refused(capsys, [*arguments, "--preset", "small"], "leave out --preset")
    assert run(*arguments, "--epochs", 2) == 0
    shown = capsys.readouterr().out
    assert "Settings for this dataset" not in shown
    assert "Epoch 2/2" in shown


def test_the_small_preset_starts_from_the_bundled_weights(nuts, tmp_path, untrained, capsys):
    arguments = ["train", "--train", nuts, "--logs", tmp_path / "logs", "--preset", "small"]
    assert run(*arguments) == 0
    shown = capsys.readouterr().out
    # Backbone, pyramid, RPN and heads have the weights; only layers of classes start anew.
    expected = "mrcnn_class_logits, mrcnn_bbox_fc, mrcnn_mask"
    assert f"Layers re-initialized for other classes or keypoints: {expected}" in shown
    kernels = hdf5.read(catalog.BUNDLED["nuclei"])
    network = {w.path: w.numpy() for w in untrained[0][0].network.inference.weights}
    for layer in ("conv1/kernel", "rpn_conv_shared/kernel", "mrcnn_mask_conv1/kernel"):
        (own,) = [value for path, value in network.items() if f"/{path}".endswith(f"/{layer}")]
        np.testing.assert_array_equal(own, kernels[layer])
    config = untrained[0][0].config
    assert config.RPN_ANCHOR_SCALES == (8, 16, 32, 64, 128)
    assert (config.IMAGE_MAX_DIM, config.IMAGES_PER_GPU, config.TRAIN_BN) == (64, 2, None)
    assert config.POST_NMS_ROIS_TRAINING == SmallConfig.POST_NMS_ROIS_TRAINING
    assert config.WARMUP_STEPS == 100  # a tenth of 20 epochs of 50 steps


def test_the_small_preset_refuses_weights_of_another_network(nuts, tmp_path, capsys):
    config = ModernConfig.from_dict({"NAME": "a", "NUM_CLASSES": 2, **TINY})
    path = tmp_path / "tiny.h5"
    hdf5.save(path, Network(config).inference, {"config": config.to_dict()})
    arguments = ["train", "--train", nuts, "--logs", tmp_path / "logs", "--preset", "small"]
    expected = "--preset small is a network with BACKBONE_WIDTH=32"
    assert_refused(capsys, [*arguments, "--weights", path], expected, "of another one (8)")


def test_the_small_preset_has_small_inputs(tmp_path, untrained, capsys):
    names = [f"{number}.png" for number in range(12)]
    for number, name in enumerate(names):
        picture(tmp_path / "nuts" / name, level=number, size=(640, 480))
    sizes = {"width": 640, "height": 480}
    path = coco(tmp_path / "nuts" / "nuts.json", names, [[100, 100, 400, 100, 400, 400, 100, 400]])
    content = json.loads(path.read_text())
    content["images"] = [{**each, **sizes} for each in content["images"]]
    path.write_text(json.dumps(content))
    small = ["--preset", "small", "--weights", "none"]
    assert train(path, *small) == 0
    assert (untrained[0][0].config.IMAGE_MIN_DIM, untrained[0][0].config.IMAGE_MAX_DIM) == (
        240,
        320,
    )
    capsys.readouterr()
    run("check", path, "--preset", "small", "--json")
    settings = json.loads(capsys.readouterr().out)["settings"]
    chosen = untrained[0][0].config.to_dict()
    assert {name: chosen[name] for name in settings} == settings
    assert train(path, *small, "--settings", "recipe") == 0
    assert untrained[1][0].config.RPN_ANCHOR_SCALES == SmallConfig.RPN_ANCHOR_SCALES


@pytest.mark.parametrize("suffix", ["yaml", "json"])
def test_settings_of_a_file(nuts, tmp_path, untrained, suffix):
    path = tmp_path / f"settings.{suffix}"
    settings = {"NAME": "Nuts", "MAX_GT_INSTANCES": 77, "SEED": 3, "AUGMENTATIONS": []}
    lines = [f"{name}: {json.dumps(value)}" for name, value in settings.items()]
    path.write_text(json.dumps(settings) if suffix == "json" else "\n".join(lines))
    arguments = ["--config", path, "--set", "MAX_GT_INSTANCES=78", "--seed", 4]
    assert train(nuts, *arguments) == 0
    config = untrained[0][0].config
    assert (config.NAME, config.SEED, config.MAX_GT_INSTANCES) == ("Nuts", 4, 78)
    assert list(config.AUGMENTATIONS) == []


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("IMAGE_MIN_DIN: 64", ["IMAGE_MIN_DIN", "did you mean IMAGE_MIN_DIM?"]),
        ("IMAGE_MAX_DIM: large", ["'large'", "must be a number"]),
        ("- 3", ["NAME: VALUE"]),
        ("a: [", ["neither YAML nor JSON"]),
        ("NAME: !!python/object/apply:os.getcwd []", ["neither YAML nor JSON"]),
        (None, ["no such file of settings"]),
    ],
)
def test_files_of_settings_that_cannot_be(nuts, tmp_path, capsys, content, parts):
    path = tmp_path / "settings.yaml"
    if content is not None:
        path.write_text(content)
    arguments = ["train", "--train", nuts, "--logs", tmp_path / "logs", "--config", path]
    assert_refused(capsys, arguments, *parts)


def test_the_name_is_that_of_the_folder(nuts, tmp_path, eagerly):  # noqa: ARG001
    assert train(nuts, "--name", "Nuts", "--steps", 1, "--epochs", 1) == 0
    (path,) = (tmp_path / "logs").glob("nuts*/*.h5")
    assert path.name == "mask_rcnn_nuts_0001.h5"


def test_a_long_training_on_the_cpu_is_announced(monkeypatch, capsys):
    config = ModernConfig.from_dict({"NAME": "a", "STEPS_PER_EPOCH": 1000})
    monkeypatch.setattr(machine, "processors", lambda: 4)
    monkeypatch.setattr(distribution.chosen, "used_gpus", list)
    train_settings._announce_cost(config, 20, is_small=False)
    shown = capsys.readouterr().out
    assert "On the CPU this training takes about 60 hours" in shown
    assert "20 epochs of 1000 steps with 2 images of 1088 x 1088 pixels and resnet50" in shown
    assert "each of the 4 cores does 80 billion operations a second" in shown
    assert "--preset small" in shown
    train_settings._announce_cost(config, 20, is_small=True)
    assert "--preset small" not in capsys.readouterr().out
    train_settings._announce_cost(config.replace(STEPS_PER_EPOCH=1), 20, is_small=False)
    monkeypatch.setattr(distribution.chosen, "used_gpus", lambda: ["A"])
    train_settings._announce_cost(config, 20, is_small=False)
    assert capsys.readouterr().out == ""


@pytest.fixture
def gpus(monkeypatch):
    """Set how many GPUs the machine has."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("JAX_PLATFORMS", "")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")

    def set_gpus(count):
        monkeypatch.setattr(machine, "nvidia_gpus", lambda: [machine.Gpu("A", 1)] * count)

    return set_gpus


def test_a_device_is_chosen_by_what_the_backend_sees(gpus, monkeypatch):
    gpus(2)
    devices.choose("gpu")
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    devices.choose("gpu:1")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, 5")
    devices.choose("gpu:1")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "5"
    devices.choose("cpu")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "-1"
    assert os.environ["JAX_PLATFORMS"] == "cpu"


@pytest.mark.parametrize(
    ("count", "device", "message"),
    [
        (0, "gpu", "this machine has no NVIDIA GPU"),
        (0, "gpu:0", "this machine has no NVIDIA GPU"),
        (2, "gpu:2", "they are gpu:0 to gpu:1"),
        (1, "gpu", "the backend does not see the GPU"),
    ],
)
def test_a_gpu_that_is_not_there(gpus, monkeypatch, nuts, capsys, count, device, message):
    gpus(count)
    monkeypatch.setattr(distribution.chosen, "used_gpus", list)
    arguments = ["train", "--train", nuts, "--logs", nuts.parent / "logs", "--device", device]
    assert_refused(capsys, arguments, message)


def test_a_device_that_does_not_exist(capsys):
    with pytest.raises(SystemExit) as stop:
        run("train", "a", "--logs", "l", "--device", "tpu")
    assert stop.value.code == 2
    assert "it must be cpu, gpu or gpu:N, got 'tpu'" in capsys.readouterr().err
