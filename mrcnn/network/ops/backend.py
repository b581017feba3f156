"""Operations whose implementation depends on the backend: crops, NMS, batch statistics.

TensorFlow has its own operations, which support data-dependent numbers of rows; code for XLA is
written in `keras.ops` with static shapes (`portable_ops`). JAX compiles everything, TensorFlow
whatever is called `within_xla`.
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
# Models are compiled once per input size.
COMPILES_EVERY_SIZE = BACKEND == "jax"
# A replica's batch norm sees only its own images. JAX runs one program over the global batch.
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
    """Set whether layers called in this context use XLA-compatible operations, in this thread."""
    before = getattr(_scope, "is_static", False)
    _scope.is_static = is_within
    try:
        yield
    finally:
        _scope.is_static = before


def is_static() -> bool:
    """Return whether shapes must be static."""
    return COMPILES_EVERY_SIZE or getattr(_scope, "is_static", False)


@contextmanager
def norm_statistics_of(rows: Any | None) -> Iterator[None]:
    """Restrict the statistics of batch norms called in this context to some rows, in this thread.

    They may be nested deep in a model that is called on RoIs, some of which are padding.

    Args:
        rows: (N,), above 0 for rows that count; None for all.
    """
    before = norm_rows()
    _scope.rows = rows
    try:
        yield
    finally:
        _scope.rows = before


def norm_rows() -> Any | None:
    """Return the rows set by `norm_statistics_of`; None for all."""
    return getattr(_scope, "rows", None)


def operations() -> ModuleType:
    """Return the module that implements crops and NMS for the current trace."""
    return portable_ops if is_static() else own_ops


def has_gpu() -> bool:
    """Return whether the backend uses a GPU."""
    try:
        return bool(keras.distribution.list_devices("gpu"))
    except RuntimeError:  # JAX raises if there is none
        return False
