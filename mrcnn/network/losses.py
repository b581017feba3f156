"""The losses of a batch: those of the RPN and of the network's heads."""

from collections.abc import Callable
from typing import Any, NamedTuple

from keras import ops

from mrcnn.network.ops import reductions
from mrcnn.network.roi_heads import box as box_head
from mrcnn.network.roi_heads import keypoint as keypoint_head
from mrcnn.network.roi_heads import mask as mask_head
from mrcnn.network.rpn import losses as rpn_losses

Tensor = Any


class Forms(NamedTuple):
    """Loss variants of weight families, and of the paper's tables.

    Attributes:
        box_beta, box_divisor: See `conventions.Conventions`.
        anchors_per_image: RPN_TRAIN_ANCHORS_PER_IMAGE.
        masks: One of `conventions.MASK_LOSSES`.
    """

    box_beta: float = 1.0
    box_divisor: str = "positives"
    anchors_per_image: int = 256
    masks: str = "sigmoid"


OF_MATTERPORT = Forms()


def compute_losses(
    batch: dict[str, Tensor],
    outputs: dict[str, Tensor],
    across_replicas: Callable[[Tensor], Tensor] = reductions.on_one_device,
    forms: Forms = OF_MATTERPORT,
) -> dict[str, Tensor]:
    """Return the losses of a batch as unweighted float32 scalars, by Matterport's names.

    Args:
        batch: The inputs of the training graph; `outputs`: its outputs.
        across_replicas: Sums over the replicas of a distributed step; each replica then returns
            its share of the global batch's loss.
        forms: The loss variants.
    """
    match = outputs["target_rpn_match"]
    class_ids = outputs["target_class_ids"]
    active = batch["input_image_meta"][:, 12:]
    weights = outputs["target_weights"]
    wanted = forms.anchors_per_image if forms.box_divisor == "wanted" else None
    found = {
        "rpn_class_loss": rpn_losses.class_loss(
            match, outputs["rpn_class_logits"], across_replicas, wanted
        ),
        "rpn_bbox_loss": rpn_losses.box_loss(
            outputs["target_rpn_deltas"],
            match,
            outputs["rpn_bbox"],
            across_replicas,
            beta=forms.box_beta,
            divisor=forms.box_divisor,
            anchors_per_image=wanted,
        ),
        "mrcnn_class_loss": box_head.class_loss(
            class_ids,
            outputs["mrcnn_class_logits"],
            active,
            weights,
            across_replicas,
        ),
        "mrcnn_bbox_loss": box_head.box_loss(
            outputs["target_deltas"],
            class_ids,
            outputs["mrcnn_bbox"],
            across_replicas,
            None if forms.box_divisor == "positives" else weights,
            forms.box_beta,
        ),
    }
    if "mrcnn_mask_logits" in outputs:
        masks = outputs["target_masks"]
        found["mrcnn_mask_loss"] = mask_head.mask_loss(
            masks,
            class_ids[:, : ops.shape(masks)[1]],
            outputs["mrcnn_mask_logits"],
            across_replicas,
            forms.masks,
        )
    if "mrcnn_keypoint" in outputs:
        found["mrcnn_keypoint_loss"] = keypoint_head.keypoint_loss(
            outputs["target_keypoint_cells"],
            outputs["target_keypoint_weights"],
            outputs["mrcnn_keypoint"],
            across_replicas,
        )
    return found
