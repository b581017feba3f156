"""The intermediate steps between the RPN and its proposals, for inspection."""

import keras
from keras import ops

from mrcnn.network.layers.geometry_layer import GeometryLayer
from mrcnn.network.ops import backend
from mrcnn.network.rpn import proposals


@keras.saving.register_keras_serializable("mrcnn")
class ProposalTrace(GeometryLayer):
    """The steps of a `ProposalLayer`, by name; called on the same inputs.

    pre_nms_anchors, refined_anchors, refined_anchors_clipped: (B, n, 4) normalized, highest score
    first (per level, if proposals are selected per level). kept: (p,) int32, which of them NMS
    keeps in the first image.
    """

    def __init__(self, proposals: proposals.ProposalLayer, **kwargs):
        super().__init__(**kwargs)
        self.proposals = proposals

    def call(self, inputs):
        layer = self.proposals
        groups = layer.candidates(inputs)
        kept, start = [], 0
        for group in groups:
            rows = backend.operations().kept_rows(
                group.clipped[0], group.scores[0], layer.proposal_count, layer.nms_threshold
            )
            kept.append(rows + start)
            start += ops.shape(group.scores)[1]
        found = proposals.Candidates(
            *(ops.concatenate(parts, axis=1) for parts in zip(*groups, strict=True))
        )
        kept = ops.concatenate(kept)
        best = ops.argsort(-ops.take(found.scores[0], kept))[: layer.proposal_count]
        return {
            "pre_nms_anchors": found.anchors,
            "refined_anchors": found.refined,
            "refined_anchors_clipped": found.clipped,
            "kept": ops.take(kept, best),
        }

    def compute_output_spec(self, inputs):
        boxes = keras.KerasTensor((inputs[0].shape[0], None, 4), "float32")
        return {
            "pre_nms_anchors": boxes,
            "refined_anchors": keras.KerasTensor(boxes.shape, "float32"),
            "refined_anchors_clipped": keras.KerasTensor(boxes.shape, "float32"),
            "kept": keras.KerasTensor((None,), "int32"),
        }
