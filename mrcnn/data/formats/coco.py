"""COCO annotations: polygons, run lengths and crowds (Lin et al. 2014, cocodataset.org)."""

import json
import logging
from collections import Counter
from collections.abc import Iterable
from os import PathLike
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from mrcnn.data.dataset import Dataset
from mrcnn.geometry import masks

logger = logging.getLogger("mrcnn")

SOURCE = "coco"


class CocoDataset(Dataset):
    """Images of a COCO file. `load_coco` makes it.

    Each image's info has "width", "height" and "annotations": its usable objects, each with
    "id", "category_id", "iscrowd" and "segmentation", a compressed run length.

    Attributes:
        dropped_objects: the number of objects that had no pixel in their image.
    """

    dropped_objects = 0

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the objects of an image: masks (H, W, N) bool, class_ids (N,) int32.

        Crowds have the negative class id.
        """
        info = self.image_info[image_id]
        objects = info["annotations"]
        rles = [annotation["segmentation"] for annotation in objects]
        class_ids = [
            self.map_source_class_id(f"{info['source']}.{annotation['category_id']}")
            * (-1 if annotation["iscrowd"] else 1)
            for annotation in objects
        ]
        size = info["height"], info["width"]
        return masks.from_rle(rles, size), np.array(class_ids, np.int32).reshape(-1)


def load_coco(
    annotations: str | PathLike, image_dir: str | PathLike, *, allow_empty: bool = False
) -> CocoDataset:
    """Return the prepared dataset of a COCO instances file.

    Classes are numbered from 1 in the order of their category ids. Images without objects are
    kept. An object without a pixel in its image is dropped with a warning; polygons that
    reach beyond the image are cut off.

    Args:
        annotations: the JSON file.
        image_dir: the folder that the file names are relative to.
        allow_empty: accept a file without any annotation.

    Raises:
        ValueError: the file is no JSON, lacks a part, or refers to what it does not list.
    """
    content = _read(annotations)
    dataset = CocoDataset()
    for category in _sorted_categories(content["categories"], annotations):
        dataset.add_class(SOURCE, category["id"], category["name"])
    objects = _objects_by_image(content, annotations)
    if not any(objects.values()) and not allow_empty:
        raise ValueError(f"{annotations} has no annotations; pass allow_empty=True if so meant")
    for image in content["images"]:
        usable = [_usable(annotation, image) for annotation in objects[image["id"]]]
        kept = [annotation for annotation in usable if annotation]
        dataset.dropped_objects += len(usable) - len(kept)
        dataset.add_image(
            SOURCE,
            image["id"],
            str(Path(image_dir) / image["file_name"]),
            width=image["width"],
            height=image["height"],
            annotations=kept,
        )
    dataset.prepare()
    return dataset


def _read(path: str | PathLike) -> dict:
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path} is no JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    for part in ("images", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(part), list):
            raise ValueError(f"{path} is no COCO file: it has no list of {part}")
    for part, keys in (("images", ("id", "file_name", "width", "height")), ("categories", ("id",))):
        for record in content[part]:
            missing = [key for key in keys if record.get(key) is None]
            if missing:
                raise ValueError(f"{path}: an entry of {part} lacks {', '.join(missing)}: {record}")
    return content


def _sorted_categories(categories: list[dict], path: str | PathLike) -> list[dict]:
    by_id = sorted(categories, key=lambda category: category["id"])
    named = [{"id": entry["id"], "name": str(entry.get("name", entry["id"]))} for entry in by_id]
    for key in ("id", "name"):
        value, count = Counter(entry[key] for entry in named).most_common(1)[0] if named else (0, 0)
        if count > 1:
            ids = [entry["id"] for entry in named if entry[key] == value]
            raise ValueError(
                f"{path}: {count} categories have the {key} {value!r} (ids {ids}); "
                f"rename or remove all but one"
            )
    return named


def _objects_by_image(content: dict, path: str | PathLike) -> dict[object, list[dict]]:
    """Return the annotations of each image id, checked to refer to what the file lists."""
    category_ids = {category["id"] for category in content["categories"]}
    objects: dict[object, list[dict]] = {image["id"]: [] for image in content["images"]}
    if len(objects) < len(content["images"]):
        raise ValueError(f"{path}: several images have the same id; give each its own")
    for annotation in content.get("annotations", []):
        name = f"{path}: annotation {annotation.get('id')}"
        if annotation.get("category_id") not in category_ids:
            raise ValueError(
                f"{name} has category_id {annotation.get('category_id')}, "
                f"which is not in the list of categories"
            )
        if annotation.get("image_id") not in objects:
            raise ValueError(
                f"{name} has image_id {annotation.get('image_id')}, "
                f"which is not in the list of images"
            )
        objects[annotation["image_id"]].append(annotation)
    return objects


def _usable(annotation: dict, image: dict) -> dict | None:
    """Return what is kept of an annotation, None after a warning where it has no pixels."""
    try:
        rle = _to_rle(annotation.get("segmentation"), image["height"], image["width"])
        if not coco_mask.area(rle):
            raise ValueError("it has no pixel in the image")
    except (TypeError, ValueError) as error:
        logger.warning(
            "dropped object %s of image %s: %s", annotation.get("id"), image["file_name"], error
        )
        return None
    return {
        "id": annotation.get("id"),
        "category_id": annotation["category_id"],
        "iscrowd": annotation.get("iscrowd", 0),
        "segmentation": rle,
    }


def _to_rle(segmentation: object, height: int, width: int) -> dict:
    if not segmentation:
        raise ValueError("its segmentation is empty")
    if isinstance(segmentation, dict):
        rle = _compressed(segmentation, height, width)
    elif isinstance(segmentation, list):
        rle = coco_mask.merge(coco_mask.frPyObjects(_polygons(segmentation), height, width))
    else:
        raise ValueError(f"its segmentation is a {type(segmentation).__name__}")
    counts = rle["counts"]
    return {
        "size": [height, width],
        "counts": counts if isinstance(counts, str) else counts.decode(),
    }


def _compressed(rle: dict, height: int, width: int) -> dict:
    if list(rle.get("size", [])) != [height, width]:
        raise ValueError(f"its mask has size {rle.get('size')}, the image [{height}, {width}]")
    counts = rle.get("counts")
    if isinstance(counts, list):
        if sum(counts) != height * width:
            raise ValueError(f"its runs add up to {sum(counts)}, not {height * width}")
        return coco_mask.frPyObjects(rle, height, width)
    if not isinstance(counts, str):
        raise ValueError("its mask has no counts")
    masks.from_rle([rle], (height, width))  # raises on damage, which pycocotools would decode
    return rle


def _polygons(segmentation: Iterable) -> list[list[float]]:
    """Return the polygons with an inside; three points at least, x and y in turn."""
    polygons = [[float(value) for value in polygon] for polygon in segmentation]
    usable = [polygon for polygon in polygons if len(polygon) >= 6 and len(polygon) % 2 == 0]
    if not usable:
        raise ValueError("its polygons have fewer than three points")
    if not all(np.isfinite(polygon).all() for polygon in usable):
        raise ValueError("its polygons have coordinates that are no numbers")
    return usable
