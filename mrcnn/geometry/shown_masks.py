"""Masks as the network's input shows them: their nearest pixels, read only where objects are.

The input shows a mask through its rows and columns: the pixel of the mask for each pixel of the
input's window. So masks are neither resized nor copied before it is known what is needed of them.
"""

from typing import NamedTuple

import numpy as np

from mrcnn.geometry import masks as mask_maths


class ShownMasks(NamedTuple):
    """Masks, and how a window shows them.

    Attributes:
        masks: (H, W, N), as they were.
        rows, cols: the pixel of the masks at each of the window's, (h,) and (w,).
        boxes: (N, 4) int32, tight, in pixels of the window; zeros for what it does not show.
    """

    masks: np.ndarray
    rows: np.ndarray
    cols: np.ndarray
    boxes: np.ndarray

    def minimized(self, kept: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """Return mini-masks of some of the masks: (n,) -> (n, h, w) bool."""
        masks = self.masks if len(kept) == self.masks.shape[-1] else self.masks[..., kept]
        return mask_maths.minimize(self.boxes[kept], masks, shape, self.rows, self.cols)

    def whole(self, kept: np.ndarray, start: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
        """Return some of the masks in an input of size (H, W), their window at start: (n, H, W)."""
        planes = np.zeros((len(kept), *size), self.masks.dtype)
        shown = planes[:, start[0] :, start[1] :]
        # Only inside the boxes: a hundred small objects cost no more than one large one.
        for plane, number in zip(shown, kept, strict=True):
            top, left, bottom, right = self.boxes[number]
            plane[top:bottom, left:right] = self.part(number)
        return planes

    def part(self, number: int) -> np.ndarray:
        """Return what the window shows of a mask in its box."""
        top, left, bottom, right = self.boxes[number]
        return self.masks[self.rows[top:bottom], :, number][:, self.cols[left:right]]


def show(masks: np.ndarray, rows: np.ndarray, cols: np.ndarray) -> ShownMasks:
    """Return masks (H, W, N) as a window shows them.

    Args:
        rows, cols: the pixel of the masks at each of the window's, in their order.
    """
    # An image may hold far more objects than a crop shows.
    masks = masks[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    rows, cols = rows - rows[0], cols - cols[0]
    boxes = mask_maths.bounds(masks)
    sides = [np.searchsorted(rows, boxes[:, [0, 2]]), np.searchsorted(cols, boxes[:, [1, 3]])]
    boxes = np.stack(sides, axis=-1).reshape(-1, 4).astype(np.int32)
    shown = ShownMasks(masks, rows, cols, boxes)
    # Where the window leaves out rows, an object's outermost ones may be among them.
    if max(np.diff(rows, prepend=0).max(), np.diff(cols, prepend=0).max()) > 1:
        for number, box in enumerate(boxes):
            part = mask_maths.bounds(shown.part(number)[..., None])[0]
            boxes[number] = part + np.tile(box[:2], 2) if part.any() else 0
    return shown
