import keras
import numpy as np
import pytest
from small import SmallConfig

from mrcnn.training.divergence import StopOnDivergence, TrainingDiverged, guessing

LEAST = 4.0


def feed(losses, *, epoch: int = 50, start: int = 0) -> int:
    """Show the losses of steps, as Keras' means over an epoch; return how many were seen."""
    watch = StopOnDivergence(LEAST)
    watch.set_model(keras.Sequential([keras.layers.Dense(1)]))
    watch.model.compile(keras.optimizers.SGD(0.25))
    for number, loss in enumerate(losses):
        batch = (number + start) % epoch
        if batch == 0 or number == 0:
            watch.on_epoch_begin(0)
            total = np.float32(loss * batch)
        total += np.float32(loss)
        watch.on_train_batch_end(batch, {"loss": float(total / np.float32(batch + 1))})
        if batch + 1 == epoch:
            watch.on_epoch_end(0)
    return len(losses)


def steps_until_stop(losses, **options) -> int:
    for count in range(1, len(losses) + 1):
        try:
            feed(losses[:count], **options)
        except TrainingDiverged:
            return count
    raise AssertionError("it goes on")


def noisy(level: float, count: int = 300) -> np.ndarray:
    return level * np.exp(np.random.default_rng(0).normal(0, 0.7, count))


@pytest.mark.parametrize(
    "losses",
    [
        noisy(5.0),
        noisy(0.001),  # 10 times of next to nothing is nothing
        np.concatenate([noisy(60.0, 20), noisy(2.0)]),  # random weights without batch statistics
        np.where(np.arange(300) % 40 == 20, 10 * noisy(5.0), noisy(5.0)),  # hard batches
        np.where(np.arange(300) % 2, 30.0, 0.01),  # every other image has no objects
        np.repeat([5.0, 60.0, 5.0], [30, 4, 30]),
    ],
)
@pytest.mark.parametrize("start", [0, 13])
def test_ordinary_trainings_go_on(losses, start):
    assert feed(losses, start=start) == len(losses)


@pytest.mark.parametrize(
    ("losses", "within"),
    [
        (np.concatenate([noisy(2.0, 30), 2 * 1.5 ** np.arange(30)]), 30 + 14),
        (np.concatenate([noisy(0.3, 30), np.full(30, 200.0)]), 30 + 5),
        (5 * 3.0 ** np.arange(20), 8),
        (np.array([5.0, 3.8e11, 3.8e11]), 2),
        (np.array([5.0, np.nan]), 2),
        (np.array([5.0, np.inf]), 2),
    ],
)
def test_a_rise_without_end_is_stopped_when_it_begins(losses, within):
    assert steps_until_stop(losses) <= within


def test_a_rise_at_the_end_of_an_epoch_is_stopped_before_its_checkpoint():
    losses = np.repeat([5.0, 90.0], [10, 2])
    assert feed(losses, epoch=50) == 12
    with pytest.raises(TrainingDiverged, match="the loss has risen for 2 steps"):
        feed(losses, epoch=12)


def test_the_message_has_loss_step_rate_and_remedy():
    with pytest.raises(TrainingDiverged) as error:
        feed(np.array([5.0, 4.0, 1e7]))
    message = str(error.value)
    assert "the loss rose from 4.5 to 1e+07 at step 3 of this epoch" in message
    assert "learning rate 0.25. Lower LEARNING_RATE" in message


def test_a_network_that_guesses_has_about_the_loss_of_chance():
    config = SmallConfig().replace(NUM_CLASSES=81, CLASS_NAMES=())
    assert guessing(config) == pytest.approx(2 * np.log(2) + np.log(81) + 2)
    doubled = config.replace(LOSS_WEIGHTS={"mrcnn_class_loss": 2.0}, NUM_KEYPOINTS=3)
    more = np.log(81) + np.log(56 * 56)
    assert guessing(doubled) == pytest.approx(guessing(config) + more)
