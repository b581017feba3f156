"""Reads state dicts saved by PyTorch, without PyTorch and without unpickling.

A pickle is a small program. Here it is parsed, not executed: the few instructions that build dicts,
tuples and numbers are interpreted, tensors are taken from the file's raw storages, and anything
that would call or import something else is refused. Both formats are supported: the zip archive of
PyTorch 1.6 and later, and the older stream of pickles and storages (`torch/serialization.py`).
"""

import itertools
import math
import os
import pickletools
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from mrcnn.weights.array_files import Budget, archive_of, checked, readable

DTYPES: dict[str, np.dtype] = {
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "DoubleStorage": np.dtype("<f8"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}
OLD_MAGIC = 0x1950A86A20F9469CFC6C
# Globals that a state dict may reference, besides storage types.
DICT = "collections OrderedDict"
TENSOR = "torch._utils _rebuild_tensor_v2"
PARAMETER = "torch._utils _rebuild_parameter"
NUMBERS = ("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "INT", "LONG", "FLOAT")
TEXTS = ("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINSTRING", "SHORT_BINSTRING", "UNICODE")
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
VALUES = (*NUMBERS, *TEXTS, *CONSTANTS)
REMEMBER = ("BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE")
RECALL = ("BINGET", "LONG_BINGET", "GET")
IGNORED = ("PROTO", "FRAME", "STOP")
MARK = object()
MOST_AXES = 32


class Storage(NamedTuple):
    """The values of one or several tensors, by their key in the file."""

    key: str
    dtype: np.dtype


class Tensor(NamedTuple):
    """A view of a storage, in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """Return the arrays of a state dict, or of a checkpoint that contains one, by name.

    Raises:
        ValueError: If the file has another format, is truncated, or is not a dict of arrays.
    """
    with readable(path, "a PyTorch state dict"), open(path, "rb") as file:
        budget = Budget(file)
        is_zip = zipfile.is_zipfile(file)
        file.seek(0)
        content, fetch = _of_zip(file, budget) if is_zip else _of_stream(file)
        state = _state_of(content)
        copies = Budget(file)  # since any number of arrays may be views of one storage
        return checked({name: _array(item, fetch, copies) for name, item in state.items()})


def _state_of(content: Any) -> dict[str, Tensor]:
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise ValueError("it does not hold a dict of arrays")
    state = {
        name: item
        for name, item in content.items()
        if isinstance(name, str) and isinstance(item, Tensor)
    }
    if not state:
        raise ValueError("it holds no arrays")
    return state


def _array(tensor: Tensor, fetch: Callable[[Storage], np.ndarray], budget: Budget) -> np.ndarray:
    numbers = fetch(tensor.storage)
    extent = list(zip(tensor.shape, tensor.strides, strict=True))
    least = min(tensor.offset, *itertools.chain.from_iterable(extent), 0)
    reach = tensor.offset + sum((length - 1) * stride for length, stride in extent)
    is_empty = 0 in tensor.shape
    # Never reads outside the storage.
    is_inside = is_empty or (reach < len(numbers) and math.prod(tensor.shape) <= len(numbers))
    if least < 0 or tensor.offset > len(numbers) or not is_inside:
        raise ValueError(f"an array of shape {tensor.shape} reaches beyond its storage")
    size = numbers.dtype.itemsize
    budget.spend(math.prod(tensor.shape) * size)
    view = np.lib.stride_tricks.as_strided(
        numbers[tensor.offset :], tensor.shape, [stride * size for stride in tensor.strides]
    )
    return view.copy()


def _of_zip(file: BinaryIO, budget: Budget) -> tuple[Any, Callable[[Storage], np.ndarray]]:
    archive = archive_of(file, budget)
    programs = [name for name in archive.namelist() if name.endswith("/data.pkl")]
    if len(programs) != 1:
        raise ValueError(f"it has {len(programs)} pickles data.pkl instead of one")
    program = programs[0]
    folder = program.removesuffix("data.pkl")
    # Caches only the last storage: arrays of one storage are consecutive.
    kept: dict[Storage, np.ndarray] = {}

    def fetch(storage: Storage) -> np.ndarray:
        if storage not in kept:
            numbers = np.frombuffer(read(f"{folder}data/{storage.key}"), storage.dtype)
            budget.spend(numbers.nbytes)
            kept.clear()
            kept[storage] = numbers
        return kept[storage]

    def read(name: str) -> bytes:
        # PyTorch never compresses; a few bytes that expand to gigabytes are not a state dict.
        if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"its part {name} is compressed, which PyTorch never does")
        return archive.read(name)

    return _follow(read(program)), fetch


class _Bounded:
    """A file whose reads, and the memory for them, are bounded by its size."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._size = file, os.fstat(file.fileno()).st_size
        self.tell, self.readline = file.tell, file.readline

    def read(self, count: int) -> bytes:
        """Return exactly `count` bytes."""
        if not 0 <= count <= self._size - self._file.tell():
            raise ValueError("it is cut off")
        return self._file.read(count)


def _of_stream(raw: BinaryIO) -> tuple[Any, Callable[[Storage], np.ndarray]]:
    file: Any = _Bounded(raw)
    if _follow(file) != OLD_MAGIC:
        raise ValueError("it does not begin like a PyTorch file")
    _, _, content, keys = (_follow(file) for _ in range(4))
    dtypes = {item.storage.key: item.storage.dtype for item in _state_of(content).values()}
    storages = {}
    for key in keys:
        count = int(np.frombuffer(file.read(8), "<i8")[0])
        dtype = dtypes.get(key, np.dtype("<f4"))
        storages[key] = np.frombuffer(file.read(count * dtype.itemsize), dtype)
    return content, lambda storage: storages[storage.key]


def _follow(program: bytes | BinaryIO) -> Any:
    """Return what a pickle builds, supporting only the few instructions of state dicts."""
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    for opcode, argument, _ in pickletools.genops(program):
        name = opcode.name
        if name in REMEMBER:
            memo[len(memo) if argument is None else argument] = stack[-1]
        elif name in RECALL:
            stack.append(memo[argument])
        elif name in VALUES:
            stack.append(CONSTANTS.get(name, argument))
        elif name in STEPS:
            STEPS[name](stack)
        elif name == "GLOBAL":
            stack.append(_known(str(argument)))
        elif name not in IGNORED:
            raise ValueError(f"its pickle has the instruction {name}, which no state dict needs")
    return stack.pop()


class Name(str):
    """A function or a type that a state dict may reference."""


def _known(name: str) -> Name:
    module, _, attribute = name.partition(" ")
    if name in (DICT, TENSOR, PARAMETER) or (module == "torch" and attribute in DTYPES):
        return Name(name)
    raise ValueError(
        f"it names {name.replace(' ', '.')}, which no state dict needs; nothing was run"
    )


def _since_mark(stack: list[Any]) -> list[Any]:
    place = len(stack) - 1
    while stack[place] is not MARK:
        place -= 1
        if place < 0:
            raise ValueError("its pickle is damaged")
    items = stack[place + 1 :]
    del stack[place:]
    return items


def _tuple_of(count: int) -> Callable[[list[Any]], None]:
    def step(stack: list[Any]) -> None:
        items = tuple(stack[len(stack) - count :])
        del stack[len(stack) - count :]
        stack.append(items)

    return step


def _set_items(stack: list[Any]) -> None:
    items = _since_mark(stack)
    stack[-1].update(_dict_of(zip(items[::2], items[1::2], strict=True)))


def _set_item(stack: list[Any]) -> None:
    value, key = stack.pop(), stack.pop()
    stack[-1].update(_dict_of([(key, value)]))


def _dict_of(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    """Return a dict with simple keys: hashing nested tuples may take forever."""
    pairs = list(pairs)
    for key, _ in pairs:
        if not isinstance(key, str | int | float | None):
            raise ValueError("its pickle has a dict whose keys are not strings or numbers")
    return dict(pairs)


def _taken_over(*items: list[Any]) -> dict[Any, Any]:
    """Return the result of `OrderedDict()` or `OrderedDict([[key, value], ...])`."""
    found = {}
    for pairs in items:
        found = _dict_of([(key, value) for key, value in pairs])
        pairs.clear()  # a list is consumed once, not copied repeatedly
    return found


def _whole(*numbers: Any) -> tuple[int, ...]:
    if len(numbers) > MOST_AXES or not all(
        isinstance(number, int) and abs(number) < 1 << 62 for number in numbers
    ):
        raise ValueError("its pickle has an array whose shape or strides are not numbers")
    return numbers


def _call(stack: list[Any]) -> None:
    arguments, function = stack.pop(), stack.pop()
    if not isinstance(function, Name):
        raise ValueError("its pickle calls what it has not named")
    if function == DICT:
        stack.append(_taken_over(*arguments))
    elif function == TENSOR:
        storage, offset, shape, strides, *_ = arguments
        if not isinstance(storage, Storage) or max(len(shape), len(strides)) > MOST_AXES:
            raise ValueError("its pickle makes an array of something that is not a storage")
        place = _whole(offset)[0]
        stack.append(Tensor(storage, place, _whole(*shape), _whole(*strides)))
    elif function == PARAMETER:
        stack.append(arguments[0])
    else:
        raise ValueError(f"its pickle calls {function}")


def _storage(stack: list[Any]) -> None:
    kind, name, key, *_ = stack.pop()
    is_named = isinstance(name, Name) and isinstance(key, str | int)
    if kind != "storage" or not is_named:
        raise ValueError("its pickle refers to something that is not a storage")
    stack.append(Storage(str(key), DTYPES[name.partition(" ")[2]]))


def _global(stack: list[Any]) -> None:
    attribute, module = stack.pop(), stack.pop()
    stack.append(_known(f"{module} {attribute}"))


def _drop_state(stack: list[Any]) -> None:
    stack.pop()  # attributes of a dict, such as the versions of modules


STEPS: dict[str, Callable[[list[Any]], Any]] = {
    "MARK": lambda stack: stack.append(MARK),
    "EMPTY_DICT": lambda stack: stack.append({}),
    "EMPTY_LIST": lambda stack: stack.append([]),
    "EMPTY_TUPLE": lambda stack: stack.append(()),
    "TUPLE": lambda stack: stack.append(tuple(_since_mark(stack))),
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "SETITEMS": _set_items,
    "SETITEM": _set_item,
    "APPEND": lambda stack: stack[-2].append(stack.pop()),
    "APPENDS": lambda stack: _extend(stack),
    "REDUCE": _call,
    "BINPERSID": _storage,
    "BUILD": _drop_state,
    "STACK_GLOBAL": _global,
}


def _extend(stack: list[Any]) -> None:
    items = _since_mark(stack)
    stack[-1].extend(items)
