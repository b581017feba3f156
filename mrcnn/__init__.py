"""Mask R-CNN (He et al. 2017) on Keras 3.

Shape letters, used in every docstring:
    B images, H x W network input, G padded objects, N anchors, P proposals, R sampled RoIs,
    D detections, K classes with background 0, A anchors per cell, C channels.

Boxes are (y1, x1, y2, x2), float32, y2 and x2 exclusive. Frames: image (original pixels), input
(pixels after resize and pad), normalized (see `mrcnn.geometry.boxes`).
"""

from typing import Any

from mrcnn import backends, greetings

# Before TensorFlow is imported: show its errors, hide its start-up notes.
greetings.set_level()

# Before Keras tries to load a backend that this network does not support.
backends.check_environment()

__version__ = "0.1.0"


def train(dataset: Any, **options: Any) -> Any:
    """Train on annotated images as `mrcnn train DATASET` does; see `mrcnn.cli.calls.train`."""
    from mrcnn.cli import calls

    return calls.train(dataset, **options)
