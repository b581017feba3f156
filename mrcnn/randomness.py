"""Randomness that repeats, without touching that of the program."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import keras
import numpy as np


@contextmanager
def repeatable(seed: int) -> Iterator[None]:
    """Draw initial weights from a seed, and leave the program's own random states as they were."""
    states = random.getstate(), np.random.get_state()
    keras.utils.set_random_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
