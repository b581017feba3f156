import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import tifffile

from mrcnn.geometry import image_files


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turning_agrees_with_pillow(tmp_path, orientation):
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    exif = PIL.Image.Exif()
    exif[image_files.ORIENTATION] = orientation
    path = tmp_path / "a.png"
    PIL.Image.fromarray(picture).save(path, exif=exif)
    with PIL.Image.open(path) as image:
        expected = np.array(PIL.ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(image_files.turned(picture, orientation), expected)
    np.testing.assert_array_equal(image_files.read_pixels(path), expected)
    assert image_files.read_size(path) == ((5, 7), orientation)


@pytest.mark.parametrize("orientation", [0, 9])
def test_other_orientations_are_none(tmp_path, orientation):
    exif = PIL.Image.Exif()
    exif[image_files.ORIENTATION] = orientation
    PIL.Image.new("L", (7, 5)).save(tmp_path / "a.png", exif=exif)
    assert image_files.read_size(tmp_path / "a.png") == ((5, 7), 1)


def test_size_of_a_tiff_that_pillow_cannot_open(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif",
        np.zeros((5, 7, 3), np.int16),
        photometric="minisblack",
        planarconfig="contig",
    )
    assert image_files.read_size(tmp_path / "a.tif") == ((5, 7), 1)


def test_a_tiff_that_pillow_cannot_open_is_turned_too(tmp_path):
    values = np.arange(5 * 7 * 3, dtype=np.int16).reshape(5, 7, 3)
    tifffile.imwrite(
        tmp_path / "a.tif",
        values,
        photometric="minisblack",
        planarconfig="contig",
        extratags=[(274, "H", 1, 6)],
    )
    expected = np.rot90(values, -1)
    np.testing.assert_array_equal(image_files.read_pixels(tmp_path / "a.tif"), expected)


@pytest.mark.parametrize("content", [None, b"", b"no image"])
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_size_of_what_is_no_image(tmp_path, content, name):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name}: cannot be read as an image"):
        image_files.read_size(tmp_path / name)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.uint16, np.int32])
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_labels_are_what_was_stored(tmp_path, dtype, name):
    if name == "a.png" and dtype == np.int32:
        pytest.skip("PNG has no 32 bits")
    labels = np.array([[0, 1, 7], [200, 0, 1]]).astype(dtype)
    PIL.Image.fromarray(labels).save(tmp_path / name)
    np.testing.assert_array_equal(image_files.read_labels(tmp_path / name), labels)


def test_labels_of_a_palette_are_its_indices(tmp_path):
    image = PIL.Image.fromarray(np.array([[0, 3], [1, 0]], np.uint8))
    image.putpalette([9, 9, 9] * 256)
    image.save(tmp_path / "a.png")
    assert image_files.read_labels(tmp_path / "a.png").tolist() == [[0, 3], [1, 0]]


def test_labels_of_colours_are_one_number_each(tmp_path):
    colours = np.array([[[0, 0, 0, 255], [1, 2, 3, 255]]], np.uint8)
    PIL.Image.fromarray(colours).save(tmp_path / "a.png")
    assert image_files.read_labels(tmp_path / "a.png").tolist() == [[0, 66051]]


def test_fractions_are_no_labels(tmp_path):
    PIL.Image.fromarray(np.full((2, 2), 0.5, np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match="is no label image"):
        image_files.read_labels(tmp_path / "a.tif")


def test_a_missing_mask_is_named(tmp_path):
    for name in ("a.png", "a.tif"):
        with pytest.raises(ValueError, match=f"{name}: cannot be read as a mask"):
            image_files.read_labels(tmp_path / name)
