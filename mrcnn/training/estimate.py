"""Memory, weights and operations of a training, estimated from the settings alone.

    memory = start + 4 bytes * (copies of the weights + images * (KEPT * fixed + of positive RoIs))

where `fixed` is the number of convolution outputs per image, and the last term is the same for the
mask and keypoint heads, which run on positive RoIs only: an upper limit, since there are fewer
early in training (see `map_values`). The constants were measured with `benchmarks/memory.py`;
docs/performance.md has its table.
"""

import itertools
import math
from collections.abc import Iterator

from mrcnn.config import Config
from mrcnn.network import backbones
from mrcnn.network.backbones import resnet

START = 1_250_000_000  # bytes of a process after tracing the step
COPIES = 4  # weights, gradients, momentum, and temporaries of the step
KEPT = 2.5  # multiple of the convolution outputs; 2.3 was measured
BACKWARD = 3  # operations of a training step in those of its forward pass

Layer = tuple[float, float]  # number of weights, and of positions per image that they apply to


def memory(config: Config, images: int, weights: int, *, is_gpu: bool) -> float:
    """Return the memory that a training probably takes, in bytes.

    Args:
        images: in a batch on one device.
        weights: number of the network's weights, see `num_weights`.
        is_gpu: without the memory of the process itself.
    """
    fixed, of_positives = map_values(config)
    values = images * bytes_per_value(config) * (KEPT * fixed + of_positives)
    return 4 * COPIES * weights + values + (0 if is_gpu else START)


def bytes_per_value(config: Config) -> int:
    """Return the size of an output of a layer in bytes."""
    return 4 if config.PRECISION == "float32" else 2


def num_weights(config: Config) -> int:
    """Return the number of weights of a network, without biases and batch norm."""
    return round(sum(weights for weights, _ in _layers(config)))


def operations(config: Config) -> float:
    """Return the operations of a training step per image: multiplications and additions.

    Those of convolutions and fully connected layers; all RoIs that can be positive are.
    """
    return 2 * BACKWARD * sum(weights * places for weights, places in _layers(config))


def map_values(config: Config) -> tuple[int, int]:
    """Return the number of convolution outputs per image, an upper limit for positive RoIs.

    A `BACKBONE` function counts as resnet18.

    Returns:
        Outputs of backbone, pyramid, RPN and box head; outputs of the mask and keypoint heads.
    """
    pixels = math.prod(int(side) for side in config.IMAGE_SHAPE[:2])
    channels = config.TOP_DOWN_PYRAMID_SIZE
    trained, positive = config.TRAIN_ROIS_PER_IMAGE, config.TRAIN_ROIS_PER_IMAGE
    positive = max(int(trained * config.ROI_POSITIVE_RATIO), 1)
    if config.FEATURE_MAPS == "c4":
        levels, stages = pixels // 256, 3
        # The backbone's last stage runs on every RoI.
        heads = trained * _of_stage(config, 3, config.POOL_SIZE**2 // 4)
        masks = positive * 4 * config.POOL_SIZE**2 * config.MASK_CONV_SIZE
    else:
        levels, stages = sum(pixels // stride**2 for stride in config.BACKBONE_STRIDES), 4
        heads = trained * (channels * config.POOL_SIZE**2 + 2 * config.FPN_CLASSIF_FC_LAYERS_SIZE)
        pooled = config.MASK_POOL_SIZE**2
        masks = positive * pooled * (channels + 8 * config.MASK_CONV_SIZE + 4 * config.NUM_CLASSES)
    body = pixels // 4 * config.BACKBONE_WIDTH
    body += sum(_of_stage(config, stage, pixels // 16 // 4**stage) for stage in range(stages))
    pyramid = levels * (2 * channels * (config.FEATURE_MAPS != "c4") + config.RPN_CONV_SIZE)
    keypoints = positive * 14**2 * (8 * config.KEYPOINT_CONV_SIZE + 16 * config.NUM_KEYPOINTS)
    of_positives = masks * config.HAS_MASKS + keypoints * (config.NUM_KEYPOINTS > 0)
    return body + pyramid + heads, of_positives


def _of_stage(config: Config, stage: int, cells: int) -> int:
    """Return the number of convolution outputs of a backbone stage (0-based)."""
    net = _net(config)
    width = config.BACKBONE_WIDTH * 2**stage
    if net.block is resnet.basic_block:
        return net.depths[stage] * 2 * width * cells
    inner = width * net.groups * net.group_width // 64
    return (net.depths[stage] * (2 * inner + 4 * width) + 4 * width) * cells


def _layers(config: Config) -> Iterator[Layer]:
    """Yield the layers of a network; small ones are left out.

    A `BACKBONE` function counts as resnet18.
    """
    pixels = math.prod(int(side) for side in config.IMAGE_SHAPE[:2])
    yield 49 * config.IMAGE_CHANNEL_COUNT * config.BACKBONE_WIDTH, pixels / 4
    is_c4 = config.FEATURE_MAPS == "c4"
    for stage in range(3 if is_c4 else 4):
        yield _stage_weights(config, stage), pixels / 16 / 4**stage
    yield from _heads_of_c4(config) if is_c4 else _pyramid(config, pixels)
    channels = _channels(config, 2) if is_c4 else config.TOP_DOWN_PYRAMID_SIZE
    cells = sum(pixels / stride**2 for stride in config.BACKBONE_STRIDES)
    size = config.RPN_CONV_SIZE
    yield 9 * size * (channels + (config.RPN_CONV_COUNT - 1) * size), cells
    positive = max(int(config.TRAIN_ROIS_PER_IMAGE * config.ROI_POSITIVE_RATIO), 1)
    size, area = config.MASK_CONV_SIZE, config.MASK_POOL_SIZE**2
    if config.HAS_MASKS and not is_c4:
        yield 9 * channels * size + 27 * size**2, positive * area
    if config.HAS_MASKS:
        yield 4 * size**2 + 4 * size * config.NUM_CLASSES, positive * area
    if config.NUM_KEYPOINTS:
        yield 9 * 8 * config.KEYPOINT_CONV_SIZE**2, positive * 14**2


def _pyramid(config: Config, pixels: float) -> Iterator[Layer]:
    """Yield the layers of the FPN and of the box head on it."""
    channels = config.TOP_DOWN_PYRAMID_SIZE
    for stage in range(4):
        yield channels * (_channels(config, stage) + 9 * channels), pixels / 16 / 4**stage
    size, rois = config.FPN_CLASSIF_FC_LAYERS_SIZE, config.TRAIN_ROIS_PER_IMAGE
    widths = [channels, *config.BOX_CONV_SIZES]
    for before, after in itertools.pairwise(widths):
        yield 9 * before * after, rois * config.POOL_SIZE**2
    second = 0 if config.BOX_CONV_SIZES else size**2
    yield widths[-1] * config.POOL_SIZE**2 * size + second + 5 * size * config.NUM_CLASSES, rois


def _heads_of_c4(config: Config) -> Iterator[Layer]:
    """Yield the backbone's last stage, which runs on every RoI."""
    yield _stage_weights(config, 3), config.TRAIN_ROIS_PER_IMAGE * config.POOL_SIZE**2


def _channels(config: Config, stage: int) -> int:
    """Return the output channels of a backbone stage (0-based)."""
    return config.BACKBONE_WIDTH * 2**stage * (1 if _net(config).block is resnet.basic_block else 4)


def _stage_weights(config: Config, stage: int) -> float:
    """Return the number of weights of a backbone stage (0-based)."""
    net, width, out = _net(config), config.BACKBONE_WIDTH * 2**stage, _channels(config, stage)
    entering = _channels(config, stage - 1) if stage else config.BACKBONE_WIDTH
    shortcut = entering * out * (entering != out)
    more = net.depths[stage] - 1
    if net.block is resnet.basic_block:
        return 9 * width * (entering + width) + shortcut + more * 18 * width**2
    inner = width * net.groups * net.group_width // 64
    middle = 9 * inner**2 / net.groups + inner * out
    return entering * inner + middle + shortcut + more * (out * inner + middle)


def _net(config: Config) -> resnet.ResNet:
    return backbones.get(config.BACKBONE if isinstance(config.BACKBONE, str) else "resnet18")
