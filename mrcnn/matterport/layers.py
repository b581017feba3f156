"""Matterport's layers and symbolic building blocks, with its signatures.

Layers take `config` here, where those of `mrcnn.network` take numbers. Functions that end in
`graph` and take boxes of one image have no batch axis, as in the original.
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, ops

from mrcnn.config import Config
from mrcnn.geometry import boxes as box_math
from mrcnn.network import backbones
from mrcnn.network.backbones import resnet
from mrcnn.network.layers.geometry_layer import GeometryLayer
from mrcnn.network.layers.head_layers import HeadLayers
from mrcnn.network.layers.norm import BatchNorm
from mrcnn.network.layers.roi_align import PyramidROIAlign
from mrcnn.network.roi_heads import box as box_head
from mrcnn.network.roi_heads import mask as mask_head
from mrcnn.network.roi_heads import sampling
from mrcnn.network.rpn import head as rpn_head
from mrcnn.network.rpn import proposals

Tensor = Any
__all__ = ["BatchNorm", "PyramidROIAlign"]


def identity_block(
    input_tensor: Tensor,
    kernel_size: int,
    filters: Sequence[int],
    stage: int,
    block: str,
    use_bias: bool = True,
    train_bn: bool | None = True,
) -> Tensor:
    """Return a bottleneck whose shortcut is its input: (B, H, W, C) -> (B, H, W, C)."""
    options = resnet.Options(use_bias=use_bias, train_bn=train_bn is not False)
    features = _branch(input_tensor, kernel_size, filters, _names(stage, block), options=options)
    return _joined(features, input_tensor, stage, block)


def conv_block(
    input_tensor: Tensor,
    kernel_size: int,
    filters: Sequence[int],
    stage: int,
    block: str,
    strides: int | Sequence[int] = (2, 2),
    use_bias: bool = True,
    train_bn: bool | None = True,
) -> Tensor:
    """Return a bottleneck with a projected shortcut: (B, H, W, C) -> (B, H', W', filters[2])."""
    step = strides if isinstance(strides, int) else int(strides[0])
    options = resnet.Options(use_bias=use_bias, train_bn=train_bn is not False)
    names = _names(stage, block)
    features = _branch(input_tensor, kernel_size, filters, names, step, options=options)
    shortcut = resnet.conv_norm(
        input_tensor, filters[2], 1, names[3], strides=step, options=options
    )
    return _joined(features, shortcut, stage, block)


def resnet_graph(
    input_image: Tensor, architecture: str, stage5: bool = False, train_bn: bool | None = True
) -> list[Tensor]:
    """Return [C1, C2, C3, C4, C5] of a ResNet; C5 is None without stage5.

    Raises:
        ValueError: For an architecture that is not in `backbones.BACKBONES`.
    """
    stages = backbones.build(
        architecture,
        input_image,
        64,
        resnet.Options(train_bn=train_bn is not False),
        last_stage=5 if stage5 else 4,
    )
    return [*stages, None][:5]


def build_rpn_model(anchor_stride: int, anchors_per_location: int, depth: int) -> keras.Model:
    """Return the RPN's head as a model; see `mrcnn.network.rpn.head`."""
    return rpn_head.build_rpn_model(anchor_stride, anchors_per_location, depth)


def rpn_graph(feature_map: Tensor, anchors_per_location: int, anchor_stride: int) -> list[Tensor]:
    """Return the RPN's logits (B, N, 2), probabilities and deltas (B, N, 4) of one level."""
    depth = feature_map.shape[-1]
    return list(rpn_head.build_rpn_model(anchor_stride, anchors_per_location, depth)(feature_map))


def fpn_classifier_graph(
    rois: Tensor,
    feature_maps: Sequence[Tensor],
    image_meta: Tensor,
    pool_size: int,
    num_classes: int,
    train_bn: bool | None = True,
    fc_layers_size: int = 1024,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits, probabilities (B, N, K) and deltas (B, N, K, 4) of rois (B, N, 4)."""
    roi_align = PyramidROIAlign((pool_size, pool_size), name="roi_align_classifier")
    norms = HeadLayers(train_bn=train_bn is not False)
    trunk = box_head.fully_connected(pool_size, fc_layers_size, norms)
    head = box_head.BoxHead(num_classes, roi_align, trunk)
    return head(rois, image_meta, feature_maps)


def build_fpn_mask_graph(
    rois: Tensor,
    feature_maps: Sequence[Tensor],
    image_meta: Tensor,
    pool_size: int,
    num_classes: int,
    train_bn: bool | None = True,
) -> Tensor:
    """Return the mask probabilities of rois: (B, N, 4) -> (B, N, 2 * pool, 2 * pool, K)."""
    roi_align = PyramidROIAlign((pool_size, pool_size), name="roi_align_mask")
    trunk = mask_head.convolutions(256, HeadLayers(train_bn=train_bn is not False))
    head = mask_head.MaskHead(num_classes, 256, roi_align, trunk)
    return head(rois, image_meta, feature_maps)


def ProposalLayer(  # noqa: N802 (Matterport's name)
    proposal_count: int, nms_threshold: float, config: Config | None = None, **kwargs: Any
) -> proposals.ProposalLayer:
    """Return the layer [rpn_probs, rpn_bbox, anchors] -> proposals (B, proposal_count, 4)."""
    settings = config or Config()
    return proposals.ProposalLayer(
        proposal_count, nms_threshold, settings.PRE_NMS_LIMIT, settings.RPN_BBOX_STD_DEV, **kwargs
    )


def DetectionLayer(config: Config | None = None, **kwargs: Any) -> box_head.DetectionLayer:  # noqa: N802
    """Return the layer [rois, mrcnn_class, mrcnn_bbox, image_meta] -> detections (B, D, 6)."""
    settings = config or Config()
    return box_head.DetectionLayer(
        settings.DETECTION_MAX_INSTANCES,
        settings.DETECTION_MIN_CONFIDENCE,
        settings.DETECTION_NMS_THRESHOLD,
        settings.BBOX_STD_DEV,
        settings.DETECTION_EVERY_CLASS,
        **kwargs,
    )


class DetectionTargetLayer(GeometryLayer):
    """RoIs to learn from, with their targets; each call draws anew.

    Called on [proposals (B, P, 4), gt_class_ids (B, G), gt_boxes (B, G, 4), gt_masks
    (B, h, w, G)], boxes normalized. Returns rois (B, R, 4), class ids (B, R) int32, deltas
    (B, R, 4) and masks (B, R, h, w), padded with zeros.
    """

    def __init__(self, config: Config, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = config
        self.seeds = keras.random.SeedGenerator(config.SEED)

    def call(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        """Sample and match; see the class."""
        proposals, gt_class_ids, gt_boxes, gt_masks = inputs
        settings = self.config
        targets = sampling.RoiTargetLayer(
            settings.TRAIN_ROIS_PER_IMAGE,
            settings.ROI_POSITIVE_RATIO,
            settings.MASK_SHAPE,
            settings.USE_MINI_MASK,
            list(settings.BBOX_STD_DEV),
        )
        seeds = keras.random.randint(ops.shape(gt_class_ids)[:1], 0, 2**31 - 1, seed=self.seeds)
        planes = ops.transpose(gt_masks, (0, 3, 1, 2))
        rois, class_ids, deltas, masks, *_ = targets.of_normalized(
            proposals, gt_class_ids, gt_boxes, planes, seeds
        )
        missing = settings.TRAIN_ROIS_PER_IMAGE - masks.shape[1]
        masks = ops.pad(masks, [[0, 0], [0, missing], [0, 0], [0, 0]])
        is_positive = ops.cast(class_ids > 0, "float32")
        return [
            rois,
            class_ids,
            deltas * is_positive[..., None],
            masks * is_positive[..., None, None],
        ]

    def compute_output_spec(self, inputs: Sequence[Tensor]) -> list[keras.KerasTensor]:
        """Return shapes and dtypes of the outputs."""
        rows = (inputs[0].shape[0], self.config.TRAIN_ROIS_PER_IMAGE)
        masks = (*rows, *self.config.MASK_SHAPE)
        return [
            keras.KerasTensor((*rows, 4), "float32"),
            keras.KerasTensor(rows, "int32"),
            keras.KerasTensor((*rows, 4), "float32"),
            keras.KerasTensor(masks, "float32"),
        ]


def detection_targets_graph(
    proposals: Tensor, gt_class_ids: Tensor, gt_boxes: Tensor, gt_masks: Tensor, config: Config
) -> tuple[Tensor, ...]:
    """Return what `DetectionTargetLayer` does, of one image: inputs and outputs without batch."""
    layer = DetectionTargetLayer(config)
    batch = [ops.convert_to_tensor(x)[None] for x in (proposals, gt_class_ids, gt_boxes, gt_masks)]
    return tuple(tensor[0] for tensor in layer(batch))


def refine_detections_graph(
    rois: Tensor, probs: Tensor, deltas: Tensor, window: Tensor, config: Config
) -> Tensor:
    """Return the detections of one image: (D, 6) of y1, x1, y2, x2, class id, score, normalized.

    Args:
        rois: (P, 4) normalized; probs: (P, K); deltas: (P, K, 4).
        window: (4,) normalized.
    """
    batch = [ops.convert_to_tensor(x, "float32")[None] for x in (rois, probs, deltas, window)]
    return DetectionLayer(config).detections(*batch)[0]


def apply_box_deltas_graph(boxes: Tensor, deltas: Tensor) -> Tensor:
    """Return boxes refined by deltas: (N, 4), (N, 4) -> (N, 4)."""
    return box_math.decode(boxes, deltas, ops)


def clip_boxes_graph(boxes: Tensor, window: Tensor) -> Tensor:
    """Return boxes cut at a window: (N, 4), (4,) -> (N, 4)."""
    return box_math.clip(boxes, window, ops)


def overlaps_graph(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """Return the IoU of all pairs: (N, 4), (M, 4) -> (N, M)."""
    return box_math.iou(boxes1, boxes2, ops)


def _branch(
    features: Tensor,
    size: int,
    filters: Sequence[int],
    names: Sequence[tuple[str, str]],
    strides: int = 1,
    options: resnet.Options = resnet.DEFAULTS,
) -> Tensor:
    """Return the three convolutions of a bottleneck, before the sum."""
    features = resnet.conv_norm(features, filters[0], 1, names[0], strides=strides, options=options)
    features = layers.ReLU()(features)
    features = resnet.conv_norm(features, filters[1], size, names[1], options=options)
    features = layers.ReLU()(features)
    return resnet.conv_norm(features, filters[2], 1, names[2], options=options)


def _joined(features: Tensor, shortcut: Tensor, stage: int, block: str) -> Tensor:
    return layers.ReLU(name=f"res{stage}{block}_out")(layers.Add()([features, shortcut]))


def _names(stage: int, block: str) -> list[tuple[str, str]]:
    """Return the names of convolution and norm of the three branches and the shortcut."""
    branches = ("2a", "2b", "2c", "1")
    return [
        (f"res{stage}{block}_branch{name}", f"bn{stage}{block}_branch{name}") for name in branches
    ]
