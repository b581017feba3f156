"""Matterport's functions from a dataset to batches, over `mrcnn.data.pipeline`.

Training does not use them: they serve notebooks and programs with a loop of their own. Chance
comes from NumPy's global state, as it did, so that `np.random.seed` repeats them.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from mrcnn.config import Config
from mrcnn.data import augment, pipeline
from mrcnn.data.dataset import Dataset
from mrcnn.geometry import images as image_math
from mrcnn.matterport import targets
from mrcnn.network import network as networks
from mrcnn.training import fitting

Batch = tuple[list[np.ndarray], list[np.ndarray]]
ALL_OBJECTS = 2**31


def compute_backbone_shapes(config: Config, image_shape: Sequence[int]) -> np.ndarray:
    """Return the height and width of each pyramid level, cells: (5, 2) int."""
    return np.array(networks.level_grids(config, image_shape))


def load_image_gt(
    dataset: Dataset,
    config: Config,
    image_id: int,
    augment: bool = False,
    augmentation: Any = None,
    use_mini_mask: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return an image and its objects as the network trains on them.

    Args:
        augment: Mirror half of the images; `augmentation` is the newer way.
        augmentation: An imgaug augmenter, or callables of `mrcnn.data.augment`.
        use_mini_mask: Masks inside their boxes, MINI_MASK_SHAPE, instead of full ones.

    Returns:
        image (H, W, C) uint8; image_meta (12 + K,) float64; class_ids (n,) int32; boxes (n, 4)
        int32, pixels of the image returned; masks (H, W, n) or (h, w, n), bool.
    """
    sample = pipeline.load_sample(
        dataset,
        image_id,
        _format(config, use_mini_mask, ALL_OBJECTS),
        augmentations(augmentation, flips=augment),
        rng=targets.rng(),
    )
    return (
        sample.image,
        sample.image_meta.astype(np.float64),
        sample.class_ids,
        sample.boxes.astype(np.int32),
        np.moveaxis(sample.masks, 0, -1).astype(bool),
    )


def augmentations(augmentation: Any, flips: bool = False) -> list[augment.Augmentation]:
    """Return what callers pass as augmentation, or as Matterport's older flag, as a list."""
    chosen: list[augment.Augmentation] = [augment.flip_left_right] if flips else []
    if augmentation is None:
        return chosen
    if hasattr(augmentation, "to_deterministic"):
        return [*chosen, augment.from_imgaug(augmentation)]
    return [*chosen, *(augmentation if isinstance(augmentation, Sequence) else [augmentation])]


def data_generator(
    dataset: Dataset,
    config: Config,
    shuffle: bool = True,
    augment: bool = False,
    augmentation: Any = None,
    random_rois: int = 0,
    batch_size: int = 1,
    detection_targets: bool = False,
    no_augmentation_sources: Sequence[str] | None = None,
) -> Iterator[Batch]:
    """Yield batches (inputs, outputs) for ever, in Matterport's form.

    inputs: images (B, H, W, C) molded, image_meta (B, M), rpn_match (B, N, 1), rpn_bbox
    (B, 256, 4), gt_class_ids (B, G), gt_boxes (B, G, 4) int32 pixels, gt_masks (B, h, w, G); with
    random_rois also rpn_rois (B, random_rois, 4) pixels, and with detection_targets rois
    (B, R, 4). outputs: empty, or with detection_targets class_ids (B, R, 1), deltas (B, R, K, 4)
    and masks (B, R, 28, 28, K).

    Args:
        dataset, shuffle, no_augmentation_sources: See `pipeline.BatchStream`, which also says what
            happens to images that cannot be loaded.
        augment, augmentation: See `load_image_gt`.
        random_rois: Number of random boxes an image; 0 for none.
        detection_targets: Also sample what the heads learn from those boxes.
    """
    stream = pipeline.BatchStream(
        dataset,
        _format(config, config.USE_MINI_MASK, config.MAX_GT_INSTANCES),
        batch_size,
        seed=targets.seed(),
        shuffle=shuffle,
        augmentation=augmentations(augmentation, flips=augment),
        no_augmentation_sources=tuple(no_augmentation_sources or ()),
        workers=0,
    )
    anchors = networks.pixel_anchors(config, (config.IMAGE_SHAPE[0], config.IMAGE_SHAPE[1]))
    for batch in stream:
        yield _legacy_batch(batch, anchors, config, random_rois, detection_targets)


class DataGenerator(keras.utils.PyDataset):
    """`data_generator` as the TF2 forks have it: a sequence of the batches of one pass.

    Batch i is the same however often it is asked for, until the pass is over.

    Args:
        dataset, shuffle, augmentation, random_rois, detection_targets: See `data_generator`.
    """

    def __init__(
        self,
        dataset: Dataset,
        config: Config,
        shuffle: bool = True,
        augmentation: Any = None,
        random_rois: int = 0,
        detection_targets: bool = False,
    ) -> None:
        super().__init__()
        self.config = config
        self.random_rois, self.detection_targets = random_rois, detection_targets
        self.anchors = networks.pixel_anchors(
            config, (config.IMAGE_SHAPE[0], config.IMAGE_SHAPE[1])
        )
        self.epoch = 0
        self.stream = pipeline.BatchStream(
            dataset,
            _format(config, config.USE_MINI_MASK, config.MAX_GT_INSTANCES),
            config.BATCH_SIZE,
            seed=targets.seed(),
            shuffle=shuffle,
            augmentation=augmentations(augmentation),
            workers=0,
        )

    def __len__(self) -> int:
        """Return the number of batches in a pass."""
        return -(-len(self.stream.dataset.image_ids) // self.config.BATCH_SIZE)

    def __getitem__(self, index: int) -> Batch:
        """Return one batch (inputs, outputs)."""
        number = self.epoch * len(self) + index
        batch = next(iter(dataclasses.replace(self.stream, start=number, count=1)))
        return _legacy_batch(
            batch, self.anchors, self.config, self.random_rois, self.detection_targets
        )

    def on_epoch_end(self) -> None:
        """Go on to the next pass."""
        self.epoch += 1


def compose_image_meta(
    image_id: int,
    original_image_shape: Sequence[int],
    image_shape: Sequence[int],
    window: Sequence[int],
    scale: float,
    active_class_ids: Sequence[int],
) -> np.ndarray:
    """Return the meta record of an image: (12 + K,) float64."""
    return image_math.compose_meta(
        image_id, original_image_shape, image_shape, window, scale, active_class_ids
    ).astype(np.float64)


def parse_image_meta(meta: np.ndarray) -> dict[str, np.ndarray]:
    """Return the fields of meta records (B, 12 + K) by name."""
    return image_math.parse_meta(meta)


def mold_image(images: np.ndarray, config: Config) -> np.ndarray:
    """Return RGB images minus the mean pixel, over PIXEL_STD, as the network takes them: float32.

    Under conventions that pad with zeros (not Matterport's), padding is not known here, and stays
    that of black pixels.
    """
    return image_math.mold(images, list(config.MEAN_PIXEL), list(config.PIXEL_STD))


def unmold_image(normalized_images: np.ndarray, config: Config) -> np.ndarray:
    """Return molded images as they were: uint8."""
    std = np.asarray(config.PIXEL_STD, np.float32)
    return image_math.unmold(np.asarray(normalized_images) * std, list(config.MEAN_PIXEL))


def to_training_batch(inputs: Sequence[np.ndarray], config: Config) -> dict[str, np.ndarray]:
    """Return a batch of `data_generator` as the training model takes it.

    What the RPN is to learn is left out: the network finds it by itself.

    Args:
        inputs: The first list of a batch, at least seven arrays.
    """
    images, image_meta, _, _, class_ids, boxes, masks = inputs[:7]
    mean, std = (np.asarray(each, np.float32) for each in (config.MEAN_PIXEL, config.PIXEL_STD))
    return {
        "input_image": np.asarray(images, np.float32) * std + mean,
        "input_image_meta": np.asarray(image_meta, np.float32),
        "input_gt_class_ids": np.asarray(class_ids, np.int32),
        "input_gt_boxes": np.asarray(boxes, np.float32),
        "input_gt_masks": np.moveaxis(np.asarray(masks), -1, 1).astype(np.uint8),
        "input_seed": targets.seeds(len(images)),
    }


def _legacy_batch(
    batch: dict[str, np.ndarray],
    anchors: np.ndarray,
    config: Config,
    random_rois: int,
    detection_targets: bool,
) -> Batch:
    class_ids, boxes = batch["input_gt_class_ids"], batch["input_gt_boxes"]
    masks = np.moveaxis(batch["input_gt_masks"], 1, -1).astype(bool)
    match, deltas = targets.of_anchors(anchors, class_ids, boxes, config)
    inputs = [
        mold_image(batch["input_image"], config),
        batch["input_image_meta"].astype(np.float64),
        match[..., None],
        deltas,
        class_ids,
        boxes.astype(np.int32),
        masks,
    ]
    if not random_rois:
        return inputs, []
    rois = np.stack(
        [_random_rois_of(config, random_rois, *row) for row in zip(class_ids, boxes, strict=True)]
    )
    if not detection_targets:
        return [*inputs, rois], []
    rows = [
        targets.build_detection_targets(*row, config)
        for row in zip(rois, class_ids, boxes, masks, strict=True)
    ]
    chosen, target_ids, target_deltas, target_masks = map(np.stack, zip(*rows, strict=True))
    return [*inputs, rois, chosen], [target_ids[..., None], target_deltas, target_masks]


def _random_rois_of(
    config: Config, count: int, class_ids: np.ndarray, boxes: np.ndarray
) -> np.ndarray:
    is_object = class_ids > 0
    return targets.generate_random_rois(
        config.IMAGE_SHAPE, count, class_ids[is_object], boxes[is_object]
    )


def _format(
    config: Config,
    uses_mini_masks: bool,
    most_objects: int,
    jitter: tuple[float, float] = (1.0, 1.0),
) -> pipeline.SampleFormat:
    mini_mask = (int(config.MINI_MASK_SHAPE[0]), int(config.MINI_MASK_SHAPE[1]))
    return dataclasses.replace(
        fitting.sample_format(config),
        mini_mask_shape=mini_mask if uses_mini_masks else None,
        max_instances=most_objects,
        scale_jitter=jitter,
    )
