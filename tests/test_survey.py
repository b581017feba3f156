import base64
import json

import numpy as np
import PIL.Image
import pytest
from via_set import polygon, rectangle, write_via

from mrcnn.data.formats import load_dataset
from mrcnn.data.problems import Problems
from mrcnn.data.survey import survey
from mrcnn.geometry.polygons import crosses_itself


def surveyed(path, **options):
    dataset = load_dataset(path, problems=Problems(strict=False), **options)
    return survey(dataset, dataset.image_ids.tolist())


def codes(surveys):
    return [(finding.code, finding.object) for each in surveys for finding in each.findings]


@pytest.mark.parametrize(
    ("points", "crosses"),
    [
        ([(0, 0), (4, 4), (4, 0), (0, 4)], True),
        ([(0, 0), (4, 0), (4, 4), (0, 4)], False),
        ([(0, 0), (4, 0), (4, 4), (0, 4), (0, 0)], False),
        ([(0, 0), (4, 0), (4, 4), (2, 0), (0, 4)], False),  # touches
        ([(0, 0), (4, 0), (4, 4), (2, -1), (0, 4)], True),
        ([(0, 0), (0, 0), (4, 0), (4, 4)], False),
        ([(0, 0), (4, 0)], False),
        ([(1, 1)] * 5, False),
    ],
)
def test_crossing(points, crosses):
    assert crosses_itself(np.array(points, float)) is crosses


def test_crossing_of_many_points():
    steps = np.linspace(0, 2 * np.pi, 1500, endpoint=False)
    circle = np.stack([np.cos(steps), np.sin(steps)], axis=1)
    assert not crosses_itself(circle)
    assert crosses_itself(np.concatenate([circle, circle[750:751] * 2]))


def test_what_there_is_of_an_image(tmp_path):
    regions = [rectangle(1, 2, 3, 4, kind="a"), polygon((9, 9), (20, 9), (20, 30), kind="b")]
    (found,) = surveyed(write_via(tmp_path, {"a.png": regions}, size=(40, 50)))
    assert (found.name, found.size, found.findings) == ("a.png", (40, 50), [])
    np.testing.assert_array_equal(found.class_ids, [1, 2])
    np.testing.assert_array_equal(found.boxes[0], [2, 1, 6, 4])
    assert (found.num_rectangles, found.num_polygons) == (1, 1)
    pixels = np.array(PIL.Image.open(tmp_path / "a.png"))
    np.testing.assert_allclose(found.mean, pixels.mean(axis=(0, 1)))


@pytest.mark.parametrize(
    ("region", "code"),
    [
        (rectangle(70, 70, 5, 5), "no-area"),
        (rectangle(5, 5, 0, 9), "no-area"),
        (rectangle(50, 50, 14, 5), "beyond-border"),
        (rectangle(-3, 50, 14, 5), "beyond-border"),
        (polygon((0, 0), (40, 40), (40, 0), (0, 40)), "self-crossing"),
    ],
)
def test_faults_of_an_outline(tmp_path, region, code):
    surveys = surveyed(write_via(tmp_path, {"a.png": [rectangle(1, 1, 5, 5), region]}))
    assert codes(surveys) == [(code, 1)]
    (finding,) = surveys[0].findings
    assert (finding.severity, finding.image) == ("warning", "a.png")
    assert finding.remedy


def test_object_outside_is_told_from_one_without_area(tmp_path):
    regions = [rectangle(70, 70, 5, 5), rectangle(5, 5, 0, 9)]
    (found,) = surveyed(write_via(tmp_path, {"a.png": regions}))
    messages = [finding.message for finding in found.findings]
    assert messages == ["it lies outside the image", "it has no pixel in the image"]


def test_an_object_outlined_twice(tmp_path):
    regions = [rectangle(5, 5, 30, 30), rectangle(40, 40, 9, 9), rectangle(5, 5, 30, 31)]
    assert codes(surveyed(write_via(tmp_path, {"a.png": regions}))) == [("duplicate-object", 2)]


def test_an_object_of_two_classes(tmp_path):
    regions = [rectangle(5, 5, 30, 30, kind="a"), rectangle(5, 5, 30, 30, kind="b")]
    assert codes(surveyed(write_via(tmp_path, {"a.png": regions}))) == [("two-classes", 1)]


def test_neighbours_and_nested_objects_are_no_duplicates(tmp_path):
    regions = [rectangle(5, 5, 30, 30), rectangle(35, 5, 20, 30), rectangle(10, 10, 20, 20)]
    assert codes(surveyed(write_via(tmp_path, {"a.png": regions}))) == []


def test_images_that_are_missing_or_damaged(tmp_path):
    path = write_via(
        tmp_path, {name: [rectangle(1, 1, 5, 5)] for name in ("a.png", "b.png", "c.png")}
    )
    (tmp_path / "a.png").unlink()
    (tmp_path / "b.png").write_bytes(b"no image")
    (tmp_path / "c.png").write_bytes((tmp_path / "c.png").read_bytes()[:2000])
    surveys = surveyed(path)
    assert [code for code, _ in codes(surveys)] == [
        "missing-image",
        "unreadable-image",
        "unreadable-image",
    ]
    assert all(len(each.class_ids) == 1 for each in surveys)
    assert [each.size for each in surveys] == [None, None, (64, 64)]


def test_damage_inside_a_file_is_found_by_decoding_only(tmp_path):
    path = write_via(tmp_path, {"c.png": [rectangle(1, 1, 5, 5)]})
    (tmp_path / "c.png").write_bytes((tmp_path / "c.png").read_bytes()[:2000])
    dataset = load_dataset(path)
    assert survey(dataset, [0], read_pixels=False)[0].findings == []


def labelme(folder, size, orientation=1):
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    PIL.Image.new("RGB", (40, 30)).save(folder / "a.jpg", exif=exif)
    shape = {"label": "a", "points": [[1, 1], [9, 9]], "shape_type": "rectangle"}
    content = {"shapes": [shape], "imagePath": "a.jpg"}
    content |= {"imageHeight": size[0], "imageWidth": size[1]}
    path = folder / "a.json"
    path.write_text(json.dumps(content))
    return path


def test_annotations_of_another_size(tmp_path):
    (found,) = surveyed(labelme(tmp_path, (300, 400)))
    (finding,) = found.findings
    assert (finding.severity, finding.code) == ("error", "image-size")
    assert finding.message == "its annotations are for 400 x 300 pixels, the image has 40 x 30"


def test_annotations_of_the_stored_picture_are_noted(tmp_path):
    (found,) = surveyed(labelme(tmp_path, (30, 40), orientation=6))
    assert [(each.severity, each.code) for each in found.findings] == [("info", "turned")]
    assert found.size == (40, 30)


def test_an_image_inside_its_annotations_is_not_missing(tmp_path):
    path = labelme(tmp_path, (30, 40))
    picture = base64.b64encode((tmp_path / "a.jpg").read_bytes()).decode()
    path.write_text(json.dumps({**json.loads(path.read_text()), "imageData": picture}))
    (tmp_path / "a.jpg").unlink()
    (found,) = surveyed(path)
    assert (found.findings, found.size) == ([], (30, 40))
    assert found.digest


def test_a_mask_of_one_value_in_several_places(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        labels = np.zeros((20, 20), np.uint8)
        labels[2:5, 2:5] = labels[9:14, 9:14] = 255
        PIL.Image.fromarray(labels).save(tmp_path / folder / "a.png")
    assert codes(surveyed(tmp_path)) == [("one-label", None)]


def test_a_mask_that_cannot_be_read(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        PIL.Image.new("L", (20, 20), 1).save(tmp_path / folder / "a.png")
    (tmp_path / "masks" / "a.png").write_bytes(b"no image")
    (found,) = surveyed(tmp_path)
    assert [(each.severity, each.code) for each in found.findings] == [("error", "unreadable-mask")]


def test_balloons_have_thirteen_outlines_at_the_border(shared_data):
    found = codes(surveyed(shared_data / "balloon" / "train"))
    assert [code for code, _ in found] == ["beyond-border"] * 13


@pytest.mark.parametrize("path", ["nuclei/annotations/instances_val.json", "coco", "balloon/val"])
def test_good_sets_have_no_errors(shared_data, path):
    found = [finding for each in surveyed(shared_data / path) for finding in each.findings]
    assert {finding.code for finding in found} <= {"self-crossing"}
    assert {finding.severity for finding in found} <= {"warning"}


def test_each_copy_of_an_object_is_told_once(tmp_path):
    square = polygon((9, 9), (20, 9), (20, 30), kind="b")
    other = polygon((40, 9), (60, 9), (60, 30), kind="b")
    found = surveyed(write_via(tmp_path, {"a.png": [square, other] * 200}, size=(40, 80)))
    assert codes(found) == [("duplicate-object", place) for place in range(2, 400)]
