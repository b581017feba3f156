"""Keypoints and the skeleton between them, drawn on an image."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from mrcnn.drawing import pictures

# Limbs by the names of COCO's keypoints *(Lin et al. 2014)*; others have points only.
LIMBS = (
    ("nose", "left_eye"),
    ("nose", "right_eye"),
    ("left_eye", "left_ear"),
    ("right_eye", "right_ear"),
    ("left_shoulder", "right_shoulder"),
    ("left_shoulder", "left_elbow"),
    ("left_elbow", "left_wrist"),
    ("right_shoulder", "right_elbow"),
    ("right_elbow", "right_wrist"),
    ("left_shoulder", "left_hip"),
    ("right_shoulder", "right_hip"),
    ("left_hip", "right_hip"),
    ("left_hip", "left_knee"),
    ("left_knee", "left_ankle"),
    ("right_hip", "right_knee"),
    ("right_knee", "right_ankle"),
)
LEFT, RIGHT, MIDDLE, EDGE = (255, 140, 0), (0, 170, 255), (240, 240, 240), (20, 20, 20)
SMOOTHNESS = 3  # the picture is drawn so many times as large


def draw_keypoints(
    image: np.ndarray,
    keypoints: np.ndarray,
    names: Sequence[str] = (),
    *,
    min_score: float = 0.0,
) -> np.ndarray:
    """Return an image with keypoints and limbs: left ones orange, right ones blue.

    Args:
        image: (H, W, 3) uint8.
        keypoints: (N, P, 3) of y, x in pixels and score or visibility.
        names: Of the keypoints, (P,); without them no limbs are drawn.
        min_score: Keypoints of a lower score, or with none at all (0), are left out.

    Returns:
        (H, W, 3) uint8; the argument is unchanged.
    """
    pictures.check(image)
    height, width = image.shape[:2]
    scale = SMOOTHNESS
    canvas = Image.fromarray(image[..., :3]).resize((width * scale, height * scale))
    pen = ImageDraw.Draw(canvas)
    thickness = max(2, round(max(height, width) / 250)) * scale
    places = {name: place for place, name in enumerate(names)}
    for person in np.asarray(keypoints, np.float64):
        is_there = person[:, 2] > min_score
        points = [(x * scale, y * scale) for y, x in person[:, :2]]
        for first, second in LIMBS:
            ends = [places[name] for name in (first, second) if name in places]
            if len(ends) == 2 and is_there[ends].all():
                line = [points[end] for end in ends]
                pen.line(line, EDGE, thickness + 2 * scale)
                pen.line(line, _color(first, second), thickness)
        for place in np.flatnonzero(is_there):
            name = names[int(place)] if len(names) else ""
            _draw_point(pen, points[place], thickness, _color(name))
    return np.asarray(canvas.resize((width, height), Image.Resampling.LANCZOS))


def _color(*names: str) -> tuple[int, int, int]:
    if all(name.startswith("left") for name in names) and names:
        return LEFT
    return RIGHT if all(name.startswith("right") for name in names) else MIDDLE


def _draw_point(
    pen: ImageDraw.ImageDraw,
    point: tuple[float, float],
    radius: float,
    color: tuple[int, int, int],
) -> None:
    x, y = point
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), color, EDGE, SMOOTHNESS)
