"""The distribution: what it declares, and what is in its files."""

import ast
import re
import runpy
import shutil
import subprocess
import sys
import tarfile
import types
import zipfile
from pathlib import Path

import pytest

import mrcnn

ROOT = Path(__file__).resolve().parents[1]
# Imported by another name than that of the distribution.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "faster_coco_eval": "faster-coco-eval",
    "skimage": "scikit-image",
    "yaml": "pyyaml",
}
IMPORTED_BY_OTHERS = {"tensorboard"}  # TensorFlow's summary writer
OPTIONAL = {"jax"}  # an extra of its own
IN_SDIST = ("docs", "notebooks", "samples", "benchmarks", "tests", ".ci", ".github")
BUILT = (
    "__pycache__",
    "_build",
    "_copied",
    "build",
    "dist",
    "logs",
    ".*_cache",
    "*.egg-info",
    ".venv",
)


@pytest.fixture(scope="module")
def metadata() -> dict:
    """Return what setup.py passes to setuptools, which need not be installed."""
    passed = {}
    fake = types.ModuleType("setuptools")
    fake.setup = passed.update
    fake.find_packages = lambda **_: []
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "setuptools", fake)
        runpy.run_path(str(ROOT / "setup.py"))
    return passed


@pytest.fixture(scope="module")
def distributions(tmp_path_factory) -> tuple[set[str], set[str]]:
    """Return the names of the files of a wheel and of an sdist, built from a copy of the tree."""
    tree, built = tmp_path_factory.mktemp("tree") / "mrcnn", tmp_path_factory.mktemp("built")
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".git", *BUILT))
    program = (
        "import sys; from setuptools import build_meta as backend; built = sys.argv[1]; "
        "backend.build_sdist(built); backend.build_wheel(built)"
    )
    build = [sys.executable, "-c", program, str(built)]
    done = subprocess.run(build, cwd=tree, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as opened:
        in_wheel = set(opened.namelist())
    with tarfile.open(sdist) as opened:
        in_sdist = {name.partition("/")[2] for name in opened.getnames()}
    return in_wheel, in_sdist


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=!~; ]", each, maxsplit=1)[0].lower() for each in requirements}


def imported(folder: Path) -> set[str]:
    """Return the distributions that the modules of a folder import."""
    found = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                found.add(node.module.partition(".")[0])
    found -= sys.stdlib_module_names | {"mrcnn"}
    return {DISTRIBUTIONS.get(name, name) for name in found}


def test_every_import_is_a_requirement(metadata):
    assert imported(ROOT / "mrcnn") - names(metadata["install_requires"]) == OPTIONAL
    assert names(metadata["extras_require"]["jax"]) >= OPTIONAL


def test_every_requirement_is_imported(metadata):
    unused = names(metadata["install_requires"]) - imported(ROOT / "mrcnn")
    assert unused == IMPORTED_BY_OTHERS


def test_requirements_txt_agrees_with_the_metadata(metadata):
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    extras = metadata["extras_require"]
    assert lines == [*metadata["install_requires"], *extras["imgaug"], *extras["test"]]


def test_every_extra_is_documented_and_not_empty(metadata):
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    for extra, requirements in metadata["extras_require"].items():
        assert requirements, extra
        assert f'".[{extra}]"' in text, extra


def test_versions_agree(metadata):
    assert metadata["version"] == mrcnn.__version__
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## \[?(\d[^\] ]*)", changes, re.MULTILINE)
    assert released[0] == mrcnn.__version__


def test_pythons_agree(metadata):
    prefix = "Programming Language :: Python :: 3."
    minors = [int(each[len(prefix) :]) for each in metadata["classifiers"] if prefix in each]
    assert metadata["python_requires"] == f">=3.{min(minors)},<3.{max(minors) + 1}"
    assert minors == list(range(min(minors), max(minors) + 1))


def test_the_description_links_to_nothing_that_an_index_lacks(metadata):
    links = re.findall(r"\]\(([^)]*)\)", metadata["long_description"])
    assert links
    assert all(link.startswith("https://") for link in links)


@pytest.mark.slow
def test_the_wheel_has_the_package_with_its_assets_and_nothing_else(distributions):
    in_wheel, _ = distributions
    package = {name for name in in_wheel if not name.partition("/")[0].endswith(".dist-info")}
    present = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "mrcnn").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert package == present
    assert {"mrcnn/assets/mask_rcnn_nuclei.h5", "mrcnn/assets/nuclei_tissue.png"} <= package
    assert any(name.endswith("/licenses/LICENSE") for name in in_wheel)


@pytest.mark.slow
def test_the_sdist_has_the_tests_the_samples_and_the_documentation(distributions):
    _, in_sdist = distributions
    present = {
        path.relative_to(ROOT).as_posix()
        for folder in IN_SDIST
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and not any(path.match(f"{part}/**/*") for part in BUILT)
    }
    present = {name for name in present if not re.search(r"__pycache__|docs/_|checkpoints/", name)}
    assert present - in_sdist == set()
    assert {"requirements.txt", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"} <= in_sdist
