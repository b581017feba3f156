"""From a dataset to batches: read, check, augment, resize, compute boxes, mini-masks, pad.

Every sample is a function of the dataset, the seed and its position in the stream. Threads only
load it earlier: they never change what is loaded.
"""

import itertools
import logging
from collections.abc import Iterable, Iterator, Sequence, Sized
from contextlib import closing
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from mrcnn.data import augment
from mrcnn.data.ahead import in_order
from mrcnn.data.dataset import BadSample, Dataset, summary
from mrcnn.geometry import images
from mrcnn.geometry import placement as placements

logger = logging.getLogger("mrcnn")


@dataclass(frozen=True)
class SampleFormat:
    """The sizes of a sample, from the settings of the same names.

    Attributes:
        min_dim, max_dim, min_scale, mode: see `placements.place`.
        mini_mask_shape: (h, w); None keeps full masks.
        max_instances: number of objects that samples are padded to, G.
        num_classes: K, including background.
        scale_jitter: (minimum, maximum) of a random resize factor.
        channels: number of channels of the images.
        side: side of the input, in mode short_side.
        input_shape: (H, W) required of all inputs; None if sizes may vary.
        edge_padding: how images are resized, see `resizing.resize`.
        keypoints: number of keypoints per object, P.
        mirror_pairs: index pairs of left and right keypoints.
    """

    min_dim: int
    max_dim: int
    min_scale: float
    mode: str
    mini_mask_shape: tuple[int, int] | None
    max_instances: int
    num_classes: int
    channels: int = 3
    scale_jitter: tuple[float, float] = (1.0, 1.0)
    side: int | None = None
    input_shape: tuple[int, int] | None = None
    edge_padding: bool = False
    keypoints: int = 0
    mirror_pairs: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Sample:
    """One image with its n objects, in input pixels.

    Attributes:
        image: (H, W, C), not molded.
        image_meta: (12 + K,) float32, see `images.compose_meta`.
        class_ids: (n,) int32, negative for crowds.
        boxes: (n, 4) float32, tight.
        masks: (n, h, w) uint8, inside the boxes (mini-masks) or full size.
        seed: random seed of the network's own sampling.
        keypoints: (n, P, 3) float32 of y, x and visibility, which is 0 outside the input.
    """

    image: np.ndarray
    image_meta: np.ndarray
    class_ids: np.ndarray
    boxes: np.ndarray
    masks: np.ndarray
    seed: int
    keypoints: np.ndarray


def load_sample(
    dataset: Dataset,
    image_id: int,
    sample_format: SampleFormat,
    augmentation: Sequence[augment.Augmentation] = (),
    *,
    rng: np.random.Generator,
) -> Sample:
    """Return a training sample for an image of a dataset.

    Objects that vanish in augmentation or resizing are dropped; if there are more than
    `max_instances`, a random subset is kept.

    Raises:
        BadSample: If the image cannot be read, or image, masks and class ids are inconsistent.
    """
    seed = int(rng.integers(2**31))
    image = images.to_channels(dataset.load_image(image_id), sample_format.channels)
    masks, class_ids = _load_objects(dataset, image_id, image.shape, sample_format.num_classes)
    keypoints = _load_keypoints(dataset, image_id, len(class_ids), sample_format.keypoints)
    original_shape = image.shape
    image, masks, keypoints = augment.apply(
        augmentation, image, masks, keypoints, sample_format.mirror_pairs, rng
    )
    _check_size(masks, image.shape, "after augmentation")
    masks = np.asarray(masks).astype(bool, copy=False)
    placement = _placement(image.shape, sample_format, rng)
    _check_input(placement.input_size, sample_format)
    image = images.fit_quickly(image, placement, edge_padding=sample_format.edge_padding)
    kept, boxes, masks = _fit_objects(masks, placement, sample_format, rng)
    meta = images.compose_meta(
        image_id,
        original_shape,
        image.shape,
        placement.window,
        placement.scale,
        active_class_ids(dataset, image_id, sample_format.num_classes),
    )
    keypoints = placement.move_keypoints(keypoints[kept])
    return Sample(image, meta, class_ids[kept], boxes, masks, seed, keypoints)


def active_class_ids(dataset: Dataset, image_id: int, num_classes: int) -> np.ndarray:
    """Return 1 for the classes that the image's source annotates, else 0: (K,) int32."""
    active = np.zeros(num_classes, np.int32)
    source = dataset.image_info[image_id]["source"]
    # A source without classes has only background images.
    active[dataset.source_class_ids.get(source, [0])] = 1
    return active


def collate(samples: Sequence[Sample], max_instances: int) -> dict[str, np.ndarray]:
    """Return samples as the network's training inputs, objects padded with zeros.

    input_image (B, H, W, C), input_image_meta (B, 12 + K) float32, input_gt_class_ids (B, G)
    int32, input_gt_boxes (B, G, 4) float32, input_gt_masks (B, G, h, w) uint8, input_seed (B,)
    int32, and for keypoints input_gt_keypoints (B, G, P, 3) float32.

    Raises:
        ValueError: If the images differ in size.
    """
    shapes = {sample.image.shape for sample in samples}
    if len(shapes) > 1:
        raise ValueError(
            f"the images of a batch must have one size, got {sorted(shapes)}; "
            f"use the resize mode square or crop, or one image per batch"
        )
    batch = {
        "input_image": np.stack([sample.image for sample in samples]),
        "input_image_meta": np.stack([sample.image_meta for sample in samples]),
        "input_gt_class_ids": _padded([sample.class_ids for sample in samples], max_instances),
        "input_gt_boxes": _padded([sample.boxes for sample in samples], max_instances),
        "input_gt_masks": _padded([sample.masks for sample in samples], max_instances),
        "input_seed": np.array([sample.seed for sample in samples], np.int32),
    }
    if samples[0].keypoints.shape[1]:
        keypoints = [sample.keypoints for sample in samples]
        batch["input_gt_keypoints"] = _padded(keypoints, max_instances)
    return batch


@dataclass(kw_only=True)
class _StreamSettings:
    seed: int = 0
    shuffle: bool = True
    augmentation: Sequence[augment.Augmentation] = ()
    no_augmentation_sources: Sequence[str] = ()
    workers: int = 2
    start: int = 0
    count: int | None = None


@dataclass
class BatchStream(_StreamSettings):
    """The batches of a dataset, pass after pass, prefetched by threads.

    Position i of the stream is in pass i // n over the n images; its sample depends only on the
    seed and i. So the batches do not depend on the number of workers, and a run resumed with
    `start` sees the same batches as an uninterrupted one. An image that cannot be loaded, whatever
    exception a custom `load_image` or `load_mask` raises, is replaced by the next one of the pass,
    warned about once, and remembered until it can be loaded, as in Matterport's.

    Attributes:
        dataset: prepared.
        sample_format: the sizes of the samples.
        batch_size: B.
        seed: non-negative; determines passes, augmentations and the network's sampling.
        shuffle: permute each pass.
        augmentation: callables (image, masks, rng) -> (image, masks).
        no_augmentation_sources: sources of the dataset whose images are not augmented.
        workers: number of threads; 0 loads in the calling thread.
        start: number of the first batch.
        count: number of batches; None is endless.
        bad_images: per image_id, the reason why it could not be loaded the last time.

    Raises:
        ValueError: If the dataset is empty or has more classes than the network.
        RuntimeError: While iterating, if too many images are bad, see `are_too_many`.
    """

    dataset: Dataset
    sample_format: SampleFormat
    batch_size: int
    bad_images: dict[int, str] = field(default_factory=dict, init=False)
    _warned: set[int] = field(default_factory=set, init=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.dataset.image_info) == 0 or len(self.dataset.image_ids) == 0:
            raise ValueError("the dataset has no images; add some, then call prepare()")
        if self.dataset.num_classes > self.sample_format.num_classes:
            raise ValueError(
                f"the dataset has {self.dataset.num_classes} classes including background, but "
                f"NUM_CLASSES is {self.sample_format.num_classes}; set it to the former"
            )

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        numbers: Iterable[int] = itertools.count(self.start)
        if self.count is not None:
            numbers = range(self.start, self.start + self.count)
        positions = (
            number * self.batch_size + slot for number in numbers for slot in range(self.batch_size)
        )
        ahead = 2 * max(self.batch_size, self.workers)
        with closing(in_order(self._load, positions, self.workers, ahead)) as loaded:
            samples = (self._accept(*result) for result in loaded)
            while batch := list(itertools.islice(samples, self.batch_size)):
                yield collate(batch, self.sample_format.max_instances)

    def _load(self, position: int) -> tuple[Sample | None, dict[int, Exception]]:
        """Return the sample at a position, and the errors of the images skipped for it."""
        failures: dict[int, Exception] = {}
        for attempt in range(len(self.dataset.image_ids)):
            image_id = self._image_id(position, attempt)
            rng = np.random.default_rng((self.seed, 1, position, attempt))
            source = self.dataset.image_info[image_id]["source"]
            augmentation = () if source in self.no_augmentation_sources else self.augmentation
            try:
                sample = load_sample(
                    self.dataset, image_id, self.sample_format, augmentation, rng=rng
                )
            except Exception as error:
                # Tracebacks keep images in memory; the first one suffices for debugging.
                failures[image_id] = error.with_traceback(None) if failures else error
                if self._too_many(failures):
                    break
            else:
                return sample, failures
        return None, failures

    def _image_id(self, position: int, attempt: int) -> int:
        image_ids = self.dataset.image_ids
        number, place = divmod(position, len(image_ids))
        place = (place + attempt) % len(image_ids)
        order = (
            _permutation(self.seed, number, len(image_ids))
            if self.shuffle
            else range(len(image_ids))
        )
        return int(image_ids[order[place]])

    def _accept(self, sample: Sample | None, failures: dict[int, Exception]) -> Sample:
        """Return a loaded sample after recording its failures; called in stream order."""
        for image_id, error in failures.items():
            self._note(image_id, summary(error))
        if sample is None or self._too_many(self.bad_images):
            first = "; ".join(list(self.bad_images.values())[:3])
            raise RuntimeError(
                f"{len(self.bad_images)} of {len(self.dataset.image_ids)} images cannot be used, "
                f"more than a tenth: {first}"
            ) from next(iter(failures.values()), None)
        self.bad_images.pop(int(sample.image_meta[0]), None)
        return sample

    def _note(self, image_id: int, reason: str) -> None:
        if image_id not in self._warned:
            path = self.dataset.image_info[image_id].get("path")
            logger.warning("skipped image %s (%s): %s", image_id, path, reason)
        self._warned.add(image_id)
        self.bad_images[image_id] = reason

    def _too_many(self, failures: Sized) -> bool:
        return are_too_many(len(failures), len(self.dataset.image_ids))


def are_too_many(num_bad: int, total: int) -> bool:
    """Return whether there are too many bad images: over a tenth, but one of several is fine."""
    return 10 * num_bad > total and (num_bad > 1 or total == 1)


@lru_cache(maxsize=4)
def _permutation(seed: int, number: int, size: int) -> np.ndarray:
    return np.random.default_rng((seed, number)).permutation(size)


def _placement(
    image_shape: tuple[int, ...], sample_format: SampleFormat, rng: np.random.Generator
) -> placements.Placement:
    sides = sample_format.min_dim, sample_format.max_dim
    factor = float(np.exp(rng.uniform(*np.log(sample_format.scale_jitter))))
    if sample_format.mode == "short_side":
        return placements.place_by_short_side(
            image_shape, *sides, factor=factor, side=sample_format.side
        )
    return placements.place(
        image_shape,
        *sides,
        min_scale=sample_format.min_scale,
        mode=sample_format.mode,
        factor=factor,
        rng=rng,
    )


def _check_input(size: tuple[int, int], sample_format: SampleFormat) -> None:
    expected = sample_format.input_shape
    if expected is not None and tuple(size) != expected:
        raise ValueError(
            f"it becomes {size[0]} x {size[1]} pixels in IMAGE_RESIZE_MODE "
            f"{sample_format.mode!r}, but training needs inputs of one size, {expected[0]} x "
            f"{expected[1]}: train in mode 'square', 'short_side' or 'crop'"
        )


def _load_objects(
    dataset: Dataset, image_id: int, image_shape: tuple[int, ...], num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    masks, class_ids = dataset.load_mask(image_id)
    class_ids = np.asarray(class_ids, np.int32).reshape(-1)
    if len(class_ids) == 0:
        # Users' empty masks come in any shape, Matterport's own as (0, 0, 0).
        return np.zeros((*image_shape[:2], 0), bool), class_ids
    masks = np.asarray(masks)
    if masks.ndim != 3 or masks.shape[-1] != len(class_ids):
        raise BadSample(f"{len(class_ids)} class ids have masks of shape {masks.shape}")
    _check_size(masks, image_shape, "as loaded")
    if np.abs(class_ids).max() >= num_classes or not class_ids.all():
        raise BadSample(f"class ids must be in 1..{num_classes - 1}, got {np.unique(class_ids)}")
    return masks.astype(bool, copy=False), class_ids


def _load_keypoints(
    dataset: Dataset, image_id: int, num_objects: int, num_keypoints: int
) -> np.ndarray:
    if not num_keypoints or not num_objects:
        return np.zeros((num_objects, num_keypoints, 3), np.float32)
    keypoints = np.asarray(dataset.load_keypoints(image_id), np.float32)
    if keypoints.shape != (num_objects, num_keypoints, 3):
        raise BadSample(
            f"the keypoints have shape {keypoints.shape}, expected "
            f"{(num_objects, num_keypoints, 3)}: objects, NUM_KEYPOINTS, and y, x, visibility"
        )
    return keypoints


def _check_size(masks: np.ndarray, image_shape: tuple[int, ...], when: str) -> None:
    if masks.shape[:2] != image_shape[:2]:
        raise BadSample(
            f"the masks have height and width {masks.shape[:2]}, "
            f"but the image has {image_shape[:2]} ({when})"
        )


def _fit_objects(
    masks: np.ndarray,
    placement: placements.Placement,
    sample_format: SampleFormat,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the indices of the kept objects, their boxes (n, 4) and masks (n, h, w)."""
    shown = images.show_masks(masks, placement)
    kept = np.flatnonzero(shown.boxes[:, 2] > shown.boxes[:, 0])
    if len(kept) > sample_format.max_instances:
        kept = np.sort(rng.choice(kept, sample_format.max_instances, replace=False))
    start = placement.window[:2]
    if sample_format.mini_mask_shape:
        planes = shown.minimized(kept, sample_format.mini_mask_shape)
    else:
        planes = shown.whole(kept, start, placement.input_size)
    boxes = shown.boxes[kept] + np.tile(start, 2)
    return kept, boxes.astype(np.float32), planes.view(np.uint8)


def _padded(rows: Sequence[np.ndarray], count: int) -> np.ndarray:
    padded = np.zeros((len(rows), count, *rows[0].shape[1:]), rows[0].dtype)
    for target, row in zip(padded, rows, strict=True):
        target[: len(row)] = row
    return padded
