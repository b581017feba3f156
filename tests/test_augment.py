import sys

import numpy as np
import pytest

from mrcnn.data import augment
from mrcnn.geometry import masks


def scene(height=24, width=36):
    """An image that shows its own masks: mask i where channel i is bright."""
    mask = np.zeros((height, width, 2), bool)
    mask[2:10, 3:20, 0] = True
    mask[6:22, 12:30, 1] = True
    return np.concatenate([mask * np.uint8(200), np.zeros((height, width, 1), np.uint8)], 2), mask


def seeds(count=20):
    return [np.random.default_rng(seed) for seed in range(count)]


@pytest.mark.parametrize(
    "augmentation", [augment.flip_left_right, augment.flip_up_down, augment.rotate_quarter]
)
def test_image_and_masks_move_alike(augmentation):
    image, mask = scene()
    changed = 0
    for rng in seeds():
        moved, moved_mask = augmentation(image, mask, rng)
        np.testing.assert_array_equal(moved[..., :2] > 100, moved_mask)
        changed += moved.shape != image.shape or not (moved == image).all()
    assert 3 < changed < 20


def test_boxes_of_flipped_masks_are_flipped_boxes():
    image, mask = scene()
    rng = np.random.default_rng(0)
    flipped = next(
        moved
        for _, moved in (augment.flip_left_right(image, mask, rng) for _ in range(50))
        if not (moved == mask).all()
    )
    y1, x1, y2, x2 = masks.bounds(mask).T
    np.testing.assert_array_equal(masks.bounds(flipped).T, [y1, 36 - x2, y2, 36 - x1])


@pytest.mark.parametrize(
    "augmentation", [augment.jitter_brightness_contrast, augment.jitter_colour]
)
def test_jitter_changes_colours_and_no_masks(augmentation):
    image, mask = scene()
    before = image.copy()
    for rng in seeds(5):
        changed, same = augmentation(image, mask, rng)
        assert changed.dtype == np.uint8
        assert changed.shape == image.shape
        assert (changed != image).any()
        np.testing.assert_array_equal(same, mask)
    np.testing.assert_array_equal(image, before)


def test_brightness_saturates_instead_of_wrapping():
    image = np.array([[[0, 255, 128]]], np.uint8)
    for rng in seeds():
        dark, bright, grey = augment.jitter_brightness_contrast(image, None, rng)[0][0, 0]
        assert dark <= grey <= bright


def test_what_is_no_augmenter_is_refused():
    with pytest.raises(TypeError, match="got int"):
        augment.from_imgaug(3)


def test_missing_imgaug_names_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "imgaug", None)
    with pytest.raises(ImportError, match=r'pip install "mask-rcnn-keras\[imgaug\]"'):
        augment.import_imgaug()


class Shift:
    """An augmenter with imgaug's methods: rolls everything right by a seeded number of pixels."""

    pixels = 0

    def to_deterministic(self):
        return Shift()

    def seed_(self, seed, deterministic_too):
        assert deterministic_too
        self.pixels = 1 + seed % 5

    def augment_image(self, image):
        return np.roll(image, self.pixels, axis=1)

    def augment(self, image, segmentation_maps):
        return self.augment_image(image), np.roll(segmentation_maps, self.pixels, axis=2)


def test_overlapping_masks_survive_an_augmenter():
    image, mask = scene()
    moved, moved_mask = augment.from_imgaug(Shift())(image, mask, np.random.default_rng(0))
    assert (moved != image).any()
    np.testing.assert_array_equal(moved[..., :2] > 100, moved_mask)


def test_augmenter_takes_an_image_without_objects():
    image, mask = scene()
    _, moved = augment.from_imgaug(Shift())(image, mask[..., :0], np.random.default_rng(0))
    assert moved.shape == (24, 36, 0)


@pytest.fixture
def imgaug():
    try:
        return augment.import_imgaug()
    except ImportError as error:
        pytest.skip(str(error))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["Fliplr", "Flipud", "Affine", "Rot90", "CropAndPad", "Resize"])
def test_imgaug_moves_image_and_masks_alike(imgaug, name):
    iaa = imgaug.augmenters
    augmenter = {
        "Fliplr": lambda: iaa.Fliplr(1.0),
        "Flipud": lambda: iaa.Sequential([iaa.Flipud(0.5), iaa.Multiply((0.9, 1.1))]),
        "Affine": lambda: iaa.Affine(rotate=(-30, 30), translate_px=(-4, 4), order=0),
        "Rot90": lambda: iaa.Rot90((1, 3)),
        "CropAndPad": lambda: iaa.CropAndPad(px=(-3, 3), keep_size=False),
        "Resize": lambda: iaa.Resize({"height": 48, "width": 72}, interpolation="nearest"),
    }[name]()
    image, mask = scene()
    for rng in seeds(4):
        moved, moved_mask = augment.from_imgaug(augmenter)(image, mask, rng)
        assert moved_mask.shape == (*moved.shape[:2], 2)
        agreement = ((moved[..., :2] > 100) == moved_mask).mean()
        assert agreement > 0.98


@pytest.mark.filterwarnings("ignore")
def test_imgaug_is_repeatable_from_the_seed(imgaug):
    augmenter = imgaug.augmenters.Affine(rotate=(-90, 90))
    results = [
        augment.from_imgaug(augmenter)(*scene(), np.random.default_rng(seed)) for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])
    assert (results[0][0] != results[2][0]).any()


@pytest.mark.filterwarnings("ignore")
def test_imgaug_leaves_masks_to_geometry(imgaug):
    image, mask = scene()
    blurred, same = augment.from_imgaug(imgaug.augmenters.GaussianBlur(2.0))(
        image, mask, np.random.default_rng(0)
    )
    assert (blurred != image).any()
    np.testing.assert_array_equal(same, mask)
