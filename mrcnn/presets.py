"""Presets: settings of published weight families, and training recipes."""

from typing import Any

import numpy as np

from mrcnn.config import Config

# Mean and standard deviation of ImageNet's training images, RGB (torchvision's documentation).
IMAGENET_MEAN = np.array([0.485, 0.456, 0.406]) * 255
IMAGENET_STD = np.array([0.229, 0.224, 0.225]) * 255


COCO_KEYPOINTS = (
    "nose",
    *(
        f"{side}_{part}"
        for part in ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
        for side in ("left", "right")
    ),
)


class TorchvisionConfig(Config):
    """Settings of torchvision's maskrcnn_resnet50_fpn, with its default arguments."""

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
    KEYPOINT_NAMES = COCO_KEYPOINTS
    KEYPOINT_PAIRS = tuple((place, place + 1) for place in range(1, 17, 2))


class TorchvisionBoxConfig(TorchvisionConfig):
    """Settings of torchvision's fasterrcnn_resnet50_fpn: boxes only."""

    HAS_MASKS = False


class TorchvisionBoxV2Config(TorchvisionV2Config):
    """Settings of torchvision's fasterrcnn_resnet50_fpn_v2: boxes only, deeper heads."""

    HAS_MASKS = False


class PaperConfig(Config):
    """The recipe of the paper (He et al. 2017, section 3.1), in the numerics of its later code.

    Pass `config.learning_rate` to `train`: LEARNING_RATE is for batches of 16 images.
    STEPS_PER_EPOCH and LEARNING_RATE_DROPS assume 16 images per step, too; scale them by hand.
    """

    CONVENTIONS = "detectron2"
    BACKBONE = "resnet50"
    IMAGE_RESIZE_MODE = "short_side"
    IMAGE_MIN_DIM = 800  # "images are resized such that their scale (shorter edge) is 800 pixels"
    IMAGE_MAX_DIM = 1333  # Detectron's
    IMAGES_PER_GPU = 2  # "each mini-batch has 2 images per GPU"
    TRAIN_ROIS_PER_IMAGE = 512  # "N is ... 512 for FPN"
    ROI_POSITIVE_RATIO = 0.25  # "a ratio of 1:3 of positive to negatives"
    RPN_ANCHOR_RATIOS = [2, 1, 0.5]  # "5 scales and 3 aspect ratios, following" FPN
    RPN_CONV_SIZE = 256  # FPN, Lin et al. 2017, section 4.1
    RPN_BBOX_STD_DEV = np.ones(4)  # Detectron's
    PRE_NMS_LIMIT = 1000  # per level, Detectron's
    PRE_NMS_LIMIT_TRAINING = 2000
    POST_NMS_ROIS_TRAINING = 1000  # Detectron's, over all levels
    POST_NMS_ROIS_INFERENCE = 1000  # "the proposal number is ... 1000 for FPN"
    DETECTION_MAX_INSTANCES = 100  # "the highest scoring 100 detection boxes"
    DETECTION_MIN_CONFIDENCE = 0.05  # Fast R-CNN's code
    DETECTION_NMS_THRESHOLD = 0.5  # FPN, Lin et al. 2017, section 5.2
    STEPS_PER_EPOCH = 1000
    LEARNING_RATE = 0.02  # "with a learning rate of 0.02", of 8 GPUs with 2 images each
    LEARNING_RATE_IMAGES = 16
    LEARNING_RATE_DROPS: tuple = (120,)  # "decreased by 10 at the 120k iteration", of 160k
    LEARNING_MOMENTUM = 0.9  # "a weight decay of 0.0001 and momentum of 0.9"
    WEIGHT_DECAY = 0.0001
    WARMUP_STEPS = 500  # Goyal et al. 2017, section 2.2; Detectron's number
    GRADIENT_CLIP_NORM = 0.0  # it does not clip
    AUGMENTATIONS = ("flip_left_right",)  # Fast R-CNN, section 4.2


class C4Config(PaperConfig):
    """The paper's recipe on one feature map of stride 16 (He et al. 2017, figure 4, left)."""

    FEATURE_MAPS = "c4"
    BACKBONE_STRIDES = [16]
    RPN_ANCHOR_SCALES: tuple = ((32, 64, 128, 256, 512),)  # all on the one map
    RPN_CONV_SIZE = 1024  # as many channels as the map, Detectron's
    POOL_SIZE = 7
    MASK_POOL_SIZE = 7  # "operates on a 7x7 RoI with stride 1"
    MASK_SHAPE = [14, 14]
    TRAIN_ROIS_PER_IMAGE = 64  # "N is 64 for the C4 backbone"
    PRE_NMS_LIMIT = 6000  # Detectron's, of one level
    PRE_NMS_LIMIT_TRAINING = 12000
    POST_NMS_ROIS_TRAINING = 2000
    POST_NMS_ROIS_INFERENCE = 300  # "the proposal number is 300 for the C4 backbone"


class ModernConfig(PaperConfig):
    """The paper's recipe as in detectron2: multi-scale images, a longer warm-up."""

    IMAGE_SCALE_JITTER = (0.8, 1.0)  # shorter sides of 640 to 800 (Base-RCNN-FPN.yaml)
    WARMUP_STEPS = 1000
    # Training pads all inputs to this square; it does not shrink images of 4:3.
    IMAGE_MAX_DIM = 1088
    LEARNING_RATE_DROPS: tuple = (60, 80)  # of 90 epochs of 1000 steps: detectron2's 1x schedule
    GRADIENT_CLIP_NORM = 5.0  # healthy training stays below it, see docs/training.md


class SmallConfig(ModernConfig):
    """A network of few weights, for a computer without a GPU: that of the weights `nuclei`.

    Its inputs are small, too. The anchors are twice as large from level to level, as those of the
    weights; other scales only change what the sizes that the RPN has learned refer to.
    """

    BACKBONE = "resnet18"
    BACKBONE_WIDTH = 32
    TOP_DOWN_PYRAMID_SIZE = 96
    RPN_CONV_SIZE = 96
    MASK_CONV_SIZE = 96
    FPN_CLASSIF_FC_LAYERS_SIZE = 256
    HEAD_NORM = "all"  # a network from random weights wants it
    TRAIN_BN = None  # statistics of nuclei do not suit other images

    IMAGE_MIN_DIM = 320
    IMAGE_MAX_DIM = 320
    RPN_ANCHOR_SCALES = (12, 24, 48, 96, 192)
    MINI_MASK_SHAPE = (28, 28)

    IMAGES_PER_GPU = 4
    VALIDATION_STEPS = 10
    PRE_NMS_LIMIT = 500
    PRE_NMS_LIMIT_TRAINING = 1000
    POST_NMS_ROIS_TRAINING = 300
    POST_NMS_ROIS_INFERENCE = 300
    TRAIN_ROIS_PER_IMAGE = 64
    ROI_POSITIVE_RATIO = 0.33

    LEARNING_RATE = 0.02
    LEARNING_RATE_IMAGES = 4


# Presets of the command line, by name.
NAMED: dict[str, type[Config]] = {"small": SmallConfig}

# The training settings of a network that starts from weights of a family.
OF_FAMILY: dict[str, type[Config]] = {
    "matterport": Config,
    "torchvision": TorchvisionConfig,
    "detectron2": ModernConfig,
}


def scheduled(epochs: int, steps: int) -> dict[str, Any]:
    """Return ModernConfig's schedule scaled to another length: drops and warm-up.

    Args:
        epochs, steps: Number of epochs, and of steps per epoch.
    """
    drops = [round(epochs * drop / 90) for drop in ModernConfig.LEARNING_RATE_DROPS]
    return {
        # Drops at the end or beyond would only take effect in a resumed training.
        "LEARNING_RATE_DROPS": [drop for drop in drops if 0 < drop < epochs],
        "WARMUP_STEPS": min(ModernConfig.WARMUP_STEPS, epochs * steps // 10),
    }
