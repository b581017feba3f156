"""Estimates of memory and disk space that a training needs, checked before it starts.

    memory = start + 4 bytes * (copies of the weights + images * (KEPT * fixed + of positive RoIs))

where `fixed` is the number of convolution outputs per image, and the last term is the same for the
mask and keypoint heads, which run on positive RoIs only: an upper limit, since there are fewer
early in training (see `map_values`). The constants were measured with `benchmarks/memory.py`;
docs/performance.md has its table.
"""

import logging
import math
from pathlib import Path
from typing import Any

from mrcnn import machine, memory
from mrcnn.config import Config
from mrcnn.network import backbones
from mrcnn.network.backbones import resnet
from mrcnn.training import distribution

logger = logging.getLogger("mrcnn")

START = 1_250_000_000  # bytes of a process after tracing the step
COPIES = 4  # weights, gradients, momentum, and temporaries of the step
KEPT = 2.5  # multiple of the convolution outputs; 2.3 was measured
# Lower bound for any training: the outputs themselves, and three copies of the trained weights.
LEAST_COPIES = 3


def check(model: Any, epochs: int, folder: Path) -> None:
    """Check whether a training fits into memory and onto the disk.

    Logs a warning if it probably does not.

    Args:
        model: A compiled `TrainingModel`.
        epochs: Number of checkpoints to be written.
        folder: Folder of the checkpoints.

    Raises:
        ValueError: Even the lower bound exceeds the available memory; names the settings to
            lower.
    """
    config = model.config
    gpus = distribution.chosen.used_gpus()
    images = config.IMAGES_PER_GPU if gpus else config.BATCH_SIZE
    weights, trained = (
        sum(math.prod(weight.shape) for weight in group)
        for group in (model.weights, model.trainable_variables)
    )
    size = (4 if config.PRECISION == "float32" else 2) * images
    fixed, of_positives = map_values(config)
    likely = 4 * COPIES * weights + size * (KEPT * fixed + of_positives)
    least = 4 * (weights + (LEAST_COPIES - 1) * trained)
    # Frozen layers keep no activations, and the size of a user's own backbone is unknown.
    is_whole = model.weights[0].trainable and not callable(config.BACKBONE)
    least += size * fixed if is_whole else 0
    likely += 0 if gpus else START
    _check_memory(config, least, likely, _available(gpus))
    _check_disk(4 * (weights + trained) * epochs, epochs, folder)


def _available(gpus: list[str]) -> int | None:
    """Return the device memory available for training in bytes; None if unknown."""
    if not gpus:
        return machine.available_memory()
    sizes = [gpu.memory for gpu in machine.nvidia_gpus() if gpu.name in gpus]
    return min(sizes, default=0) or None


def _check_memory(config: Config, least: int, likely: float, available: int | None) -> None:
    if available is None or likely <= available:
        return
    lines = "; or ".join(memory.lower(config, training=True))
    there = f"and {machine.in_gigabytes(available)} are available. Lower one of these: {lines}"
    if least > available:
        raise ValueError(
            f"this training needs more than {machine.in_gigabytes(least)} of memory, {there}"
        )
    logger.warning(
        "this training takes about %s of memory, %s", machine.in_gigabytes(likely), there
    )


def _check_disk(size: int, epochs: int, folder: Path) -> None:
    free = machine.free_space(folder)
    if free is not None and size > free:
        logger.warning(
            "%d checkpoints take %s, and %s are free at %s: make room, or give another folder (on "
            "the command line: --logs)",
            epochs,
            machine.in_gigabytes(size),
            machine.in_gigabytes(free),
            folder,
        )


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
    name = config.BACKBONE if isinstance(config.BACKBONE, str) else "resnet18"
    net = backbones.get(name)
    width = config.BACKBONE_WIDTH * 2**stage
    if net.block is resnet.basic_block:
        return net.depths[stage] * 2 * width * cells
    inner = width * net.groups * net.group_width // 64
    return (net.depths[stage] * (2 * inner + 4 * width) + 4 * width) * cells
