"""Placement of an image in the network input: resize by `scale`, then pad or crop.

Frames: image pixels -> resized pixels -> input pixels. A `Placement` is decided once, and applied
to the image, its masks and its keypoints, so that they always agree.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

STRIDE = 64  # of the coarsest pyramid level: input sides are its multiples
LEAST_STRIDE = 32  # of the coarsest map that others are added to: less padding needs no more
# How far narrow images are enlarged: the longer side up to so many times the greater of min_dim and
# max_dim; for a crop, which needs the shorter side to be min_dim, up to so many pixels.
LONGEST, MOST_PIXELS = 4, 2**28


@dataclass(frozen=True)
class Placement:
    """Where an image of shape `source` lies in the network's input.

    Attributes:
        source: (H, W) of the image.
        resized: (h, w) after scaling.
        window: (y1, x1, y2, x2) of the image in input pixels.
        scale: input pixels per image pixel.
        padding: ((top, bottom), (left, right), (0, 0)).
        crop: (y, x, h, w) in pixels of the resized image; None if all of it is kept.
    """

    source: tuple[int, int]
    resized: tuple[int, int]
    window: tuple[int, int, int, int]
    scale: float
    padding: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    crop: tuple[int, int, int, int] | None = None

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the network's input."""
        (_, bottom), (_, right), _ = self.padding
        return self.window[2] + bottom, self.window[3] + right

    def move_keypoints(self, keypoints: np.ndarray) -> np.ndarray:
        """Convert keypoints (..., 3) from image to input pixels, float32.

        Visibility becomes 0 for those outside the input's window.
        """
        scale = np.array(self.resized) / self.source
        start = np.array(self.crop[:2] if self.crop else (0, 0))
        low, high = np.array(self.window[:2]), np.array(self.window[2:])
        points = keypoints[..., :2] * scale - start + low
        is_shown = np.all((points >= low) & (points <= high), axis=-1, keepdims=True)
        moved = np.concatenate([points, keypoints[..., 2:] * is_shown], axis=-1)
        return moved.astype(np.float32)


def place(
    image_shape: Sequence[int],
    min_dim: int | None,
    max_dim: int | None,
    *,
    min_scale: float | None = 0,
    mode: str = "square",
    factor: float = 1.0,
    rng: np.random.Generator | None = None,
) -> Placement:
    """Return the placement of an image by Matterport's resize modes, or short_side.

    Args:
        image_shape: (H, W) or (H, W, C).
        min_dim: the shorter side is enlarged to it, but see LONGEST; also the side of a crop.
        max_dim: limit of the longer side, and the side of the input (mode square).
        min_scale: minimum scale.
        mode: square, pad64, crop, none, or short_side, see `place_by_short_side`.
        factor: additional scale factor (scale jitter), within the limits of the mode.
        rng: draws the position of a crop; None: the centre.

    Raises:
        ValueError: If the mode is unknown, its sides do not suit the strides, or the image is too
            narrow for a crop.
    """
    height, width = int(image_shape[0]), int(image_shape[1])
    if mode == "none":
        return _as_it_is(height, width)
    if mode == "short_side" and min_dim and max_dim:
        return place_by_short_side(image_shape, min_dim, max_dim, factor=factor)
    enlarged = min_dim / min(height, width) if min_dim else 1
    # Towards min_dim alone: min_scale is as many times of every image, however long.
    limit = max(1, LONGEST * max(min_dim or 0, max_dim or 0) / max(height, width))
    scale = max(1, min(enlarged, limit), min_scale or 0) * factor
    if mode == "crop":
        scale = max(scale, enlarged)
    if mode == "square" and max_dim and round(max(height, width) * scale) > max_dim:
        scale = max_dim / max(height, width)
    resized = max(1, round(height * scale)), max(1, round(width * scale))
    if mode == "square":
        side = max_dim or max(resized)
        return _padded((height, width), resized, scale, (side, side))
    if mode == "pad64":
        return _padded((height, width), resized, scale, _pad64_size(resized, min_dim or 0))
    if mode == "crop" and min_dim:
        return _cropped((height, width), resized, scale, min_dim, rng)
    raise ValueError(
        "the resize mode must be square, pad64, none, crop (with min_dim) or short_side (with "
        f"min_dim and max_dim), got {mode!r} with min_dim {min_dim}, max_dim {max_dim}"
    )


def place_by_short_side(
    image_shape: Sequence[int],
    min_dim: int,
    max_dim: int,
    *,
    factor: float = 1.0,
    side: int | None = None,
) -> Placement:
    """Decide how an image enters the network, as torchvision and detectron2 do (mode short_side).

    The shorter side becomes min_dim, unless the longer one would exceed max_dim. The input is
    padded at bottom and right.

    Args:
        image_shape: (H, W) or (H, W, C).
        factor: by which min_dim is enlarged (scale jitter).
        side: of a square input; None pads as little as strides allow.
    """
    height, width = int(image_shape[0]), int(image_shape[1])
    scale = min(factor * min_dim / min(height, width), max_dim / max(height, width))
    resized = max(1, int(height * scale)), max(1, int(width * scale))
    rows, cols = (-(-length // LEAST_STRIDE) * LEAST_STRIDE for length in resized)
    size = (side, side) if side else (rows, cols)
    return _padded((height, width), resized, scale, size, at_end=True)


def in_few_sizes(placement: Placement) -> Placement:
    """Return a placement padded further at bottom and right, to one of few sizes of inputs.

    For engines that compile anew for every size. Between a power of two and the next there are
    four sides, in strides of at least STRIDE.
    """
    height, width = placement.input_size
    (top, bottom), (left, right), channels = placement.padding
    more_rows, more_cols = _roomy(height) - height, _roomy(width) - width
    padding = ((top, bottom + more_rows), (left, right + more_cols), channels)
    return dataclasses.replace(placement, padding=padding)


def _pad64_size(resized: tuple[int, int], min_dim: int) -> tuple[int, int]:
    if min_dim % STRIDE:
        raise ValueError(f"min_dim must be a multiple of {STRIDE} in mode pad64, got {min_dim}")
    return -(-resized[0] // STRIDE) * STRIDE, -(-resized[1] // STRIDE) * STRIDE


def _roomy(side: int) -> int:
    step = max(STRIDE, 2 ** (side.bit_length() - 1) // 4)
    return -(-side // step) * step


def _as_it_is(height: int, width: int) -> Placement:
    if height % STRIDE or width % STRIDE or not height * width:
        raise ValueError(
            f"image sides must be multiples of {STRIDE} in resize mode none, "
            f"got {height} x {width}; use the mode pad64 or square"
        )
    size = height, width
    return Placement(size, size, (0, 0, *size), 1, ((0, 0), (0, 0), (0, 0)))


def _padded(
    source: tuple[int, int],
    resized: tuple[int, int],
    scale: float,
    size: tuple[int, int],
    *,
    at_end: bool = False,
) -> Placement:
    top, left = (size[0] - resized[0]) // 2, (size[1] - resized[1]) // 2
    if at_end:
        top = left = 0
    bottom, right = size[0] - resized[0] - top, size[1] - resized[1] - left
    window = (top, left, top + resized[0], left + resized[1])
    return Placement(source, resized, window, scale, ((top, bottom), (left, right), (0, 0)))


def _cropped(
    source: tuple[int, int],
    resized: tuple[int, int],
    scale: float,
    side: int,
    rng: np.random.Generator | None,
) -> Placement:
    if resized[0] * resized[1] > MOST_PIXELS:
        raise ValueError(
            f"an image of {source[0]} x {source[1]} pixels is too narrow for a crop of {side} x "
            f"{side}: leave it out, or take the resize mode square"
        )
    spare_rows, spare_cols = resized[0] - side, resized[1] - side
    y, x = spare_rows // 2, spare_cols // 2
    if rng is not None:
        y, x = int(rng.integers(spare_rows + 1)), int(rng.integers(spare_cols + 1))
    padding = ((0, 0), (0, 0), (0, 0))
    return Placement(source, resized, (0, 0, side, side), scale, padding, (y, x, side, side))
