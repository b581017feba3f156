import numpy as np
import PIL.Image
import pytest

from mrcnn.data.formats.voc import load_voc


def entry(name="dog", box=(2, 3, 4, 4), extra=""):
    sides = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    corners = "".join(f"<{key}>{value}</{key}>" for key, value in sides)
    return f"<object><name>{name}</name>{extra}<bndbox>{corners}</bndbox></object>"


def write(root, *objects, stem="a", size=(5, 6), folder="Annotations", filename=None):
    """Write a 6 x 5 image and its XML file."""
    for name in (folder, "JPEGImages"):
        (root / name).mkdir(exist_ok=True)
    PIL.Image.new("RGB", (6, 5)).save(root / "JPEGImages" / f"{stem}.jpg")
    stated = f"<size><width>{size[1]}</width><height>{size[0]}</height></size>" if size else ""
    filename = f"{stem}.jpg" if filename is None else filename
    text = f"<annotation><filename>{filename}</filename>{stated}{''.join(objects)}</annotation>"
    path = root / folder / f"{stem}.xml"
    path.write_text(text)
    return path


def pixels(dataset, place=0):
    return np.argwhere(dataset.load_mask(0)[0][..., place]).tolist()


def test_boxes_count_from_one_and_include_their_end(tmp_path):
    write(tmp_path, entry())
    dataset = load_voc(tmp_path)
    assert pixels(dataset) == [[2, 1], [2, 2], [2, 3], [3, 1], [3, 2], [3, 3]]
    assert dataset.load_image(0).shape == (5, 6, 3)


@pytest.mark.parametrize("folder", ["Annotations", "annots", "xmls"])
def test_the_set_its_annotations_or_one_of_them_may_be_given(tmp_path, folder):
    path = write(tmp_path, entry(), folder=folder)
    for given in (tmp_path, path.parent, path):
        assert load_voc(given).num_objects == 1


def test_one_notice_says_that_boxes_are_the_masks(tmp_path, caplog):
    write(tmp_path, entry())
    write(tmp_path, entry(), stem="b")
    load_voc(tmp_path)
    assert len(caplog.messages) == 1
    assert "boxes only" in caplog.messages[0]


def test_classes_are_numbered_by_name(tmp_path):
    write(tmp_path, entry("dog"), entry("cat"))
    dataset = load_voc(tmp_path)
    assert dataset.class_names == ["BG", "cat", "dog"]
    np.testing.assert_array_equal(dataset.load_mask(0)[1], [2, 1])


def test_difficult_objects_are_crowds(tmp_path):
    write(tmp_path, entry(extra="<difficult>1</difficult>"), entry("cat"))
    np.testing.assert_array_equal(load_voc(tmp_path).load_mask(0)[1], [-2, 1])


def test_parts_of_an_object_are_no_objects(tmp_path):
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    write(tmp_path, entry(extra=part))
    dataset = load_voc(tmp_path)
    assert (dataset.num_objects, dataset.class_names) == (1, ["BG", "dog"])


def test_masks_are_taken_where_there_are_files_of_them(tmp_path):
    write(tmp_path, entry("dog"), entry("cat"))
    write(tmp_path, entry("dog"), stem="without")
    labels = np.zeros((5, 6), np.uint8)
    labels[0, 0], labels[1, 1:3], labels[4] = 2, 1, 255
    (tmp_path / "SegmentationObject").mkdir()
    image = PIL.Image.fromarray(labels)
    image.putpalette(list(range(256)) * 3)
    image.save(tmp_path / "SegmentationObject" / "a.png")
    dataset = load_voc(tmp_path)
    assert dataset.num_images == 1
    assert pixels(dataset, 0) == [[1, 1], [1, 2]]
    assert pixels(dataset, 1) == [[0, 0]]
    np.testing.assert_array_equal(dataset.load_mask(0)[1], [2, 1])


@pytest.mark.parametrize("filename", ["a.jpg", "A.JPG", "/home/me/a.jpg", "a.png", ""])
def test_the_image_is_found(tmp_path, filename):
    write(tmp_path, entry(), filename=filename)
    assert load_voc(tmp_path).image_info[0]["path"] == str(tmp_path / "JPEGImages" / "a.jpg")


def test_size_comes_from_the_image_where_it_is_not_stated(tmp_path):
    write(tmp_path, entry(), size=None)
    assert load_voc(tmp_path).load_mask(0)[0].shape == (5, 6, 1)


@pytest.mark.parametrize("box", [(4, 3, 2, 4), ("", 1, 2, 3), ("a", 1, 2, 3)])
def test_boxes_without_area_are_dropped(tmp_path, box):
    write(tmp_path, entry(box=box), entry())
    dataset = load_voc(tmp_path)
    assert dataset.num_objects == 1
    assert "no-area" in [finding.code for finding in dataset.problems]


@pytest.mark.parametrize(
    ("text", "message"),
    [("<annotation>", "is no XML"), ("<html></html>", "begins with <html>")],
)
def test_other_files_are_refused(tmp_path, text, message):
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_voc(tmp_path)


def test_an_object_without_name_is_refused(tmp_path):
    write(tmp_path, entry(""))
    with pytest.raises(ValueError, match="object 1 of image a: it has no name"):
        load_voc(tmp_path)


@pytest.mark.parametrize("declaration", ["", '<?xml version="1.0" encoding="utf-8"?>'])
def test_texts_in_another_encoding_than_they_declare_are_read(tmp_path, declaration):
    path = write(tmp_path, entry("beetle"))
    text = declaration + path.read_text(encoding="utf-8").replace("beetle", "K\u00e4fer")
    path.write_bytes(text.encode("latin-1"))
    assert load_voc(tmp_path).class_names == ["BG", "K\u00e4fer"]
