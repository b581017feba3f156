"""What lies between the RPN and its proposals, for people who look inside."""

import keras

from mrcnn.network import rpn, tensorflow_ops
from mrcnn.network.geometry_layer import GeometryLayer


@keras.saving.register_keras_serializable("mrcnn")
class ProposalTrace(GeometryLayer):
    """The steps of a `ProposalLayer`, by name; called on what that is called on.

    pre_nms_anchors, refined_anchors, refined_anchors_clipped: (B, n, 4) normalized, best first.
    kept: (p,) int32, which of them suppression keeps in the first image.
    """

    def __init__(self, proposals: rpn.ProposalLayer, **kwargs):
        super().__init__(**kwargs)
        self.proposals = proposals

    def call(self, inputs):
        probs, deltas, anchors = inputs
        layer = self.proposals
        found = rpn.best_anchors(
            probs[:, :, 1], deltas, anchors, layer.pre_nms_limit, layer.std_dev
        )
        kept = tensorflow_ops.kept_rows(
            found.clipped[0], found.scores[0], layer.proposal_count, layer.nms_threshold
        )
        return {
            "pre_nms_anchors": found.anchors,
            "refined_anchors": found.refined,
            "refined_anchors_clipped": found.clipped,
            "kept": kept,
        }

    def compute_output_spec(self, inputs):
        boxes = keras.KerasTensor((inputs[0].shape[0], None, 4), "float32")
        return {
            "pre_nms_anchors": boxes,
            "refined_anchors": keras.KerasTensor(boxes.shape, "float32"),
            "refined_anchors_clipped": keras.KerasTensor(boxes.shape, "float32"),
            "kept": keras.KerasTensor((None,), "int32"),
        }
