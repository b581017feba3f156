"""Settings that a network was built with: a program may change them when it is too late."""

import copy
import logging
from typing import Any

import numpy as np

from mrcnn.config import Config
from mrcnn.setting_marks import Mark

logger = logging.getLogger("mrcnn")

# What the training model is built for; detection takes images as these settings are now.
OF_INPUT = (*Config.marked(Mark.INPUT), "IMAGE_SHAPE")


class BuiltSettings:
    """The settings a network was built with.

    Args:
        config: Theirs, of which copies are kept.
    """

    def __init__(self, config: Config) -> None:
        names = (*Config.marked(Mark.GRAPH), *OF_INPUT, "GPU_COUNT")
        self.values = {name: _copied(getattr(config, name)) for name in names}
        self.told: dict[str, str] = {}

    def in_force(self, config: Config, *, training: bool) -> Config:
        """Return the settings that act: those of now, but what is built in as it was built.

        What was changed in vain is warned about, once a change.
        """
        changed = self._changed(config, training)
        self._warn(config, changed)
        return self._with_built(config, changed) if changed else config

    def _changed(self, config: Config, training: bool) -> list[str]:
        names = list(Config.marked(Mark.GRAPH))
        if training:
            is_same_input = np.array_equal(config.IMAGE_SHAPE, self.values["IMAGE_SHAPE"])
            names += ["GPU_COUNT", *(() if is_same_input else OF_INPUT)]
        return [name for name in names if not _are_equal(getattr(config, name), self.values[name])]

    def _warn(self, config: Config, changed: list[str]) -> None:
        new = {name: repr(getattr(config, name)) for name in changed}
        lines = [
            f"{name} = {value} (built with {self.values[name]!r})"
            for name, value in new.items()
            if self.told.get(name) != value
        ]
        self.told = new
        if lines:
            logger.warning(
                "changed after the network was built, so without effect: %s; make a new MaskRCNN "
                "with these settings",
                ", ".join(lines),
            )

    def _with_built(self, config: Config, changed: list[str]) -> Config:
        acting = copy.copy(config)
        for name in changed:
            setattr(acting, name, self.values[name])
        if len(acting.CLASS_NAMES) != acting.NUM_CLASSES:
            acting.CLASS_NAMES = ()  # those of the classes that it was not built for
        return acting


class ActingSettings:
    """Mixed into `MaskRCNN`, whose settings programs change at any time."""

    config: Config
    inference_model: Any
    predictor: Any
    # Of the class, for subclasses that build everything themselves.
    _built: BuiltSettings | None = None

    def _settings(self, *, training: bool = False) -> Config:
        """Return the settings in force, and let all parts know them."""
        if self._built is None:
            return self.config
        config = self._built.in_force(self.config, training=training)
        self.inference_model.config = self.predictor.config = config
        if training or "trainer" in self.__dict__:
            self.trainer.model.config = config  # type: ignore[attr-defined]
        return config


def _copied(value: Any) -> Any:
    return value if callable(value) else copy.deepcopy(value)


def _are_equal(one: Any, other: Any) -> bool:
    if callable(one) or callable(other):  # a function among class attributes is a method
        return getattr(one, "__func__", one) == getattr(other, "__func__", other)
    return np.array_equal(np.asarray(one, object), np.asarray(other, object))
