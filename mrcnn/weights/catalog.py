"""Names of weights: bundled, downloaded, or the newest checkpoint."""

import errno
import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from mrcnn import setting_values
from mrcnn.config import Config
from mrcnn.weights import complete, download, loading, runs
from mrcnn.weights.coco_classes import COCO_CLASSES

ASSETS = Path(__file__).parent.parent / "assets"


def _home() -> Path:
    """Return the user's home folder, or the temporary folder if there is none."""
    try:
        return Path.home()
    except RuntimeError:
        return Path(tempfile.gettempdir())


def cache() -> Path:
    """Return the download folder: MRCNN_HOME, or `mrcnn` in XDG_CACHE_HOME or in ~/.cache.

    *(XDG Base Directory Specification: a path that is not absolute is ignored)*
    """
    if own := os.environ.get("MRCNN_HOME"):
        return Path(own).expanduser()
    shared = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (shared if shared.is_absolute() else _home() / ".cache") / "mrcnn"


BUNDLED = {"nuclei": ASSETS / "mask_rcnn_nuclei.h5"}


class Published(NamedTuple):
    """A published weights file, and what is known about it."""

    url: str
    size: int | None = None
    md5: str | None = None
    sha256: str | None = None  # or its first digits
    classes: int | None = (
        None  # settings of a network with all weights of the file, if it has no checksum
    )

    @property
    def expected(self) -> download.Expected:
        """The checks that a download must pass."""
        check = None
        if self.classes is not None:
            config = Config.from_dict({"NAME": "published", "NUM_CLASSES": self.classes})
            check = partial(complete.check_layers, config=config)
        return download.Expected(self.size, self.md5, self.sha256, check)


def _torchvision(name: str) -> Published:
    """Return one of torchvision's files, whose name ends with the first digits of its checksum."""
    digest = name.rpartition("-")[2].partition(".")[0]
    return Published(f"https://download.pytorch.org/models/{name}", sha256=digest)


PUBLISHED = {
    "coco": Published(
        "https://github.com/matterport/Mask_RCNN/releases/download/v2.0/mask_rcnn_coco.h5",
        size=257_557_808,
        classes=1 + len(COCO_CLASSES),
    ),
    "imagenet": Published(
        "https://github.com/fchollet/deep-learning-models/releases/download/v0.2/"
        "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
        md5="a268eb855778b3df3c7506639542a6af",
    ),
    "torchvision": _torchvision("maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth"),
    "torchvision-v2": _torchvision("maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth"),
    "torchvision-keypoints": _torchvision("keypointrcnn_resnet50_fpn_coco-fc266e95.pth"),
    "torchvision-boxes": _torchvision("fasterrcnn_resnet50_fpn_coco-258fb6c6.pth"),
    "torchvision-resnet18": _torchvision("resnet18-f37072fd.pth"),
    "torchvision-resnet34": _torchvision("resnet34-b627a593.pth"),
    "torchvision-resnet50": _torchvision("resnet50-0676ba61.pth"),
    "torchvision-resnet101": _torchvision("resnet101-63fe2227.pth"),
    "torchvision-resnext50_32x4d": _torchvision("resnext50_32x4d-7cdf4587.pth"),
    "torchvision-resnext101_32x8d": _torchvision("resnext101_32x8d-8ba56ff5.pth"),
    "torchvision-resnext101_64x4d": _torchvision("resnext101_64x4d-173b62eb.pth"),
}


# Of the newest run in a folder.
NEWEST = {"last": runs.last_checkpoint, "best": runs.best_weights}


def resolve(weights: str | Path, model_dir: str | Path, name: str | None = None) -> Path:
    """Resolve a name of weights, or a path, to a file.

    Args:
        weights: "nuclei", "coco", "imagenet", "last", "best" or a path, either of a file or of a
            run folder, which stands for its newest checkpoint.
        model_dir: Where "last" and "best" look for the newest run.
        name: NAME of the settings; "last" and "best" only consider runs of that name.

    Raises:
        FileNotFoundError: If there is no such file.
        OSError: If a download fails.
    """
    word = str(weights)
    if word in BUNDLED:
        return BUNDLED[word]
    if word in PUBLISHED:
        source = PUBLISHED[word]
        return download.fetch(source.url, cache() / source.url.rpartition("/")[2], source.expected)
    if word in NEWEST:
        return NEWEST[word](Path(model_dir), name)
    if Path(weights).is_dir():
        return runs.newest_in(Path(weights))
    if not Path(weights).is_file():
        names = ", ".join([*BUNDLED, *PUBLISHED, *NEWEST])
        raise FileNotFoundError(
            errno.ENOENT, f"no such weights file, nor one of the names {names}", word
        )
    return Path(weights)


def settings(weights: str | Path, path: Path) -> dict[str, Any]:
    """Return the settings of weights: those in the file, or known for published weights.

    Args:
        weights: The name or path given; path: the file it resolves to.

    Raises:
        ValueError: If a setting in the file is outside its bounds.
    """
    if str(weights) == "coco":
        names = ["BG", *COCO_CLASSES.values()]
        ids = [0, *COCO_CLASSES]
        return {"NUM_CLASSES": len(names), "CLASS_NAMES": names, "CATEGORY_IDS": ids}
    stored = loading.settings(path)
    # Settings that only another version of this package has do not invalidate the weights.
    known = {name: value for name, value in stored.items() if name in Config.names()}
    # A setting that was a function of the writing program may be available to the caller.
    Config.from_dict({k: v for k, v in known.items() if not setting_values.is_function(v)})
    return known
