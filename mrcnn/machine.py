"""Resources of the machine: processors, memory, GPUs, disk space."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

MEMORY = Path("/proc/meminfo")
CONTAINER = Path("/sys/fs/cgroup")
NVIDIA_DEVICES = Path("/dev")
HIDDEN = ("", "-1")


class Gpu(NamedTuple):
    """A GPU: its name, and its memory in bytes (0 if unknown)."""

    name: str
    memory: int


def processors() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory() -> int | None:
    """Return the available memory in bytes, within the container's limits; None if unknown."""
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
            # Inactive page cache is reclaimed when memory is needed.
            kept = dict(line.split() for line in stat.splitlines())
            found.append(limit - usage + int(kept.get(cache, 0)))
        except (OSError, ValueError):  # the other version of cgroups, or "max": no limit
            continue
    return found


def nvidia_gpus() -> list[Gpu]:
    """Return the NVIDIA GPUs of the machine, whether a library uses them or not.

    Returns none if CUDA_VISIBLE_DEVICES hides all of them.
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


def peak_memory() -> int | None:
    """Return the most memory that this process has had, in bytes; None if unknown."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # getrusage(2)


def free_space(folder: Path) -> int | None:
    """Return the free disk space of an existing or future folder in bytes; None if unknown."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def in_gigabytes(count: float) -> str:
    """Format a number of bytes."""
    return f"{count / 1e9:.1f} GB" if count < 1e10 else f"{count / 1e9:.0f} GB"
