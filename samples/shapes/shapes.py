"""Shapes: Matterport's toy set of circles, squares and triangles, drawn on the fly.

No download and no file: every image is drawn from a short specification, so that the set is a
quick check that training works at all.

    python samples/shapes/shapes.py train
    python samples/shapes/shapes.py detect --weights last --output pictures
    python samples/shapes/shapes.py evaluate --weights last
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from skimage import draw

from mrcnn import visualize
from mrcnn.cli import common
from mrcnn.config import Config
from mrcnn.data.dataset import Dataset
from mrcnn.geometry import masks as mask_math

CLASS_NAMES = ("square", "circle", "triangle")
MAX_SHAPES = 4
MAX_OVERLAP = 0.3
MIN_CONTRAST = 48

IMAGE_SIZE = 128
TRAIN_IMAGES, VAL_IMAGES = 500, 50
TRAIN_SEED, VAL_SEED, TEST_SEED = 0, 1, 2
EPOCHS = 5
MIN_DRAWN_SCORE = 0.5
PICTURE_SCALE = 3


class ShapesConfig(Config):
    """A network of few weights that learns the shapes on a processor, from nothing."""

    NAME = "shapes"
    NUM_CLASSES = 1 + len(CLASS_NAMES)
    CLASS_NAMES = ("BG", *CLASS_NAMES)
    IMAGES_PER_GPU = 8
    STEPS_PER_EPOCH = 100
    VALIDATION_STEPS = 7
    BACKBONE = "resnet18"
    BACKBONE_WIDTH = 16
    TOP_DOWN_PYRAMID_SIZE = 64
    RPN_CONV_SIZE = 64
    FPN_CLASSIF_FC_LAYERS_SIZE = 128
    MASK_CONV_SIZE = 64
    TRAIN_BN = None  # no trained statistics to hold on to
    IMAGE_MIN_DIM = IMAGE_SIZE
    IMAGE_MAX_DIM = IMAGE_SIZE
    RPN_ANCHOR_SCALES = (8, 16, 32, 64, 128)
    RPN_TRAIN_ANCHORS_PER_IMAGE = 64
    PRE_NMS_LIMIT = 400
    POST_NMS_ROIS_TRAINING = 100
    POST_NMS_ROIS_INFERENCE = 50
    TRAIN_ROIS_PER_IMAGE = 32
    MAX_GT_INSTANCES = MAX_SHAPES
    MINI_MASK_SHAPE = (28, 28)
    DETECTION_MAX_INSTANCES = 20
    DETECTION_MIN_CONFIDENCE = 0.05
    LEARNING_RATE = 0.02
    WARMUP_STEPS = 50
    LEARNING_RATE_DROPS = (EPOCHS - 1,)


class Shape(NamedTuple):
    """One shape: its kind, its colour (R, G, B), and its centre and half side in pixels."""

    kind: str
    color: tuple[int, int, int]
    y: int
    x: int
    size: int


class ShapesDataset(Dataset):
    """Images of one to four shapes on a plain background; later shapes hide earlier ones."""

    def load_shapes(self, count: int, height: int, width: int, seed: int = 0) -> None:
        """Add `count` images of (height, width) pixels.

        Image i depends on the seed and on i only: a longer set begins with the shorter one.

        Raises:
            ValueError: if an image would be too small for a shape to be recognised.
        """
        if min(height, width) < 32:
            raise ValueError(f"height and width must be at least 32, got {height} x {width}")
        for class_id, name in enumerate(CLASS_NAMES, start=1):
            self.add_class("shapes", class_id, name)
        for image_id in range(count):
            background, shapes = random_scene(
                height, width, np.random.default_rng([seed, image_id])
            )
            self.add_image(
                "shapes",
                image_id=image_id,
                path=None,
                height=height,
                width=width,
                background=background,
                shapes=shapes,
            )

    def load_image(self, image_id: int) -> np.ndarray:
        """Return the drawing: (H, W, 3) uint8."""
        info = self.image_info[image_id]
        image = np.full((info["height"], info["width"], 3), info["background"], np.uint8)
        for shape in info["shapes"]:
            image[shape_pixels(shape, image.shape[:2])] = shape.color
        return image

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """Return what can be seen of each shape, (H, W, N) bool, and the class ids, (N,) int32.

        Shapes that are wholly hidden are left out.
        """
        info = self.image_info[image_id]
        # The number of the topmost shape at each pixel: one pass handles every occlusion.
        owner = np.full((info["height"], info["width"]), -1)
        for number, shape in enumerate(info["shapes"]):
            owner[shape_pixels(shape, owner.shape)] = number
        masks = owner[..., None] == np.arange(len(info["shapes"]))
        class_ids = [self.class_names.index(shape.kind) for shape in info["shapes"]]
        visible = masks.any(axis=(0, 1))
        return masks[..., visible], np.array(class_ids, np.int32)[visible]

    def image_reference(self, image_id: int) -> str:
        """Return the specification of the image in words."""
        return ", ".join(
            f"{shape.kind} at ({shape.y}, {shape.x})"
            for shape in self.image_info[image_id]["shapes"]
        )


def random_scene(
    height: int, width: int, rng: np.random.Generator
) -> tuple[tuple[int, int, int], list[Shape]]:
    """Return a background colour and one to four shapes that overlap little."""
    background = rng.integers(0, 256, 3)
    count = rng.integers(1, MAX_SHAPES + 1)
    shapes = [random_shape(height, width, background, rng) for _ in range(count)]
    return _color(background), _apart(shapes)


def random_shape(
    height: int, width: int, background: np.ndarray, rng: np.random.Generator
) -> Shape:
    """Return a shape that lies within the image and stands out from the background."""
    side = min(height, width)
    size = int(rng.integers(side // 12, side // 4 + 1))
    # Going round the colour circle by 48..208 leaves at least 48 between the two channels.
    steps = rng.integers(MIN_CONTRAST, 256 - MIN_CONTRAST + 1, 3)
    return Shape(
        kind=CLASS_NAMES[rng.integers(len(CLASS_NAMES))],
        color=_color((background + steps) % 256),
        y=int(rng.integers(size, height - size)),
        x=int(rng.integers(size, width - size)),
        size=size,
    )


def shape_pixels(shape: Shape, image_size: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and the columns of the pixels that a shape covers."""
    outline: dict[str, Callable[..., Any]] = {
        "square": _square,
        "circle": _circle,
        "triangle": _triangle,
    }
    return outline[shape.kind](shape, image_size)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 0, 2 for wrong use or input, 1 for a failure."""
    return common.run_command(_parser().parse_args(arguments), "shapes")


def train(options: argparse.Namespace) -> None:
    """Train from random weights or from a checkpoint, up to an epoch."""
    config = common.changed(ShapesConfig, options, STEPS_PER_EPOCH=options.steps)
    model = _network("training", config, options)
    if options.weights != "last":
        model.set_log_dir()  # a file lends its weights only: a new run begins
    model.train(
        prepared_shapes(TRAIN_IMAGES, TRAIN_SEED),
        prepared_shapes(VAL_IMAGES, VAL_SEED),
        learning_rate=config.LEARNING_RATE,
        epochs=options.epochs,
        layers="all",
    )


def detect(options: argparse.Namespace) -> None:
    """Write a picture for each of some new images: the truth on the left, what was found right."""
    model = _network("inference", common.changed(ShapesConfig, options), options)
    dataset = prepared_shapes(options.count, TEST_SEED)
    images = map(dataset.load_image, dataset.image_ids)
    for image_id, found in zip(dataset.image_ids, model.detect_each(images), strict=True):
        path = options.output / f"shapes_{image_id:04d}.png"
        visualize.save_image(path, truth_and_found(dataset, image_id, found))
        print(path)


def evaluate(options: argparse.Namespace) -> None:
    """Print the average precision on new images."""
    model = _network("inference", common.changed(ShapesConfig, options), options)
    model.evaluate(prepared_shapes(options.count, TEST_SEED))


def prepared_shapes(count: int, seed: int) -> ShapesDataset:
    """Return a dataset of `count` square images of the network's size."""
    dataset = ShapesDataset()
    dataset.load_shapes(count, IMAGE_SIZE, IMAGE_SIZE, seed)
    dataset.prepare()
    return dataset


def truth_and_found(
    dataset: ShapesDataset, image_id: int, found: visualize.Detections
) -> np.ndarray:
    """Return a picture, (H, W, 3) uint8: the true shapes on the left, detections on the right."""
    image, (masks, class_ids) = dataset.load_image(image_id), dataset.load_mask(image_id)
    truth = {"rois": mask_math.bounds(masks), "class_ids": class_ids, "masks": masks}
    left, right = (
        visualize.draw_instances(
            image,
            objects,
            dataset.class_names,
            min_score=MIN_DRAWN_SCORE,
            scale=PICTURE_SCALE,
        )
        for objects in (truth, found)
    )
    return visualize.side_by_side(left, right)


def _square(shape: Shape, image_size: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    start = (shape.y - shape.size, shape.x - shape.size)
    end = (shape.y + shape.size, shape.x + shape.size)
    return draw.rectangle(start, end=end, shape=image_size)


def _circle(shape: Shape, image_size: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    return draw.disk((shape.y, shape.x), shape.size + 0.5, shape=image_size)


def _triangle(shape: Shape, image_size: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return an equilateral triangle that stands on its base, as wide as the square."""
    rise = shape.size * np.sqrt(3) / 2
    rows = [shape.y - rise, shape.y + rise, shape.y + rise]
    columns = [shape.x, shape.x - shape.size, shape.x + shape.size]
    return draw.polygon(rows, columns, shape=image_size)


def _apart(shapes: list[Shape]) -> list[Shape]:
    """Return the shapes without those that an upper one covers too much, lowest first."""
    kept: list[Shape] = []
    for shape in reversed(shapes):
        if all(_box_iou(shape, upper) <= MAX_OVERLAP for upper in kept):
            kept.insert(0, shape)
    return kept


def _box_iou(one: Shape, other: Shape) -> float:
    """Return the overlap of the squares around two shapes."""
    rows = min(one.y + one.size, other.y + other.size) - max(one.y - one.size, other.y - other.size)
    columns = min(one.x + one.size, other.x + other.size) - max(
        one.x - one.size, other.x - other.size
    )
    overlap = max(rows, 0) * max(columns, 0)
    return overlap / (4 * one.size**2 + 4 * other.size**2 - overlap)


def _color(values: np.ndarray) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in values)
    return red, green, blue


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="A small Mask R-CNN that learns drawn squares, circles and triangles."
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    command = _command(commands, "train", train, "train the network")
    command.add_argument(
        "--weights",
        default="none",
        help="what to start from: none (random weights, the default), last (resume the "
        "newest run) or a file (a new run with its weights)",
    )
    command.add_argument(
        "--epochs",
        type=common.positive,
        default=EPOCHS,
        metavar="N",
        help="number of the last epoch, counted from the start of the run (default %(default)s)",
    )
    command.add_argument(
        "--steps",
        type=common.positive,
        default=ShapesConfig.STEPS_PER_EPOCH,
        metavar="N",
        help="steps per epoch (default %(default)s)",
    )
    command = _command(commands, "detect", detect, "write pictures: ground truth | found")
    _add_test_options(command, count=12)
    command.add_argument(
        "--output", required=True, type=Path, metavar="DIR", help="folder of the pictures"
    )
    command = _command(commands, "evaluate", evaluate, "print COCO's average precision")
    _add_test_options(command, count=100)
    return parser


def _command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], None], text: str
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=run.__doc__)
    command.set_defaults(run=run)
    command.add_argument(
        "--logs", default="logs", metavar="DIR", help="folder of the runs (default %(default)s)"
    )
    common.add_settings(command)
    return command


def _add_test_options(command: argparse.ArgumentParser, count: int) -> None:
    command.add_argument(
        "--weights", required=True, help="a checkpoint, or last (of the newest run)"
    )
    command.add_argument(
        "--count",
        type=common.positive,
        default=count,
        metavar="N",
        help="number of new images (default %(default)s)",
    )


def _network(mode: str, config: Config, options: argparse.Namespace) -> Any:
    # TensorFlow takes seconds to load, and neither --help nor the dataset needs it.
    from mrcnn.model import MaskRCNN

    model = MaskRCNN(mode, config, options.logs)
    if options.weights != "none":
        model.load_weights(options.weights)
    return model


if __name__ == "__main__":
    sys.exit(main())
