"""Files of PyTorch as nobody should have written them, put together by hand."""

import io
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

Made = Iterator[tuple[str, Callable[[Path], None]]]
START, STOP = b"\x80\x02", b"."
ORDERED = b"ccollections\nOrderedDict\n)R"


def text(value: str) -> bytes:
    content = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(content)) + content


def number(value: int) -> bytes:
    content = value.to_bytes((value.bit_length() + 8) // 8, "little", signed=True)
    return b"\x8a" + bytes([len(content)]) + content


def numbers(*values: int) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def storage(key: bytes, count: int = 100, kind: str = "FloatStorage") -> bytes:
    name = b"ctorch\n" + kind.encode() + b"\n"
    return b"(" + text("storage") + name + key + text("cpu") + number(count) + b"tQ"


def tensor(of: bytes, offset: bytes, shape: bytes, strides: bytes) -> bytes:
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + of
        + offset
        + shape
        + strides
        + b"\x89"
        + (ORDERED + b"tR")
    )


def state(**items: bytes) -> bytes:
    pairs = b"".join(text(name) + item for name, item in items.items())
    return START + b"}(" + pairs + b"u" + STOP


def good() -> bytes:
    return tensor(storage(text("0")), number(0), numbers(10, 10), numbers(10, 1))


def write_zip(path: Path, program: bytes, compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/data/0", np.arange(100, dtype="<f4").tobytes())


def programs() -> dict[str, bytes]:
    """Return pickles that are no state dicts."""
    nested = b")0" + b"K\x01" + b"q\x00" + b"".join(b"h\x00h\x00\x86q\x00" for _ in range(64))
    run = {
        "system": b"cposix\nsystem\n(" + text("touch RAN") + b"tR.",
        "eval": b"cbuiltins\neval\n(" + text("open('RAN', 'w')") + b"tR.",
        "inst": b"(" + text("touch RAN") + b"iposix\nsystem\n.",
        "obj": b"(cposix\nsystem\n" + text("touch RAN") + b"o.",
        "newobj": b"cbuiltins\nobject\n)\x81.",
        "stack global": text("posix") + text("system") + b"\x93(" + text("touch RAN") + b"tR.",
        "extension": b"\x82\x01.",
        "getattr": b"cbuiltins\ngetattr\n(ctorch\nFloatStorage\n" + text("mro") + b"tR.",
        "build": b"}}(" + text("__setstate__") + b"cposix\nsystem\nub.",
    }
    shapes = {
        "beyond": (0, (101,), (1,)),
        "before": (-5, (10,), (1,)),
        "backwards": (50, (10,), (-5,)),
        "absurd": (0, (1 << 40, 1 << 40), (1, 1)),
        "enormous": (0, (1 << 700,), (1,)),
        "spread": (0, (1 << 40,), (0,)),
        "jumping": (0, (2, 2), (1 << 61, -(1 << 61))),
        "empty": (0, (1 << 60, 0), (1, 1)),
        "negative": (0, (-1, -100), (1, 1)),
        "uneven": (0, (2, 2), (1,)),
        "of many axes": (0, (1,) * 200, (1,) * 200),
    }
    views = {
        name: state(w=tensor(storage(text("0")), number(o), numbers(*s), numbers(*t)))
        for name, (o, s, t) in shapes.items()
    }
    fine = (number(0), numbers(10), numbers(1))
    return {
        **{f"runs {name}": START + program for name, program in run.items()},
        **{f"view {name}": program for name, program in views.items()},
        "no stop": state(w=good())[:-1],
        "underflow": START + b"0000.",
        "nothing": b"",
        "marks": START + b"(" * 100_000 + b".",
        "hash bomb": START + nested + b"}h\x00K\x01s.",
        "key bomb": START + nested + b"0" + state(w=tensor(storage(b"h\x00"), *fine))[2:],
        "no storage": state(w=tensor(text("0"), *fine)),
        "storage of another kind": state(w=tensor(storage(text("0"), 1, "CudaStorage"), *fine)),
        "missing storage": state(w=tensor(storage(text("7")), *fine)),
        "storage outside": state(w=tensor(storage(text("../../../etc/passwd")), *fine)),
        "text as offset": state(w=tensor(storage(text("0")), text("0"), *fine[1:])),
        "text as shape": state(w=tensor(storage(text("0")), number(0), text("12"), numbers(1, 1))),
        "dict as shape": state(w=tensor(storage(text("0")), number(0), b"}", b"}")),
        "long name": state(**{"w" * 100_000: good()}),
        "name of lines": state(**{"w\n\x1b[31m": good()}),
        "number as name": START + b"}(K\x01" + good() + b"u.",
        "long number": START + b"\x8b" + struct.pack("<i", 1 << 30) + b".",
        "negative length": START + b"\x8b" + struct.pack("<i", -5) + b".",
        "text of a terabyte": START + b"\x8d" + struct.pack("<Q", 1 << 40) + b".",
        "bytes of an exabyte": START + b"\x8e" + struct.pack("<Q", 1 << 60) + b".",
        "copies": START
        + b"]("
        + b"K\x01K\x01\x86" * 5_000
        + b"eq\x00"
        + b"ccollections\nOrderedDict\n(h\x00tR" * 5_000
        + b".",
        "many views": state(**{f"w{i}": good() for i in range(10_000)}),
        "itself": START + b"}q\x00" + text("w") + b"h\x00s.",
        "no text": START + text("\udcff") + b".",
    }


def stream(counts: int, program: bytes) -> bytes:
    """Return a file in the form before PyTorch 1.6."""
    magic = START + number(0x1950A86A20F9469CFC6C) + STOP
    keys = START + b"]" + text("0") + b"a" + STOP
    parts = [magic, START + number(1001) + STOP, START + b"}" + STOP, program, keys]
    return b"".join(parts) + struct.pack("<q", counts) + np.arange(100, dtype="<f4").tobytes()


def files(rng: np.random.Generator) -> Made:
    """Yield names of files and what writes them."""
    for name, program in programs().items():
        yield f"zip {name}.pth", lambda path, p=program: write_zip(path, p)
        yield f"stream {name}.pt", lambda path, p=program: path.write_bytes(stream(100, p))
    for count in (1 << 60, -1, -(1 << 60), 101, 1 << 33):
        content = stream(count, state(w=good()))
        yield f"stream of {count}.pt", lambda path, c=content: path.write_bytes(c)
    for kind in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        yield f"packed {kind}.pth", lambda path, k=kind: write_zip(path, state(w=good()), k)
    whole = io.BytesIO()
    write_zip(whole, state(w=good()))  # type: ignore[arg-type]
    for turn in range(20):
        damaged = bytearray(whole.getvalue())
        for place in rng.integers(len(damaged), size=8):
            damaged[place] = rng.integers(256)
        yield f"damaged {turn}.pth", lambda path, d=bytes(damaged): path.write_bytes(d)
