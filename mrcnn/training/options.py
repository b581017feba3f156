"""What a call of `train` is asked for."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import keras

from mrcnn import setting_values
from mrcnn.data.augment import Augmentation


class Options(NamedTuple):
    """The options of one call of `train`.

    Attributes:
        learning_rate: the rate after warm-up and before the drops.
        epochs: number of the last epoch, counted from the beginning of the run; None for as many
            as there is time for.
        layers: heads, 3+, 4+, 5+, all, or a regular expression of layer names.
        augmentations: see `mrcnn.data.augment`; None for those that the settings name.
        no_augmentation_sources: sources whose images are not augmented.
        callbacks: called in addition to the built-in ones.
        minutes: time that the run may take, earlier trainings of it included; the schedule is
            laid out to end within it, see `mrcnn.training.budget`. None for any.
        keep: number of epochs whose checkpoints are kept; None for all.
        files: written to the folder of the run when it begins, as JSON: name -> content.
        patience: number of epochs without better scores after which training stops; None: never.
    """

    learning_rate: float
    epochs: int | None
    layers: str = "all"
    augmentations: Sequence[Augmentation] | None = None
    no_augmentation_sources: Sequence[str] = ()
    callbacks: Sequence[keras.callbacks.Callback] = ()
    minutes: float | None = None
    keep: int | None = None
    patience: int | None = None
    files: Mapping[str, Any] = {}

    def checked(self) -> Self:
        """Return the options as plain numbers.

        Raises:
            ValueError: If one is out of its range, or nothing says when the training ends.
        """
        if self.epochs is None and self.minutes is None:
            raise ValueError("nothing says when the training ends: give epochs or minutes")
        wholes: dict[str, Any] = {
            name: setting_values.positive(name, value, whole_number=True)
            for name in ("keep", "patience")
            if (value := getattr(self, name)) is not None
        }
        return self._replace(
            learning_rate=setting_values.rate("learning_rate", self.learning_rate),
            epochs=None if self.epochs is None else setting_values.whole("epochs", self.epochs),
            minutes=None
            if self.minutes is None
            else setting_values.positive("minutes", self.minutes),
            **wholes,
        )
