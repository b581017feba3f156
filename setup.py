"""Metadata of the package; tool settings live in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
JAX = ["jax>=0.6"]
TEST = ["pytest>=8", "pytest-xdist>=3.6", "ipykernel>=6", "nbclient>=0.10", "psutil", *JAX]

setup(
    name="mrcnn",
    version="0.1.0",
    description="Mask R-CNN on Keras 3 and TensorFlow: the successor of Matterport's Mask_RCNN",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    packages=find_packages(include=["mrcnn", "mrcnn.*"]),
    package_data={"mrcnn": ["assets/*"]},
    python_requires=">=3.11,<3.14",
    install_requires=[
        "tensorflow>=2.19",
        "keras>=3.12,<4",
        "numpy>=1.26",
        "scikit-image>=0.25",
        "pycocotools>=2.0.8",
        "faster-coco-eval>=1.8",
        "h5py>=3.11",
        "matplotlib>=3.8",
        "opencv-python-headless>=4.8",
        "pillow>=10.1",
        "pyyaml>=6",
        "scipy>=1.11",
        "tensorboard>=2.19",
        "tifffile",
        "threadpoolctl>=3",
        "tqdm>=4.60",
    ],
    extras_require={
        "imgaug": ["imgaug==0.4.0"],
        "cuda": ["tensorflow[and-cuda]>=2.19"],
        "jax": JAX,
        "notebooks": ["jupyterlab>=4"],
        "video": [],  # OpenCV, which the package itself needs now
        "bench": ["torch", "torchvision"],
        "test": TEST,
        "dev": [*TEST, "ruff", "mypy"],
    },
    entry_points={"console_scripts": ["mrcnn = mrcnn.cli:main"]},
)
