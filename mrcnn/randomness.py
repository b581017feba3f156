"""Reproducible randomness that leaves the program's random state untouched."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import keras
import numpy as np


@contextmanager
def repeatable(seed: int) -> Iterator[None]:
    """Draw initial weights from a seed, then restore the program's random states."""
    states = random.getstate(), np.random.get_state()
    keras.utils.set_random_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
