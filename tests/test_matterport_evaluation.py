import numpy as np
import pytest

from mrcnn.evaluation import matterport

SIZE = 40


def objects(*rows: tuple[int, int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return boxes and the masks that fill them."""
    boxes = np.array(rows).reshape(-1, 4)
    masks = np.zeros((SIZE, SIZE, len(boxes)), bool)
    for index, (y1, x1, y2, x2) in enumerate(boxes):
        masks[y1:y2, x1:x2, index] = True
    return boxes, masks


GT_BOXES, GT_MASKS = objects((0, 0, 10, 10), (20, 20, 30, 30))
TRUTH = (GT_BOXES, np.array([1, 2]), GT_MASKS)


def test_the_best_prediction_takes_the_object():
    boxes, masks = objects((0, 0, 10, 8), (0, 0, 10, 10), (20, 20, 30, 30))
    found = boxes, np.array([1, 1, 2]), np.array([0.6, 0.9, 0.3]), masks
    gt_match, pred_match, overlaps = matterport.compute_matches(*TRUTH, *found)
    # In order of score: the second, the first, the third.
    np.testing.assert_array_equal(gt_match, [0, 2])
    np.testing.assert_array_equal(pred_match, [0, -1, 1])
    np.testing.assert_allclose(overlaps, [[1, 0], [0.8, 0], [0, 1]])


def test_a_prediction_of_another_class_matches_nothing():
    found = GT_BOXES, np.array([2, 2]), np.array([0.9, 0.8]), GT_MASKS
    gt_match, pred_match, _ = matterport.compute_matches(*TRUTH, *found)
    np.testing.assert_array_equal(gt_match, [-1, 1])
    np.testing.assert_array_equal(pred_match, [-1, 1])


def test_the_score_threshold_is_of_scores():
    found = GT_BOXES, np.array([1, 2]), np.array([0.9, 0.4]), GT_MASKS
    gt_match, _, _ = matterport.compute_matches(*TRUTH, *found, score_threshold=0.5)
    np.testing.assert_array_equal(gt_match, [0, -1])


def test_padding_in_the_middle_takes_its_masks_along():
    boxes = np.insert(GT_BOXES, 1, 0, axis=0)
    masks = np.insert(GT_MASKS, 1, 0, axis=2)
    found = boxes, np.array([1, 0, 2]), np.array([0.9, 0.0, 0.8]), masks
    gt_match, pred_match, _ = matterport.compute_matches(boxes, [1, 0, 2], masks, *found)
    np.testing.assert_array_equal(gt_match, [0, 1])
    np.testing.assert_array_equal(pred_match, [0, 1])


def test_average_precision_worked_by_hand():
    boxes, masks = objects((0, 0, 10, 10), (0, 30, 5, 35), (20, 20, 30, 30))
    found = boxes, np.array([1, 1, 2]), np.array([0.9, 0.8, 0.7]), masks
    ap, precisions, recalls, _ = matterport.compute_ap(*TRUTH, *found)
    # Right, wrong, right: precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1.
    np.testing.assert_allclose(precisions, [1, 1, 2 / 3, 2 / 3, 0])
    np.testing.assert_allclose(recalls, [0, 0.5, 0.5, 1, 1])
    assert ap == pytest.approx(0.5 + 0.5 * 2 / 3)


NOTHING = np.zeros((0, 4), int), np.zeros(0, int), np.zeros((SIZE, SIZE, 0), bool)
NOTHING_FOUND = NOTHING[0], NOTHING[1], np.zeros(0), NOTHING[2]
FOUND = GT_BOXES, np.array([1, 2]), np.array([0.9, 0.8]), GT_MASKS


@pytest.mark.parametrize(
    ("truth", "found", "expected"),
    [(NOTHING, NOTHING_FOUND, 1.0), (NOTHING, FOUND, 0.0), (TRUTH, NOTHING_FOUND, 0.0)],
)
def test_average_precision_of_nothing(truth, found, expected):
    assert matterport.compute_ap(*truth, *found)[0] == expected


@pytest.mark.parametrize("thresholds", [None, [0.5, 0.75], np.array([0.5, 0.75])])
def test_a_range_of_thresholds_is_averaged_and_printed(thresholds, capsys):
    boxes, masks = objects((0, 0, 9, 7), (20, 20, 30, 30))
    found = boxes, np.array([1, 2]), np.array([0.9, 0.8]), masks
    mean = matterport.compute_ap_range(*TRUTH, *found, iou_thresholds=thresholds)
    # The first has an IoU of 0.63: found up to there, and a false alarm ahead of the other after.
    expected = {2: np.mean([1, 0.25]), 10: np.mean([1] * 3 + [0.25] * 7)}
    printed = capsys.readouterr().out.splitlines()
    assert mean == pytest.approx(expected[len(printed) - 1])
    assert printed[0].startswith("AP @0.50:")
    assert matterport.compute_ap_range(*TRUTH, *found, verbose=0) <= 1
    assert capsys.readouterr().out == ""


def test_recall_counts_each_object_once():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [0, 30, 5, 35]])
    recall, positive = matterport.compute_recall(boxes, GT_BOXES, 0.5)
    assert recall == 0.5
    np.testing.assert_array_equal(positive, [0, 1])
    assert matterport.compute_recall(boxes[:0], GT_BOXES, 0.5)[0] == 0
    assert matterport.compute_recall(boxes, GT_BOXES[:0], 0.5)[0] == 0
