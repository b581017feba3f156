"""YOLO label files: one per image, one object per line, in fractions of the image.

A line is a class id and the corners of a polygon, or a class id and a box (centre, size),
optionally followed by keypoints.
"""

from collections import Counter
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np

from mrcnn.data import outlines
from mrcnn.data.annotated import AnnotatedDataset, AnnotatedImage, Annotations
from mrcnn.data.assembly import make_dataset
from mrcnn.data.formats import files
from mrcnn.data.formats.yolo_names import find_names
from mrcnn.data.formats.yolo_set import find_set, label_folders
from mrcnn.data.problems import Problems

__all__ = ["label_folders", "load_yolo", "read_yolo"]
SOURCE = "yolo"
LARGEST_FRACTION = 2  # slightly out-of-image coordinates are clipped


def load_yolo(
    path: str | PathLike,
    images: str | PathLike | None = None,
    *,
    channels: int = 3,
    class_names: Sequence[str] | None = None,
) -> AnnotatedDataset:
    """Return the prepared dataset of a YOLO folder.

    Every image of the folder is read; one without a label file has no objects. Classes are
    numbered in the order of their ids, and named by the dataset's YAML file or classes.txt.

    Args:
        path: the dataset folder, the folder of one part's labels or images, or its YAML file.
        images: the folder of the images; None: looked for nearby.
        channels: of the images.
        class_names: see `make_dataset`.

    Raises:
        ValueError: If the folder has several parts, or a line cannot be read.
    """
    problems = Problems()
    return make_dataset(
        read_yolo(Path(path), images, problems),
        problems,
        channels=channels,
        class_names=class_names,
    )


def read_yolo(
    path: Path, images: str | PathLike | None, problems: Problems, part: str | None = None
) -> Annotations:
    """Return the annotations in a YOLO dataset.

    Args:
        part: train or val, if the path stands for both.

    Raises:
        ValueError: If it has no labels or several parts; with strict problems, any fault.
    """
    found = find_set(path, images, part, problems)
    names, pose_values = find_names(found)
    texts = {text for _, text in found.pairs if text is not None}
    objects = {text: _objects(text, pose_values, problems) for text in sorted(texts)}
    ids = {item.class_id for each in objects.values() for item in each}
    read = Annotations(SOURCE, _classes(names, ids, problems))
    for image, text in sorted(found.pairs, key=lambda pair: pair[0]):
        own = objects[text] if text is not None else ()
        read.images.append(AnnotatedImage(image.stem, str(image), own))
    return read


def _classes(names: dict[int, str], ids: set[int], problems: Problems) -> dict[int, str]:
    counts = Counter(name for number, name in names.items() if number in ids)
    for name in [name for name, count in counts.items() if count > 1]:
        problems.error(
            "duplicate-class",
            f"{counts[name]} class ids with objects have the name {name!r}",
            remedy="give each its own name in the names of the set",
        )
    unnamed = sorted(ids - set(names)) if names else []
    if unnamed:
        problems.error(
            "unknown-class",
            f"the class ids {unnamed[:20]} have no name",
            remedy="add them to the names of the set",
        )
    return {n: names.get(n, f"class {n}") for n in sorted({*names, *ids})}


def _objects(path: Path, pose_values: int, problems: Problems) -> list[outlines.AnnotatedObject]:
    objects, num_boxes = [], 0
    for number, line in enumerate(files.read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            class_id, values = _numbers(line)
            if pose_values and len(values) == 4 + pose_values:
                values = values[:4]
            shape = _shape(values)
        except ValueError as error:
            problems.error("bad-line", f"line {number}: {error}", image=path.stem, object=number)
            continue
        num_boxes += len(values) == 4
        objects.append(outlines.AnnotatedObject(class_id, [shape], id=number))
    if num_boxes:
        problems.warning(
            "boxes-as-masks",
            f"{num_boxes} objects have a box only: it is taken for the mask",
            image=path.stem,
            remedy="outline the objects if their shape matters",
        )
    return objects


def _numbers(line: str) -> tuple[int, list[float]]:
    first, *others = line.replace(",", " ").split()
    try:
        class_id = float(first)  # numpy.savetxt writes 1.000000000000000000e+00
    except ValueError:
        class_id = -1.0
    if class_id < 0 or not class_id.is_integer():
        raise ValueError(f"it must begin with a class id, got {first[:40]!r}")
    return int(class_id), [float(value) for value in others]


def _shape(values: list[float]) -> outlines.Polygon:
    if len(values) == 4:
        x, y, width, height = values
        outline = outlines.rectangle(x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    elif _may_be_pose(values):
        raise ValueError(
            f"its {len(values)} numbers look like a box with keypoints: give kpt_shape in the YAML "
            "file"
        )
    elif len(values) >= 6 and len(values) % 2 == 0:
        outline = outlines.polygon(values[::2], values[1::2])
    else:
        scored = (
            "; the fifth may be a score: save the labels without it" if len(values) == 5 else ""
        )
        raise ValueError(
            f"{len(values)} numbers follow the class id; a box has 4, a polygon 6, 8, 10, ...; "
            f"poses need kpt_shape in the YAML file{scored}"
        )
    if np.abs(outline.points).max() > LARGEST_FRACTION:
        raise ValueError("its coordinates are no fractions of the image's width and height")
    return outlines.Polygon(outline.points, is_relative=True)


def _may_be_pose(values: list[float]) -> bool:
    """Return whether numbers are a box and triples of x, y and a visibility up to 2."""
    visibilities = values[6::3]
    is_whole = len(values) > 4 and (len(values) - 4) % 3 == 0
    return is_whole and set(visibilities) <= {0, 1, 2} and 2 in visibilities
