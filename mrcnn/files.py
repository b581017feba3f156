"""Files that are whole or not there: written beside their place, then renamed."""

import errno
import functools
import hashlib
import os
import re
import shutil
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path

# What a program has open, which may be a file too.
OPEN_ALREADY = ("/dev/std", "/dev/fd/", "/proc/")
# Of a file that is being written: where and by which process, so that others can tell whether it
# was abandoned.
PARTIAL = re.compile(r"\.mrcnn-(?P<host>[0-9a-f]{16})-(?P<pid>\d{1,10})-[0-9a-f]{16}(\..*)?")


@contextmanager
def replacing(path: str | PathLike[str], *, durable: bool = False) -> Iterator[Path]:
    """Yield a new path beside `path`, which takes its place when the block ends well.

    The suffix is kept, for writers that go by it. When the block raises, what it wrote is removed
    and an older file at `path` is untouched. Missing folders are made. Of a link, the file that it
    leads to is replaced; its mode is kept. Devices and pipes are written to as they are.

    Args:
        durable: Wait until the disk has the file before it takes its place, and its new name
            before this returns: after a power cut one of the two files is there, whole. What
            killed processes left half-written in the folder is removed, too.

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
    name = f".mrcnn-{_host()}-{os.getpid()}-{uuid.uuid4().hex[:16]}"
    partial = target.with_name(name + target.suffix)
    try:
        with _told(target.parent):
            target.parent.mkdir(parents=True, exist_ok=True)
            partial.touch()
        yield partial
        if target.exists():
            shutil.copymode(target, partial)
        if durable:
            _sync(partial)
        os.replace(partial, target)
        if durable:
            _sync(target.parent)
            remove_abandoned(target.parent)
    finally:
        partial.unlink(missing_ok=True)


def remove_abandoned(folder: Path) -> None:
    """Remove what processes of this machine that have ended left half-written in a folder.

    Files of other machines, whose processes cannot be looked for, stay.
    """
    if os.name != "posix":
        return  # elsewhere signal 0, which only looks for a process, ends it
    for path in folder.glob(".mrcnn-*"):
        found = PARTIAL.fullmatch(path.name)
        if found and found["host"] == _host() and not _is_running(int(found["pid"])):
            with suppress(OSError):  # another process was faster, or it is not ours to remove
                path.unlink()


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True  # another user's
    return True


@functools.cache
def _host() -> str:
    """Return what stands for the numbers of processes here: the machine, and its container."""
    marks = [socket.gethostname()]
    with suppress(OSError):
        marks.append(Path("/etc/machine-id").read_text())
    with suppress(OSError):
        marks.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("\n".join(marks).encode()).hexdigest()[:16]


def _sync(path: Path) -> None:
    """Wait until the disk has a file, or the names in a folder."""
    if os.name != "posix" and path.is_dir():
        return  # only files can be opened there
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems cannot do it for folders.
        if not path.is_dir() or error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(handle)


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
