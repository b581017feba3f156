"""The complete network: one set of layers shared by an inference graph and a training graph.

*(Mask R-CNN, He et al. 2017)*. In this package only this file and `parts.py` read `Config`.
"""

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import keras
import numpy as np

from mrcnn.config import Config
from mrcnn.geometry import anchors as anchor_grid
from mrcnn.geometry import boxes as box_math
from mrcnn.network import parts
from mrcnn.network.layers import numpy_initializers
from mrcnn.network.layers.anchors import Anchors
from mrcnn.network.ops import backend
from mrcnn.network.roi_heads import rows as roi_rows
from mrcnn.network.roi_heads.box import DetectionLayer
from mrcnn.network.roi_heads.keypoint import KeypointTargetLayer
from mrcnn.network.roi_heads.sampling import RoiTargetLayer
from mrcnn.network.rpn.targets import RpnTargetLayer

Tensor = Any


class Graph(NamedTuple):
    """Symbolic inputs and outputs, by name."""

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]


class Network:
    """The network that the settings describe, with newly initialized weights.

    Both graphs share all layers with weights; the training graph is built lazily.

    Args:
        config: The settings.

    Attributes:
        inference: images (B, H, W, C), image_meta (B, M) and anchors (B, N, 4) to a dict:
            detections (B, D, 6), masks (B, D, h, w, K), keypoints (B, D, h, w, P); for all
            proposals, proposals (B, P, 4), class_probs (B, P, K), box_deltas (B, P, K, 4); for all
            anchors, rpn_probs (B, N, 2), rpn_deltas (B, N, 4). Masks and keypoints are omitted if
            the settings say so.

    Raises:
        ValueError: For invalid settings; see `Config.check`.
    """

    def __init__(self, config: Config) -> None:
        config.check()
        self.config = config
        with self._building():
            self._image = keras.Input((None, None, config.IMAGE_CHANNEL_COUNT), name="input_image")
            self._image_meta = keras.Input((config.IMAGE_META_SIZE,), name="input_image_meta")
            self._pyramid = parts.build_pyramid(self._image, config)
            self._rpn = parts.build_rpn(self._pyramid, config)
            self._heads = parts.build_heads(config, self._pyramid)
            self.inference = self._inference()

    @functools.cached_property
    def training(self) -> Graph:
        """The training graph, whose inputs and outputs go to `losses.compute_losses`."""
        with self._building():
            return self._training()

    @contextmanager
    def _building(self) -> Iterator[None]:
        initial = numpy_initializers.numpy_draws() if backend.COMPILES_EVERY_SIZE else nullcontext()
        with initial, _precision(self.config.PRECISION):
            yield

    def _inference(self) -> keras.Model:
        config, heads, maps = self.config, self._heads, self._pyramid.roi_maps
        family, meta = config.conventions, self._image_meta
        anchors = keras.Input((None, 4), name="input_anchors")
        proposals = parts.build_proposals(self._rpn, anchors, meta, config, training=False)
        _, probs, deltas = heads.boxes(proposals, meta, maps)
        detections = DetectionLayer(
            max_detections=config.DETECTION_MAX_INSTANCES,
            min_confidence=config.DETECTION_MIN_CONFIDENCE,
            nms_threshold=config.DETECTION_NMS_THRESHOLD,
            std_dev=config.BBOX_STD_DEV,
            every_class=config.DETECTION_EVERY_CLASS or family.every_class,
            largest_log_scale=family.largest_log_scale,
            inclusive=family.inclusive_frame,
            name="mrcnn_detection",
        )([proposals, probs, deltas, meta])
        outputs = {
            "detections": detections,
            "class_probs": probs,
            "box_deltas": deltas,
            "proposals": proposals,
            "rpn_probs": self._rpn.probs,
            "rpn_deltas": self._rpn.deltas,
        }
        found = roi_rows.TrimDetections(name="trim_detections")(detections)
        for name, head in (("masks", heads.masks), ("keypoints", heads.keypoints)):
            if head is not None:
                pad = roi_rows.PadMasks(config.DETECTION_MAX_INSTANCES, name=f"pad_{name}")
                outputs[name] = pad(head(found, meta, maps))
        return keras.Model([self._image, meta, anchors], outputs, name="mask_rcnn")

    def _training(self) -> Graph:
        config, heads, maps = self.config, self._heads, self._pyramid.roi_maps
        meta = self._image_meta
        truth = _ground_truth_inputs(config)
        rois = _sampled_rois(self._rpn, self._image, meta, truth, config)
        has_norms = config.TRAIN_BN is not False
        logits, _, deltas = heads.boxes(rois.boxes, meta, maps, rois.weights if has_norms else None)
        outputs = {
            "rpn_class_logits": self._rpn.logits,
            "rpn_bbox": self._rpn.deltas,
            **_rpn_targets(truth, config),
            "mrcnn_class_logits": logits,
            "mrcnn_bbox": deltas,
            "target_class_ids": rois.class_ids,
            "target_deltas": rois.deltas,
            "target_weights": rois.weights,
        }
        # The most expensive heads run on positive RoIs only, which come first.
        most = rois.masks.shape[1]
        positives, class_ids, masks, matched = roi_rows.TrimPositives(name="positive_rois")(
            [
                rois.class_ids,
                rois.boxes[:, :most],
                rois.class_ids[:, :most],
                rois.masks,
                rois.matched,
            ]
        )
        if heads.masks:
            outputs["target_masks"] = masks
            outputs["mrcnn_mask_logits"] = heads.masks(
                positives, meta, maps, class_ids if has_norms else None, as_logits=True
            )
        if heads.keypoints:
            outputs["mrcnn_keypoint"] = heads.keypoints(positives, meta, maps)
            cells = KeypointTargetLayer(
                outputs["mrcnn_keypoint"].shape[2], config.conventions.inclusive_frame
            )([positives, class_ids, meta, matched, truth["input_gt_keypoints"]])
            outputs["target_keypoint_cells"], outputs["target_keypoint_weights"] = cells
        return Graph({"input_image": self._image, "input_image_meta": meta, **truth}, outputs)


def pixel_anchors(config: Config, input_shape: tuple[int, int]) -> np.ndarray:
    """Return the anchors of an input of this height and width, in input pixels: (N, 4) float64."""
    grids = level_grids(config, input_shape)
    strides = [(stride, stride) for stride in config.BACKBONE_STRIDES]
    if config.conventions.whole_anchors:
        strides = [(input_shape[0] // rows, input_shape[1] // cols) for rows, cols in grids]
    return anchor_grid.pyramid_anchors(
        config.RPN_ANCHOR_SCALES,
        config.RPN_ANCHOR_RATIOS,
        grids,
        strides,
        config.RPN_ANCHOR_STRIDE,
        whole=config.conventions.whole_anchors,
    )


def level_grids(config: Config, input_shape: Sequence[int]) -> list[tuple[int, int]]:
    """Return the height and width of each pyramid level for an input, in cells."""
    if callable(config.BACKBONE) and config.COMPUTE_BACKBONE_SHAPE is not None:
        grids = parts.unbound(config.COMPUTE_BACKBONE_SHAPE)(input_shape)
        return [(int(height), int(width)) for height, width in grids]
    return anchor_grid.level_grids(
        (int(input_shape[0]), int(input_shape[1])), config.BACKBONE_STRIDES
    )


class SampledRois(NamedTuple):
    """Sampled RoIs and their targets; see `RoiTargetLayer`."""

    boxes: Tensor
    class_ids: Tensor
    deltas: Tensor
    masks: Tensor
    weights: Tensor
    matched: Tensor


def _input_shape(config: Config) -> tuple[int, int]:
    return int(config.IMAGE_SHAPE[0]), int(config.IMAGE_SHAPE[1])


def _rpn_targets(truth: dict[str, Tensor], config: Config) -> dict[str, Tensor]:
    layer = RpnTargetLayer(
        pixel_anchors(config, _input_shape(config)),
        config.RPN_TRAIN_ANCHORS_PER_IMAGE,
        config.RPN_BBOX_STD_DEV,
        name="rpn_targets",
    )
    names = ("input_gt_class_ids", "input_gt_boxes", "input_seed")
    match, deltas = layer([truth[name] for name in names])
    return {"target_rpn_match": match, "target_rpn_deltas": deltas}


def _sampled_rois(
    found: parts.RpnOutputs, image: Tensor, meta: Tensor, truth: dict[str, Tensor], config: Config
) -> SampledRois:
    family, shape = config.conventions, _input_shape(config)
    normalized = box_math.normalize(pixel_anchors(config, shape), shape, family.inclusive_frame)
    anchors = Anchors(normalized, name="anchors")(image)
    proposals = parts.build_proposals(found, anchors, meta, config, training=True)
    layer = RoiTargetLayer(
        config.TRAIN_ROIS_PER_IMAGE,
        config.ROI_POSITIVE_RATIO,
        config.MASK_SHAPE,
        config.USE_MINI_MASK,
        list(config.BBOX_STD_DEV),
        inclusive=family.inclusive_frame,
        mask_targets=family.mask_targets,
        name="proposal_targets",
    )
    names = ("input_gt_class_ids", "input_gt_boxes", "input_gt_masks", "input_seed")
    return SampledRois(*layer([proposals, meta, *(truth[name] for name in names)]))


def _ground_truth_inputs(config: Config) -> dict[str, Tensor]:
    objects = config.MAX_GT_INSTANCES
    side = config.MINI_MASK_SHAPE if config.USE_MINI_MASK else config.IMAGE_SHAPE[:2]
    mask_shape = tuple(int(length) for length in side)
    inputs = {
        "input_gt_class_ids": keras.Input((objects,), dtype="int32", name="input_gt_class_ids"),
        "input_gt_boxes": keras.Input((objects, 4), name="input_gt_boxes"),
        "input_gt_masks": keras.Input((objects, *mask_shape), dtype="uint8", name="input_gt_masks"),
        "input_seed": keras.Input((), dtype="int32", name="input_seed"),
    }
    if config.NUM_KEYPOINTS:
        inputs["input_gt_keypoints"] = keras.Input(
            (objects, config.NUM_KEYPOINTS, 3), name="input_gt_keypoints"
        )
    return inputs


@contextmanager
def _precision(policy: str) -> Iterator[None]:
    """Build layers under a dtype policy; geometry layers and losses set float32 themselves."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
