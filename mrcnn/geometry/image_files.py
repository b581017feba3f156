"""Image files: their pixels and sizes as stored, the EXIF orientation, and label images."""

import io
from os import PathLike

import numpy as np
import PIL.Image
import tifffile

ImageFile = str | PathLike | bytes

# The formats that are decoded, by Pillow's names, and the suffixes of their files. Images alone:
# Pillow hands PostScript to Ghostscript, which runs it as a program.
FORMATS = (
    "PNG", "JPEG", "MPO", "TIFF", "BMP", "DIB", "WEBP", "GIF", "PPM", "JPEG2000", "AVIF",
    "QOI", "PCX", "SGI", "SUN",
)  # fmt: skip
SUFFIXES = frozenset(
    ".png .apng .jpg .jpeg .jpe .jfif .jif .mpo .tif .tiff .bmp .dib .webp .gif .pbm .pgm .ppm .pnm"
    " .jp2 .j2k .jpc .jpf .jpx .j2c .avif .qoi .pcx .sgi .rgb .rgba .bw .ras".split()
)

PLAIN_MODES = ("1", "L", "LA", "RGB", "RGBA", "F")
ORIENTATION = 0x0112  # the EXIF tag


def read_pixels(file: ImageFile, channels: int = 3) -> np.ndarray:
    """Return the values of an image, upright, as (H, W) or (H, W, C) of the file's own type.

    Palettes and CMYK become RGB(A). TIFFs keep all their bands, wherever they are stored; the
    pages of a TIFF are its bands where they are as many as the channels that are wanted, and
    those are neither one nor three.

    Args:
        file: a path, or the bytes of a file.
        channels: how many are wanted.
    """
    try:
        with PIL.Image.open(_opened(file)) as image:
            if not _needs_tifffile(image, channels):
                image.load()
                return _values(image)
    except (OSError, ValueError):
        if not _is_tiff(file):
            raise
    return _read_tiff(file)  # Pillow knows few TIFFs of more than eight bits or four bands


def read_size(file: ImageFile) -> tuple[tuple[int, int], int]:
    """Return (H, W) as stored and the EXIF orientation (1 to 8) of an image; reads its header.

    Raises:
        ValueError: the file is missing or no image.
    """
    try:
        try:
            with PIL.Image.open(_opened(file)) as image:
                return (image.height, image.width), _orientation(image)
        except (OSError, ValueError):
            if not _is_tiff(file):
                raise
        with tifffile.TiffFile(_opened(file)) as tiff:
            page = tiff.pages.first
            return (page.imagelength, page.imagewidth), _tiff_orientation(page)
    # On damaged files decoders raise whatever they trip over: OSError, SyntaxError, struct.error.
    except Exception as error:
        name = "the image" if isinstance(file, bytes) else file
        raise ValueError(f"{name}: cannot be read as an image: {error}") from error


def read_labels(path: str | PathLike) -> np.ndarray:
    """Return a label image as stored, (H, W) of whole numbers: palette indices, not colours.

    Colours become one number each, 0 is black; alpha is dropped.

    Raises:
        ValueError: the file is missing or no label image.
    """
    try:
        labels = _read_raw(path)
    except Exception as error:
        raise ValueError(f"{path}: cannot be read as a mask: {error}") from error
    if labels.ndim == 3:
        labels = labels[..., : 3 if labels.shape[-1] > 2 else 1].astype(np.int64)
        labels = labels @ 256 ** np.arange(labels.shape[-1])[::-1]
    if labels.ndim != 2 or (not np.issubdtype(labels.dtype, np.integer) and labels.dtype != bool):
        raise ValueError(f"{path}: {labels.dtype} of shape {labels.shape} is no label image")
    return labels


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


def _read_raw(path: str | PathLike) -> np.ndarray:
    try:
        with PIL.Image.open(path) as image:
            if not _needs_tifffile(image, 1):
                return np.array(image)
    except (OSError, ValueError):
        if not _is_tiff(path):
            raise
    return _read_tiff(path)


def _opened(file: ImageFile) -> str | PathLike | io.BytesIO:
    return io.BytesIO(file) if isinstance(file, bytes) else file


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


def _values(image: PIL.Image.Image) -> np.ndarray:
    orientation = _orientation(image)
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")
    elif image.mode not in PLAIN_MODES and image.mode[0] != "I":
        image = image.convert("RGB")
    values = np.array(image)
    # Pillow gives the sixteen bits of a PGM as thirty-two.
    if image.mode == "I" and values.min() >= 0 and values.max() < 65536:
        values = values.astype(np.uint16)
    return turned(values, orientation)


def _orientation(image: PIL.Image.Image) -> int:
    try:
        orientation = image.getexif().get(ORIENTATION, 1)
    # Cameras and editors write broken EXIF; the pixels are fine and lie as they are stored.
    except Exception:
        return 1
    return orientation if orientation in range(1, 9) else 1


def _read_tiff(file: ImageFile) -> np.ndarray:
    with tifffile.TiffFile(_opened(file)) as tiff:
        series = tiff.series[0]
        values, axes = series.asarray(), series.axes
        orientation = _tiff_orientation(tiff.pages.first)
    if values.ndim == 3:
        bands = next(place for place, axis in enumerate(axes) if axis not in "YX")
        values = np.moveaxis(values, bands, -1)
    return turned(values, orientation)


def _tiff_orientation(page: tifffile.TiffPage) -> int:
    tag = page.tags.get(ORIENTATION)
    return int(tag.value) if tag is not None and tag.value in range(1, 9) else 1
