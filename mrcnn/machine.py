"""What the machine has: processors, memory, GPUs, space on its disks."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

MEMORY = Path("/proc/meminfo")
CONTAINER = Path("/sys/fs/cgroup")
NVIDIA_DEVICES = Path("/dev")
HIDDEN = ("", "-1")


class Gpu(NamedTuple):
    """A GPU: its name, and its memory in bytes, 0 where that is not known."""

    name: str
    memory: int


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory() -> int | None:
    """Return how many bytes of memory are to be had, in the container too; None where unknown."""
    try:
        lines = dict(line.split(":", 1) for line in MEMORY.read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
    return min([free, *(limit for limit in _container_limits() if limit >= 0)])


def _container_limits() -> list[int]:
    found = []
    for most, used, cache in (
        ("memory.max", "memory.current", "inactive_file"),
        (
            "memory/memory.limit_in_bytes",
            "memory/memory.usage_in_bytes",
            "total_inactive_file",
        ),
    ):
        try:
            limit, usage = (int((CONTAINER / name).read_text()) for name in (most, used))
            stat = (CONTAINER / most).with_name("memory.stat").read_text()
            # Pages of files that nobody uses now are given back when memory is asked for.
            kept = dict(line.split() for line in stat.splitlines())
            found.append(limit - usage + int(kept.get(cache, 0)))
        except (OSError, ValueError):  # the other version of cgroups, or "max": no limit
            continue
    return found


def nvidia_gpus() -> list[Gpu]:
    """Return the NVIDIA GPUs of the machine, whether a library uses them or not.

    Those that CUDA_VISIBLE_DEVICES hides altogether do not count.
    """
    if os.environ.get("CUDA_VISIBLE_DEVICES") in HIDDEN:
        return []
    has_devices = any(NVIDIA_DEVICES.glob("nvidia[0-9]*"))
    command = shutil.which("nvidia-smi")
    if command is None:
        return [Gpu("an NVIDIA GPU", 0)] if has_devices else []
    query = [command, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True)
        rows = [line.rsplit(",", 1) for line in done.stdout.splitlines() if "," in line]
        return [Gpu(name.strip(), int(float(memory)) << 20) for name, memory in rows]
    except (OSError, ValueError, subprocess.SubprocessError):
        return [Gpu("an NVIDIA GPU", 0)] if has_devices else []


def free_space(folder: Path) -> int | None:
    """Return how many bytes are free where a folder is or will be; None where unknown."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def in_gigabytes(count: float) -> str:
    """Return a number of bytes as text."""
    return f"{count / 1e9:.1f} GB" if count < 1e10 else f"{count / 1e9:.0f} GB"
