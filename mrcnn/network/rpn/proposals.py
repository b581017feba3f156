"""From RPN outputs to proposals."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

from mrcnn.geometry import boxes as box_math
from mrcnn.network.layers.geometry_layer import GeometryLayer
from mrcnn.network.ops import backend, gathers

Tensor = Any


class Candidates(NamedTuple):
    """The top anchors before NMS, highest score first: scores (B, n) and boxes (B, n, 4)."""

    scores: Tensor
    anchors: Tensor
    refined: Tensor
    clipped: Tensor


def best_anchors(
    probs: Tensor,
    deltas: Tensor,
    anchors: Tensor,
    limit: int,
    std_dev: Sequence[float],
    *,
    window: Tensor | None = None,
    largest_log_scale: float = box_math.LARGEST_LOG_SCALE,
) -> Candidates:
    """Return the top-scoring anchors, refined by their deltas and clipped to a window.

    Args:
        probs: (B, N), foreground probability. deltas: (B, N, 4), divided by std_dev.
        anchors: (B, N, 4), normalized.
        limit: Maximum number returned.
        window: (B, 4), normalized; None for the whole input.
        largest_log_scale: See `boxes.decode`.
    """
    count = probs.shape[1]
    most = ops.minimum(limit, ops.shape(probs)[1]) if count is None else min(limit, count)
    scores, order = ops.top_k(probs, most)
    deltas = gathers.gather_rows(deltas, order) * ops.convert_to_tensor(std_dev, "float32")
    anchors = gathers.gather_rows(anchors, order)
    refined = box_math.decode(anchors, deltas, ops, largest_log_scale)
    if window is None:
        window = ops.convert_to_tensor([[0.0, 0.0, 1.0, 1.0]])
    return Candidates(scores, anchors, refined, box_math.clip(refined, window[:, None], ops))


def suppress(groups: Sequence[Candidates], count: int, threshold: float) -> Tensor:
    """Return the top boxes after NMS within each group: (B, count, 4), zero padded."""
    most = _largest([ops.shape(group.scores)[1] for group in groups])
    boxes = ops.stack([_rows(group.clipped, most) for group in groups], axis=2)
    scores = ops.stack([_rows(group.scores, most) for group in groups], axis=2)
    return backend.operations().suppress(boxes, scores, count, threshold)[0]


def _largest(counts: Sequence[Any]) -> Any:
    is_known = all(isinstance(count, int) for count in counts)
    return max(counts) if is_known else ops.max(counts)


def _rows(values: Tensor, count: Any) -> Tensor:
    """Return values (B, n, ...) zero padded to `count` rows."""
    missing = [[0, 0], [0, count - ops.shape(values)[1]], *[[0, 0]] * (len(values.shape) - 2)]
    return ops.pad(values, missing)


@keras.saving.register_keras_serializable("mrcnn")
class ProposalLayer(GeometryLayer):
    """Proposals from the RPN's outputs over all levels: (B, P, 4) normalized, zero padded.

    Called on [probs (B, N, 2), deltas (B, N, 4), anchors (B, N, 4) normalized]. No gradient flows
    through it.

    Args:
        proposal_count: P.
        nms_threshold: IoU threshold of NMS, which runs over all levels together.
        pre_nms_limit: Number of top-scoring anchors before NMS.
        std_dev: (4,), divisor of the deltas.
    """

    def __init__(self, proposal_count, nms_threshold, pre_nms_limit, std_dev, **kwargs):
        super().__init__(**kwargs)
        self.proposal_count = proposal_count
        self.nms_threshold = nms_threshold
        self.pre_nms_limit = pre_nms_limit
        self.std_dev = [float(value) for value in std_dev]

    def call(self, inputs):
        groups = self.candidates([ops.stop_gradient(tensor) for tensor in inputs])
        return suppress(groups, self.proposal_count, self.nms_threshold)

    def candidates(self, inputs: Sequence[Tensor]) -> list[Candidates]:
        """Return the groups within which NMS runs."""
        probs, deltas, anchors = inputs
        return [best_anchors(probs[:, :, 1], deltas, anchors, self.pre_nms_limit, self.std_dev)]

    def compute_output_shape(self, input_shape):
        return (input_shape[0][0], self.proposal_count, 4)

    def get_config(self):
        return {
            **super().get_config(),
            "proposal_count": self.proposal_count,
            "nms_threshold": self.nms_threshold,
            "pre_nms_limit": self.pre_nms_limit,
            "std_dev": self.std_dev,
        }


@keras.saving.register_keras_serializable("mrcnn")
class LevelProposalLayer(ProposalLayer):
    """Proposals with top-k and NMS per level *(FPN, section 4.1)*.

    Called on [probs (B, n, 2) of each level, deltas (B, n, 4) of each level, anchors (B, N, 4)
    normalized, image_meta (B, M)], in one list. Boxes are clipped to the image.

    Args:
        pre_nms_limit: Per level.
        largest_log_scale: See `boxes.decode`.
    """

    def __init__(self, *args, largest_log_scale=box_math.LARGEST_LOG_SCALE, **kwargs):
        super().__init__(*args, **kwargs)
        self.largest_log_scale = largest_log_scale

    def candidates(self, inputs: Sequence[Tensor]) -> list[Candidates]:
        """Return the candidates per level."""
        *outputs, anchors, image_meta = inputs
        window = box_math.window_in_graph(image_meta, ops, inclusive=False)
        groups, start = [], 0
        for probs, deltas in zip(
            outputs[: len(outputs) // 2], outputs[len(outputs) // 2 :], strict=True
        ):
            stop = start + ops.shape(probs)[1]
            best = best_anchors(
                probs[:, :, 1],
                deltas,
                anchors[:, start:stop],
                self.pre_nms_limit,
                self.std_dev,
                window=window,
                largest_log_scale=self.largest_log_scale,
            )
            # Boxes that are empty after clipping are not proposals.
            is_real = box_math.area(best.clipped, ops) > 0
            groups.append(best._replace(scores=ops.where(is_real, best.scores, 0.0)))
            start = stop
        return groups

    def get_config(self):
        return {**super().get_config(), "largest_log_scale": self.largest_log_scale}
