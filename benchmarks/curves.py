"""Seconds against image size, batch, proposals and objects: straight lines, or where they bend.

    python benchmarks/curves.py --picture docs/cost.png --json cost.json

Each curve changes one number and leaves the others. The line is the least-squares fit; the table
says how much of the variance it explains, and what one unit more costs. Weights are random.

    image size   the network on one square image, against its pixels
    batch        the network on images of 512 x 512
    proposals    the network on one image of 512 x 512, whose second stage takes so many
    objects      an image of 1024 x 1024 with so many objects made ready for training, one thread
    learning     a training step of two images of 256 x 256 with so many objects each
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import machine
import numpy as np
import workloads

from mrcnn.model import MaskRCNN


class Curve(NamedTuple):
    """A cost: the label of what changes, its values, and one run of each."""

    unit: str
    points: Iterator[tuple[float, Callable[[], Any]]]


def main() -> None:
    """Measure, print the table, draw."""
    options = _parser().parse_args()
    about = machine.description()
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    print(
        f"\n{'curve':12} {'unit':22} {'s a unit':>10} {'s at zero':>10} {'explained':>9}  seconds"
    )
    found = {}
    for name in options.only or CURVES:
        curve = CURVES[name]()
        points = [(value, seconds(run, options.repeats)) for value, run in curve.points]
        found[name] = {"unit": curve.unit, "points": points, **line(points)}
        print(
            f"{name:12} {curve.unit:22} {found[name]['slope']:10.5f} {found[name]['start']:10.4f} "
            f"{found[name]['explained']:9.3f}  "
            + ", ".join(f"{value:g}: {cost:.3f}" for value, cost in points),
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps({"machine": about, "curves": found}, indent=1))
    if options.picture:
        draw(found, options.picture)


def seconds(run: Callable[[], Any], repeats: int) -> float:
    """Return the median of several runs, after one that is not counted."""
    run()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def line(points: list[tuple[float, float]]) -> dict[str, float]:
    """Return slope and start of the line of least squares, and the share of variance explained."""
    values, costs = np.array(points).T
    slope, start = np.polyfit(values, costs, 1)
    rest = costs - (slope * values + start)
    return {
        "slope": float(slope),
        "start": float(start),
        "explained": float(1 - rest.var() / costs.var()),
    }


def draw(found: dict[str, Any], path: Path) -> None:
    """Write a picture with a panel for each curve."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2 * len(found), 3), layout="constrained")
    panels = figure.subplots(1, len(found), squeeze=False)[0]
    for axes, (name, curve) in zip(panels, found.items(), strict=True):
        values, costs = np.array(curve["points"]).T
        ends = np.array([0, values.max()])
        axes.plot(ends, curve["slope"] * ends + curve["start"], color="0.7", linewidth=1)
        axes.plot(values, costs, "o", color="C0")
        axes.set(title=name, xlabel=curve["unit"], ylim=(0, None), xlim=(0, None))
    figure.axes[0].set_ylabel("seconds")
    figure.savefig(path, dpi=100)


def image_size() -> Curve:
    """The network on one square image."""
    model = _model()
    points = (
        (side * side / 1e6, _forward(model, side, 1)) for side in (256, 384, 512, 768, 1024, 1280)
    )
    return Curve("megapixels", points)


def batch() -> Curve:
    """The network on several images."""
    model = _model()
    return Curve("images", ((count, _forward(model, 512, count)) for count in (1, 2, 3, 4, 6)))


def proposals() -> Curve:
    """The network with proposals for its second stage."""
    counts = (100, 300, 600, 1000, 2000)
    points = (
        (count, _forward(_model(POST_NMS_ROIS_INFERENCE=count, PRE_NMS_LIMIT=2000), 512, 1))
        for count in counts
    )
    return Curve("proposals an image", points)


def objects() -> Curve:
    """An image made ready for training."""

    def points() -> Iterator[tuple[float, Callable[[], Any]]]:
        config = workloads.BatchConfig().replace(IMAGES_PER_GPU=1)
        for count in (1, 5, 10, 25, 50, 100):
            stream = iter(workloads.stream(config, workloads.ellipses(count)))
            yield count, lambda stream=stream: [next(stream) for _ in range(4)]

    return Curve("objects in each of 4", points())


def learning() -> Curve:
    """A training step."""

    def points() -> Iterator[tuple[float, Callable[[], Any]]]:
        config = workloads.TrainConfig().replace(IMAGE_MIN_DIM=256, IMAGE_MAX_DIM=256)
        model = MaskRCNN("training", config, "logs")
        model.set_trainable("all", verbose=0)
        model.compile(learning_rate=1e-6, momentum=0.9)
        for count in (1, 4, 8, 16, 32, 64):
            data = workloads.one_batch(config, count, 256)
            yield count, lambda data=data: model.training_model.train_on_batch(data)

    return Curve("objects an image", points())


CURVES: dict[str, Callable[[], Curve]] = {
    "image size": image_size,
    "batch": batch,
    "proposals": proposals,
    "objects": objects,
    "learning": learning,
}


def _model(**settings: Any) -> MaskRCNN:
    return MaskRCNN("inference", workloads.ForwardConfig().replace(**settings), "logs")


def _forward(model: MaskRCNN, side: int, count: int) -> Callable[[], Any]:
    config = model.config.replace(IMAGE_MIN_DIM=side, IMAGE_MAX_DIM=side)
    predictor = type(model.predictor)(model.inference_model, config)
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    molded, meta = predictor.mold(pixels)
    arrays = (molded, meta, predictor.anchors((side, side)))
    inputs = [np.stack([array] * count) for array in arrays]
    return lambda: model.predictor.run(inputs)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=CURVES, metavar="NAME")
    parser.add_argument("--json", type=Path, metavar="OUT", help="also write the figures")
    parser.add_argument("--picture", type=Path, metavar="OUT", help="also draw the curves")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="(default %(default)s)")
    return parser


if __name__ == "__main__":
    main()
