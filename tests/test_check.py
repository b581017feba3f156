import shutil
from collections import Counter

import pytest
from via_set import polygon, rectangle, write_via

from mrcnn.data.check import Limits, check, load_for_check

DEFAULT = Limits()
LEAF, STEM = rectangle(1, 1, 40, 40, kind="leaf"), rectangle(1, 1, 40, 40, kind="stem")


def checked(path, validation=None, limits=DEFAULT, *, thorough=True, fixed=None, **options):
    """Return the findings of a set, or of two, as the command has them."""
    dataset, found = load_for_check(path, **options)
    if dataset is None:
        return found
    other = load_for_check(validation, **options)[0] if validation else None
    return check(dataset, other, limits, thorough=thorough, fixed=fixed)


def faults(findings):
    """Return severity and code of all but suggestions."""
    return [(each.severity, each.code) for each in findings if each.code != "suggestion"]


def test_a_sound_set_has_suggestions_only(tmp_path):
    path = write_via(tmp_path, {"a.png": [LEAF], "b.png": [LEAF]})
    assert checked(path) == []
    findings = checked(path, fixed=())
    assert faults(findings) == []
    names = [each.message.partition("=")[0] for each in findings]
    assert names == [
        "IMAGE_RESIZE_MODE",
        "IMAGE_MIN_DIM",
        "IMAGE_MAX_DIM",
        "RPN_ANCHOR_SCALES",
        "MINI_MASK_SHAPE",
        "MAX_GT_INSTANCES",
    ]


def test_errors_come_first(tmp_path):
    path = write_via(tmp_path, {"a.png": [LEAF, rectangle(1, 1, 90, 9, kind="leaf")], "b.png": []})
    (tmp_path / "b.png").unlink()
    assert faults(checked(path)) == [
        ("error", "missing-image"),
        ("warning", "beyond-border"),
        ("info", "no-objects-in-image"),
    ]


def test_what_the_reader_found_is_there(tmp_path):
    path = write_via(tmp_path, {"a.png": [LEAF, rectangle(1, 1, 9, 9)]})
    assert faults(checked(path))[0] == ("error", "object-without-class")


def test_annotations_that_cannot_be_read_are_a_finding(tmp_path):
    (tmp_path / "a.json").write_text("{")
    assert faults(checked(tmp_path / "a.json")) == [("error", "unreadable-annotations")]


def test_names_that_differ_in_spelling_only(tmp_path):
    regions = [
        rectangle(9 * n, 0, 40, 9 + n, kind=name)
        for n, name in enumerate(("brown spot", "Brown_Spot", "smut"))
    ]
    found = [each for each in checked(write_via(tmp_path, {"a.png": regions}))]
    (finding,) = [each for each in found if each.code == "similar-classes"]
    assert "Brown_Spot, brown spot" in finding.message


def test_the_same_picture_twice(tmp_path):
    path = write_via(tmp_path, {"a.png": [LEAF], "b.png": [LEAF]})
    shutil.copy(tmp_path / "a.png", tmp_path / "b.png")
    (finding,) = [each for each in checked(path) if each.code == "same-image"]
    assert "a.png, b.png" in finding.message


def test_more_objects_than_a_network_takes(tmp_path):
    regions = [rectangle(2 * n, 0, 2, 60, kind="leaf") for n in range(8)]
    path = write_via(tmp_path, {"a.png": regions, "b.png": [LEAF]})
    limits = Limits(smallest_anchor=1, max_instances=7)
    finding, lost = [each for each in checked(path, limits=limits) if each.severity == "warning"]
    assert (finding.code, finding.image) == ("too-many-objects", "a.png")
    assert "1 of 9 objects will not be learned: 1 more than MAX_GT_INSTANCES" in lost.message
    assert "8 objects, but MAX_GT_INSTANCES is 7" in finding.message
    assert "too-many-objects" not in dict(map(reversed, faults(checked(path))))


def test_objects_smaller_than_the_smallest_anchor(tmp_path):
    # 64 pixels become 800 of the input: a side of 2 becomes 25.
    path = write_via(tmp_path, {"a.png": [LEAF, rectangle(1, 1, 2, 2, kind="leaf")]})
    limits = Limits(smallest_anchor=38)  # covers objects from 25.3 pixels on
    (finding,) = [each for each in checked(path, limits=limits) if each.code == "small-objects"]
    assert finding.message.startswith("1 of 2 objects are smaller than 25.3 pixels of the input")
    assert faults(checked(path, limits=Limits(smallest_anchor=37))) == []


def test_findings_follow_the_advice_on_settings(tmp_path):
    regions = [rectangle(2 * n, 0, 2, 60, kind="leaf") for n in range(8)]
    path = write_via(tmp_path, {"a.png": regions, "b.png": [LEAF]})
    limits = Limits(smallest_anchor=500, max_instances=7)
    found = [each.code for each in checked(path, limits=limits)]
    assert "too-many-objects" in found
    assert "small-objects" in found
    found = [each.code for each in checked(path, limits=limits, fixed=())]
    assert "too-many-objects" not in found
    assert "small-objects" not in found
    found = checked(path, limits=limits, fixed={"MAX_GT_INSTANCES"})
    assert "too-many-objects" in [each.code for each in found]
    assert not [each for each in found if each.message.startswith("MAX_GT_INSTANCES=")]


def test_boxes_among_outlines(tmp_path):
    outline = polygon((1, 1), (40, 3), (20, 40), kind="leaf")
    many = {f"{n}.png": [LEAF] if n % 2 else [outline] for n in range(10)}
    found = faults(checked(write_via(tmp_path / "mixed", many)))
    assert found == [("warning", "mixed-boxes")]
    boxes = {f"{n}.png": [LEAF] for n in range(10)}
    assert faults(checked(write_via(tmp_path / "boxes", boxes))) == []


def pair(tmp_path, training, validation):
    return (
        write_via(tmp_path / "train", training),
        write_via(tmp_path / "val" / "more", validation),
    )


def test_a_picture_in_both_sets(tmp_path):
    paths = pair(tmp_path, {"a.png": [LEAF]}, {"b.png": [LEAF], "c.png": [LEAF]})
    shutil.copy(paths[0].parent / "a.png", paths[1].parent / "c.png")
    (finding,) = [each for each in checked(*paths) if each.code == "image-in-both-sets"]
    assert (finding.severity, finding.image) == ("warning", "c.png")
    assert "training set (a.png)" in finding.message


def test_another_picture_of_the_same_name_is_only_noted(tmp_path):
    paths = pair(tmp_path, {"a.png": [LEAF]}, {"a.png": [LEAF]})
    assert faults(checked(*paths)) == [("info", "name-in-both-sets")]


def test_a_class_that_the_training_set_lacks(tmp_path):
    paths = pair(tmp_path, {"a.png": [LEAF]}, {"b.png": [STEM]})
    findings = checked(*paths)
    assert faults(findings) == [("error", "class-mismatch"), ("info", "class-only-in-training")]
    assert "'stem'" in findings[0].message


def test_a_class_in_another_spelling_is_told(tmp_path):
    leaf = rectangle(1, 1, 40, 40, kind="Leaf ")
    paths = pair(tmp_path, {"a.png": [LEAF]}, {"b.png": [leaf]})
    assert "the training set has 'leaf'" in checked(*paths)[0].message


def test_objects_without_class_are_of_the_only_one(tmp_path):
    paths = pair(tmp_path, {"a.png": [LEAF]}, {"b.png": [rectangle(1, 1, 40, 40)]})
    assert faults(checked(*paths)) == []


def test_findings_tell_their_set_where_there_are_two(tmp_path):
    paths = pair(
        tmp_path, {"a.png": [LEAF]}, {"b.png": [LEAF, rectangle(9, 9, 90, 9, kind="leaf")]}
    )
    (finding,) = [each for each in checked(*paths) if each.severity == "warning"]
    assert (finding.code, finding.part) == ("beyond-border", "validation")


def test_a_glance_reads_no_pixels(tmp_path, monkeypatch):
    path = write_via(tmp_path, {"a.png": [LEAF]})
    monkeypatch.setattr("mrcnn.data.annotated.AnnotatedDataset.load_image", None)
    findings = checked(path, thorough=False)
    assert "MEAN_PIXEL" not in str(findings)
    assert faults(findings) == []


def test_a_glance_at_a_long_set_looks_at_some_images(tmp_path, monkeypatch):
    monkeypatch.setattr("mrcnn.data.check.QUICK", 3)
    path = write_via(tmp_path, {f"{n}.png": [LEAF] for n in range(7)})
    for name in ("0.png", "1.png", "3.png", "6.png"):
        (tmp_path / name).unlink()
    found = [each.image for each in checked(path, thorough=False) if each.severity == "error"]
    assert found == ["0.png", "3.png", "6.png"]


MALFORMED = [
    ("via1_exif6.json", "../images", set()),
    (
        "coco_empty_segmentation",
        None,
        {
            ("warning", "boxes-as-masks", 1),
            ("warning", "no-area", 2),
            ("info", "no-objects-in-image", 1),
        },
    ),
    ("via1_trailing_comma.json", None, {("error", "unreadable-annotations", 1)}),
    (
        "via1_region_attributes_missing.json",
        None,
        {
            ("error", "object-without-class", 2),
            ("error", "missing-image", 6),
            ("error", "ambiguous-class", 1),
            ("warning", "mixed-boxes", 1),
        },
    ),
    (
        "via2_rects_and_polygons_empty_attribute.json",
        None,
        {
            ("error", "ambiguous-class", 1),
            ("error", "object-without-class", 1),
            ("error", "missing-image", 3),
            ("warning", "mixed-boxes", 1),
            ("info", "empty-attribute", 6),
        },
    ),
    (
        "coco_missing_files_duplicate_name.json",
        None,
        {
            ("error", "missing-image", 3),
            ("warning", "duplicate-class", 1),
            ("warning", "unused-class", 1),
        },
    ),
    (
        "coco_uncompressed_rle_crowd.json",
        None,
        {
            ("error", "missing-image", 1),
            ("error", "class-lost", 1),
            ("warning", "objects-lost", 1),
            ("warning", "unused-class", 1),
            ("info", "id-gaps", 1),
        },
    ),
]


@pytest.mark.parametrize(("path", "images", "expected"), MALFORMED)
def test_faults_of_malformed_annotations(shared_data, path, images, expected):
    folder = shared_data / "malformed" / "annotations"
    options = {"images": folder / images} if images else {}
    findings = checked(folder / path, **options)
    counts = Counter(each for each in faults(findings) if each[1] != "small-objects")
    assert {(*each, count) for each, count in counts.items()} == expected


@pytest.mark.parametrize(
    ("path", "validation"),
    [
        ("nuclei/annotations/instances_train.json", "nuclei/annotations/instances_val.json"),
        ("balloon/train", "balloon/val"),
        ("coco", None),
    ],
)
def test_good_sets_have_no_errors(shared_data, path, validation):
    findings = checked(shared_data / path, shared_data / validation if validation else None)
    counts = Counter(faults(findings))
    assert not [severity for severity, _ in counts if severity == "error"]
    if path.startswith("balloon"):
        assert counts["warning", "beyond-border"] == 13
    assert ("warning", "image-in-both-sets") not in counts
