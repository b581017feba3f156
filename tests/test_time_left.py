import pytest

from mrcnn.training import callbacks


@pytest.fixture
def run(monkeypatch, capsys):
    """Show a training with these seconds a step, after a first one that is compiled."""

    def show(seconds: float, epochs: int, steps: int) -> list[str]:
        now = [0.0]
        monkeypatch.setattr(callbacks.time, "monotonic", lambda: now[0])
        watch = callbacks.TimeLeft(epochs, steps)
        for epoch in range(epochs):
            watch.on_epoch_begin(epoch)
            for batch in range(steps):
                now[0] += seconds if epoch or batch else 300
                watch.on_train_batch_end(batch)
            now[0] += 1000  # a validation
        return capsys.readouterr().out.split("\n")[1:-1]

    return show


def test_the_time_left_is_told_once_without_compilation_and_validation(run):
    assert run(3, 20, 200) == ["about 3 h 20 min to epoch 20, validation apart"]
    assert run(0.5, 10, 1000) == ["about 1 h 23 min to epoch 10, validation apart"]


def test_nothing_is_told_of_short_trainings(run):
    assert run(0.1, 2, 100) == []
    assert run(2, 1, 4) == []
    assert run(2, 100, 4) == []  # with fewer steps an epoch than can be timed
