"""Weights by name: bundled, downloaded, or the newest of a folder of runs."""

import datetime
import errno
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from mrcnn.config import Config
from mrcnn.weights import download, loading
from mrcnn.weights.coco_classes import COCO_CLASSES

CHECKPOINT = re.compile(r"mask_rcnn_(.+)_(\d{4,})(_interrupted)?\.h5")
RUN_TIME = re.compile(r".*?(\d{8}T\d{4})")
STARTED = ".started"
ASSETS = Path(__file__).parent.parent / "assets"


def _home() -> Path:
    """Return the user's folder, or that of temporary files where the system knows none."""
    try:
        return Path.home()
    except RuntimeError:
        return Path(tempfile.gettempdir())


CACHE = _home() / ".cache" / "mrcnn"
BUNDLED = {"nuclei": ASSETS / "mask_rcnn_nuclei.h5"}


class Found(str):
    """The path of a checkpoint that also is the pair (folder, path).

    Until June 2018 Matterport's `find_last` returned that pair, and programs still take its
    second part. Everything else acts as on any path in a str.
    """

    def __getitem__(self, key: Any) -> str:
        """Return folder (0) or path (1); of a slice, those characters."""
        return self._pair()[key] if isinstance(key, int) else super().__getitem__(key)

    def __iter__(self) -> Iterator[str]:
        """Yield folder and path."""
        return iter(self._pair())

    def _pair(self) -> tuple[str, str]:
        return str(Path(str(self)).parent), str(self)


class Published(NamedTuple):
    """A file that others publish, with what is known of it."""

    url: str
    size: int | None = None
    md5: str | None = None
    sha256: str | None = None  # its beginning


def _torchvision(name: str) -> Published:
    """Return a file of torchvision's, whose name ends with the beginning of its checksum."""
    digest = name.rpartition("-")[2].partition(".")[0]
    return Published(f"https://download.pytorch.org/models/{name}", sha256=digest)


PUBLISHED = {
    "coco": Published(
        "https://github.com/matterport/Mask_RCNN/releases/download/v2.0/mask_rcnn_coco.h5",
        size=257_557_808,
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


def resolve(weights: str | Path, model_dir: str | Path, name: str | None = None) -> Path:
    """Return the file that a name of weights, or a path, stands for.

    Args:
        weights: "nuclei", "coco", "imagenet", "last" or a path, of a file or of the folder of a
            run, of which it is the newest checkpoint.
        model_dir: Where "last" looks.
        name: NAME of the settings, of which "last" looks for runs.

    Raises:
        FileNotFoundError: When there is no such file.
        OSError: When a download fails.
    """
    word = str(weights)
    if word in BUNDLED:
        return BUNDLED[word]
    if word in PUBLISHED:
        source = PUBLISHED[word]
        path = CACHE / source.url.rpartition("/")[2]
        known = source._asdict()
        return download.fetch(known.pop("url"), path, **known)
    if word == "last":
        return last_checkpoint(Path(model_dir), name)
    if Path(weights).is_dir():
        return _newest_in(Path(weights))
    if not Path(weights).is_file():
        names = ", ".join([*BUNDLED, *PUBLISHED, "last"])
        raise FileNotFoundError(
            errno.ENOENT, f"no such weight file, nor one of the names {names}", word
        )
    return Path(weights)


def settings(weights: str | Path, path: Path) -> dict[str, Any]:
    """Return the settings that weights came with: those in the file, or known of a published one.

    Args:
        weights: What was asked for; path: the file it stands for.
    """
    if str(weights) == "coco":
        names = ["BG", *COCO_CLASSES.values()]
        ids = [0, *COCO_CLASSES]
        return {"NUM_CLASSES": len(names), "CLASS_NAMES": names, "CATEGORY_IDS": ids}
    stored = loading.settings(path)
    # A setting that another version of this package had is no reason to refuse its weights.
    return {name: value for name, value in stored.items() if name in Config.names()}


def last_checkpoint(model_dir: Path, name: str | None = None) -> Path:
    """Return the newest checkpoint of the newest run under a folder.

    Args:
        name: Only runs of this NAME count; None for all.

    Raises:
        FileNotFoundError: When there is none.
    """
    prefix = (name or "").lower()
    runs = sorted(
        (path for path in model_dir.glob("*") if path.is_dir() and _is_run(path.name, prefix)),
        key=lambda path: path.name[-13:],
    )
    if not runs:
        raise FileNotFoundError(
            errno.ENOENT,
            f"no run{f' of {prefix!r}' if prefix else ''} in {model_dir.resolve()}; run this where "
            "you trained, or give the .h5 file",
        )
    # A run that was stopped in its first epoch has a folder but no checkpoint.
    for run in reversed(runs):
        if checkpoints := _checkpoints(run):
            return max(checkpoints, key=_age)
    raise FileNotFoundError(
        errno.ENOENT,
        f"no checkpoint in {runs[-1].resolve()}, whose training ended in its first epoch",
    )


def _newest_in(folder: Path) -> Path:
    """Return the newest checkpoint of a folder, that of a run or one with runs in it."""
    checkpoints = _checkpoints(folder)
    if checkpoints:
        return max(checkpoints, key=_age)
    try:
        return last_checkpoint(folder)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            errno.ENOENT,
            "the folder holds no checkpoint mask_rcnn_<name>_<epoch>.h5; give a weight file",
            str(folder),
        ) from error


def _checkpoints(run: Path) -> list[Path]:
    return [path for path in run.iterdir() if CHECKPOINT.fullmatch(path.name)]


def new_run(model_dir: Path, name: str) -> Path:
    """Return the folder of a run that starts now; names tell minutes, so some runs must move on."""
    start = datetime.datetime.now()
    while is_begun(folder := model_dir / f"{name}{start:%Y%m%dT%H%M}"):
        start += datetime.timedelta(minutes=1)
    return folder


def is_begun(run: Path) -> bool:
    """Tell whether a training has written into a folder; programs may have made it before."""
    return any(run.glob("*.h5")) or any(run.glob("train*/")) or (run / STARTED).exists()


def begin(run: Path) -> None:
    """Make the folder of a run, and mark it as one's own.

    Raises:
        FileExistsError: Another training has begun in it.
    """
    make_folder(run)
    if is_begun(run):
        raise FileExistsError(run)
    with _told_of(run), open(run / STARTED, "x"):
        pass


def make_folder(run: Path) -> None:
    """Make the folder of a run where it is not there.

    Raises:
        OSError: When nothing can be written there, with the place and the remedy.
    """
    with _told_of(run):
        run.mkdir(parents=True, exist_ok=True)
        if not os.access(run, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(run))


@contextmanager
def _told_of(run: Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError:
        if run.is_dir():
            raise
        raise OSError(_cannot_write(run, "a file is in its place")) from None
    except OSError as error:
        raise OSError(_cannot_write(run, str(error.strerror))) from error


def _cannot_write(run: Path, reason: str) -> str:
    return (
        f"nothing can be written to the folder of the run, {run.absolute()} ({reason}); give one "
        "that you may write to as model_dir (on the command line: --logs)"
    )


def run_of(checkpoint: Path) -> tuple[str, int] | None:
    """Return time of start and epoch that the path of a checkpoint tells, None where it does not.

    As in logs/shapes20180605T1530/mask_rcnn_shapes_0010.h5: ("20180605T1530", 10).
    """
    folder = RUN_TIME.fullmatch(checkpoint.parent.name)
    file = CHECKPOINT.fullmatch(checkpoint.name)
    return (folder[1], int(file[2])) if folder and file else None


def _age(checkpoint: Path) -> tuple[int, bool]:
    """Return the epoch, and whether the checkpoint is from the middle of the one after it."""
    _, epoch, interrupted = CHECKPOINT.fullmatch(checkpoint.name).groups()  # type: ignore[union-attr]
    return int(epoch), bool(interrupted)


def _is_run(folder: str, prefix: str) -> bool:
    """Tell whether a folder's name is NAME and a time, such as shapes20180605T1530."""
    name, time = folder[:-13], folder[-13:]
    is_time = len(time) == 13 and time[8] == "T" and (time[:8] + time[9:]).isdigit()
    return is_time and (not prefix or name == prefix)
