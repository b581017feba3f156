from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import skimage.transform
import tifffile

from mrcnn.geometry import images, masks
from mrcnn.geometry import placement as placements

UNREADABLE = {
    "broken.png",
    "broken_data_stream.png",
    "decompression_bomb.gif",
    "kangaroo_00090.jpg",
    "total-pages-zero.tif",  # a facsimile of three pages
    "truncated_image.png",
    "truncated_jpeg.jpg",
    "zero_width.gif",
}


def noise(height, width, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("square", (128, 256, 0, "square")),
        ("big", (256, 256, 0, "square")),
        ("pad64", (128, None, 1.2, "pad64")),
    ],
)
def test_matterport_resize_modes(matterport_geometry, name, arguments):
    golden = {
        part: matterport_geometry[f"resize_{name}_{part}"]
        for part in ("image", "window", "scale", "pad")
    }
    image = matterport_geometry["util_image"]
    min_dim, max_dim, min_scale, mode = arguments
    placement = placements.place(image.shape, min_dim, max_dim, min_scale=min_scale, mode=mode)
    assert placement.scale == golden["scale"]
    np.testing.assert_array_equal(placement.window, golden["window"])
    np.testing.assert_array_equal(placement.padding, golden["pad"])
    np.testing.assert_array_equal(images.fit(image, placement), golden["image"])


@pytest.mark.parametrize("shape", [(33, 80), (97, 41), (20, 30), (1, 1)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_resize_agrees_with_skimage_to_the_last_bit(shape, dtype):
    image = noise(40, 60).astype(dtype)
    expected = skimage.transform.resize(
        image, shape, order=1, mode="constant", preserve_range=True, anti_aliasing=False
    ).astype(dtype)
    resized = images.resize(image, shape)
    assert resized.dtype == dtype
    np.testing.assert_allclose(resized, expected, rtol=0 if dtype == np.uint8 else 1e-6)


def test_small_image_is_enlarged_and_centred():
    placement = placements.place((100, 200, 3), 128, 256)
    assert placement.window == (64, 0, 192, 256)
    assert placement.scale == 1.28
    assert placement.input_size == (256, 256)


def test_large_image_is_shrunk_to_the_longer_side():
    placement = placements.place((4000, 3000), 800, 1024)
    assert placement.resized == (1024, 768)
    assert placement.window == (0, 128, 1024, 896)


def test_image_is_never_thinner_than_a_pixel():
    assert placements.place((1, 9000), 64, 128).resized == (1, 128)


def test_crop_follows_the_generator_and_stays_inside():
    rng = np.random.default_rng(0)
    crops = [placements.place((300, 400), 128, 256, mode="crop", rng=rng) for _ in range(50)]
    corners = np.array([placement.crop[:2] for placement in crops])
    assert len(np.unique(corners, axis=0)) > 40
    assert (corners >= 0).all()
    assert (corners <= [300 - 128, 400 - 128]).all()
    assert crops[0].input_size == (128, 128)


def test_crop_without_a_generator_is_the_centre():
    assert placements.place((300, 400), 128, 256, mode="crop").crop == (86, 136, 128, 128)


def test_mode_none_keeps_an_image_of_whole_strides():
    image = noise(128, 192)
    placement = placements.place(image.shape, 800, 1024, mode="none")
    np.testing.assert_array_equal(images.fit(image, placement), image)


def test_mode_none_rejects_other_sides():
    with pytest.raises(ValueError, match="multiples of 64 in resize mode none, got 90 x 120"):
        placements.place((90, 120, 3), 800, 1024, mode="none")


def test_pad64_rejects_a_min_dim_between_strides():
    with pytest.raises(ValueError, match="multiple of 64 in mode pad64, got 100"):
        placements.place((90, 120, 3), 100, 1024, mode="pad64")


def test_unknown_mode_is_named():
    with pytest.raises(ValueError, match="'squared'"):
        placements.place((90, 120, 3), 64, 128, mode="squared")


@pytest.mark.parametrize(
    ("mode", "min_dim", "max_dim"), [("square", 64, 128), ("pad64", 128, None), ("crop", 96, None)]
)
@pytest.mark.parametrize("shape", [(37, 53), (300, 211)])
def test_masks_move_with_their_image(mode, min_dim, max_dim, shape):
    picture = np.zeros((*shape, 1), np.uint8)
    picture[shape[0] // 4 : shape[0] // 2, shape[1] // 3 : -3] = 255
    placement = placements.place(shape, min_dim, max_dim, mode=mode, rng=np.random.default_rng(3))
    image = images.fit(picture, placement)
    mask = images.fit_masks(picture > 0, placement)
    assert image.shape == (*placement.input_size, 1)
    assert mask.shape == image.shape
    # Bilinear edges are as wide as the scale; on either side of them both must agree.
    clear = (image == 0) | (image == 255)
    np.testing.assert_array_equal((image > 127)[clear], mask[clear])
    np.testing.assert_allclose(mask.mean(), image.mean() / 255, atol=0.01)


def test_enlarged_mask_repeats_its_pixels():
    mask = np.array([[1, 0], [0, 1]], bool)[..., None]
    placement = placements.place((2, 2), None, 4, min_scale=2)
    np.testing.assert_array_equal(
        images.fit_masks(mask, placement)[..., 0], np.kron(np.eye(2), np.ones((2, 2)))
    )


def test_fitted_masks_are_the_nearest_pixels():
    mask = np.random.default_rng(0).random((40, 50, 4)) > 0.7
    placement = placements.place((40, 50), 64, 128)
    rows = np.floor((np.arange(placement.resized[0]) + 0.5) * 40 / placement.resized[0]).astype(int)
    cols = np.floor((np.arange(placement.resized[1]) + 0.5) * 50 / placement.resized[1]).astype(int)
    y1, x1, y2, x2 = placement.window
    fitted = images.fit_masks(mask, placement)
    np.testing.assert_array_equal(fitted[y1:y2, x1:x2], mask[rows][:, cols])
    assert fitted.sum() == fitted[y1:y2, x1:x2].sum()


def test_no_masks_are_fitted_to_no_masks():
    fitted = images.fit_masks(np.zeros((40, 50, 0), bool), placements.place((40, 50), 64, 128))
    assert fitted.shape == (128, 128, 0)


def test_unmold_inverts_mold():
    image = noise(8, 9)
    molded = images.mold(image, [123.7, 116.8, 103.9])
    assert molded.dtype == np.float32
    np.testing.assert_array_equal(images.unmold(molded, [123.7, 116.8, 103.9]), image)


def test_meta_holds_matterports_fields_in_order():
    meta = images.compose_meta(7, (90, 120, 3), (256, 256, 3), (64, 42, 192, 213), 1.5, [1, 0, 1])
    expected = [7, 90, 120, 3, 256, 256, 3, 64, 42, 192, 213, 1.5, 1, 0, 1]
    np.testing.assert_array_equal(meta, np.float32(expected))
    assert meta.dtype == np.float32


def test_parse_inverts_compose():
    meta = images.compose_meta(7, (90, 120, 3), (256, 256, 3), (64, 42, 192, 213), 1.5, [1, 0, 1])
    parsed = {name: value.tolist() for name, value in images.parse_meta(meta[None]).items()}
    assert parsed == {
        "image_id": [7],
        "original_image_shape": [[90, 120, 3]],
        "image_shape": [[256, 256, 3]],
        "window": [[64, 42, 192, 213]],
        "scale": [1.5],
        "active_class_ids": [[1, 0, 1]],
    }


@pytest.mark.parametrize(
    ("array", "value"),
    [
        (np.full((4, 5), 9, np.uint8), 9),
        (np.full((4, 5, 1), 9, np.int64), 9),
        (np.full((4, 5, 2), 9, np.uint8), 9),
        (np.full((4, 5, 4), 9, np.uint8), 9),
        (np.ones((4, 5), bool), 255),
        (np.full((4, 5, 3), 0.5), 128),
        (np.full((4, 5, 3), 200.0, np.float32), 200),
        (np.full((4, 5, 3), 1000, np.uint16), 127),
        (np.full((4, 5, 3), 1000, np.int16), 127),
        (np.full((4, 5, 3), 1000.0), 127),
        (np.full((4, 5, 3), 235, np.uint16), 84),
        (np.full((4, 5), 65535, np.uint16), 255),
        (np.full((4, 5), -3, np.int16), 0),
    ],
)
def test_to_rgb_takes_what_people_pass(array, value):
    rgb = images.to_rgb(array)
    assert rgb.dtype == np.uint8
    np.testing.assert_array_equal(rgb, np.full((4, 5, 3), value))


@pytest.mark.parametrize("shape", [(), (5,), (4, 5, 7), (2, 4, 5, 3), (0, 5, 3)])
def test_to_rgb_rejects_other_shapes(shape):
    with pytest.raises(ValueError, match="channels last"):
        images.to_rgb(np.zeros(shape, np.uint8))


@pytest.mark.parametrize(
    ("thing", "said"),
    [
        ("a.png", "got a str; open the file first"),
        (Path("a.png"), "Path; open the file first"),
        (b"P6 1 1 255", "got a bytes"),
        (None, "got a NoneType"),
        ([["a", "b"]], "must be real numbers"),
        (np.ones((4, 5), np.complex64), "must be real numbers, got complex64"),
    ],
)
@pytest.mark.parametrize("channels", [3, 4])
def test_what_is_no_array_of_numbers_is_named(thing, said, channels):
    if channels == 4:
        said = said if np.ndim(thing) == 0 else "4 channels are wanted"
    with pytest.raises(ValueError, match=said):
        images.to_channels(thing, channels)


@pytest.mark.parametrize("gap", [np.nan, np.inf, -np.inf, -9999, -3.4e38])
def test_what_is_no_value_is_0_and_does_not_choose_the_scale(gap):
    fractions = np.array([[gap, 0.5, 1.0]])
    assert images.to_uint8(fractions).tolist() == [[0, 128, 255]]
    assert images.to_uint8(fractions.astype(np.float32)).tolist() == [[0, 128, 255]]
    assert images.to_uint8(np.array([[gap, 7, 200.0]])).tolist() == [[0, 7, 200]]


def test_gaps_in_floats_of_many_channels_are_0():
    image = np.full((2, 2, 4), 1e6)
    image[0, 0] = [np.nan, np.inf, -np.inf, 3]
    assert images.to_channels(image, 4)[0, 0].tolist() == [0, 0, 0, 3]


def test_an_image_without_a_finite_value_is_refused():
    for channels in (3, 4):
        with pytest.raises(ValueError, match="no value of the image is a finite number"):
            images.to_channels(np.full((4, 5, channels), np.nan), channels)


@pytest.mark.filterwarnings("error")
def test_to_rgb_rejects_values_without_a_known_range():
    with pytest.raises(ValueError, match=r"1e\+300"):
        images.to_rgb(np.full((4, 5), 1e300))
    with pytest.raises(ValueError, match="70000"):
        images.to_rgb(np.full((4, 5), 70000))


def test_read_image_returns_what_was_written(tmp_path):
    image = noise(6, 7)
    PIL.Image.fromarray(image).save(tmp_path / "a.png")
    np.testing.assert_array_equal(images.read_image(tmp_path / "a.png"), image)


def test_read_image_with_other_channels(tmp_path):
    image = noise(6, 7, 4)
    PIL.Image.fromarray(image).save(tmp_path / "a.png")
    np.testing.assert_array_equal(images.read_image(tmp_path / "a.png", 4), image)
    assert images.read_image(tmp_path / "a.png", 1).shape == (6, 7, 1)
    with pytest.raises(ValueError, match="it has 4 channels, 2 are wanted"):
        images.read_image(tmp_path / "a.png", 2)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"none\.jpg: cannot be read as an image: no such file"):
        images.read_image(tmp_path / "none.jpg")


@pytest.mark.filterwarnings("ignore")
def test_malformed_images_are_read_or_refused(shared_data):
    paths = sorted((shared_data / "malformed" / "images").iterdir())
    assert {path.name for path in paths} > UNREADABLE
    for path in paths:
        if path.name in UNREADABLE:
            with pytest.raises(ValueError, match=f"{path.name}: cannot be read as an image: "):
                images.read_image(path)
        else:
            image = images.read_image(path)
            assert (image.dtype, image.ndim, image.shape[-1]) == (np.uint8, 3, 3), path


def test_all_orientations_show_one_picture(shared_data):
    folder = shared_data / "malformed" / "images"
    upright = images.read_image(folder / "hopper_orientation_2.jpg").astype(int)
    for orientation in range(3, 9):
        image = images.read_image(folder / f"hopper_orientation_{orientation}.jpg")
        assert np.abs(image - upright).mean() < 8, orientation


def test_sixteen_bit_files_are_not_black(shared_data):
    for name in ("spacenet_pan_uint16.tif", "landsat_3band_int16.tif", "stardist_img2d.tif"):
        image = images.read_image(shared_data / "uint16" / name)
        assert image.shape[-1] == 3
        assert len(np.unique(image)) > 60, name
        assert np.percentile(image, 99) > 60, name


def test_a_value_of_sixteen_bits_has_one_grey_in_all_images():
    dark = np.array([[16, 400, 1000]], np.uint16)
    bright = np.array([[16, 400, 65535]], np.uint16)
    np.testing.assert_array_equal(images.to_uint8(dark)[0, :2], images.to_uint8(bright)[0, :2])
    assert images.to_uint8(bright).tolist() == [[21, 100, 255]]


def test_greys_of_sixteen_bits_rise():
    greys = images.to_uint8(np.arange(65536, dtype=np.uint16)).astype(int)
    assert (np.diff(greys) >= 0).all()
    assert set(greys) >= set(range(85, 256))


@pytest.mark.parametrize(
    ("image", "channels", "expected"),
    [
        (np.full((4, 5), 16, np.uint16), 1, np.full((4, 5, 1), 21, np.uint8)),
        (np.full((4, 5, 4), 7, np.uint8), 4, np.full((4, 5, 4), 7, np.uint8)),
        (np.full((4, 5, 4), 7.5), 4, np.full((4, 5, 4), 7.5, np.float32)),
        (np.full((4, 5, 4), 7.0), 3, np.full((4, 5, 3), 7, np.uint8)),
        (np.full((4, 5, 3), -7.5), 3, np.full((4, 5, 3), -7.5, np.float32)),
    ],
)
def test_whole_numbers_become_bytes_and_scales_of_programs_stay(image, channels, expected):
    result = images.to_channels(image, channels)
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(result, expected)


def test_another_number_of_channels_is_refused():
    with pytest.raises(ValueError, match=r"\(4, 5, 3\), 4 channels are wanted"):
        images.to_channels(np.zeros((4, 5, 3)), 4)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize(("dtype", "channels"), [(np.uint16, 3), (np.int16, 3), (np.uint8, 5)])
def test_all_bands_of_a_tiff_are_kept(tmp_path, planar, dtype, channels):
    bands = np.random.default_rng(0).integers(0, 250, (7, 9, channels)).astype(dtype)
    stored = bands if planar == "contig" else np.moveaxis(bands, -1, 0)
    tifffile.imwrite(
        tmp_path / "a.tif", stored, photometric="minisblack", planarconfig=planar, metadata=None
    )
    image = images.read_image(tmp_path / "a.tif", channels)
    np.testing.assert_array_equal(image, images.to_uint8(bands))


def test_pages_of_a_tiff_are_bands_where_so_many_are_wanted(tmp_path):
    pages = noise(7, 9, 5)
    tifffile.imwrite(tmp_path / "a.tif", np.moveaxis(pages, -1, 0), photometric="minisblack")
    np.testing.assert_array_equal(images.read_image(tmp_path / "a.tif", 5), pages)
    for channels in (1, 3):  # the first page alone would be a part of the picture, unsaid
        with pytest.raises(ValueError, match=r"it holds 5 pages, .* IMAGE_CHANNEL_COUNT=5"):
            images.read_image(tmp_path / "a.tif", channels)


def test_sixteen_bits_of_a_colour_tiff_are_not_cut_to_eight(tmp_path):
    bands = np.random.default_rng(0).integers(0, 65536, (7, 9, 3)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", bands, photometric="rgb")
    np.testing.assert_array_equal(images.read_image(tmp_path / "a.tif"), images.to_uint8(bands))


def test_a_fourth_band_that_is_tagged_as_alpha_is_kept(shared_data):
    (path,) = (shared_data / "naip_4band_labelme").glob("*.tif")
    image = images.read_image(path, 4)
    assert image.shape == (846, 499, 4)
    np.testing.assert_array_equal(image, tifffile.imread(path))
    np.testing.assert_array_equal(images.read_image(path), image[..., :3])


def test_one_value_has_one_grey_in_every_kind_of_file(tmp_path):
    values = np.array([[0, 16, 400, 1000, 65535]], np.uint16)
    PIL.Image.fromarray(values).save(tmp_path / "a.png")
    PIL.Image.fromarray(values).save(tmp_path / "a.tif")
    header = b"P5 5 1 65535\n"
    (tmp_path / "a.pgm").write_bytes(header + values.astype(">u2").tobytes())
    for name in ("a.png", "a.tif", "a.pgm"):
        greys = images.read_image(tmp_path / name, 1)[..., 0]
        assert greys.tolist() == [[0, 21, 100, 127, 255]], name


def test_bytes_of_a_file_are_read_like_the_file(tmp_path):
    PIL.Image.fromarray(noise(6, 7)).save(tmp_path / "a.png")
    tifffile.imwrite(
        tmp_path / "a.tif", noise(6, 7, 5), photometric="minisblack", planarconfig="contig"
    )
    for name, channels in (("a.png", 3), ("a.tif", 5)):
        path = tmp_path / name
        expected = images.read_image(path, channels)
        np.testing.assert_array_equal(images.read_image(path.read_bytes(), channels), expected)
    with pytest.raises(ValueError, match="the image: cannot be read as an image"):
        images.read_image(b"nothing")


def test_placed_masks_keep_their_boxes_in_scale():
    mask = np.zeros((100, 100, 1), bool)
    mask[20:60, 30:80] = True
    placement = placements.place((100, 100), 200, 256)
    np.testing.assert_array_equal(
        masks.bounds(images.fit_masks(mask, placement)), [[68, 88, 148, 188]]
    )


def test_dark_colours_stay_dark_as_grey(tmp_path):
    PIL.Image.fromarray(np.ones((4, 5, 3), np.uint8)).save(tmp_path / "dark.png")
    assert (images.read_image(tmp_path / "dark.png", 1) == 1).all()


def test_floats_that_overshoot_are_cut_and_those_of_sensors_are_not():
    image = np.array([[0.0, 100.4, 255.6, 290.0]])
    np.testing.assert_array_equal(images.to_uint8(image), [[0, 100, 255, 255]])
    image[0, 0] = 65535
    np.testing.assert_array_equal(images.to_uint8(image)[0, 0], 255)
    assert images.to_uint8(image)[0, 3] < 100


def test_photographs_of_all_sizes_come_in_few_sizes_of_inputs():
    rng = np.random.default_rng(0)
    sizes = set()
    for height, width in rng.integers(200, 4000, (200, 2)):
        plain = placements.place((height, width), 800, 1333, mode="short_side")
        roomy = placements.in_few_sizes(plain)
        assert roomy.window == plain.window
        assert all(
            more >= least for more, least in zip(roomy.input_size, plain.input_size, strict=True)
        )
        if max(height, width) <= 2 * min(height, width):
            sizes.add(roomy.input_size)
    assert sizes <= {(896, side) for side in (896, 1024, 1280, 1536)} | {
        (side, 896) for side in (1024, 1280, 1536)
    } | {(768, 1536), (1536, 768)}


def test_an_image_lies_where_it_did_in_a_roomier_input():
    image = np.random.default_rng(0).integers(0, 256, (70, 100, 3), np.uint8)
    plain = placements.place(image.shape, 64, 128, mode="pad64")
    roomy = placements.in_few_sizes(plain)
    expected, found = images.fit(image, plain), images.fit(image, roomy)
    np.testing.assert_array_equal(found[: expected.shape[0], : expected.shape[1]], expected)
    assert not found[expected.shape[0] :].any()
