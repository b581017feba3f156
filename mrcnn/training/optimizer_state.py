"""Optimizer variables in a checkpoint, keyed by the weights that they belong to.

    iterations                          the step
    learning_rate                       if it is a variable; stored for reference only
    conv1.kernel:SGD.momentum           a slot of a weight: Adam has two, averaging adds one
    Nadam.variable                      a variable of the optimizer as a whole
    conv1.kernel                        the momentum, as written by earlier versions

Keys have no slashes, unlike weight names, since HDF5 would turn them into nested groups.
"""

from collections import Counter, deque
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from mrcnn.weights import hdf5, layer_names

STEP = "iterations"
RATE = "learning_rate"
AVERAGE = "average"  # Keras' slot for the moving average of a weight


def optimizer_state(model: keras.Model) -> dict[str, np.ndarray]:
    """Return every variable of a compiled model's optimizer by name, for a checkpoint."""
    state = {STEP: step_of(model.optimizer), **_variables(model)}
    return {key: ops.convert_to_numpy(variable) for key, variable in state.items()}


def step_of(optimizer: keras.optimizers.Optimizer) -> keras.Variable:
    """Return the variable that counts training steps.

    If the optimizer accumulates gradients, `iterations` counts its updates, which are fewer.
    """
    return getattr(optimizer, "_iterations", optimizer.iterations)


def restore_optimizer(model: Any, state: Mapping[str, np.ndarray]) -> int:
    """Restore the step and the slots of weights from a checkpoint; return the number of slots.

    The optimizer keeps its learning rate. Weights that were not trained in the checkpoint start
    without state, as do all weights if it used another kind of optimizer.

    Args:
        model: Compiled, a `TrainingModel`.
    """
    model._build_optimizer()
    optimizer = model.optimizer
    step_of(optimizer).assign(state[STEP])
    found = 0
    for key, variable in _variables(model).items():
        if variable.name == RATE:
            continue
        array = state.get(key, state.get(_as_before(key)))
        if array is not None and np.shape(array) == tuple(variable.shape):
            variable.assign(array)
            found += ":" in key
        elif key.endswith(f".{AVERAGE}"):
            # An average that starts at zero would pull the weight to zero. A copy, since JAX
            # cannot donate a buffer that two variables share.
            weight = _weights(model)[key.partition(":")[0]]
            variable.assign(np.array(ops.convert_to_numpy(weight)))
    return found


def _as_before(key: str) -> str:
    """Return the key of earlier versions for SGD's momentum, the only slot they stored."""
    return key.removesuffix(":SGD.momentum")


def _weights(model: keras.Model) -> dict[str, Any]:
    """Return the trainable weights by their keys in the checkpoint."""
    names = {id(weight): key for key, weight in hdf5.weights_by_name(model).items()}
    found = {names[id(each)].replace("/", "."): each for each in model.trainable_variables}
    if len(found) != len(model.trainable_variables):
        raise ValueError(
            "two layers have names that differ only by a dot or a slash, so the optimizer's state "
            "cannot be told apart: rename one of them"
        )
    return found


def _variables(model: keras.Model) -> dict[str, Any]:
    """Return an optimizer's variables, except the step, by key."""
    optimizer = model.optimizer
    kind = _kind(optimizer)
    # Keras names a slot after the path of its weight, with its parts joined by "_", and creates
    # slots of the same name in the order of the weights.
    waiting: dict[str, deque[str]] = {}
    for key, weight in _weights(model).items():
        waiting.setdefault(weight.path.replace("/", "_"), deque()).append(key)
    turns: Counter[str] = Counter()
    found: dict[str, Any] = {}
    for variable in optimizer.variables:
        if variable is step_of(optimizer):
            continue
        name = variable.name
        prefix = max((each for each in waiting if name.startswith(f"{each}_")), key=len, default="")
        if prefix:
            keys = waiting[prefix]
            key = f"{keys[turns[name] % len(keys)]}:{kind}.{name[len(prefix) + 1 :]}"
        else:
            key = RATE if name == RATE else f"{kind}.{layer_names.unnumbered(name, 'Variable')}"
        turns[name] += 1
        while key in found:
            key += "'"
        found[key] = variable
    return found


def _kind(optimizer: keras.optimizers.Optimizer) -> str:
    """Return the name of the Keras optimizer class that an optimizer is, or derives from."""
    return next(
        kind.__name__ for kind in type(optimizer).__mro__ if kind.__module__.startswith("keras.")
    )
