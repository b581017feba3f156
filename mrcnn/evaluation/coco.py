"""COCO scores: average precision of masks, boxes and keypoints (Lin et al. 2014).

Data flow: `ground_truth` (an annotation file) or `ground_truth_of` (any Dataset) creates the ground
truth, `match_categories` maps the model's classes to it, `to_results` converts the detections of
one image, and `score` compares the two. `detecting.score_detector` runs a detector in between.
"""

import json
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from mrcnn import class_names as names_of_classes
from mrcnn.data.annotated import AnnotatedDataset
from mrcnn.data.dataset import Dataset
from mrcnn.evaluation import engine
from mrcnn.evaluation import keypoints as of_points
from mrcnn.evaluation.tables import FIGURES, format_table
from mrcnn.geometry import masks as mask_ops

__all__ = ["FIGURES", "format_table"]

NO_CLASS = "N/A"  # a number of classes that no class has, in torchvision's names
IOU_TYPES = ("segm", "bbox")  # and keypoints


class Truth(NamedTuple):
    """The ground truth that detections in a dataset's images are compared with.

    Attributes:
        coco: From `ground_truth` or `ground_truth_of`.
        image_ids: Its id of each image to score, in order.
        category_ids: Its category per class of the network; None for classes without one.
    """

    coco: Any
    image_ids: Sequence[int]
    category_ids: Sequence[int | None]


def to_results(
    detections: Mapping[str, Any], image_id: int | str, category_ids: Sequence[int | None]
) -> list[dict[str, Any]]:
    """Return the detections of one image in COCO's results format, ready for `json.dump`.

    Args:
        detections: boxes or rois (N, 4), class_ids (N,), scores (N,), and masks (H, W, N), or
            their RLE, and keypoints (N, P, 3) where there are any, in image pixels.
        image_id: the id of the image in the ground truth.
        category_ids: category per model class, from `match_categories`; detections of classes
            without one are left out.
    """
    boxes = detections.get("boxes", detections["rois"])  # whole pixels cost some precision
    y1, x1, y2, x2 = np.asarray(boxes, np.float64).T
    results: list[dict[str, Any]] = [
        {
            "image_id": image_id if isinstance(image_id, str) else int(image_id),
            "category_id": category_ids[class_id],
            "bbox": bbox,
            "score": float(score),
        }
        for class_id, bbox, score in zip(
            detections["class_ids"],
            np.stack([x1, y1, x2 - x1, y2 - y1], axis=1).tolist(),
            detections["scores"],
            strict=True,
        )
    ]
    if "masks" in detections:
        masks = detections["masks"]
        rles = masks if isinstance(masks, list) else mask_ops.to_rle(masks)
        for result, segmentation in zip(results, rles, strict=True):
            result["segmentation"] = segmentation
    if "keypoints" in detections:
        # COCO numbers pixels, here (0, 0) is the corner of the first one.
        points = np.asarray(detections["keypoints"], np.float64) - [0.5, 0.5, 0]
        for result, rows in zip(results, points[..., [1, 0, 2]], strict=True):
            result["keypoints"] = rows.ravel().tolist()
    return [result for result in results if result["category_id"] is not None]


def ground_truth(annotations: str | PathLike[str] | Mapping[str, Any]) -> COCO:
    """Return the ground truth of an annotation file (or of its content), indexed for `score`.

    Objects are renumbered from 1: pycocotools takes a match with object 0 for no match, and files
    that count from 0 are common. Missing areas and boxes are computed from the outlines.

    Raises:
        ValueError: if a list is missing, or an object has no usable outline or no image.
    """
    content = annotations if isinstance(annotations, Mapping) else _read(annotations)
    missing = [key for key in ("images", "annotations", "categories") if key not in content]
    if missing:
        raise ValueError(f"COCO annotations must be a dict with the lists {missing} as well")
    sizes = {image["id"]: _image_size(image) for image in content["images"]}
    points = max((len(item.get("keypoints") or ()) for item in content["annotations"]), default=0)
    objects = [
        _complete(annotation, number, sizes, points)
        for number, annotation in enumerate(content["annotations"], start=1)
    ]
    return engine.indexed({**content, "annotations": objects})


def truth_of(dataset: Dataset, image_ids: Sequence[int], num_classes: int) -> Truth:
    """Return the ground truth of a dataset whose classes are those of the network.

    Args:
        dataset, image_ids: See `ground_truth_of`.
        num_classes: K.
    """
    return Truth(ground_truth_of(dataset, image_ids), image_ids, range(num_classes))


def ground_truth_of(dataset: Dataset, image_ids: Sequence[int] | None = None) -> COCO:
    """Return the ground truth of a prepared dataset; category ids are its class ids.

    Image ids are those of `dataset.image_ids`. Objects with negative class are crowds; objects
    without a pixel are left out, as they cannot be detected. Areas and boxes stated in annotations
    are used, as in pycocotools.

    Args:
        image_ids: Only these images; None for all.
    """
    images, objects = [], []
    for image_id in dataset.image_ids if image_ids is None else image_ids:
        (height, width), records = _objects_of(dataset, int(image_id))
        images.append({"id": int(image_id), "height": height, "width": width})
        objects += [{"image_id": int(image_id), **record} for record in records]
    names = enumerate(dataset.class_names)
    categories = [{"id": class_id, "name": name} for class_id, name in names if class_id > 0]
    return ground_truth({"images": images, "annotations": objects, "categories": categories})


def match_categories(class_names: Sequence[str], coco_gt: COCO) -> list[int | None]:
    """Return the category id of each model class by name: (K,), None for the background.

    Classes that the annotations do not have get None, and are not scored; so do those named
    "N/A", torchvision's numbers that COCO does not use.

    If two categories share a name, the one with objects is used (Roboflow writes an unused
    category named after the project).

    Raises:
        ValueError: If there are objects of a class that the model lacks, or no class name matches
            a category: a wrong list of classes must not become a score of 0.
    """
    used = {annotation["category_id"] for annotation in coco_gt.dataset["annotations"]}
    by_name: dict[str, int] = {}
    for category in sorted(coco_gt.dataset["categories"], key=lambda entry: entry["id"] in used):
        name, category_id = category["name"], category["id"]
        if by_name.get(name) in used:
            raise ValueError(f"two categories with objects are named {name!r}; rename one")
        by_name[name] = category_id
    needed = {name for name, category_id in by_name.items() if category_id in used}
    known = {name: other for other, name in names_of_classes.matched(by_name, class_names).items()}
    unknown = needed - {known.get(name) for name in class_names[1:]}
    if unknown or not set(known) - {NO_CLASS}:
        raise ValueError(
            "the classes of the model and of the annotations must have the same names; "
            f"not in the annotations: {sorted(set(class_names[1:]) - set(known))}, not in the "
            f"model: {sorted(unknown)}. Model: {list(class_names[1:])}. "
            f"Annotations: {list(by_name)}."
        )
    return [None, *(by_name.get(known.get(name, "")) for name in class_names[1:])]


def score(
    coco_gt: COCO,
    results: Sequence[Mapping[str, Any]],
    *,
    max_detections: int = 100,
    image_ids: Sequence[int] | None = None,
    iou_types: Sequence[str] = IOU_TYPES,
) -> dict[str, dict[str, Any]]:
    """Return AP, AP50, AP75, APs, APm, APl, AR (0..1) and per_class of "segm" and of "bbox".

    A score is None if the ground truth has no objects (of that class or size). As in detectron2,
    the size of a detection is that of its mask for "segm", and of its box for "bbox".

    Args:
        coco_gt: from `ground_truth` or `ground_truth_of`.
        results: from `to_results`, of all images together; they are not changed.
        max_detections: number of top detections per image and class that count; COCO's is 100.
        image_ids: the images that were processed; None for all of the ground truth.
        iou_types: what is compared: segm, bbox, keypoints (at most 20 detections per image).

    Raises:
        ValueError: If a result has an image, category or mask size that the ground truth lacks.
    """
    if max_detections < 1:
        raise ValueError(f"max_detections must be at least 1, got {max_detections}")
    _check_results(coco_gt, results)
    return {
        iou_type: _summary(
            engine.evaluate(
                coco_gt, results, iou_type, max_detections=max_detections, image_ids=image_ids
            )
        )
        for iou_type in iou_types
    }


def _objects_of(dataset: Dataset, image_id: int) -> tuple[tuple[int, int], list[dict[str, Any]]]:
    """Return height and width of an image and its objects, as COCO has them."""
    own = getattr(type(dataset), "load_keypoints", Dataset.load_keypoints)
    has_points = own is not Dataset.load_keypoints or bool(getattr(dataset, "keypoint_names", ()))
    if isinstance(dataset, AnnotatedDataset):
        size = dataset.upright_size(image_id)
        records = dataset.records(image_id)
        has_points = bool(dataset.keypoint_names)
    else:
        size, records = _drawn_objects(dataset, image_id)
    if has_points and records:
        points = dataset.load_keypoints(image_id)
        records = [
            {**record, **of_points.to_coco(own)}
            for record, own in zip(records, points, strict=True)
        ]
    return size, [record for record in records if coco_mask.area(record["segmentation"])]


def _drawn_objects(dataset: Dataset, image_id: int) -> tuple[tuple[int, int], list[dict[str, Any]]]:
    masks, class_ids = dataset.load_mask(image_id)
    # A dataset may answer (0, 0, 0) for an image without objects.
    height, width = (masks if masks.shape[2] else dataset.load_image(image_id)).shape[:2]
    return (height, width), [
        {
            "category_id": abs(int(class_id)),
            "iscrowd": int(class_id < 0),
            "segmentation": segmentation,
        }
        for class_id, segmentation in zip(class_ids, mask_ops.to_rle(masks), strict=True)
    ]


def _read(path: str | PathLike[str]) -> Mapping[str, Any]:
    return json.loads(Path(path).read_text(encoding="utf-8"))


def _image_size(image: Mapping[str, Any]) -> tuple[int, int]:
    if not image.get("height") or not image.get("width"):
        raise ValueError(f"image {image['id']} of the COCO annotations needs height and width")
    return image["height"], image["width"]


def _complete(
    annotation: Mapping[str, Any],
    number: int,
    sizes: Mapping[int, tuple[int, int]],
    points: int = 0,
) -> dict[str, Any]:
    """Return an object with all that COCOeval reads: id, compressed outline, area, box, crowd.

    Args:
        points: Length of the list of keypoints that every object then has.
    """
    if annotation["image_id"] not in sizes:
        raise ValueError(f"annotation {annotation.get('id')} is of an image that is not listed")
    segmentation = _encode(annotation, sizes[annotation["image_id"]])
    computed = {
        "iscrowd": 0,
        "area": float(coco_mask.area(segmentation)),
        "bbox": coco_mask.toBbox(segmentation).tolist(),
    }
    if points:
        listed = annotation.get("keypoints") or [0] * points
        # COCO's scores of keypoints leave out persons without any.
        seen = sum(bool(visibility) for visibility in listed[2::3])
        annotation = {**annotation, "keypoints": listed, "num_keypoints": seen}
    return {**computed, **annotation, "id": number, "segmentation": segmentation}


def _encode(annotation: Mapping[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    """Return the outline of an object, polygons or RLE of either kind, as compressed RLE."""
    segmentation = annotation.get("segmentation") or []
    if isinstance(segmentation, Mapping) and tuple(segmentation["size"]) == tuple(size):
        is_compressed = isinstance(segmentation["counts"], str | bytes)
        return dict(segmentation) if is_compressed else coco_mask.frPyObjects(segmentation, *size)
    # Below three points pycocotools reads a box or fails.
    polygons = [
        polygon for polygon in segmentation if isinstance(polygon, list) and len(polygon) >= 6
    ]
    if not polygons:
        raise ValueError(
            f"annotation {annotation.get('id')} of image {annotation['image_id']} has no polygon "
            f"of three points and no RLE of the image's size {tuple(size)}; repair or remove it, "
            "or score against ground_truth_of(dataset)"
        )
    return coco_mask.merge(coco_mask.frPyObjects(polygons, *size))


def _check_results(coco_gt: COCO, results: Sequence[Mapping[str, Any]]) -> None:
    """Raise for results that pycocotools would silently count as wrong, or ignore."""
    for result in results:
        image = coco_gt.imgs.get(result["image_id"])
        if image is None:
            raise ValueError(f"the ground truth has no image {result['image_id']}")
        if result["category_id"] not in coco_gt.cats:
            raise ValueError(
                f"the ground truth has no category {result['category_id']}, "
                f"only {sorted(coco_gt.cats)}; see match_categories"
            )
        expected = [image["height"], image["width"]]
        found = list(result["segmentation"]["size"]) if "segmentation" in result else expected
        if found != expected:
            raise ValueError(
                f"a mask found in image {result['image_id']} has size {found}, the ground truth "
                f"says {expected}; was the image read with another rotation or scale?"
            )


def _summary(evaluation: Any) -> dict[str, Any]:
    """Return the scores of COCOeval.summarize, which itself only supports 100 detections."""
    precision = evaluation.eval["precision"][..., 0]  # (thresholds, recalls, classes, sizes)
    recall = evaluation.eval["recall"][..., 0]  # (thresholds, classes, sizes)
    sizes = dict(zip(evaluation.params.areaRngLbl, np.moveaxis(precision, -1, 0), strict=True))
    every, medium, large = sizes["all"], sizes["medium"], sizes["large"]
    small = sizes.get("small", np.full(1, -1.0))  # no keypoints are annotated on small ones
    # The strict thresholds are found by value, not by place.
    at_50, at_75 = (every[np.isclose(evaluation.params.iouThrs, iou)] for iou in (0.5, 0.75))
    areas = (every, at_50, at_75, small, medium, large, recall[..., 0])
    summary: dict[str, Any] = dict(zip(FIGURES, map(_mean, areas), strict=True))
    summary["per_class"] = per_class = {}
    for place, category_id in enumerate(evaluation.params.catIds):
        name = evaluation.cocoGt.cats[category_id]["name"]
        figures = {"AP": _mean(every[:, :, place]), "AP50": _mean(at_50[:, :, place])}
        if name not in per_class or figures["AP"] is not None:
            per_class[name] = figures
    return summary


def _mean(values: np.ndarray) -> float | None:
    known = values[values > -1]  # -1: no object to find
    return float(known.mean()) if known.size else None
