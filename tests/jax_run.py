"""Runs what `test_jax.py` compares, on the backend of the process; as a script, on JAX.

The backend is chosen when Keras is imported, so JAX has a process of its own, in which TensorFlow
cannot be imported:

    KERAS_BACKEND=jax python jax_run.py WEIGHTS OUT.npz

Every function returns arrays by name.
"""

import contextlib
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

if __name__ == "__main__":
    sys.modules["tensorflow"] = None  # type: ignore[assignment]

import keras
import numpy as np
import test_golden_matterport
import test_golden_torchvision
from small import Rectangles, SmallConfig, make_find_objects

from mrcnn.model import MaskRCNN
from mrcnn.weights import hdf5

STEPS = 10
Arrays = dict[str, np.ndarray]


class StepsConfig(SmallConfig):
    STEPS_PER_EPOCH = STEPS
    TRAIN_BN = False
    # Reached in every one of the steps.
    GRADIENT_CLIP_NORM = 1.0


class BatchLosses(keras.callbacks.Callback):
    """Notes the losses of each step."""

    def __init__(self) -> None:
        super().__init__()
        self.means: list[list[float]] = []

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        assert batch == len(self.means)
        self.means.append([float(logs[name]) for name in sorted(logs)])

    def of_steps(self) -> np.ndarray:
        """Return the losses: (steps, losses); Keras tells the means of those so far."""
        count = np.arange(1, len(self.means) + 1)[:, None]
        return np.diff(np.array(self.means) * count, axis=0, prepend=0)


def golden() -> Arrays:
    """Return the outputs of a network of Matterport's and of torchvision's conventions."""
    found, _, _ = test_golden_matterport.outputs("resnet50", 0, Path("logs"))
    whole = test_golden_torchvision.Whole("maskrcnn_resnet50_fpn").outputs
    return {
        **{f"matterport {name}": array for name, array in found.items()},
        **{f"torchvision {name}": array for name, array in whole.items()},
    }


def training(weights: str, folder: str, devices: int) -> Arrays:
    """Return the losses of a training's steps and its weights.

    With one device, validation's losses and the scores of detections, too: each is a program that
    JAX compiles.
    """
    config = StepsConfig().replace(GPU_COUNT=devices, IMAGES_PER_GPU=2 // devices)
    model, losses = MaskRCNN("training", config, folder), BatchLosses()
    model.load_weights(weights, verbose=0)
    validation = Rectangles(4) if devices == 1 else None
    history = model.train(
        Rectangles(6), validation, 0.002, 1, "all", custom_callbacks=[losses]
    ).history
    names = sorted(name for name in history if name.startswith("val_"))
    norms = {
        key: np.linalg.norm(weight)
        for key, weight in hdf5.weights_by_name(model.inference_model).items()
    }
    state = hdf5.read_optimizer(Path(model.checkpoint_path.format(epoch=1)))
    weight = model.training_model.trainable_variables[0].value
    found = {
        "devices": np.array(len(weight.sharding.device_set) if hasattr(weight, "sharding") else 1),
        "steps": losses.of_steps(),
        "validation": np.array([history[name][0] for name in names]),
        "norms": np.array([norms[key] for key in sorted(norms)]),
        "momentums": np.array([np.linalg.norm(state[key]) for key in sorted(state)]),
    }
    if devices == 1:
        make_find_objects(model.network)
        found["scores"] = model.detect([Rectangles().load_image(0)])[0]["scores"]
    return found


def interrupted(weights: str, folder: str) -> Arrays:
    """Return how far a network is from its weights after Ctrl-C in the first step, and its file."""
    model = MaskRCNN("training", StepsConfig(), folder)
    model.load_weights(weights, verbose=0)
    expected = hdf5.read(Path(weights))

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    model.training_model.compute_loss = interrupt
    with contextlib.suppress(KeyboardInterrupt):
        model.train(Rectangles(6), None, 0.002, 1, "all")
    (path,) = Path(model.log_dir).glob("*_interrupted.h5")
    written, kept = hdf5.read(path), hdf5.weights_by_name(model.inference_model)
    return {
        "written": np.array([np.abs(written[key] - expected[key]).max() for key in expected]),
        "kept": np.array([np.abs(np.asarray(kept[key]) - expected[key]).max() for key in kept]),
    }


class InterruptAfter(keras.callbacks.Callback):
    """Presses Ctrl-C after some steps."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        del logs
        if batch + 1 == self.steps:
            raise KeyboardInterrupt


def resumed(weights: str, folder: str) -> Arrays:
    """Return losses and norms of a training that is interrupted in its epoch and goes on."""
    config, losses = StepsConfig().replace(GPU_COUNT=1, IMAGES_PER_GPU=2), BatchLosses()
    model = MaskRCNN("training", config, folder)
    model.load_weights(weights, verbose=0)
    callbacks = [losses, InterruptAfter(4)]
    with contextlib.suppress(KeyboardInterrupt):
        model.train(Rectangles(6), None, 0.002, 1, "all", custom_callbacks=callbacks)
    model = MaskRCNN("training", config, folder)
    model.load_weights("last", verbose=0)
    model.train(Rectangles(6), None, 0.002, 1, "all", custom_callbacks=[losses])
    found = hdf5.weights_by_name(model.inference_model)
    return {
        "resumed steps": losses.of_steps(),
        "resumed norms": np.array([np.linalg.norm(found[key]) for key in sorted(found)]),
    }


def in_threads() -> Arrays:
    """Return the scores of an image that several threads detect in at once: (16, D)."""
    model = MaskRCNN("inference", SmallConfig(), "logs")
    make_find_objects(model.network)
    image = Rectangles().load_image(0)
    with ThreadPoolExecutor(4) as executor:
        found = executor.map(lambda _: model.detect([image])[0]["scores"], range(16))
        return {"threads": np.stack(list(found))}


def errors() -> Arrays:
    """Return the messages of what JAX does not have."""
    devices = MaskRCNN("inference", SmallConfig(), "logs").strategy
    messages = {}
    for name, ask in (
        ("strategy", lambda: devices.run(print)),
        ("count", lambda: MaskRCNN("training", SmallConfig().replace(GPU_COUNT=99), "logs")),
    ):
        try:
            ask()
        except (AttributeError, ValueError) as error:
            messages[f"error {name}"] = np.array(str(error))
    return messages


def main(weights: str, out: str) -> None:
    folder = str(Path(out).parent / "logs")
    one, two = (training(weights, f"{folder}{count}", count) for count in (1, 2))
    np.savez(
        out,
        **errors(),
        **interrupted(weights, f"{folder}3"),
        **resumed(weights, f"{folder}4"),
        **in_threads(),
        **{f"one {name}": array for name, array in one.items()},
        **{f"two {name}": array for name, array in two.items()},
        **golden(),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
