from collections.abc import Callable
from pathlib import Path

import hostile_hdf5
import hostile_weights
import numpy as np
import pytest
from small import SmallConfig
from test_loading import SmallTorchvision

from mrcnn.config import Config
from mrcnn.model import MaskRCNN
from mrcnn.weights import catalog

SHORT = 10  # files of each kind; `python hostile_weights.py` loads all


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[bool, MaskRCNN]:
    folder = tmp_path_factory.mktemp("logs")
    kinds = {True: SmallConfig, False: SmallTorchvision}
    return {is_ours: MaskRCNN("inference", kind(), folder) for is_ours, kind in kinds.items()}


@pytest.fixture(scope="module")
def written(tmp_path_factory, models) -> Callable[[str], Path]:
    """Returns what writes the file of a name and returns its path."""
    folder = tmp_path_factory.mktemp("hostile")
    made = hostile_weights.prepare(folder, models[True])
    assert len(made) > 300

    def write(name: str) -> Path:
        path = folder / "files" / name
        made[name](path)
        return path

    write.names = sorted(made)
    return write


@pytest.mark.parametrize("suffix", [".h5", ".npz", ".safetensors", ".pth", ".pt"])
def test_hostile_files_are_refused_in_one_line(suffix, written, models):
    """In this process; the script also limits memory and watches what is opened."""
    names = [name for name in written.names if name.endswith(suffix)]
    for name in np.random.default_rng(0).permutation(names)[:SHORT]:
        if name in hostile_weights.HARMLESS:
            continue
        with pytest.raises(ValueError, match=r"\w") as error:
            hostile_weights.load(written(name), models[suffix == ".h5"])
        assert "\n" not in str(error.value), name


@pytest.mark.parametrize("kind", ["external", "virtual", "external link", "soft link"])
@pytest.mark.parametrize("place", ["weight", "state", "unknown"])
def test_no_file_leads_to_another(kind, place, written, models):
    with pytest.raises(ValueError, match=r"from another file|is a link"):
        hostile_weights.load(written(f"{kind} as {place}.h5"), models[True])


@pytest.mark.parametrize("name", hostile_hdf5.SETTINGS)
def test_settings_that_no_network_has_are_refused_before_one_is_built(name, written):
    path = written(f"setting {name}.h5")
    with pytest.raises(ValueError, match=r"\w") as error:
        Config.from_dict({"NAME": "a", **catalog.settings(path, path)}).check()
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_some_of_them_in_a_process_of_limited_memory(tmp_path):
    _, wrong = hostile_weights.run(tmp_path, 25)
    assert not wrong
