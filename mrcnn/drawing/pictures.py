"""Whole pictures: checking, enlarging, putting together, saving."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from mrcnn import files
from mrcnn.geometry import image_files
from mrcnn.geometry import images as image_math

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


def check(image: np.ndarray) -> None:
    """Raise ValueError unless the image is (H, W, 3) uint8."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"expected an image (H, W, 3) uint8, got {image.shape} {image.dtype}")


def visible(image: np.ndarray) -> np.ndarray:
    """Return what can be seen of an image with any number of channels: (H, W, 3) uint8."""
    image = np.asarray(image)
    return image_math.to_rgb(image[..., :3] if image.ndim == 3 else image)


def enlarge(image: np.ndarray, scale: int) -> np.ndarray:
    """Return a uint8 image `scale` times as large, smoothly: (H, W, 3) or (H, W)."""
    if scale == 1:
        return image
    height, width = image.shape[:2]
    size = (width * scale, height * scale)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def side_by_side(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return two uint8 RGB images with a thin white gap between; the lower one is padded below."""
    height = max(len(left), len(right))
    gap = np.full((height, max(2, left.shape[1] // 100), 3), 255, np.uint8)
    columns = []
    for image in (left, right):
        check(image)
        below = ((0, height - len(image)), (0, 0), (0, 0))
        columns.append(np.pad(image, below, constant_values=255))
    return np.concatenate([columns[0], gap, columns[1]], axis=1)


def stack(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Return uint8 RGB images one below the other, narrower ones centred on white."""
    width = max(row.shape[1] for row in rows)
    placed = []
    for row in rows:
        left = (width - row.shape[1]) // 2
        sides = ((0, max(2, width // 100)), (left, width - row.shape[1] - left), (0, 0))
        placed.append(np.pad(row, sides, constant_values=255))
    return np.concatenate(placed)


def save_image(path: str | PathLike[str], image: np.ndarray, *, software: str = "") -> None:
    """Write a uint8 RGB image, whole or not at all; folders are made where missing.

    Args:
        software: what a PNG says that it was written by, see `is_written_by`.

    Raises:
        ValueError: if the image is not (H, W, 3) uint8 or the suffix is no image format.
    """
    check(image)
    path = Path(path)
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise ValueError(f"the name must end in one of {IMAGE_SUFFIXES}, got {path.name!r}")
    options: dict[str, Any] = {"quality": 95}
    if software:
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_text("Software", software)
    with files.replacing(path) as partial:
        Image.fromarray(image).save(partial, **options)


def is_written_by(path: str | PathLike[str], software: str) -> bool:
    """Return whether a file is a PNG that says so, see `save_image`."""
    if Path(path).suffix.lower() != ".png":
        return False
    try:
        with image_files.opened(path) as picture:
            return picture.info.get("Software") == software
    # On damaged files decoders raise whatever they trip over.
    except Exception:
        return False
