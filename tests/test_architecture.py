"""The plan of the house, kept by reading the imports of every module."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "mrcnn"
MODULES = sorted(PACKAGE.rglob("*.py"))
FLOORS = {
    "files": 0,
    "geometry": 0,
    "class_names": 0,
    "conventions": 0,
    "setting_marks": 0,
    "setting_values": 0,
    "setting_bounds": 1,
    "setting_faults": 1,
    "backends": 0,
    "terminal": 0,
    "greetings": 0,
    "machine": 0,
    "quiet_keras": 1,
    "presets": 3,
    "config": 2,
    "memory": 3,
    "network": 3,
    "data": 3,
    "weights": 4,
    "training": 5,
    "evaluation": 5,
    "export": 5,
    "predictor": 5,
    "class_agreement": 4,
    "randomness": 1,
    "mask_rcnn": 6,
    "utils": 6,
    "matterport": 7,
    "report": 7,
    "parallel_model": 7,
    "model": 8,
    "drawing": 5,
    "visualize": 6,
    "cli": 9,
    "__main__": 10,
    "__init__": 11,  # the commands as functions
}
# The floors inside `network/`.
NETWORK_FLOORS = {
    "ops": 0,
    "layers": 1,
    "matching": 1,
    "backbones": 2,
    "pyramid": 2,
    "rpn": 2,
    "roi_heads": 2,
    "losses": 3,
    "parts": 3,
    "network": 4,
}
MAY_IMPORT_TENSORFLOW = (
    "network/ops/tensorflow_ops.py",
    "training/",
    "matterport/",
    "model.py",
)
MAY_IMPORT_JAX = ("network/ops/jax_ops.py", "training/jax_devices.py")
MAY_READ_CONFIG_BELOW = ("network/network.py", "network/parts.py")
every_module = pytest.mark.parametrize(
    "path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix()
)


def relative(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> list[str]:
    """Return the full names of what a module imports, wherever the import stands."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def own_imports(path: Path) -> set[str]:
    """Return the rooms of this package that a module imports from."""
    own = [name.split(".") for name in imports(path) if name.startswith("mrcnn.")]
    return {parts[1] for parts in own if parts[1] in FLOORS}


def test_there_are_modules():
    assert len(MODULES) > 20


@every_module
def test_every_module_has_a_floor(path):
    assert relative(path) == "__init__.py" or room(path) in FLOORS


@every_module
def test_imports_go_down(path):
    floor = FLOORS.get(room(path), -1)
    upward = {name for name in own_imports(path) - {room(path)} if FLOORS[name] >= floor}
    assert not upward, f"{relative(path)} imports from its own floor or above"


@pytest.mark.parametrize(
    "path", [each for each in MODULES if room(each) == "network"], ids=relative
)
def test_imports_go_down_within_the_network(path):
    inner = relative(path).split("/")[1].removesuffix(".py")
    if inner == "__init__":
        return
    names = [name.split(".") for name in imports(path)]
    used = {parts[2] for parts in names if parts[:2] == ["mrcnn", "network"]} - {inner}
    assert all(NETWORK_FLOORS[name] < NETWORK_FLOORS[inner] for name in used), used


@every_module
def test_settings_are_read_above_the_layers(path):
    if room(path) in ("network", "data") and relative(path) not in MAY_READ_CONFIG_BELOW:
        assert "config" not in own_imports(path)


@every_module
def test_tensorflow_stays_in_its_rooms(path):
    if not relative(path).startswith(MAY_IMPORT_TENSORFLOW):
        assert "tensorflow" not in {name.split(".")[0] for name in imports(path)}


@every_module
def test_jax_stays_in_its_rooms(path):
    if not relative(path).startswith(MAY_IMPORT_JAX):
        assert "jax" not in {name.split(".")[0] for name in imports(path)}


@every_module
def test_what_cannot_be_loaded_safely_is_not_used(path):
    tree = ast.parse(path.read_text())
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not names & {"eval", "exec"}
    # Lambda layers do not load in other programs; Keras' TimeDistributed unrolls a loop over RoIs.
    assert not (names | attributes) & {"Lambda"}
    assert "TimeDistributed" not in attributes
    assert not {name.split(".")[0] for name in imports(path)} & {"pickle", "marshal", "dill"}


@every_module
def test_files_are_short(path):
    assert len(path.read_text().splitlines()) <= 400
