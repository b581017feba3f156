"""What to lower, and by how much, where a batch does not fit into the memory of a device."""

from collections.abc import Iterator
from contextlib import contextmanager

from mrcnn.config import Config

# Names of it in TensorFlow and in JAX, and Python's own.
SIGNS = ("ResourceExhaustedError", "RESOURCE_EXHAUSTED", "MemoryError")
STRIDE = 64  # sides of images are its multiples


@contextmanager
def told(config: Config, *, training: bool) -> Iterator[None]:
    """Turn a lack of memory inside into an error that says which settings to lower.

    Raises:
        RuntimeError: Instead of the backend's own error.
    """
    try:
        yield
    except Exception as error:
        if not any(sign in f"{type(error).__name__}: {error}" for sign in SIGNS):
            raise
        lines = "; or ".join(lower(config, training=training))
        raise RuntimeError(f"the device is out of memory. Lower one of these: {lines}") from error


def lower(config: Config, *, training: bool) -> list[str]:
    """Return the settings to lower, best first: each from what to what, and what that halves."""
    found = []
    if config.IMAGES_PER_GPU > 1:
        number = config.IMAGES_PER_GPU // 2
        found.append(f"IMAGES_PER_GPU from {config.IMAGES_PER_GPU} to {number} (half the images)")
    side = int(config.IMAGE_MAX_DIM * 0.5**0.5) // STRIDE * STRIDE
    if side:
        least = min(config.IMAGE_MIN_DIM, side)
        found.append(
            f"IMAGE_MAX_DIM from {config.IMAGE_MAX_DIM} to {side} and IMAGE_MIN_DIM from "
            f"{config.IMAGE_MIN_DIM} to {least} (half the pixels)"
        )
    name = "TRAIN_ROIS_PER_IMAGE" if training else "POST_NMS_ROIS_INFERENCE"
    found.append(f"{name} from {getattr(config, name)} to {getattr(config, name) // 2}")
    if training and not config.USE_MINI_MASK:
        found.append("USE_MINI_MASK from False to True (masks of 56 x 56)")
    if config.PRECISION == "float32":
        found.append("PRECISION from 'float32' to 'mixed_bfloat16' (half of most maps)")
    return found
