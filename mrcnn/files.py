"""Atomic file writes: a temporary file in the same folder, then a rename."""

import errno
import functools
import hashlib
import json
import os
import re
import shutil
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import Any

# File descriptors of the process, which may be files too.
OPEN_ALREADY = ("/dev/std", "/dev/fd/", "/proc/")
# Name of a file being written: its host and process, so that others can tell whether it was
# abandoned.
PARTIAL = re.compile(r"\.mrcnn-(?P<host>[0-9a-f]{16})-(?P<pid>\d{1,10})-[0-9a-f]{16}(\..*)?")


@contextmanager
def replacing(path: str | PathLike[str], *, durable: bool = False) -> Iterator[Path]:
    """Yield a temporary path next to `path`, which replaces it if the block succeeds.

    The suffix is kept, for writers that depend on it. If the block raises, its output is removed
    and an existing file at `path` is untouched. Missing folders are created. For a symbolic link
    the target is replaced, keeping its mode. Devices and pipes are written to directly.

    Args:
        durable: Sync the file before the rename, and the folder before returning: after a power
            cut either the old or the new file is there, complete. Files that killed processes
            left half-written in the folder are removed, too.

    Raises:
        PermissionError: The folder, or the existing file, is not writable.
    """
    if is_device(path):
        yield Path(path)
        return
    target = Path(os.path.realpath(path))
    _check(target)
    # In the target's folder, since a rename is atomic only within one file system. Its name does
    # not extend the target's, which may already have the maximum length.
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


def write_json(path: str | PathLike[str], content: Any) -> None:
    """Write a JSON file for people, in UTF-8; it is whole or not there."""
    with replacing(path) as partial:
        text = json.dumps(content, indent=1, ensure_ascii=False)
        partial.write_text(text, encoding="utf-8")


def remove_abandoned(folder: Path) -> None:
    """Remove half-written files that dead processes of this machine left in a folder.

    Files of other machines, whose processes cannot be checked, are kept.
    """
    if os.name != "posix":
        return  # elsewhere signal 0 ends the process instead of probing it
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
    """Return the name of the process-id namespace: the machine, and its container."""
    marks = [socket.gethostname()]
    with suppress(OSError):
        marks.append(Path("/etc/machine-id").read_text())
    with suppress(OSError):
        marks.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("\n".join(marks).encode()).hexdigest()[:16]


def _sync(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on the disk."""
    if os.name != "posix" and path.is_dir():
        return  # only files can be opened there
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems cannot sync folders.
        if not path.is_dir() or error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(handle)


def is_device(path: str | PathLike[str]) -> bool:
    """Return whether a path is a device, a pipe or a socket, which are never replaced."""
    path = Path(path)
    return os.path.abspath(path).startswith(OPEN_ALREADY) or (
        path.exists() and not path.is_file() and not path.is_dir()
    )


def make_folder(path: str | PathLike[str]) -> Path:
    """Create a writable folder, unless it exists.

    Raises:
        PermissionError: It is not writable.
        NotADirectoryError: It is a file.
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
    """Turn a PermissionError for a folder into one that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        raise PermissionError(
            f"nothing can be written in the folder {folder}: choose another one, or allow it "
            f"({error.strerror})"
        ) from error
