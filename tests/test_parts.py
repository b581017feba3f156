import pytest
from sets import NUT, coco, labelme, picture, via

from mrcnn.data.formats import Source, load, parts
from mrcnn.data.formats.parts import find_parts

LINE = "0 0.1 0.1 0.4 0.1 0.4 0.4\n"


def found(path, **options):
    """Return the number of images in each part, as read."""
    return {part: load(s).num_images for part, s in find_parts(Source(path, **options)).items()}


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_a_folder_per_part(tmp_path, name):
    for part, count in (("train", 3), (name, 2), ("test", 1)):
        names = [f"{part}{number}.png" for number in range(count)]
        for each in names:
            picture(tmp_path / part / each)
        coco(tmp_path / part / "_annotations.coco.json", names)
    (tmp_path / "README.roboflow.txt").write_text("exported")
    assert found(tmp_path) == {"train": 3, "val": 2, "test": 1}


@pytest.mark.parametrize("folder", ["annotations", "."])
@pytest.mark.parametrize("year", ["", "2017"])
def test_an_annotation_file_per_part(tmp_path, folder, year):
    for part, names in (("train", ["a.png", "b.png"]), ("val", ["c.png"])):
        for each in names:
            picture(tmp_path / f"{part}{year}" / each)
        coco(tmp_path / folder / f"instances_{part}{year}.json", names)
        coco(tmp_path / folder / f"person_keypoints_{part}{year}.json", names)
    assert found(tmp_path) == {"train": 2, "val": 1}


def test_two_annotation_files_of_a_part_are_refused(tmp_path):
    for name in ("boxes_train.json", "masks_train.json"):
        coco(tmp_path / name)
    with pytest.raises(ValueError, match=r"boxes_train.json and .*masks_train.json can both be"):
        find_parts(Source(tmp_path))


def test_labelme_files_with_the_name_of_a_part_are_images(tmp_path):
    for name in ("train 1", "val 1", "other"):
        picture(tmp_path / f"{name}.png")
        labelme(tmp_path / f"{name}.json", [{"label": "nut", "points": [[1, 1], [9, 1], [9, 9]]}])
    assert found(tmp_path) == {"all": 3}


def write_yolo(root, layout):
    for part, count in (("train", 2), ("val", 1)):
        for number in range(count):
            picture(root / layout.format(part=part, kind="images") / f"{part}{number}.png")
            labels = root / layout.format(part=part, kind="labels") / f"{part}{number}.txt"
            labels.parent.mkdir(parents=True, exist_ok=True)
            labels.write_text(LINE)
    return root


@pytest.mark.parametrize("layout", ["{kind}/{part}", "{part}/{kind}"])
@pytest.mark.parametrize("is_given", [False, True])
def test_the_parts_of_a_yaml_file(tmp_path, layout, is_given):
    write_yolo(tmp_path, layout)
    train, val = (layout.format(part=part, kind="images") for part in ("train", "val"))
    yaml = tmp_path / "data.yaml"
    yaml.write_text(f"train: ../{train}\nval: ../{val}\nnames: [nut]\n")
    assert found(yaml if is_given else tmp_path) == {"train": 2, "val": 1}


def test_yolo_folders_without_a_yaml_file(tmp_path):
    write_yolo(tmp_path, "{kind}/{part}")
    assert found(tmp_path) == {"train": 2, "val": 1}


@pytest.mark.parametrize("is_given", [False, True])
def test_a_broken_yaml_file_is_left_to_the_reader(tmp_path, is_given):
    write_yolo(tmp_path, "{kind}/{part}")
    yaml = tmp_path / "data.yaml"
    yaml.write_text("train: [")
    parts_found = find_parts(Source(yaml if is_given else tmp_path))
    assert set(parts_found) == ({"all"} if is_given else {"train", "val"})


def test_lists_of_pascal_voc(tmp_path):
    box = "<bndbox><xmin>2</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    for name in ("a", "b", "c"):
        picture(tmp_path / "JPEGImages" / f"{name}.png")
        xml = f"<annotation><filename>{name}.png</filename><object><name>nut</name>{box}</object>"
        (tmp_path / "Annotations").mkdir(exist_ok=True)
        (tmp_path / "Annotations" / f"{name}.xml").write_text(f"{xml}</annotation>")
    lists = tmp_path / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\nb\n")
    (lists / "val.txt").write_text("c\n")
    (lists / "test.txt").write_text("without annotations\n")
    assert found(tmp_path) == {"train": 2, "val": 1}


def test_a_file_or_a_folder_without_parts_is_the_whole(tmp_path):
    picture(tmp_path / "a.png")
    path = via(tmp_path / "via.json", {"a.png": [NUT]})
    assert found(tmp_path) == found(path) == {parts.WHOLE: 1}


def test_a_forced_format_and_an_image_folder_hold_for_all_parts(tmp_path):
    for part in ("train", "val"):
        picture(tmp_path / "far" / f"{part}.png")
        coco(tmp_path / part / "a.json", [f"{part}.png"])
        via(tmp_path / part / "b.json", {f"{part}.png": [NUT]})
    assert found(tmp_path, format="via", images=tmp_path / "far") == {"train": 1, "val": 1}
    sources = find_parts(Source(tmp_path, format="via", channels=4))
    assert {each.channels for each in sources.values()} == {4}


def test_a_path_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="no such file or folder"):
        find_parts(Source(tmp_path / "none"))


def test_the_parts_of_public_sets(shared_data):
    counts = {
        "balloon": {"train": 61, "val": 13},
        "car_damage_roboflow_coco": {"train": 40, "val": 12},
        "nuclei": {"train": 160, "val": 40},
        "coco_yoloseg": {"train": 8},
        "pennfudan": {"all": 100},
    }
    assert {name: found(shared_data / name) for name in counts} == counts
