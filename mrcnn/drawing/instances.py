"""Objects in an image: masks with outlines, boxes and labels."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from mrcnn.drawing import colors as color_math
from mrcnn.drawing import labels, pictures
from mrcnn.geometry import boxes as box_math
from mrcnn.geometry import masks as mask_math

FILL_OPACITY = 0.45
# With more objects, labels would hide the picture, and boxes the outlines.
MAX_LABELS = 30
MAX_BOXES = 12


class Objects(NamedTuple):
    """What `draw_objects` draws, in image pixels; the labels of the first find a place first.

    rois (N, 4); masks (H, W, N) bool, or inside where they exceed 0.5, or N RLEs; colors
    (N, 3) uint8; texts, N of them, empty for none. Objects whose roi is all zero are padding,
    not drawn.
    """

    rois: np.ndarray
    masks: np.ndarray | list[dict]
    colors: np.ndarray
    texts: Sequence[str]


def draw_instances(
    image: np.ndarray,
    detections: labels.Detections,
    class_names: Sequence[str],
    *,
    colors: np.ndarray | None = None,
    show_labels: bool = True,
    min_score: float = 0.0,
    scale: int = 1,
) -> np.ndarray:
    """Draw masks, and for few objects boxes and labels: (H, W, 3) -> (H * scale, W * scale, 3).

    Large masks are drawn first, so that small ones stay in sight. Beyond 30 objects labels, and
    beyond 12 boxes, are left out. To choose freely what is drawn, call `draw_objects`.

    Args:
        image: uint8 RGB; it is not changed.
        detections: rois (N, 4), class_ids (N,), masks (H, W, N) or RLE, in image
            pixels. Without scores, as in ground truth, labels are names only; without masks, as of
            a network that has none, all boxes are drawn. Negative class ids are crowds.
        class_names: names by class id, the background first.
        colors: (N, 3) uint8, one for each detection; None for a colour per class, or a colour an
            instance if there is but one class.
        show_labels: whether names and scores are written.
        min_score: detections below are not drawn.
        scale: how many times to enlarge the picture; 2 to 4 makes small images legible.

    Raises:
        ValueError: if the image is not (H, W, 3) uint8, masks are of another size, or a class has
            no name.
    """
    texts = labels.texts(detections, class_names)
    if colors is None:
        colors = color_math.default_colors(detections["class_ids"], len(class_names))
    kept = _kept(detections, min_score)
    if not show_labels or len(kept) > MAX_LABELS:
        texts = [""] * len(texts)
    has_masks = "masks" in detections
    nothing = np.broadcast_to(np.False_, (*image.shape[:2], len(texts)))
    masks = detections["masks"] if has_masks else nothing
    objects = Objects(detections["rois"], masks, colors, texts)
    return draw_objects(image, select(objects, kept), show_masks=has_masks, scale=scale)


def draw_objects(
    image: np.ndarray,
    objects: Objects,
    *,
    show_masks: bool = True,
    show_boxes: bool = True,
    scale: int = 1,
    font_size: int | None = None,
) -> np.ndarray:
    """Draw objects with colours and labels of their own: (H, W, 3) -> (H * scale, W * scale, 3).

    Args:
        image: uint8 RGB; it is not changed.
        objects: in pixels of the image.
        show_masks: whether masks are filled; their outlines are drawn in any case.
        show_boxes: whether boxes are drawn; over filled masks only if there are 12 at most.
        scale: how many times to enlarge the picture.
        font_size: in pixels of the result; None for one that suits its size.

    Raises:
        ValueError: if the image is not (H, W, 3) uint8 or masks are of another size.
    """
    pictures.check(image)
    _check_masks(objects.masks, image.shape)
    objects = select(objects, np.flatnonzero(np.any(objects.rois != 0, axis=1)))
    canvas = pictures.enlarge(image, scale).copy()
    _draw_masks(canvas, objects, FILL_OPACITY if show_masks else 0.0, scale)
    rois = _clipped(objects.rois, image.shape[:2]) * scale
    if show_boxes and (len(rois) <= MAX_BOXES or not show_masks):
        for roi, color in zip(rois, objects.colors, strict=True):
            _draw_box(canvas, roi, color)
    written = [place for place, text in enumerate(objects.texts) if text]
    font_size = font_size or int(np.clip(max(canvas.shape[:2]) / 52, 11, 48))
    texts = [objects.texts[place] for place in written]
    labels.draw(canvas, texts, rois[written], objects.colors[written], font_size)
    return canvas


def select(objects: Objects, places: Sequence[int] | np.ndarray) -> Objects:
    """Return the objects at these places, in this order."""
    places = np.asarray(places, int)
    if np.array_equal(places, np.arange(len(objects.rois))):
        return objects  # masks are large: no copy for nothing
    masks = objects.masks
    return Objects(
        objects.rois[places],
        [masks[place] for place in places] if isinstance(masks, list) else masks[..., places],
        objects.colors[places],
        [objects.texts[place] for place in places],
    )


def _kept(detections: labels.Detections, min_score: float) -> np.ndarray:
    """Return the places of the detections to draw, best first."""
    scores = detections.get("scores")
    if scores is None:
        return np.arange(len(detections["class_ids"]))
    scores = np.asarray(scores)
    order = np.argsort(-scores, kind="stable")
    return order[scores[order] >= min_score]


def _clipped(rois: np.ndarray, image_size: Sequence[int]) -> np.ndarray:
    """Return rois as ints within the image: (N, 4)."""
    height, width = image_size
    return np.clip(rois, 0, [height, width, height, width]).astype(int)


def _line_width(canvas: np.ndarray) -> int:
    return max(1, round(max(canvas.shape[:2]) / 420))


def _check_masks(masks: np.ndarray | list[dict], image_shape: Sequence[int]) -> None:
    if isinstance(masks, list):
        sizes = {tuple(rle["size"]) for rle in masks}
    else:
        sizes = {masks.shape[:2]} if masks.shape[2] else set()
    if other := sizes - {tuple(image_shape[:2])}:
        raise ValueError(
            f"masks of {min(other)} do not fit an image of {tuple(image_shape[:2])}; "
            "expand mini-masks first, with utils.expand_mask"
        )


def _draw_masks(canvas: np.ndarray, objects: Objects, opacity: float, scale: int) -> None:
    """Draw all masks, the large ones first, so that small ones stay in sight."""
    height, width = len(canvas) // scale, canvas.shape[1] // scale
    line = _line_width(canvas)
    # Boxes need not fit the masks, so the pixels to touch are found in the masks themselves.
    regions, part_of = _parts(objects.masks, (height, width))
    for place in np.argsort(-box_math.area(regions), kind="stable"):
        if regions[place].any():
            region = _padded(regions[place], line // scale + 1, (height, width))
            y1, x1, y2, x2 = region * scale
            inside = _enlarged_mask(part_of(place, region), scale)
            _draw_mask(canvas[y1:y2, x1:x2], inside, objects.colors[place], opacity, line)


def _parts(
    masks: np.ndarray | list[dict], size: tuple[int, int]
) -> tuple[np.ndarray, Callable[[int, np.ndarray], np.ndarray]]:
    """Return the boxes of masks (N, 4), and a function: number, box -> what it shows there."""
    if isinstance(masks, list):
        runs, height = [mask_math.runs_of(rle, size) for rle in masks], size[0]
        regions = [mask_math.bounds_of_runs(each, height) for each in runs]
        boxes = np.array(regions, np.int32).reshape(-1, 4)
        return boxes, lambda number, box: mask_math.part_of_runs(runs[number], height, box)
    inside = masks if masks.dtype == bool else masks > 0.5
    return (
        mask_math.bounds(inside),
        lambda number, box: inside[box[0] : box[2], box[1] : box[3], number],
    )


def _draw_mask(
    part: np.ndarray, inside: np.ndarray, color: np.ndarray, opacity: float, line: int
) -> None:
    """Blend one mask into a part of the canvas (h, w, 3), with an outline just inside its edge.

    Only the pixels of its region are touched: a float copy of whole masks would not fit for many.
    """
    if not inside.any():
        return
    # A line as thick as the object itself would hide it.
    line = max(1, min(line, round(np.sqrt(inside.sum()) / 12)))
    outline = _outline_color(part[inside], color)
    _tint(part, inside, color, opacity)
    border, strength = _inner_edge(inside, line)
    blended = part[border] + strength * (outline - part[border])
    part[border] = np.round(blended).astype(np.uint8)


def _enlarged_mask(mask: np.ndarray, scale: int) -> np.ndarray:
    """Return the mask `scale` times as large, its stairs smoothed: (h, w) -> bool."""
    if scale == 1:
        return mask
    large = Image.fromarray(pictures.enlarge(_to_gray(mask), scale))
    # A third of a pixel rounds the stairs, yet a mask of a single pixel survives.
    return np.asarray(large.filter(ImageFilter.GaussianBlur(scale / 3))) > 127


def _to_gray(mask: np.ndarray) -> np.ndarray:
    return np.where(mask, 255, 0).astype(np.uint8)


def _padded(region: np.ndarray, margin: int, image_size: Sequence[int]) -> np.ndarray:
    """Return a region with a margin where the image has one."""
    return _clipped(region + [-margin, -margin, margin, margin], image_size)


def _tint(part: np.ndarray, inside: np.ndarray, color: np.ndarray, opacity: float) -> None:
    """Blend a colour into the pixels inside, in place."""
    # A table of the 256 levels: no float copy of a picture that may have many millions of pixels.
    levels = np.arange(256)
    for channel, level in enumerate(color):
        table = np.round(levels + opacity * (int(level) - levels)).astype(np.uint8)
        np.copyto(part[..., channel], table[part[..., channel]], where=inside)


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
    is_dark = pixels.mean(axis=0) @ color_math.LUMA < 140
    target, amount = (255, 0.25) if is_dark else (0, 0.35)
    return color + amount * (np.float32(target) - color)


def _draw_box(canvas: np.ndarray, roi: np.ndarray, color: np.ndarray) -> None:
    """Draw a thin box, half transparent: the mask is what matters."""
    y1, x1, y2, x2 = roi
    line = max(1, _line_width(canvas) // 2)
    for side in (
        canvas[y1 : min(y1 + line, y2), x1:x2],
        canvas[max(y1 + line, y2 - line) : y2, x1:x2],
        canvas[y1 + line : y2 - line, x1 : min(x1 + line, x2)],
        canvas[y1 + line : y2 - line, max(x1 + line, x2 - line) : x2],
    ):
        side[...] = side // 4 + (color // 4) * 3
