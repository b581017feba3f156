"""State dicts with torchvision's names and the shapes of a small network."""

import re
from collections.abc import Sequence

import numpy as np

from mrcnn.model import MaskRCNN
from mrcnn.weights import hdf5, torchvision

LEAVES = ("weight", "bias", "running_mean", "running_var")
DETECTOR = (
    *(f"backbone.fpn.inner_blocks.{i}.0" for i in range(4)),
    *(f"backbone.fpn.layer_blocks.{i}.0" for i in range(4)),
    "rpn.head.conv.0.0",
    "rpn.head.cls_logits",
    "rpn.head.bbox_pred",
    "roi_heads.box_head.fc6",
    "roi_heads.box_head.fc7",
    "roi_heads.box_predictor.cls_score",
    "roi_heads.box_predictor.bbox_pred",
    *(f"roi_heads.mask_head.mask_fcn{i}" for i in range(1, 5)),
    "roi_heads.mask_predictor.conv5_mask",
    "roi_heads.mask_predictor.mask_fcn_logits",
)


def classifier(model: MaskRCNN, prefix: str = "") -> dict[str, np.ndarray]:
    """Return a ResNet-18, random, whose backbone has the shapes of a model's."""
    names = ["conv1.weight", *(f"bn1.{leaf}" for leaf in LEAVES)]
    for stage in range(1, 5):
        for block in range(2):
            place = f"layer{stage}.{block}"
            names += [f"{place}.conv{i}.weight" for i in (1, 2)]
            names += [f"{place}.bn{i}.{leaf}" for i in (1, 2) for leaf in LEAVES]
        if stage > 1:
            names += [f"layer{stage}.0.downsample.0.weight"]
            names += [f"layer{stage}.0.downsample.1.{leaf}" for leaf in LEAVES]
    state = _of_shapes(model, [prefix + name for name in names])
    return state | {f"{prefix}bn1.num_batches_tracked": np.array(3)}


def detector(model: MaskRCNN) -> dict[str, np.ndarray]:
    """Return a maskrcnn_resnet18_fpn, random, with the shapes of a model."""
    names = [f"{layer}.{leaf}" for layer in DETECTOR for leaf in ("weight", "bias")]
    return classifier(model, "backbone.body.") | _of_shapes(model, names)


def _of_shapes(model: MaskRCNN, names: Sequence[str]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {key: w.shape for key, w in hdf5.weights_by_name(model.inference_model).items()}
    state = {}
    for name in names:
        (key,) = torchvision.by_layer({name: np.zeros(_probe(name))})[0]
        state[name] = rng.uniform(0.5, 1.5, _torch_shape(name, shapes[key])).astype("f")
    return state


def _torch_shape(name: str, shape: Sequence[int]) -> Sequence[int]:
    if len(shape) == 4:
        height, width, inputs, outputs = shape
        is_flat = re.search(r"fc\d\.", name)
        return (outputs, inputs * height * width) if is_flat else (outputs, inputs, height, width)
    return shape[::-1]


def _probe(name: str) -> tuple[int, ...]:
    """Return the least shape of an array of this name."""
    if not name.endswith("weight") or re.search(r"bn\d|downsample\.1", name):
        return (4,)
    if "fc6" in name:
        return (4, 49)
    return (4, 4) if re.search(r"fc7|box_predictor", name) else (4, 1, 1, 1)
