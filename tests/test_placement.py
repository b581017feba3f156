import numpy as np
import pytest

from mrcnn.geometry import images
from mrcnn.geometry import placement as placements

NARROW = [(10000, 1), (1, 10000), (1, 1), (1, 300), (20000, 64)]


@pytest.mark.parametrize("shape", NARROW)
@pytest.mark.parametrize(
    ("mode", "sides"),
    [
        ("square", (512, 1024)),
        ("square", (64, None)),
        ("square", (None, 512)),
        ("pad64", (512, 1024)),
        ("pad64", (832, 1344)),
        ("pad64", (64, None)),
        ("short_side", (800, 1333)),
    ],
)
def test_no_mode_enlarges_without_limit(shape, mode, sides):
    placement = placements.place(shape, *sides, mode=mode)
    most = max(4 * max(side or 0 for side in sides), max(shape))
    assert max(placement.input_size) < most + 64
    assert min(placement.resized) >= 1
    fitted = images.fit(np.zeros((*shape, 3), np.uint8), placement)
    assert fitted.shape[:2] == placement.input_size


def test_what_is_too_narrow_for_a_crop_is_refused():
    with pytest.raises(ValueError, match="10000 x 1 pixels is too narrow for a crop of 512 x 512"):
        placements.place((10000, 1), 512, 1024, mode="crop")
    placement = placements.place((4000, 100), 512, 1024, mode="crop")
    assert placement.input_size == (512, 512)


def test_narrow_images_are_refused_by_the_mode_none():
    with pytest.raises(ValueError, match="multiples of 64 in resize mode none, got 10000 x 1"):
        placements.place((10000, 1), 512, 1024, mode="none")


def test_ordinary_images_are_enlarged_by_their_shorter_side():
    for shape in ((300, 1200), (450, 640)):
        assert min(placements.place(shape, 512, 1024, mode="pad64").resized) == 512


@pytest.mark.parametrize("mode", ["pad64", "crop"])
def test_the_least_scale_holds_for_large_images(mode):
    """Of the bundled network: its images of any size are enlarged twice in detection."""
    found = placements.place((520, 696), 256, 256, min_scale=2, mode=mode)
    assert (found.scale, found.resized) == (2, (1040, 1392))
