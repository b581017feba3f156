"""HDF5 weight files in the layout of Keras 2 and Matterport, read and written by layer name.

A file has one group a layer, `layer/layer/kernel:0` inside; the RPN's three layers share the group
`rpn_model`. Ours also hold the settings as attributes, and the optimizer's state in a group of its
own; the original package reads them all the same, for it looks up layers by name.
"""

import io
import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from mrcnn import files

OPTIMIZER = "optimizer_weights"
logger = logging.getLogger("mrcnn")

SETTINGS = "mrcnn_settings"
MOST_NAMES = 8  # that a report lists of layers which the network does not have
FIRST_KERNEL = "conv1/kernel"
# Heads whose shape depends on NUM_CLASSES.
CLASS_LAYERS = ("mrcnn_class_logits", "mrcnn_bbox_fc", "mrcnn_mask")
# Leaf names of Keras 1 files, such as the ImageNet weights that Matterport starts from.
KERAS_1_LEAVES = {
    "W": "kernel",
    "b": "bias",
    "gamma": "gamma",
    "beta": "beta",
    "running_mean": "moving_mean",
    "running_std": "moving_variance",
}


@dataclass
class LoadReport:
    """What a weight file gave to a network; entries are "layer/weight".

    loaded: taken from the file. skipped: in the file, but unknown to the network or excluded.
    missing: in the network, but not in the file: these weights are still the initial ones.
    adapted: loaded, but changed to the network's number of image channels.
    excluded: layers that were to be left as they are.
    """

    path: Path
    loaded: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    adapted: list[str] = field(default_factory=list)
    excluded: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """Return a summary in one line, with more where something needs attention."""
        text = (
            f"{self.path}: {len(self.loaded)} weights loaded, {len(self.skipped)} skipped, "
            f"{len(self.missing)} missing"
        )
        if self.adapted:
            text += f"\n  changed to the network's number of image channels: {self.adapted}"
        if self.excluded:
            text += f"\n  excluded, so still at their initial values: {self.excluded}"
        unknown = [name for name in _layers(self.skipped) if name not in self.excluded]
        if unknown:
            listed = ", ".join(unknown[:MOST_NAMES])
            more = f" and {len(unknown) - MOST_NAMES} more" if len(unknown) > MOST_NAMES else ""
            text += f"\n  in the file, but not in the network: {listed}{more}"
        if self.missing:
            text += (
                f"\n  not in the file, so still at their initial values: {_layers(self.missing)}"
            )
        return text


class OtherShapes(ValueError):  # noqa: N818 (it names what is wrong)
    """The weights of a file have other shapes than those of the network: message, layers."""

    def __str__(self) -> str:
        """Return the message."""
        return str(self.args[0])


def leaf_layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """Yield the layers of a model that hold weights themselves, unwrapped, in order."""
    for layer in model.layers:
        yield from _leaves(layer)


def weights_by_name(model: keras.Model) -> dict[str, keras.Variable]:
    """Return the weights of a model by "layer/weight", for instance "conv1/kernel"."""
    return {
        f"{layer.name}/{weight.name}": weight
        for layer in leaf_layers(model)
        for weight in layer.weights
    }


def load(path: Path, model: keras.Model, exclude: Iterable[str] = ()) -> LoadReport:
    """Read a weight file into a model by layer name and return what was read.

    Args:
        exclude: Names of layers to leave as they are, or the name of one.

    Raises:
        ValueError: When the file cannot be read, a shape differs, or no weight fits the model. The
            model is unchanged then.
    """
    if is_of_keras(path):
        raise ValueError(
            f"{path}: it was written by Keras' own save_weights, which does not name layers; load "
            "it by keras_model.load_weights of the same kind of model that wrote it"
        )
    return assign(path, read(path), model, exclude)


def assign(
    path: str | Path,
    arrays: dict[str, np.ndarray],
    model: keras.Model,
    exclude: Iterable[str] = (),
) -> LoadReport:
    """Give arrays by "layer/weight" to a model; see `load`.

    Args:
        path: Where they come from, for messages.
    """
    targets = weights_by_name(model)
    excluded = {exclude} if isinstance(exclude, str) else set(exclude)
    if unknown := excluded - {layer.name for layer in model._flatten_layers()}:
        logger.warning("exclude has names of no layer: %s", sorted(unknown))
    wanted = {k: v for k, v in targets.items() if k.partition("/")[0] not in excluded}
    matched = {key: arrays[key] for key in wanted if key in arrays}
    if not matched:
        found = ", ".join(sorted(arrays)[:4]) or "none"
        raise ValueError(
            f"{path}: none of its weights belongs to this network (the first are {found}). Is it"
            " a file of another program, or of another BACKBONE?"
        )
    adapted = _adapt_channels(matched, wanted)
    _check_shapes(path, matched, wanted)
    for key, array in matched.items():
        wanted[key].assign(array)
    return LoadReport(
        Path(path),
        loaded=sorted(matched),
        skipped=sorted(set(arrays) - set(matched)),
        missing=sorted(set(wanted) - set(matched)),
        adapted=adapted,
        excluded=sorted(excluded),
    )


def read(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a weight file by "layer/weight".

    Wrappers, nesting and prefixes of names are dropped. Whole models (weights under
    `model_weights`) and Keras 1 names are understood.
    """
    arrays: dict[str, np.ndarray] = {}

    def visit(name: str, node: Any) -> None:
        is_array = isinstance(node, h5py.Dataset) and node.dtype.kind in "fiu"
        if is_array and not name.startswith(OPTIMIZER):
            arrays[_key(name)] = node[()]

    with _opened(path) as file:
        file.get("model_weights", file).visititems(visit)
    return arrays


def is_whole(path: Path) -> bool:
    """Tell whether a file is HDF5 and not cut off."""
    try:
        with _opened(path):
            return True
    except ValueError:
        return False


def is_of_keras(path: Path) -> bool:
    """Tell whether a file is in Keras 3's own form, which knows places, not names."""
    with _opened(path) as file:
        return "_layer_checkpoint_dependencies" in file or (
            "layers" in file and "layer_names" not in file.attrs
        )


def read_settings(path: Path) -> dict[str, Any]:
    """Return the settings that travel in a weight file; empty for files of other programs.

    Raises:
        ValueError: When they cannot be read.
    """
    with _opened(path) as file:
        try:
            settings = json.loads(file.attrs.get(SETTINGS, "{}"))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: the settings in it cannot be read: {error}") from error
    if not isinstance(settings, dict) or not isinstance(settings.get("config", {}), dict):
        raise ValueError(f"{path}: the settings in it are no dict: {settings!r:.60}")
    return settings


def read_optimizer(path: Path) -> dict[str, np.ndarray]:
    """Return the optimizer's state by name; empty where the file holds none."""
    with _opened(path) as file:
        return {name: node[()] for name, node in file.get(OPTIMIZER, {}).items()}


def save(
    path: Path,
    model: keras.Model,
    settings: Mapping[str, Any],
    optimizer: Mapping[str, np.ndarray] | None = None,
    *,
    kernel_dtype: str = "float32",
) -> None:
    """Write a weight file beside the place and rename it there: it is whole, or it is not.

    Args:
        settings: Plain values that travel as an attribute.
        optimizer: The optimizer's state by name.
        kernel_dtype: "float16" halves a file that is only to be read for inference.

    Raises:
        OSError: When it cannot be written; an older file of that name is untouched.
    """
    try:
        # In memory first: HDF5 crashes the process when it closes a file on a full disk.
        content = io.BytesIO()
        with h5py.File(content, "w") as file:
            _write(file, model, settings, kernel_dtype)
            for name, array in (optimizer or {}).items():
                file.require_group(OPTIMIZER).create_dataset(name, data=array)
        with files.replacing(path) as partial:
            partial.write_bytes(content.getbuffer())
    except OSError as error:
        raise OSError(f"{path}: the checkpoint could not be written: {error}") from error


def _write(
    file: h5py.File, model: keras.Model, settings: Mapping[str, Any], kernel_dtype: str
) -> None:
    groups: dict[str, list[keras.layers.Layer]] = {}
    for layer in model.layers:
        if layer.weights:
            groups[layer.name] = list(_leaves(layer))
    file.attrs["layer_names"] = np.array([name.encode() for name in groups])
    file.attrs["backend"] = "tensorflow"
    file.attrs["keras_version"] = keras.__version__
    # What JSON does not know (programs may put anything into a setting) travels as text.
    file.attrs[SETTINGS] = json.dumps(dict(settings), default=str)
    for name, leaves in groups.items():
        named = {f"{leaf.name}/{w.name}:0": w for leaf in leaves for w in leaf.weights}
        group = file.create_group(name)
        group.attrs["weight_names"] = np.array([key.encode() for key in named])
        for key, weight in named.items():
            array = keras.ops.convert_to_numpy(weight)
            is_kernel = weight.name == "kernel"
            group.create_dataset(key, data=array.astype(kernel_dtype) if is_kernel else array)


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: there is no such weight file")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        hint = "it is cut off or not an HDF5 file"
        with open(path, "rb") as raw:
            if raw.read(40).startswith(b"version https://git-lfs"):
                hint = "it is a Git LFS pointer; fetch the file itself with `git lfs pull`"
        raise ValueError(f"{path}: cannot be read as a weight file: {hint} ({error})") from error
    with file:
        yield file


def _adapt_channels(
    arrays: dict[str, np.ndarray], targets: Mapping[str, keras.Variable]
) -> list[str]:
    """Change the first kernel of RGB weights to the network's channels; return what was changed.

    The first three channels are taken to be red, green and blue, others get the mean of their
    kernels, as do one or two alone. All are scaled so that an image which is the same in every
    channel gets the same answer, as grey does in RGB.
    """
    if FIRST_KERNEL not in arrays or FIRST_KERNEL not in targets:
        return []
    kernel, channels = arrays[FIRST_KERNEL], targets[FIRST_KERNEL].shape[2]
    if kernel.ndim != 4 or kernel.shape[2] != 3 or channels == 3:
        return []
    mean = kernel.mean(axis=2, keepdims=True)
    known = kernel if channels > 3 else kernel[:, :, :0]
    extended = [known, np.repeat(mean, channels - known.shape[2], axis=2)]
    changed = np.concatenate(extended, axis=2) * (3 / channels)
    arrays[FIRST_KERNEL] = changed.astype(kernel.dtype)
    return [FIRST_KERNEL]


def _check_shapes(
    path: str | Path, arrays: Mapping[str, np.ndarray], targets: Mapping[str, keras.Variable]
) -> None:
    wrong = [key for key in arrays if arrays[key].shape != tuple(targets[key].shape)]
    if not wrong:
        return
    rows = [f"  {k}: file {arrays[k].shape}, network {tuple(targets[k].shape)}" for k in wrong[:6]]
    layers = _layers(wrong)
    remedy = f"pass exclude={layers} to start these layers anew"
    if set(layers) <= set(CLASS_LAYERS):
        remedy = (
            "they depend on NUM_CLASSES: set it to the file's number of classes (the background "
            f"included), or {remedy}"
        )
    listed = "\n".join(rows)
    raise OtherShapes(
        f"{path}: weights of {len(layers)} layers have other shapes than the network's; {remedy}\n"
        f"{listed}",
        layers,
    )


def _key(name: str) -> str:
    *groups, leaf = name.split("/")
    leaf = leaf.partition(":")[0]
    layer = groups[-1] if groups else ""
    # Keras numbers the layers of a session's second model: conv1/conv1_1/kernel:0.
    unnumbered = re.sub(r"_\d+$", "", layer)
    if {unnumbered, "rpn_model"} & set(groups):
        layer = unnumbered
    old = re.fullmatch(rf"{re.escape(layer)}_(\w+?)(_\d+)?", leaf)
    if old and old[1] in KERAS_1_LEAVES:
        leaf = KERAS_1_LEAVES[old[1]]
    return f"{layer}/{leaf}"


def _layers(keys: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(key.partition("/")[0] for key in keys))


def _leaves(layer: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
    layer = getattr(layer, "layer", layer)
    if isinstance(layer, keras.Model):
        yield from leaf_layers(layer)
    elif layer.weights:
        yield layer
