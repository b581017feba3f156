import warnings
import zlib
from collections.abc import Callable

import cv2
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


def png_of(width: int, height: int) -> bytes:
    """Return a PNG that claims a size and has hardly any content."""

    def chunk(name: bytes, content: bytes) -> bytes:
        checked = zlib.crc32(name + content).to_bytes(4, "big")
        return len(content).to_bytes(4, "big") + name + content + checked

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    pixels = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


def write_claims(path, width: int, height: int) -> None:
    """Write a file that claims a size."""
    if path.suffix == ".png":
        path.write_bytes(png_of(width, height))
        return
    tifffile.imwrite(
        path, np.zeros((16, 16), np.uint16 if "deep" in path.name else np.uint8), photometric=1
    )
    with tifffile.TiffFile(path, mode="r+") as tiff:
        for tag, value in ((256, width), (257, height), (278, height)):
            tiff.pages.first.tags[tag].overwrite(value)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "deep.tif"])
def test_more_pixels_than_the_limit_are_refused_from_the_header(tmp_path, name, monkeypatch):
    write_claims(tmp_path / name, 60000, 50000)
    for read in (image_files.read_pixels, image_files.read_size, image_files.read_labels):
        with pytest.raises(
            ValueError, match=r"60000 x 50000 pixels, more .* 178956970; .*MRCNN_MAX_PIXELS=3000000"
        ):
            read(tmp_path / name)
    monkeypatch.setenv("MRCNN_MAX_PIXELS", "3000000000")
    assert image_files.read_size(tmp_path / name)[0] == (50000, 60000)


def test_bands_of_a_tiff_are_limited_too(tmp_path, monkeypatch):
    monkeypatch.setenv("MRCNN_MAX_PIXELS", "100")
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((9, 9, 30), np.uint16), planarconfig="contig")
    with pytest.raises(ValueError, match="more than the limit of 100"):
        image_files.read_pixels(tmp_path / "a.tif")
    assert image_files.read_pixels(tmp_path / "a.tif", 30).shape == (9, 9, 30)


def test_a_limit_that_is_no_number(tmp_path, monkeypatch):
    PIL.Image.new("L", (7, 5)).save(tmp_path / "a.png")
    monkeypatch.setenv("MRCNN_MAX_PIXELS", "many")
    with pytest.raises(ValueError, match="MRCNN_MAX_PIXELS must be a whole number, got 'many'"):
        image_files.read_size(tmp_path / "a.png")


def test_pillow_warns_of_nothing_below_the_limit_and_keeps_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 30)
    for suffix in ("png", "jp2", "tif", "gif", "webp"):
        PIL.Image.new("RGB", (10, 9)).save(tmp_path / f"a.{suffix}")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert image_files.read_pixels(tmp_path / f"a.{suffix}").shape[:2] == (9, 10)
    assert PIL.Image.MAX_IMAGE_PIXELS == 30


def test_postscript_is_no_image(tmp_path):
    (tmp_path / "a.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    with pytest.raises(OSError, match="cannot identify"):
        image_files.read_pixels(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", ["tif", "gif", "webp", "png"])
def test_several_images_in_a_file_are_refused(tmp_path, suffix):
    frames = [PIL.Image.new("RGB", (9, 7), (value, 0, 0)) for value in (0, 90, 200)]
    path = tmp_path / f"a.{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    for read in (image_files.read_pixels, image_files.read_labels):
        with pytest.raises(
            ValueError, match=r"it holds 3 (pages|frames), one image is wanted: save each as a file"
        ):
            read(path)


@pytest.mark.parametrize("options", [{"imagej": True}, {"truncate": True}, {"ome": True}, {}])
def test_stacks_of_every_kind_are_refused(tmp_path, options):
    stack = np.zeros((5, 7, 9), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack", **options)
    with pytest.raises(ValueError, match="it holds 5 pages, one image is wanted"):
        image_files.read_pixels(tmp_path / "a.tif")
    assert image_files.read_pixels(tmp_path / "a.tif", 5).shape == (7, 9, 5)


def test_previews_in_a_tiff_do_not_count(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        tiff.write(image, photometric="rgb")
        tiff.write(image[::2, ::2], photometric="rgb", subfiletype=1)
    np.testing.assert_array_equal(image_files.read_pixels(tmp_path / "a.tif"), image)


def discs(side: int = 384) -> np.ndarray:
    y, x = np.mgrid[:side, :side]
    first = (y - side / 3) ** 2 + (x - side / 3) ** 2 < (side / 6) ** 2
    second = (y - side / 1.5) ** 2 + (x - side / 1.6) ** 2 < (side / 5) ** 2
    return np.where(first | second, 255, 0).astype(np.uint8)


def shrunk(mask: np.ndarray, way: int = cv2.INTER_LINEAR) -> np.ndarray:
    return cv2.resize(mask, (150, 150), interpolation=way)


def enlarged(mask: np.ndarray, way: int = cv2.INTER_LINEAR) -> np.ndarray:
    return cv2.resize(mask, (1000, 1000), interpolation=way)


SMOOTHED: dict[str, Callable[[], np.ndarray]] = {
    "shrunk": lambda: shrunk(discs()),
    "enlarged": lambda: enlarged(discs()),
    "cubic": lambda: shrunk(discs(), cv2.INTER_CUBIC),
    "blurred": lambda: cv2.GaussianBlur(discs(), (0, 0), 1),
    "much blurred": lambda: cv2.GaussianBlur(discs(), (0, 0), 5),
    "labels": lambda: shrunk(
        np.where(discs() > 0, np.arange(384) // 40 * 37 % 251, 0).astype(np.uint16)
    ),
    "colours": lambda: shrunk(discs()[..., None] // np.array([1, 3, 5], np.uint8)),
    "small": lambda: cv2.resize(discs(), (40, 40), interpolation=cv2.INTER_AREA),
}


@pytest.mark.parametrize("name", SMOOTHED)
def test_smoothed_masks_are_no_label_images(tmp_path, name):
    PIL.Image.fromarray(SMOOTHED[name]()).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a.png is no label image: .* along edges, .* as PNG"):
        image_files.read_labels(tmp_path / "a.png")


@pytest.mark.parametrize("quality", [50, 90, 98])
def test_masks_that_are_stored_with_loss_are_refused(tmp_path, quality):
    PIL.Image.fromarray(discs()).save(tmp_path / "a.jpg", quality=quality)
    with pytest.raises(ValueError, match=r"a.jpg is no label image: it has \d+ values, as JPEG"):
        image_files.read_labels(tmp_path / "a.jpg")


def test_a_photograph_is_no_label_image(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (90, 90, 3), np.uint8)
    PIL.Image.fromarray(noise).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"it has \d+ colours, as a photograph"):
        image_files.read_labels(tmp_path / "a.png")


def tiny_objects(rows: int, columns: int, *, shuffled: bool) -> np.ndarray:
    """Return objects of so many pixels, touching one another, beside a large one."""
    labels = np.arange(1, 1601)
    if shuffled:
        labels = np.random.default_rng(0).permutation(labels)
    touching = labels.reshape(40, 40).repeat(rows, 0).repeat(columns, 1).astype(np.uint16)
    image = np.zeros((120, 120), np.uint16)
    image[60:118, 3:110] = 2000
    image[5 : 5 + len(touching), 10 : 10 + touching.shape[1]] = touching
    return image


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1), (2, 2)])
@pytest.mark.parametrize("shuffled", [False, True])
def test_touching_objects_of_few_pixels_are_labels(tmp_path, size, shuffled):
    labels = tiny_objects(*size, shuffled=shuffled)
    PIL.Image.fromarray(labels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(image_files.read_labels(tmp_path / "a.png"), labels)
    colours = np.random.default_rng(1).integers(1, 256, (2001, 3), np.uint8)
    colours[0] = 0
    PIL.Image.fromarray(colours[labels]).save(tmp_path / "b.png")
    assert image_files.read_labels(tmp_path / "b.png").shape == labels.shape


def test_objects_with_a_border_of_its_own_value_are_labels(tmp_path):
    labels = discs() // 255
    border = cv2.dilate(labels, np.ones((5, 5), np.uint8)) - labels
    for colours in ([[0, 0, 0], [128, 0, 0], [224, 224, 192]], [[0] * 3, [255] * 3, [128] * 3]):
        picture = np.array(colours, np.uint8)[labels + 2 * border]
        PIL.Image.fromarray(picture).save(tmp_path / "a.png")
        assert len(np.unique(image_files.read_labels(tmp_path / "a.png"))) == 3


def test_real_label_images_are_labels(shared_data):
    found = image_files.read_labels(shared_data / "uint16" / "stardist_mask2d.tif")
    assert len(np.unique(found)) == 126
    for path in sorted((shared_data / "nuclei" / "stage1_train").glob("*/masks/*"))[:60]:
        assert len(np.unique(image_files.read_labels(path))) == 2
