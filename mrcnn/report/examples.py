"""The pictures of the report: training samples, and images with what was found in them."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np

from mrcnn.config import Config
from mrcnn.data.dataset import Dataset
from mrcnn.drawing import colors as color_math
from mrcnn.drawing import labels
from mrcnn.evaluation.analysis import Analysis
from mrcnn.evaluation.coco import Truth
from mrcnn.evaluation.detecting import Detected
from mrcnn.evaluation.matches import MIN_IOU
from mrcnn.geometry import masks as mask_math
from mrcnn.geometry import pasting
from mrcnn.report import pictures, svg
from mrcnn.report.blocks import Card, Gallery, Section
from mrcnn.report.pictures import Picture, Shown
from mrcnn.training import fitting

MOST_SAMPLES = 8
MOST_BATCHES = 3
MOST_CARDS = 4  # in a gallery
# Colours that colour-blind readers tell apart.
RIGHT, WRONG, ASKED, LEFT_OUT = (37, 99, 235), (245, 130, 32), (220, 20, 120), (150, 150, 150)


@dataclass(frozen=True)
class Results:
    """What was found in a dataset, and what is known about it."""

    dataset: Dataset
    truth: Truth
    detected: Detected
    found: Analysis


def samples(dataset: Dataset, config: Config) -> Gallery:
    """Return the first samples of the training, as the network sees them."""
    augmentations = fitting.augmentations(None, config)
    stream = fitting.training_stream(dataset, config, augmentations, (), 0)
    cards: list[Card] = []
    with closing(iter(stream)) as batches:  # type: ignore[type-var]
        for number, batch in zip(range(1, MOST_BATCHES + 1), batches, strict=False):
            cards += [
                Card([_sample(batch, place, dataset.class_names)], f"batch {number}")
                for place in range(len(batch["input_image"]))
            ]
            if len(cards) >= MOST_SAMPLES:
                break
    return Gallery(
        "Training samples",
        "The first images of the first training batches as the network sees them: resized, cropped "
        "or padded, and augmented according to the settings, with their masks. Check that the "
        "masks fit, and that objects are large enough to recognise.",
        cards[:MOST_SAMPLES],
    )


def images(results: Results) -> Section:
    """Return the best and the worst images, and the wrong detections of the highest scores."""
    found = results.found
    best = found.tallies.best(MOST_CARDS)
    worst = [place for place in found.tallies.worst(2 * MOST_CARDS) if place not in best]
    galleries = [
        Gallery(
            "Best images", "Those with the highest F1.", [_card(results, each) for each in best]
        ),
        Gallery(
            "Worst images",
            "Those with the lowest F1. Objects missing from the annotations count as errors, too.",
            [_card(results, each) for each in worst[:MOST_CARDS]],
        ),
        Gallery(
            "Most confident errors",
            "The highest-scoring wrong detections, one per image, drawn in magenta. Often it is "
            "the annotation that is missing or wrong.",
            [_card(results, int(found.matches.images[each]), each) for each in _surest(found)],
        ),
    ]
    return Section(
        "images",
        "Images",
        f"Left: ground truth. Right: detections with a score of at least {found.min_score:.2f}. "
        "Blue: matched objects and correct detections. Orange: missed objects and wrong "
        "detections. Grey: ignored, such as crowds.",
        [each for each in galleries if each.cards],
    )


def _surest(found: Analysis) -> list[int]:
    """Return the wrong detections of the highest scores, one for each image."""
    matches = found.matches
    wrong = np.flatnonzero(matches.is_wrong & (matches.scores >= found.min_score))
    first = np.sort(np.unique(matches.images[wrong], return_index=True)[1])
    return wrong[first][:MOST_CARDS].tolist()


def _card(results: Results, place: int, asked: int | None = None) -> Card:
    """Return an image with its ground truth beside its detections.

    Args:
        place: The number of the image in `results.detected`.
        asked: A wrong detection in it that the card is about.
    """
    image_id = results.detected.image_ids[place]
    image = results.dataset.load_image(image_id)
    tallies = results.found.tallies
    right, wrong, missed = (
        int(each[place]) for each in (tallies.right, tallies.wrong, tallies.missed)
    )
    caption = f"{right} correct, {wrong} wrong, {missed} missed (TP, FP, FN)"
    if asked is not None:
        caption = f"{_explained(results.found, asked)}. {caption}"
    name = _name(results.dataset, image_id)
    pair = [
        pictures.draw(image, _objects(results, place, image.shape), f"{name}: ground truth"),
        pictures.draw(
            image, _detections(results, place, image.shape, asked), f"{name}: detections"
        ),
    ]
    return Card(pair, name, caption)


def _objects(results: Results, place: int, shape: Sequence[int]) -> Shown:
    """Return the ground truth of an image, in the colours of what is found."""
    truth, found = results.truth.coco, results.found
    found_ids = set(found.matches.gt_ids[found.matches.found(found.min_score)].tolist())
    listed = truth.imgToAnns[results.detected.truth_ids[place]]
    colors = [
        LEFT_OUT if item["iscrowd"] else RIGHT if item["id"] in found_ids else WRONG
        for item in listed
    ]
    names = [str(truth.cats[item["category_id"]]["name"]) for item in listed]
    if len(truth.cats) == 1:
        names = [""] * len(names)
    return _shown(listed, colors, names, shape if found.iou_type == "segm" else None)


def _detections(
    results: Results, place: int, shape: Sequence[int], asked: int | None = None
) -> Shown:
    """Return the detections of an image, in the colours of what is right."""
    truth, matches, found = results.truth.coco, results.found.matches, results.found
    chosen = np.flatnonzero((matches.images == place) & (matches.scores >= found.min_score))
    colors = []
    for each in chosen:
        color = RIGHT if matches.is_right[each] else WRONG
        color = LEFT_OUT if matches.ignored[each] else color
        colors.append(ASKED if each == asked else color)
    listed = [results.detected.results[matches.results[each]] for each in chosen]
    is_one = len(truth.cats) == 1
    texts = [
        f"{'' if is_one else svg.short(matches.class_names[matches.classes[each]])} "
        f"{matches.scores[each]:.2f}"
        for each in chosen
    ]
    return _shown(listed, colors, texts, shape if found.iou_type == "segm" else None)


def _shown(
    listed: Sequence[Mapping[str, Any]],
    colors: Sequence[tuple[int, int, int]],
    texts: Sequence[str],
    shape: Sequence[int] | None,
) -> Shown:
    """Return objects in COCO's form as they are drawn.

    Args:
        shape: Of the image, (H, W, ...), for masks; None for boxes alone.
    """
    boxes = np.array([item["bbox"] for item in listed], np.float64).reshape(-1, 4)
    x, y, width, height = boxes.T

    def mask_of(number: int) -> np.ndarray:
        return mask_math.from_rle([listed[number]["segmentation"]], shape or ())[..., 0]

    return Shown(
        np.stack([y, x, y + height, x + width], axis=1),
        mask_of if shape else None,
        np.array(colors, np.uint8).reshape(-1, 3),
        [svg.short(text) for text in texts],
    )


def _explained(found: Analysis, detection: int) -> str:
    """Return what a wrong detection shows, in words."""
    matches = found.matches
    name = svg.short(matches.class_names[matches.classes[detection]])
    said = f"“{name}” {matches.scores[detection]:.2f}"
    near = matches.pairs[:, 0] == detection
    if not near.any():
        return f"{said}: nothing is annotated there"
    of_class = matches.gt_classes[matches.pairs[near, 1]]
    ious = matches.ious[near]
    is_own = of_class == matches.classes[detection]
    best = int(np.argmax(ious))
    if is_own.any() and ious[is_own].max() >= MIN_IOU:
        return f"{said}: a duplicate of a higher-scoring detection"
    other = svg.short(matches.class_names[of_class[best]])
    if not is_own[best] and ious[best] >= MIN_IOU:
        return f"{said}: annotated as “{other}”"
    iou = np.floor(100 * ious[best]) / 100  # 0.499 is not 0.50, which would do
    return f"{said}: the IoU with the nearest object, “{other}”, is only {iou:.2f}"


def _sample(batch: Mapping[str, np.ndarray], place: int, class_names: Sequence[str]) -> Picture:
    """Return the picture of an image of a training batch with the masks that are learned."""
    image = batch["input_image"][place]
    class_ids = batch["input_gt_class_ids"][place]
    kept = np.flatnonzero(class_ids)
    boxes, masks = batch["input_gt_boxes"][place][kept], batch["input_gt_masks"][place][kept]
    is_whole = masks.shape[1:] == image.shape[:2]

    def mask_of(number: int) -> np.ndarray:
        if is_whole:
            return masks[number].astype(bool)
        part = slice(number, number + 1)
        return pasting.expand(boxes[part], masks[part], image.shape)[..., 0]

    names = [svg.short(labels.name_of(number, class_names)) for number in class_ids[kept]]
    colors = color_math.default_colors(class_ids[kept], len(class_names))
    texts = names if len(class_names) > 2 else [""] * len(names)
    return pictures.draw(image, Shown(boxes, mask_of, colors, texts), "a training image")


def _name(dataset: Dataset, image_id: int) -> str:
    """Return the file name of an image, or its id."""
    path = dataset.image_info[image_id].get("path")
    return PurePath(str(path)).name if path else f"image {dataset.image_info[image_id]['id']}"
