"""In-memory cache of a dataset's images."""

import threading
from typing import Any

import numpy as np

from mrcnn.data.dataset import Dataset


class CachedImages:
    """A dataset that caches the first images read; otherwise a proxy of the original dataset.

    Cached images are never evicted: training iterates over all images before repeating one.
    """

    def __init__(self, dataset: Dataset, megabytes: float) -> None:
        self._dataset = dataset
        self._room = megabytes * 2**20
        self._images: dict[int, np.ndarray] = {}
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        if name == "_dataset":  # in a copy that is not initialized yet
            raise AttributeError(name)
        return getattr(self._dataset, name)

    def load_image(self, image_id: int) -> np.ndarray:
        """Return an image as the dataset does; the caller may modify it."""
        if image_id in self._images:
            return self._images[image_id].copy()
        image = np.asarray(self._dataset.load_image(image_id))
        with self._lock:
            if image_id not in self._images and image.nbytes <= self._room:
                self._images[image_id] = image.copy()
                self._room -= image.nbytes
        return image
