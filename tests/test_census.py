import json

import numpy as np
import pytest
import sets

from mrcnn.data import census, check
from mrcnn.data.dataset import Dataset
from mrcnn.data.formats import load_dataset
from mrcnn.data.problems import Problems
from mrcnn.data.suggest import InputSize

THIN = [8, 8, 24, 8, 24, 8]
OUTSIDE = [80, 8, 96, 8, 96, 24]
TINY = [8.1, 8.1, 9, 8.1, 9, 9, 8.1, 9]


def taken(dataset, side=64, most=100):
    return census.take(dataset, InputSize(side, side), most)


def findings(dataset, most=100):
    problems = Problems(strict=False)
    census.report(taken(dataset, most=most), problems)
    return {each.code: each for each in problems.found}


@pytest.fixture
def one_image(tmp_path):
    sets.picture(tmp_path / "a.png")

    def load(outlines, **changes):
        return load_dataset(sets.coco(tmp_path / "set.json", outlines=outlines, **changes))

    return load


@pytest.mark.parametrize(
    ("outline", "changes", "reason"),
    [
        (THIN, {}, "no area"),
        ([1, 2], {}, "unsupported shape"),
        (sets.BOLT, {"iscrowd": "1"}, "crowd"),
    ],
)
def test_reasons_of_losses(tmp_path, outline, changes, reason):
    sets.picture(tmp_path / "a.png")
    path = sets.coco(tmp_path / "set.json", outlines=(sets.NUT, outline))
    content = json.loads(path.read_text())
    content["annotations"][1].update(changes)
    path.write_text(json.dumps(content))
    found = taken(load_dataset(path))
    assert found.annotated == {"nut": 2}
    assert dict(found.reasons("nut")) == {reason: 1}


def test_what_lies_outside_is_told_from_what_has_no_area(tmp_path):
    sets.picture(tmp_path / "a.png")
    dataset = load_dataset(sets.via(tmp_path / "via.json", {"a.png": [sets.NUT, OUTSIDE, THIN]}))
    assert dict(taken(dataset).reasons()) == {"cut off by the border": 1, "no area": 1}


def test_objects_that_vanish_in_the_input_are_lost(one_image):
    dataset = one_image([sets.NUT, TINY])
    assert not taken(dataset).losses
    assert dict(taken(dataset, 16).reasons()) == {"nothing left of it in the input": 1}


def test_objects_beyond_the_limit_are_lost(one_image):
    dataset = one_image([sets.NUT, sets.BOLT, sets.NUT])
    assert dict(taken(dataset, most=1).reasons()) == {"more than MAX_GT_INSTANCES": 2}
    assert "2 of 3 objects will not be learned" in findings(dataset, most=1)["objects-lost"].message


def test_crops_of_an_image_do_not_have_all_of_its_objects(one_image):
    dataset = one_image([sets.NUT, sets.BOLT, sets.NUT])
    assert not census.take(dataset, InputSize(32, 32, 0, "crop"), 1).losses


def test_a_set_of_crowds_alone_is_an_error(one_image):
    found = findings(one_image([sets.NUT, sets.BOLT], iscrowd=1))
    assert list(found) == ["nothing-to-learn"]
    assert found["nothing-to-learn"].severity == "error"
    assert "none of the 2 objects can be learned: 2 crowd" in found["nothing-to-learn"].message


def test_a_class_that_loses_everything_is_an_error(tmp_path):
    sets.picture(tmp_path / "a.png")
    path = sets.coco(tmp_path / "set.json", outlines=(sets.NUT, THIN), classes=("nut", "pin"))
    found = findings(load_dataset(path))
    assert found["class-lost"].severity == "error"
    assert "none of the 1 objects of the class 'pin'" in found["class-lost"].message
    findings_of_check = check.check(*[check.load_for_check(path)[0]])
    assert "class-lost" in [each.code for each in findings_of_check]


def test_a_tenth_is_a_warning_and_less_is_none(one_image):
    assert "objects-lost" not in findings(one_image([sets.NUT] * 10 + [THIN]))
    found = findings(one_image([sets.NUT] * 9 + [THIN]))
    assert found["objects-lost"].severity == "warning"
    assert "1 of 10 objects" in found["objects-lost"].message


def test_images_that_lose_all_their_objects_are_named(tmp_path):
    for name in ("a.png", "b.png"):
        sets.picture(tmp_path / name)
    path = sets.via(tmp_path / "via.json", {"a.png": [sets.NUT] * 20, "b.png": [THIN]})
    assert "trained as background: b.png" in findings(load_dataset(path))["image-lost"].message


def test_a_training_refuses_a_set_with_nothing_to_learn(one_image):
    with pytest.raises(ValueError, match="none of the 1 objects can be learned: 1 crowd"):
        census.check_training(one_image([sets.NUT], iscrowd=1), InputSize(), 100)


class Own(Dataset):
    """Four images of a program, each with the same class ids."""

    def __init__(self, class_ids, source="own"):
        super().__init__()
        self.add_class("own", 1, "nut")
        self.answer = np.array(class_ids, np.int32)
        for number in range(4):
            self.add_image(source, number, path=None)
        self.prepare()

    def load_mask(self, image_id):  # noqa: ARG002
        return np.ones((4, 4, len(self.answer)), bool), self.answer


def test_a_program_whose_images_have_no_objects_is_told(caplog):
    census.check_training(Own([]), InputSize(), 100)
    assert "none of the 4 images examined, of 4, has an object: Own.load_mask" in caplog.text


def test_a_program_whose_objects_are_all_crowds_is_refused():
    with pytest.raises(ValueError, match="none of the 8 objects can be learned: 8 crowd"):
        census.check_training(Own([-1, -1]), InputSize(), 100)


def test_objects_under_a_source_without_their_class_are_refused():
    with pytest.raises(
        ValueError, match=r"from the source 'other' but has objects .*'nut'.*of \['o"
    ):
        census.check_training(Own([1], source="other"), InputSize(), 100)


def test_images_that_a_program_cannot_load_are_left_to_the_training(caplog):
    class Broken(Own):
        def load_mask(self, image_id):
            raise IndexError(image_id)

    census.check_training(Broken([1]), InputSize(), 100)
    assert not caplog.text


def test_classes_of_points_alone_are_a_warning(tmp_path):
    sets.picture(tmp_path / "a.png")
    nut = {"label": "nut", "points": sets.corners(sets.NUT), "shape_type": "polygon"}
    tip = {"label": "tip", "points": [[8, 8]], "shape_type": "point"}
    dataset = load_dataset(sets.labelme(tmp_path / "a.json", [nut, tip]))
    found = findings(dataset)["class-lost"]
    assert found.severity == "warning"
    assert "none of the 1 objects of the class 'tip' can be learned: 1 drawn as" in found.message


def test_ignored_regions_are_of_no_class(tmp_path):
    sets.picture(tmp_path / "a.png")
    outline = {"points": sets.corners(sets.NUT), "shape_type": "polygon"}
    shapes = [{"label": label, **outline} for label in ("nut", "__ignore__")]
    (tmp_path / "labels.txt").write_text("bolt\nnut\n")
    dataset = load_dataset(sets.labelme(tmp_path / "a.json", shapes))
    assert taken(dataset).annotated == {"nut": 1}
    assert dataset.load_mask(0)[1].tolist() == [2, -1]
    assert not findings(dataset)


@pytest.mark.parametrize("reader", ["coco", "labelme"])
def test_an_image_of_which_the_reader_dropped_all_is_named(tmp_path, reader):
    for name in ("a.png", "b.png"):
        sets.picture(tmp_path / name)
    if reader == "labelme":
        shape = {"label": "nut", "points": sets.corners(sets.NUT), "shape_type": "polygon"}
        sets.labelme(tmp_path / "a.json", [shape] * 20)
        sets.labelme(tmp_path / "b.json", [{**shape, "points": [[1, 1]]}])
    else:
        path = sets.coco(tmp_path / "set.json", ["a.png", "b.png"])
        content = json.loads(path.read_text())
        content["annotations"] += [{**content["annotations"][0], "id": n} for n in range(2, 22)]
        content["annotations"][1]["segmentation"] = [THIN]
        path.write_text(json.dumps(content))
    assert "trained as background: b.png" in findings(load_dataset(tmp_path))["image-lost"].message


def test_a_program_whose_masks_are_empty_is_refused():
    class Empty(Own):
        def load_mask(self, image_id):  # noqa: ARG002
            masks = np.zeros((4, 4, 2), bool)
            masks[..., 1] = self.num_classes == 3
            return masks, np.array([1, self.num_classes - 1])

    with pytest.raises(ValueError, match="none of the 8 objects can be learned: 8 no area"):
        census.check_training(Empty([1]), InputSize(), 100)
    dataset = Empty([1])
    dataset.add_class("own", 2, "bolt")
    dataset.prepare()
    with pytest.raises(ValueError, match="none of the 4 objects of the class 'nut' can"):
        census.check_training(dataset, InputSize(), 100)


def test_a_set_without_images_is_left_to_the_training(caplog):
    dataset = Dataset()
    dataset.prepare()
    census.check_training(dataset, InputSize(), 100)
    assert not caplog.text
