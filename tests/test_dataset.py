import re

import numpy as np
import PIL.Image
import pytest

from mrcnn.data.dataset import BadSample, Dataset


@pytest.fixture
def two_sources():
    dataset = Dataset()
    dataset.add_class("coco", 1, "person")
    dataset.add_class("coco", 18, "dog, hound")
    dataset.add_class("shapes", 1, "square")
    dataset.add_image("coco", 42, "a.jpg", width=5)
    dataset.add_image("shapes", "b", "b.jpg")
    dataset.prepare()
    return dataset


def test_background_comes_first(two_sources):
    assert two_sources.num_classes == 4
    assert two_sources.class_names == ["BG", "person", "dog, hound", "square"]
    assert two_sources.class_info[0] == {"source": "", "id": 0, "name": "BG"}


def test_images_are_numbered_and_keep_their_keywords(two_sources):
    assert list(two_sources.image_ids) == [0, 1]
    assert two_sources.num_images == 2
    assert two_sources.image_info[0] == {"id": 42, "source": "coco", "path": "a.jpg", "width": 5}
    assert two_sources.image_from_source_map == {"coco.42": 0, "shapes.b": 1}


def test_source_ids_map_both_ways(two_sources):
    assert two_sources.map_source_class_id("coco.18") == 2
    assert two_sources.get_source_class_id(2, "coco") == 18
    assert two_sources.class_from_source_map["shapes.1"] == 3


def test_class_of_another_source_is_refused(two_sources):
    with pytest.raises(ValueError, match="'shapes', not 'coco'"):
        two_sources.get_source_class_id(3, "coco")


def test_each_source_knows_its_classes_and_the_background(two_sources):
    assert two_sources.sources == ["", "coco", "shapes"]
    assert two_sources.source_class_ids == {"": [0], "coco": [0, 1, 2], "shapes": [0, 3]}


def test_class_added_twice_counts_once():
    dataset = Dataset()
    dataset.add_class("a", 1, "one")
    dataset.add_class("a", 1, "one again")
    dataset.prepare()
    assert dataset.class_names == ["BG", "one"]


def test_source_name_has_no_dot():
    with pytest.raises(ValueError, match=r"'a\.b'"):
        Dataset().add_class("a.b", 1, "one")


def test_links(two_sources):
    assert two_sources.source_image_link(1) == "b.jpg"
    assert two_sources.image_reference(1) == ""


def test_default_masks_are_none_of_the_image_size(tmp_path):
    PIL.Image.fromarray(np.zeros((4, 6), np.uint8)).save(tmp_path / "grey.png")
    dataset = Dataset()
    dataset.add_image("a", 1, tmp_path / "grey.png")
    dataset.prepare()
    assert dataset.load_image(0).shape == (4, 6, 3)
    masks, class_ids = dataset.load_mask(0)
    assert (masks.shape, masks.dtype) == ((4, 6, 0), bool)
    assert (class_ids.shape, class_ids.dtype) == ((0,), np.int32)


def test_missing_image_is_a_bad_sample(two_sources):
    with pytest.raises(BadSample, match=r"a\.jpg: cannot be read"):
        two_sources.load_image(0)


class Two(Dataset):
    """An image with a cat and a crowd of dogs, one with a dog, and one without objects."""

    def __init__(self) -> None:
        super().__init__()
        self.add_class("pets", 17, "cat")
        self.add_class("pets", 18, "dog")
        for name in ("both", "dog", "none"):
            self.add_image("pets", name, f"{name}.png", width=4)
        self.prepare()

    def load_image(self, image_id: int) -> np.ndarray:
        return np.full((4, 4, 3), image_id, np.uint8)

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        class_ids = np.array([[1, -2], [2], []][image_id], np.int32)
        return np.ones((4, 4, len(class_ids)), bool), class_ids


def test_datasets_are_mixed_with_classes_of_their_own():
    mixed = Dataset()
    mixed.add_class("shapes", 1, "square")
    mixed.add_image("shapes", "a", "a.png")
    mixed.add_dataset("animals", Two())
    mixed.prepare()
    assert mixed.class_names == ["BG", "square", "cat", "dog"]
    assert [info["id"] for info in mixed.image_info] == ["a", "both", "dog", "none"]
    assert mixed.image_info[1]["width"] == 4
    assert mixed.image_info[1]["source"] == "animals"
    np.testing.assert_array_equal(mixed.load_mask(1)[1], [2, -3])
    assert (mixed.load_image(2) == 1).all()
    assert mixed.load_mask(3)[0].shape == (4, 4, 0)
    assert mixed.get_source_class_id(3, "animals") == 18


def test_some_classes_of_a_dataset_come_with_the_images_that_have_them():
    chosen = Dataset()
    chosen.add_dataset("animals", Two(), class_ids=[1])
    chosen.prepare()
    assert chosen.class_names == ["BG", "cat"]
    assert [info["id"] for info in chosen.image_info] == ["both"]
    masks, class_ids = chosen.load_mask(0)
    assert masks.shape == (4, 4, 1)
    np.testing.assert_array_equal(class_ids, [1])


@pytest.mark.parametrize(
    ("given", "name"),
    [("bottle, clear", "bottle, clear"), (7, "7"), (0, "0"), (None, "class 4"), (" ", "class 4")],
)
def test_names_of_classes_are_text_as_it_was_given(given, name):
    dataset = Dataset()
    dataset.add_class("a", 4, given)
    dataset.prepare()
    assert dataset.class_names == ["BG", name]


def test_the_default_without_objects_is_told_once_a_dataset(caplog):
    class Damage(Two):
        def load_mask(self, image_id):
            return super(Two, self).load_mask(image_id)

    for dataset in (Damage(), Damage()):
        for image_id in (1, 0):
            assert len(dataset.load_mask(image_id)[1]) == 0
    assert caplog.messages == 2 * [
        "load_mask of Damage gave the image 'dog' of source 'pets' to the default, which has no "
        "objects; override load_mask, or compare the name of the source with the one it asks for"
    ]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("coco.99", "source 'coco' has no class '99'; it has 1 (person), 18 (dog, hound)"),
        ("images.1", "source 'images' has no classes, so none '1'; ['coco', 'shapes'] have some"),
        ("coco", "source 'coco' has no class ''"),
    ],
)
def test_a_class_that_a_source_does_not_have_is_an_error_that_lists_them(two_sources, asked, words):
    with pytest.raises(BadSample, match=re.escape(words)):
        two_sources.map_source_class_id(asked)


def test_long_lists_of_known_classes_are_cut():
    dataset = Dataset()
    for number in range(1, 81):
        dataset.add_class("coco", number, f"kind {number}")
    dataset.prepare()
    with pytest.raises(BadSample, match=r"10 \(kind 10\), \.\.\.$"):
        dataset.map_source_class_id("coco.91")


def test_objects_of_a_class_that_was_added_later_are_an_error():
    pets, mixed = Two(), Dataset()
    mixed.add_dataset("animals", pets)
    mixed.prepare()
    pets.add_class("pets", 19, "horse")
    pets.prepare()
    pets.load_mask = lambda image_id: (np.ones((4, 4, 1), bool), np.array([3]))  # noqa: ARG005
    with pytest.raises(BadSample, match=r"source 'animals' has no class '19'; it has 17 \(cat\)"):
        mixed.load_mask(0)
