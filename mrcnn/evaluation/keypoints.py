"""Keypoints for COCO evaluation."""

from typing import Any

import numpy as np
from pycocotools.coco import COCO


def sigmas(coco_gt: COCO, of_coco: np.ndarray) -> np.ndarray:
    """Return the annotation accuracy (sigma) of each keypoint, relative to the object size.

    COCO measured it for its 17 keypoints; for others their mean is used.
    """
    annotated = (item.get("keypoints", ()) for item in coco_gt.anns.values())
    count = max((len(points) // 3 for points in annotated), default=len(of_coco))
    return of_coco if count == len(of_coco) else np.full(count, of_coco.mean())


def to_coco(points: np.ndarray) -> dict[str, Any]:
    """Return keypoints (P, 3) of y, x and visibility as COCO lists them; nothing for P = 0."""
    if not len(points):
        return {}
    rows = np.asarray(points, np.float64)[:, [1, 0, 2]]
    rows[:, :2] -= 0.5 * (rows[:, 2:] > 0)
    return {"keypoints": rows.ravel().tolist()}
