"""COCO annotations: polygons, run lengths and crowds (Lin et al. 2014, cocodataset.org).

Also LVIS (Gupta et al. 2019), and exports that lean on COCO's form, such as Roboflow's.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from mrcnn.data import outlines
from mrcnn.data.annotated import AnnotatedDataset, AnnotatedImage, Annotations, make_dataset
from mrcnn.data.formats import files
from mrcnn.data.problems import Problems
from mrcnn.geometry import masks

SOURCE = "coco"


def load_coco(
    annotations: str | PathLike,
    image_dir: str | PathLike | None = None,
    *,
    allow_empty: bool = False,
    channels: int = 3,
    class_names: Sequence[str] | None = None,
) -> AnnotatedDataset:
    """Return the prepared dataset of a COCO instances file.

    Classes are numbered from 1 in the order of their category ids. Images without objects are
    kept. An object without a pixel in its image is dropped with a warning; polygons that
    reach beyond the image are cut off.

    Args:
        annotations: the JSON file.
        image_dir: the folder that the file names are relative to; None: looked for nearby.
        allow_empty: accept a file without any annotation.
        channels: of the images.
        class_names: see `make_dataset`.

    Raises:
        ValueError: the file is no JSON, lacks a part, or refers to what it does not list.
    """
    problems = Problems()
    content = files.read_json(annotations)
    read = read_coco(content, Path(annotations), image_dir, problems)
    if not any(image.objects for image in read.images) and not allow_empty:
        raise ValueError(f"{annotations} has no annotations; pass allow_empty=True if so meant")
    return make_dataset(read, problems, channels=channels, class_names=class_names)


def recognise(content: Any) -> bool:
    """Tell whether the content of a JSON file is COCO's."""
    return isinstance(content, dict) and isinstance(content.get("images"), list)


def read_coco(
    content: Any, path: Path, image_dir: str | PathLike | None, problems: Problems
) -> Annotations:
    """Return what the content of a COCO file describes.

    Raises:
        ValueError: it lacks a list, or an entry what it needs; with strict problems, any fault.
    """
    _check_lists(content, path)
    annotations = content.get("annotations") or []
    classes = _classes(content["categories"], annotations, path, problems)
    objects = _objects_by_image(content, path, problems)
    has_outlines = any(annotation.get("segmentation") for annotation in annotations)
    if annotations and not has_outlines:
        problems.warning(
            "boxes-as-masks",
            f"no object of {path} has a segmentation: the masks are the boxes",
            remedy="outline the objects if their shape matters",
        )
    names = {image["id"]: _file_names(image) for image in content["images"]}
    if image_dir is None:
        folder = files.image_folder(path, list(names.values()))
    else:
        folder = files.ImageFolder(image_dir)
    read = Annotations(SOURCE, classes, keypoint_names=_keypoint_names(content["categories"]))
    for image in content["images"]:
        size = files.stated_size(image["height"], image["width"])
        found = folder.find(names[image["id"]])
        read.images.append(
            AnnotatedImage(
                image["id"],
                found or str(folder.path / names[image["id"]][0]),
                _usable(objects[image["id"]], size, names[image["id"]][0], has_outlines, problems),
                size,
            )
        )
    return read


def _check_lists(content: Any, path: Path) -> None:
    for part in ("images", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(part), list):
            raise ValueError(f"{path} is no COCO file: it has no list of {part}")
    if not isinstance(content.get("annotations") or [], list):
        raise ValueError(f"{path} is no COCO file: its annotations are no list")
    needed = {"images": ("id", "width", "height"), "categories": ("id",), "annotations": ()}
    for part, keys in needed.items():
        for record in content.get(part) or []:
            try:
                _check_record(record, keys)
            except ValueError as error:
                raise ValueError(f"{path}: an entry of {part} {error}: {record}") from error


def _check_record(record: Any, keys: Sequence[str]) -> None:
    if not isinstance(record, dict):
        raise ValueError("is no object")
    missing = [key for key in keys if record.get(key) is None]
    if missing:
        raise ValueError(f"lacks {', '.join(missing)}")
    if "id" in keys and not isinstance(record["id"], int | str):
        raise ValueError("has an id that is neither a whole number nor a text")
    if "height" in keys:
        files.stated_size(record["height"], record["width"])


def _file_names(image: dict) -> list[str]:
    """Return the names that the file of an image may have, the one it is given first.

    LVIS 0.5 writes COCO's names of 2014, LVIS 1 none at all; the files are named by id, as the
    URL has it.
    """
    names = [image.get("file_name"), PurePosixPath(str(image.get("coco_url") or "")).name]
    if str(image["id"]).isdecimal():
        names.append(f"{int(image['id']):012d}.jpg")
    return [str(name) for name in names if name]


def _classes(
    categories: list[dict], annotations: list[dict], path: Path, problems: Problems
) -> dict[Any, str]:
    """Return the names of the category ids, in their order."""
    by_id = sorted(categories, key=lambda entry: (isinstance(entry["id"], str), entry["id"]))
    named = [(entry["id"], str(entry.get("name", entry["id"]))) for entry in by_id]
    known = {entry["id"]: entry["id"] for entry in categories}
    used = {_listed(annotation.get("category_id"), known) for annotation in annotations}
    for class_id, name in _superfluous(by_id, used) if used else ():
        named.remove((class_id, name))
        if name in (other for _, other in named):
            problems.warning(
                "duplicate-class",
                f"category {class_id} is left out: it has no objects, and another one is named "
                f"{name!r}",
                remedy="remove it from the file",
            )
    for place, key in enumerate(("id", "name")):
        for value, count in Counter(entry[place] for entry in named).items():
            if count > 1:
                ids = [entry[0] for entry in named if entry[place] == value]
                problems.error(
                    "duplicate-class",
                    f"{path}: {count} categories have the {key} {value!r} (ids {ids})",
                    remedy="rename or remove all but one",
                )
    return dict(named)


def _superfluous(categories: list[dict], used: set) -> list[tuple[Any, str]]:
    """Return id and name of the categories to leave out.

    They have no objects, and are the title that Roboflow writes as category 0, or are named like
    another one.
    """
    names = Counter(str(entry.get("name", entry["id"])) for entry in categories)
    parents = {str(entry.get("supercategory")) for entry in categories}
    superfluous = []
    for entry in categories:
        name = str(entry.get("name", entry["id"]))
        is_title = entry["id"] == 0 and (entry.get("supercategory") == "none" or name in parents)
        if entry["id"] not in used and (is_title or names[name] > 1):
            names[name] -= 1
            superfluous.append((entry["id"], name))
    return superfluous


def _objects_by_image(content: dict, path: Path, problems: Problems) -> dict[Any, list[dict]]:
    """Return the annotations of each image id, checked to refer to what the file lists."""
    ids = {
        "category_id": {category["id"]: category["id"] for category in content["categories"]},
        "image_id": {image["id"]: image["id"] for image in content["images"]},
    }
    objects: dict[Any, list[dict]] = {image_id: [] for image_id in ids["image_id"]}
    if len(objects) < len(content["images"]):
        problems.error(
            "duplicate-image", f"{path}: several images have the same id; give each its own"
        )
    for annotation in content.get("annotations") or []:
        found = {key: _listed(annotation.get(key), listed) for key, listed in ids.items()}
        unknown = [key for key, value in found.items() if value is None]
        for key in unknown[:1]:
            problems.error(
                f"unknown-{key.removesuffix('_id')}",
                f"{path}: annotation {annotation.get('id')} has {key} {annotation.get(key)}, "
                f"which is not in the file's list",
                remedy="add it to the list, or remove the annotation",
            )
        if not unknown:
            objects[found["image_id"]].append({**annotation, **found})
    return objects


def _listed(value: Any, ids: dict[Any, Any]) -> Any:
    """Return an id as the file's list has it, None if it does not: 1.0 and true are 1."""
    return ids.get(value) if isinstance(value, int | float | str) else None


def _usable(
    annotations: list[dict],
    size: tuple[int, int],
    image: str,
    has_outlines: bool,
    problems: Problems,
) -> list[outlines.AnnotatedObject]:
    """Return the objects of an image that have an outline; a warning for each of the others."""
    objects = []
    for annotation in annotations:
        try:
            parts = _shapes(annotation, size, has_outlines)
            points = _keypoints(annotation)
        except (TypeError, ValueError, KeyError) as error:
            problems.dropped(error, image=image, object=annotation.get("id"))
            continue
        is_crowd = bool(annotation.get("iscrowd", 0))
        objects.append(
            outlines.AnnotatedObject(
                annotation["category_id"],
                parts,
                is_crowd,
                annotation.get("id"),
                points,
            )
        )
    return objects


def _keypoint_names(categories: list[dict]) -> list[str]:
    """Return the names of the category's keypoints that has most of them (COCO: the person)."""
    listed = [entry.get("keypoints") for entry in categories]
    return max((names for names in listed if isinstance(names, list)), key=len, default=[])


def _keypoints(annotation: dict) -> np.ndarray | None:
    """Return (P, 3) of y, x and visibility; (0, 0) is the corner of the first pixel."""
    listed = annotation.get("keypoints")
    if not listed:
        return None
    points = np.array(listed, np.float32).reshape(-1, 3)[:, [1, 0, 2]]
    # COCO's keypoints are numbers of pixels: their centres are half a pixel on.
    points[:, :2] += 0.5 * (points[:, 2:] > 0)
    return points


def _shapes(
    annotation: dict, size: tuple[int, int], has_outlines: bool
) -> Sequence[outlines.Shape]:
    segmentation = annotation.get("segmentation")
    if not segmentation and not has_outlines:
        x, y, width, height = (float(value) for value in annotation["bbox"])
        parts: Sequence[outlines.Polygon | outlines.Runs] = [
            outlines.rectangle(x, y, x + width, y + height)
        ]
    elif not segmentation:
        raise ValueError("its segmentation is empty")
    elif isinstance(segmentation, dict):
        parts = [outlines.Runs(_compressed(segmentation, *size))]
    elif isinstance(segmentation, list):
        parts = _polygons(segmentation)
    else:
        raise ValueError(f"its segmentation is a {type(segmentation).__name__}")
    if not coco_mask.area(outlines.encode(parts, size)):
        raise ValueError("it has no pixel in the image")
    return parts


def _compressed(rle: dict, height: int, width: int) -> dict:
    if list(rle.get("size", [])) != [height, width]:
        raise ValueError(f"its mask has size {rle.get('size')}, the image [{height}, {width}]")
    counts = rle.get("counts")
    if isinstance(counts, list):
        if not all(isinstance(run, int) and run >= 0 for run in counts):
            raise ValueError("its runs are no whole numbers")
        if sum(counts) != height * width:
            raise ValueError(f"its runs add up to {sum(counts)}, not {height * width}")
        rle = coco_mask.frPyObjects(rle, height, width)
        return {"size": [height, width], "counts": rle["counts"].decode()}
    if not isinstance(counts, str):
        raise ValueError("its mask has no counts")
    masks.from_rle([rle], (height, width))  # raises on damage, which pycocotools would decode
    return {"size": [height, width], "counts": counts}


def _polygons(segmentation: Iterable) -> list[outlines.Polygon]:
    """Return the polygons with an inside; three points at least, x and y in turn."""
    listed = [np.array(polygon, np.float64).ravel() for polygon in segmentation]
    usable = [polygon for polygon in listed if len(polygon) >= 6 and len(polygon) % 2 == 0]
    if not usable:
        raise ValueError("its polygons have fewer than three points")
    return [outlines.polygon(polygon[::2], polygon[1::2]) for polygon in usable]
