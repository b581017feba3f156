import numpy as np
import pytest

from mrcnn.geometry import images, resizing
from mrcnn.geometry import placement as placements


def picture(height, width, channels=3, dtype=np.uint8, seed=0):
    """Noise of all levels, with a flat bright part and a flat dark one, where truncation shows."""
    rng = np.random.default_rng(seed)
    image = rng.integers(3, 256, (height, width, channels)).astype(dtype)
    image[: height // 3] = 255
    image[: height // 3, : width // 2] = 3
    return image


def largest_difference(first, second):
    assert first.dtype == second.dtype
    assert first.shape == second.shape
    return np.abs(first.astype(np.float64) - second.astype(np.float64)).max()


@pytest.mark.parametrize("edge_padding", [False, True])
@pytest.mark.parametrize("channels", [1, 3, 4, 5])
@pytest.mark.parametrize("seed", range(25))
def test_quick_picture_is_the_exact_one_to_a_grey_level(seed, channels, edge_padding):
    """Any size becomes any other, the borders as well."""
    height, width, *shape = np.random.default_rng(seed).integers(1, 70, 4).tolist()
    image = picture(height, width, channels, seed=seed)
    exact = resizing.resize(image, tuple(shape), edge_padding=edge_padding)
    quick = resizing.resize_quickly(image, tuple(shape), edge_padding=edge_padding)
    assert largest_difference(exact, quick) <= 1


@pytest.mark.parametrize("shape", [(480, 640), (427, 640), (333, 500), (1100, 1300)])
def test_hardly_a_pixel_of_a_quick_picture_differs(shape):
    """The truncation is the same: no grey level is gained or lost on the whole."""
    placement = placements.place(shape, 800, 1024)
    exact = images.fit(picture(*shape), placement)
    quick = images.fit_quickly(picture(*shape), placement)
    assert largest_difference(exact, quick) <= 1
    assert (exact != quick).mean() < 0.02


@pytest.mark.parametrize("level", [0, 1, 127, 254, 255])
@pytest.mark.parametrize("edge_padding", [False, True])
def test_flat_picture_stays_flat(level, edge_padding):
    image = np.full((37, 53, 3), level, np.uint8)
    resized = resizing.resize_quickly(image, (71, 90), edge_padding=edge_padding)
    assert (resized == level).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint16])
def test_quick_pictures_of_other_types(dtype):
    image = picture(40, 31, dtype=dtype) * dtype(2)
    exact = resizing.resize(image, (64, 90))
    assert largest_difference(exact, resizing.resize_quickly(image, (64, 90))) <= (
        1 if dtype == np.uint16 else 1e-3
    )


def test_what_shrinks_much_is_exact():
    image = picture(200, 300)
    np.testing.assert_array_equal(
        resizing.resize_quickly(image, (40, 60)), resizing.resize(image, (40, 60))
    )


@pytest.mark.parametrize("mirror", [np.fliplr, np.flipud, np.rot90])
@pytest.mark.parametrize("shape", [(64, 90), (20, 17)])
def test_views_are_resized_as_their_copies(mirror, shape):
    view = mirror(picture(41, 32))
    for resize in (resizing.resize, resizing.resize_quickly):
        np.testing.assert_array_equal(resize(view, shape), resize(view.copy(), shape))


def test_part_of_a_resized_picture_is_cut_out_of_it():
    image = picture(41, 32)
    whole = resizing.resize(image, (90, 70))
    part = resizing.resize(image, (90, 70), (13, 20, 50, 31))
    # The border of the part is no border of the picture.
    np.testing.assert_array_equal(part, whole[13:63, 20:51])
