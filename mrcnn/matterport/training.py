"""The training model as programs with a loop of their own use it."""

from collections.abc import Iterable, Iterator
from typing import Any

import keras

from mrcnn.matterport import data
from mrcnn.training import distribution, trainer
from mrcnn.weights.named import NamedWeights

# What Keras 2 took about the workers of a generator; it has no effect here.
OF_WORKERS = ("max_queue_size", "workers", "use_multiprocessing")


class TrainingModel(NamedWeights, trainer.TrainingModel):
    """The training model, whose `fit` also takes Matterport's generators.

    A batch of `data_generator` or `DataGenerator` is turned into what this model is trained on; the
    RPN's targets in it are not needed.
    """

    def fit(self, x: Any = None, **options: Any) -> keras.callbacks.History:
        """Train; see `keras.Model.fit`.

        Args:
            x: A `tf.data.Dataset` of training inputs, or one of Matterport's generators; so is
                validation_data.
            options: Those about the workers of a generator have no effect.
        """
        for name in OF_WORKERS:
            options.pop(name, None)
        if _is_matterports(x):
            x = self._feed(x, None)
            options["shuffle"] = False  # Keras would warn that it cannot
        validation = options.get("validation_data")
        if _is_matterports(validation):
            options["validation_data"] = self._feed(validation, options.get("validation_steps"))
        return super().fit(x, **options)

    def fit_generator(self, generator: Any, **options: Any) -> keras.callbacks.History:
        """Train on a generator."""
        return self.fit(generator, **options)

    def _feed(self, generator: Any, count: int | None) -> Any:
        if isinstance(generator, keras.utils.PyDataset):
            generator = _endless(generator)
        # A map cannot be closed: validation leaves it in the middle and comes back to it.
        batches = map(lambda batch: data.to_training_batch(batch[0], self.config), generator)
        return distribution.Feed(batches, count).dataset()


def _endless(batches: keras.utils.PyDataset) -> Iterable[Any]:
    while True:
        yield from (batches[index] for index in range(len(batches)))
        batches.on_epoch_end()


def _is_matterports(batches: Any) -> bool:
    is_feed = isinstance(batches, distribution.BATCHES)
    return isinstance(batches, Iterator | keras.utils.PyDataset) and not is_feed
