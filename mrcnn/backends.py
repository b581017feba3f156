"""The Keras backends that the network supports; a process uses one of them.

Keras reads the environment variable KERAS_BACKEND, or its own settings file, when it is imported.
"""

import os

SUPPORTED = ("tensorflow", "jax")


def check(name: str) -> str:
    """Return the name of a supported backend unchanged.

    Raises:
        ValueError: For any other name.
    """
    if name not in SUPPORTED:
        raise ValueError(
            f"the Keras backend is {name!r}, but this network runs on {' and '.join(SUPPORTED)} "
            f'only: set KERAS_BACKEND (or "backend" in ~/.keras/keras.json) to one of them before '
            "keras is imported"
        )
    return name


def check_environment() -> None:
    """Raise ValueError for a KERAS_BACKEND that cannot work, before Keras looks for it."""
    name = os.environ.get("KERAS_BACKEND")
    if name:
        check(name)
