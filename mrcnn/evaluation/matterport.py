"""Average precision of one image over all classes, as in Matterport's notebooks.

For quick looks at single images. COCO's scores, for complete datasets and per class, are in
`mrcnn.evaluation.coco`.
"""

from collections.abc import Iterable

import numpy as np

from mrcnn.geometry import boxes as box_math

Matches = tuple[np.ndarray, np.ndarray, np.ndarray]


def overlaps_of_masks(masks1: np.ndarray, masks2: np.ndarray) -> np.ndarray:
    """Return the IoU of all pairs of masks: (H, W, N), (H, W, M) -> (N, M) float64.

    A mask is where its values exceed 0.5. Two empty masks have IoU 0.
    """
    if masks1.shape[-1] == 0 or masks2.shape[-1] == 0:
        return np.zeros((masks1.shape[-1], masks2.shape[-1]))
    # float32 counts pixels exactly up to 16 million, and multiplies fast.
    flat = [
        np.reshape(masks > 0.5, (-1, masks.shape[-1])).astype(np.float32)
        for masks in (masks1, masks2)
    ]
    intersections = (flat[0].T @ flat[1]).astype(np.float64)
    areas = [masks.sum(axis=0, dtype=np.float64) for masks in flat]
    unions = areas[0][:, None] + areas[1][None, :] - intersections
    return intersections / np.where(unions > 0, unions, 1)


def compute_matches(
    gt_boxes: np.ndarray,
    gt_class_ids: np.ndarray,
    gt_masks: np.ndarray,
    pred_boxes: np.ndarray,
    pred_class_ids: np.ndarray,
    pred_scores: np.ndarray,
    pred_masks: np.ndarray,
    iou_threshold: float = 0.5,
    score_threshold: float = 0.0,
) -> Matches:
    """Return which predictions and objects belong together, by masks, best predictions first.

    Rows of which the box is all zero are padding, wherever they stand.

    Args:
        gt_masks, pred_masks: (H, W, N) and (H, W, M).
        score_threshold: Predictions with a lower score match nothing. (Matterport compared the IoU
            with it.)

    Returns:
        gt_match (N,): the prediction of each object, -1 for none; pred_match (M,): the object of
        each prediction; overlaps (M, N). Predictions are counted in order of falling score.
    """
    gt_kept, pred_kept = _real_rows(gt_boxes), _real_rows(pred_boxes)
    gt_class_ids = np.asarray(gt_class_ids)[gt_kept]
    # Stable for equal scores, where argsort()[::-1] would turn them round.
    order = pred_kept[np.argsort(-np.asarray(pred_scores)[pred_kept], kind="stable")]
    pred_class_ids, scores = np.asarray(pred_class_ids)[order], np.asarray(pred_scores)[order]
    overlaps = overlaps_of_masks(pred_masks[..., order], gt_masks[..., gt_kept])
    gt_match, pred_match = -np.ones(len(gt_kept)), -np.ones(len(order))
    for row in np.flatnonzero(scores >= score_threshold):
        free = (gt_match < 0) & (gt_class_ids == pred_class_ids[row])
        candidates = np.where(free, overlaps[row], -1.0)
        best = int(candidates.argmax()) if len(candidates) else -1
        if best >= 0 and candidates[best] >= iou_threshold and free[best]:
            gt_match[best], pred_match[row] = row, best
    return gt_match, pred_match, overlaps


def compute_ap(
    gt_boxes: np.ndarray,
    gt_class_ids: np.ndarray,
    gt_masks: np.ndarray,
    pred_boxes: np.ndarray,
    pred_class_ids: np.ndarray,
    pred_scores: np.ndarray,
    pred_masks: np.ndarray,
    iou_threshold: float = 0.5,
) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """Return average precision at one IoU, precisions, recalls and overlaps of one image.

    The area under the precision, made monotonous from the right *(Pascal VOC 2010)*. Without any
    object it is 1 where nothing was predicted, else 0.
    """
    gt_match, pred_match, overlaps = compute_matches(
        gt_boxes,
        gt_class_ids,
        gt_masks,
        pred_boxes,
        pred_class_ids,
        pred_scores,
        pred_masks,
        iou_threshold,
    )
    if len(gt_match) == 0:
        perfect = float(len(pred_match) == 0)
        return perfect, np.array([perfect, 0.0]), np.array([0.0, 1.0]), overlaps
    found = np.cumsum(pred_match > -1)
    precisions = np.concatenate([[0], found / (np.arange(len(pred_match)) + 1), [0]])
    recalls = np.concatenate([[0], found / len(gt_match), [1]])
    precisions = np.maximum.accumulate(precisions[::-1])[::-1]
    return float(np.sum(np.diff(recalls) * precisions[1:])), precisions, recalls, overlaps


def compute_ap_range(
    gt_box: np.ndarray,
    gt_class_id: np.ndarray,
    gt_mask: np.ndarray,
    pred_box: np.ndarray,
    pred_class_id: np.ndarray,
    pred_score: np.ndarray,
    pred_mask: np.ndarray,
    iou_thresholds: Iterable[float] | None = None,
    verbose: int = 1,
) -> float:
    """Return the mean of `compute_ap` over IoU thresholds, 0.5 to 0.95 by default; print each."""
    thresholds = (
        np.arange(0.5, 1.0, 0.05) if iou_thresholds is None else np.array([*iou_thresholds])
    )
    truth, found = (gt_box, gt_class_id, gt_mask), (pred_box, pred_class_id, pred_score, pred_mask)
    precisions = [compute_ap(*truth, *found, iou_threshold=iou)[0] for iou in thresholds]
    mean = float(np.mean(precisions))
    if verbose:
        for iou, precision in zip(thresholds, precisions, strict=True):
            print(f"AP @{iou:.2f}:\t {precision:.3f}")
        print(f"AP @{thresholds[0]:.2f}-{thresholds[-1]:.2f}:\t {mean:.3f}")
    return mean


def compute_recall(
    pred_boxes: np.ndarray, gt_boxes: np.ndarray, iou: float
) -> tuple[float, np.ndarray]:
    """Return the part of gt_boxes that some box meets with this IoU, and which boxes do.

    Without any gt_boxes the recall is 0.
    """
    overlaps = box_math.iou(np.asarray(pred_boxes, float), np.asarray(gt_boxes, float))
    if overlaps.size == 0:
        return 0.0, np.zeros(0, np.int64)
    positive_ids = np.flatnonzero(overlaps.max(axis=1) >= iou)
    matched = overlaps.argmax(axis=1)[positive_ids]
    return len(set(matched.tolist())) / len(gt_boxes), positive_ids


def _real_rows(boxes: np.ndarray) -> np.ndarray:
    """Return the rows that are not padding: (N, 4) -> (n,) int."""
    return np.flatnonzero(np.any(np.asarray(boxes).reshape(-1, 4) != 0, axis=1))
