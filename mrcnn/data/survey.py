"""A survey of the images of a dataset: file, size, objects and faults of each."""

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from scipy.spatial import cKDTree
from skimage import measure

from mrcnn.data import outlines
from mrcnn.data.annotated import AnnotatedDataset
from mrcnn.data.outlines import AnnotatedObject, Polygon
from mrcnn.data.problems import Finding, Problems
from mrcnn.geometry import image_files, masks, polygons

SAME = 0.95  # IoU from which two objects count as one that is outlined twice
ROUNDING = 0.5  # pixels that corners may be outside the image
NEAR = 0.3  # maximum distance of duplicates' centres, as a fraction of the object side
MOST_TWINS = 200_000  # maximum number of overlapping pairs to compare

Progress = Callable[[Sequence[int]], Iterable[int]]


@dataclass
class ImageSurvey:
    """The survey of one image.

    Attributes:
        name: name of its file.
        size: (H, W) of the upright image; None if the file cannot be read.
        class_ids: class ids of its objects, negative for crowds: (n,).
        boxes: tight, y1, x1, y2, x2 in the objects' frame: (n, 4).
        num_rectangles: number of objects that are axis-aligned rectangles.
        num_polygons: number of objects that are other polygons.
        digest: digest of the pixels; None if they were not or could not be read.
        mean: mean of the pixels: (C,); None likewise.
        findings: its faults.
    """

    name: str
    size: tuple[int, int] | None = None
    class_ids: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    num_rectangles: int = 0
    num_polygons: int = 0
    digest: str | None = None
    mean: np.ndarray | None = None
    findings: list[Finding] = field(default_factory=list)


def survey(
    dataset: AnnotatedDataset,
    image_ids: Sequence[int],
    *,
    read_pixels: bool = True,
    progress: Progress = iter,
) -> list[ImageSurvey]:
    """Return the survey of each of these images.

    Args:
        dataset: prepared.
        image_ids: of the dataset.
        read_pixels: decode the images; else only their headers are read.
        progress: called with the image ids, yields them.
    """
    return [_survey_image(dataset, image_id, read_pixels) for image_id in progress(image_ids)]


def _survey_image(dataset: AnnotatedDataset, image_id: int, read_pixels: bool) -> ImageSurvey:
    name = Path(dataset.image_info[image_id]["path"]).name
    problems = Problems(strict=False)
    found = ImageSurvey(name, findings=problems.found)
    found.size = _checked_size(dataset, image_id, problems, name)
    if read_pixels and found.size is not None:
        _read(dataset, image_id, found, problems)
    try:
        _survey_objects(dataset, image_id, found, problems)
    except ValueError as error:
        if found.size is not None:  # else the image itself is at fault, as already reported
            problems.error("unreadable-mask", str(error), image=name)
    return found


def _survey_objects(
    dataset: AnnotatedDataset, image_id: int, found: ImageSurvey, problems: Problems
) -> None:
    objects = dataset.objects(image_id)
    found.class_ids = np.array([dataset.class_id_of(item) for item in objects], np.int32)
    outlined = [_is_rectangle(item) for item in objects if isinstance(item.shapes[0], Polygon)]
    found.num_rectangles, found.num_polygons = sum(outlined), len(outlined) - sum(outlined)
    size = dataset.object_size(image_id)
    rles = outlines.encode_each(objects, size)
    boxes = np.zeros((0, 4))
    if rles:
        boxes = coco_mask.toBbox(rles)
    found.boxes = np.concatenate([boxes[:, 1::-1], boxes[:, 1::-1] + boxes[:, :1:-1]], axis=1)
    for item, rle in zip(objects, rles, strict=True):
        _check_object(item, rle, size, dataset.format == "via", (problems, found.name))
    _check_duplicates(objects, rles, found.boxes, (problems, found.name))
    if dataset.annotated(image_id).label_image and len(rles) == 1:
        _check_single_label(rles[0], problems, found.name)


def _checked_size(
    dataset: AnnotatedDataset, image_id: int, problems: Problems, name: str
) -> tuple[int, int] | None:
    """Return the size of the upright image; None if its file cannot be read."""
    image = dataset.annotated(image_id)
    if image.embedded is None and not os.path.isfile(image.path):
        problems.error(
            "missing-image",
            f"there is no file {image.path}",
            image=name,
            remedy="pass --images DIR (or --val-images DIR), or remove the entry",
        )
        return None
    try:
        stored, orientation = image_files.read_size(dataset.image_file(image_id))
    except ValueError as error:
        problems.error("unreadable-image", str(error), image=name, remedy="replace or remove it")
        return None
    upright = stored[::-1] if orientation >= 5 else stored
    if image.size not in (None, upright) and dataset.turn(image_id) == 1:
        problems.error(
            "image-size",
            f"its annotations are for {_text(image.size)} pixels, the image has {_text(upright)}",
            image=name,
            remedy="use the image that the annotations were made on",
        )
    elif image.size not in (None, upright):
        problems.info(
            "turned", "its annotations fit the image as stored: they are rotated", image=name
        )
    return upright


def _read(dataset: AnnotatedDataset, image_id: int, found: ImageSurvey, problems: Problems) -> None:
    try:
        image = dataset.load_image(image_id)
    except ValueError as error:
        remedy = "replace or remove it"
        problems.error("unreadable-image", str(error), image=found.name, remedy=remedy)
        return
    found.digest = hashlib.blake2b(image.tobytes(), digest_size=16).hexdigest()
    # Per channel: NumPy's mean over two of three axes takes ten times as long.
    found.mean = np.array([image[..., channel].mean() for channel in range(image.shape[-1])])


def _is_rectangle(item: AnnotatedObject) -> bool:
    shape = item.shapes[0]
    if len(item.shapes) != 1 or not isinstance(shape, Polygon):
        return False
    low, high = shape.points.min(axis=0), shape.points.max(axis=0)
    is_high = shape.points == high
    if not (is_high | (shape.points == low)).all() or (low == high).any():
        return False
    return len(set(map(tuple, is_high.tolist()))) == 4  # each corner occurs once


def _check_object(
    item: AnnotatedObject,
    rle: dict,
    size: tuple[int, int],
    counts_pixels: bool,
    report: tuple[Problems, str],
) -> None:
    """Report faults of an object's outline.

    Args:
        counts_pixels: points are pixel indices, up to width - 1, not pixel corners.
        report: the collection, and the name of the image.
    """
    problems, name = report
    parts = [shape.pixels(size) for shape in item.shapes if isinstance(shape, Polygon)]
    points = np.concatenate(parts) if parts else np.zeros((0, 2))
    limit = np.array(size[::-1], float)  # width, height
    where = {"image": name, "object": item.id}
    if not coco_mask.area(rle):
        is_outside = bool(len(points)) and bool(
            (points.max(axis=0) <= 0).any() or (points.min(axis=0) >= limit).any()
        )
        message = "it lies outside the image" if is_outside else "it has no pixel in the image"
        remedy = "redraw or remove it; it is left out of training"
        problems.warning("no-area", message, **where, remedy=remedy)
        return
    beyond = points >= limit if counts_pixels else points > limit + ROUNDING
    if beyond.any() or (points < -ROUNDING).any():
        farthest = points.max(axis=0)
        problems.warning(
            "beyond-border",
            f"its outline reaches x {points[:, 0].min():g} to {farthest[0]:g}, "
            f"y {points[:, 1].min():g} to {farthest[1]:g} in an image of {_text(size)}"
            + (", whose last pixel is one less" if counts_pixels else ""),
            **where,
            remedy="it is clipped at the border; fix it if that is wrong",
        )
    if any(map(polygons.crosses_itself, parts)):
        problems.warning(
            "self-crossing",
            "its outline crosses itself: areas enclosed twice may count as outside",
            **where,
            remedy="redraw it without crossings",
        )


def _check_duplicates(
    objects: Sequence[AnnotatedObject],
    rles: list[dict],
    boxes: np.ndarray,
    report: tuple[Problems, str],
) -> None:
    problems, name = report
    twins = _copies(rles)
    left = np.array([place for place in range(len(rles)) if place not in twins], np.int64)
    for first, second in _near_each_other(boxes[left]):
        first, second = int(left[first]), int(left[second])
        if second in twins or first in twins:
            continue
        if coco_mask.iou([rles[first]], [rles[second]], [0])[0, 0] >= SAME:
            twins[second] = first
    for second, first in sorted(twins.items()):
        classes = objects[first].class_id, objects[second].class_id
        problems.warning(
            "duplicate-object" if classes[0] == classes[1] else "two-classes",
            f"it covers the same area as object {objects[first].id}"
            + ("" if classes[0] == classes[1] else ", with another class"),
            image=name,
            object=objects[second].id,
            remedy="remove one of them",
        )


def _copies(rles: Sequence[dict]) -> dict[int, int]:
    """Map objects to an identical earlier one, by index, ignoring empty ones."""
    seen: dict[Any, int] = {}
    copies = {}
    for place, rle in enumerate(rles):
        first = seen.setdefault(rle["counts"], place)
        if first != place and coco_mask.area(rle):
            copies[place] = first
    return copies


def _near_each_other(boxes: np.ndarray) -> list[tuple[int, int]]:
    """Return the pairs of boxes (n, 4) of similar size and position, in order.

    Sizes with too many boxes in one place are skipped.
    """
    sides = np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))
    real = np.flatnonzero(sides > 0)
    centres, octaves = (boxes[:, :2] + boxes[:, 2:]) / 2, np.zeros(len(boxes))
    octaves[real] = np.floor(np.log2(sides[real]))
    pairs: set[tuple[int, int]] = set()
    for octave in np.unique(octaves[real]):
        alike = real[(octaves[real] == octave) | (octaves[real] == octave + 1)]
        tree, reach = cKDTree(centres[alike]), NEAR * 2.0 ** (octave + 1)
        if tree.count_neighbors(tree, reach) > 2 * MOST_TWINS:
            continue
        pairs |= {(int(alike[i]), int(alike[j])) for i, j in tree.query_pairs(reach)}
    return sorted(pairs)


def _check_single_label(rle: dict, problems: Problems, name: str) -> None:
    parts = int(measure.label(masks.from_rle([rle], rle["size"])[..., 0]).max())
    if parts > 1:
        problems.warning(
            "one-label",
            f"its mask has one value in {parts} separate regions, which are read as one object",
            image=name,
            remedy="give each object its own value",
        )


def _text(size: tuple[int, int] | None) -> str:
    return f"{size[1]} x {size[0]}" if size else "?"
