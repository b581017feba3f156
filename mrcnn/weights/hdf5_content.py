"""The contents of an HDF5 file, validated before anything is read, and its integrity.

HDF5 lets a file refer to others (external storage, virtual datasets, links) and claim any size.
Here only data inside the file itself is accepted, and no array is read before its size is known.

Files of this package are sealed: every array has the SHA-256 of its name, type, shape and bytes as
an attribute, and the root has that of all of these and of the attributes of every group.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from h5py import h5a, h5d, h5g, h5l, h5o, h5t, h5z

SEAL = "mrcnn_sha256"
KINDS = "fiu"  # dtype kinds of weights
MOST_OBJECTS = 20_000
MOST_DEPTH = 16
MOST_NAME = 1_000  # characters of a path
MOST_OF_ATTRIBUTE = 1 << 24  # bytes
MOST_CHUNKS = 1_000_000
# Maximum compression ratio: weights hardly compress, momentums of zeros do.
MOST_UNPACKED = 16
FILTERS = (h5z.FILTER_DEFLATE, h5z.FILTER_SHUFFLE, h5z.FILTER_FLETCHER32, h5z.FILTER_LZF)


class Array:
    """An array in a file, with known shape and type, to be read with `np.asarray`."""

    def __init__(self, path: str, dataset: h5py.Dataset, seal: str | None) -> None:
        self.path, self.shape, self.dtype = path, dataset.shape, dataset.dtype
        self.nbytes = math.prod(self.shape) * self.dtype.itemsize
        self._dataset, self._seal = dataset, seal

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return the values.

        Raises:
            ValueError: If they do not match the seal.
        """
        del copy
        array = self._dataset[()]
        if self._seal is not None and self._seal != _seal_of_array(self.path, array):
            raise ValueError(f"the array {self.path} is not what was written")
        return np.asarray(array, dtype)


class Content(NamedTuple):
    """The root of a file, its arrays by path, not yet read, and whether it is sealed.

    others: Non-numeric data, such as strings.
    """

    root: h5py.Group
    arrays: dict[str, Array]
    others: list[str]
    is_sealed: bool

    def attribute(self, name: str) -> Any:
        """Return an attribute of the root, or None."""
        return _attribute(self.root, name)

    def has(self, name: str) -> bool:
        """Return whether the root has a group or an array of this name."""
        return self.root.id.links.exists(name.encode())


@contextmanager
def opened(path: Path) -> Iterator[Content]:
    """Yield the contents of a file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not HDF5, is damaged, or contains what no weights file has.
    """
    with opened_file(path) as file:
        with readable(path):
            content = _looked_at(file, os.path.getsize(path))
        yield content


@contextmanager
def opened_file(path: Path) -> Iterator[h5py.File]:
    """Yield the open file without checks; see `opened`."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: there is no such weights file")
    try:
        file = h5py.File(path, "r")
    except Exception as error:
        hint = "it is cut off or not an HDF5 file"
        with open(path, "rb") as raw:
            if raw.read(40).startswith(b"version https://git-lfs"):
                hint = "it is a Git LFS pointer; fetch the file itself with `git lfs pull`"
        reason = f"{path}: cannot be read as a weights file: {hint} ({line_of(error)})"
        raise ValueError(reason) from error
    with file:
        yield file


@contextmanager
def readable(path: str | Path) -> Iterator[None]:
    """Turn any error caused by a damaged file into a one-line ValueError that names it."""
    try:
        yield
    # The HDF5 library raises various errors: KeyError, OSError, RuntimeError, TypeError.
    except Exception as error:
        raise ValueError(
            f"{path}: is damaged, or not a weights file: {line_of(error)}; use another copy"
        ) from error


def line_of(error: Exception) -> str:
    """Return an error's message as one short line."""
    text = "".join(letter if letter.isprintable() else " " for letter in str(error))
    return text[:300]


def seal(file: h5py.File) -> None:
    """Add the checksums of its contents to a file."""
    groups, datasets = _walked(file)
    for path, dataset in datasets.items():
        dataset.attrs[SEAL] = _seal_of_array(path, dataset[()])
    file.attrs[SEAL] = _seal_of_all(groups, datasets)


def _looked_at(file: h5py.File, size: int) -> Content:
    groups, datasets = _walked(file)
    root = groups[""]
    seals = {path: _attribute(each, SEAL) for path, each in datasets.items()}
    found = _attribute(root, SEAL)
    # Damage may remove the root's seal, but hardly those of all arrays.
    is_sealed = found is not None or any(each is not None for each in seals.values())
    if is_sealed and found != _seal_of_all(groups, datasets):
        raise ValueError("its names, shapes or settings are not what was written")
    arrays, others = {}, []
    for path, dataset in sorted(datasets.items()):
        _check_place(path, dataset)
        is_number = dataset.dtype.kind in KINDS and dataset.dtype.itemsize <= 8
        if is_number and dataset.shape is not None:
            _check_size(path, dataset)
            arrays[path] = Array(path, dataset, seals[path])
        else:
            others.append(path)
    stored = sum(dataset.id.get_storage_size() for dataset in datasets.values())
    if stored > size or sum(array.nbytes for array in arrays.values()) > MOST_UNPACKED * size:
        raise ValueError(f"its arrays claim more than its {size} bytes can hold")
    return Content(root, arrays, others, is_sealed)


def _walked(file: h5py.File) -> tuple[dict[str, h5py.Group], dict[str, h5py.Dataset]]:
    """Return the groups and datasets of a file by path, each once, the root as ""."""
    groups: dict[str, h5py.Group] = {"": file["/"]}
    datasets: dict[str, h5py.Dataset] = {}
    seen = {h5o.get_info(groups[""].id).addr}
    pending = [""]
    while pending:
        above = pending.pop()
        group = groups[above].id
        for name in _names(group):
            path = f"{above}/{_text(name)}".lstrip("/")
            if len(seen) > MOST_OBJECTS or path.count("/") > MOST_DEPTH or len(path) > MOST_NAME:
                raise ValueError("its groups are nested deeper than those of weights files")
            if group.links.get_info(name).type != h5l.TYPE_HARD:
                raise ValueError(f"{path} is a link, which weights files never contain")
            node = h5o.open(group, name)
            address = h5o.get_info(node).addr
            if address in seen:
                continue  # a second name of the same object, perhaps of a parent group
            seen.add(address)
            if isinstance(node, h5g.GroupID):
                groups[path] = h5py.Group(node)
                pending.append(path)
            elif isinstance(node, h5d.DatasetID):
                datasets[path] = h5py.Dataset(node)
    return groups, datasets


def _names(group: h5g.GroupID) -> list[bytes]:
    names: list[bytes] = []

    def note(name: bytes) -> bool | None:
        names.append(name)
        return True if len(names) > MOST_OBJECTS else None  # stops the iteration

    group.links.iterate(note)
    return sorted(names)


def _text(name: bytes) -> str:
    text = name.decode("utf-8", "replace")
    if not text.isprintable() or "/" in text or "\ufffd" in text:
        raise ValueError(f"it has a name that is not a string, {text[:40]!r}")
    return text


def _check_place(path: str, dataset: h5py.Dataset) -> None:
    """Raise ValueError for an array stored in another file."""
    properties = dataset.id.get_create_plist()
    if properties.get_layout() == h5d.VIRTUAL or properties.get_external_count():
        raise ValueError(f"{path} takes its data from another file, which weights files never do")


def _check_size(path: str, dataset: h5py.Dataset) -> None:
    """Raise ValueError for an array whose claimed size does not match its storage."""
    properties = dataset.id.get_create_plist()
    filters = [properties.get_filter(place)[0] for place in range(properties.get_nfilters())]
    if unknown := set(filters) - set(FILTERS):
        raise ValueError(f"{path} is compressed with the unknown filters {sorted(unknown)}")
    size = math.prod(dataset.shape) * dataset.id.get_type().get_size()
    if properties.get_layout() != h5d.CHUNKED:
        if dataset.id.get_storage_size() != size:
            raise ValueError(f"{path} claims {size} bytes and has {dataset.id.get_storage_size()}")
        return
    chunks = properties.get_chunk()
    count = math.prod(-(-side // chunk) for side, chunk in zip(dataset.shape, chunks, strict=True))
    of_chunk = math.prod(chunks) * dataset.id.get_type().get_size()
    if count > MOST_CHUNKS or (size and of_chunk > 64 * size + (1 << 20)):
        raise ValueError(f"{path} has chunks of {of_chunk} bytes, too large for an array of {size}")
    if dataset.id.get_num_chunks() != count:
        raise ValueError(f"{path} claims {size} bytes, which were never written")


def _attributes(node: h5py.Group) -> dict[str, Any]:
    """Return the attributes of a group except the seal."""
    names = [
        _text(h5a.open(node.id, index=place).name) for place in range(h5a.get_num_attrs(node.id))
    ]
    return {name: _attribute(node, name) for name in sorted(names) if name != SEAL}


def _attribute(node: h5py.Group | h5py.Dataset, name: str) -> Any:
    """Return an attribute: strings as str, anything else as an array; None if there is none."""
    if not h5a.exists(node.id, name.encode()):
        return None
    attribute = h5a.open(node.id, name.encode())
    kind = attribute.get_type()
    count = math.prod(attribute.shape)
    is_plain = isinstance(kind, h5t.TypeStringID | h5t.TypeIntegerID | h5t.TypeFloatID)
    if (
        not is_plain
        or max(count * kind.get_size(), attribute.get_storage_size()) > MOST_OF_ATTRIBUTE
    ):
        raise ValueError(f"its attribute {name} is not a string or number of a sensible size")
    value = node.attrs[name]
    if isinstance(value, str) and len(value) > MOST_OF_ATTRIBUTE:
        raise ValueError(f"its attribute {name} has {len(value)} characters")
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else np.asarray(value)


def _seal_of_array(path: str, array: Any) -> str:
    array = np.asarray(array)
    digest = hashlib.sha256(json.dumps([path, array.dtype.str, list(array.shape)]).encode())
    digest.update(np.ascontiguousarray(array).data if array.size else b"")
    return digest.hexdigest()


def _seal_of_all(groups: dict[str, h5py.Group], datasets: dict[str, h5py.Dataset]) -> str:
    attributes = [
        [path, name, value if isinstance(value, str) else [value.dtype.str, value.tolist()]]
        for path, group in sorted(groups.items())
        for name, value in [("", ""), *_attributes(group).items()]
    ]
    arrays = [
        [path, dataset.dtype.str, dataset.shape, _attribute(dataset, SEAL)]
        for path, dataset in sorted(datasets.items())
    ]
    # Fixed-length strings are bytes, which JSON cannot represent.
    text = json.dumps([attributes, arrays], default=repr)
    return hashlib.sha256(text.encode()).hexdigest()
