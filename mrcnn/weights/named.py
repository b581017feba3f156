"""Keras models whose `save_weights` and `load_weights` also support Matterport's files."""

import itertools
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mrcnn.config import Config
from mrcnn.weights import hdf5, loading


class NamedWeights:
    """Mixin for `keras.Model`: `.h5` weights files are read and written by layer name.

    Keras 3 refuses to write weights under names that do not end in `.weights.h5`, and reads old
    files by layer position. Files of that name are written by layer name, too (Keras' own
    ModelCheckpoint requires it), so that the inference network can read those of a training.

    Attributes:
        config: The settings of the network, which are stored in its files. A model that Keras
            itself loaded from a file has none.
    """

    config: Config

    def save_weights(self, filepath: Any, overwrite: bool = True, **options: Any) -> None:
        """Write the weights; `.h5` and `.hdf5` in Matterport's format.

        Raises:
            FileExistsError: If the file exists and overwrite is False.
        """
        path = Path(filepath)
        if not _is_matterports(path):
            super().save_weights(filepath, overwrite=overwrite, **options)  # type: ignore[misc]
            return
        if path.exists() and not overwrite:
            raise FileExistsError(f"{path} exists; pass overwrite=True to replace it")
        config = getattr(self, "config", None)
        hdf5.save(path, self, {"config": config.to_dict()} if config else {})

    def load_weights(
        self, filepath: Any, by_name: bool = True, **options: Any
    ) -> hdf5.LoadReport | None:
        """Read weights, by layer name unless the file is in Keras' own format; see `hdf5.load`."""
        if not _is_matterports(Path(filepath)) or hdf5.is_of_keras(Path(filepath)):
            super().load_weights(filepath, **options)  # type: ignore[misc]
            return None
        del by_name
        if not hasattr(self, "config"):
            return hdf5.load(Path(filepath), self)
        return loading.load(filepath, self, config=self.config)


@keras.saving.register_keras_serializable("mrcnn")
class InferenceModel(NamedWeights, keras.Model):
    """The inference graph for callers: any `keras.Model` method, and `.h5` weights files."""

    def predict_generator(self, generator: Iterable[Any], steps: Any = None, **options: Any) -> Any:
        """Return the outputs on batches of a generator, each [images, metas, anchors] or a tuple.

        Args:
            generator: Yields batches. steps: Number of batches, rounded up; None for all.
            options: Keras 2's; ignored.
        """
        del options
        batches = itertools.islice(generator, None if steps is None else math.ceil(steps))
        inputs = (batch[0] if isinstance(batch, tuple) else batch for batch in batches)
        found = [self.predict_on_batch(list(each)) for each in inputs]
        return [np.concatenate(arrays) for arrays in zip(*found, strict=True)]


# In `.h5` files, Keras stores a model's class name without its package.
keras.saving.get_custom_objects()["InferenceModel"] = InferenceModel


def _is_matterports(path: Path) -> bool:
    return path.suffix in (".h5", ".hdf5")
