"""The parts of the network, built from the settings."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from keras import layers

from mrcnn.config import Config
from mrcnn.network import backbones, pyramid
from mrcnn.network.backbones import resnet
from mrcnn.network.layers.head_layers import HeadLayers
from mrcnn.network.layers.roi_align import PyramidROIAlign
from mrcnn.network.layers.time_distributed import TimeDistributed
from mrcnn.network.pyramid import Pyramid
from mrcnn.network.roi_heads.box import BoxHead, averaged, fully_connected
from mrcnn.network.roi_heads.keypoint import KeypointHead
from mrcnn.network.roi_heads.mask import MaskHead, convolutions
from mrcnn.network.rpn.head import build_rpn_model
from mrcnn.network.rpn.proposals import LevelProposalLayer, ProposalLayer

Tensor = Any


class RpnOutputs(NamedTuple):
    """RPN predictions for all anchors; `levels`: probabilities and deltas per level."""

    logits: Tensor
    probs: Tensor
    deltas: Tensor
    levels: list[list[Tensor]]


class Heads(NamedTuple):
    """The heads; mask and keypoint heads are optional."""

    boxes: BoxHead
    masks: MaskHead | None
    keypoints: KeypointHead | None


def build_pyramid(image: Tensor, config: Config) -> Pyramid:
    """Return the maps P2..P6 of an image, or only C4."""
    if callable(config.BACKBONE):
        stages = unbound(config.BACKBONE)(image, stage5=True, train_bn=config.TRAIN_BN)
    else:
        stages = backbones.build(
            config.BACKBONE,
            image,
            config.BACKBONE_WIDTH,
            _resnet_options(config),
            last_stage=4 if config.FEATURE_MAPS == "c4" else 5,
        )
    if config.FEATURE_MAPS == "c4":
        return pyramid.single(stages[3], level=4)
    make = _head_layers(config)
    norm = make.batch_norm if make.where == "convolutions" else None
    return pyramid.build(stages[1:], config.TOP_DOWN_PYRAMID_SIZE, norm)


def build_rpn(features: Pyramid, config: Config) -> RpnOutputs:
    """Return the RPN predictions from the maps."""
    head = build_rpn_model(
        config.RPN_ANCHOR_STRIDE,
        len(config.RPN_ANCHOR_RATIOS) * np.size(config.RPN_ANCHOR_SCALES[0]),
        features.channels,
        config.RPN_CONV_SIZE,
        conv_count=config.RPN_CONV_COUNT,
        sigmoid=config.conventions.sigmoid_objectness,
    )
    outputs = list(zip(*(head(level) for level in features.maps), strict=True))
    names = ("rpn_class_logits", "rpn_class", "rpn_bbox")
    logits, probs, deltas = (
        layers.Concatenate(axis=1, name=name, dtype="float32")(list(levels))
        for name, levels in zip(names, outputs, strict=True)
    )
    return RpnOutputs(logits, probs, deltas, [list(levels) for levels in outputs[1:]])


def build_heads(config: Config, features: Pyramid) -> Heads:
    """Return the heads over the maps of a pyramid."""
    of_boxes, of_masks = _trunks(config, features.channels)
    align = functools.partial(_roi_align, config, features)
    boxes = BoxHead(config.NUM_CLASSES, align(config.POOL_SIZE, "roi_align_classifier"), of_boxes)
    masks = keypoints = None
    if config.HAS_MASKS:
        masks = MaskHead(
            1 if config.CLASS_AGNOSTIC_MASKS else config.NUM_CLASSES,
            config.MASK_CONV_SIZE,
            align(config.MASK_POOL_SIZE, "roi_align_mask"),
            of_masks,
            config.MASK_LOSS,
        )
    if config.NUM_KEYPOINTS:
        roi_align = align(config.MASK_POOL_SIZE, "roi_align_keypoint")
        keypoints = KeypointHead(config.NUM_KEYPOINTS, config.KEYPOINT_CONV_SIZE, roi_align)
    return Heads(boxes, masks, keypoints)


def _trunks(config: Config, channels: int) -> tuple[list[layers.Layer], list[layers.Layer]]:
    """Return the layers between RoI features and box predictions, and mask predictions."""
    if config.FEATURE_MAPS == "c4":
        res5 = backbones.build_res5(
            config.BACKBONE,
            channels,
            config.BACKBONE_WIDTH,
            _resnet_options(config),
        )
        shared = TimeDistributed(res5)
        return averaged(shared), [shared]
    make = _head_layers(config)
    of_boxes = fully_connected(
        config.POOL_SIZE, config.FPN_CLASSIF_FC_LAYERS_SIZE, make, config.BOX_CONV_SIZES
    )
    return of_boxes, convolutions(config.MASK_CONV_SIZE, make)


def _roi_align(config: Config, features: Pyramid, size: int, name: str) -> PyramidROIAlign:
    family = config.conventions
    return PyramidROIAlign(
        (size, size),
        form=config.ROI_FEATURES or family.roi_features,
        finest_level=features.finest,
        floors_level=family.floors_level,
        inclusive=family.inclusive_frame,
        name=name,
    )


def build_proposals(
    found: RpnOutputs, anchors: Tensor, image_meta: Tensor, config: Config, *, training: bool
) -> Tensor:
    """Return proposals (B, P, 4), normalized, from anchors (B, N, 4)."""
    family = config.conventions
    limit = config.PRE_NMS_LIMIT
    count = config.POST_NMS_ROIS_INFERENCE
    if training:
        limit, count = config.PRE_NMS_LIMIT_TRAINING or limit, config.POST_NMS_ROIS_TRAINING
    settings = (count, config.RPN_NMS_THRESHOLD, limit, config.RPN_BBOX_STD_DEV)
    if not family.proposals_by_level:
        layer = ProposalLayer(*settings, name="ROI")
        return layer([found.probs, found.deltas, anchors])
    layer = LevelProposalLayer(*settings, largest_log_scale=family.largest_log_scale, name="ROI")
    probs, deltas = found.levels
    return layer([*probs, *deltas, anchors, image_meta])


def _resnet_options(config: Config) -> resnet.Options:
    family = config.conventions
    return resnet.Options(
        family.stride_on_first,
        family.symmetric_padding,
        family.norm_epsilon,
        family.biased_backbone,
        config.TRAIN_BN is not False,
    )


def _head_layers(config: Config) -> HeadLayers:
    family = config.conventions
    return HeadLayers(
        config.HEAD_NORM or family.head_norm, config.TRAIN_BN is not False, family.norm_epsilon
    )


def unbound(setting: Callable) -> Callable:
    """Unwrap a function that became a bound method by being an attribute of a `Config` subclass."""
    return getattr(setting, "__func__", setting)
