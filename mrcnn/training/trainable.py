"""Which layers train: the words of `layers=`, and regular expressions of layer names."""

import re
from collections.abc import Sequence

import keras

from mrcnn.network.backbones.resnet import STAGE_LAYERS
from mrcnn.weights import hdf5

# Which layers a `layers=` word trains.
HEADS = r"(mrcnn\_.*)|(rpn\_.*)|(fpn\_.*)"
STAGE_3, STAGE_4, STAGE_5 = (STAGE_LAYERS.format(stage=stage) for stage in (3, 4, 5))
LAYER_GROUPS = {
    "heads": HEADS,
    "5+": f"{STAGE_5}|{HEADS}",
    "4+": f"{STAGE_4}|{STAGE_5}|{HEADS}",
    "3+": f"{STAGE_3}|{STAGE_4}|{STAGE_5}|{HEADS}",
    "all": ".*",
}


def set_trainable(model: keras.Model, layers: str) -> list[str]:
    """Let the layers whose whole name matches train, freeze the others; return their names.

    Takes effect with the next `compile`.

    Args:
        layers: A word of LAYER_GROUPS or a regular expression. Without a pyramid the last stage of
            the backbone is a head (C4).

    Raises:
        ValueError: When it is no regular expression, matches no layer, or is the word of a stage
            that the backbone does not have.
    """
    leaves = list(hdf5.leaf_layers(model))
    try:
        pattern = re.compile(_expression(layers, [layer.name for layer in leaves]))
    except re.error as error:
        raise ValueError(f"layers={layers!r} is no regular expression: {error}") from error
    for layer in leaves:
        layer.trainable = bool(pattern.fullmatch(layer.name))
    chosen = [layer.name for layer in leaves if layer.trainable]
    if not chosen:
        words = ", ".join(LAYER_GROUPS)
        raise ValueError(f"layers={layers!r} matches no layer; use one of {words} or an expression")
    return chosen


def _expression(layers: str, names: Sequence[str]) -> str:
    """Return the regular expression of a word, for a network with layers of these names."""
    expression = LAYER_GROUPS.get(layers, layers)
    if layers not in LAYER_GROUPS or layers == "all":
        return expression
    if layers != "heads" and not any(name.startswith(f"res{layers[0]}") for name in names):
        others = [name for name in names if not re.fullmatch(HEADS, name)]
        raise ValueError(
            f"layers={layers!r} means the stages of a ResNet from {layers[0]} on, and this "
            f"backbone has none of that name; use heads, all, or an expression of its layers' "
            f"names ({', '.join(others[:4])}, ...)"
        )
    has_pyramid = any(name.startswith("fpn_") for name in names)
    return expression if has_pyramid else f"{STAGE_5}|{expression}"
