"""Which detections are right: COCO's matching."""

import contextlib
import copy
import io

import numpy as np
import pytest
from error_sets import content, item, random_set, result
from pycocotools.cocoeval import COCOeval

from mrcnn.evaluation import coco, engine, matches


def matched(objects, results, *, num_images=1, iou_type="segm", most=100, image_ids=None):
    coco_gt = coco.ground_truth(content(objects, num_images=num_images))
    found, _ = matches.match(coco_gt, results, iou_type, max_detections=most, image_ids=image_ids)
    return found


@pytest.mark.parametrize("crowds", [False, True])
@pytest.mark.parametrize("iou_type", ["segm", "bbox"])
@pytest.mark.parametrize("most", [2, 100])
def test_matches_are_those_of_pycocotools(iou_type, crowds, most):
    truth, results = random_set(3, crowds=crowds)
    coco_gt = coco.ground_truth(truth)
    ours, _ = matches.match(coco_gt, results, iou_type, max_detections=most)
    listed = [
        {**each, "id": n, "area": 1.0, "iscrowd": 0} for n, each in enumerate(results, start=1)
    ]
    found = engine.indexed(copy.deepcopy({**truth, "annotations": listed}))
    official = COCOeval(copy.deepcopy(coco_gt), found, iou_type)
    official.params.maxDets = [most]
    with contextlib.redirect_stdout(io.StringIO()):
        official.evaluate()
    expected = {}
    for part in official.evalImgs:
        if part is not None and part["aRng"] == official.params.areaRng[0]:
            for place, number in enumerate(part["dtIds"]):
                is_ignored = bool(part["dtIgnore"][0, place])
                expected[number] = (0 if is_ignored else part["dtMatches"][0, place], is_ignored)
    gt_ids = np.append(ours.gt_ids, 0)
    got = {
        int(row) + 1: (int(gt_ids[place]), bool(is_ignored))
        for row, place, is_ignored in zip(ours.results, ours.objects, ours.ignored, strict=True)
    }
    assert got == expected
    assert any(number for number, _ in got.values())
    assert any(is_ignored for _, is_ignored in got.values()) == crowds


def test_detections_are_sorted_by_score_and_know_their_place_in_the_results():
    box = [10, 10, 20, 20]
    found = matched([item(1, 1, box)], [result(1, 1, box, 0.3), result(1, 2, box, 0.8)])
    assert found.scores.tolist() == [0.8, 0.3]
    assert found.results.tolist() == [1, 0]
    assert found.classes.tolist() == [1, 0]
    assert found.is_right.tolist() == [False, True]


def test_images_are_numbered_in_the_order_in_which_they_are_given():
    box = [10, 10, 20, 20]
    objects = [item(1, 1, box), item(2, 1, box), item(3, 1, box)]
    found = matched(objects, [result(3, 1, box, 0.9)], num_images=3, image_ids=[3, 1])
    assert found.images.tolist() == [0]
    assert found.gt_images.tolist() == [1, 0]
    assert found.num_images == 2


def test_pairs_are_those_of_one_image_that_overlap():
    objects = [item(1, 1, [0, 0, 20, 20]), item(2, 2, [0, 0, 20, 20])]
    found = matched(objects, [result(1, 1, [0, 0, 20, 10], 0.9)], num_images=2)
    assert found.pairs.tolist() == [[0, 0]]
    assert found.ious.tolist() == [0.5]


def test_a_detection_of_another_class_takes_one_object_that_nothing_found():
    box = [10, 10, 20, 20]
    objects = [item(1, 1, box), item(1, 1, [60, 60, 20, 20])]
    twice = [result(1, 2, box, 0.9), result(1, 3, box, 0.8)]
    assert matched(objects, twice).mistaken_for(0).tolist() == [0, -1]
    assert matched(objects, twice).mistaken_for(0.95).tolist() == [-1, -1]
    found_too = [*twice, result(1, 1, box, 0.5)]
    assert matched(objects, found_too).mistaken_for(0).tolist() == [-1, -1, -1]
    # The right one is below the score, so that its object is free.
    assert matched(objects, found_too).mistaken_for(0.6).tolist() == [0, -1, -1]


@pytest.mark.parametrize("iou_type", ["segm", "bbox"])
def test_nothing_found_and_nothing_to_find(iou_type):
    box = [10, 10, 20, 20]
    nothing = matched([], [], num_images=2, iou_type=iou_type)
    assert len(nothing.scores) == len(nothing.gt_classes) == len(nothing.pairs) == 0
    missed = matched([item(1, 1, box)], [], iou_type=iou_type)
    assert missed.found().tolist() == [False]
    wrong = matched([], [result(1, 1, box, 0.4)], iou_type=iou_type)
    assert wrong.is_wrong.tolist() == [True]
