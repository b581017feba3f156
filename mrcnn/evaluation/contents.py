"""What a ground truth contains: images, objects of each class, their sizes."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools.coco import COCO

from mrcnn.data.dataset import Dataset, summary
from mrcnn.evaluation import coco

logger = logging.getLogger("mrcnn")


@dataclass(frozen=True)
class Contents:
    """The images and objects of a ground truth.

    Attributes:
        class_names: Of the categories, in the order of their ids; K of them.
        image_sizes: (I, 2) int, height and width.
        classes: (G,) int, index into class_names, of the objects that are no crowds.
        images: (G,) int, index into the images.
        sides: (G,) float64, the square root of each object's area, in pixels of the image.
        crowds: (K,) int, number of crowds.
    """

    class_names: Sequence[str]
    image_sizes: np.ndarray
    classes: np.ndarray
    images: np.ndarray
    sides: np.ndarray
    crowds: np.ndarray

    @property
    def objects_per_class(self) -> np.ndarray:
        """Number of objects without crowds: (K,) int."""
        return np.bincount(self.classes, minlength=len(self.class_names))

    @property
    def images_per_class(self) -> np.ndarray:
        """Number of images that have objects of each class: (K,) int."""
        pairs = np.unique(np.stack([self.classes, self.images], axis=1), axis=0)
        return np.bincount(pairs[:, 0], minlength=len(self.class_names))

    @property
    def num_empty(self) -> int:
        """Number of images without objects."""
        return len(self.image_sizes) - len(np.unique(self.images))


def of_truth(coco_gt: COCO, image_ids: Sequence[Any] | None = None) -> Contents:
    """Return the contents of a ground truth.

    Args:
        coco_gt: From `coco.ground_truth` or `coco.ground_truth_of`.
        image_ids: Only these images; None for all.
    """
    chosen = list(coco_gt.imgs) if image_ids is None else image_ids
    image_of = {image_id: place for place, image_id in enumerate(chosen)}
    categories = sorted(coco_gt.cats)
    class_of = {category_id: place for place, category_id in enumerate(categories)}
    listed = [item for item in coco_gt.dataset["annotations"] if item["image_id"] in image_of]
    objects = [item for item in listed if not item["iscrowd"]]
    crowds = [class_of[item["category_id"]] for item in listed if item["iscrowd"]]
    sizes = [(coco_gt.imgs[each]["height"], coco_gt.imgs[each]["width"]) for each in chosen]
    return Contents(
        class_names=[str(coco_gt.cats[each]["name"]) for each in categories],
        image_sizes=np.array(sizes, np.int64).reshape(-1, 2),
        classes=np.array([class_of[item["category_id"]] for item in objects], np.int64),
        images=np.array([image_of[item["image_id"]] for item in objects], np.int64),
        sides=np.sqrt(np.array([item["area"] for item in objects], np.float64)),
        crowds=np.bincount(np.array(crowds, np.int64), minlength=len(categories)),
    )


def of_dataset(dataset: Dataset, image_ids: Sequence[int]) -> tuple[Contents, int]:
    """Return the contents of images of a dataset, and how many of them cannot be read."""
    parts, num_bad = [of_truth(coco.ground_truth_of(dataset, []))], 0
    for image_id in image_ids:
        try:
            parts.append(of_truth(coco.ground_truth_of(dataset, [image_id])))
        except Exception as error:  # whatever a custom load_mask raises
            logger.warning("left out of the report: image %s: %s", image_id, summary(error))
            num_bad += 1
    offsets = np.cumsum([0, *(len(part.image_sizes) for part in parts)])
    return (
        Contents(
            class_names=parts[0].class_names,
            image_sizes=np.concatenate([part.image_sizes for part in parts]),
            classes=np.concatenate([part.classes for part in parts]),
            images=np.concatenate(
                [part.images + offset for part, offset in zip(parts, offsets, strict=False)]
            ),
            sides=np.concatenate([part.sides for part in parts]),
            crowds=np.sum([part.crowds for part in parts], axis=0),
        ),
        num_bad,
    )
