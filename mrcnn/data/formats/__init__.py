"""Readers of annotation formats, one file each; `load_dataset` detects the format."""

from mrcnn.data.formats.registry import FORMATS, Source, load, load_dataset, load_pair

__all__ = ["FORMATS", "Source", "load", "load_dataset", "load_pair"]
