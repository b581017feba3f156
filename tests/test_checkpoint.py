from pathlib import Path

import keras
import numpy as np
import pytest

from mrcnn.training.callbacks import Checkpoint
from mrcnn.training.divergence import TrainingDiverged

STEPS = 3


@pytest.fixture
def checkpoint(tmp_path) -> Checkpoint:
    """A callback whose files tell what they are, and which is set to a small model."""

    def write(path: Path, progress: dict) -> None:
        path.write_text(f"{progress['epoch']} {progress.get('step', 'whole')}")

    made = Checkpoint(str(tmp_path / "a_{epoch:04d}.h5"), STEPS, write)
    model = keras.Sequential([keras.layers.Dense(1)])
    model.build((None, 1))
    model.compile(keras.optimizers.SGD(0.1))
    made.set_model(model)
    return made


def run(checkpoint: Checkpoint, epochs: int, steps: int = 0) -> None:
    """Show so many epochs and steps of the next."""
    for epoch in range(epochs):
        checkpoint.on_epoch_begin(epoch)
        checkpoint.model.optimizer.iterations.assign((epoch + 1) * STEPS)
        checkpoint.on_epoch_end(epoch)
    if steps:
        checkpoint.on_epoch_begin(epochs)
        checkpoint.model.optimizer.iterations.assign(epochs * STEPS + steps)


def contents(checkpoint: Checkpoint) -> dict[str, str]:
    folder = Path(checkpoint.path).parent
    return {path.name: path.read_text() for path in sorted(folder.iterdir())}


def test_in_the_middle_of_an_epoch_it_has_a_name_of_its_own(checkpoint):
    run(checkpoint, 1, steps=2)
    assert checkpoint.write_interrupted() == checkpoint.left_at
    assert contents(checkpoint) == {"a_0001.h5": "1 whole", "a_0001_interrupted.h5": "1 2"}
    checkpoint.on_epoch_end(1)
    assert contents(checkpoint) == {"a_0001.h5": "1 whole", "a_0002.h5": "2 whole"}


def test_between_epochs_the_last_whole_one_is_enough(checkpoint):
    run(checkpoint, 2)
    assert checkpoint.write_interrupted().name == "a_0002.h5"
    assert contents(checkpoint) == {"a_0001.h5": "1 whole", "a_0002.h5": "2 whole"}


def test_in_the_validation_the_epoch_is_whole(checkpoint):
    run(checkpoint, 1, steps=STEPS)
    assert checkpoint.write_interrupted().name == "a_0002.h5"
    assert checkpoint.left_at.read_text() == "2 whole"
    assert checkpoint.finished == 2
    assert contents(checkpoint) == {"a_0001.h5": "1 whole", "a_0002.h5": "2 whole"}


def test_before_the_first_step_of_a_run_there_is_one_to_go_on_from(checkpoint):
    checkpoint.on_epoch_begin(0)
    assert checkpoint.write_interrupted().name == "a_0000_interrupted.h5"


def test_nothing_diverged_is_written(checkpoint):
    run(checkpoint, 1, steps=2)
    checkpoint.model.layers[0].bias.assign(np.full(1, np.inf))
    with pytest.raises(TrainingDiverged, match="not finite"):
        checkpoint.write_interrupted()
    assert checkpoint.left_at is None
    assert contents(checkpoint) == {"a_0001.h5": "1 whole"}
