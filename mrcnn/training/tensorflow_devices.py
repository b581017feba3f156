"""Device placement and input distribution under TensorFlow: tf.distribute and tf.data."""

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
# The type of a `Feed`'s dataset.
BATCHES = tf.data.Dataset
# Errors of a step that fails on the device.
ERRORS = (tf.errors.OpError,)


def check_running() -> None:
    """Raise RuntimeError if the program has disabled eager execution."""
    if not tf.executing_eagerly():
        raise RuntimeError(
            "this network needs eager execution: remove tf.compat.v1.disable_eager_execution()"
        )
    with greetings.hidden():  # printed when devices are first listed
        tf.config.list_physical_devices()


def strategy(device_count: int) -> tf.distribute.Strategy:
    """Return a strategy over this many devices: GPUs, or logical CPUs if there is no GPU.

    Raises:
        ValueError: If there are fewer.
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
    # The default reduction over CPUs is a ring that needs NCCL; copying to one device suffices.
    reduction = tf.distribute.ReductionToOneDevice() if kind == "CPU" else None
    return tf.distribute.MirroredStrategy(devices[:device_count], cross_device_ops=reduction)


def used_gpus() -> list[str]:
    """Return the names of the GPUs that TensorFlow uses, except those the program hides."""
    count = len(tf.config.list_logical_devices("GPU"))
    devices = tf.config.get_visible_devices("GPU")
    names = [tf.config.experimental.get_device_details(each).get("device_name") for each in devices]
    return [name or "GPU" for name in (names + [None] * count)[:count]]


def seen_gpus() -> int:
    """Return the number of GPUs that TensorFlow sees."""
    return len(tf.config.list_physical_devices("GPU"))


def threads() -> int:
    """Return the number of threads per operation on the CPU."""
    return tf.config.threading.get_intra_op_parallelism_threads() or machine.processors()


def current() -> tf.distribute.Strategy:
    """Return the strategy of the current scope."""
    return tf.distribute.get_strategy()


def suits_xla(weights: Sequence[keras.Variable]) -> bool:
    """Return whether a step over these weights should be compiled: only on a GPU.

    Compiled code runs on one device, which must hold the weights. On CPUs it is slower.
    """
    has_gpu = bool(tf.config.list_logical_devices("GPU"))  # the program may have hidden it
    return has_gpu and all("GPU" in weight.value.device for weight in weights)


def clip(gradients: Sequence[tf.Tensor], norm: float) -> Sequence[tf.Tensor]:
    """Return gradients clipped to a global norm."""
    return tf.clip_by_global_norm(gradients, norm)[0]


def loggers(log_dir: Path) -> list[keras.callbacks.Callback]:
    """Return the callbacks that log training curves."""
    return [keras.callbacks.TensorBoard(str(log_dir), write_graph=False)]


class Feed:
    """Batches of NumPy arrays as a `tf.data.Dataset`; keeps the error that ended them.

    TensorFlow turns a generator's exception into a string; `error` keeps the exception itself.

    Args:
        batches: Yields dicts of arrays of constant shapes; iterated once per pass.
        count: Number of batches per pass; None for an endless one.
    """

    def __init__(self, batches: Iterable[dict[str, np.ndarray]], count: int | None = None) -> None:
        self.batches = batches
        self.count = count
        self.error: BaseException | None = None

    def dataset(self) -> tf.data.Dataset:
        """Return the dataset. Loads one batch to get its shapes, so early errors surface directly.

        Images are float32, since later batches may differ in dtype from the first.
        """
        batches = iter(self.batches)
        first: Any = next(batches)
        if batches is self.batches:  # an iterator: put the first batch back
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
