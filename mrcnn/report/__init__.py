"""A network's results on a dataset as one self-contained page."""

from mrcnn.report.writing import write

__all__ = ["write"]
