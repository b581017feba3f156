"""Folders of runs of training, and the checkpoints in them."""

import datetime
import errno
import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mrcnn.weights import hdf5

logger = logging.getLogger("mrcnn")

CHECKPOINT = re.compile(r"mask_rcnn_(.+)_(\d{4,})(_interrupted)?\.h5")
RUN_TIME = re.compile(r".*?(\d{8}T\d{4})")
STARTED = ".started"


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


def last_checkpoint(model_dir: Path, name: str | None = None) -> Path:
    """Return the newest checkpoint of the newest run under a folder.

    Damaged ones are passed over, with a warning.

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
        if checkpoint := _newest(run):
            return checkpoint
    raise FileNotFoundError(
        errno.ENOENT,
        f"no checkpoint that can be read in {runs[-1].resolve()}: its training ended in its first "
        "epoch, or its files are damaged",
    )


def newest_in(folder: Path) -> Path:
    """Return the newest checkpoint of a folder, that of a run or one with runs in it."""
    if checkpoint := _newest(folder):
        return checkpoint
    try:
        return last_checkpoint(folder)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            errno.ENOENT,
            "the folder holds no checkpoint mask_rcnn_<name>_<epoch>.h5; give a weight file",
            str(folder),
        ) from error


def _newest(run: Path) -> Path | None:
    """Return the newest checkpoint of a run that can be read; log which were passed over."""
    found = [path for path in run.iterdir() if CHECKPOINT.fullmatch(path.name)]
    for path in sorted(found, key=_age, reverse=True):
        try:
            _check(path)
        except (ValueError, OSError) as error:
            logger.warning("passed over a checkpoint that cannot be read: %s", error)
        else:
            return path
    return None


def _check(checkpoint: Path) -> None:
    """Raise ValueError where a checkpoint is not what was written, or holds no weights."""
    hdf5.read_settings(checkpoint)
    hdf5.read_optimizer(checkpoint)
    if not hdf5.read(checkpoint):
        raise ValueError(f"{checkpoint}: there are no weights in it")


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


class RunInUse(RuntimeError):  # noqa: N818 (it names what is wrong)
    """Another training is writing into the folder of a run."""


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Keep the folder of a run to this training, until the block or the process ends.

    Raises:
        RunInUse: Another training has it, of this process or another one of this machine.
    """
    # The lock is on the open file and dies with it, whatever is on the disk.
    with _told_of(run):
        file = open(run / STARTED, "a+b")  # noqa: SIM115 (closed below)
    with file:
        if not _lock(file.fileno()):
            raise RunInUse(
                f"another training is writing into {run.absolute()}: wait for its end, or begin a "
                "run of your own (in Python: set_log_dir() after load_weights; on the command "
                "line: the checkpoint's path as --weights and another --logs)"
            )
        yield


if sys.platform == "win32":

    def _lock(handle: int) -> bool:
        """Lock a file, and tell whether nobody else has."""
        import msvcrt

        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:

    def _lock(handle: int) -> bool:
        """Lock a file, and tell whether nobody else has."""
        import fcntl

        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:  # a network file system without locks
            return True
        return True


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
