"""Precision and recall, confusion, TIDE, calibration: counted by hand, or by other programs."""

import copy
import logging

import numpy as np
import pytest
from error_sets import content, item, random_set, result

from mrcnn.evaluation import analysis, coco, contents, matches

LEFT, RIGHT, FAR = [0, 0, 20, 20], [40, 0, 20, 20], [0, 60, 20, 20]
# tidecv 1.0.1 on `random_set`, in percent: seed -> errors in the order of TIDE_ERRORS.
OF_TIDECV = {
    0: {
        "ap": 34.33092048700668,
        "delta_ap": [
            10.970980771041361,
            20.675422422655963,
            0.6598073600463223,
            0.7424201803934025,
            5.757284762089682,
            5.556040898207456,
        ],
        "counts": [6, 14, 4, 5, 21, 10],
        "special": [21.444657070749095, 27.33854267779713],
    },
    1: {
        "ap": 37.88433675300306,
        "delta_ap": [
            2.424467308758068,
            9.536400806424489,
            1.4720729663099164,
            0.060006000600054676,
            19.72609095643456,
            4.8301050343129575,
        ],
        "counts": [2, 7, 2, 1, 26, 4],
        "special": [36.04305598627085, 11.760858158645007],
    },
}


def three_images():
    """Three images of the classes a, b and c.

    1: an a found (0.9) and found again (0.6); a b taken for an a (0.8).
    2: an a missed; nothing detected as c (0.3); a crowd of a with an a on it (0.95).
    3: a b found (0.7), no more.
    """
    objects = [
        item(1, 1, LEFT),
        item(1, 2, RIGHT),
        item(2, 1, LEFT),
        item(2, 1, FAR, crowd=True),
        item(3, 2, LEFT),
    ]
    results = [
        result(1, 1, LEFT, 0.9),
        result(1, 1, LEFT, 0.6),
        result(1, 1, RIGHT, 0.8),
        result(2, 3, RIGHT, 0.3),
        result(2, 1, [0, 60, 10, 10], 0.95),
        result(3, 2, LEFT, 0.7),
    ]
    return coco.ground_truth(content(objects, num_images=3)), results


def analysed(coco_gt, results, iou_type="segm", most=100):
    return analysis.analyse(coco_gt, results, iou_type, max_detections=most)


@pytest.fixture(scope="module", params=["segm", "bbox"])
def toy(request):
    return analysed(*three_images(), request.param)


def test_precision_recall_and_f1_at_every_score(toy):
    # Without the one on the crowd: 0.9 right, 0.8 wrong, 0.7 right, 0.6 and 0.3 wrong; 4 objects.
    np.testing.assert_allclose(toy.overall.scores, [0.9, 0.8, 0.7, 0.6, 0.3])
    np.testing.assert_allclose(toy.overall.precision, [1, 1 / 2, 2 / 3, 2 / 4, 2 / 5])
    np.testing.assert_allclose(toy.overall.recall, [1 / 4, 1 / 4, 2 / 4, 2 / 4, 2 / 4])
    np.testing.assert_allclose(toy.overall.f1, [2 / 5, 2 / 6, 4 / 7, 4 / 8, 4 / 9])
    assert toy.min_score == 0.7


def test_each_class_has_a_curve_of_its_own(toy):
    curves = {each.class_name: each for each in toy.curves}
    assert [each.num_objects for each in toy.curves] == [2, 2, 0]
    np.testing.assert_allclose(curves["a"].precision, [1, 1 / 2, 1 / 3])
    np.testing.assert_allclose(curves["a"].recall, [1 / 2, 1 / 2, 1 / 2])
    assert curves["a"].best_score == 0.9
    assert curves["b"].best_score == 0.7
    assert curves["c"].best is None
    assert curves["c"].best_score == analysis.DEFAULT_SCORE


def test_confusion_at_the_best_score(toy):
    # Of 0.7 and more: an a found, a b taken for an a, an a missed, a b found.
    assert toy.confusion.names == ["a", "b", "c", "background"]
    assert toy.confusion.counts.tolist() == [
        [1, 0, 0, 1],
        [1, 1, 0, 0],
        [0, 0, 0, 0],
        [0, 0, 0, 0],
    ]


def test_confusion_of_all_detections(toy):
    # The a that was found again and the c of nothing are detections of background.
    assert analysis.confusion(toy.matches, 0).counts.tolist() == [
        [1, 0, 0, 1],
        [1, 1, 0, 0],
        [0, 0, 0, 0],
        [1, 0, 1, 0],
    ]


def test_tallies_of_each_image(toy):
    assert toy.tallies.right.tolist() == [1, 0, 1]
    assert toy.tallies.wrong.tolist() == [1, 0, 0]
    assert toy.tallies.missed.tolist() == [1, 1, 0]
    np.testing.assert_allclose(toy.tallies.f1, [0.5, 0, 1])
    assert toy.tallies.best(5) == [2, 0]
    assert toy.tallies.worst(5) == [1, 0]
    assert toy.tallies.worst(1) == [1]


def test_calibration_by_hand(toy):
    # A bin each: 0.3 wrong, 0.6 wrong, 0.7 right, 0.8 wrong, 0.9 right.
    found = analysis.calibration(toy.matches)
    assert found.counts.tolist() == [0, 0, 0, 1, 0, 0, 1, 1, 1, 1]
    np.testing.assert_allclose(found.mean_scores[[3, 6, 7, 8, 9]], [0.3, 0.6, 0.7, 0.8, 0.9])
    np.testing.assert_allclose(found.precision[[3, 6, 7, 8, 9]], [0, 0, 1, 0, 1])
    assert np.isnan(found.precision[[0, 1, 2, 4, 5]]).all()
    assert found.error == pytest.approx((0.3 + 0.6 + 0.3 + 0.8 + 0.1) / 5)


def test_calibration_weighs_bins_by_their_detections(toy):
    found = analysis.calibration(toy.matches, num_bins=2)
    assert found.counts.tolist() == [1, 4]
    np.testing.assert_allclose(found.precision, [0, 0.5])
    assert found.error == pytest.approx((1 * 0.3 + 4 * 0.25) / 5)


@pytest.mark.parametrize("crowds", [False, True])
def test_calibration_is_that_of_hotcoco(crowds):
    truth, results = random_set(1, crowds=crowds)
    coco_gt = coco.ground_truth(truth)
    found, evaluation = matches.match(coco_gt, results, "segm", max_detections=100)
    ours, theirs = analysis.calibration(found), evaluation.calibration(analysis.NUM_BINS, 0.5)
    assert ours.counts.tolist() == [each["count"] for each in theirs["bins"]]
    assert ours.error == pytest.approx(theirs["ece"], abs=1e-12)
    assert found.ignored.any() == crowds


def test_a_score_of_1_is_in_the_last_bin():
    coco_gt = coco.ground_truth(content([item(1, 1, LEFT)], num_images=1))
    found = analysed(coco_gt, [result(1, 1, LEFT, 1.0)]).calibration
    assert found.counts.tolist() == [0] * 9 + [1]
    assert found.error == 0


@pytest.mark.parametrize("iou_type", ["segm", "bbox"])
@pytest.mark.parametrize("crowds", [False, True])
def test_the_envelope_has_the_ap_of_the_engine(iou_type, crowds):
    truth, results = random_set(2, crowds=crowds)
    coco_gt = coco.ground_truth(truth)
    scores = coco.score(coco_gt, results, iou_types=[iou_type])[iou_type]
    found = analysed(coco_gt, results, iou_type)
    for each in found.curves:
        of_engine = scores["per_class"][each.class_name]["AP50"]
        assert each.envelope.mean() == pytest.approx(of_engine, abs=1e-12)
    assert found.tide.ap50 == pytest.approx(scores["AP50"], abs=1e-12)


def test_detections_of_equal_scores_are_counted_together():
    coco_gt = coco.ground_truth(content([item(1, 1, LEFT)], num_images=1))
    found = analysed(coco_gt, [result(1, 1, RIGHT, 0.5), result(1, 1, LEFT, 0.5)]).overall
    assert found.scores.tolist() == [0.5]
    assert found.precision.tolist() == [0.5]
    assert found.recall.tolist() == [1]


@pytest.mark.parametrize("iou_type", ["segm", "bbox"])
def test_ground_truth_taken_for_detections_has_no_errors(iou_type):
    truth, _ = random_set(0, crowds=True)
    objects = [each for each in truth["annotations"] if not each["iscrowd"]]
    # Two objects of one class may be the same box.
    rng = np.random.default_rng(0)
    results = [result(o["image_id"], o["category_id"], o["bbox"], rng.random()) for o in objects]
    coco_gt = coco.ground_truth(truth)
    found = analysed(coco_gt, results, iou_type)
    assert coco.score(coco_gt, results)[iou_type]["AP"] == pytest.approx(1)
    assert found.overall.f1[found.overall.best] == 1
    assert found.tide.ap50 == pytest.approx(1)
    assert found.tide.counts.tolist() == [0] * 6
    np.testing.assert_allclose(found.tide.delta_ap, 0, atol=1e-12)
    counts = found.confusion.counts
    assert np.trace(counts) == counts.sum() == len(objects)
    assert found.tallies.worst(5) == []
    assert found.tallies.wrong.sum() == found.tallies.missed.sum() == 0


@pytest.mark.parametrize("iou_type", ["segm", "bbox"])
@pytest.mark.parametrize("seed", OF_TIDECV)
def test_tide_has_the_figures_that_tidecv_had(seed, iou_type):
    truth, results = random_set(seed)
    found = analysed(coco.ground_truth(truth), results, iou_type).tide
    expected = OF_TIDECV[seed]
    assert min(expected["counts"]) > 0  # every kind of error is there
    assert found.counts.tolist() == expected["counts"]
    assert 100 * found.ap50 == pytest.approx(expected["ap"], abs=1e-9)
    np.testing.assert_allclose(100 * found.delta_ap, expected["delta_ap"], atol=1e-9)
    special = [found.delta_false_positives, found.delta_false_negatives]
    np.testing.assert_allclose(100 * np.array(special), expected["special"], atol=0.02)


@pytest.mark.filterwarnings("ignore")  # tidecv's own, of 2020
@pytest.mark.parametrize("mode", ["mask", "bbox"])
@pytest.mark.parametrize("seed", range(2, 6))
def test_tide_has_the_figures_of_tidecv(seed, mode):
    """Of further sets, where tidecv is installed.

    No extra of ours has it: it requires opencv-python, whose files clash with those of
    opencv-python-headless. `pip install --no-deps tidecv; pip install pandas seaborn appdirs`.
    """
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    tidecv = pytest.importorskip("tidecv", reason="tidecv is not installed")
    truth, results = random_set(seed)
    found = analysed(coco.ground_truth(truth), results, "segm" if mode == "mask" else mode).tide
    objects, detections = tidecv.Data("truth"), tidecv.Data("found")
    for image in truth["images"]:
        objects.add_image(image["id"], str(image["id"]))
    for o in truth["annotations"]:
        objects.add_ground_truth(o["image_id"], o["category_id"], o["bbox"], o["segmentation"])
    for r in copy.deepcopy(results):
        place = (r["image_id"], r["category_id"], r["score"], r["bbox"], r["segmentation"])
        detections.add_detection(*place)
    official = tidecv.TIDE(mode=mode)
    run = official.evaluate(objects, detections)
    delta = official.get_main_errors()["found"]
    expected = [delta[name] for name in analysis.TIDE_ERRORS]
    # tidecv reads the precision at recalls of n / 100, COCO at np.linspace(0, 1, 101), of which ten
    # differ in the last bit: where a recall is exactly that, a reading moves by one detection.
    np.testing.assert_allclose(100 * found.delta_ap, expected, atol=0.05)
    counted = {kind.short_name: count for kind, count in run.count_errors().items()}
    assert found.counts.tolist() == [counted[name] for name in analysis.TIDE_ERRORS]


@pytest.mark.parametrize("most", [1, 3])
def test_no_more_detections_count_than_the_network_may_return(most):
    results = [result(1, 1, LEFT, 0.9), result(1, 1, RIGHT, 0.8), result(1, 1, FAR, 0.7)]
    coco_gt = coco.ground_truth(content([item(1, 1, FAR)], num_images=1))
    assert len(analysed(coco_gt, results, most=most).matches.scores) == most


@pytest.mark.parametrize("iou_type", ["segm", "bbox"])
def test_nothing_found(iou_type):
    coco_gt = coco.ground_truth(content([item(1, 1, LEFT)], num_images=2))
    found = analysed(coco_gt, [], iou_type)
    assert found.min_score == analysis.DEFAULT_SCORE
    assert found.calibration.error is None
    assert found.confusion.counts[0, -1] == 1
    assert found.tide.counts.tolist() == [0, 0, 0, 0, 0, 1]
    assert found.tallies.best(3) == []
    assert found.tallies.worst(3) == [0]
    assert found.tallies.f1.tolist() == [0, 1]


def test_contents_are_counted_without_crowds():
    coco_gt, _ = three_images()
    found = contents.of_truth(coco_gt)
    assert found.class_names == ["a", "b", "c"]
    assert found.objects_per_class.tolist() == [2, 2, 0]
    assert found.images_per_class.tolist() == [2, 2, 0]
    assert found.crowds.tolist() == [1, 0, 0]
    assert found.sides.tolist() == [20, 20, 20, 20]
    assert found.num_empty == 0
    assert found.image_sizes.tolist() == [[100, 100]] * 3
    assert contents.of_truth(coco_gt, [2]).objects_per_class.tolist() == [1, 0, 0]
