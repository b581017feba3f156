"""YOLO texts: `labels/*.txt` beside `images/`, one object a line, in fractions of the image.

A line is a class id and the corners of a polygon, or a class id and a box (centre, size).
"""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np

from mrcnn.data import outlines
from mrcnn.data.annotated import AnnotatedDataset, AnnotatedImage, Annotations, make_dataset
from mrcnn.data.formats import files
from mrcnn.data.formats.yolo_names import read_names
from mrcnn.data.problems import Problems

SOURCE = "yolo"
LEVELS_UP = 3  # from the folder of labels to the file of names


def load_yolo(
    path: str | PathLike,
    images: str | PathLike | None = None,
    *,
    channels: int = 3,
    class_names: Sequence[str] | None = None,
) -> AnnotatedDataset:
    """Return the prepared dataset of a YOLO folder.

    Every image of the folder is read; one without a text has no objects. Classes are numbered in
    the order of their ids, and named by the YAML file or the classes.txt of the set.

    Args:
        path: the set's folder, or the folder of one part's labels or images.
        images: the folder of the images; None: looked for nearby.
        channels: of the images.
        class_names: see `make_dataset`.

    Raises:
        ValueError: the folder has several parts, or a line cannot be read.
    """
    problems = Problems()
    return make_dataset(
        read_yolo(Path(path), images, problems),
        problems,
        channels=channels,
        class_names=class_names,
    )


def label_folders(path: Path) -> list[Path]:
    """Return the folders of texts that a path stands for, one for each part of the set."""
    if path.is_file():
        path = path.parent
    path = path.resolve()
    if "images" in path.parts and not _texts(path):
        place = len(path.parts) - 1 - path.parts[::-1].index("images")
        path = Path(*path.parts[:place], "labels", *path.parts[place + 1 :])
    candidates = [path / "labels", *sorted(path.glob("labels/*")), *sorted(path.glob("*/labels"))]
    if "labels" in path.parts:
        candidates = [path, *sorted(path.glob("*"))]
    return [folder for folder in candidates if folder.is_dir() and _texts(folder)]


def read_yolo(path: Path, images: str | PathLike | None, problems: Problems) -> Annotations:
    """Return what a YOLO folder describes.

    Raises:
        ValueError: it has no labels or several parts; with strict problems, any fault.
    """
    folders = label_folders(path)
    if len(folders) != 1:
        parts = [str(folder) for folder in folders]
        raise ValueError(
            f"{path}: a YOLO set needs one folder of texts in labels/, found {parts or 'none'}; "
            f"{'pass one of them' if parts else 'pass the folder that has labels/'}"
        )
    texts = {text.stem: text for text in _texts(folders[0])}
    folder = _image_folder(folders[0], images)
    stems = {image.stem: image for image in files.images_in(folder)} if folder.is_dir() else {}
    objects = {stem: _objects(text, problems) for stem, text in texts.items()}
    ids = {item.class_id for each in objects.values() for item in each}
    read = Annotations(SOURCE, _classes(folders[0], ids, problems))
    for stem in sorted({*texts, *stems}):
        image_path = stems.get(stem, folder / f"{stem}.jpg")
        read.images.append(AnnotatedImage(stem, str(image_path), objects.get(stem, ())))
    return read


def _texts(folder: Path) -> list[Path]:
    special = ("classes.txt", "labels.txt", "names.txt", "train.txt", "val.txt")
    return sorted(
        path
        for path in folder.glob("*.txt")
        if path.name not in special and not path.name.lower().startswith("readme")
    )


def _image_folder(labels: Path, images: str | PathLike | None) -> Path:
    if images is not None:
        return Path(images)
    parts = labels.parts
    place = len(parts) - 1 - parts[::-1].index("labels")
    return Path(*parts[:place], "images", *parts[place + 1 :])


def _classes(labels: Path, ids: set[int], problems: Problems) -> dict[int, str]:
    names: dict[int, str] = {}
    for folder in (labels, *labels.parents[:LEVELS_UP]):
        found = sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")])
        found = [path for path in found if "names" in files.read_text(path)]
        listing = folder / "classes.txt"
        if found:
            names = read_names(found[0])
        elif listing.is_file():
            lines = files.read_text(listing).splitlines()
            names = {place: line.strip() for place, line in enumerate(lines) if line.strip()}
        if names:
            break
    if not names:
        return {class_id: f"class {class_id}" for class_id in sorted(ids)}
    unnamed = sorted(ids - set(names))
    if unnamed:
        problems.error(
            "unknown-class",
            f"the class ids {unnamed} have no name",
            remedy="add them to the names of the set",
        )
    return {n: names.get(n, f"class {n}") for n in sorted({*names, *unnamed})}


def _objects(path: Path, problems: Problems) -> list[outlines.AnnotatedObject]:
    objects, num_boxes = [], 0
    for number, line in enumerate(files.read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            class_id, values = _numbers(line)
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
    first, *others = line.split()
    if not first.isdecimal():
        raise ValueError(f"it must begin with a class id, got {first!r}")
    return int(first), [float(value) for value in others]


def _shape(values: list[float]) -> outlines.Polygon:
    if len(values) == 4:
        x, y, width, height = values
        outline = outlines.rectangle(x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    elif len(values) >= 6 and len(values) % 2 == 0:
        outline = outlines.polygon(values[::2], values[1::2])
    else:
        raise ValueError(
            f"{len(values)} numbers follow the class id; a box has 4, a polygon 6, 8, 10, ..."
        )
    if np.abs(outline.points).max() > 2:
        raise ValueError("its coordinates are no fractions of the image's width and height")
    return outlines.Polygon(outline.points, is_relative=True)
