"""A training whose learning rate is a thousandfold from step 50 on, beside an undisturbed one.

    python benchmarks/recovery.py DATASET LOGS [--epochs 10] [--side 192]

Both train the network of `--preset small` on the same images in the same order; the disturbed one
diverges, goes back and trains on. Prints the mask and box AP on the validation images of both.
"""

import argparse
import logging
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras

from mrcnn.data import splits
from mrcnn.data.formats import load_dataset
from mrcnn.mask_rcnn import MaskRCNN
from mrcnn.presets import SmallConfig, scheduled
from mrcnn.training.options import Options
from mrcnn.weights.hdf5 import CLASS_LAYERS

FACTOR, STEP, STEPS = 1000.0, 50, 50


class Disturbance(keras.callbacks.Callback):
    """Multiplies the learning rate from a step on, until the training goes back."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step
        self.factor: keras.Variable | None = None

    def disturb(self, optimizer: keras.optimizers.Optimizer) -> None:
        """Let an optimizer's rate be multiplied by a factor, which is 1 at first."""
        self.factor = keras.Variable(1.0, trainable=False, name="factor")
        optimizer._learning_rate = _Multiplied(optimizer._learning_rate, self.factor)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Disturb once, after the step."""
        del batch, logs
        if int(self.model.optimizer.iterations) == self.step:
            self.factor.assign(FACTOR)
            self.step = -1


class _Multiplied(keras.optimizers.schedules.LearningRateSchedule):
    def __init__(self, inner: Any, factor: keras.Variable) -> None:
        self.inner, self.factor = inner, factor

    def __call__(self, step: Any) -> Any:
        return self.inner(step) * self.factor


def train(dataset: str, logs: Path, epochs: int, side: int, step: int) -> dict[str, Any]:
    """Train and score; return the scores.

    Args:
        step: After which the rate is disturbed; 0: never.
    """
    whole = load_dataset(dataset)
    parts = splits.split(whole)
    training, validation = (splits.part_of(whole, parts[part]) for part in ("train", "val"))
    config = SmallConfig().replace(
        NAME="recovery",
        NUM_CLASSES=whole.num_classes,
        CLASS_NAMES=tuple(whole.class_names),
        IMAGE_MIN_DIM=side,
        IMAGE_MAX_DIM=side,
        STEPS_PER_EPOCH=STEPS,
        VALIDATION_STEPS=0,
        **scheduled(epochs, STEPS),
    )
    model = MaskRCNN(config, logs / str(step))
    model.load("nuclei", exclude=CLASS_LAYERS)
    model.run.begin()
    callback = Disturbance(step)
    trainer = model.trainer

    def compile_disturbed(rate: float, momentum: float) -> None:
        trainer.compile_sgd(rate, momentum)
        callback.disturb(trainer.model.optimizer)

    trainer.compile = compile_disturbed
    model.train(training, None, Options(config.learning_rate, epochs, keep=1, callbacks=[callback]))
    return model.evaluate(validation)


def main() -> None:
    """Train twice and print the table."""
    logging.basicConfig()
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("dataset")
    parser.add_argument("logs", type=Path)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--side", type=int, default=192)
    options = parser.parse_args()
    for name, step in (("undisturbed", 0), ("disturbed", STEP)):
        scores = train(options.dataset, options.logs, options.epochs, options.side, step)
        figures = [
            f"{kind} {figure} {scores[kind][figure]:.3f}"
            for kind in ("segm", "bbox")
            for figure in ("AP", "AP50")
        ]
        print(f"{name}: {', '.join(figures)}", flush=True)


if __name__ == "__main__":
    main()
