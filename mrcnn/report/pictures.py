"""Small pictures inside a page: objects drawn on images, encoded within a budget of bytes."""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from mrcnn.drawing import pictures
from mrcnn.drawing.instances import Objects, draw_objects

SIDE = 360  # pixels of the longer side
MOST_BYTES = 24_000  # of a picture, so that a page of all pictures stays below 2 MB
QUALITIES = (80, 65, 50, 35, 20)  # of WebP, tried in turn
MOST_LABELS = 12
FONT_SIZE = 11


@dataclass(frozen=True)
class Shown:
    """The objects in a picture, in pixels of the image.

    Attributes:
        boxes: (N, 4) y1, x1, y2, x2.
        mask_of: The number of an object -> its mask (H, W) bool; None for boxes alone. Masks are
            read one by one: those of all objects of a large image would not fit in memory.
        colors: (N, 3) uint8.
        texts: N labels; of many objects none is written.
    """

    boxes: np.ndarray
    mask_of: Callable[[int], np.ndarray] | None
    colors: np.ndarray
    texts: Sequence[str]


@dataclass(frozen=True)
class Picture:
    """An encoded picture.

    Attributes:
        uri: A data URI.
        width, height: In pixels.
        label: What it shows, for screen readers.
    """

    uri: str
    width: int
    height: int
    label: str


def draw(image: np.ndarray, shown: Shown, label: str) -> Picture:
    """Return a small picture of an image with objects drawn on it.

    Args:
        image: (H, W, C) of any number of channels.
        shown: What is drawn.
        label: What the picture shows.
    """
    image = pictures.visible(image)
    factor = min(1.0, SIDE / max(image.shape[:2]))
    height, width = (max(1, round(side * factor)) for side in image.shape[:2])
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    count = len(shown.boxes)
    masks = np.zeros((height, width, count), bool)
    if shown.mask_of is not None:
        for number in range(count):
            masks[..., number] = _shrunk(shown.mask_of(number), (width, height))
    texts = shown.texts if count <= MOST_LABELS else [""] * count
    objects = Objects(shown.boxes * factor, masks, shown.colors, texts)
    drawn = draw_objects(
        small,
        objects,
        show_masks=shown.mask_of is not None,
        scale=max(1, SIDE // max(width, height)),
        font_size=FONT_SIZE,
    )
    return Picture(_encoded(drawn), drawn.shape[1], drawn.shape[0], label)


def _shrunk(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a mask at a smaller size (width, height), in which small objects do not vanish."""
    shares = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    inside = shares >= 0.5
    return inside if inside.any() else shares > 0


def _encoded(image: np.ndarray) -> str:
    """Return an image (H, W, 3) uint8 as a data URI of at most MOST_BYTES, before base64."""
    picture = Image.fromarray(image)
    while True:
        for quality in QUALITIES:
            written = io.BytesIO()
            picture.save(written, "WEBP", quality=quality)
            if written.tell() <= MOST_BYTES:
                return f"data:image/webp;base64,{base64.b64encode(written.getvalue()).decode()}"
        picture = picture.reduce(2)
