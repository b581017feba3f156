"""Nuclei in micrographs, as in the 2018 Data Science Bowl: training and submission.

    python samples/nucleus/nucleus.py train --dataset=DIR --subset=train --weights=imagenet
    python samples/nucleus/nucleus.py detect --dataset=DIR --subset=stage1_test --weights=last

DIR is the competition's: stage1_train/ID/images/ID.png, stage1_train/ID/masks/*.png, and so on.
"""

import argparse
import csv
import datetime
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from mrcnn import files, visualize
from mrcnn.cli import common
from mrcnn.config import Config
from mrcnn.data.dataset import Dataset
from mrcnn.geometry import images

TRAINING_FOLDER = "stage1_train"
HELD_OUT = 10  # every tenth image of the training folder validates
STAGES = (("heads", 20), ("all", 40))


class NucleusConfig(Config):
    """Settings for many small objects, trained on random crops."""

    NAME = "nucleus"
    IMAGES_PER_GPU = 6
    NUM_CLASSES = 1 + 1
    CLASS_NAMES = ("BG", "nucleus")
    STEPS_PER_EPOCH = 100
    VALIDATION_STEPS = 10
    BACKBONE = "resnet50"
    IMAGE_RESIZE_MODE = "crop"
    IMAGE_MIN_DIM = 512
    IMAGE_MAX_DIM = 512
    IMAGE_MIN_SCALE = 2.0
    RPN_ANCHOR_SCALES = (8, 16, 32, 64, 128)
    RPN_NMS_THRESHOLD = 0.9
    RPN_TRAIN_ANCHORS_PER_IMAGE = 64
    POST_NMS_ROIS_TRAINING = 1000
    POST_NMS_ROIS_INFERENCE = 2000
    TRAIN_ROIS_PER_IMAGE = 128
    MAX_GT_INSTANCES = 200
    DETECTION_MAX_INSTANCES = 400
    DETECTION_MIN_CONFIDENCE = 0
    MEAN_PIXEL = np.array([43.53, 39.56, 48.22])
    AUGMENTATIONS = (
        "flip_left_right",
        "flip_up_down",
        "rotate_quarter",
        "jitter_brightness_contrast",
    )


class NucleusInferenceConfig(NucleusConfig):
    """The whole image at once, in its own shape."""

    GPU_COUNT = 1
    IMAGES_PER_GPU = 1
    IMAGE_RESIZE_MODE = "pad64"
    RPN_NMS_THRESHOLD = 0.7


class NucleusDataset(Dataset):
    """Micrographs of the competition."""

    def load_nucleus(self, dataset_dir: str | Path, subset: str) -> None:
        """Add the images of a subset.

        Args:
            subset: train or val, parts of stage1_train, or the name of a folder such as
                stage1_train or stage1_test.

        Raises:
            FileNotFoundError: The folder is missing.
            ValueError: It has no images.
        """
        self.add_class("nucleus", 1, "nucleus")
        is_part = subset in ("train", "val")
        folder = Path(dataset_dir) / (TRAINING_FOLDER if is_part else subset)
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: there is no such folder")
        names = sorted(path.parent.parent.name for path in folder.glob("*/images/*.png"))
        if is_part:
            held_out = set(names[HELD_OUT - 1 :: HELD_OUT] or names[-1:])
            names = [name for name in names if (name in held_out) == (subset == "val")]
        if not names:
            raise ValueError(f"{folder}: there are no images, in folders ID/images/*.png")
        for name in names:
            path = next((folder / name / "images").glob("*.png"))
            self.add_image("nucleus", name, str(path), folder=str(folder / name))

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the nuclei of an image: masks (H, W, N) bool, class_ids (N,) of 1."""
        paths = sorted(Path(self.image_info[image_id]["folder"]).glob("masks/*.png"))
        if not paths:
            return super().load_mask(image_id)
        masks = np.stack([images.read_image(path)[..., 0] > 0 for path in paths], axis=-1)
        return masks, np.ones(len(paths), np.int32)

    def image_reference(self, image_id: int) -> str:
        """Return the competition's id of the image."""
        return str(self.image_info[image_id]["id"])


def rle_encode(mask: np.ndarray) -> str:
    """Return a mask (H, W) as the competition writes it: starts and lengths, by column, from 1."""
    inside = np.concatenate([[0], np.asarray(mask).T.ravel() != 0, [0]])
    edges = np.flatnonzero(np.diff(inside)) + 1
    starts, stops = edges[::2], edges[1::2]
    return " ".join(f"{start} {stop - start}" for start, stop in zip(starts, stops, strict=True))


def rle_decode(rle: str, shape: Sequence[int]) -> np.ndarray:
    """Return the mask (H, W) bool of `rle_encode`'s text.

    Raises:
        ValueError: A run reaches beyond the shape.
    """
    numbers = np.array(rle.split(), np.int64)
    flat = np.zeros(shape[0] * shape[1], bool)
    for start, length in zip(numbers[::2] - 1, numbers[1::2], strict=True):
        if start < 0 or start + length > len(flat):
            raise ValueError(f"the run {start + 1} {length} does not fit into {tuple(shape)}")
        flat[start : start + length] = True
    return flat.reshape(shape[1], shape[0]).T


def mask_to_rle(image_id: str, mask: np.ndarray, scores: np.ndarray) -> list[tuple[str, str]]:
    """Return the rows of a submission: (image id, RLE) of each mask, best first.

    A pixel may belong to one object only: to the best of those that claim it. An image without
    objects has one row, whose RLE is empty.
    """
    rows, taken = [], np.zeros(mask.shape[:2], bool)
    for index in np.argsort(-np.asarray(scores), kind="stable"):
        free = mask[:, :, index] & ~taken
        taken |= free
        if free.any():
            rows.append((image_id, rle_encode(free)))
    return rows or [(image_id, "")]


def train(options: argparse.Namespace) -> None:
    """Train the heads, then everything, from weights of ImageNet or COCO or an older run."""
    with common.quiet_start():
        from mrcnn.model import MaskRCNN
        from mrcnn.weights.hdf5 import CLASS_LAYERS
    datasets = []
    for subset in (options.subset, "val"):
        datasets.append(NucleusDataset())
        datasets[-1].load_nucleus(options.dataset, subset)
        datasets[-1].prepare()
    config = common.changed(NucleusConfig, options)
    model = MaskRCNN("training", config, options.logs)
    model.load_weights(options.weights, exclude=CLASS_LAYERS if options.weights == "coco" else None)
    for layers, last in STAGES:
        epochs = min(last, options.epochs)
        if model.epoch < epochs:
            model.train(*datasets, config.LEARNING_RATE, epochs, layers)


def detect(options: argparse.Namespace) -> None:
    """Write a submission and a picture of every image."""
    with common.quiet_start():
        from mrcnn.model import MaskRCNN
    dataset = NucleusDataset()
    dataset.load_nucleus(options.dataset, options.subset)
    dataset.prepare()
    model = MaskRCNN("inference", common.changed(NucleusInferenceConfig, options), options.logs)
    model.load_weights(options.weights)
    folder = Path("results/nucleus") / f"submit_{datetime.datetime.now():%Y%m%dT%H%M%S}"
    rows = []
    for image_id in common.progress(dataset.image_ids):
        image, name = dataset.load_image(image_id), dataset.image_reference(image_id)
        (found,) = model.detect([image])
        rows += mask_to_rle(name, found["masks"], found["scores"])
        picture = visualize.draw_instances(image, found, dataset.class_names, show_labels=False)
        visualize.save_image(folder / f"{name}.png", picture)
    with files.replacing(folder / "submit.csv") as path, open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["ImageId", "EncodedPixels"])
        writer.writerows(rows)
    print(f"Saved to {folder}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0 fine, 2 wrong use, 1 failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = _command(commands, train)
    command.add_argument("--subset", default="train", help="(default: %(default)s)")
    command.add_argument(
        "--epochs", type=common.positive, default=STAGES[-1][1], help="(default: %(default)s)"
    )
    command = _command(commands, detect)
    command.add_argument("--subset", required=True, help="for instance stage1_test")
    return common.run_command(parser.parse_args(arguments), "nucleus")


def _command(commands: argparse._SubParsersAction, run: Callable) -> argparse.ArgumentParser:
    command = commands.add_parser(run.__name__, help=run.__doc__, description=run.__doc__)
    command.add_argument("--dataset", required=True, metavar="DIR", help="of stage1_train/ ...")
    command.add_argument("--weights", required=True, help="imagenet, coco, last or a file")
    command.add_argument("--logs", default="logs", metavar="DIR", help="(default: %(default)s)")
    common.add_settings(command)
    command.set_defaults(run=run)
    return command


if __name__ == "__main__":
    sys.exit(main())
