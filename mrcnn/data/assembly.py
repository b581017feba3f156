"""From annotations to a dataset: its classes, and merging of duplicate image entries."""

import dataclasses
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from mrcnn import class_names as names_of_classes
from mrcnn.data import outlines
from mrcnn.data.annotated import AnnotatedDataset, AnnotatedImage, Annotations
from mrcnn.data.outlines import AnnotatedObject
from mrcnn.data.problems import OF_BACKGROUND, Loss, Problems

MOST_CLASSES = 20_000  # each costs memory in the network's heads; the largest public set has 13,204


def make_dataset(
    annotations: Annotations,
    problems: Problems,
    *,
    channels: int = 3,
    class_names: Sequence[str] | None = None,
    used_names: Collection[str] = (),
) -> AnnotatedDataset:
    """Return the prepared dataset of a reader's annotations, and log its warnings.

    Args:
        problems: of the reader.
        channels: of the images.
        class_names: class order, without background; None: as read.
        used_names: classes that have objects in other parts of the dataset.

    Raises:
        ValueError: If the problems are strict and a class with objects is not in `class_names`.
    """
    annotations = _without_background(annotations, problems)
    annotations = _without_titles(annotations, {*used_names, *(class_names or ())}, problems)
    if len(annotations.classes) > MOST_CLASSES:
        problems.error(
            "too-many-classes",
            f"there are {len(annotations.classes)} classes, but at most {MOST_CLASSES} are allowed",
            remedy="remove those that are not intended",
        )
        annotations = dataclasses.replace(annotations, images=[], classes={})
    if class_names is not None:
        annotations = _renamed(annotations, class_names, problems)
    annotations = _merged(annotations, problems)
    if problems.strict:
        problems.log()
    return AnnotatedDataset(annotations, problems.found, channels, problems.losses)


def _without_background(annotations: Annotations, problems: Problems) -> Annotations:
    """Return annotations without background classes and their objects."""
    marks = {i for i, name in annotations.classes.items() if names_of_classes.is_mark(name)}
    if not marks:
        return annotations
    kept = []
    for image in annotations.images:
        objects = [item for item in image.objects if item.class_id not in marks]
        if lost := len(image.objects) - len(objects):
            loss = Loss(None, OF_BACKGROUND, Path(image.path).name, lost)
            problems.losses.append(loss)
        kept.append(dataclasses.replace(image, objects=objects))
    classes = {i: name for i, name in annotations.classes.items() if i not in marks}
    return dataclasses.replace(annotations, classes=classes, images=kept)


def _without_titles(
    annotations: Annotations, wanted: Collection[str], problems: Problems
) -> Annotations:
    """Return annotations without the titles that have no objects in any part of the dataset."""
    titles = [i for i in annotations.titles if i in annotations.classes]
    if not titles:
        return annotations
    used = annotations.used_names() | set(wanted)
    left_out = {i for i in titles if annotations.classes[i] not in used}
    for class_id in left_out:
        name = annotations.classes[class_id]
        problems.info("no-class", f"{name!r} has no objects, and is taken for a title, not a class")
    classes = {i: name for i, name in annotations.classes.items() if i not in left_out}
    return dataclasses.replace(annotations, classes=classes)


def _renamed(
    annotations: Annotations, class_names: Sequence[str], problems: Problems
) -> Annotations:
    """Return annotations with these classes in this order, keeping ids of the annotations."""
    if annotations.is_unnamed and len(class_names) == 1:
        classes = dict.fromkeys(annotations.classes, class_names[0])
        return dataclasses.replace(annotations, classes=classes)
    matched = names_of_classes.matched(annotations.classes.values(), class_names)
    ids = {matched.get(name, name): class_id for class_id, name in annotations.classes.items()}
    used = annotations.used_names()
    unknown = [name for name in annotations.classes.values() if name in used - set(matched)]
    if unknown:
        problems.error(
            "unknown-class",
            f"there are objects of the unknown classes {unknown}; known are {list(class_names)}",
            remedy="rename the classes, or leave these objects out",
        )
    names = [*class_names, *unknown]
    free = (f"absent {number}" for number in range(len(names)))
    classes = {ids[name] if name in ids else next(free): name for name in names}
    return dataclasses.replace(annotations, classes=classes, is_unnamed=False)


def _merged(annotations: Annotations, problems: Problems) -> Annotations:
    """Return annotations with one image per file, with the objects of all its entries."""
    by_file: dict[tuple[str, str | None], list[AnnotatedImage]] = {}
    for image in annotations.images:
        by_file.setdefault((image.path, image.embedded), []).append(image)
    if len(by_file) == len(annotations.images):
        return annotations
    merged = [_as_one(entries, problems) for entries in by_file.values()]
    return dataclasses.replace(annotations, images=merged)


def _as_one(entries: Sequence[AnnotatedImage], problems: Problems) -> AnnotatedImage:
    """Merge the entries of one file into one image."""
    first = entries[0]
    if len(entries) == 1:
        return first
    objects: dict[Any, AnnotatedObject] = {}
    for image in entries:
        for item in image.objects:
            objects.setdefault(_key(item), item)
    problems.warning(
        "image-listed-twice",
        f"it is listed {len(entries)} times (as {first.id!r} with {len(first.objects)} objects, "
        f"as {entries[1].id!r} with {len(entries[1].objects)}): the entries are read as one image",
        image=Path(first.path).name,
        remedy="list it once, with all its objects",
    )
    size = next((image.size for image in entries if image.size), None)
    return dataclasses.replace(first, objects=list(objects.values()), size=size)


def _key(item: AnnotatedObject) -> tuple:
    """Return a key that is equal for duplicate objects."""
    shapes = tuple(
        shape.points.tobytes() if isinstance(shape, outlines.Polygon) else str(shape)
        for shape in item.shapes
    )
    return item.class_id, item.is_crowd, shapes
