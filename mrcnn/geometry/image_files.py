"""Image files: their pixels and sizes as stored, the EXIF orientation, and label images."""

import functools
import io
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from typing import Any

import numpy as np
import PIL.Image
import tifffile

from mrcnn.geometry import label_images

ImageFile = str | PathLike | bytes

# The formats that are decoded, by Pillow's names, and the suffixes of their files. Images alone:
# Pillow hands PostScript to Ghostscript, which runs it as a program. What is a JPEG to begin with
# may be an MPO.
FORMATS = (
    "PNG", "JPEG", "TIFF", "BMP", "DIB", "WEBP", "GIF", "PPM", "JPEG2000", "AVIF",
    "QOI", "PCX", "SGI", "SUN",
)  # fmt: skip
SUFFIXES = frozenset((
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo", ".tif", ".tiff", ".bmp",
    ".dib", ".webp", ".gif", ".pbm", ".pgm", ".ppm", ".pnm", ".jp2", ".j2k", ".jpc", ".jpf",
    ".jpx", ".j2c", ".avif", ".qoi", ".pcx", ".sgi", ".rgb", ".rgba", ".bw", ".ras",
))  # fmt: skip

# An image of more pixels is refused before memory is taken for it: a small file may claim any size.
# The environment variable raises the limit.
MAX_PIXELS, LIMIT = 178_956_970, "MRCNN_MAX_PIXELS"
LOSSY = ("JPEG", "MPO")
REDUCED, MASK = 1, 4  # bits of the type of a TIFF's page that is no image of its own

PLAIN_MODES = ("1", "L", "LA", "RGB", "RGBA", "F")
MOST_LABEL = 2**31
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0  # a tag of TIFF, and what scanners write there
ORIENTATION, DESCRIPTION = 0x0112, 270  # tags of EXIF and TIFF


def read_pixels(file: ImageFile, channels: int = 3) -> np.ndarray:
    """Return the values of an image, upright, as (H, W) or (H, W, C) of the file's own type.

    Palettes and CMYK become RGB(A). TIFFs keep all their bands, wherever they are stored; the
    pages of a TIFF are its bands where they are as many as the channels that are wanted, and
    those are neither one nor three.

    Args:
        file: a path, or the bytes of a file.
        channels: how many are wanted.

    Raises:
        ValueError: there are several images in the file, or more pixels than `pixel_limit`.
        Exception: whatever a decoder raises on a damaged file.
    """
    try:
        with opened(file) as image:
            if not _needs_tifffile(image, channels):
                _check_pages(_pages(image, file), is_tiff=image.format == "TIFF")
                image.load()
                return values_of(image)
    except (OSError, ValueError):
        if not _is_tiff(file):
            raise
    return _read_tiff(file, channels)  # Pillow knows few TIFFs of more than 8 bits or 4 bands


def read_size(file: ImageFile) -> tuple[tuple[int, int], int]:
    """Return (H, W) as stored and the EXIF orientation (1 to 8) of an image; reads its header.

    Raises:
        ValueError: the file is missing or no image.
    """
    try:
        try:
            with opened(file) as image:
                return (image.height, image.width), _orientation(image)
        except (OSError, ValueError):
            if not _is_tiff(file):
                raise
        with tifffile.TiffFile(_source(file)) as tiff:
            page = tiff.pages.first
            check_pixels(page.imagelength, page.imagewidth)
            return (page.imagelength, page.imagewidth), _tiff_orientation(page)
    # On damaged files decoders raise whatever they trip over: OSError, SyntaxError, struct.error.
    except Exception as error:
        name = "the image" if isinstance(file, bytes) else file
        raise ValueError(f"{name}: cannot be read as an image: {reason(error)}") from error


def read_labels(path: str | PathLike) -> np.ndarray:
    """Return a label image as stored, (H, W) of whole numbers: palette indices, not colours.

    Colours become one number each, 0 is black; alpha is dropped.

    Raises:
        ValueError: the file is missing or no label image: of fractions, a photograph, or a mask
            that was smoothed or stored with loss, so that it has values that no object has.
    """
    try:
        values, is_lossy = _read_raw(path)
    # On damaged files decoders raise whatever they trip over: OSError, SyntaxError, struct.error.
    except Exception as error:
        raise ValueError(f"{path}: cannot be read as a mask: {reason(error)}") from error
    if values.dtype.kind == "f" and values.ndim == 2:
        # Whole numbers all the same; NaN is none.
        is_whole = (values == np.rint(values)) & (np.abs(values) < MOST_LABEL)
        values = values.astype(np.int64) if is_whole.all() else values
    is_whole = np.issubdtype(values.dtype, np.integer) or values.dtype == bool
    if values.ndim not in (2, 3) or not is_whole:
        raise ValueError(f"{path}: {values.dtype} of shape {values.shape} is no label image")
    labels = label_images.numbered(values)
    if fault := label_images.fault_of(values, labels, is_lossy=is_lossy):
        raise ValueError(f"{path} is no label image: {fault}")
    return labels


@contextmanager
def opened(file: ImageFile) -> Iterator[PIL.Image.Image]:
    """Yield an image file that Pillow has opened: of FORMATS, of not too many pixels.

    Raises:
        OSError: it is missing, or none of these.
        ValueError: it has too many pixels.
    """
    with _PILLOWS_LIMIT, PIL.Image.open(_source(file), formats=_decoders()) as image:
        check_pixels(image.height, image.width)
        yield image


def pixel_limit() -> int:
    """Return how many pixels an image may have: the environment's MRCNN_MAX_PIXELS, or MAX_PIXELS.

    Raises:
        ValueError: the environment's is no number.
    """
    text = os.environ.get(LIMIT, "").strip()
    if text and not text.isdecimal():
        raise ValueError(f"the environment variable {LIMIT} must be a whole number, got {text!r}")
    return int(text) if text else MAX_PIXELS


def check_pixels(height: int, width: int) -> None:
    """Raise ValueError if an image has more pixels than `pixel_limit`."""
    limit = pixel_limit()
    if height * width > limit:
        raise ValueError(
            f"it has {width} x {height} pixels, more than the limit of {limit}; if its source is "
            f"to be trusted, set the environment variable {LIMIT}={height * width}"
        )


def reason(error: Exception) -> str:
    """Return what an error says, in words even for those that say nothing."""
    if isinstance(error, MemoryError):
        return "there is not enough memory for it"
    if isinstance(error, KeyError | IndexError | AssertionError):  # a decoder's own, which say "0"
        return f"it is damaged ({type(error).__name__})"
    return str(error) or type(error).__name__


def turned(array: np.ndarray, orientation: int) -> np.ndarray:
    """Return a picture or masks (H, W, ...) of an EXIF orientation turned upright."""
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return array[::-1] if orientation in (3, 4, 7, 8) else array


def turned_points(points: np.ndarray, size: tuple[int, int], orientation: int) -> np.ndarray:
    """Return points (..., 2) of y and x turned as `turned` turns the picture that they are in.

    Args:
        size: height and width of the picture before.
    """
    height, width = size
    if orientation >= 5:
        points, (height, width) = points[..., ::-1], (width, height)
    if orientation in (2, 3, 6, 7):
        points = points * [1, -1] + [0, width]
    return points * [-1, 1] + [height, 0] if orientation in (3, 4, 7, 8) else points


def _read_raw(path: str | PathLike) -> tuple[np.ndarray, bool]:
    """Return the values as stored, and whether the format may have changed them."""
    try:
        with opened(path) as image:
            if not _needs_tifffile(image, 1):
                _check_pages(_pages(image, path), is_tiff=image.format == "TIFF")
                return np.array(image), image.format in LOSSY
    except (OSError, ValueError):
        if not _is_tiff(path):
            raise
    return _read_tiff(path, 1), False


def _source(file: ImageFile) -> str | PathLike | io.BytesIO:
    return io.BytesIO(file) if isinstance(file, bytes) else file


@functools.cache
def _decoders() -> tuple[str, ...]:
    """Return those of FORMATS that this Pillow knows."""
    PIL.Image.init()
    return tuple(name for name in FORMATS if name in PIL.Image.OPEN)


class _PillowsLimit:
    """Lifts Pillow's limit of pixels while a file is open: `check_pixels` has its own.

    The limit is the process's: the first of several threads lifts it, the last one puts it back.
    """

    def __init__(self) -> None:
        self.lock, self.inside = threading.Lock(), 0
        self.limit: int | None = None

    def __enter__(self) -> None:
        with self.lock:
            if self.inside == 0:
                self.limit, PIL.Image.MAX_IMAGE_PIXELS = PIL.Image.MAX_IMAGE_PIXELS, None
            self.inside += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.inside -= 1
            if self.inside == 0:
                PIL.Image.MAX_IMAGE_PIXELS = self.limit


_PILLOWS_LIMIT = _PillowsLimit()


def _is_tiff(file: ImageFile) -> bool:
    if isinstance(file, bytes):
        return file[:2] in (b"II", b"MM")
    return str(file).lower().endswith((".tif", ".tiff"))


def _needs_tifffile(image: PIL.Image.Image, channels: int) -> bool:
    """Tell what Pillow opens but would not give whole: colours of 16 bits, bands in pages."""
    if image.format != "TIFF":
        return False
    tags = getattr(image, "tag_v2", {})
    is_deep_colour = max(tags.get(258, (1,))) > 8 and len(image.getbands()) > 1
    pages = getattr(image, "n_frames", 1)
    return is_deep_colour or (pages > 1 and channels == pages and channels not in (1, 3))


def _pages(image: PIL.Image.Image, file: ImageFile) -> int:
    """Return how many images a file holds: pages, or frames; previews do not count."""
    is_animated = getattr(image, "is_animated", False)
    if image.format == "TIFF":
        # ImageJ and tifffile describe stacks that have the header of the first page only.
        description = str(getattr(image, "tag_v2", {}).get(DESCRIPTION, ""))
        if not is_animated and "images=" not in description and '"shape"' not in description:
            return 1
        with tifffile.TiffFile(_source(file)) as tiff:
            return _tiff_pages(tiff)
    # What cameras append to a JPEG (MPO) are previews and second views.
    return int(getattr(image, "n_frames", 1)) if is_animated and image.format != "MPO" else 1


def _tiff_pages(tiff: tifffile.TiffFile) -> int:
    own = [page for page in tiff.pages if not int(page.aspage().subfiletype) & (REDUCED | MASK)]
    first = tiff.series[0]
    axes = zip(first.axes, first.shape, strict=True)
    stacked = [size for axis, size in axes if axis not in "YXS"]
    return max(len(own), int(np.prod(stacked)))


def _check_pages(pages: int, *, is_tiff: bool) -> None:
    if pages <= 1:
        return
    bands = f"; as bands of one image they are read with IMAGE_CHANNEL_COUNT={pages}"
    raise ValueError(
        f"it holds {pages} {'pages' if is_tiff else 'frames'}, one image is wanted: save each as a "
        f"file of its own{bands if is_tiff and pages != 3 else ''}"
    )


def values_of(image: PIL.Image.Image) -> np.ndarray:
    """Return the values of an image that Pillow has opened, upright; see `read_pixels`."""
    orientation = _orientation(image)
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")
    elif image.mode not in PLAIN_MODES and image.mode[0] != "I":
        image = image.convert("RGB")
    values = np.array(image)
    # Pillow gives the sixteen bits of a PGM as thirty-two.
    is_deep = image.mode == "I" and image.format in ("PPM", "PNG")
    if is_deep and values.min() >= 0 and values.max() < 65536:
        values = values.astype(np.uint16)
    if values.dtype == np.uint16 and _tag(image, PHOTOMETRIC) == WHITE_IS_ZERO:
        values = ~values  # as Pillow does with eight bits
    return turned(values, orientation)


def _tag(image: PIL.Image.Image, number: int) -> Any:
    """Return a tag of a TIFF, None for other files."""
    return getattr(image, "tag_v2", {}).get(number)


def _orientation(image: PIL.Image.Image) -> int:
    try:
        orientation = image.getexif().get(ORIENTATION, 1)
    # Cameras and editors write broken EXIF; the pixels are fine and lie as they are stored.
    except Exception:
        return 1
    return orientation if orientation in range(1, 9) else 1


def _read_tiff(file: ImageFile, channels: int) -> np.ndarray:
    with tifffile.TiffFile(_source(file)) as tiff:
        page = tiff.pages.first
        check_pixels(page.imagelength, page.imagewidth)  # before anything is made of them
        pages, series = _tiff_pages(tiff), tiff.series[0]
        if pages != channels or channels in (1, 3):
            _check_pages(pages, is_tiff=True)
        # Bands cost memory, too, and those of nobody's wish are none of four.
        check_pixels(series.size // max(channels, 4), 1)
        values, axes = series.asarray(), series.axes
        orientation = _tiff_orientation(page)
        if page.photometric == WHITE_IS_ZERO and values.dtype.kind == "u":
            values = ~values
    if values.ndim == 3:
        bands = next(place for place, axis in enumerate(axes) if axis not in "YX")
        values = np.moveaxis(values, bands, -1)
    return turned(values, orientation)


def _tiff_orientation(page: tifffile.TiffPage) -> int:
    tag = page.tags.get(ORIENTATION)
    return int(tag.value) if tag is not None and tag.value in range(1, 9) else 1
