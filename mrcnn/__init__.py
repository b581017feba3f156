"""Mask R-CNN (He et al. 2017) on Keras 3.

Letters of shapes, used in every docstring:
    B images, H x W network input, G padded objects, N anchors, P proposals, R sampled RoIs,
    D detections, K classes with background 0, A anchors a cell, C channels.

Boxes are (y1, x1, y2, x2), float32, y2 and x2 exclusive. Frames: image (original pixels), input
(pixels after resize and pad), normalized (see `mrcnn.geometry.boxes`).
"""

import os

from mrcnn import backends

# TensorFlow tells of missing GPUs, and of costs that it could not estimate, in lines of a
# kilobyte that read like faults. What goes wrong is raised all the same. Set it to 0 to see them.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# Before Keras looks for a backend that this network does not run on.
backends.check_environment()

__version__ = "0.1.0"
