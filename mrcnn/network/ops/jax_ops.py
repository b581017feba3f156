"""JAX implementations: a compiled model, and a gradient that is accumulated in place.

The gradient that JAX would derive adds whole copies.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

# The parts that are summed to a value, (B, ...) each.
Parts = Sequence[jax.Array]


def compiled(model: Any) -> Callable[[Sequence[np.ndarray]], dict[str, jax.Array]]:
    """Return a model with a dict of outputs as a function, compiled once per input size.

    Unlike Keras' own, it does not move the weights, and so is thread-safe.
    """

    @jax.jit
    def run(trainable: list, others: list, inputs: list) -> dict[str, jax.Array]:
        return model.stateless_call(trainable, others, inputs, training=False)[0]

    def of_arrays(inputs: Sequence[np.ndarray]) -> dict[str, jax.Array]:
        groups = model.trainable_variables, model.non_trainable_variables
        return run(*([variable.value for variable in group] for group in groups), list(inputs))

    return of_arrays


def sum_over_replicas(value: jax.Array) -> jax.Array:
    """Return the value unchanged: one program computes the global batch."""
    return value


@jax.custom_vjp
def weighted_rows(cells: jax.Array, index: Parts, weights: Parts) -> jax.Array:
    """Return weighted sums of rows of each image: (B, S, C), K of (B, ...) -> (B, ..., C).

    No gradient flows into the weights.

    Args:
        index: K of (B, ...) int32, rows of cells. weights: K of (B, ...).
    """
    total: Any = 0.0
    for rows, weight in zip(index, weights, strict=True):
        total += _take(cells, rows) * weight[..., None]
    return total


@jax.vmap
def _take(cells: jax.Array, rows: jax.Array) -> jax.Array:
    return cells.at[rows].get(mode="promise_in_bounds")


@jax.vmap
def _add(cells: jax.Array, rows: jax.Array, values: jax.Array) -> jax.Array:
    return cells.at[rows].add(values, mode="promise_in_bounds")


def _forward(cells: jax.Array, index: Parts, weights: Parts) -> tuple:
    # The gradient needs only the shape of the cells.
    return weighted_rows(cells, index, weights), (cells[..., :0], index, weights)


def _backward(kept: tuple, upstream: jax.Array) -> tuple:
    empty, index, weights = kept
    total = jax.numpy.zeros((*empty.shape[:2], upstream.shape[-1]), upstream.dtype)
    for rows, weight in zip(index, weights, strict=True):
        total = _add(total, rows, upstream * weight[..., None])
    return total, None, None


weighted_rows.defvjp(_forward, _backward)
