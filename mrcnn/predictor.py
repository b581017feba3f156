"""From images to detections: preprocessing, the inference graph, and back to image pixels."""

import functools
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from mrcnn import memory
from mrcnn.config import Config
from mrcnn.conventions import MATTERPORT, Conventions
from mrcnn.geometry import boxes as box_math
from mrcnn.geometry import images as image_math
from mrcnn.geometry import keypoints as keypoint_math
from mrcnn.geometry import pasting
from mrcnn.geometry import placement as placements
from mrcnn.network import network as networks
from mrcnn.network.layers import folding
from mrcnn.network.ops import backend
from mrcnn.network.ops.compiled import Compiled

logger = logging.getLogger("mrcnn")
Detections = dict[str, Any]

# The outputs of the inference graph that make up detections.
OUTPUTS = ("detections", "masks", "keypoints")
# Mask formats: arrays of the image's size, or COCO's RLE.
MASKS = {"full": pasting.paste, "rle": pasting.paste_rle}


class Frame(NamedTuple):
    """Placement of an image in the network input: image size, input size, window in the input."""

    image_size: tuple[int, int]
    input_size: tuple[int, int]
    window: Sequence[float]


class Predictor:
    """Runs the inference graph of a network on images of any size.

    Args:
        inference: See `network.Network.inference`.
        config: The settings the network was built with.

    Attributes:
        run: [images, metas, anchors] -> the outputs that OUTPUTS names.
        input_shape: Height and width of the input whose anchors were last computed.
    """

    input_shape: tuple[int, int] | None = None

    def __init__(self, inference: keras.Model, config: Config) -> None:
        self.config = config
        outputs = {key: inference.output[key] for key in OUTPUTS if key in inference.output}
        self.run = Compiled(folding.folded(keras.Model(inference.inputs, outputs)))
        # For a few sizes only: the anchors of a large input take megabytes.
        self._anchors = functools.lru_cache(maxsize=8)(self._make_anchors)

    def detect_each(
        self, images: Iterable[np.ndarray], masks: str = "full", *, tells_limit: bool = True
    ) -> Iterator[Detections]:
        """Yield the detections of each image; consecutive images of one input size are batched.

        Args:
            images, masks: See `MaskRCNN.detect`.
            tells_limit: Warn about images with DETECTION_MAX_INSTANCES detections.
        """
        for group in _groups(map(self.mold, images), self.config.BATCH_SIZE):
            molded = np.stack([inputs for inputs, _ in group])
            metas = np.stack([meta for _, meta in group])
            for found, meta in zip(self._found(molded, metas), metas, strict=True):
                if tells_limit:
                    _tell_of_limit(found["detections"])
                yield self.unmold(found, meta, masks)

    def _found(self, molded: np.ndarray, metas: np.ndarray) -> list[Detections]:
        """Return the outputs per image of a batch."""
        anchors = np.tile(self.anchors(molded.shape[1:3]), (len(molded), 1, 1))
        with memory.explain_oom(self.config, training=False):
            found = self.run([molded, metas, anchors])
        return [{key: rows[i] for key, rows in found.items()} for i in range(len(molded))]

    def mold(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return an image as network input (H, W, C) float32, and its meta record (M,)."""
        config = self.config
        pixels = image_math.to_channels(image, config.IMAGE_CHANNEL_COUNT)
        at_end = config.conventions.pads_at_end
        if at_end:
            pixels = pixels.astype(np.float32)  # so that resizing does not round
        placement = self._placement(pixels.shape)
        fitted = image_math.fit(pixels, placement, edge_padding=at_end)
        active = [0] * config.NUM_CLASSES
        meta = image_math.compose_meta(
            0, pixels.shape, fitted.shape, placement.window, placement.scale, active
        )
        molded = image_math.mold(fitted, list(config.MEAN_PIXEL), list(config.PIXEL_STD))
        return (image_math.only_window(molded, placement.window) if at_end else molded), meta

    def _placement(self, image_shape: Sequence[int]) -> placements.Placement:
        config = self.config
        sides = config.IMAGE_MIN_DIM, config.IMAGE_MAX_DIM
        # Crops are for training; mode pad64 takes the whole image at the same scale.
        mode = "pad64" if config.IMAGE_RESIZE_MODE == "crop" else config.IMAGE_RESIZE_MODE
        placement = placements.place(
            image_shape, *sides, min_scale=config.IMAGE_MIN_SCALE, mode=mode
        )
        if backend.COMPILES_EVERY_SIZE and mode in ("pad64", "short_side"):
            return placements.in_few_sizes(placement)
        return placement

    def mold_inputs(
        self, images: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return images as one batch: molded (B, H, W, C), metas (B, M), windows (B, 4) in pixels.

        Raises:
            ValueError: If their sizes differ after resizing.
        """
        molded, metas = zip(*(self.mold(image) for image in images), strict=True)
        if len({pixels.shape for pixels in molded}) > 1:
            raise ValueError(
                f"the images are of different sizes as the network takes them: "
                f"{[pixels.shape for pixels in molded]}; pass them one by one"
            )
        metas = np.stack(metas)
        return np.stack(molded), metas, image_math.parse_meta(metas)["window"]

    def molded(self, images: np.ndarray, image_metas: np.ndarray) -> np.ndarray:
        """Return resized images (B, H, W, C) molded: integers are raw pixels, floats are molded.

        Matterport's `detect_molded` was documented for the images of `load_image_gt`, which are
        raw, but it did not subtract the mean.

        Args:
            image_metas: (B, M).
        """
        if np.issubdtype(images.dtype, np.floating):
            return images.astype(np.float32)
        config = self.config
        molded = image_math.mold(images, list(config.MEAN_PIXEL), list(config.PIXEL_STD))
        if not config.conventions.pads_at_end:
            return molded
        windows = image_math.parse_meta(np.asarray(image_metas))["window"]
        pairs = zip(molded, windows, strict=True)
        return np.stack([image_math.only_window(image, window) for image, window in pairs])

    def detect_molded(self, images: np.ndarray, image_metas: np.ndarray) -> list[Detections]:
        """Return the detections in images that are already resized, in their pixels.

        Args:
            images: (B, H, W, C), see `molded`.
            image_metas: (B, M).
        """
        molded = self.molded(np.asarray(images), image_metas)
        height, width = molded.shape[1:3]
        frame = Frame((height, width), (height, width), (0, 0, height, width))
        return [
            unmold(found, frame, self.config.conventions)
            for found in self._found(molded, np.asarray(image_metas, np.float32))
        ]

    def unmold(
        self, found: Mapping[str, np.ndarray], image_meta: np.ndarray, masks: str = "full"
    ) -> Detections:
        """Return the detections of one image in image pixels; see `unmold`."""
        fields = {k: value[0] for k, value in image_math.parse_meta(image_meta[None]).items()}
        height, width = (int(side) for side in fields["original_image_shape"][:2])
        frame = Frame((height, width), tuple(fields["image_shape"][:2]), tuple(fields["window"]))
        return unmold(found, frame, self.config.conventions, masks)

    def anchors(self, input_shape: Sequence[int]) -> np.ndarray:
        """Return the anchors of an input of this height and width: (N, 4) normalized, float32."""
        self.input_shape = (int(input_shape[0]), int(input_shape[1]))
        return self._anchors(*self.input_shape)

    def _make_anchors(self, height: int, width: int) -> np.ndarray:
        pixels = networks.pixel_anchors(self.config, (height, width))
        inclusive = self.config.conventions.inclusive_frame
        anchors = box_math.normalize(pixels, (height, width), inclusive)
        anchors.setflags(write=False)  # shared by all images of this size
        return anchors


def unmold(
    found: Mapping[str, np.ndarray],
    frame: Frame,
    family: Conventions = MATTERPORT,
    masks: str = "full",
) -> Detections:
    """Return the detections of one image in image pixels; see `MaskRCNN.detect`.

    Args:
        found: Outputs of one image: detections (D, 6) normalized, padded from the first row of
            class id 0 on; masks (D, h, w, K) probabilities inside the boxes, K = 1 for
            class-agnostic masks, and keypoints (D, h, w, P) logits, if the network has them.
        family: The numerics of the network.
        masks: One of MASKS.
    """
    detections = found["detections"]
    count = int(np.argmin(np.append(detections[:, 4] > 0, False)))
    boxes = box_math.to_image(
        detections[:count, :4],
        frame.window,
        frame.image_size,
        frame.input_size,
        family.inclusive_frame,
    )
    rois = np.around(boxes).astype(np.int32)
    # Boxes that are empty after clipping to the window.
    kept = np.flatnonzero(box_math.area(rois) > 0)
    class_ids = detections[kept, 4].astype(np.int32)
    results = {
        "rois": rois[kept],
        "class_ids": class_ids,
        "scores": detections[kept, 5].astype(np.float32),
        "boxes": boxes[kept],
    }
    if "masks" in found:
        # Matterport's masks are resized to the rounded boxes that it returns.
        stretched = rois if family.paste == "whole" else boxes
        of_all = found["masks"].shape[-1] == 1
        results["masks"] = MASKS[masks](
            found["masks"][kept, :, :, 0 if of_all else class_ids],
            stretched[kept],
            frame.image_size,
            form=family.paste,
        )
    if "keypoints" in found:
        inside = box_math.denormalize(
            detections[kept, :4], frame.input_size, family.inclusive_frame
        )
        points = keypoint_math.decode(found["keypoints"][kept], inside)
        points[..., :2] = box_math.points_to_image(points[..., :2], frame.window, frame.image_size)
        results["keypoints"] = points
    return results


def _tell_of_limit(detections: np.ndarray) -> None:
    """Warn if none of the detection rows (D, 6) of an image is padding."""
    limit = len(detections)
    if limit and detections[-1, 4] > 0:
        logger.warning(
            "%d objects, which is the limit DETECTION_MAX_INSTANCES: there may be more. Raise it "
            "(--set DETECTION_MAX_INSTANCES=%d), or cut the image into tiles",
            limit,
            2 * limit,
        )


def _groups(
    items: Iterable[tuple[np.ndarray, np.ndarray]], most: int
) -> Iterator[list[tuple[np.ndarray, np.ndarray]]]:
    """Yield groups of at most N consecutive items of one input shape."""
    group: list[tuple[np.ndarray, np.ndarray]] = []
    for item in items:
        if group and (len(group) == most or item[0].shape != group[0][0].shape):
            yield group
            group = []
        group.append(item)
    if group:
        yield group
