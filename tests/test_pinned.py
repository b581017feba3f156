"""Behaviour that mutations of the code once left untested: a case for each."""

import json

import numpy as np
import PIL.Image
import pytest

from mrcnn.cli import common
from mrcnn.data import pipeline
from mrcnn.data.check import Limits, check
from mrcnn.data.dataset import Dataset
from mrcnn.data.formats import load_dataset
from mrcnn.data.formats.coco import load_coco
from mrcnn.data.suggest import InputSize, suggest
from mrcnn.data.survey import ImageSurvey
from mrcnn.evaluation import coco, detecting, keypoints
from mrcnn.geometry import images

SQUARE = [1, 1, 4, 1, 4, 3, 1, 3]  # x 1 to 4, y 1 to 3


def write_coco(folder, categories, annotations, *, size=(10, 8), orientation=None):
    """Write a picture of this width and height and its COCO file."""
    exif = PIL.Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    folder.mkdir(exist_ok=True)
    PIL.Image.new("RGB", size).save(folder / "a.jpg", exif=exif)
    for number, annotation in enumerate(annotations):
        annotation |= {"id": number + 1, "image_id": 1}
    image = {"id": 1, "file_name": "a.jpg", "width": size[0], "height": size[1]}
    content = {"images": [image], "annotations": annotations, "categories": categories}
    path = folder / "a.json"
    path.write_text(json.dumps(content))
    return path


def named(*names):
    return [{"id": number, "name": name} for number, name in enumerate(names, 1)]


def annotation_of(category_id):
    return {"category_id": category_id, "segmentation": [SQUARE]}


def corners(mask):
    rows, cols = np.nonzero(mask)
    return [rows.min(), cols.min(), rows.max() + 1, cols.max() + 1]


# Images


@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_orientations_that_keep_the_size_leave_the_masks_where_they_are(tmp_path, orientation):
    path = write_coco(tmp_path, named("leaf"), [annotation_of(1)], orientation=orientation)
    assert corners(load_coco(path, tmp_path).load_mask(0)[0][..., 0]) == [1, 1, 3, 4]


@pytest.mark.parametrize("orientation", [3, 5, 6, 8])
def test_masks_of_square_images_stay_where_they_are(tmp_path, orientation):
    path = write_coco(
        tmp_path, named("leaf"), [annotation_of(1)], size=(8, 8), orientation=orientation
    )
    assert corners(load_coco(path, tmp_path).load_mask(0)[0][..., 0]) == [1, 1, 3, 4]


def test_a_pgm_of_16_bits_is_read_as_one(tmp_path):
    values = np.array([[0, 255, 256, 4095, 65535]], np.uint16)
    header = b"P5 5 1 65535\n"
    (tmp_path / "a.pgm").write_bytes(header + values.astype(">u2").tobytes())
    expected = np.rint(255 / 12 * np.log2(1 + values / 16)).clip(max=255)
    found = images.read_image(tmp_path / "a.pgm", 3)
    np.testing.assert_array_equal(found[..., 0], expected)


def test_a_dark_pgm_of_16_bits_is_no_picture_of_8(tmp_path):
    values = np.array([[16, 48, 240]], np.uint16)
    (tmp_path / "a.pgm").write_bytes(b"P5 3 1 65535\n" + values.astype(">u2").tobytes())
    found = images.read_image(tmp_path / "a.pgm", 3)
    np.testing.assert_array_equal(found[0, :, 0], [21, 42, 85])  # 255 / 12 * log2(2, 4, 16)


# Readers


def test_category_ids_that_are_text_come_after_numbers_in_their_order(tmp_path):
    ids = ["10", 7, "2", 30]
    categories = [{"id": each, "name": f"of {each!r}"} for each in ids]
    dataset = load_coco(write_coco(tmp_path, categories, [annotation_of(7)]), tmp_path)
    assert dataset.class_names == ["BG", "of 7", "of 30", "of '10'", "of '2'"]


def test_roboflows_title_is_known_by_its_classes_that_name_it_as_parent(tmp_path):
    categories = [
        {"id": 0, "name": "flowers", "supercategory": "all"},
        {"id": 1, "name": "rose", "supercategory": "flowers"},
    ]
    dataset = load_coco(write_coco(tmp_path, categories, [annotation_of(1)]), tmp_path)
    assert dataset.class_names == ["BG", "rose"]
    categories[1]["supercategory"] = "others"
    dataset = load_coco(write_coco(tmp_path, categories, [annotation_of(1)]), tmp_path)
    assert dataset.class_names == ["BG", "flowers", "rose"]


def test_of_unused_categories_of_one_name_one_is_kept(tmp_path):
    path = write_coco(tmp_path, named("a", "twin", "twin", "b"), [annotation_of(1)])
    assert load_coco(path, tmp_path).class_names == ["BG", "a", "twin", "b"]


def via_of(folder, *shapes, **attributes):
    PIL.Image.new("RGB", (40, 40)).save(folder / "a.png")
    regions = [{"shape_attributes": shape, "region_attributes": attributes} for shape in shapes]
    content = {"a.png1": {"filename": "a.png", "size": 1, "regions": regions}}
    (folder / "via.json").write_text(json.dumps(content))
    return folder / "via.json"


RECTANGLE = {"name": "rect", "x": 1, "y": 2, "width": 3, "height": 2}


def test_an_object_of_several_ticked_boxes_has_no_class(tmp_path):
    path = via_of(tmp_path, RECTANGLE, RECTANGLE, kind={"leaf": False, "stem": True})
    assert load_dataset(path).class_names == ["BG", "stem"]
    content = json.loads(path.read_text())
    kind = content["a.png1"]["regions"][1]["region_attributes"]["kind"]
    kind["leaf"] = True
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="class"):
        load_dataset(path)


def test_a_positive_theta_turns_an_ellipse_clockwise(tmp_path):
    ellipse = {"name": "ellipse", "cx": 20, "cy": 20, "rx": 15, "ry": 3, "theta": np.pi / 6}
    mask = load_dataset(via_of(tmp_path, ellipse, kind="leaf")).load_mask(0)[0][..., 0]
    # Its right end goes down, where rows are large.
    assert mask[26, 31]
    assert not mask[13, 31]


@pytest.mark.parametrize("suffix", ["", "_mask", "_masks", "_label", "_labels"])
def test_label_images_are_found_by_the_suffixes_of_their_names(tmp_path, suffix):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    PIL.Image.new("RGB", (6, 5)).save(tmp_path / "images" / "a.png")
    labels = np.zeros((5, 6), np.uint8)
    labels[1:3, 2:4] = 1
    PIL.Image.fromarray(labels).save(tmp_path / "masks" / f"a{suffix}.png")
    dataset = load_dataset(tmp_path)
    assert corners(dataset.load_mask(0)[0][..., 0]) == [1, 2, 3, 4]


def yolo_of(folder, text, *, yaml="names: [leaf, stem]", part=""):
    for kind in ("images", "labels"):
        (folder / kind / part).mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", (10, 10)).save(folder / "images" / part / "a.png")
    (folder / "labels" / part / "a.txt").write_text(text)
    if yaml:
        (folder / "data.yaml").write_text(yaml)
    return folder


def test_fractions_of_yolo_may_go_a_little_beyond_the_image(tmp_path):
    dataset = load_dataset(yolo_of(tmp_path, "0 0.5 0.5 1.9 0.5 1.9 1 0.5 1"))
    assert corners(dataset.load_mask(0)[0][..., 0]) == [5, 5, 10, 10]
    with pytest.raises(ValueError, match="no fractions"):
        load_dataset(yolo_of(tmp_path, "0 0.5 0.5 2.1 0.5 2.1 1 0.5 1"))


@pytest.mark.parametrize(
    "name", ["classes", "labels", "names", "train", "val", "test", "README.dataset"]
)
def test_texts_of_yolo_that_are_no_labels_are_passed_over(tmp_path, name):
    yolo_of(tmp_path, "0 0.5 0.5 0.4 0.4")
    (tmp_path / "labels" / f"{name}.txt").write_text("leaf\nstem\n")
    assert load_dataset(tmp_path).num_images == 1


@pytest.mark.parametrize(("levels", "is_found"), [(3, True), (4, False)])
def test_names_of_yolo_are_sought_three_folders_up(tmp_path, levels, is_found):
    depth = tmp_path.joinpath(*"abcdef"[: levels - 1])
    yolo_of(depth, "0 0.5 0.5 0.4 0.4", yaml=None)
    (tmp_path / "classes.txt").write_text("leaf\nstem\n")
    names = load_dataset(depth / "labels").class_names
    assert (names == ["BG", "leaf", "stem"]) == is_found


def test_classes_are_numbered_in_the_order_that_is_asked_for(tmp_path):
    annotations = [annotation_of(3), annotation_of(1)]
    path = write_coco(tmp_path, named("a", "b", "c"), annotations)
    dataset = load_dataset(path, class_names=["c", "x", "b", "a"])
    assert dataset.class_names == ["BG", "c", "x", "b", "a"]
    assert dataset.load_mask(0)[1].tolist() == [1, 4]


# The doctor


def survey_of(size, sides):
    boxes = np.array([[0, 0, side, side] for side in sides], float).reshape(-1, 4)
    return ImageSurvey("a", size, np.ones(len(boxes), np.int32), boxes)


def test_the_input_holds_nineteen_of_twenty_images():
    usual, large = [survey_of((300, 320), [60])] * 97, [survey_of((300, 960), [60])] * 3
    assert suggest(usual + large, InputSize())["IMAGE_MAX_DIM"].value == 320
    more = usual[:90] + large * 3 + large[:1]
    assert suggest(more, InputSize())["IMAGE_MAX_DIM"].value == 960


@pytest.mark.parametrize(("small", "severity"), [(1, "info"), (2, "warning")])
def test_more_than_one_small_object_in_twenty_is_a_warning(tmp_path, small, severity):
    objects = []
    for place in range(20):
        side = 4 if place < small else 30
        x, y = 40 * (place % 5), 40 * (place // 5)
        outline = [x, y, x + side, y, x + side, y + side, x, y + side]
        objects.append({"category_id": 1, "segmentation": [outline]})
    path = write_coco(tmp_path, named("leaf"), objects, size=(200, 200))
    limits = Limits(input_size=InputSize(mode="none"), smallest_anchor=8)
    findings = check(load_dataset(path), limits=limits)
    assert [each.severity for each in findings if each.code == "small-objects"] == [severity]


# Detections and scores


def test_a_score_at_the_limit_is_kept():
    found = {"scores": np.array([0.7, 0.5, 0.4999]), "masks": np.zeros((2, 2, 3), bool)}
    assert common.at_least(found, 0.5)["scores"].tolist() == [0.7, 0.5]


def test_keypoints_that_are_not_there_are_not_moved_by_half_a_pixel():
    points = np.array([[4.5, 2.5, 2], [4.5, 2.5, 1], [0, 0, 0]])
    assert keypoints.to_coco(points)["keypoints"] == [2, 4, 2, 2, 4, 1, 0, 0, 0]


def test_the_best_twenty_persons_of_an_image_count():
    points = [10.0, 10, 2, 30, 30, 2]
    truth = {
        "images": [{"id": 1, "width": 64, "height": 64}],
        "categories": [{"id": 1, "name": "person", "keypoints": ["a", "b"], "skeleton": []}],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 1,
                "keypoints": points,
                "num_keypoints": 2,
                "segmentation": [[4, 4, 60, 4, 60, 60, 4, 60]],
                "bbox": [4, 4, 56, 56],
                "area": 3136,
                "iscrowd": 0,
            }
        ],
    }

    def recall(better):
        far = {"image_id": 1, "category_id": 1, "keypoints": [60.0, 2, 2, 2, 60, 2]}
        far |= {"bbox": [4, 4, 56, 56]}
        results = [{**far, "score": 0.9 - place / 100} for place in range(better)]
        results.append({**far, "keypoints": points, "score": 0.1})
        scores = coco.score(coco.ground_truth(truth), results, iou_types=["keypoints"])
        return scores["keypoints"]["AP50"]

    assert recall(19) > 0
    assert recall(20) == 0


class Unreadable(Dataset):
    """Images of which some cannot be read."""

    def __init__(self, count, bad=()):
        super().__init__()
        self.bad = bad
        self.add_class("a", 1, "thing")
        for number in range(count):
            self.add_image("a", number, f"{number}.png")
        self.prepare()

    def load_image(self, image_id):
        if image_id in self.bad:
            raise OSError("it is away")
        return np.full((8, 8, 3), image_id, np.uint8)

    def load_mask(self, image_id):  # noqa: ARG002
        return np.ones((8, 8, 1), bool), np.array([1], np.int32)


@pytest.mark.parametrize(("count", "is_scored"), [(10, True), (9, False)])
def test_a_tenth_of_the_images_may_be_unreadable_and_no_more(count, is_scored):
    dataset = Unreadable(count, bad=(4,))
    ids = dataset.image_ids.tolist()
    truth = coco.Truth(coco.ground_truth_of(dataset, ids), ids, range(2))
    nothing = {"rois": np.zeros((0, 4)), "class_ids": np.zeros(0, int), "scores": np.zeros(0)}
    nothing["masks"] = np.zeros((8, 8, 0), bool)

    def scores():
        return detecting.score_detector(lambda _: nothing, dataset, truth, max_detections=5)

    if is_scored:
        assert scores()["bbox"]["AP"] == 0
    else:
        with pytest.raises(RuntimeError, match="more than a tenth"):
            scores()


def test_an_image_that_takes_the_place_of_another_draws_its_own_chance():
    sample_format = pipeline.SampleFormat(
        min_dim=64,
        max_dim=64,
        min_scale=0,
        mode="square",
        mini_mask_shape=(14, 14),
        max_instances=4,
        num_classes=2,
    )

    def seeds(bad):
        dataset = Unreadable(12, bad)
        stream = pipeline.BatchStream(dataset, sample_format, 1, shuffle=False, workers=0, count=6)
        return [int(batch["input_seed"][0]) for batch in stream]

    whole, replaced = seeds(()), seeds((3,))
    assert [place for place in range(6) if whole[place] != replaced[place]] == [3]


def test_keypoints_that_are_not_there_stay_at_zero_when_they_are_read(tmp_path):
    categories = [{"id": 1, "name": "nut", "keypoints": ["tip", "end"]}]
    annotation = {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "segmentation": [SQUARE],
        "keypoints": [2, 3, 2, 0, 0, 0],
    }
    path = write_coco(tmp_path, categories, [annotation])
    points = load_coco(path).load_keypoints(0)
    np.testing.assert_array_equal(points[0], [[3.5, 2.5, 2], [0, 0, 0]])
