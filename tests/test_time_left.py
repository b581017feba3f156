import pytest

from mrcnn.training import callbacks


@pytest.fixture
def run(monkeypatch, capsys):
    """Show a training with these seconds a step, after a first one that is compiled."""

    def show(seconds: float, epochs: int, steps: int) -> list[str]:
        now = [0.0]
        monkeypatch.setattr(callbacks.time, "monotonic", lambda: now[0])
        monkeypatch.setattr(callbacks.machine, "peak_memory", lambda: 3_000_000_000)
        watch = callbacks.Pace(epochs, steps, 4)
        for epoch in range(epochs):
            watch.on_epoch_begin(epoch)
            for batch in range(steps):
                now[0] += seconds if epoch or batch else 300
                watch.on_train_batch_end(batch)
            now[0] += 1000  # a validation
        return [line for line in capsys.readouterr().out.split("\n") if line]

    return show


FIRST = "first step after 300 s"


def test_pace_and_time_left_are_told_once_without_compilation_and_validation(run):
    assert run(3, 20, 200) == [
        FIRST,
        "1.33 images/s, 3.0 GB, about 3 h 20 min to epoch 20, validation apart",
    ]
    assert run(0.5, 10, 1000) == [
        FIRST,
        "8 images/s, 3.0 GB, about 1 h 23 min to epoch 10, validation apart",
    ]


def test_only_the_first_step_is_told_of_short_trainings(run):
    assert run(0.1, 2, 100) == [FIRST]
    assert run(2, 1, 4) == [FIRST]
    assert run(2, 100, 4) == [FIRST]  # with fewer steps an epoch than can be timed
