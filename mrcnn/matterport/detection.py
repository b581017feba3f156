"""Detection in steps, as notebooks and programs with a loop of their own take it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mrcnn.config import Config
from mrcnn.geometry import masks as mask_math
from mrcnn.network import network as networks
from mrcnn.predictor import Frame, Predictor, unmold

STEPS = ("mold_inputs", "unmold_detections")
# The outputs of `network.Network.inference` in the order of Matterport's model; keypoints follow.
OUTPUTS = (
    "detections",
    "class_probs",
    "box_deltas",
    "masks",
    "proposals",
    "rpn_probs",
    "rpn_deltas",
    "keypoints",
)


def in_matterports_order(outputs: Mapping[str, Any]) -> list[Any]:
    """Return the outputs of the inference graph as a list, without those that it does not have."""
    return [outputs[name] for name in OUTPUTS if name in outputs]


class DetectionInSteps:
    """Mixed into `MaskRCNN`."""

    config: Config
    keras_model: Any
    inference_model: Any
    mode: str
    predictor: Predictor
    _pixel_anchors: tuple[tuple[int, int] | None, np.ndarray] | None = None

    @property
    def anchors(self) -> np.ndarray | None:
        """The anchors of the last input, in its pixels; see `MaskRCNN`."""
        shape = self._input_shape()
        if shape and (self._pixel_anchors is None or self._pixel_anchors[0] != shape):
            self.anchors = networks.pixel_anchors(self.predictor.config, shape)
        return self._pixel_anchors[1] if self._pixel_anchors else None

    @anchors.setter
    def anchors(self, pixels: np.ndarray) -> None:
        self._pixel_anchors = (self._input_shape(), pixels)

    def _input_shape(self) -> tuple[int, int] | None:
        predictor = getattr(self, "predictor", None)  # not there while the network is built
        return predictor.input_shape if predictor else None

    def get_anchors(self, image_shape: Sequence[int]) -> np.ndarray:
        """Return the anchors for an input of this shape, normalized: (N, 4) float32.

        Their pixels are in `anchors` afterwards.
        """
        self._anchor_cache = {tuple(image_shape): self.predictor.anchors(image_shape).copy()}
        return self._anchor_cache[tuple(image_shape)]

    def mold_inputs(self, images: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        """Return images as the network takes them; see `Predictor.mold_inputs`."""
        return self.predictor.mold_inputs(images)

    def unmold_detections(
        self,
        detections: np.ndarray,
        mrcnn_mask: np.ndarray,
        original_image_shape: Sequence[int],
        image_shape: Sequence[int],
        window: Sequence[int],
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return rois, class_ids, scores and masks of one image; see `detect`.

        Args:
            detections: (D, 6), first output of `keras_model.predict`. mrcnn_mask: (D, h, w, K),
                the fourth.
            image_shape: Of the network's input. window: (4,), the image in it, pixels.
        """
        height, width = int(original_image_shape[0]), int(original_image_shape[1])
        frame = Frame((height, width), (int(image_shape[0]), int(image_shape[1])), window)
        rows = {"detections": detections, "masks": mrcnn_mask}
        found = unmold(rows, frame, self.config.conventions)
        return found["rois"], found["class_ids"], found["scores"], found["masks"]

    def detect_molded(
        self, molded_images: np.ndarray, image_metas: np.ndarray, verbose: int = 0
    ) -> list[dict[str, np.ndarray]]:
        """Return the detections in resized images, in their pixels; see `detect`.

        Args:
            molded_images: (B, H, W, C), as `load_image_gt` returns them (uint8), or molded.
            image_metas: (B, M).
            verbose: Not used.
        """
        del verbose
        return self.predictor.detect_molded(molded_images, image_metas)

    def has_own_steps(self, base: type) -> bool:
        """Return whether a subclass of base has steps of its own, or the program another model."""
        is_own = any(getattr(type(self), name) is not getattr(base, name) for name in STEPS)
        return is_own or (self.mode == "inference" and self.keras_model is not self.inference_model)

    def detect_in_steps(
        self, images: Iterable[np.ndarray], masks: str = "full"
    ) -> Iterator[dict[str, Any]]:
        """Yield what `detect` returns, by `mold_inputs`, `keras_model` and `unmold_detections`."""
        if not self.config.HAS_MASKS:
            raise ValueError(
                "steps of detection of one's own, or a keras_model of one's own, need a network "
                "with masks (HAS_MASKS = True): unmold_detections takes them"
            )
        model = self.keras_model if self.mode == "inference" else self.inference_model
        for image in images:
            molded, metas, windows = self.mold_inputs([image])
            anchors = self.predictor.anchors(molded.shape[1:3])[None]
            detections, _, _, mrcnn_mask, *_ = model.predict([molded, metas, anchors], verbose=0)
            found = self.unmold_detections(
                detections[0], mrcnn_mask[0], image.shape, molded.shape[1:], windows[0]
            )
            rows: dict[str, Any] = dict(
                zip(("rois", "class_ids", "scores", "masks"), found, strict=True)
            )
            if masks == "rle":
                rows["masks"] = mask_math.to_rle(rows["masks"])
            yield rows
