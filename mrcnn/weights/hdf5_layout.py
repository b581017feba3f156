"""The layout of Keras 2's weight files: a group for each layer, with the names of its weights."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from mrcnn.weights.layer_names import leaves_of, weights_of

LARGEST_ATTRIBUTE = 64_000  # bytes, in the format that every version of HDF5 reads


def named_weights(model: keras.Model) -> dict[str, dict[str, keras.Variable]]:
    """Return the weights by name, in a group for each layer of the model that has any."""
    return {
        layer.name: {
            f"{key}:0": weight
            for leaf in leaves_of(layer)
            for key, weight in weights_of(leaf).items()
        }
        for layer in model.layers
        if layer.weights
    }


def version(text: str, groups: Mapping[str, Mapping[str, Any]]) -> tuple[str, str] | None:
    """Return the version of the format that holds such attributes; None for h5py's default.

    Only from HDF5 1.8 on may an attribute be larger than 64 KB: the settings of thousands of
    classes, the names of a backbone of a thousand weights.
    """
    longest = max([len(text), *(_names(each).nbytes for each in (groups, *groups.values()))])
    return ("v108", "v108") if longest > LARGEST_ATTRIBUTE else None


def _names(keys: Iterable[str]) -> np.ndarray:
    return np.array([key.encode() for key in keys])


def write(
    path: Path,
    file: h5py.File,
    groups: Mapping[str, Mapping[str, keras.Variable]],
    kernel_dtype: str,
) -> None:
    """Write groups of weights; names end in ":0".

    Raises:
        ValueError: When a number is not finite.
    """
    file.attrs["layer_names"] = _names(groups)
    file.attrs["backend"] = "tensorflow"
    file.attrs["keras_version"] = keras.__version__
    for name, named in groups.items():
        group = file.create_group(name)
        group.attrs["weight_names"] = _names(named)
        for key, weight in named.items():
            array = keras.ops.convert_to_numpy(weight)
            if weight.name == "kernel":
                with np.errstate(over="ignore"):  # which the next line refuses
                    array = array.astype(kernel_dtype)
            check_finite(path, key.removesuffix(":0"), array)
            group.create_dataset(key, data=array)


def check_finite(path: str | Path, name: str, array: np.ndarray) -> None:
    """Raise ValueError if a weight has values that are not finite."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(
            f"{path}: {name} has values that are not finite (NaN or infinite), so the training "
            "diverged or the file is damaged: resume from an earlier checkpoint"
        )
