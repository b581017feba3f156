"""A network and a dataset small enough to train within seconds."""

import numpy as np

from mrcnn.config import Config
from mrcnn.data.dataset import Dataset
from mrcnn.network.network import Network
from mrcnn.weights import hdf5


class SmallConfig(Config):
    NAME = "small"
    NUM_CLASSES = 3
    CLASS_NAMES = ("BG", "dark", "bright")
    BACKBONE = "resnet18"
    BACKBONE_WIDTH = 8
    TOP_DOWN_PYRAMID_SIZE = 16
    RPN_CONV_SIZE = 16
    RPN_ANCHOR_SCALES = (8, 16, 32, 48, 64)
    FPN_CLASSIF_FC_LAYERS_SIZE = 16
    MASK_CONV_SIZE = 8
    IMAGE_MIN_DIM = IMAGE_MAX_DIM = 64
    POST_NMS_ROIS_TRAINING = 40
    POST_NMS_ROIS_INFERENCE = 20
    TRAIN_ROIS_PER_IMAGE = 12
    MAX_GT_INSTANCES = 4
    MINI_MASK_SHAPE = (14, 14)
    DETECTION_MAX_INSTANCES = 8
    DETECTION_MIN_CONFIDENCE = 0
    IMAGES_PER_GPU = 2
    STEPS_PER_EPOCH = 2
    VALIDATION_STEPS = 1
    WORKERS = 0


class Rectangles(Dataset):
    """Image i is 56 x 60 noise with i % 2 + 1 rectangles, dark ones of class 1 and bright of 2.

    The images in `bad` cannot be loaded.
    """

    def __init__(self, count: int = 6, bad: tuple = (), *, has_objects: bool = True) -> None:
        super().__init__()
        self.bad = bad
        self.has_objects = has_objects
        self.add_class("rectangles", 1, "dark")
        self.add_class("rectangles", 2, "bright")
        for number in range(count):
            self.add_image("rectangles", number, f"{number}.png")
        self.prepare()

    def load_image(self, image_id: int) -> np.ndarray:
        if image_id in self.bad:
            raise OSError(f"{image_id}.png is broken")
        image = np.random.default_rng(image_id).integers(100, 140, (56, 60, 3), np.uint8)
        masks, class_ids = self.load_mask(image_id)
        for mask, class_id in zip(np.moveaxis(masks, -1, 0), class_ids, strict=True):
            image[mask] = 20 if class_id == 1 else 230
        return image

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        count = image_id % 2 + 1 if self.has_objects else 0
        masks = np.zeros((56, 60, count), bool)
        for index in range(count):
            top = 3 + image_id + 20 * index
            masks[top : top + 18, 8 + 12 * index : 30 + 12 * index, index] = True
        return masks, np.arange(1, count + 1, dtype=np.int32)


def make_find_objects(network: Network) -> None:
    """Let an untrained network take every proposal for an object, of class 1 first."""
    weights = hdf5.weights_by_name(network.inference)
    weights["mrcnn_class_logits/kernel"].assign(np.zeros((16, 3)))
    weights["mrcnn_class_logits/bias"].assign([0.0, 1.0, 0.9])
