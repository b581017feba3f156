"""`mrcnn demo`: the bundled weights on the bundled images."""

import argparse
import time
from typing import Any

from mrcnn.cli import common

SCORE = 0.5


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    command.add_argument("--output", default="demo.png", help="output image (default: %(default)s)")


def run(options: argparse.Namespace) -> int:
    """Segment the bundled micrographs with the bundled weights, and write a figure."""
    with common.quiet_start():
        from mrcnn import visualize
        from mrcnn.geometry import images as image_math
        from mrcnn.mask_rcnn import MaskRCNN
        from mrcnn.weights import catalog
    started = time.perf_counter()
    model = MaskRCNN.from_checkpoint("nuclei")
    paths = sorted(catalog.ASSETS.glob("nuclei_*.png"))
    pictures = [image_math.read_image(path) for path in paths]
    rows = []
    for path, picture, found in zip(paths, pictures, model.predict(pictures), strict=True):
        found = common.at_least(found, SCORE)
        print(f"{path.name}: {_summary(found)}")
        scale = max(1, round(768 / picture.shape[1]))
        drawn = visualize.draw_instances(picture, found, model.config.CLASS_NAMES, scale=scale)
        enlarged = visualize.enlarge(picture, scale)
        rows.append(visualize.side_by_side(enlarged, drawn))
    visualize.save_image(options.output, visualize.stack(rows))
    print(
        f"Wrote {options.output} in {time.perf_counter() - started:.1f} s: the image on the left, "
        "the detections on the right"
    )
    return 0


def _summary(found: dict[str, Any]) -> str:
    if not len(found["scores"]):
        return "nothing found"
    areas = found["masks"].sum(axis=(0, 1))
    return (
        f"{len(areas)} nuclei, median area {sorted(areas)[len(areas) // 2]} pixels, "
        f"scores {found['scores'].min():.2f} to {found['scores'].max():.2f}"
    )
