import itertools
import json
import shutil

import numpy as np
import PIL.Image
import pytest
from sets import BOLT, NUT, coco, picture

from mrcnn import files
from mrcnn.data import splits
from mrcnn.data.annotated import AnnotatedDataset, AnnotatedImage, Annotations
from mrcnn.data.formats import load_dataset
from mrcnn.data.outlines import AnnotatedObject, Polygon
from mrcnn.data.problems import Finding, Loss

OUTLINE = [Polygon(np.array([[1, 1], [9, 1], [9, 9]], float))]


def dataset_of(images, num_classes=6, folder="/none"):
    """Return a dataset of these images, name -> class numbers, whose files do not exist."""
    classes = {number: f"class {number}" for number in range(num_classes)}
    listed = [
        AnnotatedImage(n, f"{folder}/{name}", [AnnotatedObject(c, OUTLINE) for c in own], (16, 16))
        for n, (name, own) in enumerate(images.items())
    ]
    return AnnotatedDataset(Annotations("coco", classes, listed))


def random_images(rng):
    """Return images of random classes, some in several copies as Roboflow makes them."""
    images = {}
    for number in range(rng.integers(0, 40)):
        own = np.flatnonzero(rng.random(6) < rng.choice([0.05, 0.3])).tolist()
        for copy in range(rng.choice([1, 1, 1, 3])):
            images[f"{number}_jpg.rf.{copy:032x}.jpg"] = own
    return images


def groups_in(names):
    return {name.partition("_jpg")[0] for name in names}


@pytest.mark.parametrize("seed", range(40))
def test_properties_of_a_split(seed):
    rng = np.random.default_rng(seed)
    images, share = random_images(rng), rng.choice([0.1, 0.2, 0.5])
    split = splits.split(dataset_of(images), share, seed)
    train, val = split["train"], split["val"]
    assert sorted(train + val) == sorted(images)  # disjoint and complete
    assert not groups_in(train) & groups_in(val)
    assert {c for own in images.values() for c in own} == {
        c for name in train for c in images[name]
    }
    shuffled = dict(rng.permutation(np.array(list(images.items()), object))) if images else {}
    assert splits.split(dataset_of(shuffled), share, seed) == split
    if len(groups_in(images)) < splits.FEWEST_GROUPS:
        assert not val


@pytest.mark.parametrize("share", [0.1, 0.2, 0.4, 0.5])
def test_images_and_classes_have_the_share_that_was_asked_for(share):
    images = {f"{n}.jpg": [0] if n % 4 else [0, 1] for n in range(100)}
    val = splits.split(dataset_of(images), share)["val"]
    assert len(val) == pytest.approx(100 * share, abs=1)
    assert sum(1 in images[name] for name in val) == pytest.approx(25 * share, abs=1)


def test_another_seed_is_another_split():
    dataset = dataset_of({f"{n}.jpg": [0] for n in range(50)})
    assert len({tuple(splits.split(dataset, seed=seed)["val"]) for seed in range(4)}) == 4


@pytest.mark.parametrize("count", [5, 6])
def test_a_few_images_are_enough_for_one_to_be_set_aside(count):
    dataset = dataset_of({f"{n}.jpg": [0] for n in range(count)})
    assert len(splits.split(dataset, 0.05)["val"]) == 1


def test_no_image_is_set_aside_if_each_has_a_class_of_its_own():
    assert not splits.split(dataset_of({f"{n}.jpg": [n] for n in range(6)}))["val"]


def test_a_share_of_0_is_no_split():
    dataset = dataset_of({f"{n}.jpg": [0] for n in range(50)})
    assert splits.split(dataset, 0) == {"train": sorted(splits.image_names(dataset)), "val": []}


@pytest.mark.parametrize("share", [-0.1, 0.6, float("nan")])
def test_a_share_that_cannot_be(share):
    with pytest.raises(ValueError, match=r"from 0 to 0.5, got"):
        splits.split(dataset_of({"a.jpg": [0]}), share)


def test_images_of_the_same_picture_are_one_group(tmp_path):
    picture(tmp_path / "a.png", level=9)
    shutil.copy(tmp_path / "a.png", tmp_path / "same bytes.png")
    PIL.Image.open(tmp_path / "a.png").save(tmp_path / "same pixels.bmp")
    picture(tmp_path / "b.png", level=10)
    picture(tmp_path / "c_jpg.rf.0123456789abcdef.png", level=11)
    picture(tmp_path / "c_jpg.rf.fedcba9876543210.png", level=12)
    picture(tmp_path / "d.png", level=13)
    picture(tmp_path / "d.bmp", level=14)
    picture(tmp_path / "other" / "d.png", level=15)
    names = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.*"))
    dataset = load_dataset(coco(tmp_path / "coco.json", names))
    found = {frozenset(names[i] for i in group) for group in splits.groups_of(dataset)}
    assert found == {
        frozenset({"a.png", "same bytes.png", "same pixels.bmp"}),
        frozenset({"b.png"}),
        frozenset({"c_jpg.rf.0123456789abcdef.png", "c_jpg.rf.fedcba9876543210.png"}),
        frozenset({"d.png", "d.bmp"}),
        frozenset({"other/d.png"}),
    }


def test_groups_join_over_a_third_image(tmp_path):
    """The first two have the same name, the last two the same pixels."""
    picture(tmp_path / "a.png", level=1)
    picture(tmp_path / "a.bmp", level=2)
    picture(tmp_path / "b.png", level=2)
    for names in itertools.permutations(["a.png", "a.bmp", "b.png"]):
        dataset = load_dataset(coco(tmp_path / "coco.json", names))
        assert len(splits.groups_of(dataset)) == 1


def test_names_are_paths_below_the_folder_of_all_images():
    dataset = dataset_of({"x/a.jpg": [], "y/a.jpg": []}, folder="/sets/nuts")
    assert splits.image_names(dataset) == ["x/a.jpg", "y/a.jpg"]


def test_a_part_keeps_classes_objects_and_its_own_findings(tmp_path):
    names = ["a.png", "b.png", "c.png"]
    for name in names:
        picture(tmp_path / name)
    path = coco(tmp_path / "coco.json", names, [NUT, BOLT], ["nut", "bolt", "washer"])
    dataset = load_dataset(path)
    about = [None, "a.png", "c.png"]
    dataset.problems = [Finding("warning", "x", "y", image=image) for image in about]
    dataset.losses = [Loss("nut", "z", image) for image in about]
    part = splits.part_of(dataset, ["c.png", "b.png"])
    assert part.num_images == 2
    assert part.class_names == dataset.class_names
    assert [info["id"] for info in part.image_info] == [1, 2]
    np.testing.assert_array_equal(part.load_mask(1)[0], dataset.load_mask(2)[0])
    assert [each.image for each in part.problems] == [None, "c.png"]
    assert [each.image for each in part.losses] == [None, "c.png"]
    assert dataset.num_images == 3
    assert repr(dataset).startswith(
        "<AnnotatedDataset: coco, 3 images, 6 objects, 3 classes (nut, bolt, washer), in "
    )


def test_a_part_with_images_that_the_dataset_lacks():
    with pytest.raises(ValueError, match=r"1 of 2 images .* such as c.jpg: pass the dataset"):
        splits.part_of(dataset_of({"a.jpg": [0], "b.jpg": [0]}), ["a.jpg", "c.jpg"])


def test_a_split_is_read_as_it_was_written(tmp_path):
    split = {"train": ["a.jpg", "ü/b.jpg"], "val": []}
    files.write_json(tmp_path / "run" / "split.json", split)
    assert splits.read_split(tmp_path / "run" / "split.json") == split


def test_a_dataset_that_has_grown_keeps_its_validation_images():
    first = {f"{n}_jpg.rf.{n:032x}.jpg": [n % 2] for n in range(20)}
    known = splits.split(dataset_of(first))
    copy = known["val"][0].partition("_jpg")[0]
    grown = dataset_of({"new.jpg": [0], f"{copy}_jpg.rf.{99:032x}.jpg": [1], **first})
    split = splits.again(grown, known)
    assert split["val"] == sorted([*known["val"], f"{copy}_jpg.rf.{99:032x}.jpg"])
    assert split["train"] == sorted(["new.jpg", *known["train"]])


def test_a_split_of_another_dataset_is_not_repeated():
    assert splits.again(dataset_of({"a.jpg": [0], "b.jpg": [0]}), {"val": ["c.jpg"]}) is None
    assert splits.again(dataset_of({"a.jpg": [0]}), {"val": ["a.jpg"]}) is None


@pytest.mark.parametrize("content", ["{", "[]", '{"train": 3}', '{"val": [3]}', '{"folds": []}'])
def test_a_file_that_is_no_split(tmp_path, content):
    path = tmp_path / "split.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"split.json is no split of a dataset"):
        splits.read_split(path)


def test_a_split_of_a_public_set(shared_data):
    dataset = load_dataset(shared_data / "rice_leaf_via1_multiclass" / "train")
    split = splits.split(dataset)
    assert (len(split["train"]), len(split["val"])) == (24, 6)
    for names in split.values():
        part = splits.part_of(dataset, names)
        assert set().union(*map(part.classes_in, part.image_ids)) == {1, 2, 3}
    assert json.dumps(splits.split(dataset)) == json.dumps(split)
