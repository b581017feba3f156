"""Images: fitted into the network's input, molded, read as 8 bits; the meta record.

`fit` and `fit_masks` apply a `placement.Placement`, so that an image and its masks always agree.
"""

import functools
from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np
import PIL.Image

from mrcnn.geometry import image_files, shown_masks
from mrcnn.geometry.placement import Placement
from mrcnn.geometry.resizing import resize, resize_quickly

MOST_FRACTION = 1.5  # of floats that are meant to be in 0..1, after a resize
MOST_OVERSHOOT = 511  # of floats that are meant to be in 0..255


def fit(image: np.ndarray, placement: Placement, *, edge_padding: bool = False) -> np.ndarray:
    """Return an image as it enters the network: (H, W, C) -> (h, w, C), same dtype.

    Args:
        edge_padding: See `resize`.
    """
    if placement.crop:
        return resize(image, placement.resized, placement.crop, edge_padding=edge_padding)
    return _padded_to(resize(image, placement.resized, edge_padding=edge_padding), placement)


def fit_quickly(
    image: np.ndarray, placement: Placement, *, edge_padding: bool = False
) -> np.ndarray:
    """Return what `fit` does up to one grey level, for training; see `resize_quickly`."""
    if placement.crop:
        return fit(image, placement, edge_padding=edge_padding)
    resized = resize_quickly(image, placement.resized, edge_padding=edge_padding)
    return _padded_to(resized, placement)


def fit_masks(masks: np.ndarray, placement: Placement) -> np.ndarray:
    """Return masks as they enter the network: (H, W, N) -> (h, w, N), same dtype.

    The nearest pixel at half-pixel centres, as `fit` samples the image; Matterport's zoom is
    aligned to the corners, which moved edges by up to two pixels.
    """
    every = np.arange(masks.shape[-1])
    start = placement.window[:2]
    planes = show_masks(masks, placement).whole(every, start, placement.input_size)
    return np.moveaxis(planes, 0, -1)


def show_masks(masks: np.ndarray, placement: Placement) -> shown_masks.ShownMasks:
    """Return masks (H, W, N) as the window of the input shows them, see `fit_masks`."""
    y, x, height, width = placement.crop or (0, 0, *placement.resized)
    rows = _nearest(placement.source[0], placement.resized[0])[y : y + height]
    cols = _nearest(placement.source[1], placement.resized[1])[x : x + width]
    return shown_masks.show(masks, rows, cols)


def mold(
    images: np.ndarray, mean_pixel: Sequence[float], pixel_std: Sequence[float] = (1.0,)
) -> np.ndarray:
    """Return images (..., C) minus the mean pixel, divided by the deviation, float32."""
    # Rounded once, as in Matterport's: a difference in the last bit can move a RoI's last sample
    # beyond the border.
    centred = images - np.asarray(mean_pixel, np.float64)
    return (centred / np.asarray(pixel_std, np.float64)).astype(np.float32)


def only_window(molded: np.ndarray, window: Sequence[int]) -> np.ndarray:
    """Return a molded image (H, W, C) that is zero around its window."""
    shown = np.zeros_like(molded)
    y1, x1, y2, x2 = window
    shown[y1:y2, x1:x2] = molded[y1:y2, x1:x2]
    return shown


def unmold(molded: np.ndarray, mean_pixel: Sequence[float]) -> np.ndarray:
    """Return the images (..., C) of molded ones, uint8."""
    return np.rint(np.asarray(molded) + np.asarray(mean_pixel)).clip(0, 255).astype(np.uint8)


def compose_meta(
    image_id: int,
    original_shape: Sequence[int],
    image_shape: Sequence[int],
    window: Sequence[int],
    scale: float,
    active_class_ids: Sequence[int] | np.ndarray,
) -> np.ndarray:
    """Return the meta record of an image: (12 + K,) float32.

    In order: id, original height, width, channels, input height, width, channels, window
    y1, x1, y2, x2, scale, and for each class whether the image's source annotates it.
    """
    fields = [[image_id], original_shape, image_shape, window, [scale], active_class_ids]
    return np.concatenate([np.asarray(field, np.float32).ravel() for field in fields])


def parse_meta(meta: np.ndarray) -> dict[str, np.ndarray]:
    """Return the fields of metas by name: (B, 12 + K) -> (B,), (B, 3), (B, 4), (B, K)."""
    return {
        "image_id": meta[:, 0].astype(np.int32),
        "original_image_shape": meta[:, 1:4].astype(np.int32),
        "image_shape": meta[:, 4:7].astype(np.int32),
        "window": meta[:, 7:11].astype(np.int32),
        "scale": meta[:, 11].astype(np.float32),
        "active_class_ids": meta[:, 12:].astype(np.int32),
    }


def read_image(file: image_files.ImageFile, channels: int = 3) -> np.ndarray:
    """Return an image file, upright, as (H, W, channels) uint8.

    EXIF orientation is applied, palettes and CMYK become RGB, values are scaled as `to_uint8`
    does. For three channels grey is repeated and alpha dropped (`to_rgb`); for one the image
    becomes grey; any other number must be what the file holds.

    Args:
        file: a path, or the bytes of a file.
        channels: C.

    Raises:
        ValueError: the file is missing, no image, truncated, empty, too large to be trusted or of
            several images.
    """
    name = "the image" if isinstance(file, bytes) else file
    try:
        pixels = image_files.read_pixels(file, channels)
        if channels == 3:
            return to_rgb(pixels)
        if channels == 1 and pixels.ndim == 3:
            luminance = to_rgb(pixels) @ np.array([0.299, 0.587, 0.114])  # Rec. 601
            return np.rint(luminance).astype(np.uint8)[..., None]
        pixels = to_uint8(pixels[..., None] if pixels.ndim == 2 else pixels)
        if pixels.shape[-1] != channels:
            raise ValueError(f"it has {pixels.shape[-1]} channels, {channels} are wanted")
        return pixels
    except FileNotFoundError as error:
        raise ValueError(f"{name}: cannot be read as an image: no such file") from error
    # On damaged files decoders raise whatever they trip over: OSError, SyntaxError, struct.error.
    except Exception as error:
        why = image_files.reason(error)
        raise ValueError(f"{name}: cannot be read as an image: {why}") from error


def to_rgb(array: np.ndarray) -> np.ndarray:
    """Convert any image to RGB: (H, W) or (H, W, 1 to 4) -> (H, W, 3) uint8.

    One channel is grey, two are grey and alpha, four are RGB and alpha; alpha is dropped.
    Values are brought to 0..255 as `to_uint8` does.

    Raises:
        ValueError: the shape is none of these, or the values have no known range.
    """
    image = np.asarray(_opened(array))
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[-1] not in (1, 2, 3, 4) or image.size == 0:
        raise ValueError(
            "an image must have shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), "
            f"got {_what(array)}"
        )
    colours = to_uint8(image[..., : 3 if image.shape[-1] > 2 else 1])
    return colours if colours.shape[-1] == 3 else np.repeat(colours, 3, axis=-1)


def to_channels(array: np.ndarray, channels: int) -> np.ndarray:
    """Convert an image array to (H, W, channels).

    Three channels are converted by `to_rgb`; any other number must match. Integers become 8 bits
    as in `to_uint8`. Floats are kept as float32 if their scale is up to the program: with other
    than three channels, or if some are negative (widely copied programs subtract the mean pixel
    before calling Matterport's `detect`, which subtracts it again).

    Raises:
        ValueError: If the array does not have `channels` channels.
    """
    image = np.asarray(_opened(array))
    if image.ndim < 2:
        return to_rgb(array)  # which says what is wrong with it
    image = _without_gaps(image)
    is_float = np.issubdtype(image.dtype, np.floating)
    if channels == 3 and not (is_float and image.ndim == 3 and image.min(initial=0) < 0):
        return to_rgb(image)
    image = image[..., None] if image.ndim == 2 else image
    if image.ndim != 3 or image.shape[-1] != channels:
        raise ValueError(f"the image has shape {np.shape(array)}, {channels} channels are wanted")
    return image.astype(np.float32) if is_float else to_uint8(image)


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Return pixel values as 0..255 uint8, same shape.

    Eight bits are kept, booleans are 0 and 1. Sixteen bits (by dtype; of larger types, values
    above 255, of floats above 511) become 255 / 12 * log2(1 + value / 16): a level for every 3
    percent. A value so has one grey in all images of a set, in training as in detection, whether
    the sensor filled 8, 12, 13 or all 16 bits; a scale chosen by image would be brighter and
    change from one image to the next. Floats up to 1 are fractions; those that exceed 255 by less
    than its double (after a resize, or a change of brightness) are cut. Negative values become 0,
    and so do NaN and infinities, which have no part in the choice of the scale.

    Raises:
        ValueError: the greatest value is above 65535, none is finite, or they are no numbers.
    """
    if image.dtype == np.uint8:
        return image
    if image.dtype == bool:
        return image.astype(np.uint8) * np.uint8(255)
    if image.dtype == np.uint16:
        return _grey_of_16_bits()[image]
    if image.dtype == np.int16:
        return _grey_of_16_bits()[image.clip(min=0)]
    if image.dtype.kind not in "fiu":
        raise ValueError(f"pixel values must be real numbers, got {image.dtype}")
    return _scaled(_without_gaps(image))


def _scaled(image: np.ndarray) -> np.ndarray:
    """Return what `to_uint8` makes of large types and of floats."""
    greatest = float(image.max(initial=0))
    if greatest > 65535:
        raise ValueError(
            f"pixel values must not exceed 65535, got {greatest}; scale them to 0..255"
        )
    values, is_float = image.clip(min=0).astype(np.float32), image.dtype.kind == "f"
    if is_float and greatest <= MOST_FRACTION:
        values *= 255
    elif greatest > (MOST_OVERSHOOT if is_float else 255):
        return _grey_of_16_bits()[np.rint(values).astype(np.uint16)]
    return (values + 0.5).clip(max=255).astype(np.uint8)


def _without_gaps(image: np.ndarray) -> np.ndarray:
    """Return an image with 0 where a float is NaN or infinite: what maps have where nothing is.

    Raises:
        ValueError: no value is finite.
    """
    if image.dtype.kind != "f":
        return image
    is_finite = np.isfinite(image)
    if is_finite.all():
        return image
    if not is_finite.any():
        raise ValueError("no value of the image is a finite number")
    return np.where(is_finite, image, image.dtype.type(0))


def _opened(array: Any) -> Any:
    """Return the pixels of Pillow's images, whose bands may be of any colours, upright."""
    return image_files.values_of(array) if isinstance(array, PIL.Image.Image) else array


def _what(array: Any) -> str:
    """Describe what was passed instead of an image, and what to do."""
    if isinstance(array, str | PathLike):
        return f"a {type(array).__name__}; open the file first: mrcnn.geometry.images.read_image"
    if np.ndim(array) == 0 and not isinstance(array, np.ndarray):
        return f"a {type(array).__name__}; pass one image, as an array"
    return f"{np.shape(array)}; pass one image, channels last"


@functools.cache
def _grey_of_16_bits() -> np.ndarray:
    """Return the grey level for every 16-bit value: (65536,) uint8."""
    return np.rint(255 / 12 * np.log2(1 + np.arange(65536) / 16)).clip(max=255).astype(np.uint8)


def _padded_to(image: np.ndarray, placement: Placement) -> np.ndarray:
    fitted = np.zeros((*placement.input_size, *image.shape[2:]), image.dtype)
    y1, x1, y2, x2 = placement.window
    fitted[y1:y2, x1:x2] = image
    return fitted


def _nearest(size: int, resized: int) -> np.ndarray:
    # Whole numbers only: (i + .5) * size / resized in floats can fall just short of a pixel.
    return (2 * np.arange(resized) + 1) * size // (2 * resized)
