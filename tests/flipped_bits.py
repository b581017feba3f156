"""Flips bits at random places of a checkpoint: what still loads must be what was written.

    python flipped_bits.py [COUNT [SEED]]

prints how many of COUNT (400) flips were refused, and how many met nothing that is read.
"""

import os
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np
from small_model import randomized, tiny_model, values

from mrcnn.weights import hdf5

SETTINGS = {"config": {"NAME": "tiny", "NUM_CLASSES": 3, "CLASS_NAMES": ["BG", "a", "b"]}}


def written(path: Path) -> dict[str, np.ndarray]:
    """Write a small checkpoint with settings and an optimizer's state; return its weights."""
    model = randomized(tiny_model(), seed=1)
    state = {f"{key}:SGD.momentum": array / 7 for key, array in values(model).items()}
    state = {key.replace("/", "."): array for key, array in state.items()}
    hdf5.save(path, model, SETTINGS, state | {"iterations": np.array(12)})
    return values(model)


def content(path: Path) -> dict[str, np.ndarray]:
    """Return all that is read of a checkpoint."""
    settings = np.array(repr(hdf5.read_settings(path)))
    state = {f"optimizer/{key}": array for key, array in hdf5.read_optimizer(path).items()}
    return {**hdf5.read(path), **state, "settings": settings}


def differing(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> list[str]:
    """Return the names of what two checkpoints do not have alike, bit by bit."""
    alike = {
        key
        for key in found.keys() & expected.keys()
        if (found[key].dtype, found[key].shape, found[key].tobytes())
        == (expected[key].dtype, expected[key].shape, expected[key].tobytes())
    }
    return sorted((found.keys() | expected.keys()) - alike)


def refused_and_harmless(folder: Path, count: int, seed: int = 0) -> tuple[int, int]:
    """Return how many flips were refused, in one line, and how many changed nothing.

    Raises:
        AssertionError: A flipped bit was loaded.
    """
    path = folder / "flipped.h5"
    written(path)
    whole, expected = path.read_bytes(), content(path)
    rng = np.random.default_rng(seed)
    refused = 0
    for place in rng.integers(8 * len(whole), size=count).tolist():
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            found = content(path)
        except ValueError as error:
            refused += 1
            if str(path) not in str(error) or "\n" in str(error):
                raise AssertionError(f"bit {place}: {error}") from error
        else:
            wrong = differing(found, expected)
            assert not wrong, f"bit {place} was loaded: {wrong}"
    return refused, count - refused


def places_of(path: Path) -> dict[str, int]:
    """Return how many bytes of a file are arrays, and how many are all else."""
    with h5py.File(path) as file:
        sizes: list[int] = []
        file.visititems(
            lambda _, node: (
                sizes.append(node.id.get_storage_size()) if isinstance(node, h5py.Dataset) else None
            )
        )
    return {"arrays": sum(sizes), "all else": os.path.getsize(path) - sum(sizes)}


if __name__ == "__main__":
    numbers = [int(text) for text in sys.argv[1:]]
    with tempfile.TemporaryDirectory() as name:
        refused, harmless = refused_and_harmless(Path(name), *(numbers or [400]))
        written(Path(name) / "whole.h5")
        print(f"{refused} refused, {harmless} changed nothing that is read, 0 loaded")
        print(places_of(Path(name) / "whole.h5"))
