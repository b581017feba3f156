"""Folders of training runs, and the checkpoints in them."""

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
BEST = "best.h5"


class Found(str):
    """The path of a checkpoint that also acts as the pair (folder, path).

    Until June 2018, Matterport's `find_last` returned that pair, and programs still take its
    second element. Otherwise it behaves like any str.
    """

    def __getitem__(self, key: Any) -> str:
        """Return the folder (0) or the path (1); for a slice, characters."""
        return self._pair()[key] if isinstance(key, int) else super().__getitem__(key)

    def __iter__(self) -> Iterator[str]:
        """Yield folder and path."""
        return iter(self._pair())

    def _pair(self) -> tuple[str, str]:
        return str(Path(str(self)).parent), str(self)


def last_checkpoint(model_dir: Path, name: str | None = None) -> Path:
    """Return the newest checkpoint of the newest run in a folder.

    Damaged checkpoints are skipped, with a warning.

    Args:
        name: Consider only runs of this NAME; None for all.

    Raises:
        FileNotFoundError: If there is none.
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


def best_weights(model_dir: Path, name: str | None = None) -> Path:
    """Return the best weights of the newest run in a folder.

    Args:
        name: Consider only runs of this NAME; None for all.

    Raises:
        FileNotFoundError: If there are none.
    """
    last = last_checkpoint(model_dir, name)
    if not (best := last.parent / BEST).is_file():
        raise FileNotFoundError(
            errno.ENOENT,
            f"the newest run has no {BEST}, since it trained without validation; its newest "
            "checkpoint is",
            str(last),
        )
    return best


def newest_in(folder: Path) -> Path:
    """Return the newest checkpoint of a run folder, or of a folder with runs."""
    if checkpoint := _newest(folder):
        return checkpoint
    try:
        return last_checkpoint(folder)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            errno.ENOENT,
            "the folder has no checkpoint mask_rcnn_<name>_<epoch>.h5; give a weights file",
            str(folder),
        ) from error


def _newest(run: Path) -> Path | None:
    """Return the newest readable checkpoint of a run; log which were skipped."""
    found = [path for path in run.iterdir() if CHECKPOINT.fullmatch(path.name)]
    for path in sorted(found, key=_age, reverse=True):
        try:
            _check(path)
        except (ValueError, OSError) as error:
            logger.warning("skipped a checkpoint that cannot be read: %s", error)
        else:
            return path
    return None


def _check(checkpoint: Path) -> None:
    """Raise ValueError if a checkpoint is damaged or has no weights."""
    hdf5.read_settings(checkpoint)
    hdf5.read_optimizer(checkpoint)
    if not hdf5.read(checkpoint):
        raise ValueError(f"{checkpoint}: there are no weights in it")


def new_run(model_dir: Path, name: str) -> Path:
    """Return the folder of a run that starts now; if its minute is taken, that of a later one."""
    start = datetime.datetime.now()
    while is_begun(folder := model_dir / f"{name}{start:%Y%m%dT%H%M}"):
        start += datetime.timedelta(minutes=1)
    return folder


def is_begun(run: Path) -> bool:
    """Return whether a training has written to a folder, which programs may have created before."""
    return any(run.glob("*.h5")) or any(run.glob("train*/")) or (run / STARTED).exists()


def begin(run: Path) -> None:
    """Create the folder of a run, and claim it.

    Raises:
        FileExistsError: If another training has claimed it.
    """
    make_folder(run)
    if is_begun(run):
        raise FileExistsError(run)
    with _told_of(run), open(run / STARTED, "x"):
        pass


class RunInUse(RuntimeError):  # noqa: N818 (it names what is wrong)
    """Another training is writing to the folder of a run."""


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Lock the folder of a run for this training, until the block or the process ends.

    Raises:
        RunInUse: If another training on this machine, or in this process, has locked it.
    """
    # The lock is on the open file and is released with it, whatever is on the disk.
    with _told_of(run):
        file = open(run / STARTED, "a+b")  # noqa: SIM115 (closed below)
    with file:
        if not _lock(file.fileno()):
            raise RunInUse(
                f"another training is writing to {run.absolute()}: wait until it ends, or begin a "
                "new run (in Python: set_log_dir() after load_weights; on the command line: the "
                "checkpoint's path as --weights and another --logs)"
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
    """Create the folder of a run unless it exists.

    Raises:
        OSError: If it is not writable, with its path and the remedy.
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
    """Parse the start time and epoch from the path of a checkpoint; None if it has none.

    For example logs/shapes20180605T1530/mask_rcnn_shapes_0010.h5: ("20180605T1530", 10).
    """
    folder = RUN_TIME.fullmatch(checkpoint.parent.name)
    file = CHECKPOINT.fullmatch(checkpoint.name)
    return (folder[1], int(file[2])) if folder and file else None


def _age(checkpoint: Path) -> tuple[int, bool]:
    """Return the epoch, and whether the checkpoint is from the middle of the next one."""
    _, epoch, interrupted = CHECKPOINT.fullmatch(checkpoint.name).groups()  # type: ignore[union-attr]
    return int(epoch), bool(interrupted)


def _is_run(folder: str, prefix: str) -> bool:
    """Return whether a folder's name is NAME and a time, such as shapes20180605T1530."""
    name, time = folder[:-13], folder[-13:]
    is_time = len(time) == 13 and time[8] == "T" and (time[:8] + time[9:]).isdigit()
    return is_time and (not prefix or name == prefix)
