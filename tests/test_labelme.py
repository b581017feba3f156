import base64
import io
import json

import numpy as np
import PIL.Image
import pytest

from mrcnn.data.formats.coco import load_coco
from mrcnn.data.formats.labelme import load_labelme

BOX = [[1, 2], [4, 4]]
INSIDE = [[2, 1], [2, 2], [2, 3], [3, 1], [3, 2], [3, 3]]


def shape(points, label="leaf", kind="rectangle", **more):
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, **more}


def png(array) -> str:
    file = io.BytesIO()
    PIL.Image.fromarray(array).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def write(folder, *shapes, name="a", **changes):
    """Write a 6 x 5 image and its labelme file."""
    PIL.Image.new("RGB", (6, 5)).save(folder / f"{name}.png")
    content = {
        "version": "5.0.0",
        "shapes": list(shapes),
        "imagePath": f"{name}.png",
        "imageData": None,
        "imageHeight": 5,
        "imageWidth": 6,
        **changes,
    }
    path = folder / f"{name}.json"
    path.write_text(json.dumps(content))
    return path


def pixels(dataset, place=0):
    return np.argwhere(dataset.load_mask(0)[0][..., place]).tolist()


@pytest.mark.parametrize(
    "entry",
    [
        shape(BOX),
        shape([[4, 4], [1, 2]]),
        shape([[1, 2], [4, 2], [4, 4], [1, 4]], kind="polygon"),
        shape([[1, 2], [4, 2], [4, 4], [1, 4]], kind=None),
        shape([[1, 2], [4, 2], [4, 4], [1, 4]], kind="oriented_rectangle"),
        shape([[1, 2], [3, 3]], kind="mask", mask=png(np.ones((2, 3), bool))),
    ],
)
def test_shapes_of_a_rectangle(tmp_path, entry):
    dataset = load_labelme(write(tmp_path, entry))
    assert pixels(dataset) == INSIDE
    assert dataset.class_names == ["BG", "leaf"]


def test_a_circle_is_a_centre_and_a_point_of_its_rim(tmp_path):
    dataset = load_labelme(write(tmp_path, shape([[3, 2], [3, 3.2]], kind="circle")))
    assert pixels(dataset) == [[1, 2], [1, 3], [2, 2], [2, 3]]


def test_a_mask_is_cut_off_at_the_image(tmp_path):
    mask = shape([[-1, 3], [8, 9]], kind="mask", mask=png(np.eye(7, 10, 1, dtype=bool)))
    assert pixels(load_labelme(write(tmp_path, mask))) == [[3, 0], [4, 1]]


@pytest.mark.parametrize("kind", ["line", "linestrip", "point", "points", "star"])
def test_what_has_no_area_is_dropped_with_a_warning(tmp_path, caplog, kind):
    dataset = load_labelme(write(tmp_path, shape(BOX, kind=kind), shape(BOX)))
    assert pixels(dataset) == INSIDE
    assert len(caplog.messages) == 1
    assert "object 0 of image a.json: dropped" in caplog.messages[0]


@pytest.mark.parametrize(
    "entry",
    [
        shape([[1, 2]]),
        shape([[1, 2], [4, 4]], kind="polygon"),
        shape([[1, 2], [3, 3]], kind="mask", mask="no png"),
        shape([[1, 2], [3, 3]], kind="mask"),
        shape("none"),
    ],
)
def test_damaged_shapes_are_dropped(tmp_path, entry):
    dataset = load_labelme(write(tmp_path, entry, shape(BOX)))
    assert [finding.code for finding in dataset.problems] == ["no-area"]
    assert pixels(dataset) == INSIDE


def test_a_group_is_one_object_of_its_label(tmp_path):
    first, second = shape([[0, 0], [1, 1]], group_id=0), shape([[5, 4], [6, 5]], group_id=0)
    other, alone = shape(BOX, label="stem", group_id=0), shape(BOX)
    dataset = load_labelme(write(tmp_path, first, other, second, alone))
    np.testing.assert_array_equal(dataset.load_mask(0)[1], [1, 2, 1])
    assert pixels(dataset) == [[0, 0], [4, 5]]


def test_ignored_regions_are_crowds_and_the_background_is_nothing(tmp_path):
    shapes = [shape(BOX, "_background_"), shape(BOX, "__ignore__"), shape(BOX)]
    dataset = load_labelme(write(tmp_path, *shapes))
    np.testing.assert_array_equal(dataset.load_mask(0)[1], [-1, 1])
    assert dataset.class_names == ["BG", "leaf"]


def test_a_folder_is_a_set(tmp_path):
    write(tmp_path, shape(BOX, "stem"))
    write(tmp_path, shape(BOX), name="b")
    write(tmp_path, name="c")
    dataset = load_labelme(tmp_path)
    assert [len(dataset.objects(image_id)) for image_id in dataset.image_ids] == [1, 1, 0]
    assert dataset.class_names == ["BG", "leaf", "stem"]


@pytest.mark.parametrize("above", [False, True])
def test_a_list_of_labels_gives_the_order(tmp_path, above):
    folder = tmp_path / "annotated"
    folder.mkdir()
    listing = (tmp_path if above else folder) / "labels.txt"
    listing.write_text("__ignore__\n_background_\nstem\nroot\nleaf\n")
    dataset = load_labelme(write(folder, shape(BOX)))
    assert dataset.class_names == ["BG", "stem", "root", "leaf"]
    np.testing.assert_array_equal(dataset.load_mask(0)[1], [3])


def test_a_label_that_the_list_lacks_is_named(tmp_path):
    (tmp_path / "labels.txt").write_text("stem\n")
    with pytest.raises(ValueError, match=r"labels\.txt does not list the labels \['leaf'\]"):
        load_labelme(write(tmp_path, shape(BOX)))


def test_an_object_without_label_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"object 0 of image a\.json: it has no label"):
        load_labelme(write(tmp_path, shape(BOX, " ")))


@pytest.mark.parametrize("named", ["a.png", "C:\\photos\\a.png", "/home/me/a.png", "a.json", ""])
def test_the_image_is_found(tmp_path, named):
    dataset = load_labelme(write(tmp_path, shape(BOX), imagePath=named))
    assert dataset.image_info[0]["path"] == str(tmp_path / "a.png")


def test_the_image_may_lie_below(tmp_path):
    path = write(tmp_path, shape(BOX), imagePath="..\\images\\b.png")
    (tmp_path / "images").mkdir()
    (tmp_path / "a.png").rename(tmp_path / "images" / "b.png")
    assert load_labelme(path, tmp_path / "images").load_image(0).shape == (5, 6, 3)


def test_the_image_inside_is_used_where_there_is_no_file(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8)
    path = write(tmp_path, shape(BOX), imageData=png(picture))
    assert not load_labelme(path).load_image(0).any()  # the file comes first
    (tmp_path / "a.png").unlink()
    dataset = load_labelme(path)
    np.testing.assert_array_equal(dataset.load_image(0), picture)
    assert pixels(dataset) == INSIDE


def test_the_size_of_an_image_inside_is_that_of_its_file(tmp_path):
    content = {"imageData": png(np.zeros((5, 6), np.uint8)), "imageHeight": None}
    path = write(tmp_path, shape(BOX), **content)
    (tmp_path / "a.png").unlink()
    assert load_labelme(path).load_mask(0)[0].shape == (5, 6, 1)


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "a.json").write_text("[]")
    with pytest.raises(ValueError, match="no labelme file"):
        load_labelme(tmp_path)


def test_labelmes_own_examples(shared_data):
    folder = shared_data / "labelme_examples"
    primitives = load_labelme(folder / "primitives")
    assert [found.message for found in primitives.problems] == [
        f"dropped: a {kind} has no area" for kind in ("line", "point", "linestrip")
    ]
    masks, class_ids = primitives.load_mask(0)
    areas = {
        primitives.class_names[c]: a for c, a in zip(class_ids, masks.sum((0, 1)), strict=True)
    }
    assert areas["rectangle"] == 151 * 102  # the last of two
    assert abs(areas["circle"] - np.pi * (30**2 + 41**2)) < 20
    listed = json.loads((folder / "primitives" / "primitives.json").read_text())["shapes"]
    octagon = base64.b64decode(listed[-1]["mask"])
    assert areas["octagon"] == (np.array(PIL.Image.open(io.BytesIO(octagon))) > 0).sum()
    parts = load_labelme(folder / "instance_segmentation" / "data_annotated")
    counts = [len(parts.objects(image_id)) for image_id in parts.image_ids]
    assert counts == [4, 7, 3]


def test_somebodys_conversion_has_the_same_masks(shared_data):
    folder = shared_data / "nuts_labelme"
    ours = load_labelme(sorted(folder.glob("*.json"))[0])
    theirs = load_coco(folder / "as_coco.json", folder)
    place = [info["path"] for info in theirs.image_info].index(ours.image_info[0]["path"])
    masks, others = ours.load_mask(0)[0], theirs.load_mask(place)[0]
    sums = [sorted(each.sum(axis=(0, 1))) for each in (masks, others)]
    assert sums[0] == sums[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shapes": [5]}, "object 0 of image a.json: it is no shape"),
        ({"imageHeight": 1e9}, "states a size of 1000000000 x 6"),
        ({"imageWidth": [6]}, "states no size"),
    ],
)
def test_damaged_files_are_named(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        load_labelme(write(tmp_path, shape(BOX), **changes))
