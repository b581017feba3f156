"""Conventions: weights are valid only under the numerics that they were trained with.

One frozen set per family of published weights: whatever changes the meaning of a weight. Settings
that merely tend to accompany a family (sizes, thresholds, counts) are in `mrcnn.presets`.
"""

import math
from dataclasses import dataclass

# Batch norm in the heads. all: after every convolution and fully connected layer; none;
# convolutions: after those of pyramid and heads, which then have no biases (torchvision's v2).
HEAD_NORMS = ("all", "none", "convolutions")
# RoI feature extraction.
#   corners: one sample per bin, the outer ones at the corners of the box (Matterport);
#   aligned: mean of 2 x 2 samples per bin, a cell's value is at its centre (detectron2);
#   unaligned: the same, shifted by half a cell, boxes at least a cell wide (torchvision);
#   aligned_max: maximum instead of mean of the aligned samples (the paper's table 2c);
#   warp, warp_max: mean or maximum of 2 x 2 samples, box borders rounded to cells (the paper's
#       RoIWarp, Dai et al. 2016);
#   pool: max pooling of each bin's cells, box borders rounded to cells (Fast R-CNN).
ROI_FEATURES = ("corners", "aligned", "unaligned", "aligned_max", "warp", "warp_max", "pool")
# Divisor of the summed box loss of positive anchors, or RoIs.
#   positives: the number of terms, four per box;
#   sampled: the number of sampled anchors, or RoIs, including negatives;
#   wanted: for anchors, RPN_TRAIN_ANCHORS_PER_IMAGE per image, which also divides their summed
#       class loss; for RoIs, the number of sampled ones.
BOX_LOSS_DIVISORS = ("positives", "sampled", "wanted")
# Mask targets of RoIs.
#   corners: 0 or 1, sampled from corner to corner of the RoI (Matterport);
#   centres: 0 or 1, sampled at cell centres (detectron2);
#   shares: the fraction of a cell that the object covers, half a pixel off (torchvision).
MASK_TARGETS = ("corners", "centres", "shares")
# Mask loss (the paper's table 2b). sigmoid: the masks of a RoI are independent, and only that of
# the true class is trained; softmax: the classes, including background, compete in every cell.
MASK_LOSSES = ("sigmoid", "softmax")


@dataclass(frozen=True)
class Conventions:
    """The numerics that a family of weights assumes.

    Attributes:
        name: of the family.
        stride_on_first: a downsampling bottleneck has its stride on the first 1x1 convolution;
            else on the 3x3.
        symmetric_padding: strided convolutions and pools are padded equally on all sides; else
            like TensorFlow's "same", at bottom and right for even sides.
        norm_epsilon: epsilon of batch norm in the backbone and the heads.
        biased_backbone: convolutions before a batch norm have biases.
        head_norm: where the heads have batch norm, one of HEAD_NORMS.
        sigmoid_objectness: the RPN predicts one sigmoid logit per anchor; else two softmax logits.
        inclusive_frame: normalized boxes are (box - [0, 0, 1, 1]) / (side - 1); else box / side.
        whole_anchors: the corners of a cell's anchors are rounded to pixels, and the stride of a
            level is the input side divided by the number of cells, rounded down.
        largest_log_scale: upper limit of the height and width deltas.
        proposals_by_level: top-k and NMS run per level, and proposals are clipped to the image;
            else over all levels together, clipped to the input.
        roi_features: RoI feature extraction, one of ROI_FEATURES.
        floors_level: the pyramid level of a RoI is floored as in the paper; else rounded.
        every_class: a RoI may yield one detection per class; else only its best class.
        paste: how masks are resized to their boxes, one of `pasting.PASTES`.
        box_loss_beta: where the smooth L1 loss turns from quadratic to linear; 0 for L1.
        box_loss_divisor: divisor of the summed box loss, one of BOX_LOSS_DIVISORS.
        mask_targets: mask targets of RoIs, one of MASK_TARGETS.
        pads_at_end: the input is padded after the mean pixel is subtracted; else with black
            before. (The resize mode determines where the image lies.)
    """

    name: str
    stride_on_first: bool
    symmetric_padding: bool
    norm_epsilon: float
    biased_backbone: bool
    head_norm: str
    sigmoid_objectness: bool
    inclusive_frame: bool
    whole_anchors: bool
    largest_log_scale: float
    proposals_by_level: bool
    roi_features: str
    floors_level: bool
    every_class: bool
    paste: str
    box_loss_beta: float
    box_loss_divisor: str
    mask_targets: str
    pads_at_end: bool


MATTERPORT = Conventions(
    name="matterport",
    stride_on_first=True,
    symmetric_padding=False,
    norm_epsilon=1e-3,
    biased_backbone=True,
    head_norm="all",
    sigmoid_objectness=False,
    inclusive_frame=True,
    whole_anchors=False,
    largest_log_scale=20.0,
    proposals_by_level=False,
    roi_features="corners",
    floors_level=False,
    every_class=False,
    paste="whole",
    box_loss_beta=1.0,
    box_loss_divisor="positives",
    mask_targets="corners",
    pads_at_end=False,
)
TORCHVISION = Conventions(
    name="torchvision",
    stride_on_first=False,
    symmetric_padding=True,
    norm_epsilon=1e-5,
    biased_backbone=False,
    head_norm="none",
    sigmoid_objectness=True,
    inclusive_frame=False,
    whole_anchors=True,
    largest_log_scale=math.log(1000 / 16),
    proposals_by_level=True,
    roi_features="unaligned",
    floors_level=True,
    every_class=True,
    paste="padded",
    box_loss_beta=1 / 9,
    box_loss_divisor="sampled",
    mask_targets="shares",
    pads_at_end=True,
)
DETECTRON2 = Conventions(
    name="detectron2",
    stride_on_first=True,
    symmetric_padding=True,
    norm_epsilon=1e-5,
    biased_backbone=False,
    head_norm="none",
    sigmoid_objectness=True,
    inclusive_frame=False,
    whole_anchors=False,
    largest_log_scale=math.log(1000 / 16),
    proposals_by_level=True,
    roi_features="aligned",
    floors_level=True,
    every_class=True,
    paste="centres",
    box_loss_beta=0.0,
    box_loss_divisor="wanted",
    mask_targets="centres",
    pads_at_end=True,
)
FAMILIES = {family.name: family for family in (MATTERPORT, TORCHVISION, DETECTRON2)}
