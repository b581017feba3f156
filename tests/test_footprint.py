from types import SimpleNamespace

import pytest
from small import SmallConfig

from mrcnn import machine
from mrcnn.config import Config
from mrcnn.presets import C4Config
from mrcnn.training import distribution, estimate, footprint

GB = 10**9


class Large(Config):
    NAME = "large"
    NUM_CLASSES = 81
    BACKBONE = "resnet50"
    IMAGES_PER_GPU = 2


def model_of(
    config: Config,
    weights: int = 45_000_000,
    trained: int = 44_000_000,
    *,
    trains_backbone: bool = True,
):
    def group(count):
        return [SimpleNamespace(shape=(count,), trainable=trains_backbone)]

    return SimpleNamespace(
        config=config, model=None, weights=group(weights), trainable_variables=group(trained)
    )


@pytest.fixture
def memory(monkeypatch):
    """Set how much memory there is, and how much the GPUs have."""

    def set_memory(available: float, gpu: float = 0) -> None:
        gpus = [machine.Gpu("A", int(gpu))] if gpu else []
        monkeypatch.setattr(machine, "available_memory", lambda: int(available))
        monkeypatch.setattr(machine, "nvidia_gpus", lambda: gpus)
        monkeypatch.setattr(distribution.chosen, "used_gpus", lambda: ["A"] if gpu else [])

    return set_memory


def test_what_fits_is_not_spoken_of(memory, tmp_path, caplog):
    memory(64 * GB)
    footprint.check(model_of(Large()), 1, tmp_path)
    memory(1 * GB, gpu=40 * GB)
    footprint.check(model_of(Large()), 1, tmp_path)
    memory(8 * GB)
    footprint.check(model_of(SmallConfig(), 400_000, 400_000), 1, tmp_path)
    assert caplog.messages == []


def test_what_likely_does_not_fit_is_warned_about(memory, tmp_path, caplog):
    memory(6 * GB)
    footprint.check(model_of(Large()), 1, tmp_path)
    (message,) = caplog.messages
    assert "of memory, and 6.0 GB are available. Lower one of these: IMAGES_PER_GPU" in message


@pytest.mark.parametrize(("available", "gpu"), [(16, 0), (1000, 16)])
def test_what_cannot_fit_is_refused_with_what_to_lower(memory, tmp_path, available, gpu):
    memory(available * GB, gpu=gpu * GB)
    config = Large().replace(IMAGES_PER_GPU=64)
    with pytest.raises(ValueError, match=r"needs more than .* GB of memory, and 16 GB") as error:
        footprint.check(model_of(config), 1, tmp_path)
    assert "IMAGES_PER_GPU from 64 to 32" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_frozen_backbone_is_not_refused_for_its_maps(memory, tmp_path, caplog):
    memory(16 * GB)
    config = Large().replace(IMAGES_PER_GPU=64)
    # The heads may have more weights than the backbone.
    footprint.check(model_of(config, trained=30_000_000, trains_backbone=False), 1, tmp_path)
    assert "takes about" in caplog.text


def test_unknown_memory_refuses_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "available_memory", lambda: None)
    footprint.check(model_of(Large().replace(IMAGES_PER_GPU=64)), 1, tmp_path)


def test_a_disk_that_will_be_full_is_warned_about(memory, monkeypatch, tmp_path, caplog):
    memory(64 * GB)
    monkeypatch.setattr(machine, "free_space", lambda _: 3 * GB)
    footprint.check(model_of(Large()), 8, tmp_path)
    assert caplog.messages == []
    footprint.check(model_of(Large()), 9, tmp_path)
    assert "9 checkpoints take 3.2 GB, and 3.0 GB are free at" in caplog.text
    assert "--logs" in caplog.text


def test_the_maps_of_a_stem_and_a_pyramid_are_counted():
    count, of_positives = estimate.map_values(Large())
    stem, stages = (
        512 * 512 * 64,
        [
            256 * 256 * 256 * (6 * blocks + 4) // 4 >> stage
            for stage, blocks in enumerate((3, 4, 6, 3))
        ],
    )
    cells = sum((1024 // stride) ** 2 for stride in (4, 8, 16, 32, 64))
    heads = 200 * (256 * 49 + 2048)
    assert count == stem + sum(stages) + cells * (512 + 512) + heads
    assert of_positives == 66 * 196 * (256 + 8 * 256 + 4 * 81)


@pytest.mark.parametrize(
    "settings",
    [
        {"BACKBONE": "resnet18"},
        {"BACKBONE": "resnet101"},
        {"BACKBONE": "resnext101_32x8d"},
        {"NUM_KEYPOINTS": 17},
        {"HAS_MASKS": False},
        {"BACKBONE": lambda *_: None},
    ],
)
def test_every_kind_of_network_is_counted(settings):
    assert 1e7 < sum(estimate.map_values(Large().replace(**settings))) < 2e9


def test_a_head_of_the_last_stage_is_counted():
    config = C4Config.from_dict({"NAME": "a", "NUM_CLASSES": 81})
    assert 1e7 < sum(estimate.map_values(config)) < 2e9
