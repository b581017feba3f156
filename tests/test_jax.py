"""The network under JAX against the same network under TensorFlow."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import jax_run
import numpy as np
import pytest

from mrcnn import backends
from mrcnn.model import MaskRCNN

SCRIPT = Path(jax_run.__file__)
NAMES = (
    *(f"fpn_p{level}" for level in range(2, 7)),
    *("detections", "rois"),
)
OF_MATTERPORT = (*NAMES, "mrcnn_class", "mrcnn_bbox", "mrcnn_mask", "rpn_class", "rpn_bbox")
OF_TORCHVISION = (*NAMES, "masks", "probs", "deltas")

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None, reason='jax is not installed: pip install -e ".[jax]"'
)


def start(backend: str, *arguments: str) -> subprocess.CompletedProcess:
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
    }
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("weights") / "small.h5"
    MaskRCNN("inference", jax_run.StepsConfig(), path.parent).save_weights(path)
    return str(path)


@pytest.fixture(scope="module")
def under_jax(weights, tmp_path_factory) -> dict[str, np.ndarray]:
    """What JAX computes in a process that has no TensorFlow, with two devices of a processor."""
    out = tmp_path_factory.mktemp("jax") / "found.npz"
    process = start("jax", str(SCRIPT), weights, str(out))
    assert process.returncode == 0, process.stderr[-3000:]
    with np.load(out) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    return jax_run.golden()


@pytest.fixture(scope="module")
def trained(weights, tmp_path_factory) -> dict[str, np.ndarray]:
    return jax_run.training(weights, str(tmp_path_factory.mktemp("logs")), 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_MATTERPORT)
def test_outputs_are_tensorflows_for_matterports_weights(under_jax, golden, name, assert_as_golden):
    key = f"matterport {name}"
    assert_as_golden(f"JAX, {key}", under_jax[key], golden[key], 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_TORCHVISION)
def test_outputs_are_tensorflows_for_torchvisions_weights(
    under_jax, golden, name, assert_as_golden
):
    key = f"torchvision {name}"
    found, expected = under_jax[key], golden[key]
    if name == "rois":  # of equal scores but for rounding, which may change places
        nearest = np.abs(found[0][:, None] - expected[0]).max(axis=-1).argmin(axis=0)
        assert len(set(nearest.tolist())) == len(nearest)
        found = found[:, nearest]
    assert_as_golden(f"JAX, {key}", found, expected, 1e-4)


@pytest.mark.slow
def test_ten_steps_have_tensorflows_losses(under_jax, trained, assert_as_golden):
    steps = under_jax["one steps"]
    assert steps.shape == (jax_run.STEPS, 6)
    assert (steps > 0).all()
    assert_as_golden("JAX, losses of ten steps", steps, trained["steps"], 1e-3)
    assert_as_golden(
        "JAX, validation after them", under_jax["one validation"], trained["validation"], 1e-3
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["norms", "momentums", "scores"])
def test_ten_steps_leave_tensorflows_weights(under_jax, trained, name, assert_as_golden):
    assert len(trained[name]) > 2
    assert_as_golden(f"JAX, {name} after them", under_jax[f"one {name}"], trained[name], 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["steps", "norms", "momentums"])
def test_two_devices_do_what_one_does(under_jax, name, assert_as_golden):
    assert [int(under_jax[f"{count} devices"]) for count in ("one", "two")] == [1, 2]
    found, expected = under_jax[f"two {name}"], under_jax[f"one {name}"]
    assert_as_golden(f"JAX, {name} of two devices", found, expected, 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["written", "kept"])
def test_an_interruption_in_the_first_step_loses_no_weights(under_jax, name):
    assert len(under_jax[name]) > 50
    assert under_jax[name].max() == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["steps", "norms"])
def test_a_training_goes_on_inside_its_epoch(under_jax, name, assert_as_golden):
    found, expected = under_jax[f"resumed {name}"], under_jax[f"one {name}"]
    assert_as_golden(f"JAX, {name} after an interruption", found, expected, 1e-5)


@pytest.mark.slow
def test_several_threads_detect_at_once(under_jax):
    scores = under_jax["threads"]
    assert scores.shape[1] > 0
    assert (scores == scores[0]).all()


@pytest.mark.slow
def test_what_jax_does_not_have_says_so(under_jax):
    assert "KERAS_BACKEND=tensorflow for MirroredStrategy" in str(under_jax["error strategy"])
    assert "GPU_COUNT is 99, but JAX sees 2 CPU device(s)" in str(under_jax["error count"])


@pytest.mark.parametrize("name", ["torch", "mxnet"])
def test_an_unknown_backend_is_refused_on_import(name):
    process = start(name, "-c", "import mrcnn.model")
    assert process.returncode != 0
    last = process.stderr.splitlines()[-1]
    assert last.startswith(f"ValueError: the Keras backend is {name!r}")
    assert "tensorflow and jax only" in last


def test_a_backend_of_keras_settings_file_is_refused():
    with pytest.raises(ValueError, match="'numpy', but this network runs on tensorflow and jax"):
        backends.check("numpy")
