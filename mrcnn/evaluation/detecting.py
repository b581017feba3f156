"""Detections on a whole dataset: found once, for the scores and for the report."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mrcnn.data.dataset import Dataset, summary
from mrcnn.evaluation import coco

logger = logging.getLogger("mrcnn")


class Detected(NamedTuple):
    """The detections on a dataset.

    Attributes:
        results: In COCO's results format, of all images together.
        image_ids: Those images of the dataset that could be read, in order.
        truth_ids: The ids of the same images in the ground truth.
    """

    results: list[dict[str, Any]]
    image_ids: list[int]
    truth_ids: list[Any]


def detect_dataset(
    detect: Callable[[np.ndarray], Mapping[str, Any]],
    dataset: Dataset,
    truth: coco.Truth,
    *,
    max_detections: int | None,
    image_ids: Sequence[int] | None = None,
    progress: Callable[[Sequence[Any]], Iterable[Any]] = iter,
) -> Detected:
    """Return the detections on a dataset's images.

    Images that cannot be read, whatever `load_image` raises, are left out with a warning each.

    Args:
        detect: An image -> its detections, see `coco.to_results`.
        max_detections: The most that the detector returns for an image; images with so many are
            counted in a warning. None: without it.
        image_ids: The images, of `dataset.image_ids`; None for all.
        progress: Wraps the list of images being iterated.

    Raises:
        RuntimeError: If more than a tenth of the images cannot be read.
    """
    found, bad, num_full = Detected([], [], []), [], 0
    chosen = dataset.image_ids if image_ids is None else image_ids
    pairs = list(zip(chosen, truth.image_ids, strict=True))
    for image_id, truth_id in progress(pairs):
        try:
            image = dataset.load_image(image_id)
        except Exception as error:
            reason = f"image {image_id}: {summary(error)}"
            logger.warning("left out of the scores: %s", reason)
            bad.append(reason)
            continue
        detections = detect(image)
        num_full += max_detections is not None and len(detections["scores"]) >= max_detections
        found.results.extend(coco.to_results(detections, truth_id, truth.category_ids))
        found.image_ids.append(int(image_id))
        found.truth_ids.append(truth_id)
    if 10 * len(bad) > len(pairs):
        raise RuntimeError(f"{len(bad)} images cannot be read, more than a tenth: {bad[0]}")
    if num_full:
        logger.warning(
            "%d of %d images have %d detections, the limit DETECTION_MAX_INSTANCES: more objects "
            "than that cannot be scored as found",
            num_full,
            len(found.image_ids),
            max_detections,
        )
    return found


def score_detector(
    detect: Callable[[np.ndarray], Mapping[str, Any]],
    dataset: Dataset,
    truth: coco.Truth,
    *,
    max_detections: int,
    iou_types: Sequence[str] = coco.IOU_TYPES,
    **options: Any,
) -> dict[str, dict[str, Any]]:
    """Return the scores of a detector on a dataset's images against a ground truth.

    Args:
        detect, dataset, truth: See `detect_dataset`.
        max_detections, iou_types: See `coco.score`.
        options: image_ids and progress; see `detect_dataset`.
    """
    found = detect_dataset(detect, dataset, truth, max_detections=max_detections, **options)
    return coco.score(
        truth.coco,
        found.results,
        max_detections=max_detections,
        image_ids=found.truth_ids,
        iou_types=iou_types,
    )
