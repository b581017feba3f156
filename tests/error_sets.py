"""Sets of rectangles with detections that have every kind of error, from a seed."""

import numpy as np

from mrcnn.geometry import masks as mask_math

CLASSES = 3
SIDE = 100  # of the images


def rle(box, side=SIDE) -> dict:
    """Return the mask of a box (x, y, width, height)."""
    mask = np.zeros((side, side, 1), bool)
    x, y, width, height = box
    mask[y : y + height, x : x + width] = True
    return mask_math.to_rle(mask)[0]


def result(image_id, category_id, box, score) -> dict:
    return {
        "image_id": image_id,
        "category_id": category_id,
        "bbox": list(box),
        "score": float(score),
        "segmentation": rle(box),
    }


def item(image_id, category_id, box, *, crowd=False) -> dict:
    return {
        "image_id": image_id,
        "category_id": category_id,
        "bbox": list(box),
        "area": float(box[2] * box[3]),
        "iscrowd": int(crowd),
        "segmentation": rle(box),
    }


def content(objects, names=("a", "b", "c"), num_images=20) -> dict:
    """Return an annotation file of these objects."""
    return {
        "images": [{"id": n, "width": SIDE, "height": SIDE} for n in range(1, num_images + 1)],
        "categories": [{"id": n, "name": name} for n, name in enumerate(names, start=1)],
        "annotations": [{**each, "id": n} for n, each in enumerate(objects, start=1)],
    }


def random_set(seed: int, *, crowds: bool = False) -> tuple[dict, list[dict]]:
    """Return an annotation file and results: shifted, doubled, of other classes, of nothing."""
    rng = np.random.default_rng(seed)
    objects, results = [], []
    for image_id in range(1, 21):
        for _ in range(rng.integers(0, 6)):
            box, category = random_box(rng), int(rng.integers(1, CLASSES + 1))
            is_crowd = crowds and rng.random() < 0.2
            objects.append(item(image_id, category, box, crowd=is_crowd))
            for _ in range(1 + int(rng.random() < 0.3)):
                if rng.random() < 0.15:
                    continue
                shift = rng.choice([1, 3, 8])
                moved = [int(value + rng.integers(-shift, shift + 1)) for value in box]
                moved = [max(0, moved[0]), max(0, moved[1]), max(3, moved[2]), max(3, moved[3])]
                other = int(rng.integers(1, CLASSES + 1)) if rng.random() < 0.25 else category
                results.append(result(image_id, other, moved, rng.random()))
        for _ in range(rng.integers(0, 3)):
            category = int(rng.integers(1, CLASSES + 1))
            results.append(result(image_id, category, random_box(rng), rng.random()))
    return content(objects), results


def random_box(rng: np.random.Generator) -> list[int]:
    width, height = rng.integers(8, 30, 2)
    x, y = rng.integers(0, SIDE - 30, 2)
    return [int(x), int(y), int(width), int(height)]
