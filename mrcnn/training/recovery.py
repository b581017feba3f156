"""What a training that diverges goes back to, and how much lower its learning rate is then."""

from pathlib import Path

import keras
import numpy as np

from mrcnn.weights import hdf5

# What the learning rate is multiplied by after the first, second and third divergence. The first
# may be an accident, which the old rate would survive as well; after that the rate is to blame.
FACTORS = (1 / 2, 1 / 8, 1 / 64)


class Start:
    """The weights that a training begins with, kept in memory until it has a checkpoint.

    Args:
        model: Whose weights they are.
        checkpoint: The file that has them, if there is one.
        epoch: Number of finished epochs.
    """

    def __init__(self, model: keras.Model, checkpoint: Path | None, epoch: int) -> None:
        self.model, self.checkpoint, self.epoch = model, checkpoint, epoch
        self._values: list[np.ndarray] = []
        if checkpoint is None:
            self._values = [np.array(keras.ops.convert_to_numpy(each)) for each in model.weights]

    def restore(self, latest: Path | None) -> tuple[Path | None, int]:
        """Give the model the weights of the latest checkpoint, or else those of the start.

        Args:
            latest: The checkpoint that this training wrote last.

        Returns:
            The checkpoint, which also has the optimizer's state (None for weights from memory), and
            the number of finished epochs.
        """
        checkpoint = latest or self.checkpoint
        if checkpoint is None:
            for weight, value in zip(self.model.weights, self._values, strict=True):
                weight.assign(value)
            return None, self.epoch
        hdf5.load(checkpoint, self.model)
        return checkpoint, int(hdf5.read_settings(checkpoint).get("epoch", 0))
