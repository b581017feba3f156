"""Marks of settings: what each setting describes, given in its declaration in `Config`."""

import enum
import functools
from typing import get_type_hints


class Mark(enum.Flag):
    """What a setting describes.

    NETWORK: the meaning of the weights and their input; it stays with the weights when they are
        used on other data. SHAPES: likewise, and the shapes of weights depend on it.
    GRAPH: it is read when the graphs are built, and fixed from then on.
    INPUT: the input size of the training graph.
    DATA: classes, keypoints and objects of the data.
    TRAINING: how the network is trained. DETECTION: which detections are returned.
    """

    NETWORK = enum.auto()
    SHAPES = enum.auto()
    GRAPH = enum.auto()
    INPUT = enum.auto()
    DATA = enum.auto()
    TRAINING = enum.auto()
    DETECTION = enum.auto()


@functools.cache  # settings are compared with those that were built in at every call
def marks(declared: type) -> dict[str, Mark]:
    """Return the marks of the settings that a class declares, by name."""
    hints = get_type_hints(declared, include_extras=True)
    return {
        name: hint.__metadata__[0]
        for name, hint in hints.items()
        if isinstance(getattr(hint, "__metadata__", (None,))[0], Mark)
    }
