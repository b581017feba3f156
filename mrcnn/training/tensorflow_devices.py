"""Devices and the way of batches to them: tf.distribute and tf.data."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from mrcnn import greetings, machine

IMAGES = "input_image"
WITH_GPU = 'python -m pip install "tensorflow[and-cuda]"'
# What a `Feed` makes.
BATCHES = tf.data.Dataset
# What a step raises that fails on the device.
ERRORS = (tf.errors.OpError,)


def check_running() -> None:
    """Raise RuntimeError where a program has turned off what the network needs."""
    if not tf.executing_eagerly():
        raise RuntimeError(
            "this network needs eager execution: remove tf.compat.v1.disable_eager_execution()"
        )
    with greetings.hidden():  # of the first look for devices
        tf.config.list_physical_devices()


def strategy(device_count: int) -> tf.distribute.Strategy:
    """Return a strategy over this many devices: GPUs, or logical CPUs where there is no GPU.

    Raises:
        ValueError: When the machine has fewer.
    """
    if device_count == 1:
        return tf.distribute.get_strategy()
    kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
    devices = [device.name for device in tf.config.list_logical_devices(kind)]
    if len(devices) < device_count:
        raise ValueError(
            f"GPU_COUNT is {device_count}, but TensorFlow sees {len(devices)} {kind} device(s); "
            "set GPU_COUNT to that number"
        )
    # The default reduction of several CPUs is a ring that needs NCCL; a copy suffices there.
    reduction = tf.distribute.ReductionToOneDevice() if kind == "CPU" else None
    return tf.distribute.MirroredStrategy(devices[:device_count], cross_device_ops=reduction)


def used_gpus() -> list[str]:
    """Return the names of the GPUs that TensorFlow computes on, unless the program hides them."""
    count = len(tf.config.list_logical_devices("GPU"))
    devices = tf.config.get_visible_devices("GPU")
    names = [tf.config.experimental.get_device_details(each).get("device_name") for each in devices]
    return [name or "GPU" for name in (names + [None] * count)[:count]]


def seen_gpus() -> int:
    """Return how many GPUs TensorFlow could compute on."""
    return len(tf.config.list_physical_devices("GPU"))


def threads() -> int:
    """Return how many threads compute an operation where there is no GPU."""
    return tf.config.threading.get_intra_op_parallelism_threads() or machine.processors()


def current() -> tf.distribute.Strategy:
    """Return the strategy of the scope that the program is in."""
    return tf.distribute.get_strategy()


def suits_xla(weights: Sequence[keras.Variable]) -> bool:
    """Return whether a step over these weights may be compiled: where a GPU computes it.

    What is compiled runs on one device, to which the weights must belong. On CPUs it is slower.
    """
    has_gpu = bool(tf.config.list_logical_devices("GPU"))  # which a program may have hidden
    return has_gpu and all("GPU" in weight.value.device for weight in weights)


def clip(gradients: Sequence[tf.Tensor], norm: float) -> Sequence[tf.Tensor]:
    """Return gradients scaled down to a norm of all together, where they exceed it."""
    return tf.clip_by_global_norm(gradients, norm)[0]


def loggers(log_dir: Path) -> list[keras.callbacks.Callback]:
    """Return the callbacks that write the curves of a training."""
    return [keras.callbacks.TensorBoard(str(log_dir), write_graph=False)]


class Feed:
    """Batches of NumPy arrays as a `tf.data.Dataset`; remembers the error that ended them.

    TensorFlow turns an exception of a generator into text; `error` keeps the exception itself.

    Args:
        batches: Yields dicts of arrays, all of the same shapes; gone through once a pass.
        count: Batches in a pass; None for an endless one.
    """

    def __init__(self, batches: Iterable[dict[str, np.ndarray]], count: int | None = None) -> None:
        self.batches = batches
        self.count = count
        self.error: BaseException | None = None

    def dataset(self) -> tf.data.Dataset:
        """Return the dataset. Loads one batch to learn the shapes, so early errors come as such.

        Images are float32: the dtype of the first batch's need not be that of all.
        """
        batches = iter(self.batches)
        first: Any = next(batches)
        if batches is self.batches:  # goes on from where it is, so the first is not lost
            self.batches = itertools.chain([first], batches)
        dtypes = {k: np.float32 if k == IMAGES else v.dtype for k, v in first.items()}
        signature = {k: tf.TensorSpec(v.shape, dtypes[k]) for k, v in first.items()}
        dataset = tf.data.Dataset.from_generator(self._guarded, output_signature=signature)
        if self.count is not None:
            dataset = dataset.apply(tf.data.experimental.assert_cardinality(self.count))
        return dataset.prefetch(2)

    def _guarded(self) -> Iterator[dict[str, np.ndarray]]:
        try:
            for batch in self.batches:
                images = np.asarray(batch[IMAGES], np.float32)
                yield {**batch, IMAGES: images}
        except GeneratorExit:
            raise
        except BaseException as error:
            self.error = error
            raise
