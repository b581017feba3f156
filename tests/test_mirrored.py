import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small import SmallConfig

from mrcnn.training import distribution

SCRIPT = Path(__file__).with_name("mirrored_run.py")

pytestmark = pytest.mark.slow


def run(*arguments: str) -> tuple[dict, dict]:
    """Return what training gave on one device, and on two with half a batch each."""
    # Two logical devices are of a processor; a GPU would be taken in their stead.
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    process = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    one, two = json.loads(process.stdout.splitlines()[-1])
    return one, two


@pytest.fixture(scope="module")
def runs() -> tuple[dict, dict]:
    return run()


def test_both_runs_have_as_many_devices_as_asked_for(runs):
    assert [run["replicas"] for run in runs] == [1, 2]


def test_two_devices_have_the_losses_of_one(runs):
    one, two = (run["steps"] for run in runs)
    assert len(one) == len(two) == 3
    for step, other in zip(one, two, strict=True):
        assert set(step) == {"loss", *SmallConfig().losses}
        assert other == pytest.approx(step, rel=1e-4)
        assert all(value > 0 for value in step.values())


def test_two_devices_have_the_validation_losses_of_one(runs):
    one, two = (run["history"] for run in runs)
    assert {f"val_{name}" for name in SmallConfig().losses} < set(one)
    assert two == pytest.approx(one, rel=1e-4)


def test_two_devices_make_the_weights_of_one(runs):
    one, two = (run["weights"] for run in runs)
    assert two == pytest.approx(one, rel=1e-5)


def test_two_devices_have_the_batch_statistics_of_one():
    """The replicas have other numbers of objects, so other rows of padding in their heads."""
    one, two = run("train_bn")
    for step, other in zip(one["steps"], two["steps"], strict=True):
        assert other == pytest.approx(step, rel=1e-3)
    # Biases before a norm have no effect, and stay as good as 0.
    assert two["weights"] == pytest.approx(one["weights"], rel=1e-4, abs=1e-8)


def test_more_devices_than_there_are_is_answered_with_their_number():
    with pytest.raises(ValueError, match=r"GPU_COUNT is 99, but TensorFlow sees \d+ .PU device"):
        distribution.strategy(99)
