"""Pictures of detections, drawn with NumPy and Pillow; no window and no pyplot is needed.

Colours are spread in OKLCH (Ottosson 2020), where equal steps look equal, so that no class is
louder than another and every one is legible on dark and on light.
"""

import os
import uuid
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

GOLDEN_RATIO = 0.618034
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
FILL_OPACITY = 0.45
# With more objects, labels would hide the picture, and boxes the outlines.
MAX_LABELS = 30
MAX_BOXES = 12
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")

Detections = Mapping[str, np.ndarray]


def class_colors(num_classes: int) -> np.ndarray:
    """Return one colour a class, grey for the background: (K, 3) uint8.

    The colour of a class does not depend on how many classes there are.
    """
    background = np.array([[128, 128, 128]], np.uint8)
    return np.concatenate([background, instance_colors(num_classes - 1)])[:num_classes]


def instance_colors(num_instances: int) -> np.ndarray:
    """Return colours of which neighbours in the list differ most: (N, 3) uint8."""
    order = np.arange(max(num_instances, 0))
    # Steps of the golden ratio never come back near the last few hues; lightness varies too,
    # since about a dozen hues are all that an eye can tell apart.
    hues = (0.07 + order * GOLDEN_RATIO) % 1
    lightness = np.array([0.72, 0.64, 0.80])[order % 3]
    return _oklch_to_rgb(lightness, 0.17, hues)


def draw_instances(
    image: np.ndarray,
    detections: Detections,
    class_names: Sequence[str],
    *,
    colors: np.ndarray | None = None,
    show_labels: bool = True,
    min_score: float = 0.0,
    scale: int = 1,
) -> np.ndarray:
    """Draw masks, and for few objects boxes and labels: (H, W, 3) -> (H * scale, W * scale, 3).

    Large masks are drawn first, so that small ones stay in sight. Beyond 30 objects, labels and
    boxes are left out.

    Args:
        image: uint8 RGB; it is not changed.
        detections: rois (N, 4), class_ids (N,), masks (H, W, N), in image pixels. Without scores,
            as in ground truth, labels are names only.
        class_names: names by class id, the background first.
        colors: (N, 3) uint8, one for each detection; None for a colour a class, or a colour an
            instance if there is but one class.
        show_labels: whether names and scores are written.
        min_score: detections below are not drawn.
        scale: how many times to enlarge the picture; 2 to 4 makes small images legible.

    Raises:
        ValueError: if the image is not (H, W, 3) uint8 or masks are of another size.
    """
    _check_image(image)
    masks = detections["masks"]
    if masks.shape[2] and masks.shape[:2] != image.shape[:2]:
        raise ValueError(f"masks of {masks.shape[:2]} do not fit an image of {image.shape[:2]}")
    if colors is None:
        colors = _default_colors(detections["class_ids"], len(class_names))
    canvas = enlarge(image, scale).copy()
    rois = _clipped(detections["rois"], image.shape[:2])
    kept = _kept(detections, min_score)
    line = max(1, round(max(canvas.shape[:2]) / 500))
    for index in sorted(kept, key=lambda index: -_area(rois[index])):
        _draw_mask(canvas, masks[:, :, index], rois[index], colors[index], line)
    if len(kept) <= MAX_BOXES:
        for index in kept:
            _draw_box(canvas, rois[index] * scale, colors[index])
    if show_labels and len(kept) <= MAX_LABELS:
        texts = [_label(detections, index, class_names) for index in kept]
        _draw_labels(canvas, texts, rois[kept] * scale, colors[kept])
    return canvas


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
        _check_image(image)
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


def save_image(path: str | PathLike[str], image: np.ndarray) -> None:
    """Write a uint8 RGB image, whole or not at all; folders are made where missing.

    Raises:
        ValueError: if the image is not (H, W, 3) uint8 or the suffix is no image format.
    """
    _check_image(image)
    path = Path(path)
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise ValueError(f"the name must end in one of {IMAGE_SUFFIXES}, got {path.name!r}")
    path.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, since a file can be renamed at a stroke only within one file system.
    partial = path.with_name(f".{uuid.uuid4().hex}{path.suffix}")
    try:
        Image.fromarray(image).save(partial, quality=95)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _oklch_to_rgb(lightness: np.ndarray, chroma: float, hue: np.ndarray) -> np.ndarray:
    """Return sRGB colours (N, 3) uint8; hue in turns. Matrices: Ottosson 2020, "Oklab"."""
    angle = 2 * np.pi * hue
    lab = np.stack([lightness, chroma * np.cos(angle), chroma * np.sin(angle)], axis=-1)
    cone_roots = lab @ np.array(
        [
            [1.0, 1.0, 1.0],
            [0.39633778, -0.10556135, -0.08948418],
            [0.21580376, -0.06385417, -1.291485548],
        ]
    )
    linear = cone_roots**3 @ np.array(
        [
            [4.07674166, -1.26843801, -0.00419609],
            [-3.30771159, 2.60975740, -0.70341861],
            [0.23096993, -0.34131940, 1.70761470],
        ]
    )
    linear = np.clip(linear, 0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.round(255 * srgb).astype(np.uint8)


def _check_image(image: np.ndarray) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"expected an image (H, W, 3) uint8, got {image.shape} {image.dtype}")


def _default_colors(class_ids: np.ndarray, num_classes: int) -> np.ndarray:
    if num_classes <= 2:
        return instance_colors(len(class_ids))
    return class_colors(num_classes)[class_ids]


def _kept(detections: Detections, min_score: float) -> list[int]:
    """Return the places of the detections to draw, best first."""
    scores = detections.get("scores")
    if scores is None:
        return list(range(len(detections["class_ids"])))
    return [
        int(index) for index in np.argsort(-scores, kind="stable") if scores[index] >= min_score
    ]


def _clipped(rois: np.ndarray, image_size: Sequence[int]) -> np.ndarray:
    """Return rois as ints within the image: (N, 4)."""
    height, width = image_size
    return np.clip(rois, 0, [height, width, height, width]).astype(int)


def _area(roi: np.ndarray) -> int:
    y1, x1, y2, x2 = roi
    return (y2 - y1) * (x2 - x1)


def _enlarged_mask(mask: np.ndarray, scale: int) -> np.ndarray:
    """Return the mask `scale` times as large, its stairs smoothed: (h, w) -> bool."""
    if scale == 1:
        return mask
    large = Image.fromarray(enlarge(_to_gray(mask), scale))
    # A third of a pixel rounds the stairs, yet a mask of a single pixel survives.
    return np.asarray(large.filter(ImageFilter.GaussianBlur(scale / 3))) > 127


def _to_gray(mask: np.ndarray) -> np.ndarray:
    return np.where(mask, 255, 0).astype(np.uint8)


def _draw_mask(
    canvas: np.ndarray, mask: np.ndarray, roi: np.ndarray, color: np.ndarray, line: int
) -> None:
    """Blend one mask (H, W) into the canvas, with an outline just inside its edge.

    Only the pixels of its box are touched: a float copy of whole masks would not fit for many.
    """
    scale = len(canvas) // len(mask)
    y1, x1, y2, x2 = _padded(roi, line // scale + 1, mask.shape)
    part = canvas[y1 * scale : y2 * scale, x1 * scale : x2 * scale]
    inside = _enlarged_mask(mask[y1:y2, x1:x2], scale)
    if not inside.any():
        return
    # A line as thick as the object itself would hide it.
    line = max(1, min(line, round(np.sqrt(inside.sum()) / 12)))
    outline = _outline_color(part[inside], color)
    _tint(part, inside, color)
    border, strength = _inner_edge(inside, line)
    blended = part[border] + strength * (outline - part[border])
    part[border] = np.round(blended).astype(np.uint8)


def _tint(part: np.ndarray, inside: np.ndarray, color: np.ndarray) -> None:
    """Blend a colour into the pixels inside, in place."""
    # A table of the 256 levels: no float copy of a picture that may have many millions of pixels.
    levels = np.arange(256)
    for channel, level in enumerate(color):
        table = np.round(levels + FILL_OPACITY * (int(level) - levels)).astype(np.uint8)
        np.copyto(part[..., channel], table[part[..., channel]], where=inside)


def _padded(roi: np.ndarray, margin: int, image_size: Sequence[int]) -> np.ndarray:
    """Return a roi with a margin where the image has one."""
    return _clipped(roi + [-margin, -margin, margin, margin], image_size)


def _inner_edge(inside: np.ndarray, line: int) -> tuple[np.ndarray, np.ndarray]:
    """Return where the outline of a mask is, (h, w) bool, and its opacity there, (P, 1).

    It is about `line` pixels wide and fades inwards.
    """
    # A blurred mask measures the distance to the edge, smoothly round corners and stairs. Pillow
    # repeats the border pixels, so an object cut by the image border has no line there.
    blurred = Image.fromarray(_to_gray(inside)).filter(ImageFilter.GaussianBlur(line))
    depth = np.asarray(blurred)
    border = inside & (depth < 242)
    strength = np.minimum((242 - depth[border].astype(np.float32)) / 64, 0.95)
    return border, strength[:, None]


def _outline_color(pixels: np.ndarray, color: np.ndarray) -> np.ndarray:
    """Return a lighter shade on a dark object and a darker one on a light object."""
    is_dark = pixels.mean(axis=0) @ LUMA < 140
    target, amount = (255, 0.25) if is_dark else (0, 0.35)
    return color + amount * (np.float32(target) - color)


def _draw_box(canvas: np.ndarray, roi: np.ndarray, color: np.ndarray) -> None:
    """Draw a box one pixel wide, half transparent: the mask is what matters."""
    y1, x1, y2, x2 = roi
    for side in (
        canvas[y1 : y1 + 1, x1:x2],
        canvas[y2 - 1 : y2, x1:x2],
        canvas[y1 + 1 : y2 - 1, x1 : x1 + 1],
        canvas[y1 + 1 : y2 - 1, x2 - 1 : x2],
    ):
        side[...] = side // 4 + (color // 4) * 3


def _label(detections: Detections, index: int, class_names: Sequence[str]) -> str:
    name = class_names[detections["class_ids"][index]]
    scores = detections.get("scores")
    return name if scores is None else f"{name} {scores[index]:.2f}"


def _draw_labels(
    canvas: np.ndarray, texts: Sequence[str], rois: np.ndarray, colors: np.ndarray
) -> None:
    """Write each text on a small plate of its colour beside its box, where it hides least.

    The best objects come first and keep their label where there is no room for all.
    """
    font_size = int(np.clip(max(canvas.shape[:2]) / 56, 11, 48))
    font = ImageFont.load_default(size=font_size)
    picture = Image.fromarray(canvas)
    pen = ImageDraw.Draw(picture)
    plates = np.empty((0, 4))
    for text, roi, color in zip(texts, rois, colors, strict=True):
        left, _, right, _ = pen.textbbox((0, 0), text, font=font)
        size = (np.ceil(font_size * 1.4), np.ceil(right - left + font_size / 2))
        places = _label_places(roi, size, canvas.shape[:2])
        places = places[~_overlaps(places, plates).any(axis=1)]
        if not len(places):  # in a crowd, no label is better than two that hide each other
            continue
        plate = places[_overlaps(places, rois).sum(axis=1).argmin()]
        plates = np.concatenate([plates, plate[None]])
        y1, x1, y2, x2 = plate.tolist()
        pen.rounded_rectangle((x1, y1, x2 - 1, y2 - 1), (y2 - y1) / 5, fill=tuple(color.tolist()))
        ink = (0, 0, 0) if color @ LUMA > 128 else (255, 255, 255)
        pen.text(((x1 + x2) / 2, (y1 + y2) / 2), text, font=font, anchor="mm", fill=ink)
    canvas[...] = np.asarray(picture)


def _label_places(
    roi: np.ndarray, size: tuple[float, float], picture_size: Sequence[int]
) -> np.ndarray:
    """Return boxes for a label round a roi, the nicest first, moved into the picture: (9, 4)."""
    (y1, x1, y2, x2), (height, width) = roi, size
    corners = [
        (y1 - height, x1),
        (y1 - height, x2 - width),
        (y2, x1),
        (y2, x2 - width),
        (y1, x2),
        (y1, x1 - width),
        (y2 - height, x2),
        (y2 - height, x1 - width),
        (y1, x1),
    ]
    room = np.array(picture_size) - size
    starts = np.clip(corners, 0, np.maximum(room, 0))
    return np.concatenate([starts, starts + size], axis=1)


def _overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the pixels that boxes share: (M, 4), (N, 4) -> (M, N)."""
    starts = np.maximum(boxes[:, None, :2], others[None, :, :2])
    ends = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return np.clip(ends - starts, 0, None).prod(axis=-1)
