"""Readers of annotation formats, one file each; `load_dataset` reads any of them."""

from mrcnn.data.formats.registry import FORMATS, load_dataset

__all__ = ["FORMATS", "load_dataset"]
