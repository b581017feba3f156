"""torchvision's own losses on given inputs, and detectron2's forms by hand.

detectron2 is not run: its forms are those of its documentation (SMOOTH_L1_BETA 0, sums divided by
BATCH_SIZE_PER_IMAGE x images in the RPN, by the sampled RoIs in the box head).
"""

from pathlib import Path

import numpy as np
import pytest
from keras import ops

from mrcnn import conventions
from mrcnn.network import losses
from mrcnn.network.ops import reductions
from mrcnn.network.roi_heads import box as box_head
from mrcnn.network.roi_heads import keypoint as keypoint_head
from mrcnn.network.roi_heads import mask as mask_head
from mrcnn.network.rpn import losses as rpn_losses

GOLDEN = Path(__file__).parent / "golden" / "torchvision_losses.npz"
BETA = conventions.TORCHVISION.box_loss_beta
DIVISOR = conventions.TORCHVISION.box_loss_divisor


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


def tensor(array: np.ndarray, dtype: str = "float32"):
    return ops.convert_to_tensor(array.astype(dtype))


def by_y(array: np.ndarray) -> np.ndarray:
    """Return boxes of (x, y) as boxes of (y, x)."""
    return array[..., [1, 0, 3, 2]]


@pytest.fixture(scope="module")
def match(golden):
    # Here 1 is foreground, -1 background and 0 not sampled.
    labels = golden["rpn_labels"]
    return tensor(np.select([labels == 1, labels == 0], [1, -1], 0), "int32")


def test_class_loss_of_the_rpn(golden, match, assert_as_golden):
    logits = tensor(np.stack([np.zeros_like(golden["rpn_logits"]), golden["rpn_logits"]], axis=-1))
    loss = rpn_losses.class_loss(match, logits, reductions.on_one_device)
    assert_as_golden("torchvision rpn_class_loss", loss, golden["rpn_class_loss"], 1e-5)


def test_box_loss_of_the_rpn(golden, match, assert_as_golden):
    deltas = tensor(by_y(golden["rpn_deltas"]))
    targets = tensor(by_y(golden["rpn_target_deltas"]))
    loss = rpn_losses.box_loss(
        targets, match, deltas, reductions.on_one_device, beta=BETA, divisor=DIVISOR
    )
    assert_as_golden("torchvision rpn_bbox_loss", loss, golden["rpn_bbox_loss"], 1e-5)


def test_class_loss_of_the_heads(golden, assert_as_golden):
    class_ids = tensor(golden["box_target_class_ids"], "int32")
    logits = tensor(golden["box_logits"])
    active, weights = ops.ones((2, logits.shape[-1])), ops.ones(class_ids.shape)
    loss = box_head.class_loss(class_ids, logits, active, weights, reductions.on_one_device)
    assert_as_golden("torchvision box_class_loss", loss, golden["box_class_loss"], 1e-5)


def test_box_loss_of_the_heads(golden, assert_as_golden):
    class_ids = tensor(golden["box_target_class_ids"], "int32")
    weights = ops.ones(class_ids.shape)
    loss = box_head.box_loss(
        tensor(by_y(golden["box_target_deltas"])),
        class_ids,
        tensor(by_y(golden["box_deltas"])),
        reductions.on_one_device,
        weights,
        BETA,
    )
    assert_as_golden("torchvision box_bbox_loss", loss, golden["box_bbox_loss"], 1e-5)


def test_targets_of_masks(golden, assert_as_golden):
    found = mask_head.targets(
        tensor(by_y(golden["mask_rois_xyxy"]) / 128),
        ops.zeros((2, 3, 4)),  # of no use where masks are of the whole input
        tensor(golden["mask_gt"]),
        tensor(golden["mask_matched"], "int32"),
        mask_shape=(28, 28),
        uses_mini_masks=False,
        form=conventions.TORCHVISION.mask_targets,
    )
    assert_as_golden("torchvision mask_targets", found, golden["mask_targets"], 1e-5)


def test_mask_loss(golden, assert_as_golden):
    class_ids = np.take_along_axis(golden["mask_gt_labels"], golden["mask_matched"], axis=1)
    logits = np.moveaxis(golden["mask_logits"], 2, -1)
    loss = mask_head.mask_loss(
        tensor(golden["mask_targets"]),
        tensor(class_ids, "int32"),
        tensor(logits),
        reductions.on_one_device,
    )
    assert_as_golden("torchvision mask_loss", loss, golden["mask_loss"], 1e-5)


def test_keypoint_loss(golden, assert_as_golden):
    points = np.take_along_axis(
        golden["keypoint_gt_xyv"], golden["keypoint_matched"][:, :, None, None], axis=1
    )
    rois = tensor(by_y(golden["keypoint_rois_xyxy"]))
    cells, weights = keypoint_head.targets(rois, tensor(points[..., [1, 0, 2]]), 56)
    logits = tensor(np.moveaxis(golden["keypoint_logits"], 2, -1))
    loss = keypoint_head.keypoint_loss(cells, weights, logits, reductions.on_one_device)
    assert_as_golden("torchvision keypoint_loss", loss, golden["keypoint_loss"], 1e-5)


# Of the RPN: two images of four anchors. By its targets of 0 the first anchor is wrong by 2, 0.05
# and twice 0 (foreground), the others are background or do not learn; of six wanted anchors four
# learn.
MATCH = [[1, -1, 0, 0], [-1, -1, 0, 0]]
DELTAS = np.zeros((2, 4, 4))
DELTAS[0, 0, :2] = (2.0, -0.05)
DELTAS[:, 1:] = 7.0  # of no consequence


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        # parabola below 1: (1.5 + 0.00125) / (1 box x 4)
        ("matterport", (1.5 + 0.05**2 / 2) / 4),
        # below 1/9, over the anchors that learn
        ("torchvision", (2 - 1 / 18 + 0.05**2 / 2 * 9) / 4),
        # L1, over the anchors that should learn
        ("detectron2", (2 + 0.05) / 6),
    ],
)
def test_box_losses_of_each_family_by_hand(family, expected):
    forms = conventions.FAMILIES[family]
    loss = rpn_losses.box_loss(
        ops.zeros((2, 4, 4)),
        ops.convert_to_tensor(MATCH),
        tensor(DELTAS),
        reductions.on_one_device,
        beta=forms.box_loss_beta,
        divisor=forms.box_loss_divisor,
        anchors_per_image=3,
    )
    assert float(loss) == pytest.approx(expected, rel=1e-6)


def outputs_of(class_ids: list[list[int]], weights: list[list[float]], error: float) -> dict:
    """Return what `compute_losses` takes, of boxes that are wrong by `error` in one number."""
    rows = (len(class_ids), len(class_ids[0]))
    deltas = np.zeros((*rows, 3, 4))
    deltas[..., 0] = error
    return {
        "target_rpn_match": ops.convert_to_tensor([[1, 0], [-1, 0]]),
        "target_rpn_deltas": ops.zeros((2, 2, 4)),
        "rpn_class_logits": ops.zeros((2, 2, 2)),
        "rpn_bbox": ops.ones((2, 2, 4)),
        "target_class_ids": ops.convert_to_tensor(class_ids),
        "target_weights": ops.convert_to_tensor(weights),
        "target_deltas": ops.zeros((*rows, 4)),
        "mrcnn_bbox": tensor(deltas),
        "mrcnn_class_logits": ops.zeros((*rows, 3)),
    }


@pytest.mark.parametrize(
    ("family", "classes_of_rpn", "boxes_of_rpn", "boxes_of_heads"),
    [
        ("matterport", np.log(2), 0.5, 0.5 / 4),  # of 2 anchors; 4 numbers; one of 4 of 2 rois
        ("torchvision", np.log(2), 4 * (1 - 1 / 18) / 2, 2 * (1 - 1 / 18) / 5),
        ("detectron2", 2 * np.log(2) / 16, 4 / 16, 2 / 5),
    ],
)
def test_all_losses_of_a_batch_are_of_the_family(
    family, classes_of_rpn, boxes_of_rpn, boxes_of_heads
):
    forms = conventions.FAMILIES[family]
    outputs = outputs_of([[1, 0, 0], [2, 0, 0]], [[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]], 1.0)
    batch = {"input_image_meta": ops.ones((2, 12 + 3))}
    found = losses.compute_losses(
        batch,
        outputs,
        forms=losses.Forms(forms.box_loss_beta, forms.box_loss_divisor, anchors_per_image=8),
    )
    assert float(found["rpn_class_loss"]) == pytest.approx(classes_of_rpn, rel=1e-6)
    assert float(found["rpn_bbox_loss"]) == pytest.approx(boxes_of_rpn, rel=1e-6)
    assert float(found["mrcnn_bbox_loss"]) == pytest.approx(boxes_of_heads, rel=1e-6)


@pytest.mark.parametrize("divisor", conventions.BOX_LOSS_DIVISORS)
def test_shares_of_two_devices_sum_to_the_loss_of_one(divisor):
    """Each of two devices has an image; both know the count of both."""
    match, deltas = ops.convert_to_tensor(MATCH), tensor(DELTAS)
    settings = {"beta": 0.0, "divisor": divisor, "anchors_per_image": 3}
    whole = rpn_losses.box_loss(deltas * 0, match, deltas, reductions.on_one_device, **settings)
    counts = {"positives": 4.0, "sampled": 4.0, "wanted": 6.0}
    shares = [
        rpn_losses.box_loss(
            deltas[i : i + 1] * 0,
            match[i : i + 1],
            deltas[i : i + 1],
            lambda _: ops.convert_to_tensor(counts[divisor]),
            **settings,
        )
        for i in range(2)
    ]
    assert float(sum(shares)) == pytest.approx(float(whole), rel=1e-6)
