"""Gathers of rows and of classes."""

from typing import Any

from keras import ops

Tensor = Any


def gather_rows(values: Tensor, index: Tensor) -> Tensor:
    """Return selected rows per image: (B, N, C), (B, M) -> (B, M, C).

    One gather of whole rows; `ops.take_along_axis` would gather every element separately.
    """
    batch, count, channels = ops.shape(values)
    start = ops.arange(batch, dtype="int32")[:, None] * count
    rows = ops.reshape(values, (-1, channels))
    return ops.take(rows, start + ops.cast(index, "int32"), axis=0)


def of_class(values: Tensor, class_ids: Tensor) -> Tensor:
    """Return each RoI's prediction for its class: (B, R, ..., K, C), (B, R) -> (B, R, ..., C)."""
    chosen = ops.one_hot(class_ids, values.shape[-2], dtype=values.dtype)
    lead = (1,) * (len(values.shape) - 4)
    chosen = ops.reshape(chosen, (*ops.shape(class_ids), *lead, values.shape[-2], 1))
    return ops.sum(values * chosen, axis=-2)
