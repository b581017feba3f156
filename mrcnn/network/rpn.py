"""Region proposal network: head, targets, losses, proposals (Faster R-CNN, section 3)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers, ops

from mrcnn.geometry import boxes as box_math
from mrcnn.network import backend_ops, matching
from mrcnn.network.geometry_layer import GeometryLayer

Tensor = Any
POSITIVE_IOU, NEGATIVE_IOU = 0.7, 0.3
POSITIVE_SHARE = 0.5
# Anchors whose IoU with an object is so near to the best one's, relatively, fit it as well. All
# that lie inside an object are equal but for rounding, which is the compiler's: it may even compute
# a number twice, so that the best is not equal to itself.
TIE = 1e-5


def build_rpn_model(
    anchor_stride: int,
    anchors_per_location: int,
    depth: int,
    channels: int = 512,
    *,
    conv_count: int = 1,
    sigmoid: bool = False,
) -> keras.Model:
    """Return the head shared by all levels: (B, h, w, depth) -> logits, probabilities, deltas.

    Shapes are (B, h * w * A, 2), the same, and (B, h * w * A, 4); class 1 is foreground.

    Args:
        conv_count: Number of 3x3 convolutions.
        sigmoid: The network gives the logit of foreground alone, and that of background is 0.
    """
    features = keras.Input((None, None, depth), name="input_rpn_feature_map")
    shared = features
    for number in range(1, conv_count + 1):
        name = "rpn_conv_shared" + (str(number) if number > 1 else "")
        strides = anchor_stride if number == 1 else 1
        shared = layers.Conv2D(channels, 3, strides, "same", activation="relu", name=name)(shared)
    logits = layers.Conv2D(
        (1 if sigmoid else 2) * anchors_per_location,
        1,
        name="rpn_class_raw",
        kernel_initializer=_small_normal(),
    )(shared)
    deltas = layers.Conv2D(
        4 * anchors_per_location, 1, name="rpn_bbox_pred", kernel_initializer=_small_normal()
    )(shared)
    logits = layers.Reshape((-1, 1 if sigmoid else 2), dtype="float32")(logits)
    if sigmoid:  # of x is the softmax of 0 and x
        logits = layers.ZeroPadding1D((1, 0), data_format="channels_first", dtype="float32")(logits)
    deltas = layers.Reshape((-1, 4), dtype="float32")(deltas)
    probs = layers.Softmax(name="rpn_class_xxx", dtype="float32")(logits)
    return keras.Model(features, [logits, probs, deltas], name="rpn_model")


def targets(
    anchors: np.ndarray,
    gt_class_ids: Tensor,
    gt_boxes: Tensor,
    seeds: Tensor,
    *,
    anchors_per_image: int,
    std_dev: Sequence[float],
) -> tuple[Tensor, Tensor]:
    """Return the target of each anchor: match (B, N) int32 and deltas (B, N, 4).

    Match is 1 for foreground, -1 for background, 0 for anchors that do not learn: those between,
    those with half of their area in a crowd, and all beyond a random `anchors_per_image`, at most
    half of them foreground. An anchor is foreground with an IoU of 0.7, or where no anchor fits an
    object better; then it learns that object.

    Args:
        anchors: (N, 4), pixels of the input.
        gt_class_ids: (B, G), 0 padding, negative crowd.
        gt_boxes: (B, G, 4), pixels of the input.
        seeds: (B,) of the random choice.
        std_dev: (4,) by which deltas are divided.
    """
    boxes = ops.convert_to_tensor(anchors, "float32")[None]
    found = _matched(boxes, gt_class_ids, gt_boxes)
    is_forced = found.forced_by >= 0
    best_gt = ops.where(is_forced, found.forced_by, found.best_gt)

    is_positive = (found.best_iou >= POSITIVE_IOU) | is_forced
    is_negative = ~is_positive & (found.best_iou < NEGATIVE_IOU) & ~found.is_in_crowd
    match = _sample(is_positive, is_negative, seeds, anchors_per_image)

    matched_boxes = matching.gather_rows(gt_boxes, best_gt)
    deltas = box_math.encode(boxes, matched_boxes, ops)
    return match, deltas / ops.convert_to_tensor(std_dev, "float32")


class _Matches(NamedTuple):
    """What anchors have to do with the objects of their images, (B, N) each.

    Attributes:
        best_iou, best_gt: with the object that an anchor fits best; -1 where there is none.
        forced_by: the first object that no anchor fits better, -1 for most anchors.
        is_in_crowd: bool, see `matching.lies_in_crowd`.
    """

    best_iou: Tensor
    best_gt: Tensor
    forced_by: Tensor
    is_in_crowd: Tensor


def _matched(anchors: Tensor, gt_class_ids: Tensor, gt_boxes: Tensor) -> _Matches:
    """Match anchors (1, N, 4) with objects (B, G), (B, G, 4), one object of each image at a time.

    All pairs at once would take gigabytes for the anchors of a large input and a hundred rows, most
    of them padding.
    """
    shape = (ops.shape(gt_boxes)[0], anchors.shape[1])

    def add_object(number: Tensor, found: _Matches) -> _Matches:
        box = ops.take(gt_boxes, number, axis=1)[:, None]
        class_id = ops.take(gt_class_ids, number, axis=1)[:, None]
        iou = box_math.iou(anchors, box, ops)[:, :, 0]
        is_object = class_id > 0
        is_better = is_object & (iou > found.best_iou)
        best = ops.max(iou, axis=1, keepdims=True) * (1.0 - TIE)
        is_best = is_object & (iou >= best) & (iou > 0) & (found.forced_by < 0)
        return _Matches(
            ops.where(is_better, iou, found.best_iou),
            ops.where(is_better, number, found.best_gt),
            ops.where(is_best, number, found.forced_by),
            found.is_in_crowd | matching.lies_in_crowd(anchors, class_id, box),
        )

    nothing = _Matches(
        ops.full(shape, -1.0),
        ops.zeros(shape, "int32"),
        ops.full(shape, -1),
        ops.zeros(shape, bool),
    )
    last = ops.max(ops.where(gt_class_ids != 0, ops.arange(1, gt_class_ids.shape[1] + 1), 0))
    return _Matches(*ops.fori_loop(0, last, add_object, nothing))


def class_loss(
    match: Tensor,
    logits: Tensor,
    across_replicas: matching.AcrossReplicas,
    anchors_per_image: int | None = None,
) -> Tensor:
    """Return the mean cross-entropy of the anchors that learn: (B, N), (B, N, 2) -> scalar.

    Args:
        anchors_per_image: So many should learn, by which the sum is divided, as in detectron2;
            None for those that do.
    """
    target = ops.cast(match == 1, "int32")
    entropy = ops.sparse_categorical_crossentropy(target, logits, from_logits=True)
    divisor = _count(match, anchors_per_image)
    return matching.masked_share(entropy, match != 0, divisor, across_replicas)


def box_loss(
    target_deltas: Tensor,
    match: Tensor,
    deltas: Tensor,
    across_replicas: matching.AcrossReplicas,
    *,
    beta: float = 1.0,
    divisor: str = "positives",
    anchors_per_image: int | None = None,
) -> Tensor:
    """Return the smooth L1 of foreground anchors: (B, N, 4), (B, N), (B, N, 4) -> scalar.

    Args:
        beta: See `matching.smooth_l1`.
        divisor: One of `conventions.BOX_LOSS_DIVISORS`; anchors_per_image: those wanted.
    """
    distance = matching.smooth_l1(target_deltas, deltas, beta)
    is_positive = (match == 1)[:, :, None]
    if divisor == "positives":
        return matching.masked_mean(distance, is_positive, across_replicas)
    count = _count(match, anchors_per_image if divisor == "wanted" else None)
    return matching.masked_share(distance, is_positive, count, across_replicas)


def _count(match: Tensor, anchors_per_image: int | None) -> Tensor:
    """Return how many anchors of a batch learn, or how many should."""
    if anchors_per_image is None:
        return ops.sum(ops.cast(match != 0, "float32"))
    return ops.cast(ops.shape(match)[0] * anchors_per_image, "float32")


class Candidates(NamedTuple):
    """The best anchors before suppression, best first: scores (B, n) and boxes (B, n, 4)."""

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
    """Return the anchors of the highest scores, refined by their deltas and cut at a window.

    Args:
        probs: (B, N), of being foreground. deltas: (B, N, 4), divided by std_dev.
        anchors: (B, N, 4), normalized.
        limit: The most that are returned.
        window: (B, 4), normalized; None for the whole input.
        largest_log_scale: See `boxes.decode`.
    """
    count = probs.shape[1]
    most = ops.minimum(limit, ops.shape(probs)[1]) if count is None else min(limit, count)
    scores, order = ops.top_k(probs, most)
    deltas = matching.gather_rows(deltas, order) * ops.convert_to_tensor(std_dev, "float32")
    anchors = matching.gather_rows(anchors, order)
    refined = box_math.decode(anchors, deltas, ops, largest_log_scale)
    if window is None:
        window = ops.convert_to_tensor([[0.0, 0.0, 1.0, 1.0]])
    return Candidates(scores, anchors, refined, box_math.clip(refined, window[:, None], ops))


def suppress(groups: Sequence[Candidates], count: int, threshold: float) -> Tensor:
    """Return the best boxes after suppression within each group: (B, count, 4), zero padded."""
    most = _largest([ops.shape(group.scores)[1] for group in groups])
    boxes = ops.stack([_rows(group.clipped, most) for group in groups], axis=2)
    scores = ops.stack([_rows(group.scores, most) for group in groups], axis=2)
    return backend_ops.operations().suppress(boxes, scores, count, threshold)[0]


def _largest(counts: Sequence[Any]) -> Any:
    is_known = all(isinstance(count, int) for count in counts)
    return max(counts) if is_known else ops.max(counts)


def _rows(values: Tensor, count: Any) -> Tensor:
    """Return values (B, n, ...) with zero rows up to a count."""
    missing = [[0, 0], [0, count - ops.shape(values)[1]], *[[0, 0]] * (len(values.shape) - 2)]
    return ops.pad(values, missing)


@keras.saving.register_keras_serializable("mrcnn")
class ProposalLayer(GeometryLayer):
    """Proposals from the RPN's outputs over all levels: (B, P, 4) normalized, zero padded.

    Called on [probs (B, N, 2), deltas (B, N, 4), anchors (B, N, 4) normalized]. No gradient flows
    through it.

    Args:
        proposal_count: P.
        nms_threshold: Of the suppression, which is over all levels together.
        pre_nms_limit: So many anchors of the highest scores take part.
        std_dev: (4,) by which deltas are divided.
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
        """Return the groups within which suppression acts."""
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
    """Proposals of which each level chooses, and suppresses, its own *(FPN, section 4.1)*.

    Called on [probs (B, n, 2) of each level, deltas (B, n, 4) of each level, anchors (B, N, 4)
    normalized, image_meta (B, M)], in one list. Boxes are cut at the image.

    Args:
        pre_nms_limit: Of each level.
        largest_log_scale: See `boxes.decode`.
    """

    def __init__(self, *args, largest_log_scale=box_math.LARGEST_LOG_SCALE, **kwargs):
        super().__init__(*args, **kwargs)
        self.largest_log_scale = largest_log_scale

    def candidates(self, inputs: Sequence[Tensor]) -> list[Candidates]:
        """Return the candidates of each level."""
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
            # A box that was cut to nothing is no proposal.
            is_real = box_math.area(best.clipped, ops) > 0
            groups.append(best._replace(scores=ops.where(is_real, best.scores, 0.0)))
            start = stop
        return groups

    def get_config(self):
        return {**super().get_config(), "largest_log_scale": self.largest_log_scale}


def _sample(
    is_positive: Tensor, is_negative: Tensor, seeds: Tensor, anchors_per_image: int
) -> Tensor:
    total = min(anchors_per_image, is_positive.shape[1])
    most_positive = int(total * POSITIVE_SHARE)
    noise = matching.uniform_noise(seeds, is_positive.shape[1], stream=0)
    wanted = ops.full_like(seeds, most_positive)
    positives = matching.keep_random(is_positive, wanted, most_positive, noise)
    missing = total - ops.sum(ops.cast(positives, "int32"), axis=1)
    negatives = matching.keep_random(is_negative, missing, total, noise)
    return ops.cast(positives, "int32") - ops.cast(negatives, "int32")


def _small_normal() -> keras.initializers.Initializer:
    # Faster R-CNN, section 3.1.3: new layers start from a normal distribution of deviation 0.01.
    return keras.initializers.RandomNormal(stddev=0.01)
