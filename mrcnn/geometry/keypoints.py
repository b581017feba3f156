"""Keypoints: from heatmaps to points, and from points to target cells.

A keypoint is (y, x) in pixels, (0, 0) being the corner of the first one, with a third number: in
annotations its visibility (0 not labelled, 1 hidden, 2 visible, as in COCO), in detections its
score.
"""

import numpy as np

CUBIC = -0.75  # the free number of Keys' cubic (1981), as PyTorch chooses it


def decode(heatmaps: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return the points where heatmaps are highest: (N, h, w, P), (N, 4) -> (N, P, 3) y, x, score.

    A heatmap is resized bicubically to the rounded box, and the point is the centre of its highest
    pixel; the score is the value there. *(Detectron's heatmaps_to_keypoints)*

    Args:
        heatmaps: Logits.
        boxes: In pixels.
    """
    count, height, width, points = heatmaps.shape
    found = np.zeros((count, points, 3), np.float32)
    for index, (heatmap, box) in enumerate(zip(heatmaps, boxes, strict=True)):
        sides = np.maximum(box[2:] - box[:2], 1)
        whole = np.ceil(sides).astype(int)
        rows, cols = _cubic_weights(height, whole[0]), _cubic_weights(width, whole[1])
        maps = rows @ heatmap.transpose(2, 0, 1).astype(np.float32) @ cols.T
        highest = maps.reshape(points, -1).argmax(axis=1)
        place = np.stack(np.unravel_index(highest, maps.shape[1:]), axis=-1) + 0.5
        found[index, :, :2] = place * (sides / whole) + box[:2]
        found[index, :, 2] = maps.reshape(points, -1).max(axis=1)
    return found


def _cubic_weights(size: int, resized: int) -> np.ndarray:
    """Return the weight of each sample for each output: (resized, size), with edge padding."""
    centres = (np.arange(resized) + 0.5) * (size / resized) - 0.5
    before = np.floor(centres).astype(int)
    weights = np.zeros((resized, size), np.float32)
    for step in (-1, 0, 1, 2):
        distance = np.abs(centres - (before + step))
        near = (CUBIC + 2) * distance**3 - (CUBIC + 3) * distance**2 + 1
        far = CUBIC * (distance**3 - 5 * distance**2 + 8 * distance - 4)
        sample = np.clip(before + step, 0, size - 1)
        np.add.at(weights, (np.arange(resized), sample), np.where(distance <= 1, near, far))
    return weights
