"""Metadata of the package; tool settings live in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
REQUIRED = [
    "tensorflow>=2.19",
    "keras>=3.12,<4",
    "numpy>=1.26",
    "scikit-image>=0.25",
    "pycocotools>=2.0.8",
    "faster-coco-eval>=1.8",
    "h5py>=3.11",
    "hotcoco==1.3.0",  # the errors of TIDE; young, so that each version is compared first
    "jinja2>=3.1",
    "matplotlib>=3.8",
    "opencv-python-headless>=4.8",
    "pillow>=10.1",
    "pyyaml>=6",
    "scipy>=1.11",
    "tensorboard>=2.19",  # TensorFlow's summary writer imports it
    "tifffile",
    "threadpoolctl>=3",
    "tqdm>=4.60",
]
JAX = ["jax>=0.6"]
DOCS = ["sphinx>=8.2", "pydata-sphinx-theme>=0.16", "myst-nb>=1.3"]
TEST = [
    "pytest>=8",
    "pytest-xdist>=3.6",
    "ipykernel>=6",
    "nbclient>=0.10",
    "playwright",  # with a Chromium, where there is one
    "psutil",
    "setuptools>=77",
    *JAX,
]


def version() -> str:
    """Return `mrcnn.__version__` without importing the package."""
    source = (HERE / "mrcnn" / "__init__.py").read_text(encoding="utf-8")
    return re.findall(r'^__version__ = "(.+)"$', source, re.MULTILINE)[0]


def long_description() -> str:
    """Return the README without links to files and images, which a package index does not have."""
    text = (HERE / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"!\[[^\]]*\]\((?!https?:)[^)]*\)\n*", "", text)
    return re.sub(r"\[([^\]]+)\]\((?!https?:)[^)]*\)", r"\1", text)


setup(
    name="mask-rcnn-keras",  # on PyPI, `mrcnn` is another package
    version=version(),
    description="Mask R-CNN on Keras 3: train, evaluate and run instance segmentation",
    long_description=long_description(),
    long_description_content_type="text/markdown",
    license_expression="MIT",
    license_files=["LICENSE"],
    keywords=[
        "mask r-cnn",
        "instance segmentation",
        "object detection",
        "keypoint detection",
        "coco",
        "keras",
        "tensorflow",
        "jax",
    ],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Environment :: GPU",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
    packages=find_packages(include=["mrcnn", "mrcnn.*"]),
    package_data={"mrcnn": ["assets/*", "report/*.html"]},
    python_requires=">=3.11,<3.14",
    install_requires=REQUIRED,
    extras_require={
        "imgaug": ["imgaug==0.4.0"],
        "cuda": ["tensorflow[and-cuda]>=2.19"],
        "jax": JAX,
        "notebooks": ["jupyterlab>=4"],
        "bench": ["torch", "torchvision"],
        "docs": DOCS,
        "test": TEST,
        "dev": [*TEST, *DOCS, "mypy", "pre-commit", "ruff", "types-PyYAML"],
    },
    entry_points={"console_scripts": ["mrcnn = mrcnn.cli:main"]},
)
