"""Matterport's `mrcnn.utils`: its names and signatures over the one implementation.

Boxes are (y1, x1, y2, x2) in pixels, y2 and x2 exclusive, unless "normalized" is said.
"""

import random
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from mrcnn.data.dataset import Dataset
from mrcnn.evaluation.matterport import (
    compute_ap,
    compute_ap_range,
    compute_matches,
    compute_recall,
    overlaps_of_masks,
)
from mrcnn.geometry import anchors as anchor_grid
from mrcnn.geometry import boxes as box_math
from mrcnn.geometry import images as image_math
from mrcnn.geometry import masks as mask_math
from mrcnn.geometry import pasting
from mrcnn.geometry import placement as placements
from mrcnn.weights import catalog, download, hdf5

__all__ = ["Dataset", "compute_ap", "compute_ap_range", "compute_matches", "compute_recall"]

COCO_MODEL_URL = catalog.PUBLISHED["coco"].url

Padding = Sequence[tuple[int, int]]


# Boxes


def extract_bboxes(mask: np.ndarray) -> np.ndarray:
    """Return the tight boxes of masks: (H, W, N) -> (N, 4) int32; zeros for an empty mask."""
    return mask_math.bounds(np.asarray(mask) != 0)


def compute_iou(
    box: np.ndarray, boxes: np.ndarray, box_area: float, boxes_area: np.ndarray
) -> np.ndarray:
    """Return the IoU of one box with others: (4,), (N, 4) -> (N,). The areas are not needed."""
    del box_area, boxes_area
    return box_math.iou(np.asarray(box, float)[None], np.asarray(boxes, float))[0]


def compute_overlaps(boxes1: np.ndarray, boxes2: np.ndarray) -> np.ndarray:
    """Return the IoU of all pairs: (N, 4), (M, 4) -> (N, M) float64; 0 for two empty boxes."""
    return box_math.iou(np.asarray(boxes1, float), np.asarray(boxes2, float))


def compute_overlaps_masks(masks1: np.ndarray, masks2: np.ndarray) -> np.ndarray:
    """Return the IoU of all pairs of masks: (H, W, N), (H, W, M) -> (N, M)."""
    return overlaps_of_masks(np.asarray(masks1), np.asarray(masks2))


def non_max_suppression(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """Return the indices of the boxes that greedy suppression keeps, best first: (n,) int32.

    Of equal scores the later index comes first, as in Matterport's version.

    Args:
        boxes: (N, 4); scores: (N,).
        threshold: A box is dropped when its IoU with a better one exceeds it.
    """
    boxes = np.asarray(boxes, float)
    remaining = np.argsort(np.asarray(scores), kind="stable")[::-1]
    kept = []
    while len(remaining):
        kept.append(remaining[0])
        overlaps = box_math.iou(boxes[remaining[:1]], boxes[remaining[1:]])[0]
        remaining = remaining[1:][overlaps <= threshold]
    return np.array(kept, np.int32)


def apply_box_deltas(boxes: np.ndarray, deltas: np.ndarray) -> np.ndarray:
    """Return boxes refined by deltas (dy, dx, log dh, log dw): (N, 4), (N, 4) -> (N, 4) float32."""
    return box_math.decode(np.asarray(boxes, np.float32), np.asarray(deltas))


def box_refinement(box: np.ndarray, gt_box: np.ndarray) -> np.ndarray:
    """Return the deltas that turn boxes into gt_boxes: (N, 4), (N, 4) -> (N, 4) float32."""
    return box_math.encode(np.asarray(box, np.float32), np.asarray(gt_box, np.float32))


def box_refinement_graph(box: Any, gt_box: Any) -> Any:
    """Return what `box_refinement` does, of tensors."""
    from keras import ops

    return box_math.encode(ops.cast(box, "float32"), ops.cast(gt_box, "float32"), ops)


def norm_boxes(boxes: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return pixel boxes in the normalized frame: (N, 4) -> (N, 4) float32."""
    return box_math.normalize(boxes, shape)


def denorm_boxes(boxes: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return normalized boxes in whole pixels: (N, 4) -> (N, 4) int32."""
    return np.around(box_math.denormalize(boxes, shape)).astype(np.int32)


def trim_zeros(x: np.ndarray) -> np.ndarray:
    """Return the rows that are not all zero: (N, C) -> (n, C)."""
    return x[~np.all(x == 0, axis=1)]


# Anchors


def generate_anchors(
    scales: float | Sequence[float],
    ratios: Sequence[float],
    shape: Sequence[int],
    feature_stride: int,
    anchor_stride: int,
) -> np.ndarray:
    """Return the anchors of one level: (N, 4) float64; cell by cell, ratios before scales."""
    grid = int(shape[0]), int(shape[1])
    cells = anchor_grid.level_anchors
    levels = [
        cells(scale, ratios, grid, feature_stride, anchor_stride) for scale in np.ravel(scales)
    ]
    # (scales, cells, ratios, 4) -> each cell's anchors together, the scales running fastest
    stacked = np.stack([level.reshape(-1, len(ratios), 4) for level in levels], axis=2)
    return stacked.reshape(-1, 4)


def generate_pyramid_anchors(
    scales: Sequence[float],
    ratios: Sequence[float],
    feature_shapes: Sequence[Sequence[int]],
    feature_strides: Sequence[int],
    anchor_stride: int,
) -> np.ndarray:
    """Return the anchors of all levels, finest first: (N, 4) float64."""
    levels = zip(scales, feature_shapes, feature_strides, strict=True)
    return np.concatenate(
        [
            generate_anchors(scale, ratios, shape, stride, anchor_stride)
            for scale, shape, stride in levels
        ]
    )


# Images


def resize_image(
    image: np.ndarray,
    min_dim: int | None = None,
    max_dim: int | None = None,
    min_scale: float | None = None,
    mode: str = "square",
) -> tuple[np.ndarray, tuple[int, ...], float, list[tuple[int, int]], tuple | None]:
    """Return the image as it enters the network, and how it got there.

    Returns:
        image (h, w, C) of the input's dtype; window (y1, x1, y2, x2) of the image in it; scale;
        padding [(top, bottom), (left, right), (0, 0)]; crop (y, x, h, w) or None.
    """
    if mode == "none":
        height, width = image.shape[:2]
        return image, (0, 0, height, width), 1, [(0, 0)] * 3, None
    # The module of the standard library, as in the original, so that random.seed repeats a crop.
    rng = np.random.default_rng(random.getrandbits(64)) if mode == "crop" else None
    placement = placements.place(
        image.shape, min_dim, max_dim, min_scale=min_scale, mode=mode, rng=rng
    )
    fitted = image_math.fit(image, placement)
    return fitted, placement.window, placement.scale, list(placement.padding), placement.crop


def resize_mask(
    mask: np.ndarray, scale: float, padding: Padding, crop: Sequence[int] | None = None
) -> np.ndarray:
    """Return masks moved as `resize_image` moved their image: (H, W, N) -> (h, w, N).

    The nearest pixel at half-pixel centres, as images are resized.

    Args:
        scale, padding, crop: as `resize_image` returned them.
    """
    height, width = mask.shape[:2]
    resized = max(1, round(height * scale)), max(1, round(width * scale))
    (top, bottom), (left, right) = padding[0], padding[1]
    window = (top, left, top + resized[0], left + resized[1])
    if crop is not None:
        window = (0, 0, int(crop[2]), int(crop[3]))
    placement = placements.Placement(
        source=(height, width),
        resized=resized,
        window=window,
        scale=scale,
        padding=((top, bottom), (left, right), (0, 0)),
        crop=None if crop is None else (int(crop[0]), int(crop[1]), int(crop[2]), int(crop[3])),
    )
    return image_math.fit_masks(mask, placement)


def resize(
    image: np.ndarray,
    output_shape: Sequence[int],
    order: int = 1,
    mode: str = "constant",
    cval: float = 0,
    clip: bool = True,
    preserve_range: bool = False,
    anti_aliasing: bool = False,
    anti_aliasing_sigma: float | None = None,
) -> np.ndarray:
    """Return skimage's resize; booleans count as 0 and 1, which skimage itself refuses."""
    from skimage import transform

    image = np.asarray(image)
    return transform.resize(
        image.astype(np.float64) if image.dtype == bool else image,
        output_shape,
        order=order,
        mode=mode,
        cval=cval,
        clip=clip,
        preserve_range=preserve_range,
        anti_aliasing=anti_aliasing,
        anti_aliasing_sigma=anti_aliasing_sigma,
    )


# Masks


def minimize_mask(bbox: np.ndarray, mask: np.ndarray, mini_shape: tuple[int, int]) -> np.ndarray:
    """Return what each mask shows in its box: (N, 4), (H, W, N) -> (h, w, N) bool."""
    return np.moveaxis(mask_math.minimize(bbox, mask, (mini_shape[0], mini_shape[1])), 0, -1)


def expand_mask(bbox: np.ndarray, mini_mask: np.ndarray, image_shape: Sequence[int]) -> np.ndarray:
    """Return the masks that mini-masks stand for: (N, 4), (h, w, N) -> (H, W, N) bool."""
    return pasting.expand(bbox, np.moveaxis(np.asarray(mini_mask), -1, 0), image_shape)


def mold_mask(mask: np.ndarray, config: Any) -> None:
    """Do nothing, as in the original."""
    del mask, config


def unmold_mask(mask: np.ndarray, bbox: np.ndarray, image_shape: Sequence[int]) -> np.ndarray:
    """Return a mask (h, w) of probabilities in the box of its image: (H, W) bool."""
    return pasting.paste(np.asarray(mask)[None], np.asarray(bbox)[None], image_shape)[..., 0]


# Batches and files


def batch_slice(
    inputs: Sequence[Any], graph_fn: Callable, batch_size: int, names: Sequence[str] | None = None
) -> Any:
    """Return graph_fn of each of the first batch_size images, stacked again.

    Args:
        inputs: One tensor or several; graph_fn is called with one row of each.
        names: Not used; tensors of this version have no names.
    """
    from keras import ops

    del names
    tensors = inputs if isinstance(inputs, list | tuple) else [inputs]
    rows = [graph_fn(*(tensor[i] for tensor in tensors)) for i in range(batch_size)]
    rows = [row if isinstance(row, list | tuple) else (row,) for row in rows]
    stacked = [ops.stack(column, axis=0) for column in zip(*rows, strict=True)]
    return stacked[0] if len(stacked) == 1 else stacked


def download_trained_weights(coco_model_path: str | PathLike[str], verbose: int = 1) -> None:
    """Download Matterport's COCO weights to a path, unless a readable weights file exists.

    Raises:
        OSError: When the download fails; what arrived is kept beside the path and the next call
            goes on from there. The path itself appears only when the file is complete.
    """
    source, path = catalog.PUBLISHED["coco"], Path(coco_model_path)
    if path.exists() and hdf5.is_whole(path):
        return  # perhaps one that was converted
    if verbose > 0:
        print(f"Pretrained weights of COCO: {path}")
    download.fetch(source.url, path, source.expected)
