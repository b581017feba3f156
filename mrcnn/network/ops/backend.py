"""The operations that each backend does in its own way: crops, suppression, statistics.

TensorFlow has its own operations, which also take numbers of rows that depend on the data; what
XLA compiles is written in `keras.ops` with fixed shapes (`portable_ops`). JAX compiles everything,
TensorFlow what lies `within_xla`.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import keras

from mrcnn import backends
from mrcnn.network.ops import portable_ops

BACKEND = backends.check(keras.backend.backend())
# Models are compiled for every size of inputs.
COMPILES_EVERY_SIZE = BACKEND == "jax"
# Batch norm of a replica sees its own images. JAX runs one program over the global batch.
HAS_REPLICAS = BACKEND == "tensorflow"

if BACKEND == "tensorflow":
    from mrcnn.network.ops import tensorflow_ops as own_ops
    from mrcnn.network.ops.tensorflow_ops import compiled, sum_over_replicas, weighted_rows
else:
    from mrcnn.network.ops import portable_ops as own_ops  # type: ignore[no-redef]
    from mrcnn.network.ops.jax_ops import compiled, sum_over_replicas, weighted_rows  # noqa: F401

_scope = threading.local()


@contextmanager
def within_xla(is_within: bool) -> Iterator[None]:
    """Let layers that are called within take operations that XLA has, or not, in this thread."""
    before = getattr(_scope, "is_static", False)
    _scope.is_static = is_within
    try:
        yield
    finally:
        _scope.is_static = before


def is_static() -> bool:
    """Return whether shapes must be known when the graph is compiled."""
    return COMPILES_EVERY_SIZE or getattr(_scope, "is_static", False)


@contextmanager
def norm_statistics_of(rows: Any | None) -> Iterator[None]:
    """Let batch norms that are called within take statistics of these rows, in this thread.

    They may lie deep in a model that is called on RoIs, some of which are padding.

    Args:
        rows: (N,), above 0 for those that count; None for all.
    """
    before = norm_rows()
    _scope.rows = rows
    try:
        yield
    finally:
        _scope.rows = before


def norm_rows() -> Any | None:
    """Return the rows of `norm_statistics_of`, None for all."""
    return getattr(_scope, "rows", None)


def operations() -> ModuleType:
    """Return the module of crops and suppression for what is being traced."""
    return portable_ops if is_static() else own_ops


def has_gpu() -> bool:
    """Return whether the backend computes on a GPU."""
    try:
        return bool(keras.distribution.list_devices("gpu"))
    except RuntimeError:  # JAX raises where there is none
        return False
