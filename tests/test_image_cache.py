from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mrcnn.config import Config
from mrcnn.data.dataset import Dataset
from mrcnn.data.image_cache import CachedImages
from mrcnn.training import fitting


class Counted(Dataset):
    """Six images of 0.19 MB, which count how often each is read."""

    def __init__(self):
        super().__init__()
        self.reads = np.zeros(6, int)
        self.add_class("squares", 1, "square")
        for number in range(6):
            self.add_image("squares", number, None)
        self.prepare()

    def load_image(self, image_id):
        self.reads[image_id] += 1
        return np.full((256, 256, 4), 10 * image_id, np.uint8)[..., :3]

    def load_mask(self, image_id):
        masks = np.zeros((256, 256, 1), bool)
        masks[20 * image_id : 90 + 20 * image_id, 30:80] = True
        return masks, np.ones(1, np.int32)


class SmallConfig(Config):
    NAME = "small"
    NUM_CLASSES = 2
    IMAGE_MIN_DIM = IMAGE_MAX_DIM = 128
    STEPS_PER_EPOCH = 6


def test_what_fits_is_read_once():
    dataset = Counted()
    cached = CachedImages(dataset, megabytes=0.4)  # two of them
    for _ in range(3):
        for image_id in range(6):
            assert (cached.load_image(image_id) == 10 * image_id).all()
    assert dataset.reads.tolist() == [1, 1, 3, 3, 3, 3]


def test_image_that_was_changed_is_whole_the_next_time():
    cached = CachedImages(Counted(), megabytes=1)
    for _ in range(3):
        image = cached.load_image(2)
        assert (image == 20).all()
        image[:] = 0


def test_threads_keep_no_more_than_fits():
    dataset = Counted()
    cached = CachedImages(dataset, megabytes=0.4)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(cached.load_image, [0, 0, 1, 1, 2, 2, 3, 3] * 5))
    assert len(cached._images) == 2


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_the_same_with_a_cache(workers):
    config = SmallConfig().replace(WORKERS=workers)
    plain, cached = (
        fitting.training_stream(Counted(), config.replace(CACHE_MB=megabytes), (), (), 0)
        for megabytes in (0, 2)
    )
    for first, second, _ in zip(plain, cached, range(6), strict=False):
        for name, array in first.items():
            np.testing.assert_array_equal(array, second[name])
    assert plain.dataset.reads.sum() > 6
    if workers == 0:  # two threads may ask for the same image at once
        assert cached.dataset.reads.tolist() == [1] * 6
