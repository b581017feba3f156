"""Labels: the text of an object on a small plate, where it hides least."""

import functools
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mrcnn.drawing import colors as color_math

Detections = Mapping[str, np.ndarray]


def name_of(class_id: int, class_names: Sequence[str]) -> str:
    """Return the name of a class; negative ids are crowds of it, as in COCO."""
    name = class_names[abs(class_id)]
    return f"{name} (crowd)" if class_id < 0 else name


def texts(detections: Detections, class_names: Sequence[str]) -> list[str]:
    """Return "name score" of each detection, the name alone where there is no score.

    Raises:
        ValueError: if class_names, a list or a dict by class id, has no name for a class id.
    """
    class_ids = np.asarray(detections["class_ids"]).astype(int)
    if isinstance(class_names, Mapping):
        most = max((int(key) for key in class_names), default=0)
        class_names = [str(class_names.get(key, key)) for key in range(most + 1)]
    if len(class_ids) and np.abs(class_ids).max() >= len(class_names):
        raise ValueError(
            f"class id {np.abs(class_ids).max()} has no name: class_names has {len(class_names)} "
            'and must include the background, as in ["BG", "cat", "dog"]'
        )
    names = [name_of(place, class_names) for place in class_ids]
    scores = detections.get("scores")
    if scores is None:
        return names
    return [
        f"{name} {score:.2f}" if score else name for name, score in zip(names, scores, strict=True)
    ]


def draw(
    canvas: np.ndarray,
    written: Sequence[str],
    rois: np.ndarray,
    colors: np.ndarray,
    font_size: int,
) -> None:
    """Write each text beside its box, in place: (H, W, 3) uint8, N, (N, 4), (N, 3) uint8.

    The first objects keep their label where there is no room for all.
    """
    font = _font(font_size)
    picture = Image.fromarray(canvas)
    pen = ImageDraw.Draw(picture)
    plates = np.empty((0, 4))
    for text, roi, color in zip(written, rois, colors, strict=True):
        left, top, right, bottom = pen.multiline_textbbox((0, 0), text, font=font)
        # All lines are as high as the tallest letters, so that plates are alike.
        height = max(font_size * (0.4 + 1.15 * len(text.split("\n"))), bottom - top)
        size = (np.ceil(height), np.ceil(right - left + font_size * 0.6))
        places = _label_places(roi, size, canvas.shape[:2])
        places = places[~_overlaps(places, plates).any(axis=1)]
        if not len(places):  # in a crowd, no label is better than two that hide each other
            continue
        plate = places[_overlaps(places, rois).sum(axis=1).argmin()]
        plates = np.concatenate([plates, plate[None]])
        y1, x1, y2, x2 = plate.tolist()
        pen.rounded_rectangle((x1, y1, x2 - 1, y2 - 1), font_size / 4, fill=tuple(color.tolist()))
        ink = color_math.ink(color)
        pen.text(((x1 + x2) / 2, (y1 + y2) / 2), text, font=font, anchor="mm", fill=ink)
    canvas[...] = np.asarray(picture)


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return matplotlib's DejaVu Sans: Pillow's own font knows no letters beyond English."""
    # Found without importing matplotlib, which takes longer than drawing.
    package = importlib.util.find_spec("matplotlib")
    folders = package.submodule_search_locations if package else None
    for folder in folders or ():
        path = Path(folder) / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if path.exists():
            return ImageFont.truetype(path, size)
    return ImageFont.load_default(size=size)


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
