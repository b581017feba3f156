"""Boxes and frames: the definitions of box, delta, IoU and the three coordinate frames.

A box is (y1, x1, y2, x2), y2 and x2 exclusive. Frames:

- image: pixels of the original image
- input: pixels of the network input, after resize and pad
- normalized: relative to the input, in one of two forms; weights are valid for only one of them:
  inclusive (Matterport's): (box - [0, 0, 1, 1]) / [H-1, W-1, H-1, W-1], so that 0 and 1 are the
  centres of the first and last pixel; else: box / [H, W, H, W], so that they are its borders

Every function takes NumPy arrays, or tensors when `xp` is `keras.ops`.
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

Array = Any  # np.ndarray or a Keras tensor

# Keeps exp finite for a diverging network; boxes of a healthy one stay far below.
LARGEST_LOG_SCALE = 20.0


def area(boxes: Array, xp: ModuleType = np) -> Array:
    """Return the areas of boxes: (..., 4) -> (...). Inverted boxes have area 0."""
    height = xp.maximum(boxes[..., 2] - boxes[..., 0], 0.0)
    width = xp.maximum(boxes[..., 3] - boxes[..., 1], 0.0)
    return height * width


def iou(boxes: Array, other_boxes: Array, xp: ModuleType = np) -> Array:
    """Return the intersection over union of all pairs: (..., N, 4), (..., M, 4) -> (..., N, M).

    Pairs with an empty union (padding against padding) have IoU 0.
    """
    overlap = intersection(boxes, other_boxes, xp)
    union = area(boxes, xp)[..., :, None] + area(other_boxes, xp)[..., None, :] - overlap
    return overlap / xp.where(union > 0, union, xp.ones_like(union))


def share_inside(boxes: Array, regions: Array, xp: ModuleType = np) -> Array:
    """Return the fraction of each box's area inside each region: (..., N, M).

    Takes boxes (..., N, 4) and regions (..., M, 4). Empty boxes (padding) have fraction 0. COCO's
    evaluation calls this the IoU with a crowd.
    """
    areas = area(boxes, xp)[..., :, None]
    return intersection(boxes, regions, xp) / xp.where(areas > 0, areas, xp.ones_like(areas))


def intersection(boxes: Array, other_boxes: Array, xp: ModuleType = np) -> Array:
    """Return the intersection area of all pairs: (..., N, 4), (..., M, 4) -> (..., N, M)."""
    a, b = boxes[..., :, None, :], other_boxes[..., None, :, :]
    height = xp.minimum(a[..., 2], b[..., 2]) - xp.maximum(a[..., 0], b[..., 0])
    width = xp.minimum(a[..., 3], b[..., 3]) - xp.maximum(a[..., 1], b[..., 1])
    return xp.maximum(height, 0.0) * xp.maximum(width, 0.0)


def encode(boxes: Array, gt_boxes: Array, xp: ModuleType = np) -> Array:
    """Return deltas (dy, dx, log dh, log dw) that turn boxes into gt_boxes: (..., 4) -> (..., 4).

    Rows in which either box has no extent (padding) get zero deltas, never NaN.
    *(R-CNN, Girshick et al. 2014, appendix C)*
    """
    size, gt_size = _size(boxes), _size(gt_boxes)
    is_real = (xp.min(size, axis=-1, keepdims=True) > 0) & (
        xp.min(gt_size, axis=-1, keepdims=True) > 0
    )
    size = xp.where(is_real, size, xp.ones_like(size))
    gt_size = xp.where(is_real, gt_size, xp.ones_like(gt_size))
    shift = (_centre(gt_boxes) - _centre(boxes)) / size
    deltas = xp.concatenate([shift, xp.log(gt_size / size)], axis=-1)
    return xp.where(is_real, deltas, xp.zeros_like(deltas))


def decode(
    boxes: Array,
    deltas: Array,
    xp: ModuleType = np,
    largest_log_scale: float = LARGEST_LOG_SCALE,
) -> Array:
    """Return boxes refined by deltas, the inverse of `encode`: (..., 4), (..., 4) -> (..., 4).

    Args:
        largest_log_scale: upper limit that the deltas of height and width are clipped to.
    """
    size = _size(boxes)
    centre = _centre(boxes) + deltas[..., :2] * size
    size = size * xp.exp(xp.minimum(deltas[..., 2:], largest_log_scale))
    low = centre - 0.5 * size
    return xp.concatenate([low, low + size], axis=-1)


def clip(boxes: Array, window: Array, xp: ModuleType = np) -> Array:
    """Return boxes clipped to a window in the same frame: (..., 4), (..., 4) -> (..., 4)."""
    low, high = window[..., :2], window[..., 2:]
    corners = [xp.minimum(xp.maximum(boxes[..., i : i + 2], low), high) for i in (0, 2)]
    return xp.concatenate(corners, axis=-1)


def normalize(boxes: Array, input_shape: tuple[int, int], inclusive: bool = True) -> np.ndarray:
    """Return boxes of the input frame in the normalized frame, float32: (..., 4) -> (..., 4)."""
    scale, shift = _normalization(input_shape, inclusive)
    return ((np.asarray(boxes) - shift) / scale).astype(np.float32)


def denormalize(boxes: Array, input_shape: tuple[int, int], inclusive: bool = True) -> np.ndarray:
    """Return normalized boxes in pixels of the input frame, float32, not rounded."""
    scale, shift = _normalization(input_shape, inclusive)
    return (np.asarray(boxes, np.float64) * scale + shift).astype(np.float32)


def normalize_in_graph(
    boxes: Array, input_shape: Array, xp: ModuleType, inclusive: bool = True
) -> Array:
    """Return boxes of the input frame in the normalized frame, inside a network.

    Args:
        boxes: (B, N, 4), pixels of the input. All-zero rows are padding and stay zero.
        input_shape: (B, 2) float, height and width of the input.
    """
    excess = 1.0 if inclusive else 0.0
    scale = (xp.concatenate([input_shape, input_shape], axis=-1) - excess)[:, None, :]
    shift = xp.convert_to_tensor([0.0, 0.0, excess, excess])
    is_real = xp.any(boxes != 0, axis=-1, keepdims=True)
    return xp.where(is_real, (boxes - shift) / scale, xp.zeros_like(boxes))


def denormalize_in_graph(
    boxes: Array, input_shape: Array, xp: ModuleType, inclusive: bool = True
) -> Array:
    """Return normalized boxes in pixels of the input, inside a network: (B, N, 4) -> (B, N, 4).

    Args:
        input_shape: (B, 2) float, height and width of the input.
    """
    excess = 1.0 if inclusive else 0.0
    scale = (xp.concatenate([input_shape, input_shape], axis=-1) - excess)[:, None, :]
    return boxes * scale + xp.convert_to_tensor([0.0, 0.0, excess, excess])


def window_in_graph(image_meta: Array, xp: ModuleType, inclusive: bool = True) -> Array:
    """Return where each image lies in its input, normalized: (B, M) -> (B, 4).

    Args:
        image_meta: See `images.compose_meta`; columns 4:6 hold height and width of the input,
            7:11 the window in its pixels.
    """
    window = xp.cast(image_meta[:, None, 7:11], "float32")
    return normalize_in_graph(window, image_meta[:, 4:6], xp, inclusive)[:, 0]


def points_to_image(
    points: np.ndarray, window: Sequence[float], image_shape: tuple[int, int]
) -> np.ndarray:
    """Convert points (..., 2) of y and x from input pixels to pixels of the original image.

    Args:
        window: Where the image lies in the input, pixels.
        image_shape: (H, W) of the original image.
    """
    low, high = np.asarray(window[:2]), np.asarray(window[2:])
    return (points - low) * (np.asarray(image_shape) / (high - low))


def to_image(
    boxes: Array,
    window: Array,
    image_shape: tuple[int, int],
    input_shape: tuple[int, int],
    inclusive: bool = True,
) -> np.ndarray:
    """Return normalized boxes in pixels of the original image: (N, 4) -> (N, 4) float32.

    They are clipped to the image, and not rounded.

    Args:
        window: (4,), window of the image in the input, in input pixels.
    """
    window = normalize(window, input_shape, inclusive)
    size = np.tile(window[2:] - window[:2], 2)
    # A window of a single pixel has no extent in this frame.
    relative = (np.asarray(boxes) - np.tile(window[:2], 2)) / np.where(size > 0, size, 1)
    pixels = denormalize(relative, image_shape, inclusive)
    return np.clip(pixels, 0, np.tile(image_shape, 2)).astype(np.float32)


def _normalization(shape: tuple[int, int], inclusive: bool) -> tuple[np.ndarray, np.ndarray]:
    excess = float(inclusive)
    scale = np.tile(np.asarray(shape, np.float64) - excess, 2)
    return np.maximum(scale, 1.0), np.array([0.0, 0.0, excess, excess])


def _size(boxes: Array) -> Array:
    return boxes[..., 2:] - boxes[..., :2]


def _centre(boxes: Array) -> Array:
    return 0.5 * (boxes[..., 2:] + boxes[..., :2])
