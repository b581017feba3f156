"""The training model as programs with a loop of their own use it."""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np

from mrcnn.matterport import data
from mrcnn.training import distribution
from mrcnn.training.training_model import TrainingModel
from mrcnn.weights.named import NamedWeights

# What Keras 2 took about the workers of a generator; it has no effect here.
OF_WORKERS = ("max_queue_size", "workers", "use_multiprocessing")


# What Keras 2 took by place, after the generator.
BY_PLACE = {
    "fit": ("steps_per_epoch", "epochs", "verbose", "callbacks", "validation_data")
    + ("validation_steps",),
    "evaluate": ("steps",),
    "predict": ("steps",),
}
STEPS = ("steps", "steps_per_epoch", "validation_steps")


class GeneratorTrainingModel(NamedWeights, TrainingModel):
    """The training model, whose `fit`, `evaluate` and `predict` also take Matterport's generators.

    A batch of `data_generator` or `DataGenerator` is turned into what this model is trained on; the
    RPN's targets in it are not needed.
    """

    def fit(self, x: Any = None, **options: Any) -> keras.callbacks.History:
        """Train; see `keras.Model.fit`.

        Args:
            x: A `tf.data.Dataset` of training inputs, or one of Matterport's generators; so is
                validation_data.
            options: Those about the workers of a generator have no effect. Numbers of steps are
                rounded up.
        """
        options = _of_keras_3(options)
        if _is_matterports(x):
            x = self._feed(x, None)
            options["shuffle"] = False  # Keras would warn that it cannot
        validation = options.get("validation_data")
        if _is_matterports(validation):
            options["validation_data"] = self._feed(validation, options.get("validation_steps"))
        return super().fit(x, **options)

    def evaluate(self, x: Any = None, y: Any = None, **options: Any) -> Any:
        """Return the losses, in the order of `metrics_names`; see `fit` and `keras.Model.evaluate`.

        Args:
            x: As `fit` takes it; a generator needs steps, unless it is a `DataGenerator`.
            y: As Keras takes it.
            options: As `fit` takes them.
        """
        options = _of_keras_3(options)
        x, y = self._fed(x, y, options)
        return super().evaluate(x, y, **options)

    def predict(self, x: Any, **options: Any) -> Any:
        """Return the outputs of the training graph; see `evaluate` and `keras.Model.predict`."""
        options = _of_keras_3(options)
        return super().predict(self._fed(x, None, options)[0], **options)

    def train_on_batch(self, x: Any, y: Any = None, **options: Any) -> Any:
        """Train on one batch, of `data_generator` or as dict; see `keras.Model.train_on_batch`."""
        return super().train_on_batch(*self._one(x, y), **options)

    def test_on_batch(self, x: Any, y: Any = None, **options: Any) -> Any:
        """Return the losses on one batch; see `train_on_batch`."""
        return super().test_on_batch(*self._one(x, y), **options)

    def fit_generator(self, generator: Any, *places: Any, **options: Any) -> Any:
        """Train on a generator, with Keras 2's arguments."""
        return self.fit(generator, **_named("fit", places), **options)

    def evaluate_generator(self, generator: Any, *places: Any, **options: Any) -> Any:
        """Return the losses on batches of a generator, with Keras 2's arguments."""
        return self.evaluate(generator, **{"verbose": 0, **_named("evaluate", places), **options})

    def predict_generator(self, generator: Any, *places: Any, **options: Any) -> Any:
        """Return the outputs on batches of a generator, with Keras 2's arguments."""
        return self.predict(generator, **{"verbose": 0, **_named("predict", places), **options})

    def _one(self, x: Any, y: Any) -> tuple[Any, Any]:
        is_matterports = isinstance(x, list | tuple)
        return (data.to_training_batch(x, self.config), None) if is_matterports else (x, y)

    def _fed(self, x: Any, y: Any, options: dict[str, Any]) -> tuple[Any, Any]:
        if not _is_matterports(x):
            return x, y
        if options.get("steps") is None:
            if not isinstance(x, keras.utils.PyDataset):
                raise ValueError("a generator has no end: pass steps, the number of its batches")
            options["steps"] = len(x)
        return self._feed(x, options["steps"]), None

    def _feed(self, generator: Any, count: int | None) -> Any:
        if isinstance(generator, keras.utils.PyDataset):
            generator = _endless(generator)
        # A map cannot be closed: validation leaves it in the middle and comes back to it.
        batches = map(lambda batch: data.to_training_batch(batch[0], self.config), generator)
        return distribution.Feed(batches, count).dataset()


def _of_keras_3(options: dict[str, Any]) -> dict[str, Any]:
    """Return options without those of Keras 2's workers, and steps as whole numbers."""
    kept = {name: value for name, value in options.items() if name not in OF_WORKERS}
    for name in STEPS:
        if isinstance(kept.get(name), float | np.number):
            kept[name] = math.ceil(kept[name])
    return kept


def _named(method: str, places: tuple[Any, ...]) -> dict[str, Any]:
    """Return arguments that were given by place, by their names."""
    names = BY_PLACE[method]
    if len(places) > len(names):
        raise TypeError(f"{method}_generator: only {', '.join(names)} may be given by place")
    return dict(zip(names, places, strict=False))


def _endless(batches: keras.utils.PyDataset) -> Iterable[Any]:
    while True:
        yield from (batches[index] for index in range(len(batches)))
        batches.on_epoch_end()


def _is_matterports(batches: Any) -> bool:
    is_feed = isinstance(batches, distribution.BATCHES)
    return isinstance(batches, Iterator | keras.utils.PyDataset) and not is_feed
