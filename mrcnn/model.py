"""The public API: `MaskRCNN` with Matterport's names, NumPy in and NumPy out."""

from mrcnn import quiet_keras  # noqa: F401 (before anything else imports Keras)

# isort: split
import keras
import numpy as np

from mrcnn import matterport, utils
from mrcnn.matterport import *  # noqa: F403 (programs import these names from this module)
from mrcnn.matterport.mask_rcnn import MaskRCNN
from mrcnn.training.callbacks import MeanAveragePrecisionCallback

# Programs written for Matterport's also import these from this module.
K, KL, KM, KE = keras.backend, keras.layers, keras.models, keras.layers
__all__ = [*matterport.__all__, "MaskRCNN", "MeanAveragePrecisionCallback", "np", "utils"]
if K.backend() == "tensorflow":
    import tensorflow as tf

    __all__ += ["tf"]
