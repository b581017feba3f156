"""Anchors: the fixed grid of boxes that the RPN refines (Faster R-CNN, section 3.1.1)."""

from collections.abc import Sequence

import numpy as np

Scale = float | Sequence[float]


def cell_anchors(scale: Scale, ratios: Sequence[float], *, whole: bool = False) -> np.ndarray:
    """Return the anchors of one cell around the origin, pixels: (A, 4).

    A ratio is width over height; every anchor has the area scale * scale. With several scales, all
    ratios of the first come first, as in detectron2's weights.

    Args:
        whole: round the corners to pixels, halves to even, as torchvision does.
    """
    sides = np.atleast_1d(scale)[:, None]
    ratio_roots = np.sqrt(np.asarray(ratios, np.float64))
    heights, widths = (sides / ratio_roots).ravel(), (sides * ratio_roots).ravel()
    corners = np.stack([-heights, -widths, heights, widths], axis=-1) / 2
    return np.rint(corners) if whole else corners


def level_anchors(
    scale: Scale,
    ratios: Sequence[float],
    grid: tuple[int, int],
    stride: int | tuple[int, int],
    anchor_stride: int = 1,
    *,
    whole: bool = False,
) -> np.ndarray:
    """Return the anchors of one pyramid level, in input pixels: (h * w * A, 4) float64.

    Row-major over the grid, ratios fastest. The anchors of cell (i, j) are centred on pixel
    (i * stride, j * stride), as in Matterport's, torchvision's and detectron2's weights. Every
    anchor_stride-th cell has anchors.
    """
    rows, cols = np.mgrid[: grid[0] : anchor_stride, : grid[1] : anchor_stride]
    down, right = np.broadcast_to(stride, 2)
    rows, cols = rows * down, cols * right
    shifts = np.stack([rows, cols, rows, cols], axis=-1).reshape(-1, 1, 4)
    return (shifts + cell_anchors(scale, ratios, whole=whole)).reshape(-1, 4)


def level_grids(input_shape: tuple[int, int], strides: Sequence[int]) -> list[tuple[int, int]]:
    """Return the height and width of each pyramid level, in cells."""
    return [(-(-input_shape[0] // stride), -(-input_shape[1] // stride)) for stride in strides]


def pyramid_anchors(
    scales: Sequence[Scale],
    ratios: Sequence[float],
    grids: Sequence[tuple[int, int]],
    strides: Sequence[int | tuple[int, int]],
    anchor_stride: int = 1,
    *,
    whole: bool = False,
) -> np.ndarray:
    """Return the anchors of all levels, finest first, in input pixels: (N, 4) float64.

    One scale per level *(FPN, Lin et al. 2017, section 4.1)*: 261,888 anchors at 1024 x 1024.

    Args:
        scales: Per level; several if there is only one level.
        grids: Height and width of each level, in cells; see `level_grids`.
        strides: Per level, one number or one per direction.
        whole: See `cell_anchors`.
    """
    levels = zip(scales, grids, strides, strict=True)
    return np.concatenate(
        [
            level_anchors(scale, ratios, grid, stride, anchor_stride, whole=whole)
            for scale, grid, stride in levels
        ]
    )
