"""Which layers train: the layer groups of `layers=`, or regular expressions of layer names."""

import re
from collections.abc import Sequence

import keras

from mrcnn.network.backbones.resnet import STAGE_LAYERS
from mrcnn.weights import hdf5

# The layers that each value of `layers=` trains.
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
    """Make layers whose full name matches trainable, freeze the others; return the names.

    Takes effect with the next `compile`.

    Args:
        layers: A key of LAYER_GROUPS or a regular expression. Without a pyramid, the backbone's
            last stage counts as a head (C4).

    Raises:
        ValueError: If it is not a regular expression, matches no layer, or names a stage that the
            backbone does not have.
    """
    leaves = list(hdf5.leaf_layers(model))
    try:
        pattern = re.compile(_expression(layers, [layer.name for layer in leaves]))
    except re.error as error:
        raise ValueError(f"layers={layers!r} is not a regular expression: {error}") from error
    for layer in leaves:
        layer.trainable = bool(pattern.fullmatch(layer.name))
    chosen = [layer.name for layer in leaves if layer.trainable]
    if not chosen:
        words = ", ".join(LAYER_GROUPS)
        raise ValueError(f"layers={layers!r} matches no layer; use one of {words} or an expression")
    return chosen


def _expression(layers: str, names: Sequence[str]) -> str:
    """Return the regular expression of a layer group, for a network with these layer names."""
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
