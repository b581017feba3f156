import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import optimizer_run
import pytest

from mrcnn.training import optimizer_state
from mrcnn.weights import hdf5

WEIGHTS = ("a_b.kernel", "a_b.bias", "b.kernel", "b.bias")
SLOTS = {
    "sgd": ["SGD.momentum"],
    "adam": ["Adam.momentum", "Adam.velocity", "Adam.velocity_hat"],
    "adamw": ["AdamW.average", "AdamW.momentum", "AdamW.velocity"],
    "rmsprop": ["RMSprop.average_gradient", "RMSprop.momentum", "RMSprop.velocity"],
    "adagrad": ["Adagrad.accumulator"],
    "nadam": ["Nadam.momentum", "Nadam.velocity"],
}


def trained(name: str, steps: int = 2) -> keras.Model:
    model = optimizer_run.small(optimizer_run.OPTIMIZERS[name]())
    optimizer_run.fit(model, range(steps))
    return model


@pytest.mark.parametrize("name", SLOTS)
def test_every_slot_is_named_by_its_weight(name):
    model = trained(name)
    state = optimizer_state.optimizer_state(model)
    slots = {f"{weight}:{slot}" for weight in WEIGHTS for slot in SLOTS[name]}
    whole = {"Nadam.variable"} if name == "nadam" else set()
    assert state.keys() == {"iterations", "learning_rate"} | slots | whole
    assert int(state["iterations"]) == 2
    assert len(state) == len(model.optimizer.variables)


@pytest.mark.parametrize("name", SLOTS)
def test_training_that_goes_on_ends_where_the_straight_one_does(name, tmp_path):
    assert optimizer_run.difference(name, tmp_path) < 1e-6


@pytest.mark.slow
def test_the_same_under_jax(tmp_path):
    folder = Path(optimizer_run.__file__).parent
    environment = {**os.environ, "KERAS_BACKEND": "jax", "PYTHONPATH": str(folder.parent)}
    command = [sys.executable, optimizer_run.__file__, str(tmp_path)]
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    rows = [line.split() for line in out.stdout.splitlines() if line.startswith("jax ")]
    assert [row[1] for row in rows] == list(SLOTS)
    assert all(float(row[2]) < 1e-6 for row in rows)


def test_weights_that_trade_state_would_be_noticed(tmp_path):
    path = optimizer_run.written(trained("adam"), tmp_path / "a.h5")
    state = hdf5.read_optimizer(path)
    assert not np.array_equal(state["a_b.kernel:Adam.momentum"], state["b.kernel:Adam.momentum"])


def test_the_rate_that_is_asked_for_holds(tmp_path):
    path = optimizer_run.written(trained("adam"), tmp_path / "a.h5")
    model = optimizer_run.small(keras.optimizers.Adam(0.001, amsgrad=True))
    assert optimizer_state.restore_optimizer(model, hdf5.read_optimizer(path)) == 12
    assert float(model.optimizer.learning_rate) == pytest.approx(0.001)
    assert int(model.optimizer.iterations) == 2


def test_checkpoints_of_earlier_versions_go_on():
    state = {key: np.full((3, 3), 7.0) for key in ("a_b.kernel", "b.kernel")}
    model = optimizer_run.small(optimizer_run.OPTIMIZERS["sgd"]())
    found = optimizer_state.restore_optimizer(model, {"iterations": np.array(5), **state})
    assert found == 2
    now = optimizer_state.optimizer_state(model)
    assert (now["b.kernel:SGD.momentum"] == 7).all()
    assert not now["b.bias:SGD.momentum"].any()
    assert int(now["iterations"]) == 5
    other = optimizer_run.small(optimizer_run.OPTIMIZERS["rmsprop"]())
    assert optimizer_state.restore_optimizer(other, {"iterations": np.array(5), **state}) == 0


def test_the_state_of_another_optimizer_is_left():
    state = optimizer_state.optimizer_state(trained("rmsprop"))
    model = optimizer_run.small(optimizer_run.OPTIMIZERS["sgd"]())
    assert optimizer_state.restore_optimizer(model, state) == 0
    now = optimizer_state.optimizer_state(model)
    assert not any(array.any() for key, array in now.items() if ":" in key)


def test_weights_that_begin_to_train_start_without_state():
    model = optimizer_run.small(optimizer_run.OPTIMIZERS["adamw"]())
    model.get_layer("b").trainable = False
    model.compile(model.optimizer, loss="mse")
    optimizer_run.fit(model, range(2))
    state = optimizer_state.optimizer_state(model)
    assert not any(key.startswith("b.") for key in state)
    more = optimizer_run.small(optimizer_run.OPTIMIZERS["adamw"]())
    assert optimizer_state.restore_optimizer(more, state) == 6
    now = optimizer_state.optimizer_state(more)
    assert now["a_b.kernel:AdamW.momentum"].any()
    assert not now["b.kernel:AdamW.momentum"].any()
    # From zero the average would pull the weight there.
    np.testing.assert_array_equal(
        now["b.kernel:AdamW.average"], more.get_layer("b").get_weights()[0]
    )


def test_names_that_only_differ_by_a_dot_are_refused():
    x = keras.Input((2, 3))
    recurrent = keras.layers.LSTM(3, name="a")(x)
    model = keras.Model(x, keras.layers.Dense(3, name="a.lstm_cell")(recurrent))
    model.compile(keras.optimizers.SGD(0.1))
    with pytest.raises(ValueError, match="differ only by a dot or a slash"):
        optimizer_state.optimizer_state(model)
