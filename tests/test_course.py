import keras
import numpy as np
import pytest

from mrcnn.training.course import Course, Progress
from mrcnn.training.signals import Signals

STEPS = 4


class Watch(keras.callbacks.Callback):
    """Notes what it is called for, and the loss."""

    def __init__(self):
        super().__init__()
        self.calls, self.losses = [], {}

    def on_train_begin(self, logs=None):
        del logs
        self.calls.append("begin")

    def on_epoch_begin(self, epoch, logs=None):
        del logs
        self.calls.append(epoch)
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self.losses[self.epoch, batch] = logs["loss"]

    def on_train_end(self, logs=None):
        self.calls.append("end")
        assert "loss" in logs


def make_model() -> keras.Model:
    model = keras.Sequential([keras.layers.Dense(1, kernel_initializer="zeros")])
    model.build((None, 2))
    model.compile(keras.optimizers.SGD(0.01), "mse", run_eagerly=True)
    return model


def batches(start: int):
    number = start
    while True:
        random = np.random.default_rng(number)
        yield random.normal(size=(3, 2)), random.normal(size=(3, 1))
        number += 1


def train(model: keras.Model, start: Progress, epochs: int, *callbacks) -> keras.callbacks.History:
    course = Course(callbacks, model, range(start.epoch, epochs), STEPS, start, Signals(), 0)
    for part, steps, first in course.parts():
        model.fit(
            batches(first),
            shuffle=False,
            initial_epoch=part.start,
            epochs=part.stop,
            steps_per_epoch=steps,
            callbacks=course,
            verbose=0,
        )
    course.finish()
    return model.history


class StopAt(Watch):
    """Ends the training after a step."""

    def __init__(self, epoch: int, batch: int):
        super().__init__()
        self.last = (epoch, batch)

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch, logs)
        if (self.epoch, batch) == self.last:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def unbroken() -> tuple[Watch, keras.callbacks.History]:
    watch = Watch()
    return watch, train(make_model(), Progress(), 3, watch)


def test_the_rest_of_an_epoch_goes_on_where_it_was_left(unbroken):
    straight, history = unbroken
    model, first, second = make_model(), StopAt(1, 2), Watch()
    with pytest.raises(KeyboardInterrupt):
        train(model, Progress(), 3, first)
    sums = {
        metric.name: [float(variable) for variable in metric.variables] for metric in model.metrics
    }
    resumed = train(model, Progress(1, 3, sums), 3, second)
    assert {**first.losses, **second.losses} == straight.losses
    assert min(second.losses) == (1, 3)
    assert second.calls == ["begin", 1, 2, "end"]
    assert resumed.epoch == [1, 2]
    assert resumed.history["loss"] == history.history["loss"][1:]


def test_a_training_that_a_callback_stopped_in_the_rest_ends_there():
    class Stop(Watch):
        def on_epoch_end(self, epoch, logs=None):
            del epoch, logs
            self.model.stop_training = True

    stop = Stop()
    train(make_model(), Progress(1, 3), 3, stop)
    assert stop.calls == ["begin", 1, "end"]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, Progress(3)),
        ({"step": 2, "steps_per_epoch": 4, "sums": {}, "epochs": 9}, Progress(3, 2, {}, 9)),
        # What is of another epoch, or of none, is not gone on with.
        ({"step": 2, "steps_per_epoch": 5, "epochs": 9}, Progress(3, 0, {}, 9)),
        ({"step": 4, "steps_per_epoch": 4}, Progress(3)),
        ({"step": "2", "steps_per_epoch": 4, "epochs": "9"}, Progress(3)),
    ],
)
def test_progress_is_read_from_a_checkpoint(settings, expected):
    assert Progress.stored(3, settings, 4) == expected
