"""Files that are whole or not there: written beside their place, then renamed."""

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

# What a program has open, which may be a file too.
OPEN_ALREADY = ("/dev/std", "/dev/fd/", "/proc/")


@contextmanager
def replacing(path: str | PathLike[str]) -> Iterator[Path]:
    """Yield a new path beside `path`, which takes its place when the block ends well.

    The suffix is kept, for writers that go by it. When the block raises, what it wrote is removed
    and an older file at `path` is untouched. Missing folders are made. Of a link, the file that it
    leads to is replaced; its mode is kept. Devices and pipes are written to as they are.

    Raises:
        PermissionError: the folder, or the older file, must not be written.
    """
    if is_device(path):
        yield Path(path)
        return
    target = Path(os.path.realpath(path))
    _check(target)
    # Beside the target, since a file can be renamed at a stroke only within one file system. A name
    # of its own, since that of the target may be as long as names can be.
    partial = target.with_name(f".{uuid.uuid4().hex}{target.suffix}")
    try:
        with _told(target.parent):
            target.parent.mkdir(parents=True, exist_ok=True)
            partial.touch()
        yield partial
        if target.exists():
            shutil.copymode(target, partial)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def is_device(path: str | PathLike[str]) -> bool:
    """Tell whether a path is of a device, a pipe or a socket, which are never replaced."""
    path = Path(path)
    return os.path.abspath(path).startswith(OPEN_ALREADY) or (
        path.exists() and not path.is_file() and not path.is_dir()
    )


def make_folder(path: str | PathLike[str]) -> Path:
    """Make a folder that can be written in, unless it is there.

    Raises:
        PermissionError: it must not be written.
        NotADirectoryError: it is a file.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(f"{path} is a file, a folder is wanted")
    with _told(path):
        path.mkdir(parents=True, exist_ok=True)
        trial = path / f".{uuid.uuid4().hex}"
        trial.touch()
        trial.unlink()
    return path


def _check(target: Path) -> None:
    if target.is_dir():
        raise IsADirectoryError(f"{target} is a folder, the name of a file is wanted")
    if target.exists() and not os.access(target, os.W_OK):
        raise PermissionError(f"{target} must not be written: choose another name, or allow it")


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Say what to do where a folder must not be written."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        raise PermissionError(
            f"nothing can be written in the folder {folder}: choose another one, or allow it "
            f"({error.strerror})"
        ) from error
