"""The engine of the scores against pycocotools' own evaluation, on sets with all that is awkward.

Several classes, one of them without objects; crowds; objects of all sizes; images without objects,
without detections, and with more detections than count; scores that are equal.
"""

import contextlib
import copy
import io

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.cocoeval import COCOeval

from mrcnn.evaluation import coco, engine

SIZE = (200, 260)
CLASSES = 5  # the last one has no objects
POINTS = 17


def ellipse_at(centre, radii):
    rows, cols = np.mgrid[: SIZE[0], : SIZE[1]]
    inside = ((rows - centre[0]) / radii[0]) ** 2 + ((cols - centre[1]) / radii[1]) ** 2 < 1
    return np.asfortranarray(inside, np.uint8)


def item_of(image_id, category_id, centre, radii, rng):
    """Return an object as both the truth and results have it, with keypoints in its ellipse."""
    rle = coco_mask.encode(ellipse_at(centre, radii))
    points = np.zeros((POINTS, 3))
    points[:, :2] = (centre + rng.normal(size=(POINTS, 2)) * radii / 3)[:, ::-1]
    points[:, 2] = rng.integers(0, 3, POINTS)
    return {
        "image_id": image_id,
        "category_id": category_id,
        "bbox": coco_mask.toBbox(rle).tolist(),
        "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
        "keypoints": points.ravel().tolist(),
    }


def moved_points(keypoints, rng):
    points = np.reshape(keypoints, (POINTS, 3)) + rng.normal(size=(POINTS, 3)) * [3, 3, 0]
    return points.ravel().tolist()


def random_set(seed, num_images=24):
    rng = np.random.default_rng(seed)
    objects, results = [], []
    for image_id in range(1, num_images + 1):
        found = []
        for _ in range(0 if image_id % 6 == 0 else int(rng.integers(1, 9))):
            centre, radii = rng.uniform(20, 180, 2), np.exp(rng.uniform(1.5, 4.5, 2))
            category_id = int(rng.integers(1, CLASSES))
            truth = item_of(image_id, category_id, centre, radii, rng)
            crowd = int(rng.random() < 0.15)
            blind = {} if rng.random() < 0.8 else {"keypoints": [0.0] * 3 * POINTS}
            objects.append({**truth, **blind, "iscrowd": crowd})
            for _ in range(int(rng.integers(0, 4))):  # several finds of one object
                item = item_of(
                    image_id,
                    category_id if rng.random() < 0.9 else 1,
                    centre + rng.normal(size=2) * radii * 0.1,
                    radii * rng.uniform(0.8, 1.2, 2),
                    rng,
                )
                item["keypoints"] = moved_points(truth["keypoints"], rng)
                found.append(item)
        for _ in range(int(rng.integers(0, 5))):  # of nothing
            place, size = rng.uniform(20, 180, 2), np.exp(rng.uniform(1.5, 4, 2))
            found.append(item_of(image_id, int(rng.integers(1, CLASSES + 1)), place, size, rng))
        if image_id % 7:
            digits = 1 if image_id % 2 else 6
            results += [
                {**item, "score": round(float(rng.uniform()), digits)}
                for item in found
                if item["bbox"][2] > 0
            ]
    images = [
        {"id": number, "height": SIZE[0], "width": SIZE[1]} for number in range(1, num_images + 1)
    ]
    names = [{"id": number, "name": f"class {number}"} for number in range(1, CLASSES + 1)]
    objects = [item for item in objects if item["bbox"][2] > 0]
    return {"images": images, "annotations": objects, "categories": names}, results


def by_pycocotools(coco_gt, results, iou_type, limits, image_ids=None):
    """Return pycocotools' evaluation. The size of what is found is set as `score` says."""
    found = []
    for number, result in enumerate(results, start=1):
        outline, box = result["segmentation"], result["bbox"]
        area = coco_mask.area(outline) if iou_type == "segm" else box[2] * box[3]
        found.append({**result, "id": number, "area": float(area), "iscrowd": 0})
    content = {**coco_gt.dataset, "annotations": found}
    official = COCOeval(copy.deepcopy(coco_gt), engine.indexed(content), iou_type)
    official.params.maxDets = list(limits)
    if image_ids is not None:
        official.params.imgIds = list(image_ids)
    with contextlib.redirect_stdout(io.StringIO()):
        official.evaluate()
        official.accumulate()
    return official


@pytest.mark.parametrize("iou_type", ["segm", "bbox", "keypoints"])
@pytest.mark.parametrize("seed", range(4))
def test_precision_and_recall_are_those_of_pycocotools(iou_type, seed):
    """At every threshold, recall, class, size and limit: all figures are means of these."""
    content, results = random_set(seed)
    coco_gt = coco.ground_truth(content)
    limits = (20,) if iou_type == "keypoints" else (1, 3, 10, 100)
    official = by_pycocotools(coco_gt, results, iou_type, limits)
    for place, limit in enumerate(limits):
        ours = engine.evaluate(coco_gt, results, iou_type, max_detections=limit, image_ids=None)
        for name in ("precision", "recall", "scores"):
            expected = official.eval[name][..., place]
            np.testing.assert_allclose(ours.eval[name][..., 0], expected, rtol=0, atol=1e-12)
    known = official.eval["precision"][official.eval["precision"] > -1]
    assert 0.02 < known.mean() < 0.98  # neither all wrong nor all right


@pytest.mark.parametrize("iou_type", ["segm", "bbox"])
def test_twelve_figures_are_those_of_pycocotools(iou_type):
    content, results = random_set(10)
    coco_gt = coco.ground_truth(content)
    official = by_pycocotools(coco_gt, results, iou_type, (1, 10, 100))
    ours = [
        engine.evaluate(coco_gt, results, iou_type, max_detections=limit, image_ids=None)
        for limit in (1, 10, 100)
    ]
    whole = copy.copy(official)
    whole.eval = dict(official.eval)
    for name in ("precision", "recall"):
        whole.eval[name] = np.concatenate([one.eval[name] for one in ours], axis=-1)
    with contextlib.redirect_stdout(io.StringIO()):
        official.summarize()
        whole.summarize()
    assert len(official.stats) == 12
    np.testing.assert_allclose(whole.stats, official.stats, rtol=0, atol=1e-12)
    scores = coco.score(coco_gt, results)[iou_type]
    expected = [official.stats[place] for place in (0, 1, 2, 3, 4, 5, 8)]
    assert [scores[name] for name in coco.FIGURES] == pytest.approx(expected, abs=1e-12)
    for number in range(1, CLASSES + 1):
        of_class = official.eval["precision"][:, :, number - 1, 0, -1]
        figure = scores["per_class"][f"class {number}"]["AP"]
        if number == CLASSES:
            assert figure is None
        else:
            assert figure == pytest.approx(of_class.mean(), abs=1e-12)


def test_persons_scores_are_those_of_pycocotools():
    content, results = random_set(11)
    coco_gt = coco.ground_truth(content)
    official = by_pycocotools(coco_gt, results, "keypoints", (20,))
    with contextlib.redirect_stdout(io.StringIO()):
        official.summarize()
    scores = coco.score(coco_gt, results, iou_types=("keypoints",))["keypoints"]
    names = ("AP", "AP50", "AP75", "APm", "APl", "AR")
    assert [scores[name] for name in names] == pytest.approx(official.stats[:6], abs=1e-12)
    assert len(scores["per_class"]) == CLASSES


def test_only_some_images_score_as_in_pycocotools():
    content, results = random_set(12)
    coco_gt = coco.ground_truth(content)
    chosen = np.array([9, 2, 6, 13, 7])  # as of a dataset
    official = by_pycocotools(coco_gt, results, "segm", (100,), chosen)
    ours = engine.evaluate(coco_gt, results, "segm", max_detections=100, image_ids=chosen)
    np.testing.assert_allclose(
        ours.eval["precision"], official.eval["precision"], rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("rename", ["image {:02}".format, lambda number: 10**18 + number])
def test_texts_and_long_numbers_are_ids(rename):
    content, results = random_set(13, num_images=12)
    renamed = copy.deepcopy(content)
    for entry in renamed["images"] + renamed["categories"]:
        entry["id"] = rename(entry["id"])
    elsewhere = copy.deepcopy(results)
    for item in renamed["annotations"] + elsewhere:
        for key in ("image_id", "category_id"):
            item[key] = rename(item[key])
    scores = coco.score(coco.ground_truth(content), results)
    assert coco.score(coco.ground_truth(renamed), elsewhere) == scores


def test_scoring_leaves_no_trace_in_the_truth():
    content, results = random_set(14, num_images=6)
    coco_gt = coco.ground_truth(content)
    before = copy.deepcopy(coco_gt.dataset)
    first = coco.score(coco_gt, results, iou_types=("keypoints", "segm", "bbox"))
    assert coco_gt.dataset == before
    assert coco.score(coco_gt, results, iou_types=("bbox", "segm", "keypoints")) == first
