"""Masks and boxes drawn into the pixels of an image, in place."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mrcnn.drawing.colors import Color, fractions


def apply_mask(image: np.ndarray, mask: np.ndarray, color: Color, alpha: float = 0.5) -> np.ndarray:
    """Blend a colour into an image (H, W, 3) where a mask (H, W) exceeds 0.5, in place."""
    inside = np.asarray(mask) > 0.5
    part = image[:, :, :3]
    part[inside] = part[inside] * (1 - alpha) + alpha * 255 * fractions(color)
    return image


def draw_box(image: np.ndarray, box: Sequence[float], color: Any) -> np.ndarray:
    """Draw a box two pixels wide in place; the colour is a value of the image's own pixels."""
    height, width = image.shape[:2]
    y1, x1, y2, x2 = (int(edge) for edge in np.maximum(box, 0))
    for y in (y1, y2):
        image[y : min(y + 2, height), x1 : min(x2, width)] = color
    for x in (x1, x2):
        image[y1 : min(y2, height), x : min(x + 2, width)] = color
    return image
