"""Settings that go together: those of families of published weights, and recipes of training."""

import numpy as np

from mrcnn.config import Config

# Of ImageNet's training images, RGB (torchvision's documentation of its models).
IMAGENET_MEAN = np.array([0.485, 0.456, 0.406]) * 255
IMAGENET_STD = np.array([0.229, 0.224, 0.225]) * 255


class TorchvisionConfig(Config):
    """Settings of torchvision's maskrcnn_resnet50_fpn, as its functions' defaults are."""

    CONVENTIONS = "torchvision"
    BACKBONE = "resnet50"
    RPN_ANCHOR_RATIOS = [2, 1, 0.5]  # torchvision's 0.5, 1, 2 are height / width
    RPN_CONV_SIZE = 256
    RPN_BBOX_STD_DEV = np.ones(4)
    PRE_NMS_LIMIT = 1000
    PRE_NMS_LIMIT_TRAINING = 2000
    POST_NMS_ROIS_TRAINING = 2000
    POST_NMS_ROIS_INFERENCE = 1000
    TRAIN_ROIS_PER_IMAGE = 512
    ROI_POSITIVE_RATIO = 0.25
    IMAGE_RESIZE_MODE = "short_side"
    IMAGE_MIN_DIM = 800
    IMAGE_MAX_DIM = 1333
    MEAN_PIXEL = IMAGENET_MEAN
    PIXEL_STD = IMAGENET_STD
    DETECTION_MIN_CONFIDENCE = 0.05
    DETECTION_NMS_THRESHOLD = 0.5


class TorchvisionV2Config(TorchvisionConfig):
    """Settings of torchvision's maskrcnn_resnet50_fpn_v2: deeper heads, with batch norm."""

    HEAD_NORM = "convolutions"
    RPN_CONV_COUNT = 2
    BOX_CONV_SIZES = (256, 256, 256, 256)


class TorchvisionKeypointConfig(TorchvisionConfig):
    """Settings of torchvision's keypointrcnn_resnet50_fpn: persons with COCO's 17 keypoints."""

    NUM_CLASSES = 1 + 1
    HAS_MASKS = False
    NUM_KEYPOINTS = 17


class TorchvisionBoxConfig(TorchvisionConfig):
    """Settings of torchvision's fasterrcnn_resnet50_fpn: boxes alone."""

    HAS_MASKS = False


class TorchvisionBoxV2Config(TorchvisionV2Config):
    """Settings of torchvision's fasterrcnn_resnet50_fpn_v2: boxes alone, deeper heads."""

    HAS_MASKS = False
