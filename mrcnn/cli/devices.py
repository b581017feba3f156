"""The option --device: what a command computes on, chosen before the backend is imported."""

import argparse
import os
import re

from mrcnn import machine
from mrcnn.cli import common

VISIBLE = "CUDA_VISIBLE_DEVICES"


def add_option(command: argparse.ArgumentParser) -> None:
    """Add the option."""
    command.add_argument(
        "--device",
        type=_device,
        metavar="DEVICE",
        help="cpu, gpu, or gpu:N for one of several (default: all GPUs, else the CPU)",
    )


def choose(device: str | None) -> None:
    """Have the backend see only this device; call it before TensorFlow or JAX is imported.

    Args:
        device: cpu, gpu, gpu:N or None.

    Raises:
        ValueError: If there is no such GPU.
    """
    if device is None:
        return
    if device == "cpu":
        os.environ[VISIBLE] = "-1"
        os.environ["JAX_PLATFORMS"] = "cpu"
        return
    count = len(machine.nvidia_gpus())
    if not count:
        raise ValueError(f"--device {device}: this machine has no NVIDIA GPU; use --device cpu")
    if ":" not in device:
        return
    number = int(device.partition(":")[2])
    visible = os.environ.get(VISIBLE)
    seen = (
        [each.strip() for each in visible.split(",")] if visible else list(map(str, range(count)))
    )
    if number >= len(seen):
        raise ValueError(
            f"--device {device}: there is no such GPU, they are gpu:0 to gpu:{len(seen) - 1}"
        )
    os.environ[VISIBLE] = seen[number]


def check(device: str | None) -> None:
    """Check that the backend, now imported, uses a GPU if one was asked for.

    Raises:
        ValueError: If it does not see any.
    """
    if device is None or device == "cpu":
        return
    if not used_gpus():
        from mrcnn.training import distribution

        raise ValueError(
            f"--device {device}: the backend does not see the GPU: install it with CUDA "
            f"({distribution.chosen.WITH_GPU}), or use --device cpu"
        )


def used_gpus() -> list[str]:
    """Return the names of the GPUs that the backend uses, which it imports and starts."""
    with common.quiet_start():
        from mrcnn.training import distribution

        return distribution.chosen.used_gpus()


def _device(text: str) -> str:
    if not re.fullmatch(r"cpu|gpu(:\d{1,3})?", text):
        raise argparse.ArgumentTypeError(f"it must be cpu, gpu or gpu:N, got {text!r}")
    return text
