"""Keypoints of persons: a small network that learns COCO's 17 by heart.

    python samples/keypoints/keypoints.py train --dataset=DIR --annotations=FILE
    python samples/keypoints/keypoints.py evaluate --dataset=DIR --annotations=FILE --weights=last
    python samples/keypoints/keypoints.py draw --dataset=DIR --annotations=FILE --output=FILE

DIR has the images, FILE is COCO's person_keypoints_....json. Some dozen images are learned in an
hour on two cores; for all of COCO, load torchvision's weights (presets.TorchvisionKeypointConfig).
It also shows how to train by an optimizer of one's own.
"""

import argparse
import functools
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from PIL import Image

from mrcnn import presets, visualize
from mrcnn.cli import common
from mrcnn.data import augment
from mrcnn.data.annotated import AnnotatedDataset
from mrcnn.data.formats.coco import load_coco

if TYPE_CHECKING:
    from mrcnn.config import Config
    from mrcnn.model import MaskRCNN

EPOCHS = 80
COLUMNS, HEIGHT = 3, 400  # of the picture


class KeypointsConfig(presets.TorchvisionKeypointConfig):
    """A network small enough for two cores, trained from random weights."""

    NAME = "keypoints"
    BACKBONE = "resnet18"
    BACKBONE_WIDTH = 32
    TOP_DOWN_PYRAMID_SIZE = 64
    RPN_CONV_SIZE = 64
    RPN_ANCHOR_SCALES = (16, 32, 64, 128, 256)
    FPN_CLASSIF_FC_LAYERS_SIZE = 128
    KEYPOINT_CONV_SIZE = 64
    IMAGE_RESIZE_MODE = "square"
    IMAGE_MIN_DIM = 384
    IMAGE_MAX_DIM = 384
    IMAGES_PER_GPU = 2
    STEPS_PER_EPOCH = 60
    VALIDATION_STEPS = 0
    POST_NMS_ROIS_TRAINING = 300
    POST_NMS_ROIS_INFERENCE = 200
    TRAIN_ROIS_PER_IMAGE = 48
    ROI_POSITIVE_RATIO = 0.5
    DETECTION_MAX_INSTANCES = 30
    LEARNING_RATE = 0.001
    WARMUP_STEPS = 100
    GRADIENT_CLIP_NORM = 10.0
    TRAIN_BN = None


def load(options: argparse.Namespace) -> AnnotatedDataset:
    """Return the annotated images."""
    return load_coco(options.annotations, options.dataset)


def train(options: argparse.Namespace) -> None:
    """Train from random weights, or from those of an older run."""
    dataset = load(options)
    names = tuple(dataset.keypoint_names)
    pairs = augment.mirror_pairs(names)
    config = common.changed(
        KeypointsConfig, options, KEYPOINT_NAMES=names, KEYPOINT_PAIRS=pairs, CLASS_NAMES=()
    )
    model = new_network(config, options)
    if options.weights:
        model.load_weights(options.weights)
        model.set_log_dir()
    model.train(dataset, None, config.LEARNING_RATE, options.epochs, "all")


def new_network(config: "Config", options: argparse.Namespace) -> "MaskRCNN":
    """Return a network that Adam trains, at a rate that falls with the cosine to nothing.

    Eight convolutions without batch norm learn slowly by SGD.
    """
    with common.quiet_start():
        import keras

        from mrcnn.model import MaskRCNN

    class ByAdam(MaskRCNN):
        def compile(self, learning_rate: float, momentum: float) -> None:
            del momentum
            rate = keras.optimizers.schedules.CosineDecay(
                0.1 * learning_rate,
                options.epochs * config.STEPS_PER_EPOCH,
                warmup_target=learning_rate,
                warmup_steps=config.WARMUP_STEPS,
            )
            norm = config.GRADIENT_CLIP_NORM
            self.training_model.compile(keras.optimizers.Adam(rate, global_clipnorm=norm))

    return ByAdam("training", config, options.logs)


def evaluate(options: argparse.Namespace) -> None:
    """Print COCO's scores of boxes and keypoints."""
    model, dataset = _network(options), load(options)
    model.evaluate(dataset)


def draw(options: argparse.Namespace) -> None:
    """Write a picture of some images with the skeletons that were found."""
    model, dataset = _network(options), load(options)
    drawn = []
    for image_id in options.images or dataset.image_ids[:COLUMNS]:
        image = dataset.load_image(image_id)
        found = common.at_least(model.detect([image])[0], options.min_score)
        image = visualize.draw_keypoints(
            image,
            found["keypoints"],
            dataset.keypoint_names,
            min_score=options.min_keypoint_score,
        )
        width = round(HEIGHT * image.shape[1] / image.shape[0])
        drawn.append(np.asarray(Image.fromarray(image).resize((width, HEIGHT))))
    rows = [drawn[first : first + COLUMNS] for first in range(0, len(drawn), COLUMNS)]
    rows = [functools.reduce(visualize.side_by_side, row) for row in rows]
    visualize.save_image(options.output, visualize.stack(rows))
    print(f"Saved to {options.output}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0 fine, 2 wrong use, 1 failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for run in (train, evaluate, draw):
        command = commands.add_parser(run.__name__, help=run.__doc__, description=run.__doc__)
        command.add_argument("--dataset", required=True, metavar="DIR", help="of images")
        command.add_argument("--annotations", required=True, metavar="FILE")
        command.add_argument("--logs", default="logs", metavar="DIR", help="(default: %(default)s)")
        common.add_settings(command)
        command.set_defaults(run=run)
        if run is train:
            command.add_argument("--weights", help="last or a file, to start from")
            command.add_argument("--epochs", type=common.positive, default=EPOCHS)
        else:
            command.add_argument("--weights", default="last", help="(default: %(default)s)")
        if run is draw:
            command.add_argument("--output", required=True, metavar="FILE")
            command.add_argument(
                "--images", type=int, nargs="+", metavar="N", help="places in the set"
            )
            command.add_argument("--min-score", type=common.fraction, default=0.7)
            command.add_argument(
                "--min-keypoint-score",
                type=float,
                default=15.0,
                help="logit of the best cell; of keypoints that are out of sight it is low",
            )
    return common.run_command(parser.parse_args(arguments), "keypoints")


def _network(options: argparse.Namespace) -> object:
    with common.quiet_start():
        from mrcnn.model import MaskRCNN
    settings = dict(common.chosen_settings(options, {}))
    return MaskRCNN.from_checkpoint(options.weights, model_dir=options.logs, **settings)


if __name__ == "__main__":
    sys.exit(main())
