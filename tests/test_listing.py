import os
import unicodedata

import pytest
import sets

from mrcnn.data.formats import files, load_dataset
from mrcnn.data.formats.image_lookup import Stems
from mrcnn.geometry import image_files


@pytest.mark.parametrize("suffix", sorted(image_files.SUFFIXES))
def test_every_suffix_of_the_decoder_is_listed(tmp_path, suffix):
    (tmp_path / f"a{suffix.upper()}").touch()
    assert [path.name for path in files.list_images(tmp_path).images] == [f"a{suffix.upper()}"]


@pytest.mark.parametrize(
    "name", ["._a.png", ".a.png", "Thumbs.db", "__MACOSX", ".ipynb_checkpoints", "desktop.ini"]
)
def test_hidden_and_system_names_are_left_out(tmp_path, name):
    (tmp_path / name).touch()
    listing = files.list_images(tmp_path)
    assert listing.images == []
    assert dict(listing.passed_over) == {files.HIDDEN: [name]}


@pytest.mark.parametrize("name", [".ipynb_checkpoints", "__MACOSX", ".git"])
def test_hidden_folders_are_not_entered(tmp_path, name):
    sets.picture(tmp_path / name / "a.png")
    assert files.list_images(tmp_path, recursive=True).images == []


def test_only_regular_files_are_images(tmp_path):
    sets.picture(tmp_path / "a.png")
    (tmp_path / "b.jpg").mkdir()
    os.mkfifo(tmp_path / "c.png")
    (tmp_path / "d.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "e.png").symlink_to(tmp_path / "e.png")
    (tmp_path / "f.png").symlink_to(tmp_path / "a.png")
    listing = files.list_images(tmp_path)
    assert [path.name for path in listing.images] == ["a.png", "f.png"]
    assert sorted(listing.passed_over[files.IRREGULAR]) == ["b.jpg", "c.png", "d.png", "e.png"]


def test_links_in_a_circle_end(tmp_path):
    sets.picture(tmp_path / "in" / "a.png")
    (tmp_path / "in" / "again").symlink_to(tmp_path)
    assert len(files.list_images(tmp_path, recursive=True).images) == 1


def test_what_is_passed_over_is_counted(tmp_path):
    for name in ("a.txt", "b.csv", "c.pdf", "d.eps", "._e.png"):
        (tmp_path / name).touch()
    shown = files.list_images(tmp_path).summary()
    assert "4 of no image format (a.txt, b.csv, c.pdf, ...)" in shown
    assert "1 hidden or system names (._e.png)" in shown
    assert files.Listing().summary() == ""


def test_stems_are_equal_in_any_form_and_case(tmp_path):
    name = unicodedata.normalize("NFD", "Blüte.png")
    stems = Stems([tmp_path / name, tmp_path / "b.png", tmp_path / "b.jpg"])
    assert stems.find("blüte") == [tmp_path / name]
    assert stems.find("B") == [tmp_path / "b.png", tmp_path / "b.jpg"]
    assert stems.find("c") == []


@pytest.mark.parametrize("junk", ["._a.json", ".ipynb_checkpoints/a-checkpoint.json"])
def test_junk_is_no_labelme_file(tmp_path, junk):
    sets.picture(tmp_path / "a.png")
    shape = {"label": "nut", "points": sets.corners(sets.NUT), "shape_type": "polygon"}
    path = sets.labelme(tmp_path / "a.json", [shape])
    (tmp_path / junk).parent.mkdir(exist_ok=True)
    (tmp_path / junk).write_bytes(b"\0\5\26\7" + path.read_bytes())
    assert load_dataset(tmp_path).num_images == 1


def test_junk_is_no_mask_and_is_told(tmp_path):
    for folder in ("images", "masks"):
        sets.picture(tmp_path / folder / "a.png", level=1)
        (tmp_path / folder / "._a.png").write_bytes(b"\0\5")
        (tmp_path / folder / "Thumbs.db").touch()
    dataset = load_dataset(tmp_path)
    assert dataset.num_images == 1
    assert [each.code for each in dataset.problems] == ["passed-over"] * 2


@pytest.mark.parametrize("suffix", ["jfif", "jp2", "avif"])
def test_readers_take_pictures_of_every_suffix(tmp_path, suffix):
    kind = {"jfif": "JPEG", "jp2": "JPEG2000", "avif": "AVIF"}[suffix]
    import PIL.Image

    (tmp_path / "labels").mkdir()
    (tmp_path / "images").mkdir()
    PIL.Image.new("RGB", (64, 48)).save(tmp_path / "images" / f"a.{suffix}", kind)
    (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.5 0.2 0.2")
    assert load_dataset(tmp_path).load_image(0).shape == (48, 64, 3)
