"""Which settings to lower, and by how much, when a batch does not fit into device memory."""

from collections.abc import Iterator
from contextlib import contextmanager

from mrcnn.config import Config
from mrcnn.geometry.placement import STRIDE

# Out-of-memory errors of TensorFlow and JAX. A MemoryError is the host's, from loading data.
SIGNS = ("ResourceExhaustedError", "RESOURCE_EXHAUSTED")
# The settings that determine the input size in each resize mode.
SIDES = {
    "square": ("IMAGE_MAX_DIM", "IMAGE_MIN_DIM"),
    "short_side": ("IMAGE_MAX_DIM", "IMAGE_MIN_DIM"),
    "pad64": ("IMAGE_MIN_DIM",),
    "crop": ("IMAGE_MIN_DIM",),
}


@contextmanager
def explain_oom(config: Config, *, training: bool) -> Iterator[None]:
    """Turn a device's out-of-memory error into one that says which settings to lower.

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
    """Return the settings to lower, best first: old and new value, and what that halves."""
    found = []
    if config.IMAGES_PER_GPU > 1:
        number = config.IMAGES_PER_GPU // 2
        found.append(f"IMAGES_PER_GPU from {config.IMAGES_PER_GPU} to {number} (half the images)")
    sides = [
        f"{name} from {getattr(config, name)} to {_smaller(getattr(config, name))}"
        for name in SIDES.get(config.IMAGE_RESIZE_MODE, ())
        if (getattr(config, name) or 0) > STRIDE
    ]
    if sides:
        found.append(" and ".join(sides) + " (half the pixels)")
    name = "TRAIN_ROIS_PER_IMAGE" if training else "POST_NMS_ROIS_INFERENCE"
    found.append(f"{name} from {getattr(config, name)} to {getattr(config, name) // 2}")
    if training and not config.USE_MINI_MASK:
        found.append("USE_MINI_MASK from False to True (masks of 56 x 56)")
    if config.PRECISION == "float32":
        found.append("PRECISION from 'float32' to 'mixed_bfloat16' (half of most maps)")
    return found


def _smaller(side: int) -> int:
    return max(int(side * 0.5**0.5) // STRIDE, 1) * STRIDE
