"""Times of annotations: the doctor on long outlines, and the loading of a large COCO file.

Usage: python benchmarks/annotations.py [--images 500] [--annotations 200000]
"""

import argparse
import contextlib
import io
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from pycocotools.coco import COCO

from mrcnn.data import check
from mrcnn.data.formats import load_dataset

OUTLINES, POINTS = 10, 1000  # an image, and an outline
CORNERS = 20  # of the outlines of the large file
AN_IMAGE = 10  # annotations of the large file


def main() -> None:
    """Print both times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--annotations", type=int, default=200_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        time_check(Path(folder), options.images)
    with tempfile.TemporaryDirectory() as folder:
        time_loading(Path(folder), options.annotations)


def time_check(folder: Path, num_images: int) -> None:
    """Print how long the doctor takes for images of ten outlines of 1,000 points."""
    rng = np.random.default_rng(0)
    outlines = [outline(rng, POINTS, 90, 10) for _ in range(OUTLINES)]
    for number in range(num_images):
        pixels = rng.integers(0, 255, (48, 64, 3), np.uint8)
        PIL.Image.fromarray(pixels).resize((1024, 768)).save(folder / f"{number}.jpg")
    write_coco(folder, num_images, outlines)
    dataset, _ = timed("reading", lambda: check.load_for_check(folder / "set.json"))
    findings = timed(
        f"mrcnn check of {num_images} images, {OUTLINES} outlines each, {POINTS} points each",
        lambda: check.check(dataset),
    )
    print(f"  {len(findings)} findings")


def time_loading(folder: Path, num_annotations: int) -> None:
    """Print how long a COCO file takes beside json.loads and pycocotools' index."""
    rng = np.random.default_rng(0)
    outlines = [outline(rng, CORNERS, 60, 5) for _ in range(AN_IMAGE)]
    write_coco(folder, num_annotations // AN_IMAGE, outlines)
    path = folder / "set.json"
    print(f"{num_annotations} annotations, {path.stat().st_size / 2**20:.0f} MB")
    baseline = best("json.loads and pycocotools' index", lambda: index(path))
    own = best("load_dataset", lambda: load_dataset(path))
    print(f"  ratio {own / baseline:.2f}")


def index(path: Path) -> COCO:
    """Return the content of a file with pycocotools' index."""
    coco = COCO()
    coco.dataset = json.loads(path.read_text())
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def outline(rng: np.random.Generator, count: int, radius: float, roughness: float) -> list[float]:
    """Return a rough circle somewhere in an image of 1024 x 768, as x and y in turn."""
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    radii = radius + roughness * np.sin(7 * angles) + rng.normal(0, 0.1, count)
    centre = rng.uniform([110, 110], [900, 650])
    points = centre + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return points.round(2).ravel().tolist()


def write_coco(folder: Path, num_images: int, outlines: list[list[float]]) -> None:
    """Write a COCO file in which every image has these outlines."""
    images = [
        {"id": n, "file_name": f"{n}.jpg", "height": 768, "width": 1024} for n in range(num_images)
    ]
    annotations = [
        {
            "id": len(outlines) * n + k,
            "image_id": n,
            "category_id": 1 + k % 3,
            "segmentation": [points],
            "area": 100.0,
            "bbox": [1.0, 2.0, 3.0, 4.0],
            "iscrowd": 0,
        }
        for n in range(num_images)
        for k, points in enumerate(outlines)
    ]
    categories = [{"id": k, "name": f"kind {k}"} for k in (1, 2, 3)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "set.json").write_text(json.dumps(content))


def best(what: str, call: Callable[[], Any], rounds: int = 3) -> float:
    """Print and return the least time of several rounds."""
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    print(f"{what}: {min(times):.2f} s (of {', '.join(f'{each:.2f}' for each in times)})")
    return min(times)


def timed(what: str, call: Callable[[], Any]) -> Any:
    """Print how long a call takes, and return its result."""
    started = time.perf_counter()
    result = call()
    print(f"{what}: {time.perf_counter() - started:.1f} s", flush=True)
    return result


if __name__ == "__main__":
    main()
