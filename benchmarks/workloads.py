"""What is measured: settings, images with objects, detections."""

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np

from mrcnn import presets
from mrcnn.config import Config
from mrcnn.data import augment
from mrcnn.data.dataset import Dataset
from mrcnn.data.pipeline import BatchStream
from mrcnn.geometry import masks as mask_math
from mrcnn.geometry import pasting

NUM_CLASSES = 81


class BatchConfig(Config):
    """Images of the size that Matterport trained on."""

    NAME = "batch"
    NUM_CLASSES = NUM_CLASSES
    IMAGES_PER_GPU = 2


class ForwardConfig(presets.TorchvisionConfig):
    """A square image of 1024, 1000 proposals, and as many detections as there can be."""

    NAME = "forward"
    NUM_CLASSES = NUM_CLASSES
    IMAGE_RESIZE_MODE = "square"
    IMAGE_MIN_DIM = 1024
    IMAGE_MAX_DIM = 1024
    IMAGES_PER_GPU = 1
    DETECTION_MIN_CONFIDENCE = 0.0


class TrainConfig(presets.TorchvisionConfig):
    """Two images of 512, 512 RoIs each, one in four of them positive at most."""

    NAME = "train"
    NUM_CLASSES = NUM_CLASSES
    IMAGE_RESIZE_MODE = "square"
    IMAGE_MIN_DIM = 512
    IMAGE_MAX_DIM = 512
    IMAGES_PER_GPU = 2


class Ellipses(Dataset):
    """Noisy images in memory with ellipses, ready before the clock starts."""

    def load(self, count: int, num_objects: int, shape: tuple[int, int] = (480, 640)) -> None:
        """Make `count` images of a height and width with so many objects each."""
        rng = np.random.default_rng(0)
        for class_id in range(1, NUM_CLASSES):
            self.add_class("ellipses", class_id, f"class {class_id}")
        for image_id in range(count):
            self.add_image(
                "ellipses",
                image_id,
                path=None,
                pixels=rng.integers(0, 256, (*shape, 3), np.uint8),
                masks=_ellipses(shape, num_objects, rng),
                class_ids=rng.integers(1, NUM_CLASSES, num_objects).astype(np.int32),
            )
        self.prepare()

    def load_image(self, image_id: int) -> np.ndarray:
        """Return the pixels."""
        return self.image_info[image_id]["pixels"]

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the masks and class ids."""
        info = self.image_info[image_id]
        return info["masks"], info["class_ids"]


def ellipses(num_objects: int, shape: tuple[int, int] = (480, 640)) -> Ellipses:
    """Return four images in memory of a height and width, with so many objects each."""
    dataset = Ellipses()
    dataset.load(4, num_objects, shape)
    return dataset


def coco_or_ellipses(folder: Path | None) -> tuple[Dataset, str]:
    """Return the images of a folder of COCO, or drawn ones, and in words what they are."""
    if folder is None:
        return ellipses(10), "10 drawn objects"
    from mrcnn.data.formats.coco import load_coco

    (annotations,) = folder.glob("annotations/instances_*.json")
    dataset = load_coco(annotations, folder / annotations.stem.removeprefix("instances_"))
    return dataset, f"COCO, {dataset.num_objects / dataset.num_images:.1f} objects"


def stream(
    config: Config, dataset: Dataset, *, workers: int = 0, flips: bool = True
) -> BatchStream:
    """Return batches of a dataset, loaded by so many threads, 0 for the caller's own."""
    from mrcnn.training.fitting import sample_format

    return BatchStream(
        dataset,
        sample_format(config),
        config.BATCH_SIZE,
        augmentation=[augment.flip_left_right] if flips else [],
        workers=workers,
    )


def one_batch(config: Config, num_objects: int, side: int) -> dict[str, np.ndarray]:
    """Return a batch of square images that need no resizing."""
    dataset = ellipses(num_objects, (side, side))
    return next(iter(stream(config, dataset, flips=False)))


def unpadded(batch: dict[str, np.ndarray]) -> tuple[np.ndarray, list[dict[str, np.ndarray]]]:
    """Return images (B, H, W, 3) and what is in them: boxes, class_ids and masks (n, H, W)."""
    images, objects = batch["input_image"], []
    for index, class_ids in enumerate(batch["input_gt_class_ids"]):
        is_object = class_ids > 0
        boxes = batch["input_gt_boxes"][index][is_object]
        masks = batch["input_gt_masks"][index][is_object]
        full = pasting.expand(boxes, masks, images.shape[1:3])
        objects.append(
            {
                "boxes": boxes,
                "class_ids": class_ids[is_object],
                "masks": np.moveaxis(full, -1, 0),
            }
        )
    return images, objects


def found_ellipses(num_images: int, count: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return a truth in COCO's form, half of its objects found and as many finds of nothing."""
    from mrcnn.evaluation import coco

    rng, shape = np.random.default_rng(0), (240, 320)
    categories = [{"id": number, "name": f"class {number}"} for number in range(1, NUM_CLASSES)]
    images, objects, results = [], [], []
    for image_id in range(1, num_images + 1):
        images.append({"id": image_id, "height": shape[0], "width": shape[1]})
        masks, class_ids = _ellipses(shape, count, rng), rng.integers(1, NUM_CLASSES, count)
        moved = np.roll(masks, rng.integers(-3, 4, 2), (0, 1))
        found = {
            "rois": mask_math.bounds(moved),
            "class_ids": class_ids,
            "scores": rng.random(count),
            "masks": moved,
        }
        results += coco.to_results(found, image_id, range(NUM_CLASSES))
        objects += [
            {"image_id": image_id, "category_id": int(class_id), "segmentation": segmentation}
            for class_id, segmentation in zip(
                class_ids[::2], mask_math.to_rle(masks[..., ::2]), strict=True
            )
        ]
    return {"images": images, "annotations": objects, "categories": categories}, results


def by_pycocotools(coco_gt: Any, results: list[dict[str, Any]]) -> None:
    """Score masks and boxes by pycocotools, silently."""
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        for iou_type in ("segm", "bbox"):
            found = coco_gt.loadRes([dict(result) for result in results])
            evaluation = COCOeval(coco_gt, found, iou_type)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()


def _ellipses(shape: tuple[int, int], count: int, rng: np.random.Generator) -> np.ndarray:
    """Return ellipses of a tenth to a half of the image's sides: (H, W, N) bool."""
    radii = rng.uniform(0.05, 0.25, (2, count)) * np.array(shape)[:, None]
    centres = rng.uniform(0.25, 0.75, (2, count)) * np.array(shape)[:, None]
    rows, cols = np.mgrid[: shape[0], : shape[1]][..., None]
    distance = ((rows - centres[0]) / radii[0]) ** 2 + ((cols - centres[1]) / radii[1]) ** 2
    return distance < 1
