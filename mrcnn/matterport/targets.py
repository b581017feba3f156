"""Matterport's functions for what the network learns of an image, in NumPy.

They forward to the targets that the training graph computes. Chance comes from NumPy's global
state, as it did, so that `np.random.seed` repeats them.
"""

from collections.abc import Sequence

import numpy as np
from keras import ops

from mrcnn.config import Config
from mrcnn.geometry import boxes as box_math
from mrcnn.network.roi_heads import mask as mask_head
from mrcnn.network.roi_heads import sampling
from mrcnn.network.rpn import targets as rpn_targets


def build_rpn_targets(
    image_shape: Sequence[int],
    anchors: np.ndarray,
    gt_class_ids: np.ndarray,
    gt_boxes: np.ndarray,
    config: Config,
) -> tuple[np.ndarray, np.ndarray]:
    """Return what the RPN learns of an image.

    Args:
        image_shape: Not used.
        anchors: (N, 4), pixels. gt_class_ids: (n,), negative for crowds. gt_boxes: (n, 4), pixels.

    Returns:
        rpn_match (N,) int32: 1 foreground, -1 background, 0 neither. rpn_bbox (M, 4): row k holds
        the deltas of the k-th foreground anchor, M = RPN_TRAIN_ANCHORS_PER_IMAGE.
    """
    del image_shape
    class_ids, boxes = _at_least_one(gt_class_ids, gt_boxes)
    matches, deltas = of_anchors(anchors, class_ids[None], boxes[None], config)
    return matches[0], deltas[0]


def build_detection_targets(
    rpn_rois: np.ndarray,
    gt_class_ids: np.ndarray,
    gt_boxes: np.ndarray,
    gt_masks: np.ndarray,
    config: Config,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return what the heads learn of an image, in pixels.

    Args:
        rpn_rois: (P, 4), pixels. gt_class_ids: (n,). gt_boxes: (n, 4), pixels.
        gt_masks: (H, W, n), or mini-masks (h, w, n).

    Returns:
        rois (R, 4) int32, class_ids (R,) int32, deltas (R, K, 4) and masks (R, 28, 28, K) float32,
        both zero but for the class of the roi. Rows that could not be filled are zero.
    """
    class_ids, objects = _at_least_one(gt_class_ids, gt_boxes)
    proposals = np.zeros((max(len(rpn_rois), config.TRAIN_ROIS_PER_IMAGE), 4), np.float32)
    proposals[: len(rpn_rois)] = rpn_rois
    rois, class_ids, matched, _ = sampling.sample_rois(
        ops.convert_to_tensor(proposals[None]),
        ops.convert_to_tensor(class_ids[None]),
        ops.convert_to_tensor(objects[None]),
        ops.convert_to_tensor(seeds(1)),
        count=config.TRAIN_ROIS_PER_IMAGE,
        most_positive=max(int(config.TRAIN_ROIS_PER_IMAGE * config.ROI_POSITIVE_RATIO), 1),
    )
    rois, class_ids, matched = (ops.convert_to_numpy(x)[0] for x in (rois, class_ids, matched))
    deltas = box_math.encode(rois, objects[matched]) / np.asarray(config.BBOX_STD_DEV)
    if not len(gt_boxes):
        gt_masks = np.zeros((*config.MINI_MASK_SHAPE, 1), bool)
    masks = _target_masks(rois, objects, gt_masks, matched, config)
    rows = np.flatnonzero(class_ids > 0)
    class_deltas = np.zeros((len(rois), config.NUM_CLASSES, 4), np.float32)
    class_masks = np.zeros((*masks.shape, config.NUM_CLASSES), np.float32)
    class_deltas[rows, class_ids[rows]] = deltas[rows]
    class_masks[rows, :, :, class_ids[rows]] = masks[rows]
    return rois.astype(np.int32), class_ids.astype(np.int32), class_deltas, class_masks


def generate_random_rois(
    image_shape: Sequence[int] | np.ndarray,
    count: int,
    gt_class_ids: np.ndarray,
    gt_boxes: np.ndarray,
) -> np.ndarray:
    """Return random boxes as an RPN might propose them, pixels: (count, 4) int32.

    Nine of ten lie about the objects, the others anywhere; all of them where there is no object.
    """
    del gt_class_ids
    objects = np.asarray(gt_boxes, np.float64).reshape(-1, 4)
    near = int(0.9 * count / len(objects)) if len(objects) else 0
    size = objects[:, 2:] - objects[:, :2]
    far = count - near * len(objects)
    image_size = np.asarray(image_shape[:2], np.float64)
    # Up to an object's size beyond it on every side.
    low = np.concatenate([np.repeat(objects[:, :2] - size, near, axis=0), np.zeros((far, 2))])
    high = np.repeat(objects[:, 2:] + size, near, axis=0)
    high = np.concatenate([high, np.tile(image_size, (far, 1))])
    source = rng()
    corners = np.stack([source.uniform(low, high) for _ in range(2)])
    starts = np.clip(np.floor(corners.min(axis=0)), 0, image_size - 1)
    stops = np.clip(np.ceil(corners.max(axis=0)), starts + 1, image_size)
    return np.concatenate([starts, stops], axis=1).astype(np.int32)


def rng() -> np.random.Generator:
    """Return a generator that NumPy's global state seeds."""
    return np.random.default_rng(seed())


def seed() -> int:
    """Return a seed drawn from NumPy's global state."""
    return int(np.random.randint(2**31 - 1))


def seeds(count: int) -> np.ndarray:
    """Return one seed per image drawn from NumPy's global state: (count,) int32."""
    return np.random.randint(2**31 - 1, size=count).astype(np.int32)


def of_anchors(
    anchors: np.ndarray, gt_class_ids: np.ndarray, gt_boxes: np.ndarray, config: Config
) -> tuple[np.ndarray, np.ndarray]:
    """Return what `build_rpn_targets` does of a batch: (B, N) and (B, M, 4)."""
    matches, deltas = rpn_targets.targets(
        np.asarray(anchors, np.float32),
        ops.convert_to_tensor(gt_class_ids.astype(np.int32)),
        ops.convert_to_tensor(gt_boxes.astype(np.float32)),
        ops.convert_to_tensor(seeds(len(gt_boxes))),
        anchors_per_image=config.RPN_TRAIN_ANCHORS_PER_IMAGE,
        std_dev=config.RPN_BBOX_STD_DEV.tolist(),
    )
    matches, deltas = ops.convert_to_numpy(matches), ops.convert_to_numpy(deltas)
    packed = np.zeros((len(matches), config.RPN_TRAIN_ANCHORS_PER_IMAGE, 4))
    for target, match, delta in zip(packed, matches, deltas, strict=True):
        positives = delta[match == 1]
        target[: len(positives)] = positives
    return matches, packed


def _target_masks(
    rois: np.ndarray,
    gt_boxes: np.ndarray,
    gt_masks: np.ndarray,
    matched: np.ndarray,
    config: Config,
) -> np.ndarray:
    """Return the part of its object's mask that each roi sees: (R, 28, 28) float32."""
    shape = (int(config.IMAGE_SHAPE[0]), int(config.IMAGE_SHAPE[1]))
    is_mini = gt_masks.shape[:2] != shape
    masks = mask_head.targets(
        ops.convert_to_tensor(box_math.normalize(rois, shape)[None]),
        ops.convert_to_tensor(box_math.normalize(gt_boxes, shape)[None]),
        ops.convert_to_tensor(np.moveaxis(gt_masks, -1, 0).astype(np.float32)[None]),
        ops.convert_to_tensor(matched[None]),
        mask_shape=(config.MASK_SHAPE[0], config.MASK_SHAPE[1]),
        uses_mini_masks=is_mini,
    )
    return ops.convert_to_numpy(masks)[0]


def _at_least_one(gt_class_ids: np.ndarray, gt_boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return class ids (n,) int32 and boxes (n, 4) float32; a row of padding where there is none.

    A maximum over no objects has no value.
    """
    class_ids = np.asarray(gt_class_ids, np.int32).reshape(-1)
    boxes = np.asarray(gt_boxes, np.float32).reshape(-1, 4)
    if len(boxes):
        return class_ids, boxes
    return np.zeros(1, np.int32), np.zeros((1, 4), np.float32)
