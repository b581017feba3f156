"""Loading weights files of any format: detects the format and the family of weights.

torchvision's classifiers initialize only the backbone; their files have no other layers.
"""

import errno
import hashlib
import math
import operator
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import keras
import numpy as np

from mrcnn import presets, setting_bounds, setting_values
from mrcnn.config import Config
from mrcnn.conventions import DETECTRON2, FAMILIES, MATTERPORT, TORCHVISION
from mrcnn.setting_marks import Mark
from mrcnn.weights import array_files, hdf5, torch_files, torchvision

# First digits of the checksums of maskrcnn, keypointrcnn (two) and fasterrcnn_resnet50_fpn.
WITHOUT_EPSILON = ("bf2d0c1e", "fc266e95", "9f466800", "258fb6c6")
PRESETS = {
    "torchvision": "presets.TorchvisionConfig or TorchvisionV2Config",
    "detectron2": "presets.ModernConfig",
    "matterport": "Config",
}


# The settings that determine the sizes of the largest layers.
OF_SIZE = (*Config.marked(Mark.SHAPES), "HAS_MASKS", "RPN_CONV_COUNT")


def load(
    path: str | Path, model: keras.Model, exclude: Iterable[str] = (), *, config: Config
) -> hdf5.LoadReport:
    """Load a weights file into a model by layer name, and report what was loaded.

    Args:
        path: .h5 and .hdf5 of this package, Matterport and Keras 2; .pth, .pt, .safetensors and
            .npz with torchvision's names.
        exclude: Names of layers to skip.
        config: The settings of the model.

    Raises:
        ValueError: If the file cannot be read, is of another family, or does not fit; the model
            is unchanged then.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(errno.ENOENT, "there is no such weights file", str(path))
    family = config.CONVENTIONS
    if path.suffix not in READERS:
        if _is_keras_classifier(path) and FAMILIES[family].stride_on_first:
            with hdf5.arrays_of(path) as arrays:
                if not FAMILIES[family].biased_backbone:
                    arrays = _without_biases(arrays, FAMILIES[family].norm_epsilon)
                return hdf5.assign(path, arrays, model, exclude)
        stored = hdf5.read_settings(path).get("config", {})
        _check_family(path, stored, family)
        try:
            return hdf5.load(path, model, exclude)
        except hdf5.OtherShapes as error:
            raise ValueError(_with_settings(path, error, stored, config)) from error
    _refuse_other(path, TORCHVISION.name, family)
    state = read_state(path)
    with _of_torchvision(path):
        arrays, unknown = torchvision.by_layer(state)
    try:
        report = hdf5.assign(path, arrays, model, exclude)
    except ValueError as error:
        raise ValueError(f"{error}. The file looks like {torchvision.kind(state)}") from error
    report.skipped = sorted([*report.skipped, *unknown])
    return report


def of_other_classes(stored: Mapping[str, Any], config: Config, model: keras.Model) -> list[str]:
    """Return the layers that a network has to learn anew, since the weights are of other classes.

    Likewise for other keypoints.

    Args:
        stored: The settings of the weights.
        config, model: Those of the network, and its layers.
    """
    layers: list[str] = []
    if list(stored.get("CLASS_NAMES", ())) != list(config.CLASS_NAMES):
        kept = {"mrcnn_mask"} if config.CLASS_AGNOSTIC_MASKS else set()
        layers += [name for name in hdf5.CLASS_LAYERS if name not in kept]
    if stored.get("NUM_KEYPOINTS", 0) != config.NUM_KEYPOINTS:
        layers.append("mrcnn_keypoint_deconv")
    known = {layer.name for layer in hdf5.leaf_layers(model)}
    return [name for name in layers if name in known]


def _with_settings(path: Path, error: ValueError, stored: Mapping[str, Any], config: Config) -> str:
    """Explain a shape mismatch by the settings that differ, if the file contains settings."""
    differing = [
        f"{name} {stored[name]} (this network: {setting_values.plain(getattr(config, name))})"
        for name in Config.marked(Mark.SHAPES)
        if name in stored and stored[name] != setting_values.plain(getattr(config, name))
    ]
    if not differing or set(error.args[1]) <= set(hdf5.CLASS_LAYERS):
        return str(error)  # already says what to do about other classes
    return (
        f"{path}: the file has {', '.join(differing)}; use its settings "
        f"(MaskRCNN.from_checkpoint), or exclude the layers that differ to re-initialize them, "
        f"exclude={error.args[1]} ({error.args[2]})"
    )


def read_state(path: Path) -> dict[str, np.ndarray]:
    """Return a state dict whose batch norms have the epsilon of torchvision's functions.

    The detectors that torchvision published in 2019 use epsilon 0, which its loader sets. Here
    gamma is increased instead: they were trained with gamma / sqrt(variance).

    Raises:
        ValueError: If the file cannot be read.
    """
    read = READERS[path.suffix](path)
    state = {name.removeprefix("module."): array for name, array in read.items()}
    if "roi_heads.box_head.fc6.weight" in state and _sha256(path).startswith(WITHOUT_EPSILON):
        for name in [key.removesuffix("running_var") for key in state if "running_var" in key]:
            variance = state[f"{name}running_var"].astype(np.float64)
            ratio = (variance + TORCHVISION.norm_epsilon) / np.where(variance > 0, variance, np.inf)
            factor = np.where(variance > 0, np.sqrt(ratio), 1.0)
            state[f"{name}weight"] = (state[f"{name}weight"] * factor).astype(np.float32)
    return state


def settings(path: Path) -> dict[str, Any]:
    """Return the settings stored in a weights file, or inferred from its arrays.

    Raises:
        ValueError: If the file cannot be read.
    """
    if path.suffix in READERS:
        state = read_state(path)
        with _of_torchvision(path):
            return torchvision.settings(state)
    return _network_settings(path)


def _of_torchvision(path: Path) -> AbstractContextManager[None]:
    """Return a context that turns errors from unexpected shapes into one that names the file."""
    return array_files.readable(path, "torchvision weights")


def _network_settings(path: Path) -> dict[str, Any]:
    """Return the settings in a file, checked against the number of its weights.

    Raises:
        ValueError: If their network is larger: the settings do not belong to the weights.
    """
    found = hdf5.read_settings(path).get("config", {})
    # Earlier versions did not store a backbone function.
    if "BACKBONE" not in found or setting_values.is_function(found["BACKBONE"]):
        return found
    with array_files.readable(path, "a weights file"):
        setting_bounds.check({k: v for k, v in found.items() if k in OF_SIZE})
        needed = _least_weights({name: found.get(name, getattr(Config, name)) for name in OF_SIZE})
    with hdf5.arrays_of(path) as arrays:
        held = sum(math.prod(array.shape) for array in arrays.values())
    if needed > held:
        raise ValueError(
            f"{path}: its settings are of a network of at least {needed} weights, and it holds "
            f"{held}: they do not belong together; use another copy"
        )
    return found


def _least_weights(sizes: Mapping[str, Any]) -> int:
    """Return a lower bound of the number of weights for these settings, from the largest layers.

    Building the network to find a mismatch would take its memory first.
    """
    width, classes = sizes["BACKBONE_WIDTH"], sizes["NUM_CLASSES"]
    count = 2 * (8 * width) ** 2 + 9 * sizes["IMAGE_CHANNEL_COUNT"] * width
    if sizes["FEATURE_MAPS"] == "c4":
        return count + classes * 8 * width
    pyramid, dense = sizes["TOP_DOWN_PYRAMID_SIZE"], sizes["FPN_CLASSIF_FC_LAYERS_SIZE"]
    box = [pyramid, *sizes["BOX_CONV_SIZES"]]
    count += 9 * (
        pyramid * (pyramid + sizes["RPN_CONV_SIZE"]) + sum(map(operator.mul, box[1:], box[:-1]))
    )
    count += 9 * (sizes["RPN_CONV_COUNT"] - 1) * sizes["RPN_CONV_SIZE"] ** 2
    count += dense * (5 * classes + box[-1] * sizes["POOL_SIZE"] ** 2)
    if sizes["HAS_MASKS"]:
        masks = 1 if sizes["CLASS_AGNOSTIC_MASKS"] else classes
        count += sizes["MASK_CONV_SIZE"] * (9 * pyramid + 9 * sizes["MASK_CONV_SIZE"] + masks)
    points = sizes["NUM_KEYPOINTS"]
    if points:
        per_channel = 9 * pyramid + 9 * sizes["KEYPOINT_CONV_SIZE"] + points
        count += sizes["KEYPOINT_CONV_SIZE"] * per_channel
    return count


def recipe(path: Path) -> type[Config]:
    """Return the training settings for a weights file: those of its family.

    Raises:
        ValueError: If the file cannot be read.
    """
    if path.suffix in READERS:
        return presets.OF_FAMILY[TORCHVISION.name]
    if _is_keras_classifier(path):
        return presets.OF_FAMILY[DETECTRON2.name]
    found = hdf5.read_settings(path).get("config", {})
    return presets.OF_FAMILY.get(found.get("CONVENTIONS", MATTERPORT.name), Config)


def _is_keras_classifier(path: Path) -> bool:
    """Return whether a file holds a Keras 2 classifier: layers of a backbone, and no others.

    Its bottlenecks have the stride on their first convolution.
    """
    if hdf5.read_settings(path) or hdf5.is_of_keras(path):
        return False
    with hdf5.arrays_of(path) as arrays:
        layers = {name.partition("/")[0] for name in arrays}
    return "bn_conv1" in layers and not any(
        layer.startswith(("rpn_", "fpn_", "mrcnn_")) for layer in layers
    )


def _without_biases(arrays: hdf5.Arrays, epsilon: float) -> hdf5.Arrays:
    """Convert a Keras classifier's arrays to a backbone without biases and with RGB input.

    A bias before a batch norm is equivalent to a lower moving mean, and another epsilon to another
    variance. The published weights were trained on BGR: their first kernel's channels are
    reversed, which Matterport's network omits.
    """
    changed: dict[str, Any] = {}
    for name, array in arrays.items():
        layer, _, leaf = name.partition("/")
        if leaf == "moving_mean":
            bias = arrays.get(f"{_convolution_before(layer)}/bias")
            array = array if bias is None else np.asarray(array) - np.asarray(bias)
        elif leaf == "moving_variance":
            difference = MATTERPORT.norm_epsilon - epsilon
            array = np.maximum(np.asarray(array) + difference, 0.0)
        elif name == hdf5.FIRST_KERNEL and array.shape[2:3] == (3,):
            array = np.asarray(array)[:, :, ::-1]
        if leaf != "bias":
            changed[name] = array
    return changed


def _convolution_before(norm: str) -> str:
    return "conv1" if norm == "bn_conv1" else norm.replace("bn", "res", 1)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_family(path: Path, settings: dict, family: str) -> None:
    """Raise for a checkpoint of other conventions; files without settings are Matterport's."""
    _refuse_other(path, settings.get("CONVENTIONS", MATTERPORT.name), family)


def _refuse_other(path: Path, found: str, family: str) -> None:
    if found != family:
        raise ValueError(
            f"{path}: its weights are of the family {found}, but the network's CONVENTIONS are "
            f"{family}, under which they would mean something else: build the network from "
            f"{PRESETS.get(found, 'a newer version of this package')} (CONVENTIONS = {found!r})"
        )


READERS = {
    ".pth": torch_files.read_state_dict,
    ".pt": torch_files.read_state_dict,
    ".npz": array_files.read_npz,
    ".safetensors": array_files.read_safetensors,
}
