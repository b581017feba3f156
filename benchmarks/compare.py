"""Seconds of what users wait for: ours, and torchvision's where it is installed, in one run.

    python benchmarks/compare.py                          # everything: a quarter of an hour
    python benchmarks/compare.py --only paste start       # some rows
    python benchmarks/compare.py --json before.json       # to compare with a later run

`pip install -e ".[bench]"` installs torch and torchvision beside it. The sides of a row take turns
(A B A B ...) on the same inputs, the networks with the same weights; the figure to quote is the
ratio of the medians, in the last column. Seconds of two machines, or of one machine with something
else running (see its load), do not compare.

    start      new processes: what an import and a command cost before they do anything
    paste      a hundred masks of 28 x 28 brought to the size of the image
    results    what `mrcnn detect` does with sixty objects in 24 megapixels, before it draws them
    score      COCO's scores of masks and boxes, against pycocotools
    batch      reading, resizing, flipping and mini-masks in one thread: seconds an image of one
               core; --coco FOLDER takes COCO's own images
    targets    which anchors of an input of 1024 x 1024 learn from a hundred rows, most of padding
    forward    the network alone on one image of 1024 x 1024, without resizing and pasting, beside
               a product of two matrices: the share of its rate that the network reaches
    detect     all that an image takes, to masks of its size
    train      one step: forward, losses, gradients of all layers, update; data are ready

Weights are random: time does not depend on what they have learnt, but on how many boxes there are,
so those are given.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import machine
import numpy as np
import peers
import workloads

from mrcnn.geometry import pasting

ROOT = Path(__file__).resolve().parents[1]
NUM_MASKS = 100
PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16"}


@dataclass
class Row:
    """What is measured: its sides, and by which of them the others are divided.

    Attributes:
        sides: label -> one run.
        share: what a run's seconds are divided by.
        basis: the sides with which the others are compared, best first; of those that there are.
        operations: of a run of each side, where they are counted.
        dtypes: in which each side that has operations computes.
    """

    label: str
    sides: dict[str, Callable[[], Any]]
    share: int = 1
    basis: str = ""
    operations: dict[str, float] = field(default_factory=dict)
    dtypes: dict[str, str] = field(default_factory=dict)


def main() -> None:
    """Measure, print the table and write the JSON file."""
    options = _parser().parse_args()
    about = machine.description()
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    if not peers.is_there():
        print('torchvision is not installed (pip install -e ".[bench]"): ours alone')
    print(f"\n{'what':44} {'side':26} {'median s':>9} {'least s':>8} {'GFLOP/s':>8}  ratio")
    rows = []
    for name in options.only or ROWS:
        for row in ROWS[name](options):
            seconds = measure(row, options.repeats)
            rows.append({"name": name, **report(row, seconds)})
    if options.json:
        options.json.write_text(json.dumps({"machine": about, "rows": rows}, indent=1))


def measure(row: Row, repeats: int) -> dict[str, list[float]]:
    """Return the seconds of each side, which take turns, after one run that is not counted."""
    for run in row.sides.values():
        run()
    seconds: dict[str, list[float]] = {side: [] for side in row.sides}
    for _ in range(repeats):
        for side, run in row.sides.items():
            started = time.perf_counter()
            run()
            seconds[side].append((time.perf_counter() - started) / row.share)
    return seconds


def report(row: Row, seconds: dict[str, list[float]]) -> dict[str, Any]:
    """Print a row and return it for the JSON file."""
    medians = {side: statistics.median(times) for side, times in seconds.items()}
    rates = {side: row.operations[side] / medians[side] / 1e9 for side in row.operations}
    basis = medians.get(row.basis)
    for number, (side, median) in enumerate(medians.items()):
        notes = []
        if basis and side != row.basis and not side.startswith("matrices"):
            notes.append(f"{basis / median:.2f} x {row.basis}")
        product = f"matrices, {row.dtypes.get(side)}"
        if product in rates and side != product:
            notes.append(f"{rates[side] / rates[product]:.0%} of {product}")
        rate = f"{rates[side]:8.0f}" if side in rates else " " * 8
        print(
            f"{row.label if number == 0 else '':44} {side:26} {median:9.4f} "
            f"{min(seconds[side]):8.4f} {rate}  {', '.join(notes)}",
            flush=True,
        )
    return {
        "label": row.label,
        "basis": row.basis,
        "medians": medians,
        "rates": rates,
        "operations": row.operations,
        "seconds": seconds,
    }


def start_rows(_: argparse.Namespace) -> Iterator[Row]:
    """Yield the starts of new processes, TensorFlow's own import for comparison."""
    help_code = "import sys; sys.argv = ['mrcnn', '--help']; from mrcnn.cli import main; main()"
    codes = {
        "python -c pass": "pass",
        "import tensorflow, keras": "import tensorflow, keras",
        "import mrcnn.model": "import mrcnn.model",
        "mrcnn --help": help_code,
    }
    sides = {side: lambda code=code: _in_new_process(code) for side, code in codes.items()}
    yield Row("a new process", sides, basis="import tensorflow, keras")


def paste_rows(_: argparse.Namespace) -> Iterator[Row]:
    """Yield the same hundred masks pasted into a small and a large image."""
    rng = np.random.default_rng(0)
    probabilities = rng.random((NUM_MASKS, 28, 28), np.float32)
    low = rng.uniform(0, 0.7, (NUM_MASKS, 2))
    corners = np.concatenate([low, low + rng.uniform(0.05, 0.3, (NUM_MASKS, 2))], axis=1)
    for megapixels, shape in ((1, (1000, 1000)), (12, (3000, 4000))):
        boxes = (corners * np.tile(shape, 2)).astype(np.int32)
        arguments = (probabilities, boxes, shape)
        sides = {
            "arrays": lambda arguments=arguments: pasting.paste(*arguments),
            "run lengths": lambda arguments=arguments: pasting.paste_rle(*arguments),
        }
        if peers.is_there():
            sides["torchvision"] = peers.pasting(*arguments)
        label = f"paste {NUM_MASKS} masks, {megapixels} megapixels"
        yield Row(label, sides, basis="torchvision")


def results_rows(_: argparse.Namespace) -> Iterator[Row]:
    """Yield sixty round objects pasted, filtered by score and written in COCO's results form."""
    from mrcnn.cli import common
    from mrcnn.evaluation import coco

    rng, shape, count = np.random.default_rng(0), (4000, 6000), 60
    y, x = np.mgrid[:28, :28] - 13.5
    disc = np.clip(1.2 - np.hypot(y, x) / 14, 0, 1).astype(np.float32)
    corners = rng.uniform(0, 3200, (count, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(100, 800, (count, 2))], axis=1)
    found = {"rois": boxes, "class_ids": np.ones(count, int), "scores": rng.random(count)}

    def written(paste: Callable[..., Any]) -> list[dict[str, Any]]:
        masks = paste(np.tile(disc, (count, 1, 1)), boxes, shape)
        shown = common.at_least({**found, "masks": masks}, 0.1)
        return coco.to_results(shown, 1, [None, 1])

    sides = {
        "run lengths": lambda: written(pasting.paste_rle),
        "arrays": lambda: written(pasting.paste),
    }
    yield Row(f"results of {count} objects, 24 megapixels", sides, basis="arrays")


def score_rows(_: argparse.Namespace) -> Iterator[Row]:
    """Yield COCO's scores of 500 images with 15 detections of 80 classes each, by two engines."""
    from mrcnn.evaluation import coco

    truth, results = workloads.found_ellipses(500, 15)
    coco_gt = coco.ground_truth(truth)
    sides = {
        "ours": lambda: coco.score(coco_gt, results),
        "pycocotools": lambda: workloads.by_pycocotools(coco_gt, results),
    }
    yield Row(f"score {len(results)} detections", sides, basis="pycocotools")


def batch_rows(options: argparse.Namespace) -> Iterator[Row]:
    """Yield images brought to 1024 x 1024: COCO's where they are given, else drawn ones."""
    import cv2

    cv2.setNumThreads(1)
    config = workloads.BatchConfig()
    dataset, what = workloads.coco_or_ellipses(options.coco)
    sides, count = {}, max(dataset.num_images // config.BATCH_SIZE, 1)
    for workers in (0, 2):
        batches = iter(workloads.stream(config, dataset, workers=workers))
        side = f"{workers} threads" if workers else "1 thread"
        # Whole passes: what an image costs depends on its size and its objects.
        sides[side] = lambda batches=batches: [next(batches) for _ in range(count)]
    yield Row(f"an image of 1024 x 1024, {what}", sides, share=count * config.BATCH_SIZE)


def target_rows(_: argparse.Namespace) -> Iterator[Row]:
    """Yield targets of the RPN for few and many objects, and the IoU of all pairs at once."""
    import tensorflow as tf

    from mrcnn.config import Config
    from mrcnn.geometry import boxes as box_math
    from mrcnn.network import network
    from mrcnn.network.rpn import targets as rpn_targets

    config = Config.from_dict({"NAME": "targets", "NUM_CLASSES": 2})
    anchors = network.pixel_anchors(config, (1024, 1024)).astype(np.float32)
    rng = np.random.default_rng(0)

    @tf.function
    def targets(class_ids: tf.Tensor, boxes: tf.Tensor) -> Any:
        seeds = tf.zeros(1, tf.int32)
        settings = {"anchors_per_image": 256, "std_dev": [0.1, 0.1, 0.2, 0.2]}
        return rpn_targets.targets(anchors, class_ids, boxes, seeds, **settings)

    @tf.function
    def all_pairs(boxes: tf.Tensor) -> Any:
        overlaps = box_math.iou(tf.constant(anchors)[None], boxes, keras.ops)
        best = tf.reduce_max(overlaps, axis=1, keepdims=True)
        return tf.argmax(overlaps, axis=2), tf.reduce_any(overlaps == best, axis=2)

    for count in (3, 100):
        low = rng.uniform(0, 900, (1, 100, 2))
        boxes = np.concatenate([low, low + rng.uniform(10, 124, low.shape)], axis=2)
        boxes[:, count:] = 0
        class_ids = tf.constant((np.arange(100) < count).astype(np.int32)[None])
        arrays = tf.constant(boxes, tf.float32)
        sides = {
            "object by object, with the sample": lambda a=class_ids, b=arrays: targets(a, b),
            "IoU of all pairs": lambda b=arrays: all_pairs(b),
        }
        yield Row(
            f"targets of {len(anchors)} anchors, {count} objects", sides, basis="IoU of all pairs"
        )


def forward_rows(options: argparse.Namespace) -> Iterator[Row]:
    """Yield forward passes of one image of 1024 x 1024."""
    del options
    pixels = np.random.default_rng(0).integers(0, 256, (1024, 1024, 3), np.uint8)
    for backbone in ("resnet50", "resnet101"):
        yield _forward_row(backbone, pixels)


def detect_rows(options: argparse.Namespace) -> Iterator[Row]:
    """Yield all that one image of 1024 x 1024 takes, from its pixels to its masks."""
    del options
    pixels = np.random.default_rng(0).integers(0, 256, (1024, 1024, 3), np.uint8)
    peer = _peer("resnet50", 1024)
    sides = {}
    for name, precision in PRECISIONS.items():
        model = _model("resnet50", precision, peer)
        sides[f"ours, {name}"] = lambda model=model: model.detect([pixels])
        if peer:
            sides[f"torchvision, {name}"] = peer.detect(pixels, bfloat16=name == "bfloat16")
    yield Row("detect, resnet50", sides, basis="torchvision, float32")


def train_rows(options: argparse.Namespace) -> Iterator[Row]:
    """Yield a training step of two images of 512 x 512 with eight objects each."""
    del options
    from mrcnn.model import MaskRCNN

    batch = workloads.one_batch(workloads.TrainConfig(), 8, 512)
    peer = _peer("resnet50", 512)
    sides = {}
    for name, precision in PRECISIONS.items():
        model = MaskRCNN("training", workloads.TrainConfig().replace(PRECISION=precision), "logs")
        if peer:
            peer.hand_weights_to(model)
        model.set_trainable("all", verbose=0)
        model.compile(learning_rate=1e-5, momentum=0.9)  # which leaves random weights finite
        step = model.training_model.train_on_batch
        sides[f"ours, {name}"] = lambda step=step: step(batch)
        if peer:
            sides[f"torchvision, {name}"] = peer.train(
                *workloads.unpadded(batch), bfloat16=name == "bfloat16"
            )
    yield Row("train, resnet50, 2 x 512 x 512, 8 objects", sides, basis="torchvision, float32")


ROWS: dict[str, Callable[[argparse.Namespace], Iterator[Row]]] = {
    "start": start_rows,
    "paste": paste_rows,
    "results": results_rows,
    "score": score_rows,
    "batch": batch_rows,
    "targets": target_rows,
    "forward": forward_rows,
    "detect": detect_rows,
    "train": train_rows,
}


def _forward_row(backbone: str, pixels: np.ndarray) -> Row:
    peer = _peer(backbone, pixels.shape[0])
    sides, operations, dtypes = {}, {}, {}
    for name, precision in PRECISIONS.items():
        model = _model(backbone, precision, peer)
        molded, meta = model.predictor.mold(pixels)
        inputs = [a[None] for a in (molded, meta, model.predictor.anchors(molded.shape[:2]))]
        run = model.predictor.run
        with machine.counted(run.model) as count:
            found = run.model(inputs)
        label = f"forward, {backbone}, {int((np.asarray(found['detections'])[..., 4] > 0).sum())}"
        sides[f"ours, {name}"] = lambda run=run, inputs=inputs: run(inputs)
        if peer:
            sides[f"torchvision, {name}"] = peer.forward(pixels, bfloat16=name == "bfloat16")
        product = f"matrices, {name}"
        sides[product], operations[product] = machine.matrix_product(name)
        operations[f"ours, {name}"] = count["operations"]
        dtypes[f"ours, {name}"] = name
    return Row(f"{label} detections", sides, 1, "torchvision, float32", operations, dtypes)


def _peer(backbone: str, side: int) -> "peers.Torchvision | None":
    if not peers.is_there():
        return None
    return peers.Torchvision(backbone, side, workloads.NUM_CLASSES, box_score_thresh=0.0)


def _model(backbone: str, precision: str, peer: "peers.Torchvision | None") -> Any:
    from mrcnn.model import MaskRCNN

    config = workloads.ForwardConfig().replace(BACKBONE=backbone, PRECISION=precision)
    model = MaskRCNN("inference", config, "logs")
    if peer:
        peer.hand_weights_to(model)
    return model


def _in_new_process(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=ROWS, metavar="NAME", help=", ".join(ROWS))
    parser.add_argument(
        "--coco", type=Path, metavar="FOLDER", help="annotations/instances_X.json and X, for batch"
    )
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write every run's seconds")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="(default %(default)s)")
    return parser


if __name__ == "__main__":
    main()
