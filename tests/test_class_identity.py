import json
import unicodedata

import numpy as np
import pytest
import sets

from mrcnn import class_names
from mrcnn.data import assembly, check
from mrcnn.data.dataset import Dataset
from mrcnn.data.formats import Source, load_dataset, load_pair
from mrcnn.data.renumbered import renumbered
from mrcnn.evaluation import coco as scores


def parts(tmp_path, train, val):
    """Return the sources of two COCO files of these classes, each with an object in a picture."""
    for part, options in (("train", train), ("val", val)):
        sets.picture(tmp_path / part / "a.png")
        sets.coco(tmp_path / part / "set.json", **options)
    return [Source(tmp_path / part / "set.json", part=part) for part in ("train", "val")]


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("bottle, clear", "bottle, clear"),
        (7, "7"),
        (1.5, "1.5"),
        (None, "class 3"),
        (" ", "class 3"),
    ],
)
def test_the_name_is_the_whole_text(name, text):
    assert class_names.text_of(name, 3) == text


def test_a_name_that_is_no_text_is_refused():
    with pytest.raises(ValueError, match="class 3 has a name that is not a string"):
        class_names.text_of(["nut"], 3)


def test_names_match_in_any_form_of_accents():
    stored, known = (unicodedata.normalize(form, "Blüte") for form in ("NFD", "NFC"))
    assert class_names.matched([stored, "leaf"], [known]) == {stored: known}


@pytest.mark.parametrize("key", ["name", None])
def test_classes_without_names_get_one(tmp_path, key):
    sets.picture(tmp_path / "a.png")
    path = sets.coco(tmp_path / "set.json")

    def change(content):
        content["categories"][0] = {"id": 1} if key is None else {"id": 1, key: None}

    edit(path, change)
    assert load_dataset(path).class_names == ["BG", "class 1"]


@pytest.mark.parametrize(
    ("train", "val"),
    [
        (("nut", "bolt", "pin"), ("nut",)),
        (("nut", "bolt"), ("bolt", "nut")),
        (("nut, long", "nut, short"), ("nut, short", "nut, long")),
        (("nut", "bolt"), ("spare", "nut", "bolt")),  # no objects of the first
    ],
)
def test_classes_of_two_parts_are_matched_by_name(tmp_path, train, val):
    sources = parts(tmp_path, {"classes": train}, {"classes": val})
    if val[0] == "spare":
        edit(sources[1].path, lambda content: content["annotations"][0].update(category_id=2))
    dataset, validation = load_pair(*sources)
    assert validation.class_names == dataset.class_names == ["BG", *train]
    name = val[1] if val[0] == "spare" else val[0]
    assert validation.load_mask(0)[1].tolist() == [1 + train.index(name)]


def test_objects_of_a_class_that_the_training_lacks_are_refused(tmp_path):
    sources = parts(tmp_path, {"classes": ("nut",)}, {"classes": ("bolt",)})
    with pytest.raises(ValueError, match=r"of the unknown classes \['bolt'\]; known are \['nut'\]"):
        load_pair(*sources)


@pytest.mark.parametrize("name", ["_background_", "__background__", "_Background_"])
def test_marks_of_the_background_are_no_class(tmp_path, name):
    sets.picture(tmp_path / "a.png")
    path = sets.coco(tmp_path / "set.json", outlines=(sets.NUT, sets.BOLT), classes=(name, "nut"))
    dataset = load_dataset(path)
    assert dataset.class_names == ["BG", "nut"]
    assert dataset.load_mask(0)[1].tolist() == [1]
    assert [(loss.reason, loss.count) for loss in dataset.losses] == [("of the background", 1)]


@pytest.mark.parametrize("has_objects", [False, True])
def test_background_is_a_class_only_if_something_is_outlined_as_it(tmp_path, has_objects):
    outlines = (sets.NUT, sets.BOLT)[: 1 + has_objects]
    sets.picture(tmp_path / "a.png")
    path = sets.coco(tmp_path / "set.json", outlines=outlines, classes=("nut", "background"))
    names = load_dataset(path).class_names
    assert names == (["BG", "nut", "background"] if has_objects else ["BG", "nut"])


def title(content):
    """Make class 1 a title as Roboflow writes it."""
    content["categories"] = [
        {"id": 0, "name": "tools", "supercategory": "none"},
        {"id": 1, "name": "nut", "supercategory": "tools"},
    ]


def test_a_title_is_told_from_both_parts(tmp_path):
    sources = parts(tmp_path, {}, {})
    for source in sources:
        edit(source.path, title)
    assert load_pair(*sources)[0].class_names == ["BG", "nut"]
    edit(sources[1].path, lambda content: content["annotations"][0].update(category_id=0))
    for first, second in (sources, sources[::-1]):
        dataset, validation = load_pair(first, second)
        assert dataset.class_names == validation.class_names == ["BG", "tools", "nut"]
    loaded, _ = check.load_parts_for_check({"training": sources[0], "validation": sources[1]})
    assert {each.num_classes for each in loaded.values()} == {3}


@pytest.mark.parametrize("named", ["train", "val"])
def test_an_unnamed_class_is_the_one_that_there_is(tmp_path, named):
    for part in ("train", "val"):
        sets.picture(tmp_path / "leaf" / part / "a.png")
        path = tmp_path / "leaf" / part / "set.json"
        if part == named:
            sets.coco(path, classes=("nut",))
        else:
            sets.via(path, {"a.png": [sets.NUT]})
    dataset, validation = load_pair(
        *(Source(tmp_path / "leaf" / part / "set.json") for part in ("train", "val"))
    )
    assert dataset.class_names == validation.class_names
    assert validation.load_mask(0)[1].tolist() == [1]


def test_scores_are_of_the_classes_that_the_annotations_have():
    truth = scores.ground_truth(
        {
            "images": [{"id": 1, "width": 64, "height": 48}],
            "categories": [{"id": 4, "name": "bolt"}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 4, "segmentation": [sets.NUT]}],
        }
    )
    assert scores.match_categories(["BG", "nut", "bolt, long", "bolt"], truth) == [
        None,
        None,
        None,
        4,
    ]


def test_too_many_classes_are_refused_before_they_cost_memory(tmp_path):
    sets.picture(tmp_path / "a.png")
    path = sets.coco(
        tmp_path / "set.json", classes=[f"kind {n}" for n in range(assembly.MOST_CLASSES + 1)]
    )
    with pytest.raises(ValueError, match="20001 classes, but at most 20000 are allowed"):
        load_dataset(path)


def test_a_class_may_be_called_like_the_background(tmp_path):
    sets.picture(tmp_path / "a.png")
    path = sets.coco(tmp_path / "set.json", outlines=(sets.NUT, sets.BOLT), classes=("nut", "BG"))
    dataset = load_dataset(path)
    assert dataset.class_names == ["BG", "nut", "BG"]
    other = renumbered(dataset, ["BG", "BG", "nut"])
    assert other.load_mask(0)[1].tolist() == [2, 1]


def test_two_ids_of_one_name_are_refused(tmp_path):
    sets.picture(tmp_path / "images" / "a.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n1 0.3 0.3 0.2 0.2\n")
    (tmp_path / "data.yaml").write_text("names: [nut, nut]")
    with pytest.raises(ValueError, match="2 class ids with objects have the name 'nut'"):
        load_dataset(tmp_path)


@pytest.mark.parametrize("is_own", [False, True])
def test_a_network_counts_classes_by_their_names(tmp_path, is_own):
    sets.picture(tmp_path / "a.png")
    path = sets.coco(tmp_path / "set.json", outlines=(sets.NUT, sets.BOLT), classes=("nut", "bolt"))
    dataset = load_dataset(path)
    if is_own:
        dataset = Dataset()
        for number, name in enumerate(("nut", "bolt"), start=1):
            dataset.add_class("own", number, name)
        dataset.add_image("own", 0, path=None)
        dataset.prepare()
        dataset.load_mask = lambda _: (np.ones((4, 4, 3), bool), np.array([1, -2, 2]))
    other = renumbered(dataset, ["BG", "pin", "bolt", "nut"])
    assert other.num_classes == 4
    assert other.class_names == ["BG", "pin", "bolt", "nut"]
    assert other.load_mask(0)[1].tolist() == ([3, -2, 2] if is_own else [3, 2])
    assert renumbered(dataset, ["BG", "nut", "bolt"]) is dataset
    with pytest.raises(ValueError, match=r"the network has no classes \['bolt'\]"):
        renumbered(dataset, ["BG", "nut", "pin"])
