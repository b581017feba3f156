"""Prints as JSON the losses of three steps on one device and on two; `test_mirrored.py` runs it.

    python mirrored_run.py [train_bn]

Logical devices must be made before TensorFlow starts, so this is a process of its own.
"""

import json
import sys
import tempfile

import keras
import numpy as np
import tensorflow as tf
from small import Rectangles, SmallConfig

from mrcnn.model import MaskRCNN
from mrcnn.weights import hdf5


class BatchLosses(keras.callbacks.Callback):
    """Notes the means of the losses so far, after each step."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, float]] = []

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        del batch
        self.rows.append({name: float(value) for name, value in (logs or {}).items()})


def plain_backbone(image, stage5, train_bn):
    """Return [C1..C5] without batch norms, whose statistics take long to trace on two devices."""
    del stage5, train_bn
    stages = [image]
    for stage in range(1, 6):
        layer = keras.layers.Conv2D(8, 3, 2, "same", activation="relu", name=f"plain{stage}")
        stages.append(layer(stages[-1]))
    return stages[1:]


def run(device_count: int, folder: str, train_bn: bool) -> dict:
    config = SmallConfig().replace(
        GPU_COUNT=device_count,
        IMAGES_PER_GPU=4 // device_count,
        STEPS_PER_EPOCH=3,
        TRAIN_BN=train_bn,
        BACKBONE=plain_backbone if train_bn else SmallConfig.BACKBONE,
    )
    model, losses = MaskRCNN("training", config, folder), BatchLosses()
    history = model.train(
        Rectangles(8), Rectangles(4), 0.01, 1, "all", custom_callbacks=[losses]
    ).history
    weights = hdf5.weights_by_name(model.network.inference)
    return {
        "replicas": model.strategy.num_replicas_in_sync,
        "steps": losses.rows,
        "history": {name: values[0] for name, values in history.items()},
        "weights": {key: float(np.linalg.norm(weight)) for key, weight in weights.items()},
    }


def main() -> None:
    processor = tf.config.list_physical_devices("CPU")[0]
    devices = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(processor, devices)
    with tempfile.TemporaryDirectory() as folder:
        train_bn = "train_bn" in sys.argv
        result = [run(count, f"{folder}/{count}", train_bn) for count in (1, 2)]
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
