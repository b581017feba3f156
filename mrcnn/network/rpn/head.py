"""The head of the RPN: two scores and four deltas per anchor."""

import keras
from keras import layers


def build_rpn_model(
    anchor_stride: int,
    anchors_per_location: int,
    depth: int,
    channels: int = 512,
    *,
    conv_count: int = 1,
    sigmoid: bool = False,
) -> keras.Model:
    """Return the head shared by all levels: (B, h, w, depth) -> logits, probabilities, deltas.

    Shapes are (B, h * w * A, 2), the same, and (B, h * w * A, 4); class 1 is foreground.

    Args:
        conv_count: Number of 3x3 convolutions.
        sigmoid: The network predicts only the foreground logit; the background logit is 0.
    """
    features = keras.Input((None, None, depth), name="input_rpn_feature_map")
    shared = features
    for number in range(1, conv_count + 1):
        name = "rpn_conv_shared" + (str(number) if number > 1 else "")
        strides = anchor_stride if number == 1 else 1
        shared = layers.Conv2D(channels, 3, strides, "same", activation="relu", name=name)(shared)
    logits = layers.Conv2D(
        (1 if sigmoid else 2) * anchors_per_location,
        1,
        name="rpn_class_raw",
        kernel_initializer=_small_normal(),
    )(shared)
    deltas = layers.Conv2D(
        4 * anchors_per_location, 1, name="rpn_bbox_pred", kernel_initializer=_small_normal()
    )(shared)
    logits = layers.Reshape((-1, 1 if sigmoid else 2), dtype="float32")(logits)
    if sigmoid:  # sigmoid(x) is the softmax of (0, x)
        logits = layers.ZeroPadding1D((1, 0), data_format="channels_first", dtype="float32")(logits)
    deltas = layers.Reshape((-1, 4), dtype="float32")(deltas)
    probs = layers.Softmax(name="rpn_class_xxx", dtype="float32")(logits)
    return keras.Model(features, [logits, probs, deltas], name="rpn_model")


def _small_normal() -> keras.initializers.Initializer:
    # Faster R-CNN, section 3.1.3: normal distribution with standard deviation 0.01.
    return keras.initializers.RandomNormal(stddev=0.01)
