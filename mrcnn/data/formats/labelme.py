"""labelme 3 to 6 (Wada): one JSON file per image, next to it or with the image embedded."""

import base64
from collections.abc import Callable, Iterable, Sequence
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from mrcnn.data import outlines
from mrcnn.data.annotated import AnnotatedDataset, AnnotatedImage, Annotations
from mrcnn.data.assembly import make_dataset
from mrcnn.data.formats import files
from mrcnn.data.formats.image_lookup import ImageLookup
from mrcnn.data.problems import POINTS, Problems
from mrcnn.geometry import image_files

SOURCE = "labelme"
IGNORED, BACKGROUND = "__ignore__", "_background_"
WITHOUT_AREA = ("point", "points", "line", "linestrip")
CLASS_LIST = "labels.txt"


def load_labelme(
    path: str | PathLike,
    images: str | PathLike | None = None,
    *,
    channels: int = 3,
    class_names: Sequence[str] | None = None,
) -> AnnotatedDataset:
    """Return the prepared dataset of a labelme file, or of all files in a folder.

    Shapes with the same label and group_id are one object. `__ignore__` is a crowd, `_background_`
    is left out. Classes are numbered as in a labels.txt in the folder or its parent, else by name.

    Args:
        path: a JSON file or a folder of them.
        images: the image folder; None: as stated in the files.
        channels: of the images.
        class_names: see `make_dataset`.

    Raises:
        ValueError: If a file is not a labelme file, or has a label not listed in labels.txt.
    """
    problems = Problems()
    found = files.list_files(Path(path), ".json") if Path(path).is_dir() else [Path(path)]
    read = read_labelme(found, images, problems)
    return make_dataset(read, problems, channels=channels, class_names=class_names)


def recognise(content: Any) -> bool:
    """Return whether the content of a JSON file is in labelme format."""
    return isinstance(content, dict) and isinstance(content.get("shapes"), list)


def read_labelme(
    paths: Iterable[Path], images: str | PathLike | None, problems: Problems
) -> Annotations:
    """Return the annotations in labelme files.

    Raises:
        ValueError: If a file is not a labelme file; with strict problems, any fault.
    """
    paths = list(paths)
    read: list[tuple[AnnotatedImage, list[str]]] = []
    names = [[f"{path.stem}.png"] for path in paths]
    lookups: dict[Path, ImageLookup] = {}
    for path in paths:
        if path.parent not in lookups:
            lookups[path.parent] = ImageLookup(path.parent, images, names, problems)
        try:
            read.append(_read_one(path, lookups[path.parent], problems))
        except ValueError as error:
            problems.error("unreadable-annotations", str(error))
    labels = {label for _, each in read for label in each}
    listed = _class_list(paths[0], labels, problems) if paths else []
    classes = {number: name for number, name in enumerate(listed, start=1)}
    ids = {name: number for number, name in classes.items()}
    annotations = Annotations(SOURCE, classes)
    for image, _ in read:
        # An ignored region has no class; the first one is used as a placeholder.
        objects = [
            outlines.AnnotatedObject(
                ids.get(item.class_id, 1),
                item.shapes,
                item.is_crowd,
                item.id,
                is_ignored=item.class_id == IGNORED,
            )
            for item in image.objects
            if classes
        ]
        annotations.images.append(
            AnnotatedImage(image.id, image.path, objects, image.size, embedded=image.embedded)
        )
    return annotations


def _read_one(
    path: Path, lookup: ImageLookup, problems: Problems
) -> tuple[AnnotatedImage, list[str]]:
    """Return the image of a file, with labels instead of class ids, and those labels."""
    content = files.read_json(path)
    if not recognise(content):
        raise ValueError(f"{path} is no labelme file: it has no list of shapes")
    named = str(content.get("imagePath") or "")
    # Some files name themselves there, some contain the image data.
    is_path = PurePosixPath(named).suffix.lower() != ".json" and not named.startswith("data:")
    candidates = [named] if named and is_path else []
    is_there = lookup.exists(candidates, path.stem)
    image_path = lookup.find(candidates or [path.stem], path.stem)
    size = files.stated_size(content.get("imageHeight"), content.get("imageWidth"))
    objects = _objects(content["shapes"], path.name, size, problems)
    data = content.get("imageData")
    is_embedded = not is_there and isinstance(data, str) and bool(data)
    image = AnnotatedImage(
        path.stem, image_path, objects, size, embedded=str(path) if is_embedded else None
    )
    return image, [item.class_id for item in objects if item.class_id != IGNORED]


def _objects(
    listed: list[dict], image: str, size: tuple[int, int] | None, problems: Problems
) -> list[outlines.AnnotatedObject]:
    """Return the objects of a file, with labels as class ids; groups are merged."""
    grouped: dict[Any, tuple[str, int, list[outlines.Shape]]] = {}
    for place, entry in enumerate(listed):
        if not isinstance(entry, dict):
            problems.error("bad-entry", "it is no shape", image=image, object=place)
            continue
        label = str(entry.get("label") or "").strip()
        if label == BACKGROUND:
            continue
        if not label:
            problems.error(
                "object-without-class",
                "it has no label",
                image=image,
                object=place,
                remedy="give each object its class, or remove it",
            )
            continue
        try:
            shape = _shape(entry, size)
        except _NoAreaError as error:
            problems.dropped(error, label, POINTS, image=image, object=place)
            continue
        except (TypeError, ValueError, IndexError, KeyError, OverflowError) as error:
            problems.dropped(_plain(error), label, image=image, object=place)
            continue
        group = entry.get("group_id")
        key = place if group is None else (label, str(group))
        grouped.setdefault(key, (label, place, []))[2].append(shape)
    return [
        outlines.AnnotatedObject(label, parts, label == IGNORED, place)
        for label, place, parts in grouped.values()
    ]


def _shape(entry: dict, size: tuple[int, int] | None) -> outlines.Shape:
    kind = str(entry.get("shape_type") or "polygon")
    if kind in WITHOUT_AREA:
        raise _NoAreaError(f"a {kind} has no area")
    points = [(float(x), float(y)) for x, y in entry["points"]]
    if kind == "mask":
        return _mask(points, entry["mask"], size)
    if kind not in _SHAPES:
        raise ValueError(f"{kind[:40]!r} is no shape of labelme")
    return _SHAPES[kind](points)


def _outline(points: list[tuple[float, float]]) -> outlines.Polygon:
    return outlines.polygon([x for x, _ in points], [y for _, y in points])


def _rectangle(points: list[tuple[float, float]]) -> outlines.Polygon:
    """Return the rectangle given by two opposite corners, or by all four."""
    if len(points) not in (2, 4):
        raise ValueError(f"a rectangle has 2 points or 4, this one {len(points)}")
    return _outline(points) if len(points) == 4 else outlines.rectangle(*points[0], *points[1])


def _circle(points: list[tuple[float, float]]) -> outlines.Polygon:
    """Return the circle given by its centre and a point on its rim."""
    if len(points) != 2:
        raise ValueError(f"a circle has 2 points, centre and rim, this one {len(points)}")
    (x, y), rim = points
    radius = float(np.hypot(rim[0] - x, rim[1] - y))
    return outlines.ellipse((x, y), (radius, radius))


def _mask(
    points: list[tuple[float, float]], encoded: str, size: tuple[int, int] | None
) -> outlines.Runs:
    """Return the mask of a PNG whose first pixel is at the first point."""
    if size is None:
        raise ValueError("it is a mask, and the file does not state the size of the image")
    try:
        with image_files.opened(base64.b64decode(encoded, validate=True)) as image:
            if image.width * image.height > 4 * size[0] * size[1] + 4:
                raise ValueError(f"its mask has {image.width} x {image.height} pixels")
            inside = np.array(image.convert("L")) > 0
    # Decoders raise various errors for damaged files: SyntaxError, struct.error.
    except Exception as error:
        raise ValueError(f"its mask cannot be read: {error}") from error
    left, top = int(min(x for x, _ in points)), int(min(y for _, y in points))
    whole = np.zeros(size, bool)
    part = inside[max(-top, 0) :, max(-left, 0) :]
    target = whole[max(top, 0) :, max(left, 0) :][: part.shape[0], : part.shape[1]]
    target[:] = part[: target.shape[0], : target.shape[1]]
    return outlines.run_lengths(whole)


def _class_list(path: Path, labels: set[str], problems: Problems) -> list[str]:
    """Return the class names in order: those of a labels.txt, else the sorted labels."""
    for folder in (path.parent, path.resolve().parent.parent):
        listing = folder / CLASS_LIST
        if not listing.is_file():
            continue
        lines = [line.strip() for line in files.read_text(listing).splitlines()]
        names = [line for line in lines if line and line not in (IGNORED, BACKGROUND)]
        unlisted = sorted(labels - set(names))
        if unlisted:
            problems.error(
                "unknown-class",
                f"{listing} does not list the labels {unlisted[:20]}",
                remedy="add them, or remove the list",
            )
        return [*dict.fromkeys(names), *unlisted]
    return sorted(labels)


class _NoAreaError(ValueError):
    """A kind of shape that has no area."""


def _plain(error: Exception) -> str:
    """Describe what a broken shape lacks."""
    if isinstance(error, KeyError):
        return f"it lacks {error.args[0]}"
    return "its points are incomplete" if isinstance(error, IndexError) else str(error)


_SHAPES: dict[str, Callable[[list[tuple[float, float]]], outlines.Polygon]] = {
    "polygon": _outline,
    "oriented_rectangle": _outline,
    "rotation": _outline,  # what X-AnyLabeling calls it
    "quadrilateral": _outline,
    "rectangle": _rectangle,
    "circle": _circle,
}
