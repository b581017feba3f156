"""Plots of how well detections meet the ground truth."""

from collections.abc import Sequence

import numpy as np

from mrcnn.drawing import figures, labels


def plot_precision_recall(
    AP: float,  # noqa: N803 (Matterport's name)
    precisions: np.ndarray,
    recalls: np.ndarray,
) -> None:
    """Plot the curve of one image in a new figure."""
    ax = figures.new_axes((6.4, 4.8))
    ax.set_title(f"Precision-Recall Curve. AP@50 = {AP:.3f}")
    ax.set(xlabel="Recall", ylabel="Precision", xlim=(0, 1.1), ylim=(0, 1.1))
    ax.plot(recalls, precisions)


def plot_overlaps(
    gt_class_ids: np.ndarray,
    pred_class_ids: np.ndarray,
    pred_scores: np.ndarray,
    overlaps: np.ndarray,
    class_names: Sequence[str],
    threshold: float = 0.5,
) -> None:
    """Plot the IoU of each detection with each object in a new figure, with what matches.

    Args:
        gt_class_ids (N,), pred_class_ids (M,), pred_scores (M,): zero class ids are padding.
        overlaps: (M, N).
        threshold: the IoU from which a pair is called match, or wrong when the classes differ.
    """
    gt_class_ids, pred_class_ids = np.asarray(gt_class_ids), np.asarray(pred_class_ids)
    gt_class_ids = gt_class_ids[gt_class_ids != 0].astype(int)
    pred_class_ids = pred_class_ids[pred_class_ids != 0].astype(int)
    overlaps = np.asarray(overlaps)[: len(pred_class_ids), : len(gt_class_ids)]
    ax = figures.new_axes((12, 10))
    if overlaps.size:
        ax.imshow(overlaps, interpolation="nearest", cmap="Blues", vmin=0)
    predicted = [
        f"{class_names[class_id]} ({score:.2f})"
        for class_id, score in zip(pred_class_ids, pred_scores, strict=False)
    ]
    ax.set_yticks(np.arange(len(predicted)), predicted)
    names = [labels.name_of(class_id, class_names) for class_id in gt_class_ids]
    ax.set_xticks(np.arange(len(names)), names, rotation=90)
    ax.set(xlabel="Ground Truth", ylabel="Predictions")
    is_match = pred_class_ids[:, None] == gt_class_ids
    for (row, column), iou in np.ndenumerate(overlaps):
        verdict = ("match" if is_match[row, column] else "wrong") if iou > threshold else ""
        ink = "white" if iou > overlaps.max() / 2 else "black" if iou > 0 else "grey"
        text = f"{iou:.3f}\n{verdict}"
        ax.text(column, row, text, ha="center", va="center", fontsize=9, color=ink)
