"""Balloon: one's own objects, outlined in VIA, from a training to a colour splash.

Annotate some dozen photographs with VGG Image Annotator, save the project as JSON beside them, as
train/via_region_data.json and val/via_region_data.json, and

    python samples/balloon/balloon.py train --dataset=DIR --weights=coco
    python samples/balloon/balloon.py splash --weights=last --image=FILE_OR_URL
    python samples/balloon/balloon.py splash --weights=last --video=FILE_OR_URL
"""

import argparse
import datetime
import os
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import cv2
import numpy as np

from mrcnn import visualize
from mrcnn.cli import common
from mrcnn.config import Config
from mrcnn.data.dataset import Dataset
from mrcnn.data.formats.via import load_via
from mrcnn.geometry import images

EPOCHS = 30


class BalloonConfig(Config):
    """Settings for a class of its own, from the weights of COCO."""

    NAME = "balloon"
    IMAGES_PER_GPU = 2
    NUM_CLASSES = 1 + 1
    CLASS_NAMES = ("BG", "balloon")
    STEPS_PER_EPOCH = 100
    DETECTION_MIN_CONFIDENCE = 0.9


class BalloonDataset(Dataset):
    """Photographs with balloons."""

    def load_balloon(self, dataset_dir: str | Path, subset: str) -> None:
        """Add the images of a subset, "train" or "val", outlined in its via_region_data.json."""
        annotations = Path(dataset_dir) / subset / "via_region_data.json"
        self.add_dataset("balloon", load_via(annotations, class_names=["balloon"]))

    def image_reference(self, image_id: int) -> str:
        """Return the path of the image."""
        return self.image_info[image_id]["path"]


def color_splash(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the image in grey but where there is an object: (H, W, 3), (H, W, N) -> (H, W, 3)."""
    luminance = image @ np.array([0.299, 0.587, 0.114])  # Rec. 601
    splash = np.repeat(np.rint(luminance).astype(np.uint8)[..., None], 3, axis=-1)
    inside = mask.any(axis=-1)
    splash[inside] = image[inside]
    return splash


def train(options: argparse.Namespace) -> None:
    """Train the heads on balloons, from weights of COCO or ImageNet or an older run."""
    with common.quiet_start():
        from mrcnn.model import MaskRCNN
        from mrcnn.weights.hdf5 import CLASS_LAYERS
    datasets = []
    for subset in ("train", "val"):
        datasets.append(BalloonDataset())
        datasets[-1].load_balloon(options.dataset, subset)
        datasets[-1].prepare()
    config = common.changed(BalloonConfig, options)
    model = MaskRCNN("training", config, options.logs)
    model.load_weights(options.weights, exclude=CLASS_LAYERS if options.weights == "coco" else None)
    model.train(*datasets, config.LEARNING_RATE, options.epochs, "heads")


def splash(options: argparse.Namespace) -> None:
    """Write an image or a video in which only the balloons are in colour."""
    if bool(options.image) == bool(options.video):
        raise ValueError("splash needs --image or --video, one of them")
    with common.quiet_start():
        from mrcnn.model import MaskRCNN
    config = common.changed(BalloonConfig, options, GPU_COUNT=1, IMAGES_PER_GPU=1)
    model = MaskRCNN("inference", config, options.logs)
    model.load_weights(options.weights)

    def splashed(image: np.ndarray) -> np.ndarray:
        return color_splash(image, model.detect([image])[0]["masks"])

    name = f"splash_{datetime.datetime.now():%Y%m%dT%H%M%S}"
    with tempfile.TemporaryDirectory() as folder:
        source = _local(options.image or options.video, Path(folder))
        if options.image:
            output = Path(f"{name}.png")
            visualize.save_image(output, splashed(images.read_image(source)))
        else:
            output = Path(f"{name}.avi")
            _splash_video(source, output, splashed)
    print(f"Saved to {output}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0 fine, 2 wrong use, 1 failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = _command(commands, train)
    command.add_argument("--dataset", required=True, metavar="DIR", help="of train/ and val/")
    command.add_argument(
        "--epochs", type=common.positive, default=EPOCHS, help="(default: %(default)s)"
    )
    command = _command(commands, splash)
    command.add_argument("--image", metavar="FILE_OR_URL")
    command.add_argument("--video", metavar="FILE_OR_URL")
    return common.run_command(parser.parse_args(arguments), "balloon")


def _command(commands: argparse._SubParsersAction, run: Callable) -> argparse.ArgumentParser:
    command = commands.add_parser(run.__name__, help=run.__doc__, description=run.__doc__)
    command.add_argument("--weights", required=True, help="coco, imagenet, last or a file")
    command.add_argument("--logs", default="logs", metavar="DIR", help="(default: %(default)s)")
    common.add_settings(command)
    command.set_defaults(run=run)
    return command


def _local(source: str, folder: Path) -> Path:
    """Return the path of a file, downloaded into a folder if it is an address.

    Raises:
        FileNotFoundError: There is no such file.
        OSError: The download fails.
    """
    if not source.startswith(("http://", "https://")):
        if not Path(source).is_file():
            raise FileNotFoundError(f"{source}: there is no such file")
        return Path(source)
    path = folder / (Path(source.partition("?")[0]).name or "download")
    urllib.request.urlretrieve(source, path)
    return path


def _frames(capture: Any) -> Iterator[np.ndarray]:
    while True:
        is_read, frame = capture.read()
        if not is_read:
            return
        yield frame


def _splash_video(source: Path, output: Path, splashed: Callable) -> None:
    """Write a video of which each frame is splashed.

    Raises:
        ValueError: The video cannot be read.
    """
    capture = cv2.VideoCapture(str(source))
    size = tuple(int(capture.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, 4))
    if not capture.isOpened() or not all(size):
        raise ValueError(f"{source}: cannot be read as a video")
    # A container without a rate says 0 or nan.
    rate = capture.get(cv2.CAP_PROP_FPS)
    count = max(int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0) or None
    writer = cv2.VideoWriter(
        str(output), cv2.VideoWriter_fourcc(*"MJPG"), rate if rate > 0 else 25, size
    )
    try:
        for frame in common.progress(_frames(capture), unit="frame", total=count):
            writer.write(splashed(frame[..., ::-1])[..., ::-1])
    finally:
        capture.release()
        writer.release()


if __name__ == "__main__":
    sys.exit(main())
