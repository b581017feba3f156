"""Layouts of YOLO sets, and what their YAML files say."""

from pathlib import Path

import numpy as np
import pytest
import sets

from mrcnn.data.formats import Source, load, load_dataset
from mrcnn.data.formats.yolo_set import read_yaml

LINE = "0 0.125 0.25 0.375 0.25 0.375 0.5\n"
NAMES = "names: [nut, bolt]\n"


def text(path, content=LINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def part(root, name, stem="a"):
    """Write a picture and its text, of one part of a set."""
    sets.picture(root / "images" / name / f"{stem}.png")
    text(root / "labels" / name / f"{stem}.txt")


@pytest.mark.parametrize("first", ["1", "1.0", "1.000000000000000000e+00"])
def test_class_ids_may_be_decimals(tmp_path, first):
    part(tmp_path, "")
    text(tmp_path / "labels" / "a.txt", first + LINE[1:])
    text(tmp_path / "data.yaml", NAMES)
    assert load_dataset(tmp_path).load_mask(0)[1].tolist() == [2]


@pytest.mark.parametrize("first", ["1.5", "-1", "nan", "inf", "nut"])
def test_other_class_ids_are_refused(tmp_path, first):
    part(tmp_path, "")
    text(tmp_path / "labels" / "a.txt", first + LINE[1:])
    with pytest.raises(ValueError, match="line 1: it must begin with a class id"):
        load_dataset(tmp_path)


def test_texts_beside_their_images(tmp_path):
    for stem in ("a", "b"):
        sets.picture(tmp_path / f"{stem}.png")
    text(tmp_path / "a.txt")
    text(tmp_path / "classes.txt", "nut\nbolt\n")
    dataset = load_dataset(tmp_path)
    assert [len(dataset.objects(i)) for i in dataset.image_ids] == [1, 0]
    assert dataset.class_names == ["BG", "nut", "bolt"]


def test_other_texts_beside_images_are_no_labels(tmp_path):
    sets.picture(tmp_path / "a.png")
    text(tmp_path / "a.txt", "a note about the picture\n")
    with pytest.raises(ValueError, match="no known annotations"):
        load_dataset(tmp_path)


@pytest.mark.parametrize(
    "places",
    [
        "path: .\ntrain: images/train\nval: images/val\n",
        "train: images/train/\nval: [images/val]\n",
        "path: set\ntrain: ../images/train\nval: ./images/val\n",
        "train: train.txt\nval: val.txt\n",
    ],
)
def test_the_yaml_file_says_where_the_parts_are(tmp_path, places):
    for name, stem in (("train", "a"), ("val", "b")):
        part(tmp_path, name, stem)
        text(tmp_path / f"{name}.txt", f"./images/{name}/{stem}.png\n")
    text(tmp_path / "data.yaml", places + NAMES)
    for name, stem in (("train", "a"), ("val", "b")):
        dataset = load(Source(tmp_path / "data.yaml", part=name))
        assert [info["id"] for info in dataset.image_info] == [stem]
        assert dataset.class_names == ["BG", "nut", "bolt"]
        assert dataset.num_objects == 1
        assert load(Source(tmp_path, part=name)).image_info[0]["id"] == stem
    with pytest.raises(ValueError, match="lists the parts train, val: pass the folder of one"):
        load_dataset(tmp_path / "data.yaml")


def test_a_yaml_file_of_other_images_names_no_classes(tmp_path):
    for name in ("nuts", "bolts"):
        part(tmp_path / name, "")
        text(tmp_path / f"{name}.yaml", f"train: {name}/images\nnames: [{name}]\n")
    assert load_dataset(tmp_path / "bolts").class_names == ["BG", "bolts"]
    text(tmp_path / "bolts" / "conda.yaml", "name: env\nchannels: [a]\n")
    assert load_dataset(tmp_path / "bolts").class_names == ["BG", "bolts"]


def test_two_files_that_name_classes_are_refused(tmp_path):
    part(tmp_path, "")
    for name in ("one", "two"):
        text(tmp_path / f"{name}.yaml", NAMES)
    with pytest.raises(ValueError, match=r"one\.yaml and .*two\.yaml both name classes"):
        load_dataset(tmp_path)
    assert load_dataset(tmp_path / "two.yaml").class_names == ["BG", "nut", "bolt"]


def test_names_are_text_as_it_is_written(tmp_path):
    part(tmp_path, "")
    text(tmp_path / "data.yaml", "names:\n  0: no\n  1: 007\n  2: 'bolt, long'\n  3: 1.10\n")
    assert load_dataset(tmp_path).class_names == ["BG", "no", "007", "bolt, long", "1.10"]


@pytest.mark.parametrize("values", [2, 3])
def test_poses_are_read_by_their_boxes(tmp_path, values):
    part(tmp_path, "")
    points = " 0.9" * 5 * values
    text(tmp_path / "labels" / "a.txt", "0 0.25 0.3333333333 0.25 0.3333333333" + points)
    text(tmp_path / "data.yaml", f"kpt_shape: [5, {values}]\n{NAMES}")
    assert load_dataset(tmp_path).load_mask(0)[0].sum() == 256


def test_a_score_after_the_box_is_named(tmp_path):
    part(tmp_path, "")
    text(tmp_path / "labels" / "a.txt", "0 0.5 0.5 0.1 0.1 0.97")
    with pytest.raises(ValueError, match="the fifth may be a score: save the labels without it"):
        load_dataset(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("names: !!python/object/apply:os.system {a: true}", "from numbers"),
        ("a: &a [x, x]\nnames: [*a, *a]", "class 0 is no text"),
        ("[" * 5000, "no YAML"),
        ("names: [" + "nut, " * 500_000 + "]", "bytes are too many for a list of names"),
    ],
)
def test_hostile_yaml_is_refused_in_a_line(tmp_path, content, message):
    part(tmp_path, "")
    text(tmp_path / "data.yaml", content)
    with pytest.raises(ValueError, match=message) as refusal:
        load_dataset(tmp_path / "data.yaml")
    assert "\n" not in str(refusal.value)


def test_yaml_makes_nothing_but_text(tmp_path):
    text(tmp_path / "a.yaml", "a: !!python/name:os.system x\nb: 1\nc: [true, null]\n")
    assert read_yaml(tmp_path / "a.yaml") == {"a": "x", "b": "1", "c": ["true", "null"]}


def test_copies_of_notebooks_are_no_part_of_a_set(tmp_path):
    part(tmp_path, "")
    for place in ("labels/.ipynb_checkpoints/a-checkpoint.txt", "labels/._a.txt"):
        text(tmp_path / place)
    dataset = load_dataset(tmp_path)
    assert dataset.num_images == 1
    np.testing.assert_array_equal(dataset.load_mask(0)[1], [1])


@pytest.mark.parametrize("stem", ["test", "labels", "readme_1"])
def test_a_text_of_an_image_is_a_label_whatever_its_name(tmp_path, stem):
    part(tmp_path, "", stem)
    part(tmp_path, "", "a")
    assert [len(load_dataset(tmp_path).objects(i)) for i in range(2)] == [1, 1]


@pytest.mark.parametrize("by_yaml", [False, True])
def test_pairs_are_the_same_by_folder_and_by_file(tmp_path, by_yaml):
    sets.picture(tmp_path / "images" / "DSC_1.png")
    text(tmp_path / "labels" / "dsc_1.txt")
    text(tmp_path / "data.yaml", f"train: images\n{NAMES}")
    given = tmp_path / "data.yaml" if by_yaml else tmp_path
    assert load_dataset(given).num_objects == 1
    text(tmp_path / "labels" / "b.txt")
    assert [Path(info["path"]).stem for info in load_dataset(given).image_info] == ["DSC_1", "b"]
    sets.picture(tmp_path / "images" / "DSC_1.jpg")
    with pytest.raises(ValueError, match=r"dsc_1\.txt can be of DSC_1\.jpg or DSC_1\.png"):
        load_dataset(given)


def test_a_list_of_another_machine_is_found_by_names(tmp_path):
    part(tmp_path, "val")
    text(tmp_path / "val.txt", "# of a notebook\n/content/set/images/val/a.png\n")
    text(tmp_path / "data.yaml", f"val: val.txt\n{NAMES}")
    dataset = load_dataset(tmp_path / "data.yaml")
    assert [info["path"] for info in dataset.image_info] == [
        str(tmp_path / "images" / "val" / "a.png")
    ]
    assert dataset.num_objects == 1


def test_keypoints_without_their_shape_are_no_polygon(tmp_path):
    part(tmp_path, "")
    text(tmp_path / "labels" / "a.txt", "0 0.5 0.5 0.2 0.2 0.4 0.4 2 0.5 0.5 1")
    with pytest.raises(ValueError, match="10 numbers look like a box with keypoints: give kpt_sh"):
        load_dataset(tmp_path)
