"""Files that PyTorch 1.13 wrote: convolution, batch norm, a half, a transposed view, a scalar."""

import os
import pickle
import zipfile
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
