"""The whole network: one set of layers under a training graph and an inference graph.

*(Mask R-CNN, He et al. 2017)*. The only file of this room that reads `Config`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers

from mrcnn.config import Config
from mrcnn.geometry import anchors as anchor_grid
from mrcnn.geometry import boxes as box_math
from mrcnn.network import backbone, backend_ops, host_weights, pyramid, rpn
from mrcnn.network import box_head as boxes_stage
from mrcnn.network import keypoint_head as keypoints_stage
from mrcnn.network import mask_head as masks_stage
from mrcnn.network.detection_targets import DetectionTargetLayer
from mrcnn.network.fixed_size import Anchors, KeypointTargetLayer, RpnTargetLayer
from mrcnn.network.norms import Norms
from mrcnn.network.roi_align import PyramidROIAlign, TimeDistributed

Tensor = Any


class Network(NamedTuple):
    """Two models over the same layers.

    training: inputs and outputs as dicts; `losses` turns a batch and the outputs into losses.
    inference: [images, image_meta, anchors] -> [detections, class probabilities, deltas, masks,
        proposals, RPN probabilities, RPN deltas], Matterport's order; keypoints follow, and masks
        are left out, where the settings say so.
    """

    training_inputs: dict[str, Tensor]
    training_outputs: dict[str, Tensor]
    inference: keras.Model


def build(config: Config) -> Network:
    """Return the network that the settings describe, with new weights.

    Raises:
        ValueError: For settings that cannot work; see `Config.check`.
    """
    config.check()
    initial = host_weights.drawn_on_host() if backend_ops.COMPILES_EVERY_SIZE else nullcontext()
    with initial, _precision(config.PRECISION):
        image = keras.Input((None, None, config.IMAGE_CHANNEL_COUNT), name="input_image")
        image_meta = keras.Input((config.IMAGE_META_SIZE,), name="input_image_meta")
        maps, rpn_outputs = _first_stage(image, config)
        heads = _heads(config, maps[0].shape[-1])
        inference = _inference(image, image_meta, maps, rpn_outputs, heads, config)
        inputs, outputs = _training(image, image_meta, maps, rpn_outputs, heads, config)
    return Network(inputs, outputs, inference)


def pixel_anchors(config: Config, input_shape: tuple[int, int]) -> np.ndarray:
    """Return the anchors for an input of this height and width, in its pixels: (N, 4) float64."""
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
    """Return the height and width of each pyramid level for an input, cells."""
    if callable(config.BACKBONE) and config.COMPUTE_BACKBONE_SHAPE is not None:
        grids = _function(config.COMPUTE_BACKBONE_SHAPE)(input_shape)
        return [(int(height), int(width)) for height, width in grids]
    return anchor_grid.level_grids(
        (int(input_shape[0]), int(input_shape[1])), config.BACKBONE_STRIDES
    )


class RpnOutputs(NamedTuple):
    """What the RPN says of all anchors; `levels` holds probabilities and deltas of each level."""

    logits: Tensor
    probs: Tensor
    deltas: Tensor
    levels: list[list[Tensor]]


def _first_stage(image: Tensor, config: Config) -> tuple[list[Tensor], RpnOutputs]:
    """Return the maps P2..P6, or C4, and what the RPN says of them."""
    maps = _maps(image, config)
    head = rpn.build_rpn_model(
        config.RPN_ANCHOR_STRIDE,
        len(config.RPN_ANCHOR_RATIOS) * np.size(config.RPN_ANCHOR_SCALES[0]),
        maps[0].shape[-1],
        config.RPN_CONV_SIZE,
        conv_count=config.RPN_CONV_COUNT,
        sigmoid=config.conventions.sigmoid_objectness,
    )
    outputs = list(zip(*(head(features) for features in maps), strict=True))
    names = ("rpn_class_logits", "rpn_class", "rpn_bbox")
    logits, probs, deltas = (
        layers.Concatenate(axis=1, name=name, dtype="float32")(list(levels))
        for name, levels in zip(names, outputs, strict=True)
    )
    return maps, RpnOutputs(logits, probs, deltas, [list(levels) for levels in outputs[1:]])


def _maps(image: Tensor, config: Config) -> list[Tensor]:
    if callable(config.BACKBONE):
        stages = _function(config.BACKBONE)(image, stage5=True, train_bn=config.TRAIN_BN)
    else:
        stages = backbone.build(
            config.BACKBONE,
            image,
            config.BACKBONE_WIDTH,
            config.TRAIN_BN is not False,
            style=_style(config),
            last_stage=4 if config.FEATURE_MAPS == "c4" else 5,
        )
    if config.FEATURE_MAPS == "c4":
        return stages[3:]
    norms = _norms(config)
    norm = norms.batch_norm if norms.where == "convolutions" else None
    return pyramid.build(stages[1:], config.TOP_DOWN_PYRAMID_SIZE, norm)


def _style(config: Config) -> backbone.Style:
    family = config.conventions
    return backbone.Style(
        family.stride_on_first, family.pads_evenly, family.norm_epsilon, family.biased_backbone
    )


def _norms(config: Config) -> Norms:
    family = config.conventions
    return Norms(
        config.HEAD_NORM or family.head_norm, config.TRAIN_BN is not False, family.norm_epsilon
    )


def _function(setting: Callable) -> Callable:
    # A plain function among class attributes has become a method; take it back.
    return getattr(setting, "__func__", setting)


class Heads(NamedTuple):
    """The heads; those of masks and of keypoints where there are any."""

    boxes: boxes_stage.BoxHead
    masks: masks_stage.MaskHead | None
    keypoints: keypoints_stage.KeypointHead | None


def _heads(config: Config, channels: int) -> Heads:
    """Return the heads over maps of so many channels."""
    of_boxes, of_masks = _trunks(config, channels)
    roi_align = _roi_align(config, config.POOL_SIZE, "roi_align_classifier")
    boxes = boxes_stage.BoxHead(config.NUM_CLASSES, roi_align, of_boxes)
    masks = keypoints = None
    if config.HAS_MASKS:
        masks = masks_stage.MaskHead(
            1 if config.CLASS_AGNOSTIC_MASKS else config.NUM_CLASSES,
            config.MASK_CONV_SIZE,
            _roi_align(config, config.MASK_POOL_SIZE, "roi_align_mask"),
            of_masks,
            config.MASK_LOSS,
        )
    if config.NUM_KEYPOINTS:
        roi_align = _roi_align(config, config.MASK_POOL_SIZE, "roi_align_keypoint")
        keypoints = keypoints_stage.KeypointHead(
            config.NUM_KEYPOINTS, config.KEYPOINT_CONV_SIZE, roi_align
        )
    return Heads(boxes, masks, keypoints)


def _trunks(config: Config, channels: int) -> tuple[list[layers.Layer], list[layers.Layer]]:
    """Return the layers between the features of rois and the outputs of boxes, and of masks."""
    if config.FEATURE_MAPS == "c4":
        res5 = backbone.build_res5(
            config.BACKBONE,
            channels,
            config.BACKBONE_WIDTH,
            config.TRAIN_BN is not False,
            style=_style(config),
        )
        shared = TimeDistributed(res5)
        return boxes_stage.averaged(shared), [shared]
    norms = _norms(config)
    of_boxes = boxes_stage.fully_connected(
        config.POOL_SIZE, config.FPN_CLASSIF_FC_LAYERS_SIZE, norms, config.BOX_CONV_SIZES
    )
    return of_boxes, masks_stage.convolutions(config.MASK_CONV_SIZE, norms)


def _roi_align(config: Config, size: int, name: str) -> PyramidROIAlign:
    family = config.conventions
    form = config.ROI_FEATURES or family.roi_features
    return PyramidROIAlign(
        (size, size),
        form=form,
        floors_level=family.floors_level,
        inclusive=family.inclusive_frame,
        name=name,
    )


def _proposals(
    rpn_outputs: RpnOutputs, anchors: Tensor, image_meta: Tensor, config: Config, *, training: bool
) -> Tensor:
    family = config.conventions
    limit = config.PRE_NMS_LIMIT
    count = config.POST_NMS_ROIS_INFERENCE
    if training:
        limit, count = config.PRE_NMS_LIMIT_TRAINING or limit, config.POST_NMS_ROIS_TRAINING
    settings = (count, config.RPN_NMS_THRESHOLD, limit, config.RPN_BBOX_STD_DEV)
    if not family.proposals_by_level:
        layer = rpn.ProposalLayer(*settings, name="ROI")
        return layer([rpn_outputs.probs, rpn_outputs.deltas, anchors])
    layer = rpn.LevelProposalLayer(
        *settings, largest_log_scale=family.largest_log_scale, name="ROI"
    )
    probs, deltas = rpn_outputs.levels
    return layer([*probs, *deltas, anchors, image_meta])


def _inference(
    image: Tensor,
    image_meta: Tensor,
    maps: list[Tensor],
    rpn_outputs: RpnOutputs,
    heads: Heads,
    config: Config,
) -> keras.Model:
    family = config.conventions
    anchors = keras.Input((None, 4), name="input_anchors")
    rois = _proposals(rpn_outputs, anchors, image_meta, config, training=False)
    _, probs, deltas = heads.boxes(rois, image_meta, maps[:4])
    detections = boxes_stage.DetectionLayer(
        max_detections=config.DETECTION_MAX_INSTANCES,
        min_confidence=config.DETECTION_MIN_CONFIDENCE,
        nms_threshold=config.DETECTION_NMS_THRESHOLD,
        std_dev=config.BBOX_STD_DEV,
        every_class=config.DETECTION_EVERY_CLASS or family.every_class,
        largest_log_scale=family.largest_log_scale,
        inclusive=family.inclusive_frame,
        name="mrcnn_detection",
    )([rois, probs, deltas, image_meta])
    found = masks_stage.TrimDetections(name="trim_detections")(detections)
    of_rois = {
        name: masks_stage.PadMasks(config.DETECTION_MAX_INSTANCES, name=f"pad_{name}")(
            head(found, image_meta, maps[:4])
        )
        for name, head in (("masks", heads.masks), ("keypoints", heads.keypoints))
        if head is not None
    }
    masks = [of_rois[name] for name in ("masks",) if name in of_rois]
    keypoints = [of_rois[name] for name in ("keypoints",) if name in of_rois]
    rpn_found = [rpn_outputs.probs, rpn_outputs.deltas]
    return keras.Model(
        [image, image_meta, anchors],
        [detections, probs, deltas, *masks, rois, *rpn_found, *keypoints],
        name="mask_rcnn",
    )


def _training(
    image: Tensor,
    image_meta: Tensor,
    maps: list[Tensor],
    rpn_outputs: RpnOutputs,
    heads: Heads,
    config: Config,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    truth = _ground_truth_inputs(config)
    gt_class_ids, gt_boxes, gt_masks, seeds, *gt_keypoints = truth.values()
    inclusive = config.conventions.inclusive_frame
    shape = (int(config.IMAGE_SHAPE[0]), int(config.IMAGE_SHAPE[1]))
    pixels = pixel_anchors(config, shape)
    match, rpn_deltas = RpnTargetLayer(
        pixels, config.RPN_TRAIN_ANCHORS_PER_IMAGE, config.RPN_BBOX_STD_DEV, name="rpn_targets"
    )([gt_class_ids, gt_boxes, seeds])

    anchors = Anchors(box_math.normalize(pixels, shape, inclusive), name="anchors")(image)
    proposals = _proposals(rpn_outputs, anchors, image_meta, config, training=True)
    rois, roi_class_ids, deltas, masks, weights, matched = DetectionTargetLayer(
        config.TRAIN_ROIS_PER_IMAGE,
        config.ROI_POSITIVE_RATIO,
        config.MASK_SHAPE,
        config.USE_MINI_MASK,
        list(config.BBOX_STD_DEV),
        inclusive=inclusive,
        mask_targets=config.conventions.mask_targets,
        name="proposal_targets",
    )([proposals, image_meta, gt_class_ids, gt_boxes, gt_masks, seeds])
    has_norms = config.TRAIN_BN is not False
    class_logits, _, bbox = heads.boxes(rois, image_meta, maps[:4], weights if has_norms else None)
    # The dearest heads run on positive rois alone, which come first.
    most = masks.shape[1]
    positives, class_ids, masks, matched = masks_stage.TrimPositives(name="positive_rois")(
        [roi_class_ids, rois[:, :most], roi_class_ids[:, :most], masks, matched]
    )

    outputs = {
        "rpn_class_logits": rpn_outputs.logits,
        "rpn_bbox": rpn_outputs.deltas,
        "mrcnn_class_logits": class_logits,
        "mrcnn_bbox": bbox,
        "target_rpn_match": match,
        "target_rpn_deltas": rpn_deltas,
        "target_class_ids": roi_class_ids,
        "target_deltas": deltas,
        "target_weights": weights,
    }
    if heads.masks:
        outputs["target_masks"] = masks
        outputs["mrcnn_mask_logits"] = heads.masks(
            positives, image_meta, maps[:4], class_ids if has_norms else None, as_logits=True
        )
    if heads.keypoints:
        outputs["mrcnn_keypoint"] = heads.keypoints(positives, image_meta, maps[:4])
        cells = KeypointTargetLayer(outputs["mrcnn_keypoint"].shape[2], inclusive)(
            [positives, class_ids, image_meta, matched, *gt_keypoints]
        )
        outputs["target_keypoint_cells"], outputs["target_keypoint_weights"] = cells
    return {"input_image": image, "input_image_meta": image_meta, **truth}, outputs


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
    """Build layers under a dtype policy; layers of geometry and losses name float32 themselves."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
