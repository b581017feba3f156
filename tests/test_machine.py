import logging
import os

import pytest

from mrcnn import machine
from mrcnn.training import distribution

MEMINFO = "MemTotal:       24000000 kB\nMemFree: 1 kB\nMemAvailable:   20000000 kB\n"


@pytest.fixture
def system(tmp_path, monkeypatch):
    """Folders that stand for those of the system, without a GPU and a limit."""
    (tmp_path / "meminfo").write_text(MEMINFO)
    (tmp_path / "group").mkdir()
    (tmp_path / "dev").mkdir()
    monkeypatch.setattr(machine, "MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr(machine, "CONTAINER", tmp_path / "group")
    monkeypatch.setattr(machine, "NVIDIA_DEVICES", tmp_path / "dev")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path


def make_smi(system, output: str, status: int = 0) -> None:
    (system / "dev" / "nvidia0").touch()
    path = system / "bin" / "nvidia-smi"
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\nprintf '%s' '{output}'\nexit {status}\n")
    path.chmod(0o755)


def test_available_memory_is_that_of_the_system(system):
    assert machine.available_memory() == 20_000_000 * 1024
    (system / "meminfo").write_text("nothing\n")
    assert machine.available_memory() is None


@pytest.mark.parametrize(
    ("most", "used", "cache"),
    [
        ("memory.max", "memory.current", "inactive_file"),
        (
            "memory/memory.limit_in_bytes",
            "memory/memory.usage_in_bytes",
            "total_inactive_file",
        ),
    ],
)
def test_available_memory_is_no_more_than_the_containers(system, most, used, cache):
    group = system / "group"
    (group / most).parent.mkdir(exist_ok=True)
    (group / most).write_text("8000000000\n")
    (group / used).write_text("3000000000\n")
    (group / most).with_name("memory.stat").write_text(f"anon 5\n{cache} 1000000000\n")
    assert machine.available_memory() == 6_000_000_000
    (group / most).write_text("max\n")
    assert machine.available_memory() == 20_000_000 * 1024


def test_gpus_are_those_of_the_machine(system, monkeypatch):
    assert machine.nvidia_gpus() == []
    (system / "dev" / "nvidiactl").touch()
    assert machine.nvidia_gpus() == []
    make_smi(system, "NVIDIA A100-SXM4, 40960\nNVIDIA A100-SXM4, 40960\n")
    assert machine.nvidia_gpus() == [("NVIDIA A100-SXM4", 40960 << 20)] * 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert machine.nvidia_gpus() == []


@pytest.mark.parametrize(("output", "status"), [("", 9), ("a, [N/A]\n", 0)])
def test_a_gpu_without_a_driver_that_answers_is_one(system, output, status):
    make_smi(system, output, status)
    assert machine.nvidia_gpus() == [("an NVIDIA GPU", 0)]


def test_a_gpu_that_is_not_used_is_warned_about(system, caplog, monkeypatch):
    monkeypatch.setattr(distribution.chosen, "seen_gpus", lambda: 0)
    with caplog.at_level(logging.WARNING):
        distribution.warn_of_unused_gpu()
    assert caplog.messages == []
    make_smi(system, "NVIDIA A100-SXM4, 40960\n")
    distribution.warn_of_unused_gpu()
    (message,) = caplog.messages
    assert "has NVIDIA A100-SXM4, but TensorFlow computes on the CPU" in message
    assert 'pip install "tensorflow[and-cuda]"' in message
    monkeypatch.setattr(distribution.chosen, "seen_gpus", lambda: 1)  # or hidden by the program
    distribution.warn_of_unused_gpu()
    assert len(caplog.messages) == 1


@pytest.mark.parametrize(
    ("names", "count", "text"),
    [
        (["NVIDIA A100-SXM4"], 1, "1 GPU: NVIDIA A100-SXM4, 43 GB"),
        (["NVIDIA A100-SXM4"] * 4, 2, "2 of 4 GPUs: NVIDIA A100-SXM4, 43 GB each"),
        (["Other"], 1, "1 GPU: Other"),
        ([], 1, "the CPU, 3 threads"),
        ([], 2, "the CPU, 3 threads, in 2 parts"),
    ],
)
def test_devices_are_described(system, monkeypatch, names, count, text):
    make_smi(system, "NVIDIA A100-SXM4, 40960\n")
    monkeypatch.setattr(distribution.chosen, "used_gpus", lambda: names)
    monkeypatch.setattr(distribution.chosen, "threads", lambda: 3)
    assert distribution.describe(count) == text


def test_this_machine_is_described():
    assert machine.processors() == len(os.sched_getaffinity(0))
    assert distribution.describe(1)


def test_free_space_is_that_of_the_folder_that_is_there(tmp_path):
    free = machine.free_space(tmp_path / "not" / "there")
    assert 0 < free == pytest.approx(machine.free_space(tmp_path), rel=0.1)
