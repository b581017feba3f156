"""Images of a dataset that stay in memory once they are read."""

import threading
from typing import Any

import numpy as np

from mrcnn.data.dataset import Dataset


class CachedImages:
    """A dataset whose first images stay in memory; in all else it is the one that it stands for.

    What is in memory is never given up for another image: a training goes through all of them
    before it sees one again.
    """

    def __init__(self, dataset: Dataset, megabytes: float) -> None:
        self._dataset = dataset
        self._room = megabytes * 2**20
        self._images: dict[int, np.ndarray] = {}
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        if name == "_dataset":  # of a copy that is not filled yet
            raise AttributeError(name)
        return getattr(self._dataset, name)

    def load_image(self, image_id: int) -> np.ndarray:
        """Return an image as the dataset gives it; the caller may change it."""
        if image_id in self._images:
            return self._images[image_id].copy()
        image = np.asarray(self._dataset.load_image(image_id))
        with self._lock:
            if image_id not in self._images and image.nbytes <= self._room:
                self._images[image_id] = image.copy()
                self._room -= image.nbytes
        return image
