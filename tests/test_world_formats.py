"""Files as annotators write them, and those that are known and not read."""

import base64
import io
import json

import numpy as np
import PIL.Image
import pytest
import sets

from mrcnn.data.formats import Source, load_dataset, load_pair
from mrcnn.data.formats.voc import _colour

POLYGON = '{""name"":""polygon"",""all_points_x"":[8,24,24,8],""all_points_y"":[8,8,24,24]}'
HEADER = (
    "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,"
    "region_attributes"
)


def areas(dataset):
    return [dataset.load_mask(i)[0].sum(axis=(0, 1)).tolist() for i in dataset.image_ids]


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_the_csv_file_of_via(tmp_path, mark):
    for name in ("a.png", "b.png"):
        sets.picture(tmp_path / name)
    rows = [
        f'a.png,9,"{{}}",1,0,"{POLYGON}","{{""kind"":""nut, long""}}"',
        'b.png,9,"{}",0,0,"{}","{}"',
    ]
    (tmp_path / "via.csv").write_text(mark + "\n".join([HEADER, *rows]), encoding="utf-8")
    for path in (tmp_path, tmp_path / "via.csv"):
        dataset = load_dataset(path)
        assert (dataset.format, dataset.class_names) == ("via", ["BG", "nut, long"])
        assert areas(dataset) == [[256], []]


def test_another_csv_file_is_none_of_via(tmp_path):
    (tmp_path / "a.csv").write_text("image,x1,y1\na.png,3,4\n")
    with pytest.raises(ValueError, match="no known annotations"):
        load_dataset(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("kind", "points", "area"),
    [
        ("rectangle", [[8, 8], [24, 24]], 256),
        ("rectangle", sets.corners(sets.NUT), 256),
        ("rotation", sets.corners(sets.NUT), 256),
        ("oriented_rectangle", [[16, 4], [28, 16], [16, 28], [4, 16]], 288),
    ],
)
def test_rectangles_of_labelme_and_its_successors(tmp_path, kind, points, area):
    sets.picture(tmp_path / "a.png")
    shape = {"label": "nut", "points": points, "shape_type": kind}
    (found,) = areas(load_dataset(sets.labelme(tmp_path / "a.json", [shape])))[0]
    assert abs(found - area) < 20


def test_a_rectangle_of_three_points_is_told(tmp_path):
    sets.picture(tmp_path / "a.png")
    whole = {"label": "nut", "points": sets.corners(sets.NUT), "shape_type": "polygon"}
    shape = {**whole, "points": sets.corners(sets.NUT)[:3], "shape_type": "rectangle"}
    dataset = load_dataset(sets.labelme(tmp_path / "a.json", [whole, shape]))
    assert "a rectangle has 2 points or 4, this one 3" in dataset.problems[0].message


@pytest.mark.parametrize("lead", ["", "data:image/png;base64,"])
def test_an_image_inside_a_file_may_be_a_url(tmp_path, lead):
    stream = io.BytesIO()
    PIL.Image.new("RGB", (64, 48), (7, 7, 7)).save(stream, "PNG")
    data = lead + base64.b64encode(stream.getvalue()).decode()
    shape = {"label": "nut", "points": sets.corners(sets.NUT), "shape_type": "polygon"}
    path = sets.labelme(tmp_path / "a.json", [shape], imageData=data, imagePath=data[:60])
    dataset = load_dataset(path)
    assert (dataset.load_image(0) == 7).all()
    assert areas(dataset) == [[256]]


def test_a_damaged_image_inside_a_file_is_a_bad_sample(tmp_path):
    path = sets.labelme(tmp_path / "a.json", [], imageData="data:image/png;base64,abc")
    with pytest.raises(ValueError, match="no annotations of objects"):
        load_dataset(path)


def voc(folder, mask):
    """Write a VOC set of two objects with their masks in a file."""
    sets.picture(folder / "JPEGImages" / "a.png")
    (folder / "SegmentationObject").mkdir()
    mask.save(folder / "SegmentationObject" / "a.png")
    box = "<bndbox><xmin>9</xmin><ymin>9</ymin><xmax>24</xmax><ymax>24</ymax></bndbox>"
    objects = f"<object><name>nut</name>{box}</object>" * 2
    (folder / "Annotations").mkdir()
    (folder / "Annotations" / "a.xml").write_text(
        f"<annotation><filename>a.png</filename>{objects}</annotation>"
    )
    return load_dataset(folder)


def test_masks_of_voc_in_colours_are_those_of_its_palette(tmp_path):
    """PASCAL's palette: 1 is maroon, 2 is green, the border is cream."""
    assert [_colour(n) for n in (1, 2, 3, 255)] == [0x800000, 0x008000, 0x808000, 0xE0E0C0]
    numbers = np.zeros((48, 64), np.uint8)
    numbers[8:24, 8:24], numbers[12:36, 36:56], numbers[40:44, 40:44] = 1, 2, 255
    palette = np.array([[c >> 16, c >> 8 & 255, c & 255] for c in map(_colour, range(256))])
    indexed = PIL.Image.fromarray(numbers)
    in_colours = PIL.Image.fromarray(palette.astype(np.uint8)[numbers])
    for name, mask in (("indexed", indexed), ("colours", in_colours)):
        (tmp_path / name).mkdir()
        assert areas(voc(tmp_path / name, mask)) == [[256, 480]]


FOREIGN = {
    "Label Studio": [{"id": 1, "annotations": [], "data": {"image": "a.png"}}],
    "Supervisely": {"size": {"height": 4, "width": 4}, "objects": [], "tags": []},
    "Datumaro": {"info": {}, "categories": {"label": {}}, "items": []},
    "panoptic": {"images": [], "annotations": [{"segments_info": []}], "categories": []},
    "captions": {"images": [], "annotations": [{"caption": "a nut"}]},
    "VIA 3": {"project": {"pid": "a"}, "config": {}, "file": {}, "metadata": {}, "view": {}},
    "CreateML": [{"image": "a.png", "annotations": [{"label": "nut", "coordinates": {}}]}],
    "list of detections": [{"image_id": 1, "category_id": 1, "score": 0.5, "bbox": []}],
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("is_folder", [True, False])
def test_formats_that_are_not_read_are_named_with_what_to_do(tmp_path, name, is_folder):
    path = tmp_path / "set.json"
    path.write_text(json.dumps(FOREIGN[name]))
    with pytest.raises(ValueError, match=rf"set\.json is a .*{name}.*: ") as refusal:
        load_dataset(tmp_path if is_folder else path)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("inside", ["<image/>", "<track/>", ""])
def test_the_xml_file_of_cvat_is_named(tmp_path, inside):
    (tmp_path / "a.xml").write_text(f"<annotations><version>1.1</version>{inside}</annotations>")
    with pytest.raises(ValueError, match=r"a\.xml is a file of CVAT: .* export the task as COCO"):
        load_dataset(tmp_path)


POLYGONS = {
    "LabelMe": "<pt><x>8</x><y>8</y></pt><pt><x>24</x><y>8</y></pt><pt><x>24</x><y>24</y></pt>"
    "<pt><x>8</x><y>24</y></pt>",
    "Roboflow": "<x1>8</x1><y1>8</y1><x2>24</x2><y2>8</y2>"
    "<x3>24</x3><y3>24</y3><x4>8</x4><y4>24</y4>",
}


@pytest.mark.parametrize("tool", POLYGONS)
def test_polygons_in_files_of_voc(tmp_path, tool, caplog):
    sets.picture(tmp_path / "a.png")
    entry = f"<object><name>nut</name><polygon>{POLYGONS[tool]}</polygon></object>"
    (tmp_path / "a.xml").write_text(f"<annotation><filename>a.png</filename>{entry}</annotation>")
    assert areas(load_dataset(tmp_path)) == [[256]]
    assert not caplog.text


def test_lists_of_images_are_the_parts_of_a_voc_set(tmp_path):
    for stem in "abc":
        sets.picture(tmp_path / "JPEGImages" / f"{stem}.jpg")
        box = "<bndbox><xmin>9</xmin><ymin>9</ymin><xmax>24</xmax><ymax>24</ymax></bndbox>"
        (tmp_path / "Annotations").mkdir(exist_ok=True)
        (tmp_path / "Annotations" / f"{stem}.xml").write_text(
            f"<annotation><object><name>nut</name>{box}</object></annotation>"
        )
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    for part, stems in (("train", "a\nb 1\n"), ("val", "c -1\r\n")):
        (tmp_path / "ImageSets" / "Main" / f"{part}.txt").write_text(stems)
    pair = load_pair(*(Source(tmp_path, part=part) for part in ("train", "val")))
    assert [[info["id"] for info in each.image_info] for each in pair] == [["a", "b"], ["c"]]


def test_images_in_both_parts_are_told(tmp_path, caplog):
    sets.picture(tmp_path / "a.png")
    path = sets.coco(tmp_path / "set.json")
    load_pair(Source(path), Source(path))
    assert (
        "1 of 1 images of the validation set are in the training set, such as a.png" in caplog.text
    )


@pytest.mark.parametrize(
    ("stated", "stored"),
    [
        ("my%20photo.png", "my photo.png"),
        ("https://a.org/b/a.png?sign=1", "a.png"),
        (" a.png ", "a.png"),
        ("/data/upload/1/a.png", "a.png"),
        ("C:\\photos\\a.png", "a.png"),
        ("a%20b.png", "a%20b.png"),
    ],
)
def test_names_as_tools_spell_them(tmp_path, stated, stored):
    sets.picture(tmp_path / stored)
    dataset = load_dataset(sets.coco(tmp_path / "set.json", [stated]))
    assert dataset.image_info[0]["path"] == str(tmp_path / stored)


@pytest.mark.parametrize(("listed", "given"), [("007", 7), (7.0, "7"), (7, "007"), ("7", 7.0)])
def test_ids_as_programs_write_them(tmp_path, listed, given):
    sets.picture(tmp_path / "a.png")
    path = sets.coco(tmp_path / "set.json")
    content = json.loads(path.read_text())
    content["images"][0]["id"], content["annotations"][0]["image_id"] = listed, given
    path.write_text(json.dumps(content))
    assert areas(load_dataset(path)) == [[256]]


def test_a_project_of_via_knows_where_its_images_are(tmp_path):
    sets.picture(tmp_path / "photos" / "in" / "a.png")
    path = sets.via(tmp_path / "via" / "via.json", {"a.png": [sets.NUT]})
    content = {
        "_via_settings": {"core": {"default_filepath": "../photos/in/"}},
        "_via_img_metadata": json.loads(path.read_text()),
    }
    path.write_text(json.dumps(content))
    assert load_dataset(path).load_image(0).shape == (48, 64, 3)


def test_what_via_has_not_defined_is_no_class(tmp_path):
    sets.picture(tmp_path / "a.png")
    path = sets.via(tmp_path / "nuts" / "via.json", {"a.png": [sets.NUT]})
    content = json.loads(path.read_text())
    content["a.png"]["regions"][0]["region_attributes"] = {"name": "not_defined", "kind": "nut"}
    path.write_text(json.dumps(content))
    assert load_dataset(path).class_names == ["BG", "nut"]


def test_a_stated_box_in_another_form_is_not_scored_by(tmp_path):
    sets.picture(tmp_path / "a.png")
    path = sets.coco(tmp_path / "set.json", bbox=[36, 36, 60, 47], area=0)
    (record,) = load_dataset(path).records(0)
    assert not {"bbox", "area"} & set(record)


@pytest.mark.parametrize("reader", ["coco", "labelme", "masks", "voc"])
def test_a_folder_of_parts_is_each_where_it_is_asked_for(tmp_path, reader):
    for part in ("train", "valid"):
        home = tmp_path / part
        for name in ("a.png", "b.png"):
            sets.picture(home / ("images" if reader == "masks" else "") / name)
            if reader == "masks":
                sets.picture(home / "masks" / name, level=1)
        shape = {"label": "nut", "points": sets.corners(sets.NUT), "shape_type": "polygon"}
        if reader == "coco":
            sets.coco(home / "_annotations.coco.json", ["a.png", "b.png"])
        elif reader == "labelme":
            sets.labelme(home / "a.json", [shape])
        elif reader == "voc":
            box = "<bndbox><xmin>9</xmin><ymin>9</ymin><xmax>24</xmax><ymax>24</ymax></bndbox>"
            (home / "a.xml").write_text(
                f"<annotation><object><name>nut</name>{box}</object></annotation>"
            )
    dataset, validation = load_pair(Source(tmp_path, part="train"), Source(tmp_path, part="val"))
    for each, part in ((dataset, "train"), (validation, "valid")):
        assert each.format == reader
        assert all(str(tmp_path / part) in info["path"] for info in each.image_info)


def test_images_in_folders_deep_inside_are_found(tmp_path):
    sets.picture(tmp_path / "images" / "plates" / "A172" / "a.png")
    path = sets.coco(tmp_path / "annotations" / "train.json")
    assert load_dataset(path).load_image(0).shape == (48, 64, 3)


def test_a_folder_of_masks_for_each_image(tmp_path):
    sets.picture(tmp_path / "images" / "a.png")
    for number in range(2):
        mask = np.zeros((48, 64), np.uint8)
        mask[8 * number : 8 * number + 4, :4] = 255
        (tmp_path / "masks" / "a").mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(mask).save(tmp_path / "masks" / "a" / f"{number}.png")
    assert areas(load_dataset(tmp_path)) == [[16, 16]]


def test_labels_may_be_whole_numbers_stored_as_floats(tmp_path):
    labels = np.zeros((48, 64), np.float32)
    labels[:4, :4], labels[8:12, :4] = 1, 2
    sets.picture(tmp_path / "images" / "a.png")
    (tmp_path / "masks").mkdir()
    PIL.Image.fromarray(labels).save(tmp_path / "masks" / "a.tif")
    assert areas(load_dataset(tmp_path)) == [[16, 16]]
    PIL.Image.fromarray(labels / 3).save(tmp_path / "masks" / "a.tif")
    with pytest.raises(ValueError, match="float32 of shape"):
        load_dataset(tmp_path).load_mask(0)


@pytest.mark.parametrize(
    "text",
    ["0,0.25,0.3333333333,0.25,0.3333333333\n", "\ufeff0 0.25 0.3333333333 0.25 0.3333333333\r\n"],
)
def test_lines_of_yolo_as_tools_write_them(tmp_path, text):
    sets.picture(tmp_path / "images" / "a.png")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.png.txt").write_text(text, encoding="utf-8")
    (tmp_path / "data.yaml").write_text("nc: 1\n")
    dataset = load_dataset(tmp_path)
    assert areas(dataset) == [[256]]
    assert dataset.class_names == ["BG", "class 0"]


def test_a_yaml_file_whose_images_are_elsewhere_says_so(tmp_path):
    (tmp_path / "set.yaml").write_text("path: ../datasets/nuts\ntrain: images\nnames: [nut]\n")
    with pytest.raises(ValueError, match=r"images in .*nuts/images, where there is nothing: mend"):
        load_dataset(tmp_path / "set.yaml")
