"""What a machine is, how fast it multiplies matrices, and what a network asks of it."""

import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

MATRIX = 4096  # side; three of them are larger than any cache
PACKAGES = ("tensorflow", "keras", "numpy", "torch", "torchvision")


def description() -> dict[str, str]:
    """Return processor, cores, load, GPUs and versions."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    names = [tf.config.experimental.get_device_details(gpu).get("device_name") for gpu in gpus]
    return {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()),
        "load": f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown",
        "GPUs": " + ".join(map(str, names)) or "none",
        "Python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
    }


def matrix_product(dtype: str) -> tuple[Callable[[], Any], float]:
    """Return a product of two large matrices as a function, and its number of operations."""
    import tensorflow as tf

    factor = tf.cast(np.random.default_rng(0).normal(size=(MATRIX, MATRIX)), dtype)

    @tf.function
    def product() -> tf.Tensor:
        return tf.cast(tf.matmul(factor, factor)[0, 0], tf.float32)

    return lambda: product().numpy(), 2.0 * MATRIX**3


@contextmanager
def counted(model: Any) -> Iterator[dict[str, float]]:
    """Count the operations of a network's convolutions and products in an eager call.

    Yields a dict whose "operations" is their number afterwards; a multiplication and an addition
    are two.
    """
    from keras import layers

    count = {"operations": 0.0}
    kinds = layers.Conv2D | layers.Conv2DTranspose | layers.Dense
    changed = []
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, kinds):
            name = "convolution_op" if isinstance(layer, layers.Conv2D) else "call"
            setattr(layer, name, _counting(layer, getattr(layer, name), count))
            changed.append((layer, name))
    try:
        yield count
    finally:
        for layer, name in changed:
            delattr(layer, name)


def _counting(layer: Any, method: Callable[..., Any], count: dict[str, float]) -> Callable:
    from keras import layers

    def run(inputs: Any, *rest: Any, **options: Any) -> Any:
        outputs = method(inputs, *rest, **options)
        # A transposed convolution multiplies once an input and cell of its kernel.
        is_transposed = isinstance(layer, layers.Conv2DTranspose)
        places = np.prod((inputs if is_transposed else outputs).shape[:-1], dtype=float)
        count["operations"] += 2 * places * np.prod(layer.kernel.shape)
        return outputs

    return run


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
