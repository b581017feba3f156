"""What several test files share."""

import json
import os
from collections.abc import Callable
from pathlib import Path

# Side by side, each worker of pytest-xdist has one core. Said before TensorFlow is imported, and
# inherited by the processes that tests start.
if "PYTEST_XDIST_WORKER" in os.environ:
    for threads in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(threads, "1")

from mrcnn import quiet_keras  # noqa: F401 (before anything else imports Keras)

# isort: split
import keras
import numpy as np
import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public data sets that lies beside the checkout of the developers."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the public data sets are not at {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def matterport_geometry() -> dict[str, np.ndarray]:
    """Matterport's own results for small inputs: resizing, boxes, mini-masks, pasting."""
    with np.load(GOLDEN / "matterport_units_geometry.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def matterport_network() -> dict[str, np.ndarray]:
    """Matterport's own results of single layers and losses, with their inputs."""
    with np.load(GOLDEN / "matterport_units_network.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def matterport_layouts() -> dict[str, dict[str, list]]:
    """Groups of weight files that Matterport wrote: backbone -> layer -> [[weight, shape], ...]."""
    return json.loads((GOLDEN / "matterport_h5_layout.json").read_text())


@pytest.fixture
def reserialized() -> Callable[[keras.layers.Layer], keras.layers.Layer]:
    """Return a layer rebuilt from its settings after a way through JSON."""

    def rebuild(layer: keras.layers.Layer) -> keras.layers.Layer:
        text = json.dumps(keras.saving.serialize_keras_object(layer))
        return keras.saving.deserialize_keras_object(json.loads(text))

    return rebuild


def run_steps_eagerly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let trainings run their steps without tracing them, which takes far longer than a few."""
    from mrcnn.training import training_model  # imports TensorFlow, whose threads are set above

    compile_model = training_model.TrainingModel.compile

    def compile_eagerly(self, *args, **options):
        compile_model(self, *args, run_eagerly=True, **options)

    monkeypatch.setattr(training_model.TrainingModel, "compile", compile_eagerly)


@pytest.fixture
def eagerly(monkeypatch):
    """Run the few training steps of a test without tracing them."""
    run_steps_eagerly(monkeypatch)


@pytest.fixture
def untrained(monkeypatch):
    """Let trainings end before they begin; return what each was asked: network, data, options."""
    from mrcnn import mask_rcnn

    calls: list[tuple] = []

    def train(self, *given):
        calls.append((self, *given))
        return keras.callbacks.History()

    monkeypatch.setattr(mask_rcnn.MaskRCNN, "train", train)
    return calls


def detect_eagerly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let networks that are made now detect without tracing, which pays for a few images."""
    from mrcnn.network.ops import backend

    def as_it_is(model: keras.Model) -> Callable:
        return lambda inputs: model(inputs, training=False)

    monkeypatch.setattr(backend, "compiled", as_it_is)


@pytest.fixture
def detecting_eagerly(monkeypatch):
    """Let the networks of a test detect in its few images without tracing."""
    detect_eagerly(monkeypatch)


DIFFERENCES = pytest.StashKey[dict[str, tuple[float, float]]]()


@pytest.fixture
def assert_as_golden(request):
    """Compare with a golden array, and have the largest difference printed at the end."""
    seen = request.config.stash.setdefault(DIFFERENCES, {})

    def compare(name: str, found: np.ndarray, expected: np.ndarray, atol: float) -> None:
        found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
        assert found.shape == expected.shape
        largest = float(np.abs(found - expected).max(initial=0))
        seen[name] = (largest, atol)
        np.testing.assert_allclose(found, expected, rtol=0, atol=atol)

    return compare


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):  # this is a worker: the summary is the controller's
        session.config.workeroutput["differences"] = session.config.stash.get(DIFFERENCES, {})


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    seen = node.config.stash.setdefault(DIFFERENCES, {})
    seen.update(getattr(node, "workeroutput", {}).get("differences", {}))


def pytest_terminal_summary(terminalreporter, config):
    seen = config.stash.get(DIFFERENCES, {})
    if seen:
        terminalreporter.section("largest differences from Matterport's and torchvision's networks")
    for name, (largest, atol) in sorted(seen.items()):
        terminalreporter.write_line(f"{name:40} {largest:.1e}   allowed {atol:.0e}")
