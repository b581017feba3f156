"""Milliseconds and memory beside torchvision's on the same GPU, in one run: a table.

    KERAS_BACKEND=jax python benchmarks/gpu.py                        # 832 x 1344, bfloat16
    KERAS_BACKEND=jax python benchmarks/gpu.py --json gpu.json
    KERAS_BACKEND=jax python benchmarks/gpu.py --size 128 128 --batch 1 --train-batch 1 --rounds 1

Needs jax and, for the other half, torch and torchvision. Both sides are maskrcnn_resnet50_fpn of
the same random weights on the same pixels, compute convolutions in the same precision, and take
turns, so that what else the machine does falls on both alike; a figure is the median of all turns.

    forward    images on the device to boxes, scores and 28 x 28 masks on the device. Normalization,
               and the pasting of masks into images, are left out on both sides
    to host    the same of ours by `predict_on_batch`: images from the host, everything back to it
    train      forward, losses, gradients of all layers, clipping and update; data are on the
               device. Batch norm keeps its statistics on both sides; in ours its scale and shift
               learn, too

How to read the memory: "ours" is what the compiled program holds at once, arguments and results
included, by XLA's account; torchvision's is the most that its allocator gave out at once in a run,
its weights included. Neither counts what the frameworks keep in reserve.
"""

import argparse
import json
import os
import statistics
import time
import zlib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("KERAS_BACKEND", "jax")
# JAX would take three quarters of the memory at once and leave torch too little.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import keras
import numpy as np
import torch
from torchvision.models.detection import MaskRCNN as TorchMaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.image_list import ImageList
from torchvision.ops.misc import FrozenBatchNorm2d

from mrcnn.config import Config
from mrcnn.geometry import images as image_math
from mrcnn.network import network as networks
from mrcnn.predictor import Predictor
from mrcnn.presets import TorchvisionConfig
from mrcnn.training import optimizers, training_model
from mrcnn.weights import hdf5, torchvision

NUM_CLASSES = 91
NUM_OBJECTS = 8
MINI_MASK = 56
MEGA = 2**20


class Side(NamedTuple):
    """One of two programs: a run of it, which waits for its end, and its memory in MiB."""

    run: Callable[[], Any]
    memory: Callable[[], float]


class Case(NamedTuple):
    """One row of the table; torchvision's side where it has one."""

    label: str
    ours: Side
    theirs: Side | None


def main() -> None:
    """Measure, print the table and write the JSON file."""
    options = _parser().parse_args()
    machine = describe_machine()
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    print(f"{options.size[0]} x {options.size[1]}, {options.dtype}")
    print(
        f"\n{'what':24} {'ours ms':>9} {'theirs ms':>10} {'ratio':>6} {'ours MiB':>9} {'theirs':>7}"
    )
    ours, theirs = Ours(options), Theirs(options)
    theirs.load(ours)
    makers = [lambda batch=batch: forward(ours, theirs, batch) for batch in options.batch]
    makers += [lambda: to_host(ours, options.batch[0])]
    makers += [lambda batch=batch: training(ours, theirs, batch) for batch in options.train_batch]
    rows = [measure(maker(), options.rounds, options.runs) for maker in makers]
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1))


def measure(case: Case, rounds: int, runs: int) -> dict[str, Any]:
    """Let both sides of a case take turns; print and return its row."""
    sides = {"ours": case.ours, "theirs": case.theirs}
    sides = {name: side for name, side in sides.items() if side is not None}
    row: dict[str, Any] = {"label": case.label, **{f"{name} ms": [] for name in sides}}
    for name, side in sides.items():
        for _ in range(2):
            side.run()
        row[f"{name} MiB"] = side.memory()
    for _ in range(rounds):
        for name, side in sides.items():
            for _ in range(runs):
                started = time.perf_counter()
                side.run()
                row[f"{name} ms"].append(1000 * (time.perf_counter() - started))
    medians = {name: statistics.median(row[f"{name} ms"]) for name in sides}
    row["medians"] = medians
    print(_line(case.label, medians, row), flush=True)
    return row


def _line(label: str, medians: dict[str, float], row: dict[str, Any]) -> str:
    text = f"{label:24} {medians['ours']:9.1f}"
    if "theirs" not in medians:
        return f"{text} {'':10} {'':6} {row['ours MiB']:9.0f}"
    ratio = medians["ours"] / medians["theirs"]
    memory = f"{row['ours MiB']:9.0f} {row['theirs MiB']:7.0f}"
    return f"{text} {medians['theirs']:10.1f} {ratio:6.2f} {memory}"


def forward(ours: "Ours", theirs: "Theirs", batch: int) -> Case:
    """Return the case of a forward pass, and print what it finds."""
    program, arguments = ours.forward(batch)
    counts = [int((np.asarray(program(*arguments)["detections"])[..., 4] > 0).sum())]
    run = theirs.forward(batch)
    counts.append(sum(len(found["scores"]) for found in run()))
    print(f"  detections of {batch} image(s): {counts[0]} and {counts[1]}")
    return Case(
        f"forward, batch {batch}",
        Side(lambda: jax.block_until_ready(program(*arguments)), lambda: program_memory(program)),
        Side(theirs.waiting(run), lambda: theirs.memory(run)),
    )


def to_host(ours: "Ours", batch: int) -> Case:
    """Return the case of a forward pass as `MaskRCNN.detect` runs it."""
    inputs = ours.inputs(batch)
    side = Side(lambda: ours.predictor.run(inputs), lambda: float("nan"))
    return Case(f"to host, batch {batch}", side, None)


def training(ours: "Ours", theirs: "Theirs", batch: int) -> Case:
    """Return the case of a training step, and print the losses of the first."""
    step, program = ours.training(batch)
    run = theirs.training(batch)
    losses = step(), run()
    print(f"  losses of the first step: {losses[0]:.3f} and {losses[1]:.3f}")
    return Case(
        f"train, batch {batch}",
        Side(step, lambda: program_memory(program)),
        Side(theirs.waiting(run), lambda: theirs.memory(run)),
    )


def program_memory(program: Any) -> float:
    """Return what a compiled program holds at once, MiB."""
    sizes = program.memory_analysis()
    if sizes is None:
        return float("nan")
    whole = sizes.argument_size_in_bytes + sizes.output_size_in_bytes + sizes.temp_size_in_bytes
    return (whole - sizes.alias_size_in_bytes) / MEGA


class Ours:
    """This package's network, compiled by JAX."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.size = tuple(options.size)
        precision = "float32" if options.dtype == "float32" else "mixed_bfloat16"
        self.config: Config = TorchvisionConfig().replace(
            NAME="gpu",
            NUM_CLASSES=NUM_CLASSES,
            IMAGE_RESIZE_MODE="none",
            PRECISION=precision,
            MINI_MASK_SHAPE=(MINI_MASK, MINI_MASK),
            MAX_GT_INSTANCES=NUM_OBJECTS,
        )
        self.config.IMAGE_SHAPE = np.array([*self.size, 3])
        self.network = networks.Network(self.config)
        self.predictor = Predictor(self.network.inference, self.config)

    def inputs(self, batch: int) -> list[np.ndarray]:
        """Return molded images, their records and anchors."""
        meta = image_math.compose_meta(
            0, (*self.size, 3), (*self.size, 3), (0, 0, *self.size), 1, np.ones(NUM_CLASSES)
        )
        anchors = self.predictor.anchors(self.size)
        copies = [np.repeat(array[None], batch, axis=0) for array in (meta, anchors)]
        return [pixels(batch, self.size), copies[0].astype(np.float32), copies[1]]

    def forward(self, batch: int) -> tuple[Any, tuple]:
        """Return the compiled detector, and its arguments on the device."""
        model = self.predictor.run.model

        def detect(trainable: list, others: list, inputs: list) -> dict[str, Any]:
            return model.stateless_call(trainable, others, inputs, training=False)[0]

        weights = [[v.value for v in vs] for vs in _variables(model)]
        arguments = (*weights, jax.device_put(self.inputs(batch)))
        return jax.jit(detect).lower(*arguments).compile(), arguments

    def training(self, batch: int) -> tuple[Callable[[], float], Any]:
        """Return a step, which returns its loss, and the compiled program."""
        model = training_model.TrainingModel(self.network, self.config)
        model.compile(optimizers.make_optimizer(self.config, 1e-6, 0.9))
        model._build_optimizer()
        groups = (*_variables(model), model.optimizer.variables, model.metrics_variables)
        # Copies, since a step takes the place of what it is given.
        state = tuple([jax.numpy.copy(v.value) for v in group] for group in groups)
        data = jax.device_put(self._truth(batch))
        program = jax.jit(model.train_step, donate_argnums=0).lower(state, (data,)).compile()
        held = [state]

        def step() -> float:
            logs, held[0] = program(held[0], (data,))
            return float(jax.block_until_ready(logs)["loss"])

        return step, program

    def _truth(self, batch: int) -> dict[str, np.ndarray]:
        images, metas, _ = self.inputs(batch)
        boxes = objects(batch, self.size)
        masks = np.ones((batch, NUM_OBJECTS, MINI_MASK, MINI_MASK), np.uint8)
        mean, std = self.config.MEAN_PIXEL, self.config.PIXEL_STD
        return {
            "input_image": np.clip(images * std + mean, 0, 255).astype(np.uint8),
            "input_image_meta": metas,
            "input_gt_class_ids": np.ones((batch, NUM_OBJECTS), np.int32),
            "input_gt_boxes": boxes,
            "input_gt_masks": masks,
            "input_seed": np.arange(batch, dtype=np.int32),
        }


class Theirs:
    """torchvision's network."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.size = tuple(options.size)
        self.dtype = getattr(torch, options.torch_dtype or options.dtype)
        self.format = torch.channels_last if options.channels_last else torch.contiguous_format
        torch.backends.cudnn.benchmark = True
        backbone = resnet_fpn_backbone(
            backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d, trainable_layers=5
        )
        self.model = TorchMaskRCNN(backbone, NUM_CLASSES)

    def load(self, ours: Ours) -> None:
        """Give both networks the same weights, functions of their names."""
        state = {
            name: seeded(name, tuple(weight.shape))
            for name, weight in self.model.state_dict().items()
        }
        self.model.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()})
        self.model.to(self.device, memory_format=self.format)
        arrays, unknown = torchvision.by_layer(state)
        report = hdf5.assign("torchvision", arrays, ours.network.inference)
        assert not unknown, unknown
        assert not report.missing, report.missing

    def images(self, batch: int) -> ImageList:
        """Return the images on the device."""
        tensor = torch.from_numpy(np.moveaxis(pixels(batch, self.size), -1, 1).copy())
        tensor = tensor.to(self.device).contiguous(memory_format=self.format)
        return ImageList(tensor, [self.size] * batch)

    def forward(self, batch: int) -> Callable[[], list[dict[str, torch.Tensor]]]:
        """Return what finds the objects of images."""
        images, model = self.images(batch), self.model

        @torch.inference_mode()
        def run() -> list[dict[str, torch.Tensor]]:
            model.eval()
            with torch.autocast(self.device, self.dtype, self.dtype != torch.float32):
                features = model.backbone(images.tensors)
                proposals, _ = model.rpn(images, features)
                return model.roi_heads(features, proposals, images.image_sizes)[0]

        return run

    def training(self, batch: int) -> Callable[[], float]:
        """Return a training step, which returns its loss."""
        images, model = self.images(batch), self.model
        optimizer = torch.optim.SGD(model.parameters(), 1e-6, 0.9, weight_decay=1e-4)
        targets = [self._target(boxes) for boxes in objects(batch, self.size)]

        def run() -> float:
            model.train()
            with torch.autocast(self.device, self.dtype, self.dtype != torch.float32):
                features = model.backbone(images.tensors)
                proposals, of_rpn = model.rpn(images, features, targets)
                _, of_rois = model.roi_heads(features, proposals, images.image_sizes, targets)
                loss = sum((of_rpn | of_rois).values())
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            return float(loss.detach())

        return run

    def _target(self, boxes: np.ndarray) -> dict[str, torch.Tensor]:
        masks = np.zeros((NUM_OBJECTS, *self.size), np.uint8)
        for mask, (top, left, bottom, right) in zip(masks, boxes.astype(int), strict=True):
            mask[top:bottom, left:right] = 1
        target = {
            "boxes": torch.from_numpy(boxes[:, [1, 0, 3, 2]].copy()),
            "labels": torch.ones(NUM_OBJECTS, dtype=torch.int64),
            "masks": torch.from_numpy(masks),
        }
        return {name: tensor.to(self.device) for name, tensor in target.items()}

    def waiting(self, run: Callable[[], Any]) -> Callable[[], Any]:
        """Return a run that ends when the device has ended."""

        def whole() -> None:
            run()
            if self.device == "cuda":
                torch.cuda.synchronize()

        return whole

    def memory(self, run: Callable[[], Any]) -> float:
        """Return the most that a run allocates at once, MiB."""
        if self.device != "cuda":
            return float("nan")
        torch.cuda.reset_peak_memory_stats()
        run()
        return torch.cuda.max_memory_allocated() / MEGA


def pixels(batch: int, size: tuple[int, int]) -> np.ndarray:
    """Return normalized images: (B, H, W, 3) float32."""
    return np.random.default_rng(0).standard_normal((batch, *size, 3), np.float32)


def objects(batch: int, size: tuple[int, int]) -> np.ndarray:
    """Return boxes of a tenth to a half of the image's sides: (B, N, 4) float32, pixels."""
    rng = np.random.default_rng(1)
    low = rng.uniform(0, 0.5, (batch, NUM_OBJECTS, 2))
    sides = rng.uniform(0.1, 0.5, (batch, NUM_OBJECTS, 2))
    return (np.concatenate([low, low + sides], axis=-1) * np.tile(size, 2)).round().astype("f")


def seeded(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return the weights of a name, such that activations stay in range and objects are found."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    leaf = name.rpartition(".")[2]
    if leaf == "weight" and len(shape) > 1:
        gain = 0.2 if "bbox_pred" in name else 12 if "cls_score" in name else 1
        return (gain * rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype("f")
    if leaf in ("weight", "running_var"):
        return rng.uniform(0.5, 1.0 if leaf == "weight" else 1.5, shape).astype("f")
    return ((0.05 if leaf == "bias" else 0.1) * rng.standard_normal(shape)).astype("f")


def describe_machine() -> dict[str, str]:
    """Return the device and the versions."""
    packages = ("jax", "keras", "torch", "torchvision")
    return {
        "device": jax.devices()[0].device_kind,
        "torch's": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        **{package: metadata.version(package) for package in packages},
    }


def _variables(model: keras.Model) -> tuple[list, list]:
    return model.trainable_variables, model.non_trainable_variables


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--size", type=int, nargs=2, default=(832, 1344), metavar=("H", "W"), help="pixels")
    add("--batch", type=int, nargs="+", default=[1, 4, 8], metavar="N", help="of forward passes")
    add("--train-batch", type=int, nargs="*", default=[4], metavar="N", help="of training steps")
    add("--dtype", choices=("bfloat16", "float32"), default="bfloat16", help="of convolutions")
    add("--torch-dtype", choices=("float16",), help="another one for torchvision's")
    add("--channels-last", action="store_true", help="torchvision's memory format")
    add("--rounds", type=int, default=10, metavar="N", help="turns of each side")
    add("--runs", type=int, default=5, metavar="N", help="in a turn")
    add("--json", type=Path, metavar="OUT", help="also write every run's milliseconds")
    return parser


if __name__ == "__main__":
    main()
