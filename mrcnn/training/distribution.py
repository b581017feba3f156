"""Device placement and input distribution, per backend: `tensorflow_devices`, `jax_devices`.

Both provide the same functions, which the trainer calls through this module.
"""

import logging
import os

import keras

from mrcnn import backends, machine

logger = logging.getLogger("mrcnn")

if backends.check(keras.backend.backend()) == "tensorflow":
    from mrcnn.training import tensorflow_devices as chosen
else:
    from mrcnn.training import jax_devices as chosen  # type: ignore[no-redef]

BATCHES = chosen.BATCHES
ERRORS = chosen.ERRORS
Feed = chosen.Feed
check_running = chosen.check_running
clip = chosen.clip
current = chosen.current
loggers = chosen.loggers
strategy = chosen.strategy
suits_xla = chosen.suits_xla


def describe(device_count: int) -> str:
    """Describe the devices that training runs on, for example "1 GPU: NVIDIA A100, 40 GB".

    Args:
        device_count: GPU_COUNT.
    """
    names = chosen.used_gpus()
    if not names:
        copies = f", in {device_count} parts" if device_count > 1 else ""
        return f"the CPU, {chosen.threads()} threads{copies}"
    memory = {gpu.name: gpu.memory for gpu in machine.nvidia_gpus()}
    name = names[0]
    size = f", {machine.in_gigabytes(memory[name])}" if memory.get(name) else ""
    each = " each" if size and device_count > 1 else ""
    of_all = f" of {len(names)}" if len(names) > device_count else ""
    plural = "s" if len(names) > 1 else ""
    return f"{device_count}{of_all} GPU{plural}: {name}{size}{each}"


def warn_of_unused_gpu() -> None:
    """Log a warning with the remedy if the machine has a GPU that the backend does not see."""
    is_chosen = os.environ.get("JAX_PLATFORMS", "gpu") not in ("gpu", "cuda")
    if chosen.seen_gpus() or (is_chosen and keras.backend.backend() == "jax"):
        return
    gpus = machine.nvidia_gpus()
    if gpus:
        logger.warning(
            "this machine has %s, but %s computes on the CPU, many times slower: install it with "
            "CUDA (%s) and check that nvidia-smi shows a recent enough driver",
            gpus[0].name,
            {"tensorflow": "TensorFlow", "jax": "JAX"}[keras.backend.backend()],
            chosen.WITH_GPU,
        )
