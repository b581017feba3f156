"""The losses of a batch: those of the RPN and of the heads that a network has."""

from collections.abc import Callable
from typing import Any

from keras import ops

from mrcnn.network import box_head, keypoint_head, mask_head, matching, rpn

Tensor = Any


def of_batch(
    batch: dict[str, Tensor],
    outputs: dict[str, Tensor],
    across_replicas: Callable[[Tensor], Tensor] = matching.on_one_device,
    mask_loss: str = "sigmoid",
) -> dict[str, Tensor]:
    """Return the losses of a batch, unweighted float32 scalars, by Matterport's names.

    Args:
        batch: The inputs of the training graph; `outputs` what it made of them.
        across_replicas: Sums over the replicas of a distributed step; each replica then returns
            its share of the loss of the global batch.
        mask_loss: One of `conventions.MASK_LOSSES`.
    """
    match = outputs["target_rpn_match"]
    class_ids = outputs["target_class_ids"]
    active = batch["input_image_meta"][:, 12:]
    found = {
        "rpn_class_loss": rpn.class_loss(match, outputs["rpn_class_logits"], across_replicas),
        "rpn_bbox_loss": rpn.box_loss(
            outputs["target_rpn_deltas"], match, outputs["rpn_bbox"], across_replicas
        ),
        "mrcnn_class_loss": box_head.class_loss(
            class_ids,
            outputs["mrcnn_class_logits"],
            active,
            outputs["target_weights"],
            across_replicas,
        ),
        "mrcnn_bbox_loss": box_head.box_loss(
            outputs["target_deltas"], class_ids, outputs["mrcnn_bbox"], across_replicas
        ),
    }
    if "mrcnn_mask" in outputs:
        masks = outputs["target_masks"]
        found["mrcnn_mask_loss"] = mask_head.mask_loss(
            masks,
            class_ids[:, : ops.shape(masks)[1]],
            outputs["mrcnn_mask"],
            across_replicas,
            mask_loss,
        )
    if "mrcnn_keypoint" in outputs:
        found["mrcnn_keypoint_loss"] = keypoint_head.keypoint_loss(
            outputs["target_keypoint_cells"],
            outputs["target_keypoint_weights"],
            outputs["mrcnn_keypoint"],
            across_replicas,
        )
    return found
