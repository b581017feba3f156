"""Changes one field of a small set at a time, and takes it through reading, check and drawing.

Usage: python tests/fuzz_annotations.py [--format coco] [--count 3000] [--seed 0]

Whatever a file says, it is read, or refused in one line: another exception, a message of several
lines, or more than 2 GiB of memory is a failure, and makes the exit status 1. A crash of the
process is the caller's to see: the case under way is in the folder that is printed first.
"""

import argparse
import copy
import io
import json
import logging
import re
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from mrcnn.cli import check as command
from mrcnn.data import check
from mrcnn.data.annotated import AnnotatedDataset
from mrcnn.data.formats import Source, load_dataset
from mrcnn.evaluation import coco
from mrcnn.geometry import masks

MOST_MEMORY = 2 * 2**30
LONGEST = 3000  # characters of a refusal
SLOWEST = 20  # seconds
HOSTILE = [
    None, True, False, 0, 1, -1, 3.7, 1e308, -1e308, float("nan"), float("inf"), 2**31, 2**32 + 5,
    2**63, 10**30, "", " ", "1", "-1", "1.0", "nan", "x", "ü\n\0", "a" * 5000, "../../etc/passwd",
    "/dev/zero", "C:\\a.png", [], {}, [[]], [{}], [[[[]]]], [1, 2], [1, 2, 3, 4], [None] * 6,
    [1e9] * 6, [-1e6, -1e6, 1e6, -1e6, 1e6, 1e6], ["1"] * 6, {"size": [24, 32], "counts": [768]},
    {"size": [24, 32], "counts": [-5, 773]}, {"size": [24, 32], "counts": [2**33]},
    {"size": [10**9, 10**9], "counts": [10**18]}, {"size": [24, 32], "counts": "ooooooooo"},
    {"size": [24, 32], "counts": "\x7fü"}, [float(n % 7) * 1e5 for n in range(4000)],
]  # fmt: skip
TOKENS = [
    "", "0", "-1", "1", "nan", "inf", "1e308", "-1e308", "99999999999999999999", "x", "ü",
    "a" * 5000, "[", "{", "}", "]", ":", "-", "&a", "*a", "<", ">", "&amp;", "%", "\t", "\0", "1e0",
    "0.5", "1.0", "!!python/object:os.system", "../../etc/passwd",
]  # fmt: skip


def polygon(x: float, y: float) -> list[float]:
    """Return a small square as x and y in turn."""
    return [x, y, x + 8, y, x + 8, y + 8, x, y + 8]


def coco_content() -> dict:
    """Return a COCO file with every kind of outline."""
    runs = {"size": [24, 32], "counts": [30, 10, 728]}
    text = masks.to_rle(np.ones((24, 32, 1), bool))[0]
    segmentations = [[polygon(2, 2)], polygon(12, 2), runs, text, [polygon(1, 1), polygon(20, 12)]]
    return {
        "images": [
            {"id": n, "file_name": f"{'ab'[n]}.png", "width": 32, "height": 24} for n in range(2)
        ],
        "categories": [
            {"id": n, "name": name, "supercategory": "none", "keypoints": ["left", "right"]}
            for n, name in enumerate(("thing", "nut"))
        ],
        "annotations": [
            {
                "id": n,
                "image_id": n % 2,
                "category_id": 1,
                "segmentation": segmentation,
                "bbox": [2, 2, 8, 8],
                "area": 64,
                "iscrowd": int(n == 3),
                "keypoints": [3, 3, 2, 4, 4, 1],
            }
            for n, segmentation in enumerate(segmentations)
        ],
    }


def via_content() -> dict:
    """Return a VIA file with every shape."""
    points = np.reshape(polygon(2, 2), (-1, 2)).T.tolist()
    shapes = [
        {"name": "polygon", "all_points_x": points[0], "all_points_y": points[1]},
        {"name": "rect", "x": 3, "y": 4, "width": 6, "height": 7},
        {"name": "circle", "cx": 9, "cy": 9, "r": 4},
        {"name": "ellipse", "cx": 9, "cy": 9, "rx": 4, "ry": 3, "theta": 0.3},
    ]
    regions = [
        {"shape_attributes": shape, "region_attributes": {"kind": "nut"}} for shape in shapes
    ]
    return {
        "a.png9": {"filename": "a.png", "size": 9, "regions": regions, "file_attributes": {}},
        "b.png9": {"filename": "b.png", "size": 9, "regions": {"0": regions[0]}},
    }


def labelme_content() -> dict:
    """Return a labelme file with several shapes."""
    points = np.reshape(polygon(2, 2), (-1, 2)).tolist()
    kinds = {"polygon": points, "rectangle": points[::2], "circle": points[:2], "rotation": points}
    return {
        "version": "5.2.1",
        "flags": {},
        "imagePath": "a.png",
        "imageData": None,
        "imageHeight": 24,
        "imageWidth": 32,
        "shapes": [
            {"label": "nut", "points": each, "group_id": None, "shape_type": kind, "flags": {}}
            for kind, each in kinds.items()
        ],
    }


VOC = """<annotation>
 <filename>a.png</filename>
 <size> <width>32</width> <height>24</height> <depth>3</depth> </size>
 <object> <name>nut</name> <difficult>0</difficult>
  <bndbox> <xmin>3</xmin> <ymin>3</ymin> <xmax>12</xmax> <ymax>14</ymax> </bndbox> </object>
 <object> <name>bolt</name>
  <bndbox> <xmin>13</xmin> <ymin>3</ymin> <xmax>22</xmax> <ymax>14</ymax> </bndbox> </object>
</annotation>
"""
YOLO = "0 0.1 0.1 0.4 0.1 0.4 0.5\n1 0.5 0.5 0.2 0.2\n0 0.5 0.5 0.2 0.2 0.4 0.4 2\n"
YAML = "path: .\ntrain: images\nnc: 2\nkpt_shape: [1, 3]\nnames:\n  0: nut\n  1: bolt, long\n"


def of_json(name: str, content: dict, rng: np.random.Generator) -> dict[str, str]:
    """Return a file with one field of its content changed or gone."""
    content = copy.deepcopy(content)
    holder, key = _random_place(content, rng)
    if rng.random() < 0.1:
        del holder[key]
    elif isinstance(holder, dict) and rng.random() < 0.1:
        holder["x"] = holder.pop(key)
    else:
        holder[key] = copy.deepcopy(HOSTILE[rng.integers(len(HOSTILE))])
    return {name: json.dumps(content)}


def of_text(files: dict[str, str], rng: np.random.Generator) -> dict[str, str]:
    """Return files with one word of one of them changed, doubled or gone."""
    name = list(files)[rng.integers(len(files))]
    words = list(re.finditer(r"[\w./]+", files[name]))
    word = words[rng.integers(len(words))]
    put = str(TOKENS[rng.integers(len(TOKENS))])
    if rng.random() < 0.1:
        put = f"{word[0]} {word[0]}"
    return {**files, name: files[name][: word.start()] + put + files[name][word.end() :]}


def via_csv(rng: np.random.Generator) -> dict[str, str]:
    """Return a CSV file of VIA with one word changed."""
    rows = [
        "filename,file_size,file_attributes,region_id,region_shape_attributes,region_attributes"
    ]
    for number, region in enumerate(via_content()["a.png9"]["regions"]):
        cells = [json.dumps(region[key]).replace('"', '""') for key in region]
        rows.append(f'a.png,9,"{{}}",{number},"{cells[0]}","{cells[1]}"')
    return of_text({"via.csv": "\n".join(rows)}, rng)


def label_image(rng: np.random.Generator) -> dict[str, bytes]:
    """Return a label image of some type, whole or with some bytes changed."""
    labels = np.zeros((24, 32), [np.uint8, np.uint16, np.float32][rng.integers(3)])
    labels[2:9, 2:9], labels[12:20, 12:20] = 1, 2
    kind = "TIFF" if labels.dtype == np.float32 else ["PNG", "TIFF"][rng.integers(2)]
    if rng.random() < 0.2:
        labels = rng.integers(0, 256, (24, 32, 3), np.uint8)
    stream = io.BytesIO()
    PIL.Image.fromarray(labels).save(stream, kind)
    content = bytearray(stream.getvalue())
    for _ in range(rng.integers(4)):
        content[rng.integers(len(content))] = rng.integers(256)
    if rng.random() < 0.1:
        content = content[: rng.integers(len(content))]
    names = ["a.png", "a_mask.tif", "A.PNG", "b.png", "._a.png"]
    return {f"masks/{names[rng.integers(len(names))]}": bytes(content)}


CASES: dict[str, Callable[[np.random.Generator], dict[str, Any]]] = {
    "coco": lambda rng: of_json("set.json", coco_content(), rng),
    "via": lambda rng: of_json("set.json", via_content(), rng),
    "via_csv": via_csv,
    "labelme": lambda rng: of_json("a.json", labelme_content(), rng),
    "voc": lambda rng: of_text({"a.xml": VOC}, rng),
    "yolo": lambda rng: of_text({"labels/a.txt": YOLO, "data.yaml": YAML}, rng),
    "masks": label_image,
}


def run(name: str, count: int, seed: int, folder: Path) -> list[str]:
    """Return what went wrong in so many cases of a format."""
    rng = np.random.default_rng((seed, sorted(CASES).index(name)))
    failures = []
    for number in range(count):
        write_case(name, folder, rng)
        started = time.perf_counter()
        faults = list(faults_of(folder))
        if (took := time.perf_counter() - started) > SLOWEST:
            faults.append(f"took {took:.0f} s")
        if memory() > MOST_MEMORY:
            faults.append(f"{memory() / 2**30:.1f} GiB")
        if faults:
            kept = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-{number}-"))
            shutil.copytree(folder, kept, dirs_exist_ok=True)
            failures += [f"{name} {number} ({kept}): {fault}" for fault in faults]
        if memory() > MOST_MEMORY:  # it stays what it was at its highest
            break
    return failures


def write_case(name: str, folder: Path, rng: np.random.Generator) -> None:
    """Write a set with one thing changed."""
    shutil.rmtree(folder, ignore_errors=True)
    for place in ("images", "labels", "masks"):
        (folder / place).mkdir(parents=True)
    home = folder / "images" if name in ("yolo", "masks") else folder
    for stem in "ab":
        PIL.Image.new("RGB", (32, 24), tuple(rng.integers(0, 255, 3).tolist())).save(
            home / f"{stem}.png"
        )
    if name not in ("yolo", "masks"):
        for place in ("images", "labels", "masks"):
            (folder / place).rmdir()
    for file, content in CASES[name](rng).items():
        is_text = isinstance(content, str)
        (folder / file).write_bytes(content.encode() if is_text else content)


def memory() -> int:
    """Return the most memory that the process ever had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def faults_of(folder: Path) -> Iterator[str]:
    """Yield what is wrong with the way a set is taken."""
    for step in (_check, _load):
        try:
            step(folder)
        except ValueError as error:
            if "\n" in str(error) or len(str(error)) > LONGEST or not str(error):
                yield f"{step.__name__}: a refusal of {len(str(error))} characters: {error!r:.300}"
        except Exception:
            yield f"{step.__name__}: {traceback.format_exc()[-700:]}"


def _check(folder: Path) -> None:
    loaded, findings = check.load_parts_for_check({"training": Source(folder)})
    if "training" in loaded:
        findings += check.check(loaded["training"])
    json.dumps(command._content(loaded, findings), default=str)
    command._report(loaded, findings)
    for finding in findings:
        if "\n" in str(finding) or len(str(finding)) > LONGEST:
            raise TypeError(f"a finding of {len(str(finding))} characters: {str(finding)[:200]!r}")


def _load(folder: Path) -> None:
    dataset = load_dataset(folder)
    assert isinstance(dataset, AnnotatedDataset)
    for image_id in dataset.image_ids:
        dataset.load_image(image_id)
        dataset.load_mask(image_id)
        dataset.load_keypoints(image_id)
    coco.ground_truth_of(dataset)


def _random_place(content: Any, rng: np.random.Generator) -> tuple[Any, Any]:
    """Return a list or dict somewhere in a content, and one of its places."""
    places = list(_places(content))
    return places[rng.integers(len(places))]


def _places(content: Any) -> Iterator[tuple[Any, Any]]:
    keys: Any = ()
    if isinstance(content, dict):
        keys = list(content)
    elif isinstance(content, list):
        keys = range(len(content))
    for key in keys:
        yield content, key
        yield from _places(content[key])


def main() -> int:
    """Run the cases and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--format", choices=sorted(CASES), action="append")
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("error")
    logging.getLogger("mrcnn").setLevel(logging.CRITICAL)
    folder = Path(tempfile.mkdtemp(prefix="fuzz-")) / "set"
    print(folder, flush=True)
    failed = False
    for name in options.format or CASES:
        failures = run(name, options.count, options.seed, folder)
        failed |= bool(failures)
        gib = memory() / 2**30
        print(f"{name}: {options.count} changes, {len(failures)} failures, {gib:.2f} GiB")
        for failure in failures[:20]:
            print(" ", failure)
        sys.stdout.flush()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
