import json

import keras
import numpy as np
import pytest

from mrcnn.training import schedule
from mrcnn.training.schedule import WarmupAndDrops


def rates(schedule: WarmupAndDrops, *steps: int) -> list[float]:
    return [float(schedule(step)) for step in steps]


def test_warm_up_rises_linearly_from_a_tenth():
    found = rates(WarmupAndDrops(0.01, 100, []), 0, 50, 100, 5000)
    np.testing.assert_allclose(found, [0.001, 0.0055, 0.01, 0.01], rtol=1e-6)


def test_every_drop_divides_by_ten():
    found = rates(WarmupAndDrops(0.01, 0, [10, 20]), 0, 9, 10, 19, 20, 10**6)
    np.testing.assert_allclose(found, [1e-2, 1e-2, 1e-3, 1e-3, 1e-4, 1e-4], rtol=1e-6)


def test_drops_act_during_warm_up_too():
    np.testing.assert_allclose(rates(WarmupAndDrops(1.0, 10, [5]), 5), [0.055], rtol=1e-6)


def test_without_warm_up_and_drops_the_rate_is_constant():
    assert rates(WarmupAndDrops(0.25, 0, []), 0, 1, 1000) == [0.25] * 3


@pytest.mark.parametrize("dtype", ["int64", "int32"])
def test_the_step_may_be_any_integer_tensor(dtype):
    step = keras.ops.convert_to_tensor(100, dtype)
    assert float(WarmupAndDrops(0.01, 100, [200])(step)) == pytest.approx(0.01)


def test_the_schedule_survives_serialization():
    schedule = WarmupAndDrops(0.01, 100, (200, 300))
    text = json.dumps(keras.saving.serialize_keras_object(schedule))
    rebuilt = keras.saving.deserialize_keras_object(json.loads(text))
    assert rates(rebuilt, 0, 50, 250, 350) == rates(schedule, 0, 50, 250, 350)


def test_an_optimizer_follows_the_schedule():
    weight = keras.Variable(1.0)
    optimizer = keras.optimizers.SGD(WarmupAndDrops(1.0, 0, [1]))
    for _ in range(2):
        optimizer.apply([keras.ops.convert_to_tensor(0.1)], [weight])
    assert float(weight) == pytest.approx(1 - 0.1 - 0.01)


@pytest.mark.parametrize(
    ("finished", "planned", "epochs", "behind"),
    [
        (0, None, 40, None),  # a new run
        (36, 40, 40, None),  # the rest of one
        (40, 40, 60, "41 to 60"),
        (36, 40, 60, "41 to 60"),
        (20, 40, 60, "41 to 60"),
        (37, None, 60, "38 to 60"),
        (20, None, 60, None),
    ],
)
def test_epochs_behind_the_schedule_are_warned_about(caplog, finished, planned, epochs, behind):
    schedule.warn_of_end([30, 36], finished, planned, epochs)
    if behind is None:
        assert caplog.messages == []
    else:
        (message,) = caplog.messages
        assert f"epochs {behind} are beyond the schedule" in message
        assert "at a hundredth of the learning rate" in message
        assert "--set LEARNING_RATE_DROPS=[]" in message


def test_without_drops_no_schedule_ends(caplog):
    schedule.warn_of_end([], 40, 40, 60)
    assert caplog.messages == []
