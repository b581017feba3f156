"""Files that PyTorch 1.13 wrote: convolution, batch norm, a half, a transposed view, a scalar."""

import io
import os
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from mrcnn.weights.torch_files import read_state_dict

FILES = Path(__file__).parent / "golden" / "torch"


@pytest.mark.parametrize("name", ["zip", "stream", "checkpoint"])
def test_every_form_of_file_gives_the_arrays(name):
    found = read_state_dict(FILES / f"{name}.pth")
    with np.load(FILES / "arrays.npz") as expected:
        assert set(found) == set(expected.files)
        for key, array in found.items():
            assert array.dtype == expected[key].dtype
            np.testing.assert_array_equal(array, expected[key])
    assert {array.dtype.name for array in found.values()} == {"float32", "float16", "int64"}


def test_a_whole_module_is_refused_by_name():
    with pytest.raises(ValueError, match=r"torch\.nn\.modules\.container\.Sequential.*nothing was"):
        read_state_dict(FILES / "module.pth")


class Harmful:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", range(6))
def test_code_in_a_pickle_is_refused_and_does_not_run(tmp_path, protocol):
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        content = {"weight": Harmful(tmp_path / "ran")}
        archive.writestr("archive/data.pkl", pickle.dumps(content, protocol))
    with pytest.raises(ValueError, match=r"a\.pth"):
        read_state_dict(tmp_path / "a.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["zip", "stream"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.99])
def test_a_file_that_is_cut_off_is_named(tmp_path, name, part):
    content = (FILES / f"{name}.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(content[: int(len(content) * part)])
    with pytest.raises(ValueError, match=r"cut\.pth"):
        read_state_dict(tmp_path / "cut.pth")


@pytest.mark.parametrize("content", [b"", b"no such file", b"\x80\x02}q\x00.", pickle.dumps(3)])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "other.pth").write_bytes(content)
    with pytest.raises(ValueError, match=r"other\.pth"):
        read_state_dict(tmp_path / "other.pth")


def test_damage_anywhere_is_an_error_or_other_numbers(tmp_path):
    content = bytearray((FILES / "zip.pth").read_bytes())
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(content)
        for place in rng.integers(len(damaged), size=3):
            damaged[place] = rng.integers(256)
        (tmp_path / "a.pth").write_bytes(damaged)
        try:
            found = read_state_dict(tmp_path / "a.pth")
        except ValueError:
            continue
        assert all(isinstance(array, np.ndarray) for array in found.values())


def write_tensor(path, monkeypatch, offset, shape, strides, *, compression=zipfile.ZIP_STORED):
    """Write a file of one array, "weight", over the numbers 0 to 99, as PyTorch would."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    def _rebuild_tensor_v2():
        """Stand for PyTorch's, which a pickle names."""

    _rebuild_tensor_v2.__module__ = "torch._utils"
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    torch.FloatStorage = type("FloatStorage", (), {"__module__": "torch"})
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)

    class Storage:
        pass

    class Tensor:
        def __reduce__(self):
            return _rebuild_tensor_v2, (Storage(), offset, shape, strides, False, OrderedDict())

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj):
            is_storage = isinstance(obj, Storage)
            return ("storage", torch.FloatStorage, "0", "cpu", 100) if is_storage else None

    program = io.BytesIO()
    Pickler(program, 2).dump({"weight": Tensor()})
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", program.getvalue())
        archive.writestr("archive/data/0", np.arange(100, dtype="<f4").tobytes())


def test_a_view_of_a_storage(tmp_path, monkeypatch):
    write_tensor(tmp_path / "a.pth", monkeypatch, 10, (2, 3), (1, 20))
    found = read_state_dict(tmp_path / "a.pth")["weight"]
    np.testing.assert_array_equal(found, [[10, 30, 50], [11, 31, 51]])


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (-97, (100,), (1,)),
        (0, (101,), (1,)),
        (99, (2,), (1,)),
        (0, (2, 2), (1000, -1000)),
        (0, (2, 2), (10**9, -(10**9))),
        (0, (10**12,), (0,)),
        (0, (-1, -1), (1, 1)),
        (1000, (0,), (1,)),
    ],
)
def test_what_reaches_beyond_its_storage_is_not_read(tmp_path, monkeypatch, offset, shape, strides):
    write_tensor(tmp_path / "a.pth", monkeypatch, offset, shape, strides)
    with pytest.raises(ValueError, match=r"a\.pth.*reaches beyond its storage"):
        read_state_dict(tmp_path / "a.pth")


def test_a_compressed_archive_is_not_unpacked(tmp_path, monkeypatch):
    path = tmp_path / "a.pth"
    write_tensor(path, monkeypatch, 0, (100,), (1,), compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match="is compressed"):
        read_state_dict(path)
