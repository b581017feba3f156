"""Conversion of torchvision's state dicts to the names and layouts of this package's layers.

    name in torchvision                     here
    backbone.body.layer2.0.conv1            res3a_branch2a
    backbone.body.layer2.0.downsample.0     res3a_branch1
    backbone.fpn.inner_blocks.0.0           fpn_c2p2
    rpn.head.cls_logits                     rpn_class_raw
    roi_heads.box_head.fc6                  mrcnn_class_conv1

Classifiers have the names of `backbone.body` without the prefix. Boxes there are (x, y), here
(y, x).
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mrcnn import presets
from mrcnn.config import Config
from mrcnn.conventions import TORCHVISION
from mrcnn.weights.coco_classes import COCO_CLASSES

Layout = Callable[[np.ndarray], np.ndarray]
OF_NORM = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
OF_OTHERS = {"weight": "kernel"}
# torchvision's detectors use COCO's category ids, with gaps.
COCO_NAMES = ["BG", *(COCO_CLASSES.get(number, "N/A") for number in range(1, 91))]
# Blocks per stage, whether they are bottlenecks, and input channels per group of the first 3x3
# convolution -> the backbone.
CLASSIFIERS: dict[tuple[tuple[int, ...], bool, int], str] = {
    ((2, 2, 2, 2), False, 64): "resnet18",
    ((3, 4, 6, 3), False, 64): "resnet34",
    ((3, 4, 6, 3), True, 64): "resnet50",
    ((3, 4, 23, 3), True, 64): "resnet101",
    ((3, 4, 6, 3), True, 4): "resnext50_32x4d",
    ((3, 4, 23, 3), True, 8): "resnext101_32x8d",
    ((3, 4, 23, 3), True, 4): "resnext101_64x4d",
}
# torchvision's functions, without the backbone in their names.
DETECTORS = {
    presets.TorchvisionConfig: "maskrcnn",
    presets.TorchvisionV2Config: "maskrcnn, version 2,",
    presets.TorchvisionKeypointConfig: "keypointrcnn",
    presets.TorchvisionBoxConfig: "fasterrcnn",
    presets.TorchvisionBoxV2Config: "fasterrcnn, version 2,",
}
# Settings that equal the first dimension of an array.
WIDTHS = {
    "BACKBONE_WIDTH": "backbone.body.conv1.weight",
    "TOP_DOWN_PYRAMID_SIZE": "backbone.fpn.layer_blocks.0.0.weight",
    "RPN_CONV_SIZE": "rpn.head.conv.0.0.weight",
    "FPN_CLASSIF_FC_LAYERS_SIZE": "roi_heads.box_head.fc6.weight",
    "MASK_CONV_SIZE": "roi_heads.mask_head.mask_fcn1.weight",
    "KEYPOINT_CONV_SIZE": "roi_heads.keypoint_head.0.weight",
}
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def _convolution(array: np.ndarray) -> np.ndarray:
    return array.transpose(2, 3, 1, 0)


def _dense(array: np.ndarray) -> np.ndarray:
    return array.T


def _boxes(array: np.ndarray) -> np.ndarray:
    """Return rows of (x, y, w, h) as (y, x, h, w)."""
    return array.reshape(-1, 4, *array.shape[1:])[:, [1, 0, 3, 2]].reshape(array.shape)


def _dense_of_map(array: np.ndarray) -> np.ndarray:
    """Return a fully connected layer over (C, 7, 7) as a convolution (7, 7, C, outputs)."""
    outputs, inputs = array.shape
    return array.reshape(outputs, inputs // 49, 7, 7).transpose(2, 3, 1, 0)


def _dense_of_vector(array: np.ndarray) -> np.ndarray:
    return array.T[None, None]


# Pattern of a layer name -> name in this package, and the layout of its kernel.
LAYERS: tuple[tuple[str, str, Layout], ...] = (
    (r"backbone\.fpn\.inner_blocks\.(\d)(?:\.0)?", "fpn_c{2}p{2}", _convolution),
    (r"backbone\.fpn\.inner_blocks\.(\d)\.1", "fpn_c{2}p{2}_bn", _convolution),
    (r"backbone\.fpn\.layer_blocks\.(\d)(?:\.0)?", "fpn_p{2}", _convolution),
    (r"backbone\.fpn\.layer_blocks\.(\d)\.1", "fpn_p{2}_bn", _convolution),
    (r"rpn\.head\.conv(?:\.0\.0)?", "rpn_conv_shared", _convolution),
    (r"rpn\.head\.conv\.1\.0", "rpn_conv_shared2", _convolution),
    (r"rpn\.head\.cls_logits", "rpn_class_raw", _convolution),
    (r"rpn\.head\.bbox_pred", "rpn_bbox_pred", _convolution),
    (r"roi_heads\.box_head\.fc6", "mrcnn_class_conv1", _dense_of_map),
    (r"roi_heads\.box_head\.fc7", "mrcnn_class_conv2", _dense_of_vector),
    (r"roi_heads\.box_head\.5", "mrcnn_class_conv1", _dense_of_map),
    (r"roi_heads\.box_head\.(\d)\.0", "mrcnn_box_conv{1}", _convolution),
    (r"roi_heads\.box_head\.(\d)\.1", "mrcnn_box_bn{1}", _convolution),
    (r"roi_heads\.box_predictor\.cls_score", "mrcnn_class_logits", _dense),
    (r"roi_heads\.box_predictor\.bbox_pred", "mrcnn_bbox_fc", _dense),
    (r"roi_heads\.mask_head\.mask_fcn(\d)", "mrcnn_mask_conv{0}", _convolution),
    (r"roi_heads\.mask_head\.(\d)\.0", "mrcnn_mask_conv{1}", _convolution),
    (r"roi_heads\.mask_head\.(\d)\.1", "mrcnn_mask_bn{1}", _convolution),
    (r"roi_heads\.mask_predictor\.conv5_mask", "mrcnn_mask_deconv", _convolution),
    (r"roi_heads\.mask_predictor\.mask_fcn_logits", "mrcnn_mask", _convolution),
    (r"roi_heads\.keypoint_head\.(\d+)", "mrcnn_keypoint_conv{half}", _convolution),
    (r"roi_heads\.keypoint_predictor\.kps_score_lowres", "mrcnn_keypoint_deconv", _convolution),
)
OF_BOXES = ("rpn_bbox_pred", "mrcnn_bbox_fc")


def by_layer(state: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return the arrays of a state dict by "layer/weight", and the names that are not supported.

    A batch norm's number of batches, and a classifier's last layer, are dropped silently.
    """
    arrays, unknown = {}, []
    for key, array in state.items():
        name, _, leaf = key.rpartition(".")
        if leaf == "num_batches_tracked" or name == "fc":
            continue
        found = _layer(name)
        if found is None:
            unknown.append(key)
            continue
        layer, layout = found
        arrays[f"{layer}/{_leaf(leaf, layer)}"] = _arranged(layer, np.asarray(array), layout)
    return arrays, unknown


def kind(state: Mapping[str, np.ndarray]) -> str:
    """Describe what a state dict looks like."""
    if any(key.startswith("roi_heads.") for key in state):
        return f"{DETECTORS[presets_of(state)]} on {classifier_of(_body(state)) or 'a backbone'}"
    if any(key.startswith("head.") for key in state):
        return "a detector of one stage, such as retinanet_resnet50_fpn"
    if name := classifier_of(state):
        return f"a {name} that classifies"
    blocks, of_body = list(_blocks(state)), list(_blocks(_body(state)))
    if any(of_body):
        return "a network that neither classifies nor detects"
    return f"a classifier with {blocks} blocks" if any(blocks) else "not a torchvision model"


def classifier_of(state: Mapping[str, np.ndarray]) -> str | None:
    """Return the backbone of a classifier's state dict; None if it is not a known classifier."""
    has_bottlenecks = "layer1.0.conv3.weight" in state
    width = np.shape(state.get("layer1.0.conv2.weight", np.empty((0, 0))))[1]
    return CLASSIFIERS.get((_blocks(state), has_bottlenecks, width))


def presets_of(state: Mapping[str, np.ndarray]) -> type[presets.TorchvisionConfig]:
    """Return the settings class for a detector's state dict."""
    heads = {".".join(key.split(".")[1:3]) for key in state if key.startswith("roi_heads.")}
    has_keypoints = any(head.startswith("keypoint") for head in heads)
    has_masks = any(head.startswith("mask") for head in heads)
    if has_keypoints:
        return presets.TorchvisionKeypointConfig
    if "box_head.5" in heads:
        return presets.TorchvisionV2Config if has_masks else presets.TorchvisionBoxV2Config
    return presets.TorchvisionConfig if has_masks else presets.TorchvisionBoxConfig


def settings(state: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return the network settings for a state dict; for a classifier, only the backbone.

    These are the family's differences from `Config`, and what can be inferred from the arrays.

    Raises:
        ValueError: If it belongs to neither a known detector nor a known classifier.
    """
    if name := classifier_of(state):
        return {"CONVENTIONS": TORCHVISION.name, "BACKBONE": name}
    scores = state.get("roi_heads.box_predictor.cls_score.weight")
    if scores is None:
        raise ValueError(f"the file holds {kind(state)}")
    preset = presets_of(state)
    own = {name for kind in preset.__mro__ if kind is not Config for name in vars(kind)}
    found = {name: value for name, value in preset().to_dict().items() if name in own}
    found["NUM_CLASSES"] = len(scores)
    found["HAS_MASKS"] = any(key.startswith("roi_heads.mask_predictor") for key in state)
    found |= {name: len(state[key]) for name, key in WIDTHS.items() if key in state}
    if name := classifier_of(_body(state)):
        found["BACKBONE"] = name
    points = state.get("roi_heads.keypoint_predictor.kps_score_lowres.weight")
    if points is not None and points.shape[1] != preset.NUM_KEYPOINTS:
        found |= {"NUM_KEYPOINTS": points.shape[1], "KEYPOINT_NAMES": [], "KEYPOINT_PAIRS": []}
    if len(scores) == len(COCO_NAMES):
        found["CLASS_NAMES"] = COCO_NAMES
        found["CATEGORY_IDS"] = list(range(len(COCO_NAMES)))
    elif len(scores) == 2 and found.get("NUM_KEYPOINTS"):
        found["CLASS_NAMES"], found["CATEGORY_IDS"] = ["BG", "person"], [0, 1]
    return found


def _body(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the backbone of a detector, or of another network, with a classifier's names."""
    names = (re.match(r"backbone\.(?:body\.)?(.*)", key) for key in state)
    return {match[1]: state[match[0]] for match in names if match}


def _blocks(state: Mapping[str, np.ndarray]) -> tuple[int, ...]:
    """Return the number of blocks in each of a classifier's four stages."""
    return tuple(
        len({key.split(".")[1] for key in state if key.startswith(f"layer{stage}.")})
        for stage in range(1, 5)
    )


def _arranged(layer: str, array: np.ndarray, layout: Layout) -> np.ndarray:
    if layer in OF_BOXES:
        array = _boxes(array)
    return np.ascontiguousarray(layout(array)) if array.ndim > 1 else array


def _leaf(leaf: str, layer: str) -> str:
    is_norm = layer.startswith("bn") or "_bn" in layer
    return (OF_NORM if is_norm else OF_OTHERS).get(leaf, leaf)


def _layer(name: str) -> tuple[str, Layout] | None:
    """Return a layer's name in this package and its kernel layout; None if unknown."""
    for pattern, ours, layout in LAYERS:
        if match := re.fullmatch(pattern, name):
            number = int(match[1]) if match.groups() else 0
            places = {"half": number // 2 + 1}
            return ours.format(number, number + 1, number + 2, **places), layout
    body = _of_body(name.removeprefix("backbone.body."))
    return (body, _convolution) if body else None


def _of_body(name: str) -> str | None:
    if name in ("conv1", "bn1"):
        return {"conv1": "conv1", "bn1": "bn_conv1"}[name]
    match = re.fullmatch(r"layer(\d)\.(\d+)\.(conv|bn|downsample\.)(\d)", name)
    if match is None:
        return None
    if int(match[2]) >= len(LETTERS):  # deeper than any supported network
        return None
    block = f"{int(match[1]) + 1}{LETTERS[int(match[2])]}"
    if match[3] == "downsample.":
        return f"{'res' if match[4] == '0' else 'bn'}{block}_branch1"
    kind = "res" if match[3] == "conv" else "bn"
    return f"{kind}{block}_branch2{LETTERS[int(match[4]) - 1]}"
