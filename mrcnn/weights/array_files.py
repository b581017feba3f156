"""Named arrays in .npz and .safetensors files, checked against the size of the file."""

import json
import math
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mrcnn.weights.hdf5_content import MOST_UNPACKED, line_of

KINDS = "fiub"  # dtype kinds of weights
OF_SAFETENSORS: dict[str, np.dtype] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),  # the upper half of a float32
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
MOST_HEADER = 100_000_000  # bytes, the format's limit
LOCAL_HEADER = 30  # minimum number of bytes before an archive entry


class Budget:
    """The number of array bytes that a file can still provide."""

    def __init__(self, file: BinaryIO) -> None:
        self.size = os.fstat(file.fileno()).st_size
        self._left = MOST_UNPACKED * self.size

    def spend(self, count: int) -> None:
        """Consume `count` bytes.

        Raises:
            ValueError: If they exceed what the file can hold.
        """
        self._left -= count
        if count < 0 or self._left < 0:
            raise ValueError(f"its arrays claim more than its {self.size} bytes can hold")


@contextmanager
def readable(path: str | Path, kind: str) -> Iterator[None]:
    """Turn any error caused by a damaged file into a one-line ValueError that names it."""
    try:
        yield
    except FileNotFoundError:
        raise
    # Damaged archives, headers and pickles can raise almost any exception in their readers.
    except Exception as error:
        text = line_of(error) or repr(error)
        raise ValueError(f"{path}: cannot be read as {kind}: {text}") from error


def archive_of(file: BinaryIO, budget: Budget) -> zipfile.ZipFile:
    """Return a zip archive whose entries are consecutive and inside the file.

    Raises:
        ValueError: If entries overlap, share a name, or claim more than the file can hold.
        zipfile.BadZipFile: If it is not a zip archive.
    """
    archive = zipfile.ZipFile(file)
    end = 0
    for entry in sorted(archive.infolist(), key=lambda entry: entry.header_offset):
        if entry.header_offset < end:
            raise ValueError(f"its entries overlap at {entry.filename[:80]!r}")
        end = entry.header_offset + LOCAL_HEADER + entry.compress_size
        budget.spend(entry.file_size)
    if end > budget.size:
        raise ValueError("it is cut off")
    if len({entry.filename for entry in archive.infolist()}) < len(archive.infolist()):
        raise ValueError("two of its entries have the same name")
    return archive


def checked(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return arrays whose names are strings and none of which is empty.

    Raises:
        ValueError: For the first invalid one.
    """
    for name, array in arrays.items():
        if not isinstance(name, str) or not name.isprintable() or len(name) > 1_000:
            raise ValueError(f"it has a name that is not a string, {ascii(name)[:40]}")
        if array.size == 0:
            raise ValueError(f"its array {name} of shape {array.shape} is empty")
    return arrays


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
    """Return the arrays of an .npz file by name.

    Raises:
        ValueError: If the file has another format, is damaged, or holds objects.
    """
    with readable(path, "NumPy arrays"), open(path, "rb") as file:
        budget = Budget(file)
        archive = archive_of(file, budget)
        names = [name for name in archive.namelist() if name.endswith(".npy")]
        if not names:
            raise ValueError("it holds no arrays")
        return checked({name.removesuffix(".npy"): _npy(archive, name) for name in names})


def _npy(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(name) as entry:
        version = np.lib.format.read_magic(entry)
        readers = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        if version not in readers:
            raise ValueError(f"{name} has the unknown version {version}")
        shape, is_fortran, dtype = readers[version](entry)
        if dtype.kind not in KINDS:
            raise ValueError(f"{name} holds {dtype}, not numbers; objects (pickle) are not read")
        left = archive.getinfo(name).file_size - entry.tell()
        if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != left:
            raise ValueError(f"{name} of shape {shape} should not have {left} bytes")
        numbers = np.frombuffer(entry.read(), dtype)
        return numbers.reshape(shape, order="F" if is_fortran else "C")


def read_safetensors(path: str | Path) -> dict[str, np.ndarray]:
    """Return the arrays of a .safetensors file by name; bfloat16 is converted to float32.

    Raises:
        ValueError: If the file has another format, or is damaged.
    """
    with readable(path, "a safetensors file"), open(path, "rb") as file:
        size = Budget(file).size
        length = int.from_bytes(file.read(8), "little")
        if length > min(MOST_HEADER, size - 8):
            raise ValueError(f"its header claims {length} bytes, the file has {size}")
        header = json.loads(file.read(length), object_pairs_hook=_distinct)
        if not isinstance(header, dict):
            raise ValueError("its header is not a dict")
        header.pop("__metadata__", None)
        places = {name: _place(name, entry) for name, entry in header.items()}
        end = 0
        for start, stop in sorted((place[2], place[3]) for place in places.values()):
            if start != end:
                raise ValueError("its arrays overlap, or leave gaps")
            end = stop
        if not places or end != size - 8 - length:
            raise ValueError(f"its arrays need {end} bytes, the file has {size - 8 - length}")
        arrays = {}
        for name, (dtype, shape, start, _) in places.items():
            file.seek(8 + length + start)
            arrays[name] = np.fromfile(file, dtype, math.prod(shape)).reshape(shape)
            if header[name]["dtype"] == "BF16":
                arrays[name] = (arrays[name].astype("<u4") << 16).view("<f4")
        return checked(arrays)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("its header has duplicate names")
    return found


def _place(name: str, entry: Any) -> tuple[np.dtype, list[int], int, int]:
    """Return dtype, shape, start and end offset of an array."""
    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
        raise ValueError(f"its header does not describe {ascii(name)[:80]}")
    shape, offsets = entry["shape"], entry["data_offsets"]
    numbers = [*shape, *offsets] if isinstance(shape, list) and isinstance(offsets, list) else [-1]
    is_whole = all(type(number) is int and 0 <= number < 1 << 62 for number in numbers)
    is_known = is_whole and str(entry["dtype"]) in OF_SAFETENSORS
    if not is_known or len(offsets) != 2 or len(shape) > 32:
        raise ValueError(f"its header describes {ascii(name)[:80]} as {entry!r:.120}")
    dtype = OF_SAFETENSORS[entry["dtype"]]
    if math.prod(shape) * dtype.itemsize != offsets[1] - offsets[0]:
        raise ValueError(f"{ascii(name)[:80]} of shape {shape} has the offsets {offsets}")
    return dtype, shape, *offsets
