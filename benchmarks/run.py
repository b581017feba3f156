"""Seconds of what users wait for: a table, the median of several runs after a warm-up.

    python benchmarks/run.py                          # everything: many minutes without a GPU
    python benchmarks/run.py --only paste start       # some rows
    python benchmarks/run.py --json before.json       # to compare with a later run

How to read it: the first line names the machine; figures of two machines, or of one machine with
something else running (see its load), do not compare. "median" is what to quote, "least" is the
run that was disturbed least; where the two are far apart, measure again. The weights are random:
time does not depend on what they have learnt, but on how many boxes there are, so those are given.

    forward    the inference network alone, without reading, resizing and pasting
    train      one step: forward, losses, gradients of all layers, update; data are ready
    batch      reading, resizing, flipping and mini-masks in one thread: seconds an image of one
               core; divide by the number of WORKERS that have a core of their own. Of a folder of
               COCO (--coco, annotations/instances_X.json and X/), else of images in memory
    paste      a hundred masks of 28 x 28 brought to the size of the image
    score      COCO's scores of masks and boxes, by our engine and by pycocotools: detections are
               given, their masks encoded
    start      new processes: what an import and a command cost before they do anything

NumPy may multiply matrices in several threads, which wait for each other where cores are busy. Set
OPENBLAS_NUM_THREADS=1 to see "batch" and "paste" without that.
"""

import argparse
import contextlib
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mrcnn.config import Config
from mrcnn.data import augment
from mrcnn.data.dataset import Dataset
from mrcnn.data.pipeline import BatchStream
from mrcnn.geometry import images as image_math
from mrcnn.geometry import masks as mask_math

ROOT = Path(__file__).resolve().parents[1]
NUM_CLASSES = 81
NUM_MASKS = 100


class Case(NamedTuple):
    """One row: what is measured, one run of it, and by what its seconds are divided."""

    label: str
    run: Callable[[], Any]
    share: int = 1


class ForwardConfig(Config):
    """COCO's sizes, with as many detections as there can be."""

    NAME = "forward"
    NUM_CLASSES = NUM_CLASSES
    IMAGE_MIN_DIM = 1024
    IMAGES_PER_GPU = 1
    DETECTION_MIN_CONFIDENCE = 0.0


class TrainConfig(Config):
    """A training step of a middling size."""

    NAME = "train"
    NUM_CLASSES = NUM_CLASSES
    BACKBONE = "resnet50"
    IMAGE_MIN_DIM = 512
    IMAGE_MAX_DIM = 512
    IMAGES_PER_GPU = 2


class Ellipses(Dataset):
    """Noisy images in memory with ellipses, ready before the clock starts."""

    def load(self, count: int, num_objects: int, shape: tuple[int, int] = (480, 640)) -> None:
        """Make `count` images of a height and width with so many objects each."""
        rng = np.random.default_rng(0)
        for class_id in range(1, NUM_CLASSES):
            self.add_class("ellipses", class_id, f"class {class_id}")
        for image_id in range(count):
            self.add_image(
                "ellipses",
                image_id,
                path=None,
                pixels=rng.integers(0, 256, (*shape, 3), np.uint8),
                masks=_ellipses(shape, num_objects, rng),
                class_ids=rng.integers(1, NUM_CLASSES, num_objects).astype(np.int32),
            )
        self.prepare()

    def load_image(self, image_id: int) -> np.ndarray:
        """Return the pixels."""
        return self.image_info[image_id]["pixels"]

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the masks and class ids."""
        info = self.image_info[image_id]
        return info["masks"], info["class_ids"]


def main() -> None:
    """Measure, print the table and write the JSON file."""
    options = _parser().parse_args()
    machine = describe_machine()
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    print(f"\n{'what':58} {'median s':>9} {'least s':>9} {'runs':>5}")
    rows = []
    arguments = {"batch": (options.coco,)}
    for name in options.only or CASES:
        for case in CASES[name](*arguments.get(name, ())):
            seconds = measure(case, options.repeats)
            median, least = statistics.median(seconds), min(seconds)
            print(f"{case.label:58} {median:9.3f} {least:9.3f} {len(seconds):5}", flush=True)
            rows.append({"name": name, "label": case.label, "seconds": seconds, "median": median})
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1))


def measure(case: Case, repeats: int) -> list[float]:
    """Return the seconds of several runs, after one that is not counted."""
    case.run()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        case.run()
        seconds.append((time.perf_counter() - started) / case.share)
    return seconds


def describe_machine() -> dict[str, str]:
    """Return processor, cores, load, GPUs and versions."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    names = [tf.config.experimental.get_device_details(gpu).get("device_name") for gpu in gpus]
    return {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()),
        "load": f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown",
        "GPUs": " + ".join(map(str, names)) or "none",
        "Python": platform.python_version(),
        **{package: metadata.version(package) for package in ("tensorflow", "keras", "numpy")},
    }


def forward_cases() -> Iterator[Case]:
    """Yield forward passes of one image of 1024 x 1024."""
    from mrcnn.model import MaskRCNN

    pixels = np.random.default_rng(0).integers(0, 256, (1024, 1024, 3), np.uint8)
    for backbone in ("resnet50", "resnet101"):
        config = ForwardConfig().replace(BACKBONE=backbone)
        model = MaskRCNN("inference", config, "logs")
        meta = image_math.compose_meta(
            0, pixels.shape, pixels.shape, (0, 0, 1024, 1024), 1, np.zeros(NUM_CLASSES)
        )
        image = image_math.mold(pixels, config.MEAN_PIXEL)
        inputs = [a[None] for a in (image, meta, model.get_anchors(pixels.shape))]
        network = model.keras_model
        detections, _, _, _, proposals, *_ = network.predict_on_batch(inputs)
        counts = (
            f"{np.any(proposals != 0, axis=-1).sum()} proposals, "
            f"{(detections[..., 4] > 0).sum()} detections"
        )
        yield Case(
            f"forward {backbone}, 1024 x 1024, {counts}",
            lambda network=network, inputs=inputs: network.predict_on_batch(inputs),
        )


def train_cases() -> Iterator[Case]:
    """Yield a training step of two images of 512 x 512 with eight objects each."""
    from mrcnn.network import network as networks
    from mrcnn.training import trainer

    config = TrainConfig()
    model = trainer.TrainingModel(networks.build(config), config)
    # A rate that leaves random weights finite.
    model.compile(trainer.make_optimizer(config, 1e-5, 0.9), jit_compile=False)
    batch = next(iter(_stream(config, _drawn(8))))
    yield Case(
        "train resnet50, 2 images of 512 x 512, 8 objects each",
        lambda: model.train_on_batch(batch),
    )


def batch_cases(folder: Path) -> Iterator[Case]:
    """Yield batches of two images brought to 1024 x 1024: COCO's where they are, else ellipses."""
    import cv2

    from mrcnn.data.formats.coco import load_coco

    cv2.setNumThreads(1)
    config = ForwardConfig().replace(IMAGE_MIN_DIM=800, IMAGES_PER_GPU=2)
    if not folder.is_dir():
        dataset, what = _drawn(10), "640 x 480 in memory with 10 objects"
        yield _batches(f"batch, an image of {what}, 1 thread", dataset, config, 2)
        return
    (annotations,) = folder.glob("annotations/instances_*.json")
    dataset = load_coco(annotations, folder / annotations.stem.removeprefix("instances_"))
    mean = dataset.num_objects / dataset.num_images
    label = f"batch, an image of COCO with {mean:.1f} objects, 1 thread"
    # One pass: what an image costs depends on its size and its objects.
    yield _batches(label, dataset, config, dataset.num_images)


def paste_cases() -> Iterator[Case]:
    """Yield the same hundred masks pasted into a small and a large image."""
    rng = np.random.default_rng(0)
    probabilities = rng.random((NUM_MASKS, 28, 28), np.float32)
    low = rng.uniform(0, 0.7, (NUM_MASKS, 2))
    corners = np.concatenate([low, low + rng.uniform(0.05, 0.3, (NUM_MASKS, 2))], axis=1)
    for megapixels, shape in ((1, (1000, 1000)), (12, (3000, 4000))):
        boxes = (corners * np.tile(shape, 2)).astype(np.int32)
        yield Case(
            f"paste {NUM_MASKS} masks into {megapixels} megapixels",
            lambda boxes=boxes, shape=shape: mask_math.paste(probabilities, boxes, shape),
        )


def score_cases() -> Iterator[Case]:
    """Yield COCO's scores of 500 images with 15 detections of 80 classes each, by two engines."""
    from mrcnn.evaluation import coco

    truth, results = _found_ellipses(500, 15)
    coco_gt = coco.ground_truth(truth)
    found = f"{len(results)} detections in 500 images"
    yield Case(f"score {found}", lambda: coco.score(coco_gt, results))
    yield Case(f"score {found}, pycocotools", lambda: _by_pycocotools(coco_gt, results))


def start_cases() -> Iterator[Case]:
    """Yield the starts of new processes, TensorFlow's own import for comparison."""
    help_code = "import sys; sys.argv = ['mrcnn', '--help']; from mrcnn.cli import main; main()"
    for label, code in (
        ("start: python -c pass", "pass"),
        ("start: import tensorflow, keras", "import tensorflow, keras"),
        ("start: import mrcnn.model", "import mrcnn.model"),
        ("start: mrcnn --help", help_code),
    ):
        command = [sys.executable, "-c", code]
        yield Case(
            label,
            lambda command=command: subprocess.run(
                command, cwd=ROOT, check=True, capture_output=True
            ),
        )


CASES: dict[str, Callable[..., Iterator[Case]]] = {
    "start": start_cases,
    "paste": paste_cases,
    "score": score_cases,
    "batch": batch_cases,
    "train": train_cases,
    "forward": forward_cases,
}


def _batches(label: str, dataset: Dataset, config: Config, num_images: int) -> Case:
    batches = iter(_stream(config, dataset))
    count = num_images // config.BATCH_SIZE

    def run() -> None:
        for _ in range(count):
            next(batches)

    return Case(label, run, share=count * config.BATCH_SIZE)


def _drawn(num_objects: int) -> Ellipses:
    dataset = Ellipses()
    dataset.load(4, num_objects)
    return dataset


def _stream(config: Config, dataset: Dataset) -> BatchStream:
    from mrcnn.training.run import sample_format

    return BatchStream(
        dataset,
        sample_format(config),
        config.BATCH_SIZE,
        augmentation=[augment.flip_left_right],
        workers=0,
    )


def _ellipses(shape: tuple[int, int], count: int, rng: np.random.Generator) -> np.ndarray:
    """Return ellipses of a tenth to a half of the image's sides: (H, W, N) bool."""
    radii = rng.uniform(0.05, 0.25, (2, count)) * np.array(shape)[:, None]
    centres = rng.uniform(0.25, 0.75, (2, count)) * np.array(shape)[:, None]
    rows, cols = np.mgrid[: shape[0], : shape[1]][..., None]
    distance = ((rows - centres[0]) / radii[0]) ** 2 + ((cols - centres[1]) / radii[1]) ** 2
    return distance < 1


def _found_ellipses(num_images: int, count: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return a truth in COCO's form, half of its objects found and as many finds of nothing."""
    from mrcnn.evaluation import coco

    rng, shape = np.random.default_rng(0), (240, 320)
    categories = [{"id": number, "name": f"class {number}"} for number in range(1, NUM_CLASSES)]
    images, objects, results = [], [], []
    for image_id in range(1, num_images + 1):
        images.append({"id": image_id, "height": shape[0], "width": shape[1]})
        masks, class_ids = _ellipses(shape, count, rng), rng.integers(1, NUM_CLASSES, count)
        moved = np.roll(masks, rng.integers(-3, 4, 2), (0, 1))
        found = {
            "rois": mask_math.bounds(moved),
            "class_ids": class_ids,
            "scores": rng.random(count),
            "masks": moved,
        }
        results += coco.to_results(found, image_id, range(NUM_CLASSES))
        objects += [
            {"image_id": image_id, "category_id": int(class_id), "segmentation": segmentation}
            for class_id, segmentation in zip(
                class_ids[::2], mask_math.to_rle(masks[..., ::2]), strict=True
            )
        ]
    return {"images": images, "annotations": objects, "categories": categories}, results


def _by_pycocotools(coco_gt: Any, results: list[dict[str, Any]]) -> None:
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        for iou_type in ("segm", "bbox"):
            found = coco_gt.loadRes([dict(result) for result in results])
            evaluation = COCOeval(coco_gt, found, iou_type)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=CASES, metavar="NAME", help=", ".join(CASES))
    parser.add_argument(
        "--coco",
        type=Path,
        default=ROOT.parent / "shared" / "data" / "coco",
        metavar="FOLDER",
        help="images of COCO for `batch` (default %(default)s)",
    )
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write every run's seconds")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="(default %(default)s)")
    return parser


if __name__ == "__main__":
    main()
