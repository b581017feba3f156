"""Which detections are right at an IoU of 0.5: COCO's matching as flat arrays over a dataset.

The matching within classes is hotcoco's, which equals pycocotools'; `tests/test_matches.py`
compares the two.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import hotcoco
import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from mrcnn.evaluation import engine

MIN_IOU = 0.5  # of a detection that is right
NEAR_IOU = 0.1  # below, a detection and an object have nothing to do with each other (TIDE)
ALL_SIZES = [0, 1e10]  # of objects, in pixels of area: COCO's range "all"


@dataclass(frozen=True)
class Matches:
    """The detections and objects of a dataset, and which of them match.

    Detections are sorted by descending score. A detection is matched at most with one object of
    its class, and an object with one detection, as in COCO. Detections that lie on a crowd of their
    class and match nothing else are ignored: neither right nor wrong.

    Attributes:
        class_names: Of the categories, in the order of their ids; K of them.
        num_images: I.
        scores: (D,) float64.
        classes: (D,) int, index into class_names.
        images: (D,) int, index into the images.
        results: (D,) int, index into the list of results.
        objects: (D,) int, the object matched, -1 for none.
        ignored: (D,) bool.
        gt_classes, gt_images: (G,) int, of the objects that are no crowds.
        gt_ids: (G,) int, their ids in the ground truth.
        pairs: (P, 2) int, detections and objects of one image, of any classes, whose IoU is 0.1 or
            more.
        ious: (P,) float64, of the pairs.
    """

    class_names: Sequence[str]
    num_images: int
    scores: np.ndarray
    classes: np.ndarray
    images: np.ndarray
    results: np.ndarray
    objects: np.ndarray
    ignored: np.ndarray
    gt_classes: np.ndarray
    gt_images: np.ndarray
    gt_ids: np.ndarray
    pairs: np.ndarray
    ious: np.ndarray

    @property
    def is_right(self) -> np.ndarray:
        """Which detections match an object: (D,) bool."""
        return self.objects >= 0

    @property
    def is_wrong(self) -> np.ndarray:
        """Which detections match nothing, nor lie on a crowd: (D,) bool."""
        return (self.objects < 0) & ~self.ignored

    def found(self, min_score: float = 0.0) -> np.ndarray:
        """Return which objects are matched by a detection of this score or more: (G,) bool."""
        found = np.zeros(len(self.gt_classes), bool)
        found[self.objects[self.is_right & (self.scores >= min_score)]] = True
        return found

    def mistaken_for(self, min_score: float) -> np.ndarray:
        """Return the object of another class that each wrong detection shows: (D,) int, or -1.

        Wrong detections of this score or more take the objects that are not found, greedily by
        score, each the one of the highest IoU, of 0.5 or more.
        """
        mistaken = np.full(len(self.scores), -1)
        is_free = ~self.found(min_score)
        of_others = self.classes[self.pairs[:, 0]] != self.gt_classes[self.pairs[:, 1]]
        near = of_others & (self.ious >= MIN_IOU)
        pairs, ious = self.pairs[near], self.ious[near]
        for place in np.lexsort((-ious, pairs[:, 0])):
            detection, item = pairs[place]
            is_open = mistaken[detection] < 0 and self.scores[detection] >= min_score
            if is_open and self.is_wrong[detection] and is_free[item]:
                mistaken[detection], is_free[item] = item, False
        return mistaken


def match(
    coco_gt: COCO,
    results: Sequence[Mapping[str, Any]],
    iou_type: str,
    *,
    max_detections: int,
    image_ids: Sequence[Any] | None = None,
) -> tuple[Matches, hotcoco.COCOeval]:
    """Return the matches at an IoU of 0.5, and hotcoco's evaluation that they are read from.

    Args:
        coco_gt, results, max_detections: See `coco.score`.
        iou_type: segm or bbox.
        image_ids: The images, in the order in which they are counted; None for all.
    """
    numbered = engine.number(coco_gt, results, iou_type)
    chosen = list(numbered.images) if image_ids is None else image_ids
    image_of = {numbered.images[each]: place for place, each in enumerate(chosen)}
    truth, found = (_slim(each.dataset, iou_type) for each in (numbered.truth, numbered.found))
    evaluation = hotcoco.COCOeval(hotcoco.COCO(truth), hotcoco.COCO(found), iou_type)
    params = evaluation.params
    params.img_ids, params.cat_ids = list(image_of), list(numbered.categories.values())
    params.iou_thrs, params.max_dets = [MIN_IOU], [max_detections]
    params.area_rng, params.area_rng_lbl = [ALL_SIZES], ["all"]
    evaluation.evaluate()

    objects = [
        item
        for item in truth["annotations"]
        if item["image_id"] in image_of and not item.get("iscrowd")
    ]
    object_of = {item["id"]: place for place, item in enumerate(objects)}
    rows = _rows(evaluation, object_of)
    detections = [found["annotations"][number - 1] for number in rows[:, 0]]
    names = [category["name"] for category in truth["categories"]]
    return _collected(detections, objects, rows, names, image_of), evaluation


def _collected(
    detections: Sequence[Mapping[str, Any]],
    objects: Sequence[Mapping[str, Any]],
    rows: np.ndarray,
    class_names: Sequence[str],
    image_of: Mapping[int, int],
) -> Matches:
    """Return the matches of detections with rows of `_rows`, in the same order."""
    images = _numbers(image_of[item["image_id"]] for item in detections)
    gt_images = _numbers(image_of[item["image_id"]] for item in objects)
    pairs, ious = _near((detections, images), (objects, gt_images), len(image_of))
    return Matches(
        class_names=class_names,
        num_images=len(image_of),
        scores=np.array([item["score"] for item in detections], np.float64),
        classes=_numbers(item["category_id"] - 1 for item in detections),
        images=images,
        results=rows[:, 0] - 1,
        objects=rows[:, 1],
        ignored=rows[:, 2] > 0,
        gt_classes=_numbers(item["category_id"] - 1 for item in objects),
        gt_images=gt_images,
        gt_ids=_numbers(item["id"] for item in objects),
        pairs=pairs,
        ious=ious,
    )


def _slim(content: Mapping[str, Any], iou_type: str) -> dict[str, Any]:
    """Return the parts of an annotation file that matching reads."""
    keys = ("id", "image_id", "category_id", "iscrowd", "area", "bbox", "score")
    objects = []
    for item in content["annotations"]:
        slim = {key: item[key] for key in keys if key in item}
        if iou_type == "segm":
            slim["segmentation"] = _as_text(item["segmentation"])
        objects.append(slim)
    return {
        "images": [
            {key: image[key] for key in ("id", "width", "height")} for image in content["images"]
        ],
        "categories": [
            {"id": category["id"], "name": str(category["name"])}
            for category in content["categories"]
        ],
        "annotations": objects,
    }


def _as_text(rle: Mapping[str, Any]) -> dict[str, Any]:
    counts = rle["counts"]
    text = counts.decode("ascii") if isinstance(counts, bytes) else counts
    return {"size": [int(side) for side in rle["size"]], "counts": text}


def _rows(evaluation: hotcoco.COCOeval, object_of: Mapping[int, int]) -> np.ndarray:
    """Return the detections by descending score: (D, 3) of id, object or -1, and ignored."""
    rows, scores = [], []
    for part in evaluation.eval_imgs:
        if part is None:
            continue
        matched, ignored = part["dtMatches"][0], part["dtIgnore"][0]
        for number, other, is_ignored in zip(part["dtIds"], matched, ignored, strict=True):
            rows.append((number, -1 if is_ignored else object_of.get(other, -1), is_ignored))
        scores.extend(part["dtScores"])
    order = np.argsort(-np.array(scores, np.float64), kind="stable")
    return np.array(rows, np.int64).reshape(-1, 3)[order]


def _near(
    found: tuple[Sequence[Mapping[str, Any]], np.ndarray],
    truth: tuple[Sequence[Mapping[str, Any]], np.ndarray],
    num_images: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs of one image that overlap, and their IoU; see `Matches`.

    Args:
        found, truth: Detections or objects, and the image of each.
    """
    pairs, ious = [np.zeros((0, 2), np.int64)], [np.zeros(0)]
    for here, there in zip(
        _places(found[1], num_images), _places(truth[1], num_images), strict=True
    ):
        if not len(here) or not len(there):
            continue
        shapes = (
            [_shape(items[place]) for place in places]
            for items, places in ((found[0], here), (truth[0], there))
        )
        overlaps = coco_mask.iou(*shapes, [0] * len(there))
        rows, columns = np.nonzero(overlaps >= NEAR_IOU)
        pairs.append(np.stack([here[rows], there[columns]], axis=1))
        ious.append(overlaps[rows, columns])
    return np.concatenate(pairs), np.concatenate(ious)


def _shape(item: Mapping[str, Any]) -> Any:
    return item.get("segmentation", item["bbox"])


def _places(images: np.ndarray, num_images: int) -> list[np.ndarray]:
    """Return the places of the items of each image."""
    order = np.argsort(images, kind="stable")
    return np.split(order, np.searchsorted(images[order], np.arange(1, num_images)))


def _numbers(values: Any) -> np.ndarray:
    return np.fromiter(values, np.int64)
