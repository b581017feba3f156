"""Nuclei in micrographs: how the weights `nuclei` that come with the package were made.

The data set (2018 Data Science Bowl, BBBC038, CC0) in COCO form is a folder with

    annotations/instances_train.json    train/*.png
    annotations/instances_val.json      val/*.png

The bundled weights are made by

    python samples/nucleus/bundled.py train --dataset DIR --logs logs
    python samples/nucleus/bundled.py export last mrcnn/assets/mask_rcnn_nuclei.h5 --logs logs
"""

import argparse
import csv
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from mrcnn.cli import common
from mrcnn.presets import SmallConfig

if TYPE_CHECKING:
    from mrcnn.data.annotated import AnnotatedDataset


class BundledConfig(SmallConfig):
    """The small network, for nuclei of 5 to 100 pixels, enlarged twice."""

    NAME = "nucleus"
    NUM_CLASSES = 2
    CLASS_NAMES = ("BG", "nucleus")
    CATEGORY_IDS = (0, 1)

    STEPS_PER_EPOCH = 100

    # Random crops of the enlarged image; detection sees the whole image at the same scale.
    IMAGE_RESIZE_MODE = "crop"
    IMAGE_MIN_DIM = 256
    IMAGE_MAX_DIM = 256
    IMAGE_MIN_SCALE = 2.0
    IMAGE_SCALE_JITTER = (0.7, 1.4)
    AUGMENTATIONS = (
        "flip_left_right",
        "rotate_quarter",
        "jitter_brightness_contrast",
        "jitter_colour",
    )

    # There are many objects in an image.
    PRE_NMS_LIMIT = 1000
    PRE_NMS_LIMIT_TRAINING = 2000
    POST_NMS_ROIS_TRAINING = 600
    POST_NMS_ROIS_INFERENCE = 800
    TRAIN_ROIS_PER_IMAGE = 96

    DETECTION_MAX_INSTANCES = 400
    DETECTION_NMS_THRESHOLD = 0.4  # nuclei overlap little

    LEARNING_RATE_IMAGES = 0  # meant as it is
    WARMUP_STEPS = 100
    LEARNING_RATE_DROPS = (30, 38)


EPOCHS = 42


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0 fine, 2 wrong use, 1 failed."""
    return common.run_command(_parser().parse_args(arguments), "bundled")


def train(options: argparse.Namespace) -> None:
    """Train from random weights, or go on with the newest run (--weights last)."""
    from mrcnn.model import MaskRCNN

    config = common.changed(BundledConfig, options)
    model = MaskRCNN("training", config, options.logs)
    if options.weights != "none":
        model.load_weights(options.weights)
    model.train(
        load(options.dataset, "train"),
        load(options.dataset, "val"),
        config.LEARNING_RATE,
        options.epochs,
        "all",
        custom_callbacks=_time_limit(options.minutes),
    )


def evaluate(options: argparse.Namespace) -> None:
    """Print the COCO scores on the validation images."""
    from mrcnn.model import MaskRCNN

    model = MaskRCNN.from_checkpoint(options.weights, model_dir=options.logs)
    model.evaluate(load(options.dataset, "val"))


def export(options: argparse.Namespace) -> None:
    """Write a checkpoint for inference only, its kernels in half precision."""
    from mrcnn.model import MaskRCNN

    # Settings of detection may be chosen after the training.
    settings = common.chosen_settings(options, {})
    model = MaskRCNN.from_checkpoint(options.weights, model_dir=options.logs, **settings)
    model.save_weights(options.output, kernel_dtype="float16")
    print(f"Wrote {options.output}, {Path(options.output).stat().st_size / 1e6:.1f} MB")


def curve(options: argparse.Namespace) -> None:
    """Score every N-th checkpoint of a run; write loss and AP over time as table and picture."""
    from mrcnn.model import MaskRCNN

    dataset = load(options.dataset, "val")
    checkpoints = sorted(Path(options.run_folder).glob("mask_rcnn_*_[0-9][0-9][0-9][0-9].h5"))
    if len(checkpoints) < options.every:
        raise ValueError(f"{options.run_folder}: fewer than {options.every} checkpoints")
    history = _history(Path(options.run_folder))
    rows = []
    chosen = checkpoints[options.every - 1 :: options.every]
    model = MaskRCNN.from_checkpoint(chosen[0])
    for path in chosen:
        model.load_weights(path, verbose=0)
        scores = model.evaluate(dataset, verbose=0)["segm"]
        minutes, loss, val_loss = history[model.epoch]
        rows.append([model.epoch, minutes, loss, val_loss, scores["AP"], scores["AP50"]])
        print(
            "epoch {:3d} {:6.1f} min  loss {:.3f} {:.3f}  AP {:.3f} AP50 {:.3f}".format(*rows[-1])
        )
    _write_curve(rows, Path(options.output))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = _command(commands, train)
    command.add_argument("--dataset", required=True, metavar="DIR")
    command.add_argument("--weights", default="none", help="none, last or a file")
    command.add_argument(
        "--epochs", type=common.positive, default=EPOCHS, help="(default: %(default)s)"
    )
    command.add_argument("--minutes", type=float, help="stop after this time")
    common.add_settings(command)

    command = _command(commands, evaluate)
    command.add_argument("--dataset", required=True, metavar="DIR")
    command.add_argument("--weights", required=True, help="nuclei, last or a file")

    command = _command(commands, export)
    command.add_argument("weights", help="last or a file")
    command.add_argument("output", metavar="OUT.h5")
    common.add_settings(command)

    command = _command(commands, curve)
    command.add_argument("run_folder", metavar="RUN", help="folder of one run, under --logs")
    command.add_argument("--dataset", required=True, metavar="DIR")
    command.add_argument(
        "--every", type=common.positive, default=5, help="epochs (default: %(default)s)"
    )
    command.add_argument("--output", required=True, metavar="OUT.png", help="and OUT.csv")
    return parser


def _command(commands: argparse._SubParsersAction, run: object) -> argparse.ArgumentParser:
    command = commands.add_parser(run.__name__, help=run.__doc__, description=run.__doc__)
    command.add_argument("--logs", default="logs", metavar="DIR", help="(default: %(default)s)")
    command.set_defaults(run=run)
    return command


def load(folder: str, subset: str) -> "AnnotatedDataset":
    """Return the images of "train" or "val"."""
    from mrcnn.data.formats.coco import load_coco

    root = Path(folder)
    return load_coco(root / "annotations" / f"instances_{subset}.json", root / subset)


def _time_limit(minutes: float | None) -> list:
    """Return the callbacks that end training after a time; the last epoch may be a short one."""
    import keras

    if minutes is None:
        return []
    end = time.monotonic() + 60 * minutes

    def stop(batch, logs):
        del batch, logs
        limit.model.stop_training = time.monotonic() > end

    limit = keras.callbacks.LambdaCallback(on_train_batch_end=stop)
    return [limit]


def _history(run: Path) -> dict[int, tuple[float, float, float]]:
    """Return minutes since the start, loss and validation loss after each epoch, from the logs."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util import tensor_util

    everything = {"tensors": 0}
    logs = {
        name: EventAccumulator(str(run / name), size_guidance=everything).Reload()
        for name in ("train", "validation")
    }
    losses = {}
    for name, log in logs.items():
        for event in log.Tensors("epoch_loss"):
            value = float(tensor_util.make_ndarray(event.tensor_proto))
            losses.setdefault(event.step + 1, {})[name] = (event.wall_time, value)
    start = min(float(path.name.split(".")[3]) for path in (run / "train").glob("events.*"))
    return {
        epoch: ((seen["train"][0] - start) / 60, seen["train"][1], seen["validation"][1])
        for epoch, seen in losses.items()
    }


def _write_curve(rows: list[list[float]], output: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    with open(output.with_suffix(".csv"), "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", "minutes", "loss", "val_loss", "mask_AP", "mask_AP50"])
        writer.writerows([[round(value, 4) for value in row] for row in rows])
    _, minutes, losses, val_losses, ap, ap50 = zip(*rows, strict=True)
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    left.plot(minutes, losses, "o-", label="training")
    left.plot(minutes, val_losses, "o-", label="validation")
    right.plot(minutes, ap50, "o-", label="mask AP50")
    right.plot(minutes, ap, "o-", label="mask AP")
    for axes, title in ((left, "Loss"), (right, "Scores on the validation images")):
        axes.set(title=title, xlabel="minutes of training", ylim=(0, None))
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    figure.savefig(output, dpi=110)


if __name__ == "__main__":
    sys.exit(main())
