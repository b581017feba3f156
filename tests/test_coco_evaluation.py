import json

import numpy as np
import pytest

pytest.importorskip("pycocotools")

from pycocotools import mask as coco_mask
from pycocotools.cocoeval import COCOeval

from mrcnn.data.dataset import Dataset
from mrcnn.evaluation import coco, detecting

SIZE = (64, 64)


def rectangle(y1, x1, y2, x2, size=SIZE):
    mask = np.zeros(size, bool)
    mask[y1:y2, x1:x2] = True
    return mask


def detections_of(boxes, class_ids=None, scores=None, size=SIZE):
    count = len(boxes)
    masks = np.array([rectangle(*box, size) for box in boxes], bool).reshape(count, *size)
    return {
        "rois": np.array(boxes, np.int32).reshape(-1, 4),
        "class_ids": np.array(class_ids if class_ids is not None else [1] * count, np.int32),
        "scores": np.array(scores if scores is not None else [0.9] * count, np.float32),
        "masks": np.moveaxis(masks, 0, -1),
    }


def annotations_of(boxes_by_image, names=("thing",), category=1, size=SIZE):
    """A COCO file of rectangles as polygons, without areas and boxes."""
    objects = [
        {
            "id": 100 * image_id + number,
            "image_id": image_id,
            "category_id": category,
            "segmentation": [[x1, y1, x2, y1, x2, y2, x1, y2]],
        }
        for image_id, boxes in boxes_by_image.items()
        for number, (y1, x1, y2, x2) in enumerate(boxes)
    ]
    return {
        "images": [
            {"id": image_id, "height": size[0], "width": size[1]} for image_id in boxes_by_image
        ],
        "annotations": objects,
        "categories": [{"id": number, "name": name} for number, name in enumerate(names, 1)],
    }


def perfect_results(coco_gt):
    """What a model without fault would answer to a ground truth."""
    results = []
    for annotation in coco_gt.dataset["annotations"]:
        segmentation = dict(annotation["segmentation"])
        segmentation["counts"] = coco_gt.annToRLE(annotation)["counts"]
        if not annotation["iscrowd"]:
            results.append(
                {
                    "image_id": annotation["image_id"],
                    "category_id": annotation["category_id"],
                    "bbox": annotation["bbox"],
                    "score": 1.0,
                    "segmentation": segmentation,
                }
            )
    return results


class ToyDataset:
    """The part of Dataset's interface that the ground truth reads."""

    def __init__(self, objects, class_names=("BG", "thing"), size=SIZE):
        self.objects, self.class_names, self.size = objects, list(class_names), size
        self.image_ids = np.arange(len(objects))

    def load_image(self, image_id):  # noqa: ARG002
        return np.zeros((*self.size, 3), np.uint8)

    def load_mask(self, image_id):
        boxes, class_ids = self.objects[image_id]
        if not boxes:
            return np.empty((0, 0, 0), bool), np.empty(0, np.int32)
        masks = np.stack([rectangle(*box, self.size) for box in boxes], axis=-1)
        return masks, np.array(class_ids, np.int32)


def test_results_are_json_in_coco_form():
    detections = detections_of([(4, 8, 14, 28)], scores=[0.5])
    (result,) = json.loads(json.dumps(coco.to_results(detections, np.int64(7), [None, 18])))
    assert result["image_id"] == 7
    assert result["category_id"] == 18
    assert result["bbox"] == [8, 4, 20, 10]
    assert result["score"] == 0.5
    np.testing.assert_array_equal(coco_mask.decode(result["segmentation"]), rectangle(4, 8, 14, 28))


def test_no_detections_are_no_results():
    assert coco.to_results(detections_of([]), 1, [None, 1]) == []


def test_object_found_with_iou_08_counts_at_seven_of_ten_thresholds():
    coco_gt = coco.ground_truth(annotations_of({1: [(0, 0, 10, 10)]}))
    results = coco.to_results(detections_of([(0, 0, 8, 10)]), 1, [None, 1])
    scores = coco.score(coco_gt, results)
    for iou_type in ("segm", "bbox"):
        assert scores[iou_type]["AP50"] == pytest.approx(1)
        assert scores[iou_type]["AP75"] == pytest.approx(1)
        assert scores[iou_type]["AP"] == pytest.approx(0.7)
        assert scores[iou_type]["AR"] == pytest.approx(0.7)
        assert scores[iou_type]["per_class"]["thing"]["AP"] == pytest.approx(0.7)


def test_sizes_without_objects_have_no_figure():
    coco_gt = coco.ground_truth(annotations_of({1: [(0, 0, 10, 10)]}))
    figures = coco.score(coco_gt, perfect_results(coco_gt))["segm"]
    assert figures["APs"] == pytest.approx(1)
    assert figures["APm"] is None
    assert figures["APl"] is None


def test_nothing_found_scores_zero():
    coco_gt = coco.ground_truth(annotations_of({1: [(0, 0, 10, 10)], 2: []}))
    scores = coco.score(coco_gt, [])
    assert scores["segm"]["AP"] == scores["bbox"]["AP"] == scores["segm"]["AR"] == 0


@pytest.mark.parametrize("boxes", [[], [(0, 0, 8, 8)]])
def test_truth_without_objects_has_no_figures(boxes):
    coco_gt = coco.ground_truth(annotations_of({1: []}))
    scores = coco.score(coco_gt, coco.to_results(detections_of(boxes), 1, [None, 1]))
    assert set(scores["segm"]) == {*coco.FIGURES, "per_class"}
    assert all(scores["segm"][name] is None for name in coco.FIGURES)


def test_truth_without_images_or_categories_has_no_figures():
    coco_gt = coco.ground_truth({"images": [], "annotations": [], "categories": []})
    assert coco.score(coco_gt, [])["bbox"]["AP"] is None


def test_false_find_in_image_without_objects_lowers_precision():
    coco_gt = coco.ground_truth(annotations_of({1: [(0, 0, 10, 10)], 2: []}))
    found = perfect_results(coco_gt)
    false = coco.to_results(detections_of([(0, 0, 10, 10)], scores=[1.5]), 2, [None, 1])
    assert coco.score(coco_gt, found + false)["segm"]["AP"] == pytest.approx(0.5)


def test_only_the_images_looked_at_count():
    coco_gt = coco.ground_truth(annotations_of({1: [(0, 0, 10, 10)], 2: [(0, 0, 9, 9)]}))
    first = [result for result in perfect_results(coco_gt) if result["image_id"] == 1]
    assert coco.score(coco_gt, first)["segm"]["AR"] == pytest.approx(0.5)
    assert coco.score(coco_gt, first, image_ids=[1])["segm"]["AR"] == pytest.approx(1)


def test_figures_equal_those_of_pycocotools():
    rng = np.random.default_rng(0)
    names, size = ("cat", "dog"), (300, 300)
    corners = rng.integers(0, 90, (12, 2))
    sizes = rng.integers(8, 180, (12, 2))
    boxes = np.concatenate([corners, corners + sizes], axis=1)
    annotations = annotations_of({1: boxes[:6].tolist(), 2: boxes[6:].tolist()}, names, size=size)
    for number, annotation in enumerate(annotations["annotations"]):
        annotation["category_id"] = 1 + number % 2
    coco_gt = coco.ground_truth(annotations)
    results = []
    for image_id, part in ((1, boxes[:6]), (2, boxes[6:])):
        moved = np.clip(part + rng.integers(-6, 7, part.shape), 0, 300)
        class_ids = 1 + np.arange(6) % 2
        detections = detections_of(moved.tolist(), class_ids, rng.uniform(size=6), size)
        results += coco.to_results(detections, image_id, [None, 1, 2])
    scores = coco.score(coco_gt, results)
    for iou_type in ("segm", "bbox"):
        keys = (
            "image_id",
            "category_id",
            "score",
            "segmentation" if iou_type == "segm" else "bbox",
        )
        copies = [{key: result[key] for key in keys} for result in results]
        official = COCOeval(coco_gt, coco_gt.loadRes(copies), iou_type)
        official.evaluate()
        official.accumulate()
        official.summarize()
        expected = [official.stats[place] for place in (0, 1, 2, 3, 4, 5, 8)]
        assert [scores[iou_type][name] for name in coco.FIGURES] == pytest.approx(expected)
        assert all(0 < figure < 1 for figure in expected)


def test_more_than_100_objects_need_more_detections():
    size = (240, 240)
    boxes = [(y, x, y + 8, x + 8) for y in range(0, 240, 16) for x in range(0, 160, 16)]
    coco_gt = coco.ground_truth(annotations_of({1: boxes}, size=size))
    results = coco.to_results(detections_of(boxes, size=size), 1, [None, 1])
    assert len(boxes) == 150
    assert coco.score(coco_gt, results)["segm"]["AR"] == pytest.approx(100 / 150)
    for limit in (150, 300):
        figures = coco.score(coco_gt, results, max_detections=limit)["segm"]
        assert figures["AP"] == figures["AR"] == figures["AP50"] == pytest.approx(1)


def test_few_detections_count_when_asked():
    boxes = [(0, 0, 8, 8), (20, 20, 30, 30)]
    coco_gt = coco.ground_truth(annotations_of({1: boxes}))
    results = coco.to_results(detections_of(boxes), 1, [None, 1])
    assert coco.score(coco_gt, results, max_detections=1)["bbox"]["AR"] == pytest.approx(0.5)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        coco.score(coco_gt, results, max_detections=0)


def test_scoring_changes_neither_truth_nor_results():
    annotations = annotations_of({1: [(0, 0, 10, 10)]})
    before = json.dumps(annotations)
    coco_gt = coco.ground_truth(annotations)
    results = coco.to_results(detections_of([(0, 0, 8, 10)]), 1, [None, 1])
    written = json.dumps(results)
    first, again = coco.score(coco_gt, results), coco.score(coco_gt, results)
    assert json.dumps(annotations) == before
    assert json.dumps(results) == written
    assert first == again


def test_pycocotools_is_silent(capsys):
    coco_gt = coco.ground_truth(annotations_of({1: [(0, 0, 10, 10)]}))
    coco.score(coco_gt, perfect_results(coco_gt))
    assert capsys.readouterr().out == ""


def test_object_numbered_0_can_be_found():
    annotations = annotations_of({1: [(0, 0, 10, 10)]})
    annotations["annotations"][0]["id"] = 0
    coco_gt = coco.ground_truth(annotations)
    assert coco.score(coco_gt, perfect_results(coco_gt))["segm"]["AP"] == pytest.approx(1)


def test_size_of_a_find_is_that_of_its_mask():
    # A thin diagonal in a medium box is a small object; unmatched, it must not hurt medium ones.
    coco_gt = coco.ground_truth(annotations_of({1: [(0, 0, 40, 40)]}))
    detections = detections_of([(0, 0, 40, 40), (20, 20, 64, 64)], scores=[0.5, 0.9])
    detections["masks"][..., 1] &= np.eye(64, dtype=bool)
    scores = coco.score(coco_gt, coco.to_results(detections, 1, [None, 1]))
    assert scores["segm"]["APm"] == pytest.approx(1)
    assert scores["bbox"]["APm"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 5}, "no image 5"),
        ({"category_id": 9}, "no category 9"),
        ({"segmentation": {"size": [32, 64], "counts": "0"}}, r"size \[32, 64\]"),
    ],
)
def test_results_that_do_not_fit_the_truth_are_an_error(change, message):
    coco_gt = coco.ground_truth(annotations_of({1: [(0, 0, 10, 10)]}))
    results = [{**perfect_results(coco_gt)[0], **change}]
    with pytest.raises(ValueError, match=message):
        coco.score(coco_gt, results)


@pytest.mark.parametrize("segmentation", [[], None, [[1, 1, 5, 5]]])
def test_annotation_without_outline_is_an_error(segmentation):
    annotations = annotations_of({1: [(0, 0, 10, 10)]})
    annotations["annotations"][0]["segmentation"] = segmentation
    with pytest.raises(ValueError, match="annotation 100 of image 1 has no polygon"):
        coco.ground_truth(annotations)


def test_annotation_of_an_unlisted_image_is_an_error():
    annotations = annotations_of({1: [(0, 0, 10, 10)]})
    annotations["images"][0]["id"] = 2
    with pytest.raises(ValueError, match="image that is not listed"):
        coco.ground_truth(annotations)


def test_file_without_annotations_is_an_error(tmp_path):
    path = tmp_path / "images.json"
    path.write_text('{"images": [], "categories": []}')
    with pytest.raises(ValueError, match="annotations"):
        coco.ground_truth(path)


def test_truth_of_a_dataset_has_crowds_areas_and_boxes():
    dataset = ToyDataset([([(2, 4, 10, 20), (30, 30, 50, 60)], [1, -1]), ([], [])])
    coco_gt = coco.ground_truth_of(dataset)
    thing, crowd = coco_gt.dataset["annotations"]
    assert (thing["area"], thing["bbox"], thing["iscrowd"]) == (128, [4, 2, 16, 8], 0)
    assert (crowd["category_id"], crowd["iscrowd"]) == (1, 1)
    assert coco_gt.imgs[1] == {"id": 1, "height": 64, "width": 64}


def test_perfect_finds_in_a_dataset_score_1_and_those_in_crowds_do_not_count():
    dataset = ToyDataset([([(2, 4, 10, 20), (30, 30, 50, 60)], [1, -1]), ([], [])])
    detections = detections_of([(2, 4, 10, 20), (32, 32, 40, 40)], scores=[0.8, 0.9])
    results = coco.to_results(detections, 0, [None, 1])
    assert coco.score(coco.ground_truth_of(dataset), results)["segm"]["AP"] == pytest.approx(1)


def test_objects_of_a_dataset_without_a_pixel_are_left_out():
    coco_gt = coco.ground_truth_of(ToyDataset([([(0, 0, 0, 0), (2, 2, 9, 9)], [1, 1])]))
    assert len(coco_gt.dataset["annotations"]) == 1


def test_categories_are_matched_by_name():
    coco_gt = coco.ground_truth(annotations_of({1: [(0, 0, 9, 9)]}, ("cat", "dog"), category=2))
    assert coco.match_categories(["BG", "dog", "cat"], coco_gt) == [None, 2, 1]


def test_class_absent_from_the_annotations_is_an_error():
    coco_gt = coco.ground_truth(annotations_of({1: [(0, 0, 9, 9)]}, ("cat",)))
    with pytest.raises(ValueError, match=r"not in the annotations: \['Cat'\].*model: \['cat'\]"):
        coco.match_categories(["BG", "Cat"], coco_gt)


def test_category_unknown_to_the_model_is_an_error_if_it_has_objects():
    coco_gt = coco.ground_truth(annotations_of({1: [(0, 0, 9, 9)]}, ("cat", "dog"), category=2))
    assert coco.match_categories(["BG", "dog"], coco_gt) == [None, 2]
    with pytest.raises(ValueError, match=r"not in the model: \['dog'\]"):
        coco.match_categories(["BG", "cat"], coco_gt)


@pytest.mark.parametrize("used", [1, 2])
def test_of_two_categories_with_one_name_the_used_one_is_meant(used):
    coco_gt = coco.ground_truth(annotations_of({1: [(0, 0, 9, 9)]}, ("cat", "cat"), category=used))
    assert coco.match_categories(["BG", "cat"], coco_gt) == [None, used]
    per_class = coco.score(coco_gt, perfect_results(coco_gt))["segm"]["per_class"]
    assert per_class["cat"]["AP"] == pytest.approx(1)


def test_two_used_categories_with_one_name_are_an_error():
    annotations = annotations_of({1: [(0, 0, 9, 9), (20, 20, 30, 30)]}, ("cat", "cat"))
    annotations["annotations"][1]["category_id"] = 2
    with pytest.raises(ValueError, match="two categories with objects are named 'cat'"):
        coco.match_categories(["BG", "cat"], coco.ground_truth(annotations))


def test_table_is_aligned_and_shows_missing_figures_as_dashes():
    coco_gt = coco.ground_truth(annotations_of({1: [(0, 0, 10, 10)]}))
    lines = coco.format_table(coco.score(coco_gt, perfect_results(coco_gt))).splitlines()
    assert [line.split()[0] for line in lines] == ["AP", "segm", "bbox"]
    assert lines[1].split() == ["segm", "1.000", "1.000", "1.000", "1.000", "-", "-", "1.000"]
    assert len({len(line) for line in lines}) == 1


def test_table_lists_classes_if_there_are_several():
    coco_gt = coco.ground_truth(annotations_of({1: [(0, 0, 10, 10)]}, ("cat", "dog")))
    table = coco.format_table(coco.score(coco_gt, perfect_results(coco_gt)))
    assert table.splitlines()[-2].split() == ["cat", "1.000", "1.000", "1.000", "1.000"]
    assert table.splitlines()[-1].split() == ["dog", "-", "-", "-", "-"]


@pytest.mark.parametrize(
    "name",
    [
        "coco/annotations/instances_train2017.json",
        "nuclei/annotations/instances_val.json",
        "car_damage_roboflow_coco/valid/_annotations.coco.json",
    ],
)
def test_perfect_finds_in_a_real_set_score_1(shared_data, name):
    coco_gt = coco.ground_truth(shared_data / name)
    scores = coco.score(coco_gt, perfect_results(coco_gt), max_detections=400)
    assert scores["segm"]["AP"] == pytest.approx(1)
    assert scores["bbox"]["AP"] == pytest.approx(1)


def test_numbers_that_no_class_has_are_left_out():
    names = ["BG", "N/A", "cat"]
    truth = {
        "images": [{"id": 1, "height": 8, "width": 8}],
        "categories": [{"id": 17, "name": "cat"}],
        "annotations": [{"image_id": 1, "category_id": 17, "segmentation": [[0, 0, 4, 0, 4, 4]]}],
    }
    ids = coco.match_categories(names, coco.ground_truth(truth))
    assert ids == [None, None, 17]
    found = {
        "rois": np.array([[0, 0, 4, 4], [0, 0, 4, 4]]),
        "class_ids": np.array([1, 2]),
        "scores": np.array([0.9, 0.8]),
    }
    (result,) = coco.to_results(found, 1, ids)
    assert result["category_id"] == 17


class Failing(Dataset):
    """Images that `load_image` raises a program's own error for."""

    def __init__(self, count: int, bad: tuple) -> None:
        super().__init__()
        self.bad = bad
        self.add_class("a", 1, "thing")
        for number in range(count):
            self.add_image("a", number, None)
        self.prepare()

    def load_image(self, image_id: int) -> np.ndarray:
        if image_id in self.bad:
            raise KeyError("pixels")
        return np.zeros((8, 8, 3), np.uint8)

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:  # noqa: ARG002
        return np.ones((8, 8, 1), bool), np.array([1], np.int32)


def detect_nothing(image):  # noqa: ARG001
    empty = np.zeros((0, 4), np.int32)
    return {
        "rois": empty,
        "class_ids": empty[:, 0],
        "scores": empty[:, 0].astype("f"),
        "masks": np.zeros((8, 8, 0), bool),
    }


def score_failing(dataset):
    ids = dataset.image_ids.tolist()
    truth = coco.Truth(coco.ground_truth_of(dataset, ids), ids, range(2))
    return detecting.score_detector(detect_nothing, dataset, truth, max_detections=5)


def test_whatever_load_image_raises_leaves_an_image_out_of_the_scores(caplog):
    assert score_failing(Failing(10, (3,)))["bbox"]["AP"] == 0
    assert caplog.messages == ["left out of the scores: image 3: KeyError: 'pixels'"]


def test_more_than_a_tenth_of_unreadable_images_is_an_error():
    with pytest.raises(RuntimeError, match=r"2 images cannot be read, more than a tenth: image 3"):
        score_failing(Failing(19, (3, 4)))
