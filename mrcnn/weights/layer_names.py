"""Names of weights: "layer/weight" in a network, and what the paths in weight files mean by them.

A layer of several layers, such as an attention block in a program's own backbone, has one more
part for each: "block/query/kernel".
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator

import keras

# Leaf names of Keras 1 files, such as the ImageNet weights that Matterport starts from.
KERAS_1_LEAVES = {
    "W": "kernel",
    "b": "bias",
    "gamma": "gamma",
    "beta": "beta",
    "running_mean": "moving_mean",
    "running_std": "moving_variance",
}
# The group that holds the three layers of the RPN.
RPN = "rpn_model"


def leaf_layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """Yield the layers of a model that hold weights themselves, unwrapped, in order."""
    for layer in model.layers:
        yield from leaves_of(layer)


def leaves_of(layer: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
    """Yield the layers with weights of a model, or the layer itself, without its wrapper."""
    inner = getattr(layer, "layer", None)
    if isinstance(inner, keras.layers.Layer) and len(inner.weights) == len(layer.weights):
        layer = inner
    if isinstance(layer, keras.Model):
        yield from leaf_layers(layer)
    elif layer.weights:
        yield layer


def weights_by_name(model: keras.Model) -> dict[str, keras.Variable]:
    """Return the weights of a model by "layer/weight", for instance "conv1/kernel".

    Raises:
        ValueError: When two weights have one name, of which a file could keep only one.
    """
    found: dict[str, keras.Variable] = {}
    for layer in leaf_layers(model):
        for key, weight in weights_of(layer).items():
            if found.setdefault(key, weight) is not weight:
                raise ValueError(
                    f"two weights of the network have the name {key}: give every layer of the "
                    "BACKBONE a name of its own"
                )
    return found


def weights_of(layer: keras.layers.Layer) -> dict[str, keras.Variable]:
    """Return the weights of a layer, those of its layers included, by name.

    Names that Keras numbers through a whole session (dense_7) are numbered within the layer, so
    that a network has the same names whenever it is built.
    """
    names = {id(weight): name for name, weight in _named(layer)}
    return {f"{layer.name}/{names[id(weight)]}": weight for weight in layer.weights}


def _named(layer: keras.layers.Layer) -> Iterator[tuple[str, keras.Variable]]:
    taken: Counter = Counter()
    known: set[int] = set()
    for inner in layer._flatten_layers(include_self=False, recursive=False):
        if not inner.weights:
            continue
        name = _distinct(unnumbered(inner.name, type(inner).__name__), taken)
        for below, weight in _named(inner):
            known.add(id(weight))
            yield f"{name}/{below}", weight
    for weight in layer.weights:
        if id(weight) not in known:
            yield _distinct(unnumbered(weight.name, "Variable"), taken), weight


def _distinct(name: str, taken: Counter) -> str:
    while True:
        taken[name] += 1
        numbered = name if taken[name] == 1 else f"{name}_{taken[name] - 1}"
        if numbered == name or numbered not in taken:
            taken[numbered] += numbered != name
            return numbered


def unnumbered(name: str, kind: str) -> str:
    """Return a name without the number that Keras gives to what a program has not named."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=.)(?=[A-Z][a-z])", "_", kind).lower()
    return re.sub(rf"^({re.escape(snake)})_\d+$", r"\1", name)


def key_of(path: str, known: Collection[str] = ()) -> str:
    """Return the name that a path of an array in a weight file of any program means.

    Wrappers, nesting and prefixes are dropped; numbers of a session's second model and Keras 1
    names are understood.

    Args:
        path: such as conv1/conv1_1/kernel:0.
        known: names in the network, of which the longest that the path ends with is meant.
    """
    *groups, leaf = path.split("/")
    leaf = leaf.partition(":")[0]
    for start in range(len(groups)):
        if (whole := "/".join([*groups[start:], leaf])) in known:
            return whole
    layer = groups[-1] if groups else ""
    unnumbered = re.sub(r"_\d+$", "", layer)
    if {unnumbered, RPN} & set(groups):
        layer = unnumbered
    old = re.fullmatch(rf"{re.escape(layer)}_(\w+?)(_\d+)?", leaf)
    if old and old[1] in KERAS_1_LEAVES:
        leaf = KERAS_1_LEAVES[old[1]]
    return f"{layer}/{leaf}"


def short(key: str) -> str:
    """Return a name without the layers between: what older versions wrote of nested layers."""
    layer, _, rest = key.partition("/")
    return f"{layer}/{rest.rpartition('/')[2]}"
