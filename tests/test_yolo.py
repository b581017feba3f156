import numpy as np
import PIL.Image
import pytest

from mrcnn.data.formats.yolo import load_yolo
from mrcnn.data.formats.yolo_names import read_names

BOX_LINE = "0 0.5 0.6 0.5 0.4"  # of a 6 x 5 image: x 1.5 to 4.5, y 2 to 4


def write(
    root, text="0 0 0.4 0.5 0.4 0.5 0.8 0 0.8", part="", stem="a", names="names: [leaf, stem]"
):
    """Write a 6 x 5 image and its text."""
    for folder in ("images", "labels"):
        (root / folder / part).mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", (6, 5)).save(root / "images" / part / f"{stem}.png")
    if text is not None:
        (root / "labels" / part / f"{stem}.txt").write_text(text)
    if names:
        (root / "data.yaml").write_text(names)
    return root


def pixels(dataset, place=0):
    return np.argwhere(dataset.load_mask(0)[0][..., place]).tolist()


def test_polygons_are_in_fractions_of_the_image(tmp_path):
    dataset = load_yolo(write(tmp_path))
    assert pixels(dataset) == [[2, 0], [2, 1], [2, 2], [3, 0], [3, 1], [3, 2]]
    assert dataset.class_names == ["BG", "leaf", "stem"]


def test_four_numbers_are_a_box(tmp_path, caplog):
    dataset = load_yolo(write(tmp_path, "1 0.5 0.4 0.3333333 0.4\n\n"))
    assert pixels(dataset) == [[1, 2], [1, 3], [2, 2], [2, 3]]
    np.testing.assert_array_equal(dataset.load_mask(0)[1], [2])
    assert "box only" in caplog.text


def test_class_ids_may_have_gaps(tmp_path):
    names = "names:\n  1: leaf\n  90: stem\n"
    dataset = load_yolo(write(tmp_path, f"90{BOX_LINE[1:]}\n1{BOX_LINE[1:]}", names=names))
    assert dataset.class_names == ["BG", "leaf", "stem"]
    np.testing.assert_array_equal(dataset.load_mask(0)[1], [2, 1])
    assert dataset.get_source_class_id(2, "yolo") == 90


def test_an_image_without_text_has_no_objects(tmp_path):
    write(tmp_path)
    dataset = load_yolo(write(tmp_path, None, stem="b"))
    assert [len(dataset.objects(image_id)) for image_id in dataset.image_ids] == [1, 0]


def test_classes_without_names_are_numbered(tmp_path):
    assert load_yolo(write(tmp_path, f"3{BOX_LINE[1:]}", names="")).class_names == ["BG", "class 3"]


def test_names_of_classes_txt(tmp_path):
    write(tmp_path, names="")
    (tmp_path / "labels" / "classes.txt").write_text("leaf\nstem\n")
    assert load_yolo(tmp_path).class_names == ["BG", "leaf", "stem"]


@pytest.mark.parametrize("given", ["labels/train", "images/train", "data.yaml"])
def test_a_part_may_be_given(tmp_path, given):
    write(tmp_path, part="train")
    assert load_yolo(tmp_path / given).load_image(0).shape == (5, 6, 3)


def test_roboflows_folders(tmp_path):
    write(tmp_path / "train")
    (tmp_path / "train" / "data.yaml").rename(tmp_path / "data.yaml")
    for given in (tmp_path, tmp_path / "train"):
        assert load_yolo(given).class_names == ["BG", "leaf", "stem"]


def test_several_parts_are_not_mixed(tmp_path):
    write(tmp_path, part="train")
    write(tmp_path, part="val", stem="b")
    with pytest.raises(ValueError, match=r"labels/train.*labels/val.*pass one of them"):
        load_yolo(tmp_path)
    assert load_yolo(tmp_path / "images" / "val").image_info[0]["id"] == "b"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.1 0.2 0.3", "3 numbers follow"),
        ("0 0.1 0.2 0.3 0.4 0.9", "5 numbers follow"),
        ("leaf 0.1 0.2 0.3 0.4", "begin with a class id"),
        ("0 0.1 0.2 0.3 x", "could not convert"),
        ("0 100 200 30 40", "no fractions"),
        ("0 nan 0.2 0.3 0.4", "not numbers"),
    ],
)
def test_faults_of_a_line_are_named_with_its_number(tmp_path, line, message):
    write(tmp_path, f"{BOX_LINE}\n{line}")
    with pytest.raises(ValueError, match=f"image a: line 2: .*{message}"):
        load_yolo(tmp_path)


def test_a_class_without_name_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"class ids \[7\] have no name"):
        load_yolo(write(tmp_path, f"7{BOX_LINE[1:]}"))


@pytest.mark.parametrize(
    "text",
    [
        "names: [leaf, 'the \"big\", stem']\n",
        "nc: 2\nnames: ['leaf', 'the \"big\", stem'] # two\ntrain: a",
        "names: [ leaf,\n   'the \"big\", stem' ]\nval: b",
        "names:\n- leaf\n- 'the \"big\", stem'\nval: b",
        "names:\n  - leaf  # green\n\n  - 'the \"big\", stem'\n",
        "names:\n  0: leaf\n  1: 'the \"big\", stem'\n# end\nval: b",
        'names: {0: leaf, 1: "the \\"big\\", stem"}',
    ],
)
def test_names_in_every_form(tmp_path, text):
    (tmp_path / "data.yaml").write_text(text)
    assert read_names(tmp_path / "data.yaml") == {0: "leaf", 1: 'the "big", stem'}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nc: 2", "has no names"),
        ("names: leaf", "must be a list"),
        ("names: [leaf", "no YAML: .* at line 1"),
        ("names:\n  a: leaf", "from numbers: .*'a'"),
        ("names:\nval: b", "must be a list"),
        ("names: [*anchor]", "undefined alias"),
        ("names: {leaf, stem}", "must be a list"),
        ("names: [[leaf]]", "class 0 is no text"),
    ],
)
def test_other_forms_of_names_are_refused(tmp_path, text, message):
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_names(tmp_path / "data.yaml")
