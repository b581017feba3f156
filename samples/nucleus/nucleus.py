"""Settings of the small nucleus network."""

from mrcnn.config import Config


class NucleusConfig(Config):
    """A network of few weights, for nuclei of 5 to 100 pixels, enlarged twice."""

    NAME = "nucleus"
    NUM_CLASSES = 2
    IMAGES_PER_GPU = 4
    BACKBONE = "resnet18"
    BACKBONE_WIDTH = 32
    TOP_DOWN_PYRAMID_SIZE = 96
    RPN_CONV_SIZE = 96
    MASK_CONV_SIZE = 96
    FPN_CLASSIF_FC_LAYERS_SIZE = 256
    RPN_ANCHOR_SCALES = (12, 24, 48, 96, 192)
    IMAGE_RESIZE_MODE = "crop"
    IMAGE_MIN_DIM = 256
    IMAGE_MAX_DIM = 256
    IMAGE_MIN_SCALE = 2.0
    IMAGE_SCALE_JITTER = (0.7, 1.4)
    PRE_NMS_LIMIT = 2000
    POST_NMS_ROIS_TRAINING = 600
    POST_NMS_ROIS_INFERENCE = 800
    TRAIN_ROIS_PER_IMAGE = 96
    MAX_GT_INSTANCES = 100
    MINI_MASK_SHAPE = (28, 28)
    DETECTION_MAX_INSTANCES = 400
    DETECTION_MIN_CONFIDENCE = 0.05
    STEPS_PER_EPOCH = 100
    TRAIN_BN = None
    AUGMENTATIONS = (
        "flip_left_right",
        "rotate_quarter",
        "jitter_brightness_contrast",
        "jitter_colour",
    )
    LEARNING_RATE = 0.02
    WARMUP_STEPS = 100
    WEIGHT_DECAY = 0.0001
