"""From images to detections: into the network's frame, through it, and back."""

from collections.abc import Iterable, Iterator, Sequence

import keras
import numpy as np

from mrcnn.config import Config
from mrcnn.conventions import MATTERPORT, Conventions
from mrcnn.geometry import boxes as box_math
from mrcnn.geometry import images as image_math
from mrcnn.geometry import masks as mask_math
from mrcnn.network import network as networks

Detections = dict[str, np.ndarray]


class Predictor:
    """Runs the inference graph of a network on images of any sizes.

    Args:
        inference: See `networks.Network`.
        config: The settings the network was built with.
    """

    def __init__(self, inference: keras.Model, config: Config) -> None:
        self.config = config
        detections, _, _, masks, *_ = inference.outputs
        self.detector = keras.Model(inference.inputs, [detections, masks])
        self._anchors: dict[tuple[int, int], np.ndarray] = {}

    def detect_each(self, images: Iterable[np.ndarray]) -> Iterator[Detections]:
        """Yield the detections of each image; neighbours of one input size run together.

        Args:
            images: See `MaskRCNN.detect`.
        """
        for group in _groups(map(self.mold, images), self.config.BATCH_SIZE):
            molded = np.stack([inputs for inputs, _ in group])
            metas = np.stack([meta for _, meta in group])
            anchors = np.tile(self.anchors(molded.shape[1:3]), (len(group), 1, 1))
            detections, masks = self.detector.predict_on_batch([molded, metas, anchors])
            for rows, probabilities, meta in zip(detections, masks, metas, strict=True):
                yield self.unmold(rows, probabilities, meta)

    def mold(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return an image as the network's input (H, W, C) float32, and its meta record (M,)."""
        config = self.config
        pixels = image_math.to_channels(image, config.IMAGE_CHANNEL_COUNT)
        at_end = config.conventions.pads_at_end
        if at_end:
            pixels = pixels.astype(np.float32)  # whose resize is not rounded
        placement = self._placement(pixels.shape)
        fitted = image_math.fit(pixels, placement, goes_on=at_end)
        active = [0] * config.NUM_CLASSES
        meta = image_math.compose_meta(
            0, pixels.shape, fitted.shape, placement.window, placement.scale, active
        )
        molded = image_math.mold(fitted, list(config.MEAN_PIXEL), list(config.PIXEL_STD))
        return (image_math.only_window(molded, placement.window) if at_end else molded), meta

    def _placement(self, image_shape: Sequence[int]) -> image_math.Placement:
        config = self.config
        sides = config.IMAGE_MIN_DIM, config.IMAGE_MAX_DIM
        if config.IMAGE_RESIZE_MODE == "short_side":
            return image_math.place_by_short_side(image_shape, *sides)
        # Crops are for training; the whole image at the same scale is mode pad64.
        mode = "pad64" if config.IMAGE_RESIZE_MODE == "crop" else config.IMAGE_RESIZE_MODE
        return image_math.place(image_shape, *sides, min_scale=config.IMAGE_MIN_SCALE, mode=mode)

    def mold_inputs(
        self, images: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return images as one batch: molded (B, H, W, C), metas (B, M), windows (B, 4) in pixels.

        Raises:
            ValueError: When they have different sizes as the network takes them.
        """
        molded, metas = zip(*(self.mold(image) for image in images), strict=True)
        if len({pixels.shape for pixels in molded}) > 1:
            raise ValueError(
                f"the images are of different sizes as the network takes them: "
                f"{[pixels.shape for pixels in molded]}; pass them one by one"
            )
        metas = np.stack(metas)
        return np.stack(molded), metas, image_math.parse_meta(metas)["window"]

    def molded(self, images: np.ndarray) -> np.ndarray:
        """Return resized images (B, H, W, C) molded: whole numbers are raw pixels, floats are not.

        Matterport's `detect_molded` was documented for the images of `load_image_gt`, which are
        raw, but did not subtract the mean.
        """
        if np.issubdtype(images.dtype, np.floating):
            return images.astype(np.float32)
        return image_math.mold(images, list(self.config.MEAN_PIXEL), list(self.config.PIXEL_STD))

    def detect_molded(self, images: np.ndarray, image_metas: np.ndarray) -> list[Detections]:
        """Return the detections in images that are resized already, in their pixels.

        Args:
            images: (B, H, W, C), see `molded`.
            image_metas: (B, M).
        """
        molded = self.molded(np.asarray(images))
        height, width = molded.shape[1:3]
        anchors = np.tile(self.anchors((height, width)), (len(molded), 1, 1))
        metas = np.asarray(image_metas, np.float32)
        detections, masks = self.detector.predict_on_batch([molded, metas, anchors])
        whole = (0, 0, height, width)
        family = self.config.conventions
        return [
            unmold(*rows, (height, width), (height, width), whole, family)
            for rows in zip(detections, masks, strict=True)
        ]

    def unmold(
        self, detections: np.ndarray, masks: np.ndarray, image_meta: np.ndarray
    ) -> Detections:
        """Return the detections of one image in its own pixels; see `unmold`."""
        fields = {k: value[0] for k, value in image_math.parse_meta(image_meta[None]).items()}
        shapes = fields["original_image_shape"], fields["image_shape"]
        return unmold(detections, masks, *shapes, fields["window"], self.config.conventions)

    def anchors(self, input_shape: Sequence[int]) -> np.ndarray:
        """Return the anchors of an input of this height and width: (N, 4) normalized, float32."""
        shape = (int(input_shape[0]), int(input_shape[1]))
        if shape not in self._anchors:
            pixels = networks.pixel_anchors(self.config, shape)
            inclusive = self.config.conventions.inclusive_frame
            self._anchors[shape] = box_math.normalize(pixels, shape, inclusive)
        return self._anchors[shape]


def unmold(
    detections: np.ndarray,
    masks: np.ndarray,
    image_shape: Sequence[int],
    input_shape: Sequence[int],
    window: Sequence[int],
    family: Conventions = MATTERPORT,
) -> Detections:
    """Return the detections of one image in its own pixels; see `MaskRCNN.detect`.

    Args:
        detections: (D, 6) normalized; rows from the first class id 0 on are padding.
        masks: (D, h, w, K) probabilities inside the boxes.
        image_shape, input_shape: Height and width of the image, and of the network's input.
        window: (4,), where the image lies in the input, pixels.
        family: The numerics of the network.
    """
    height, width = int(image_shape[0]), int(image_shape[1])
    count = int(np.argmin(np.append(detections[:, 4] > 0, False)))
    class_ids = detections[:count, 4].astype(np.int32)
    boxes = box_math.to_image(
        detections[:count, :4],
        window,
        (height, width),
        (input_shape[0], input_shape[1]),
        family.inclusive_frame,
    )
    rois = np.around(boxes).astype(np.int32)
    # Boxes that the window cut down to nothing.
    kept = np.flatnonzero(box_math.area(rois) > 0)
    # Matterport's masks are stretched over the whole pixels that it returns.
    stretched = rois if family.paste == "whole" else boxes
    probabilities = masks[kept, :, :, class_ids[kept]]
    return {
        "rois": rois[kept],
        "class_ids": class_ids[kept],
        "scores": detections[kept, 5].astype(np.float32),
        "boxes": boxes[kept],
        "masks": mask_math.paste(
            probabilities, stretched[kept], (height, width), form=family.paste
        ),
    }


def _groups(
    items: Iterable[tuple[np.ndarray, np.ndarray]], most: int
) -> Iterator[list[tuple[np.ndarray, np.ndarray]]]:
    """Yield neighbouring items of one input shape together, at most so many."""
    group: list[tuple[np.ndarray, np.ndarray]] = []
    for item in items:
        if group and (len(group) == most or item[0].shape != group[0][0].shape):
            yield group
            group = []
        group.append(item)
    if group:
        yield group
