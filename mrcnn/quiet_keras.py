"""Imports Keras and its backend without start-up messages; `mrcnn.model` imports it first."""

from mrcnn import greetings

with greetings.hidden():
    import keras

__all__ = ["keras"]
