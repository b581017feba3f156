import runpy
from pathlib import Path

import pytest

from mrcnn import presets
from mrcnn.config import Config
from mrcnn.network import network as networks
from mrcnn.setting_marks import Mark
from mrcnn.weights import catalog

PRESETS = [
    preset
    for preset in vars(presets).values()
    if isinstance(preset, type) and issubclass(preset, Config) and preset is not Config
]


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.__name__)
def test_every_preset_can_be_built_from(preset):
    preset().replace(NAME="any", NUM_CLASSES=2).check()


def test_the_rate_follows_the_batch():
    config = presets.PaperConfig()
    assert config.learning_rate == pytest.approx(0.02 * 2 / 16)
    assert config.replace(IMAGES_PER_GPU=8, GPU_COUNT=2).learning_rate == pytest.approx(0.02)
    assert config.replace(LEARNING_RATE_IMAGES=0).learning_rate == pytest.approx(0.02)
    # Matterport's programs pass LEARNING_RATE as it is.
    assert Config().replace(IMAGES_PER_GPU=8).learning_rate == Config.LEARNING_RATE


def test_a_shorter_training_has_the_schedule_in_proportion():
    assert presets.scheduled(90, 1000) == {
        "LEARNING_RATE_DROPS": [60, 80],
        "WARMUP_STEPS": 1000,
    }
    assert presets.scheduled(20, 100) == {"LEARNING_RATE_DROPS": [13, 18], "WARMUP_STEPS": 200}
    drops = [presets.scheduled(epochs, 100)["LEARNING_RATE_DROPS"] for epochs in (1, 2, 3, 5)]
    assert drops == [[], [1], [2], [3, 4]]
    assert presets.scheduled(1, 5)["WARMUP_STEPS"] == 0


def test_recipes_are_of_their_family():
    for family, recipe in presets.OF_FAMILY.items():
        assert family == recipe.CONVENTIONS


def test_the_paper_and_its_c4_variant():
    paper, c4 = presets.PaperConfig(), presets.C4Config()
    assert (paper.TRAIN_ROIS_PER_IMAGE, paper.ROI_POSITIVE_RATIO) == (512, 0.25)
    assert (c4.TRAIN_ROIS_PER_IMAGE, c4.POST_NMS_ROIS_INFERENCE) == (64, 300)
    assert c4.IMAGE_SHAPE[0] % 16 == 0
    # Five scales of three ratios a cell, as in figure 3 of Faster R-CNN but for more scales.
    assert len(networks.pixel_anchors(c4, (160, 320))) == 10 * 20 * 15


def test_the_small_preset_is_the_network_of_the_bundled_weights():
    stored = catalog.settings("nuclei", catalog.BUNDLED["nuclei"])
    small = presets.SmallConfig().to_dict()
    for name in Config.marked(Mark.NETWORK):
        assert small[name] == stored[name], name
    # Every level of the RPN keeps its number of anchors per cell.
    assert len(small["RPN_ANCHOR_SCALES"]) == len(stored["RPN_ANCHOR_SCALES"])


def test_the_bundled_training_has_the_settings_of_its_weights():
    path = Path(__file__).resolve().parents[1] / "samples" / "nucleus" / "bundled.py"
    sample = runpy.run_path(str(path))
    stored = catalog.settings("nuclei", catalog.BUNDLED["nuclei"])
    settings = sample["BundledConfig"]().to_dict()
    # Settings that are newer than the weights have no part in what they are.
    assert {name: settings[name] for name in stored} == stored
    assert settings.keys() - stored.keys() == {"CHECKPOINT_MINUTES", "CHECKPOINT_STEPS"}
