"""Matterport's `mrcnn.visualize`: its names and signatures, over `mrcnn.drawing` and matplotlib.

`draw_instances` and `save_image` need no matplotlib; all else draws on any of its backends, with
or without a display. Nothing of matplotlib is imported before it is used.

Colours are fractions (r, g, b), as in matplotlib; its names, and bytes 0..255, do as well.
"""

import importlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mrcnn.drawing import figures, labels, pictures
from mrcnn.drawing.colors import (
    Color,
    class_colors,
    default_colors,
    instance_colors,
    random_colors,
    to_bytes,
)
from mrcnn.drawing.instances import MAX_LABELS, Objects, draw_instances, draw_objects
from mrcnn.drawing.keypoints import draw_keypoints
from mrcnn.drawing.labels import Detections
from mrcnn.drawing.pictures import enlarge, save_image, side_by_side, stack
from mrcnn.drawing.pixels import apply_mask, draw_box
from mrcnn.drawing.plots import plot_overlaps, plot_precision_recall
from mrcnn.drawing.tables import display_table, display_weight_stats
from mrcnn.evaluation import matterport as matching
from mrcnn.geometry import masks as mask_math
from mrcnn.geometry import pasting

if TYPE_CHECKING:
    from matplotlib import lines, patches
    from matplotlib import pyplot as plt
    from matplotlib.axes import Axes
    from matplotlib.patches import Polygon
    from skimage.measure import find_contours

__all__ = [
    "ROOT_DIR",
    "Detections",
    "Objects",
    "Polygon",
    "apply_mask",
    "class_colors",
    "display_differences",
    "display_images",
    "display_instances",
    "display_table",
    "display_top_masks",
    "display_weight_stats",
    "draw_box",
    "draw_boxes",
    "draw_instances",
    "draw_keypoints",
    "draw_objects",
    "draw_rois",
    "enlarge",
    "find_contours",
    "instance_colors",
    "lines",
    "patches",
    "plot_overlaps",
    "plot_precision_recall",
    "plt",
    "random_colors",
    "save_image",
    "side_by_side",
    "stack",
]

ROOT_DIR = os.path.abspath("..")
GREEN, RED, GREY = (0.25, 0.78, 0.35), (0.95, 0.3, 0.3), (0.5, 0.5, 0.5)
# Attributes of the original that are imported when somebody asks for them.
LAZY = {
    "plt": ("matplotlib.pyplot", None),
    "patches": ("matplotlib.patches", None),
    "lines": ("matplotlib.lines", None),
    "Polygon": ("matplotlib.patches", "Polygon"),
    "find_contours": ("skimage.measure", "find_contours"),
}


def __getattr__(name: str) -> Any:
    if name not in LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module_name, attribute = LAZY[name]
    module = importlib.import_module(module_name)
    return getattr(module, attribute) if attribute else module


# Images and instances


def display_images(
    images: Sequence[np.ndarray],
    titles: Sequence[str] | None = None,
    cols: int = 4,
    cmap: Any = None,
    norm: Any = None,
    interpolation: str | None = None,
) -> None:
    """Show images in rows of `cols`: (H, W, 3), or (H, W) of any range, coloured by `cmap`."""
    if not len(images):
        return
    titles = [*([] if titles is None else titles), *[""] * len(images)]
    shown = [image if np.ndim(image) == 2 else pictures.visible(image) for image in images]
    starts = range(0, len(shown), cols)
    heights = [figures.row_height(shown[start : start + cols], 14 / cols) for start in starts]
    figure = figures.new_figure((14, sum(heights)))
    grid = figure.subplots(len(heights), cols, squeeze=False, height_ratios=heights).ravel()
    for ax in grid:
        ax.axis("off")
    for ax, image, title in zip(grid, shown, titles, strict=False):
        ax.set_title(title, fontsize=9)
        ax.imshow(image, cmap=cmap, norm=norm, interpolation=interpolation)
    figures.show()


def display_instances(
    image: np.ndarray,
    boxes: np.ndarray,
    masks: np.ndarray,
    class_ids: np.ndarray,
    class_names: Sequence[str],
    scores: np.ndarray | None = None,
    title: str = "",
    figsize: tuple[float, float] = (16, 16),
    ax: "Axes | None" = None,
    show_mask: bool = True,
    show_bbox: bool = True,
    colors: Sequence[Color] | np.ndarray | None = None,
    captions: Sequence[str | None] | None = None,
) -> None:
    """Draw objects into axes, or into a new figure that is shown.

    Args:
        boxes: (N, 4); all-zero rows are padding and are not drawn.
        masks: (H, W, N), inside where they exceed 0.5, or N RLEs.
        class_ids: (N,), indices of class_names, of which the first is the background.
        scores: (N,) or None.
        show_mask: whether masks are filled; their outlines are drawn in any case.
        show_bbox: whether boxes are drawn; over filled masks only if there are 12 at most.
        colors: One for each object; None for a colour per class, or a colour per object if there is
            but one class.
        captions: Texts instead of name and score. Without them, more than 30 objects have none.

    Raises:
        ValueError: When boxes, masks, class_ids or colors are not equally many, masks have another
            size than the image, or a class has no name.
    """
    if not len(boxes):
        print("\n*** No instances to display *** \n")
    picture = pictures.visible(image)
    found = _checked(picture, boxes, masks, class_ids, scores)
    objects = Objects(
        found["rois"],
        found["masks"],
        _object_colors(colors, found["class_ids"], len(class_names)),
        _captions(captions, found, class_names),
    )
    axes = figures.axes_for(ax, figsize)
    figures.draw_picture(axes, picture, objects, show_masks=show_mask, show_boxes=show_bbox)
    axes.set_title(title)
    if ax is None:
        figures.show()


def display_differences(
    image: np.ndarray,
    gt_box: np.ndarray,
    gt_class_id: np.ndarray,
    gt_mask: np.ndarray,
    pred_box: np.ndarray,
    pred_class_id: np.ndarray,
    pred_score: np.ndarray,
    pred_mask: np.ndarray,
    class_names: Sequence[str],
    title: str = "",
    ax: "Axes | None" = None,
    show_mask: bool = True,
    show_box: bool = True,
    iou_threshold: float = 0.5,
    score_threshold: float = 0.5,
) -> None:
    """Draw ground truth in green and detections in red, with score and IoU of each detection.

    The IoU is that with the object it matches, or the greatest with any object.
    """
    picture = pictures.visible(image)
    truth = _best_first(picture, gt_box, gt_mask, gt_class_id, np.zeros(len(gt_box)))
    found = _best_first(picture, pred_box, pred_mask, pred_class_id, pred_score)
    _, pred_match, overlaps = matching.compute_matches(
        truth["rois"],
        truth["class_ids"],
        truth["masks"],
        found["rois"],
        found["class_ids"],
        found["scores"],
        found["masks"],
        iou_threshold,
        score_threshold,
    )
    ious = [
        row[int(match)] if match > -1 else row.max(initial=0)
        for row, match in zip(overlaps, pred_match, strict=True)
    ]
    met = [f"{score:.2f} / {iou:.2f}" for score, iou in zip(found["scores"], ious, strict=True)]
    display_instances(
        picture,
        np.concatenate([truth["rois"], found["rois"]]),
        np.concatenate([truth["masks"], found["masks"]], axis=-1),
        np.concatenate([truth["class_ids"], found["class_ids"]]),
        class_names,
        title=title or "Ground truth and detections\n GT=green, pred=red, captions: score / IoU",
        ax=ax,
        show_mask=show_mask,
        show_bbox=show_box,
        colors=[GREEN] * len(truth["rois"]) + [RED] * len(met),
        captions=[""] * len(truth["rois"]) + met,
    )


def display_top_masks(
    image: np.ndarray,
    mask: np.ndarray,
    class_ids: np.ndarray,
    class_names: Sequence[str],
    limit: int = 4,
) -> None:
    """Show the image, and the masks of each of the `limit` classes that cover most of it."""
    inside, class_ids = np.asarray(mask) > 0.5, np.asarray(class_ids)
    areas = {place: inside[..., class_ids == place].sum() for place in set(class_ids.tolist())}
    top = sorted((place for place in areas if areas[place]), key=lambda place: -areas[place])
    images, titles = [image], [f"H x W={image.shape[0]}x{image.shape[1]}"]
    for place in top[:limit]:
        chosen = inside[..., class_ids == place]
        # Objects of one class get shades of their own.
        images.append(chosen @ np.arange(1, chosen.shape[-1] + 1))
        titles.append(labels.name_of(place, class_names))
    display_images(images, titles=titles, cols=limit + 1, cmap="Blues_r")


# Boxes and RoIs


def draw_boxes(
    image: np.ndarray,
    boxes: np.ndarray | None = None,
    refined_boxes: np.ndarray | None = None,
    masks: np.ndarray | None = None,
    captions: Sequence[Any] | None = None,
    visibilities: Sequence[int] | np.ndarray | None = None,
    title: str = "",
    ax: "Axes | None" = None,
) -> None:
    """Draw boxes, dotted, and what they were refined to, with a line between the two.

    Args:
        boxes, refined_boxes: (N, 4), at least one of them; they may reach beyond the image.
        masks: (H, W, N) or None.
        captions: N texts or None.
        visibilities: N of 0 (grey, not refined), 1 (dotted) and 2 (solid); None for all 1.

    Raises:
        ValueError: When neither boxes nor refined_boxes are given.
    """
    given = boxes if boxes is not None else refined_boxes
    if given is None:
        raise ValueError("draw_boxes needs boxes or refined_boxes")
    count = len(given)
    seen = np.ones(count, int) if visibilities is None else np.asarray(visibilities)
    colors = np.where(seen[:, None] > 0, instance_colors(count) / 255, GREY)
    picture = pictures.visible(image)
    axes = figures.axes_for(ax, figures.size_for(picture))
    masked = _only_masks(masks, colors, picture)
    margin = len(picture) // 10
    figures.draw_picture(axes, picture, masked, margin, show_boxes=False)
    axes.set_title(title)
    for place in range(count):
        box = None if boxes is None else boxes[place]
        refined = None if refined_boxes is None or seen[place] < 1 else refined_boxes[place]
        if box is not None and not np.any(box):
            continue
        lines = figures.Lines(
            tuple(colors[place]), is_solid=seen[place] > 1, is_faint=seen[place] < 1
        )
        caption = "" if captions is None else str(captions[place])
        figures.draw_refinement(axes, box, refined, lines, caption)


def draw_rois(
    image: np.ndarray,
    rois: np.ndarray,
    refined_rois: np.ndarray,
    mask: np.ndarray,
    class_ids: np.ndarray,
    class_names: Sequence[str],
    limit: int = 10,
) -> None:
    """Draw RoIs, at most `limit` of them by chance, and print how many are positive.

    Background is grey; the others show their refined box, class and mask.

    Args:
        rois, refined_rois: (N, 4), in pixels.
        mask: (N, h, w), probabilities of the pixels inside each RoI.
        class_ids: (N,), 0 is background.
    """
    class_ids, count = np.asarray(class_ids).astype(int), len(rois)
    places = np.arange(count)
    title = f"{count} ROIs"
    if count > limit:
        places = np.sort(np.random.choice(count, limit, replace=False))  # np.random.seed repeats it
        title = f"Showing {limit} random ROIs out of {count}"
    boxes, is_object = np.asarray(rois)[places, :4], class_ids[places] > 0
    inside = np.asarray(mask)[places] * is_object[:, None, None]
    draw_boxes(
        image,
        boxes,
        np.asarray(refined_rois)[places, :4],
        masks=pasting.paste(inside, boxes.astype(np.int32), np.shape(image)[:2]),
        captions=[class_names[class_ids[place]] if class_ids[place] else "" for place in places],
        visibilities=is_object.astype(int),
        title=title,
    )
    positives = int((class_ids > 0).sum())
    print("Positive ROIs: ", positives)
    print("Negative ROIs: ", int((class_ids == 0).sum()))
    print(f"Positive Ratio: {positives / max(count, 1):.2f}")


# What enters


def _checked(
    picture: np.ndarray, boxes: Any, masks: Any, class_ids: Any, scores: Any = None
) -> dict[str, np.ndarray]:
    """Return detections of the types that `drawing` expects.

    Raises:
        ValueError: When there are not equally many.
    """
    boxes, class_ids = np.asarray(boxes).reshape(-1, 4), np.asarray(class_ids).astype(int).ravel()
    if not len(boxes):  # datasets without objects give masks of any shape
        masks = np.zeros((*picture.shape[:2], 0), bool)
    is_list = isinstance(masks, list)  # of RLE
    masks = masks if is_list else np.asarray(masks)
    if not len(boxes) == len(class_ids) == (len(masks) if is_list else masks.shape[-1]):
        raise ValueError(
            f"boxes, class_ids and masks must be equally many, got {len(boxes)}, {len(class_ids)} "
            f"and masks of shape {np.shape(masks)}; masks are (H, W, N)"
        )
    found = {"rois": boxes, "masks": masks, "class_ids": class_ids}
    return found if scores is None else {**found, "scores": np.asarray(scores).ravel()}


def _best_first(*found: Any) -> dict[str, np.ndarray]:
    """Return the arguments of `_checked` by falling score, without padding."""
    detections = _checked(*found)
    detections["masks"] = mask_math.to_array(detections["masks"], found[0].shape)
    order = np.argsort(-detections["scores"], kind="stable")
    order = order[np.any(detections["rois"][order] != 0, axis=1)]
    return {
        key: values[..., order] if key == "masks" else values[order]
        for key, values in detections.items()
    }


def _object_colors(colors: Any, class_ids: np.ndarray, num_classes: int) -> np.ndarray:
    """Return a colour per object: (N, 3) uint8."""
    if colors is None:
        named = max(num_classes, np.abs(class_ids).max(initial=0) + 1)
        return default_colors(class_ids, named)
    if len(colors) < len(class_ids):
        raise ValueError(f"{len(class_ids)} objects need as many colors, got {len(colors)}")
    return to_bytes(colors[: len(class_ids)])


def _captions(captions: Any, found: Detections, class_names: Sequence[str]) -> list[str]:
    """Return a text per object, empty for none."""
    if captions is not None and len(captions):
        if len(captions) < len(found["rois"]):
            raise ValueError(f"got {len(captions)} captions for {len(found['rois'])} objects")
        shown = captions[: len(found["rois"])]
        return ["" if caption is None else str(caption) for caption in shown]
    texts = labels.texts(found, class_names)
    return texts if len(texts) <= MAX_LABELS else [""] * len(texts)


def _only_masks(masks: Any, colors: np.ndarray, picture: np.ndarray) -> Objects:
    """Return objects of which only the masks are drawn."""
    shape = (*picture.shape[:2], 0)
    masks = np.zeros(shape, bool) if masks is None else np.asarray(masks)
    whole = np.tile([0, 0, *shape[:2]], (masks.shape[-1], 1))
    return Objects(whole, masks, to_bytes(colors)[: masks.shape[-1]], [""] * masks.shape[-1])
