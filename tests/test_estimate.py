import pytest

from mrcnn import presets
from mrcnn.config import Config
from mrcnn.network.network import Network
from mrcnn.training import estimate

SLIM = {"BACKBONE_WIDTH": 8, "TOP_DOWN_PYRAMID_SIZE": 64, "NUM_CLASSES": 3, "NAME": "slim"}


@pytest.mark.parametrize(
    "settings",
    [
        {"BACKBONE": "resnet18"},
        {"BACKBONE": "resnet50"},
        {"BACKBONE": "resnext50_32x4d", "BACKBONE_WIDTH": 64},
        {"BACKBONE": "resnet18", "BOX_CONV_SIZES": [64, 64], "RPN_CONV_COUNT": 2},
        {"BACKBONE": "resnet18", "HAS_MASKS": False},
        {"BACKBONE": "resnet18", "NUM_KEYPOINTS": 17, "KEYPOINT_CONV_SIZE": 64},
        {"BACKBONE": "resnet50", "IMAGE_CHANNEL_COUNT": 1, "MEAN_PIXEL": [9]},
    ],
)
def test_weights_are_counted_as_in_the_network(settings):
    config = presets.PaperConfig.from_dict({**SLIM, **settings})
    real = Network(config).inference.count_params()
    assert estimate.num_weights(config) == pytest.approx(real, rel=0.03)


def test_operations_are_those_that_were_counted():
    """One image of 512 x 512: 4.1 billion multiplications of a ResNet-50 at 224 x 224, and more."""
    config = Config.from_dict({"NAME": "a", "NUM_CLASSES": 2, "BACKBONE": "resnet50"})
    whole, quarter = (
        estimate.operations(config.replace(IMAGE_MIN_DIM=side, IMAGE_MAX_DIM=side))
        for side in (1024, 512)
    )
    of_heads = (4 * quarter - whole) / 3
    of_backbone = 2 * 3 * 4.1e9 * (512 / 224) ** 2
    assert 1 < (quarter - of_heads) / of_backbone < 4  # and the pyramid and the RPN


def test_memory_grows_with_images_and_weights():
    config = presets.ModernConfig.from_dict({"NAME": "a"})
    one, two, more = (
        estimate.memory(config, images, weights, is_gpu=True)
        for images, weights in ((1, 10**6), (2, 10**6), (2, 2 * 10**6))
    )
    assert more - two == 16 * 10**6
    assert two - one == one - 16 * 10**6
    assert estimate.memory(config, 1, 10**6, is_gpu=False) - one == estimate.START
