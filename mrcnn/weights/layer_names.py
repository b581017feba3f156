"""Names of weights: "layer/weight" in a network, and their mapping from paths in weights files.

Nested layers, such as an attention block in a custom backbone, add one part per level:
"block/query/kernel".
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
    """Yield the layers of a model that directly own weights, unwrapped, in order."""
    for layer in model.layers:
        yield from leaves_of(layer)


def leaves_of(layer: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
    """Yield the layers with weights of a model, or the layer itself, unwrapped."""
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
        ValueError: If two weights share a name, since a file could keep only one of them.
    """
    found: dict[str, keras.Variable] = {}
    for layer in leaf_layers(model):
        for key, weight in weights_of(layer).items():
            if found.setdefault(key, weight) is not weight:
                raise ValueError(
                    f"two weights of the network have the name {key}: give every layer of the "
                    "BACKBONE a unique name"
                )
    return found


def weights_of(layer: keras.layers.Layer) -> dict[str, keras.Variable]:
    """Return the weights of a layer, including nested layers, by name.

    Names that Keras numbers across a session (dense_7) are renumbered within the layer, so that a
    network always gets the same names.
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
    """Return a name without the number that Keras appends to default names."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=.)(?=[A-Z][a-z])", "_", kind).lower()
    return re.sub(rf"^({re.escape(snake)})_\d+$", r"\1", name)


def key_of(path: str, known: Collection[str] = ()) -> str:
    """Return the weight name for the path of an array in any program's weights file.

    Wrappers, nesting and prefixes are dropped; the numbers of a session's second model and Keras 1
    names are supported.

    Args:
        path: such as conv1/conv1_1/kernel:0.
        known: names in the network; the longest one that the path ends with is returned.
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
    """Return a name without intermediate layers, as older versions wrote nested layers."""
    layer, _, rest = key.partition("/")
    return f"{layer}/{rest.rpartition('/')[2]}"
