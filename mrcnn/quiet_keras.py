"""Keras and its backend, imported without greetings: the first import of `mrcnn.model`."""

from mrcnn import greetings

with greetings.hidden():
    import keras

__all__ = ["keras"]
