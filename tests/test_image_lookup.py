import json
import os
import unicodedata

import pytest
import sets

from mrcnn.data import check
from mrcnn.data.formats import Source, load_dataset
from mrcnn.data.formats.image_lookup import part_of
from mrcnn.data.problems import Problems


def paths(dataset):
    return [info["path"] for info in dataset.image_info]


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("train", "train"),
        ("instances_val2017", "val"),
        ("Valid", "val"),
        ("test-images", "test"),
        ("train_val", None),
        ("contest", None),
        ("photos", None),
    ],
)
def test_part_of_a_name(name, part):
    assert part_of(name) == part


@pytest.mark.parametrize("form", ["{}", "images/{}", "images/{}2017", "{}/images"])
def test_files_named_like_a_part_mean_its_folder(tmp_path, form):
    """Equal names in both parts: the validation set must not get the training's pictures."""
    for part in ("train", "val"):
        sets.picture(tmp_path / form.format(part) / "a.png")
        sets.coco(tmp_path / "annotations" / f"instances_{part}.json")
    for part in ("train", "val"):
        dataset = load_dataset(tmp_path / "annotations" / f"instances_{part}.json")
        assert paths(dataset) == [str(tmp_path / form.format(part) / "a.png")]


@pytest.mark.parametrize("reader", ["coco", "via"])
def test_a_part_without_images_does_not_take_those_of_another(tmp_path, reader):
    write = {"coco": sets.coco, "via": lambda path: sets.via(path, {"a.png": [sets.NUT]})}[reader]
    sets.picture(tmp_path / "train" / "a.png")
    path = write(tmp_path / "val" / "val.json")
    assert paths(load_dataset(path)) == [str(tmp_path / "val" / "a.png")]


def test_a_neighbour_with_annotations_of_its_own_is_another_set(tmp_path):
    sets.picture(tmp_path / "images_b" / "a.png")
    path = sets.coco(tmp_path / "set" / "set.json")
    assert load_dataset(path).image_info[0]["path"] == str(tmp_path / "set" / "a.png")
    sets.picture(tmp_path / "images" / "a.png")
    assert paths(load_dataset(path)) == [str(tmp_path / "images" / "a.png")]


def test_masks_beside_a_set_are_not_its_images(tmp_path):
    sets.picture(tmp_path / "train_masks" / "a.png")
    path = sets.coco(tmp_path / "annotations" / "train.json")
    assert paths(load_dataset(path)) == [str(tmp_path / "annotations" / "a.png")]


def test_the_stated_path_comes_first(tmp_path):
    for folder in ("", "north", "south"):
        sets.picture(tmp_path / folder / "a.png")
    path = sets.coco(tmp_path / "set.json", ["south/a.png", "a.png", "./north/a.png"])
    found = [tmp_path / "south" / "a.png", tmp_path / "a.png", tmp_path / "north" / "a.png"]
    assert paths(load_dataset(path)) == list(map(str, found))


def test_a_name_that_fits_two_files_is_refused_with_both(tmp_path):
    for part in ("one", "two"):
        sets.picture(tmp_path / "images" / part / "a.png")
    path = sets.coco(tmp_path / "set.json")
    with pytest.raises(
        ValueError, match=r"'a\.png' can be .*one/a\.png or .*two/a\.png; pass --im"
    ):
        load_dataset(path)
    found = load_dataset(path, images=tmp_path / "images" / "two")
    assert paths(found) == [str(tmp_path / "images" / "two" / "a.png")]


def test_a_given_folder_is_searched_whole(tmp_path):
    sets.picture(tmp_path / "photos" / "deep" / "er" / "a.png")
    path = sets.coco(tmp_path / "set.json")
    found = load_dataset(path, images=tmp_path / "photos")
    assert paths(found) == [str(tmp_path / "photos" / "deep" / "er" / "a.png")]


def test_the_part_decides_in_a_given_folder(tmp_path):
    for part in ("train", "val"):
        sets.picture(tmp_path / "photos" / part / "a.png")
    path = sets.coco(tmp_path / "val.json")
    found = load_dataset(path, images=tmp_path / "photos")
    assert paths(found) == [str(tmp_path / "photos" / "val" / "a.png")]


def test_two_entries_do_not_share_a_file(tmp_path):
    sets.picture(tmp_path / "a.png")
    path = sets.coco(tmp_path / "set.json", ["north/a.png", "south/a.png"])
    with pytest.raises(ValueError, match=r"'north/a\.png' and 'south/a\.png' would both be"):
        load_dataset(path)
    findings = check.load_for_check(path)[1]
    assert [each.code for each in findings] == ["shared-image"]


def test_letter_case_is_the_last_resort(tmp_path):
    sets.picture(tmp_path / "A.PNG")
    path = sets.coco(tmp_path / "set.json")
    assert paths(load_dataset(path)) == [str(tmp_path / "A.PNG")]
    sets.picture(tmp_path / "a.png")
    assert paths(load_dataset(path)) == [str(tmp_path / "a.png")]
    (tmp_path / "a.png").rename(tmp_path / "a.Png")
    with pytest.raises(ValueError, match=r"'a\.png' can be .*A\.PNG or .*a\.Png"):
        load_dataset(path)


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_accents_are_the_same_however_they_are_stored(tmp_path, forms):
    stored, stated = (unicodedata.normalize(form, "blüte.png") for form in forms)
    sets.picture(tmp_path / stored)
    dataset = load_dataset(sets.coco(tmp_path / "set.json", [stated]))
    assert dataset.load_image(0).shape == (48, 64, 3)


def test_an_image_in_two_entries_is_one_with_the_objects_of_both(tmp_path, caplog):
    sets.picture(tmp_path / "a.png")
    path = sets.coco(tmp_path / "set.json", ["a.png", "a.png"])
    content = json.loads(path.read_text())
    content["annotations"][1]["segmentation"] = [sets.BOLT]
    path.write_text(json.dumps(content))
    dataset = load_dataset(path)
    assert dataset.load_mask(0)[0].sum(axis=(0, 1)).tolist() == [256, 480]
    assert "read as one image" in caplog.text
    (finding,) = check.load_for_check(path)[1]
    assert (finding.severity, finding.code) == ("warning", "image-listed-twice")


def test_an_object_in_both_entries_is_one(tmp_path):
    sets.picture(tmp_path / "a.png")
    dataset = load_dataset(sets.coco(tmp_path / "set.json", ["a.png", "a.png"]))
    assert [len(dataset.objects(i)) for i in dataset.image_ids] == [1]


def test_stems_that_occur_twice_are_a_tie(tmp_path):
    path = sets.labelme(tmp_path / "a.json", [], imagePath="")
    for suffix in ("png", "jpg"):
        sets.picture(tmp_path / f"a.{suffix}")
    problems = Problems(strict=False)
    load_dataset(path, problems=problems)
    assert "ambiguous-image" in [each.code for each in problems.found]


@pytest.mark.parametrize("folder", ["labels", "masks"])
def test_pairs_by_name_refuse_ties_too(tmp_path, folder):
    for name in ("a.png", "a.jpg"):
        sets.picture(tmp_path / "images" / name)
    if folder == "masks":
        sets.picture(tmp_path / "masks" / "a.png")
    else:
        (tmp_path / "labels").mkdir()
        (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.5 0.2 0.2")
    with pytest.raises(ValueError, match=r"a\.(png|jpg)"):
        load_dataset(tmp_path)


def test_a_folder_is_no_image(tmp_path):
    (tmp_path / "a.png").mkdir()
    os.mkfifo(tmp_path / "b.png")
    dataset = load_dataset(sets.coco(tmp_path / "set.json", ["a.png", "b.png"]))
    findings = check.check(dataset)
    assert [each.image for each in findings if each.code == "missing-image"] == ["a.png", "b.png"]


def test_check_reads_the_same_files_as_training(tmp_path):
    for part in ("train", "val"):
        sets.picture(tmp_path / part / "a.png", level=40 if part == "val" else 90)
        sets.coco(tmp_path / "annotations" / f"{part}.json")
    loaded, _ = check.load_parts_for_check(
        {part: Source(tmp_path / "annotations" / f"{part}.json") for part in ("train", "val")}
    )
    assert [int(each.load_image(0).max()) for each in loaded.values()] == [90, 40]


def test_a_folder_that_is_missing_is_not_another_one(tmp_path):
    sets.picture(tmp_path / "images" / "100" / "1.png")
    path = sets.coco(tmp_path / "annotations" / "val.json", ["101/1.png"])
    for images in (None, tmp_path / "images"):
        assert "100" not in paths(load_dataset(path, images=images))[0]


def test_a_path_through_dots_is_the_same_file(tmp_path):
    sets.picture(tmp_path / "images" / "a.png")
    path = sets.coco(tmp_path / "images" / "set.json", ["a.png", "../images/a.png"])
    dataset = load_dataset(path)
    assert [len(dataset.objects(i)) for i in dataset.image_ids] == [1]
    assert dataset.problems[0].code == "image-listed-twice"


def test_a_number_is_no_name_beside_a_stated_one(tmp_path):
    sets.picture(tmp_path / "000000000000.jpg")
    path = sets.coco(tmp_path / "set.json", ["cat.jpg"])
    assert paths(load_dataset(path)) == [str(tmp_path / "cat.jpg")]


def test_a_given_folder_that_is_none_is_refused(tmp_path):
    path = sets.coco(tmp_path / "set.json")
    with pytest.raises(ValueError, match="nowhere: there is no such folder of images"):
        load_dataset(path, images=tmp_path / "nowhere")
    findings = check.load_for_check(path, images=tmp_path / "nowhere")[1]
    assert [each.code for each in findings] == ["unreadable-annotations"]


def test_many_entries_of_one_file_are_merged_in_one_go(tmp_path):
    """Looked through again for each entry, ten thousand would take minutes."""
    path = sets.coco(tmp_path / "set.json", ["a.png"] * 10_000)
    assert len(load_dataset(path).objects(0)) == 1


def test_what_lies_above_a_set_is_not_of_it(tmp_path):
    sets.picture(tmp_path / "a.png")
    path = sets.coco(tmp_path / "nuts" / "set.json")
    assert paths(load_dataset(path)) == [str(tmp_path / "nuts" / "a.png")]
    path = sets.coco(tmp_path / "annotations" / "set.json")
    assert paths(load_dataset(path)) == [str(tmp_path / "a.png")]


def test_words_of_a_file_name_may_be_parted_by_dashes(tmp_path):
    for part in ("fold1", "fold2"):
        sets.picture(tmp_path / part / "a.png")
    path = sets.coco(tmp_path / "annotations-fold2.json")
    assert paths(load_dataset(path)) == [str(tmp_path / "fold2" / "a.png")]
