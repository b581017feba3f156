"""HDF5 weights files in the layout of Keras 2 and Matterport, read and written by layer name.

A file has one group per layer, with `layer/layer/kernel:0` inside; the RPN's three layers share the
group `rpn_model`. Our files also store the settings as attributes, and the optimizer's state in a
separate group; the original package can read them, since it looks up layers by name.
"""

import io
import json
import logging
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from mrcnn import files
from mrcnn.weights import hdf5_content, hdf5_layout
from mrcnn.weights.layer_names import (
    key_of,
    leaf_layers,
    short,
    weights_by_name,
)

__all__ = ["leaf_layers", "weights_by_name"]
logger = logging.getLogger("mrcnn")

OPTIMIZER = "optimizer_weights"
WHOLE_MODEL = "model_weights"
SETTINGS = "mrcnn_settings"
# Settings that are read from a file before a network is built, and their types.
OF_FILE = {"CLASS_NAMES": list, "CONVENTIONS": str, "FEATURE_MAPS": str, "NAME": str, "sums": dict}
MOST_NAMES = 8  # number of unknown layers that a report lists
FIRST_KERNEL = "conv1/kernel"
# Layers whose shape depends on NUM_CLASSES.
CLASS_LAYERS = ("mrcnn_class_logits", "mrcnn_bbox_fc", "mrcnn_mask")
Arrays = Mapping[str, np.ndarray | hdf5_content.Array]


@dataclass
class LoadReport:
    """What was loaded from a weights file; entries are "layer/weight".

    loaded: taken from the file. skipped: in the file, but unknown to the network or excluded.
    missing: in the network, but not in the file: these weights keep their initial values.
    adapted: loaded, but adapted to the network's number of image channels.
    excluded: layers that were excluded on request.
    """

    path: Path
    loaded: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    adapted: list[str] = field(default_factory=list)
    excluded: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """Return a one-line summary, with further lines if something needs attention."""
        text = (
            f"{self.path}: {len(self.loaded)} weights loaded, {len(self.skipped)} skipped, "
            f"{len(self.missing)} missing"
        )
        if self.adapted:
            text += f"\n  adapted to the network's number of image channels: {self.adapted}"
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
    """The shapes of a file's weights differ from the network's: message, layers, shapes."""

    def __str__(self) -> str:
        """Return the message."""
        return str(self.args[0])


def load(path: Path, model: keras.Model, exclude: Iterable[str] = ()) -> LoadReport:
    """Load a weights file into a model by layer name and report what was loaded.

    Args:
        exclude: Names of layers to skip, or a single name.

    Raises:
        ValueError: If the file cannot be read, a shape differs, or no weight matches the model.
            The model is unchanged then.
    """
    with arrays_of(path, weights_by_name(model)) as arrays:
        return assign(path, arrays, model, exclude)


def assign(
    path: str | Path, arrays: Arrays, model: keras.Model, exclude: Iterable[str] = ()
) -> LoadReport:
    """Assign arrays by "layer/weight" to a model; see `load`.

    Args:
        path: Their origin, for messages.
    """
    targets = weights_by_name(model)
    excluded = {exclude} if isinstance(exclude, str) else set(exclude)
    if unknown := excluded - {layer.name for layer in model._flatten_layers()}:
        logger.warning("exclude names unknown layers: %s", sorted(unknown))
    wanted = {k: v for k, v in targets.items() if k.partition("/")[0] not in excluded}
    matched = {key: arrays[key] for key in wanted if key in arrays}
    if not matched:
        found = ", ".join(sorted(arrays)[:4]) or "none"
        raise ValueError(
            f"{path}: none of its weights belongs to this network (the first are {found:.200}). Is"
            " it from another program, or for another BACKBONE?"
        )
    adapted = _with_other_channels(matched, wanted)
    _check_shapes(path, {k: v for k, v in matched.items() if k not in adapted}, wanted)
    values = {key: _read(path, key, array) for key, array in matched.items()}
    for key in adapted:
        values[key] = _adapt_channels(values[key], wanted[key].shape[2])
    for key, array in values.items():
        with np.errstate(over="ignore"):  # which the next line refuses
            values[key] = array.astype(wanted[key].dtype)
        hdf5_layout.check_finite(path, key, values[key])
    for key, array in values.items():
        wanted[key].assign(array)
    return LoadReport(
        Path(path),
        loaded=sorted(matched),
        skipped=sorted(set(arrays) - set(matched)),
        missing=sorted(set(wanted) - set(matched)),
        adapted=adapted,
        excluded=sorted(excluded),
    )


@contextmanager
def arrays_of(path: Path, known: Collection[str] = ()) -> Iterator[Arrays]:
    """Yield the arrays of a weights file by "layer/weight", to be read with `np.asarray`.

    Supports complete models (weights under `model_weights`) and Keras 1 names.

    Args:
        known: Names in the network; see `layer_names.key_of`.

    Raises:
        ValueError: If the file cannot be read, or has two arrays for one weight.
    """
    with hdf5_content.opened(path) as content:
        if _is_of_keras(content):
            raise ValueError(
                f"{path}: it was written by Keras' own save_weights, which does not name layers; "
                "load it with keras_model.load_weights of the same kind of model that wrote it"
            )
        start = f"{WHOLE_MODEL}/" if content.has(WHOLE_MODEL) else ""
        found: dict[str, hdf5_content.Array] = {}
        for name, array in content.arrays.items():
            if name.startswith(OPTIMIZER) or not name.startswith(start):
                continue
            key = _own_key(name) if content.is_sealed else key_of(name.removeprefix(start), known)
            if key in found and key in known:
                raise ValueError(f"{path}: it has two arrays for {key}: {found[key].path}, {name}")
            found[key] = array
        for name in content.others:
            if (key := key_of(name.removeprefix(start), known)) in known:
                raise ValueError(f"{path}: it has no numbers for {key}; use another copy")
        yield _with_short_names(found, known)


def read(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a weights file by "layer/weight"; see `arrays_of`."""
    with arrays_of(path) as arrays:
        return {key: _read(path, key, array) for key, array in arrays.items()}


def is_whole(path: Path) -> bool:
    """Return whether a file is HDF5 and not truncated."""
    try:
        with hdf5_content.opened_file(path):
            return True
    except ValueError:
        return False


def is_of_keras(path: Path) -> bool:
    """Return whether a file is in Keras 3's own format, which identifies layers by position."""
    with hdf5_content.opened(path) as content:
        return _is_of_keras(content)


def _is_of_keras(content: hdf5_content.Content) -> bool:
    return content.has("_layer_checkpoint_dependencies") or (
        content.has("layers") and content.attribute("layer_names") is None
    )


def read_settings(path: Path) -> dict[str, Any]:
    """Return the settings stored in a weights file; empty for files of other programs.

    Raises:
        ValueError: If they cannot be read.
    """
    with hdf5_content.opened(path) as content:
        try:
            text = content.attribute(SETTINGS)
            settings = {} if text is None else json.loads(text)
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"{path}: the settings in it cannot be read: {error}") from error
    if not isinstance(settings, dict) or not isinstance(settings.get("config", {}), dict):
        raise ValueError(f"{path}: the settings in it are not a dict: {settings!r:.60}")
    for name, kind in OF_FILE.items():
        for value in (settings.get(name), settings.get("config", {}).get(name)):
            if value is not None and not isinstance(value, kind):
                raise ValueError(f"{path}: its {name} must be a {kind.__name__}, got {value!r:.60}")
    return settings


def read_optimizer(path: Path) -> dict[str, np.ndarray]:
    """Return the optimizer's state by name; empty if the file contains none.

    Raises:
        ValueError: If it is damaged or not finite.
    """
    start = f"{OPTIMIZER}/"
    with hdf5_content.opened(path) as content:
        if content.has(WHOLE_MODEL):
            return {}  # Keras 2's optimizer state is numbered, not named
        return {
            name.removeprefix(start): _read(path, name, array)
            for name, array in content.arrays.items()
            if name.startswith(start)
        }


def save(
    path: Path,
    model: keras.Model,
    settings: Mapping[str, Any],
    optimizer: Mapping[str, np.ndarray] | None = None,
    *,
    kernel_dtype: str = "float32",
) -> None:
    """Write a weights file atomically.

    Args:
        settings: JSON values that are stored as an attribute.
        optimizer: The optimizer's state by name.
        kernel_dtype: "float16" halves the size of a file used only for inference.

    Raises:
        OSError: If it cannot be written; an existing file of that name is untouched.
        ValueError: If a value is not finite, or two weights share a name; likewise.
    """
    weights_by_name(model)  # raises for duplicate names
    try:
        # In memory first: HDF5 crashes the process when closing a file on a full disk.
        content = io.BytesIO()
        # Values that JSON cannot represent (programs may assign anything) are stored as strings.
        text = json.dumps(dict(settings), default=str)
        groups = hdf5_layout.named_weights(model)
        with h5py.File(content, "w", libver=hdf5_layout.version(text, groups)) as file:
            file.attrs[SETTINGS] = text
            hdf5_layout.write(path, file, groups, kernel_dtype)
            for name, array in (optimizer or {}).items():
                hdf5_layout.check_finite(path, f"{OPTIMIZER}/{name}", array)
                file.require_group(OPTIMIZER).create_dataset(name, data=array)
            hdf5_content.seal(file)
        with files.replacing(path, durable=True) as partial:
            partial.write_bytes(content.getbuffer())
    except OSError as error:
        raise OSError(f"{path}: the checkpoint could not be written: {error}") from error


def _read(path: str | Path, name: str, array: np.ndarray | hdf5_content.Array) -> np.ndarray:
    with hdf5_content.readable(path):
        numbers = np.asarray(array)
    hdf5_layout.check_finite(path, name, numbers)
    return numbers


def _own_key(name: str) -> str:
    """Return the path of a weight in this package's files, group/layer/weight:0."""
    return name.partition("/")[2].removesuffix(":0")


def _with_short_names(
    arrays: dict[str, hdf5_content.Array], known: Collection[str]
) -> dict[str, hdf5_content.Array]:
    """Rename the weights of nested layers in an older version's file to the network's names.

    If several share a short name, such a file holds only one of them, and it is unknown which.
    """
    names = Counter(map(short, known))
    for key in set(known) - set(arrays):
        if names[short(key)] == 1 and short(key) in arrays:
            arrays[key] = arrays.pop(short(key))
    return arrays


def _with_other_channels(arrays: Arrays, targets: Mapping[str, keras.Variable]) -> list[str]:
    """Adapt the first kernel if it is for RGB and the network's images are not; return its name."""
    if FIRST_KERNEL not in arrays or FIRST_KERNEL not in targets:
        return []
    found, wanted = arrays[FIRST_KERNEL].shape, tuple(targets[FIRST_KERNEL].shape)
    is_alike = len(found) == 4 and (*found[:2], found[3]) == (*wanted[:2], wanted[3])
    return [FIRST_KERNEL] if is_alike and found[2] == 3 != wanted[2] else []


def _adapt_channels(kernel: np.ndarray, channels: int) -> np.ndarray:
    """Convert a kernel for RGB images to another number of channels.

    The first three channels are taken to be red, green and blue; further channels get the mean of
    their kernels, as do all if there are only one or two. The kernel is scaled so that an image
    with equal channels gets the same response as the grey image in RGB.
    """
    mean = kernel.mean(axis=2, keepdims=True)
    known = kernel if channels > 3 else kernel[:, :, :0]
    extended = [known, np.repeat(mean, channels - known.shape[2], axis=2)]
    return (np.concatenate(extended, axis=2) * (3 / channels)).astype(kernel.dtype)


def _check_shapes(path: str | Path, arrays: Arrays, targets: Mapping[str, keras.Variable]) -> None:
    wrong = [key for key in arrays if arrays[key].shape != tuple(targets[key].shape)]
    if not wrong:
        return
    rows = [f"{k}: file {arrays[k].shape}, network {tuple(targets[k].shape)}" for k in wrong[:6]]
    layers = _layers(wrong)
    remedy = f"pass exclude={layers} to re-initialize these layers"
    if set(layers) <= set(CLASS_LAYERS):
        remedy = (
            "they depend on NUM_CLASSES: set it to the file's number of classes (including "
            f"background), or {remedy}"
        )
    listed = "; ".join(rows)
    raise OtherShapes(
        f"{path}: weights of {len(layers)} layers have other shapes than the network's; {remedy} "
        f"({listed})",
        layers,
        listed,
    )


def _layers(keys: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(key.partition("/")[0] for key in keys))
