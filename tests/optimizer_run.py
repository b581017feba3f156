"""Training that goes on from a checkpoint beside that which went straight on, by optimizer.

The backend is that of the process; as a script, on any:

    KERAS_BACKEND=jax python optimizer_run.py FOLDER

prints the largest difference of any weight, by optimizer.
"""

import sys
from pathlib import Path

import keras
import numpy as np
from keras import layers

from mrcnn.training import optimizer_state
from mrcnn.training.optimizers import ClippedSGD
from mrcnn.weights import hdf5

OPTIMIZERS = {
    "sgd": lambda: ClippedSGD(1.0, learning_rate=0.1, momentum=0.9),
    "adam": lambda: keras.optimizers.Adam(0.05, amsgrad=True),
    "adamw": lambda: keras.optimizers.AdamW(0.05, use_ema=True, ema_overwrite_frequency=None),
    "rmsprop": lambda: keras.optimizers.RMSprop(0.05, momentum=0.5, centered=True),
    "adagrad": lambda: keras.optimizers.Adagrad(0.1),
    "nadam": lambda: keras.optimizers.Nadam(0.05),
}


class Small(keras.Model):
    """Two layers of one length, so that a state which is mixed up would still fit."""

    def _build_optimizer(self) -> None:
        if not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)


def small(optimizer: keras.optimizers.Optimizer) -> Small:
    """Return a compiled model, always with the same weights."""
    x = keras.Input((3,))
    first, second = layers.Dense(3, name="a_b"), layers.Dense(3, name="b")
    model = Small(x, second(keras.ops.tanh(first(x))))
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape))
    model.compile(optimizer, loss="mse", run_eagerly=keras.backend.backend() == "tensorflow")
    return model


def fit(model: keras.Model, steps: range) -> None:
    """Train through these steps, each on a batch of its own."""
    batches = [np.random.default_rng(step).normal(size=(8, 3)) for step in steps]
    x = np.concatenate(batches).astype("f")
    model.fit(x, np.sin(3 * x), batch_size=8, shuffle=False, verbose=0)
    for weight in model.weights:
        # After `fit` Keras lets weights share their memory with averages, which JAX then cannot
        # give up twice.
        weight.assign(np.array(keras.ops.convert_to_numpy(weight)))


def written(model: keras.Model, path: Path) -> Path:
    """Write a checkpoint."""
    hdf5.save(path, model, {}, optimizer_state.optimizer_state(model))
    return path


def difference(name: str, folder: Path) -> float:
    """Return how far a training that went on from a checkpoint is from the straight one."""
    straight = small(OPTIMIZERS[name]())
    fit(straight, range(3))
    path = written(straight, folder / f"{name}.h5")
    resumed = small(OPTIMIZERS[name]())
    hdf5.load(path, resumed)
    optimizer_state.restore_optimizer(resumed, hdf5.read_optimizer(path))
    for model in (straight, resumed):
        fit(model, range(3, 6))
    pairs = zip(straight.get_weights(), resumed.get_weights(), strict=True)
    return max(float(np.abs(one - other).max()) for one, other in pairs)


if __name__ == "__main__":
    for each in OPTIMIZERS:
        print(keras.backend.backend(), each, difference(each, Path(sys.argv[1])))
