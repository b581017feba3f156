"""Device placement and input distribution under JAX: one program over the global batch."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import jax
import keras
import numpy as np
from keras import ops

from mrcnn import machine

Tensor = Any
AHEAD = 2
WITH_GPU = 'python -m pip install "jax[cuda12]"'
# Errors of a step that fails on the device.
ERRORS = (jax.errors.JaxRuntimeError,)


class Devices:
    """The devices of a network: the counterpart of TensorFlow's `tf.distribute.Strategy`.

    Args:
        distribution: Splits batches over several devices; None for a single device.
    """

    num_replicas_in_sync = 1  # losses and gradients are already those of the global batch

    def __init__(self, distribution: keras.distribution.DataParallel | None = None) -> None:
        self.distribution = distribution

    def scope(self) -> AbstractContextManager:
        """Return the scope in which weights are created and trained."""
        return self.distribution.scope() if self.distribution is not None else nullcontext()

    def __getattr__(self, name: str) -> Any:
        """Raise an AttributeError that explains where strategy methods are available."""
        raise AttributeError(
            f"strategy.{name} is tf.distribute's, and this process runs on JAX, whose devices "
            "keras.distribution divides batches over (GPU_COUNT of them); set "
            "KERAS_BACKEND=tensorflow for MirroredStrategy"
        )


def check_running() -> None:
    """Do nothing: JAX has no mode that the network cannot run in."""


def strategy(device_count: int) -> Devices:
    """Return this many devices: GPUs, or CPU devices if there is no GPU.

    Raises:
        ValueError: If there are fewer.
    """
    if device_count == 1:
        return Devices()
    devices = jax.devices()
    if len(devices) < device_count:
        raise ValueError(
            f"GPU_COUNT is {device_count}, but JAX sees {len(devices)} "
            f"{devices[0].platform.upper()} device(s); set GPU_COUNT to that number"
        )
    names = keras.distribution.list_devices(devices[0].platform)[:device_count]
    return Devices(keras.distribution.DataParallel(devices=names))


def used_gpus() -> list[str]:
    """Return the names of the GPUs that JAX uses."""
    return [each.device_kind for each in jax.devices() if each.platform == "gpu"]


def seen_gpus() -> int:
    """Return the number of GPUs that JAX sees."""
    return len(used_gpus())


def threads() -> int:
    """Return the number of threads per operation on the CPU."""
    return machine.processors()


def current() -> Devices:
    """Return the devices of the current scope."""
    return Devices(keras.distribution.distribution())


def suits_xla(weights: Sequence[keras.Variable]) -> bool:
    """Return True: JAX compiles everything."""
    del weights
    return True


def clip(gradients: Sequence[Tensor], norm: float) -> list[Tensor]:
    """Return gradients clipped to a global norm."""
    total = ops.sqrt(sum(ops.sum(ops.square(ops.cast(g, "float32"))) for g in gradients))
    scale = norm / ops.maximum(total, norm)
    return [gradient * ops.cast(scale, gradient.dtype) for gradient in gradients]


def loggers(log_dir: Path) -> list[keras.callbacks.Callback]:
    """Return no callbacks: TensorBoard's needs TensorFlow, and `results.csv` is always written."""
    del log_dir
    return []


class InOrder(keras.utils.PyDataset):
    """Batches read in order, prefetched by a thread.

    Reading the first one starts a new pass.
    """

    def __init__(self, batches: Iterable[dict[str, np.ndarray]], count: int | None) -> None:
        super().__init__()
        self.batches = batches
        self.count = count
        self.iterator: Iterator[dict[str, np.ndarray]] = iter(())
        self.executor = ThreadPoolExecutor(1, thread_name_prefix="mrcnn-batches")
        self.pending: deque[Future] = deque()
        self.asked = 0

    @property
    def num_batches(self) -> int | None:
        """Return the number of batches per pass; None for an endless one."""
        return self.count

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        if index == 0:
            self.iterator = iter(self.batches)
            self.pending.clear()
            self.asked = 0
        # Stop at the end of the pass: further batches may belong to the next one.
        while len(self.pending) <= AHEAD and self.asked != self.count:
            self.pending.append(self.executor.submit(next, self.iterator))
            self.asked += 1
        return self.pending.popleft().result()


class Feed:
    """Batches of NumPy arrays for `fit`, in order.

    Args:
        batches: Yields dicts of arrays of constant shapes; iterated once per pass.
        count: Number of batches per pass; None for an endless one.
    """

    def __init__(self, batches: Iterable[dict[str, np.ndarray]], count: int | None = None) -> None:
        self.batches = batches
        self.count = count
        self.error: BaseException | None = None  # loading errors arrive unchanged

    def dataset(self) -> keras.utils.PyDataset:
        """Return the batches in a form that Keras accepts."""
        return InOrder(self.batches, self.count)


BATCHES = InOrder
