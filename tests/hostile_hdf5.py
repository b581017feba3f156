"""HDF5 weight files as nobody should have written them: changed copies of a good one."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import weight_files

from mrcnn.weights import hdf5, hdf5_content

Made = Iterator[tuple[str, Callable[[Path], None]]]
KERNEL = "mrcnn_class_logits/mrcnn_class_logits/kernel:0"
STATE = "optimizer_weights/conv1.kernel:SGD.momentum"
UNKNOWN = "elsewhere/elsewhere/kernel:0"
SETTINGS: dict[str, Any] = {
    "NUM_CLASSES": 10**9,
    "BACKBONE_WIDTH": 10**6,
    "IMAGE_MAX_DIM": 10**9,
    "IMAGE_MIN_DIM": 1e300,
    "IMAGE_CHANNEL_COUNT": 10**9,
    "TOP_DOWN_PYRAMID_SIZE": 10**8,
    "RPN_CONV_SIZE": -1,
    "FPN_CLASSIF_FC_LAYERS_SIZE": 60_000,
    "MASK_CONV_SIZE": 16_000,
    "POOL_SIZE": 256,
    "RPN_CONV_COUNT": 65,
    "RPN_ANCHOR_SCALES": [32] * 1_000_000,
    "RPN_ANCHOR_RATIOS": [],
    "BACKBONE_STRIDES": [0],
    "BOX_CONV_SIZES": [10_000] * 60,
    "MASK_SHAPE": [28],
    "MEAN_PIXEL": {"red": 1},
    "PIXEL_STD": float("nan"),
    "CLASS_NAMES": "many",
    "BACKBONE": ["resnet18"],
    "CONVENTIONS": {"a": 1},
    "IMAGE_RESIZE_MODE": [1],
    "LOSS_WEIGHTS": 3,
    "POST_NMS_ROIS_INFERENCE": 10**12,
    "DETECTION_MAX_INSTANCES": "all",
    "NAME": "../../evil",
    "KEYPOINT_PAIRS": [0],
    "NUM_KEYPOINTS": 10_000,
}
NAMES = ("a/b", "/etc/evil", "..", ".hidden", "a\nb", "{epoch.__class__}", "x" * 5_000, 7)


def _dataset(name: str, make: Callable[[h5py.Group, str, tuple], object]) -> Callable:
    """Return an edit that puts another dataset in the place of one."""

    def edit(file: h5py.File) -> None:
        if name in file:
            del file[name]
        group, _, leaf = name.rpartition("/")
        make(file.require_group(group), leaf, (16, 3))

    return edit


def _external(canary: Path) -> Callable:
    size = canary.stat().st_size

    def make(group: h5py.Group, leaf: str, shape: tuple) -> None:
        count = min(int(np.prod(shape)) * 4, size)
        group.create_dataset(leaf, shape, "f4", external=[(str(canary), 0, count)])

    return make


def _virtual(canary: Path) -> Callable:
    def make(group: h5py.Group, leaf: str, shape: tuple) -> None:
        layout = h5py.VirtualLayout(shape, "f4")
        layout[...] = h5py.VirtualSource(str(canary), "secret", shape)
        group.create_virtual_dataset(leaf, layout)

    return make


def _numbers(array: Any, **options: Any) -> Callable:
    return lambda group, leaf, _: group.create_dataset(leaf, data=array, **options)


def _filtered(group: h5py.Group, leaf: str, shape: tuple) -> None:
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk(shape)
    properties.set_filter(31_999, h5py.h5z.FLAG_OPTIONAL, (1, 2))
    space = h5py.h5s.create_simple(shape)
    node = h5py.h5d.create(group.id, leaf.encode(), h5py.h5t.IEEE_F32LE, space, properties)
    node.write(h5py.h5s.ALL, h5py.h5s.ALL, np.ones(shape, "f"))


def _edits(canary: Path, secret: Path) -> dict[str, Callable]:
    """Return edits of a file without checksums, by name."""
    places = {"weight": KERNEL, "state": STATE, "unknown": UNKNOWN}
    makers: dict[str, Callable] = {
        "external": _external(canary),
        "virtual": _virtual(secret),
        "external link": lambda g, leaf, _: g.__setitem__(
            leaf, h5py.ExternalLink(secret, "secret")
        ),
        "soft link": lambda g, leaf, _: g.__setitem__(leaf, h5py.SoftLink("/conv1/conv1/bias:0")),
        "dangling link": lambda g, leaf, _: g.__setitem__(leaf, h5py.SoftLink("/nowhere")),
        "claims 1e12": lambda g, leaf, _: g.create_dataset(leaf, (10**12,), "f4", chunks=(10**6,)),
        "huge chunk": lambda g, leaf, s: g.create_dataset(
            leaf, s, "f4", chunks=(2**14, 2**14), maxshape=(None, None)
        ),
        "never written": lambda g, leaf, shape: g.create_dataset(leaf, shape, "f4"),
        "never written at all": lambda g, leaf, _: g.create_dataset(leaf, (10**9,), "f4"),
        "bomb": _numbers(np.zeros((3_000, 3_000), "f"), compression="gzip", chunks=(3_000, 3_000)),
        "unknown filter": _filtered,
    }
    edits = {
        f"{name} as {place}": _dataset(path, make)
        for name, make in makers.items()
        for place, path in places.items()
    }
    wrong = {
        "text": np.array(b"x" * 100),
        "texts": np.full((16, 3), b"abcd"),
        "references": np.full((16, 3), h5py.Reference(), h5py.ref_dtype),
        "records": np.zeros((16, 3), [("a", "f4"), ("b", "f4")]),
        "complex": np.zeros((16, 3), "c8"),
        "no numbers": np.zeros((0, 3), "f"),
        "another shape": np.zeros((16, 4), "f"),
        "transposed": np.zeros((3, 16), "f"),
        "a scalar": np.float32(0),
        "NaN": np.full((16, 3), np.nan, "f"),
        "infinite": np.full((16, 3), np.inf, "f"),
        "overflowing": np.full((16, 3), 1e300),
    }
    edits |= {f"{name} for numbers": _dataset(KERNEL, _numbers(a)) for name, a in wrong.items()}
    edits |= {
        "deep": lambda file: file.create_group("/".join("abcd" * 200)),
        "cycle": lambda file: file.__setitem__("conv1/conv1/again", file["/"]),
        "twice": lambda file: file.__setitem__("other/" + KERNEL, np.zeros((16, 3), "f")),
        "group for numbers": lambda file: (file.__delitem__(KERNEL), file.create_group(KERNEL)),
        "model elsewhere": lambda file: file.__setitem__(
            "model_weights", h5py.ExternalLink(secret, "/")
        ),
        "name of lines": lambda file: file.__setitem__("a\n\x1b[31m/b", np.zeros(3)),
        "long name": lambda file: file.__setitem__("a" * 5_000, np.zeros(3)),
    }
    return edits


def _settings(value: Any) -> Callable:
    def edit(file: h5py.File) -> None:
        del file.attrs[hdf5.SETTINGS]
        file.attrs[hdf5.SETTINGS] = value

    return edit


def _set(name: str, value: Any) -> Callable:
    def edit(file: h5py.File) -> None:
        settings = json.loads(file.attrs[hdf5.SETTINGS])
        settings["config"][name] = value
        file.attrs[hdf5.SETTINGS] = json.dumps(settings)

    return edit


def files(good: Path, canary: Path, secret: Path, rng: np.random.Generator) -> Made:
    """Yield names of files and what writes them.

    Args:
        good: A checkpoint; canary: a file that nothing may read; secret: an HDF5 file like it.
    """

    def changed(path: Path, edit: Callable, *, sealed: bool = False) -> None:
        shutil.copy(good, path)
        if not sealed:
            weight_files.unseal(path)
        with h5py.File(path, "r+") as file:
            edit(file)

    edits = _edits(canary, secret)
    edits |= {f"setting {name}": _set(name, value) for name, value in SETTINGS.items()}
    edits |= {f"name {place}": _set("NAME", name) for place, name in enumerate(NAMES)}
    texts = {
        "no JSON": "{",
        "a list": "[1]",
        "a number": 3,
        "numbers": np.arange(1_000),
        "deep": "[" * 100_000,
        "of 20 MB": " " * 20_000_000 + "{}",
        "long numbers": '{"config": {"NUM_CLASSES": ' + "9" * 10_000 + "}}",
        "no text": np.void(b"\xff\xfe"),
        "empty": h5py.Empty("S1"),
    }
    edits |= {f"settings {name}": _settings(value) for name, value in texts.items()}
    for name, edit in edits.items():
        yield f"{name}.h5", lambda path, e=edit: changed(path, e)
    seals = {
        "another number": lambda file: file["conv1/conv1/bias:0"].write_direct(np.ones(8, "f")),
        "no seal": lambda file: file.attrs.__delitem__(hdf5_content.SEAL),
        "settings changed": _set("DETECTION_MIN_CONFIDENCE", 0.9),
    }
    for name, edit in seals.items():
        yield f"sealed, {name}.h5", lambda path, e=edit: changed(path, e, sealed=True)
    whole = good.read_bytes()
    for share in (0.0, 0.01, 0.5, 0.99):
        part = whole[: int(len(whole) * share)]
        yield f"cut off at {share}.h5", lambda path, p=part: path.write_bytes(p)
    for turn in range(20):
        damaged = bytearray(whole)
        for place in rng.integers(len(damaged), size=200):
            damaged[place] = rng.integers(256)
        yield f"damaged {turn}.h5", lambda path, d=bytes(damaged): path.write_bytes(d)
