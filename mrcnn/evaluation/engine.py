"""The COCO evaluation engine: detections are matched with the ground truth by faster-coco-eval.

It is pycocotools' evaluation in C++, with the same results; `tests/test_coco_engine.py` compares
the two. Both modify the objects that they are given, so it gets copies.
"""

import contextlib
import io
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from faster_coco_eval import COCOeval_faster
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from mrcnn.evaluation import keypoints as of_points

logger = logging.getLogger("mrcnn")

MOST_PERSONS = 20  # maximum detections per image in COCO's keypoint scores


class Numbered(NamedTuple):
    """Ground truth and detections whose images and categories are numbered from 1.

    Attributes:
        truth: The ground truth, with the ids that its objects had.
        found: The detections; result i of the list has the id i + 1.
        images, categories: The number of each id.
    """

    truth: COCO
    found: COCO
    images: dict[Any, int]
    categories: dict[Any, int]


def evaluate(
    coco_gt: COCO,
    results: Sequence[Mapping[str, Any]],
    iou_type: str,
    *,
    max_detections: int,
    image_ids: Sequence[int] | None,
) -> COCOeval_faster:
    """Return the accumulated evaluation of results: `eval` and `params` as in pycocotools.

    Images and categories are numbered from 1, in the order of their ids.

    Args:
        coco_gt, results, max_detections, image_ids: see `coco.score`.
        iou_type: segm, bbox or keypoints.
    """
    numbered = number(coco_gt, results, iou_type)
    # Constructed without ground truth, since for keypoints it would drop classes without objects.
    evaluation = COCOeval_faster(iouType=iou_type, print_function=logger.debug)
    evaluation.cocoGt, evaluation.cocoDt = numbered.truth, numbered.found
    images, categories = numbered.images, numbered.categories
    params = evaluation.params
    params.imgIds = [images[each] for each in (images if image_ids is None else image_ids)]
    params.catIds = list(categories.values())
    params.maxDets = [max_detections]
    if iou_type == "keypoints":
        params.maxDets = [min(MOST_PERSONS, max_detections)]
        params.kpt_oks_sigmas = of_points.sigmas(coco_gt, params.kpt_oks_sigmas)
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation


def number(coco_gt: COCO, results: Sequence[Mapping[str, Any]], iou_type: str) -> Numbered:
    """Return copies of the ground truth and of results for an engine; see `Numbered`."""
    # The ids of engines are numbers; those of files may be strings, or too large.
    images, categories = _numbers(coco_gt.imgs), _numbers(coco_gt.cats)
    return Numbered(
        _renumbered(coco_gt, coco_gt.dataset["annotations"], images, categories),
        _renumbered(coco_gt, _found(results, iou_type), images, categories),
        images,
        categories,
    )


def indexed(content: dict[str, Any]) -> COCO:
    """Return the content of an annotation file with pycocotools' index."""
    coco = COCO()
    coco.dataset = content
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports its progress there
        coco.createIndex()
    return coco


def _numbers(ids: Iterable[Any]) -> dict[Any, int]:
    """Return a number from 1 for each id, in their order, which decides where scores are equal."""
    return {each: number for number, each in enumerate(sorted(ids), start=1)}


def _renumbered(
    coco_gt: COCO,
    objects: Iterable[Mapping[str, Any]],
    images: Mapping[Any, int],
    categories: Mapping[Any, int],
) -> COCO:
    """Return copies of objects in the images and of the classes of a truth, by their numbers."""
    copies = [
        {
            **item,
            "image_id": images[item["image_id"]],
            "category_id": categories[item["category_id"]],
        }
        for item in objects
    ]
    content = {
        "images": [{**coco_gt.imgs[each], "id": number} for each, number in images.items()],
        "categories": [{**coco_gt.cats[each], "id": number} for each, number in categories.items()],
    }
    return indexed({**content, "annotations": copies})


def _found(results: Sequence[Mapping[str, Any]], iou_type: str) -> Iterator[dict[str, Any]]:
    """Yield results with what COCO.loadRes would add to them."""
    for number, result in enumerate(results, start=1):
        _, _, width, height = result["bbox"]
        is_mask = iou_type == "segm"
        area = float(coco_mask.area(result["segmentation"])) if is_mask else width * height
        yield {**result, "id": number, "area": area, "iscrowd": 0}
