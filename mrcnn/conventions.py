"""Conventions: weights are right only under the numerics that they were trained with.

One frozen set for each family of published weights. Settings that a family merely usually has
(sizes, thresholds, counts) are in `mrcnn.presets`; here is what changes the meaning of a weight.
"""

import math
from dataclasses import dataclass

# all: after every convolution and fully connected layer of the heads; none; convolutions: after
# those of pyramid and heads, which then have no biases (torchvision's second versions).
HEAD_NORMS = ("all", "none", "convolutions")
# How the features of a RoI are taken.
#   corners: one sample a bin, the outer ones on the corners of the box (Matterport);
#   aligned: 2 x 2 samples a bin, a cell's value lies at its centre (detectron2);
#   unaligned: the same half a cell further, and boxes are at least a cell wide (torchvision);
#   aligned_max: the largest of those samples instead of their mean (the paper's table 2c);
#   warp, warp_max: mean or largest of 2 x 2 samples, borders rounded to cells (its RoIWarp, Dai
#       et al. 2016);
#   pool: the largest cell of each bin, borders rounded to cells (Fast R-CNN).
ROI_FEATURES = ("corners", "aligned", "unaligned", "aligned_max", "warp", "warp_max", "pool")
# What the sum of the box losses of positive anchors, or RoIs, is divided by.
#   positives: the numbers in it, four a box;
#   sampled: the anchors, or RoIs, that learn, negative ones too;
#   wanted: of anchors, so many as should learn, RPN_TRAIN_ANCHORS_PER_IMAGE per image, by which the
#       sum of their class losses is divided too; of RoIs those that learn.
BOX_LOSS_DIVISORS = ("positives", "sampled", "wanted")
# What the masks of RoIs learn.
#   corners: 0 or 1, sampled from corner to corner of the RoI (Matterport);
#   centres: 0 or 1, sampled at the centres of cells (detectron2);
#   shares: the part of a cell that the object covers, half a pixel off (torchvision).
MASK_TARGETS = ("corners", "centres", "shares")
# What the masks of a RoI are to each other (the paper's table 2b). sigmoid: independent, and the
# one of the true class learns; softmax: the classes, the background too, compete for every cell.
MASK_LOSSES = ("sigmoid", "softmax")


@dataclass(frozen=True)
class Conventions:
    """What a family of weights takes for granted.

    Attributes:
        name: of the family.
        stride_on_first: in a bottleneck that halves the map, the stride is on the first 1x1
            convolution; else on the 3x3.
        symmetric_padding: strided convolutions and pools are padded alike on all sides; else as
            TensorFlow's "same" does, at bottom and right where sides are even.
        norm_epsilon: of batch norm in the backbone and in the heads.
        biased_backbone: convolutions before a batch norm have biases.
        head_norm: where the heads have batch norm, one of HEAD_NORMS.
        sigmoid_objectness: the RPN gives one number per anchor, through a sigmoid; else two,
            through a softmax.
        inclusive_frame: normalized boxes are (box - [0, 0, 1, 1]) / (side - 1); else box / side.
        whole_anchors: the corners of a cell's anchors are rounded to pixels, and the stride of a
            level is the input's side divided by the number of cells, the rest dropped.
        largest_log_scale: of deltas, by which a side may grow.
        proposals_by_level: the best anchors are chosen, and suppressed, in each level by itself,
            and cut at the image; else over all levels together, and cut at the input.
        roi_features: how features of a RoI are taken, one of ROI_FEATURES.
        floors_level: the pyramid level of a RoI is floored as in the paper; else rounded.
        every_class: a RoI may become a detection of every class; else of its best one.
        paste: how masks are stretched over their boxes, one of `pasting.PASTES`.
        box_loss_beta: where the smooth L1 of deltas turns from a parabola to a line; 0 for L1.
        box_loss_divisor: what its sum is divided by, one of BOX_LOSS_DIVISORS.
        mask_targets: what the masks of RoIs learn, one of MASK_TARGETS.
        pads_at_end: the input around an image is padded after the mean pixel is subtracted; else
            with black. (Where the image lies is a matter of the resize mode.)
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
