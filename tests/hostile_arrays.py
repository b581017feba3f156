"""Files .npz and .safetensors as nobody should have written them."""

import io
import json
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

Made = Iterator[tuple[str, Callable[[Path], None]]]
NAME = "layer1.0.conv1.weight"


def npy(header: str, content: bytes = b"\0" * 400, version: bytes = b"\x01\x00") -> bytes:
    text = header.encode()
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text + content


def shaped(shape: str, descr: str = "'<f4'") -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n"


def zipped(entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return content.getvalue()


def patched(content: bytes, offset: int, value: int) -> bytes:
    """Return an archive whose first central entry has another number at an offset."""
    place = content.index(b"PK\x01\x02") + offset
    return content[:place] + struct.pack("<I", value) + content[place + 4 :]


def npz_files(rng: np.random.Generator) -> Made:
    """Yield names of files and what writes them."""
    fine = npy(shaped("(10, 10)"))
    evil = "__import__('os').system('touch RAN')"
    headers = {
        "objects": shaped("(1,)", "'|O'"),
        "texts": shaped("(1,)", "'<U10'"),
        "records": shaped("(1,)", "[('a', '<f4'), ('b', '|O')]"),
        "times": shaped("(50,)", "'<M8[s]'"),
        "complex": shaped("(50,)", "'<c8'"),
        "program": evil,
        "program as shape": shaped(f"({evil},)"),
        "no dict": "[1, 2]",
        "deep": "(" * 5_000,
        "long": shaped("(10, 10)") + " " * 60_000,
        **{
            f"shape {shape}": shaped(shape)
            for shape in (
                "(-1, -100)",
                "(1000000000000,)",
                "(1 << 60,)",
                "(1, 10, 11)",
                "(0,)",
                "(1000000000, 0)",
                "(10.0, 10.0)",
                "'ab'",
                "(True, 100)",
                "(9999999999999999999999, 0)",
            )
        },
    }
    made = {f"header {name}": zipped({f"{NAME}.npy": npy(h)}) for name, h in headers.items()}
    stored = zipped({f"{NAME}.npy": fine, "b.npy": fine})
    bomb = npy(shaped(f"({3 * 10**7},)", "'|i1'"), b"\0" * 3 * 10**7)
    made |= {
        "bomb": zipped({f"{NAME}.npy": bomb}, zipfile.ZIP_DEFLATED),
        "bombs": zipped({f"{i}.npy": bomb[: 10**7] for i in range(5)}, zipfile.ZIP_DEFLATED),
        "twice": zipped({"a.npy": fine, "b.npy": fine}).replace(b"b.npy", b"a.npy"),
        "claims more": patched(stored, 24, 1 << 31),
        "claims packed": patched(stored, 20, 1 << 31),
        "claims a place": patched(stored, 42, 1 << 31),
        "overlap": patched(zipped({"b.npy": fine, f"{NAME}.npy": fine})[::1], 42, 450),
        "encrypted": patched(stored, 8, 1),
        "nothing": zipped({}),
        "no arrays": zipped({"readme.txt": b"hello"}),
        "version": zipped({f"{NAME}.npy": npy(shaped("(10, 10)"), version=b"\x09\x00")}),
        "outside": zipped({"../../evil.npy": fine}),
        "name of lines": zipped({"a\n\x1b[31m.npy": fine}),
        "long name": zipped({"a" * 60_000 + ".npy": fine}),
        "other network": zipped({f"{NAME}.npy": fine}),
        "NaN": zipped({"conv1.weight.npy": npy(shaped("(1, 1, 10, 10)"), b"\xff" * 400)}),
        "vector for a kernel": zipped({"conv1.weight.npy": npy(shaped("(100,)"))}),
        "classes without weights": zipped(
            {"roi_heads.box_predictor.cls_score.weight.npy": npy(shaped("(1000000000, 0)"), b"")}
        ),
        "number for classes": zipped(
            {"roi_heads.box_predictor.cls_score.weight.npy": npy(shaped("()"), b"\0" * 4)}
        ),
        "no archive": b"PK\x03\x04" + bytes(100),
        "empty": b"",
    }
    for turn in range(15):
        damaged = bytearray(stored)
        for place in rng.integers(len(damaged), size=8):
            damaged[place] = rng.integers(256)
        made[f"damaged {turn}"] = bytes(damaged)
    for name, content in made.items():
        yield f"{name.replace('/', '_')}.npz", lambda path, c=content: path.write_bytes(c)


def tensors(header: Any, content: bytes = b"\0" * 400, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + content


def safetensors_files() -> Made:
    """Yield names of files and what writes them."""

    def one(**changed: Any) -> dict[str, Any]:
        return {NAME: {"dtype": "F32", "shape": [10, 10], "data_offsets": [0, 400], **changed}}

    twice = json.dumps(one())[:-1].encode() + b", " + json.dumps(one())[1:].encode()
    other = one()[NAME]
    changes: dict[str, dict[str, Any]] = {
        "offsets before": {"data_offsets": [-400, 0]},
        "offsets beyond": {"data_offsets": [0, 1 << 60], "shape": [1 << 58]},
        "offsets backwards": {"data_offsets": [400, 0]},
        "one offset": {"data_offsets": [400]},
        "texts as offsets": {"data_offsets": ["0", "400"]},
        "fractions": {"data_offsets": [0.0, 400.0]},
        "shape too large": {"shape": [10, 11]},
        "negative shape": {"shape": [-10, -10]},
        "truth as shape": {"shape": [True, 100]},
        "enormous shape": {"shape": [10**400]},
        "many axes": {"shape": [1] * 100_000},
        "no list": {"shape": 100},
        "unknown type": {"dtype": "F8_E4M3"},
        "list as type": {"dtype": ["F32"]},
        "empty": {"shape": [1 << 50, 0], "data_offsets": [0, 0]},
    }
    made = {name: tensors(one(**change)) for name, change in changes.items()}
    made |= {
        "header of an exabyte": tensors(one(), length=1 << 60),
        "header beyond": tensors(one(), length=10_000),
        "no JSON": tensors(b"{not json"),
        "no text": tensors(b"\xff\xfe" * 10),
        "deep": tensors(b"[" * 100_000),
        "long number": tensors(b"9" * 100_000),
        "list": tensors([1, 2]),
        "twice": tensors(twice),
        "no entry": tensors({NAME: 3}),
        "nothing": tensors({}, b""),
        "metadata alone": tensors({"__metadata__": {"a": "b"}}, b""),
        "overlap": tensors({NAME: other, "b": other}),
        "gap": tensors(one(), b"\0" * 500),
        "cut off": tensors(one(), b"\0" * 399),
        "name of lines": tensors({"a\n\x1b[31m": other}),
        "other network": tensors(one()),
        "NaN": tensors({"conv1.weight": {**other, "shape": [1, 1, 10, 10]}}, b"\xff" * 400),
        "empty file": b"",
        "seven bytes": b"1234567",
    }
    for name, content in made.items():
        yield f"{name}.safetensors", lambda path, c=content: path.write_bytes(c)
