"""The memory and the disk space that a training needs, checked before it starts."""

import logging
import math
from pathlib import Path
from typing import Any

from mrcnn import machine, memory
from mrcnn.config import Config
from mrcnn.training import distribution, estimate

logger = logging.getLogger("mrcnn")

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
    likely = estimate.memory(config, images, weights, is_gpu=bool(gpus))
    least = 4 * (weights + (LEAST_COPIES - 1) * trained)
    # Frozen layers keep no activations, and the size of a user's own backbone is unknown.
    is_whole = model.weights[0].trainable and not callable(config.BACKBONE)
    if is_whole:
        least += images * estimate.bytes_per_value(config) * estimate.map_values(config)[0]
    _check_memory(config, least, likely, available_memory(gpus))
    _check_disk(4 * (weights + trained) * epochs, epochs, folder)


def available_memory(gpus: list[str]) -> int | None:
    """Return the device memory available for training in bytes; None if unknown.

    Args:
        gpus: names of the GPUs that are used; none: the CPU.
    """
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
