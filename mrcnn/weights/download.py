"""Downloads of weight files: beside the place, resumed where they broke off, checked, renamed."""

import errno
import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

CHUNK = 1 << 20
TIMEOUT = 30  # seconds without a byte
# Nobody writes to a part that has been still for so long: its process was killed.
ABANDONED = 2 * TIMEOUT


def fetch(
    url: str,
    path: Path,
    *,
    size: int | None = None,
    md5: str | None = None,
    sha256: str | None = None,
) -> Path:
    """Download a file unless it is there, with a progress bar; return its path.

    A download that breaks off leaves its part beside the place, and the next one goes on from
    there where the server can. A file of another size than it should have is downloaded anew.

    Args:
        size: Bytes that the file must have; md5, sha256: its checksums or their beginnings; each
            where it is known.

    Raises:
        OSError: When the download fails or the file is not what it should be; nothing is left
            under the final name then.
    """
    if path.exists() and size in (None, path.stat().st_size):
        return path
    _make_folder(path.parent)
    try:
        with _own_part(path) as part:
            _download(url, part)
            _verify(part, size, {"md5": md5, "sha256": sha256})
            os.replace(part, path)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise OSError(
            f"{url} could not be downloaded ({reason}); download it in another way and "
            f"save it as {path}"
        ) from error
    return path


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
    except OSError as error:
        raise OSError(
            f"downloads are kept in {folder}, which cannot be written to ({error.strerror}); set "
            "HOME to a folder of your own, or download the file and give its path instead"
        ) from error


@contextmanager
def _own_part(path: Path) -> Iterator[Path]:
    """Yield the file that this process alone writes to, with what an earlier one left in it."""
    part = path.with_name(f".{path.name}.{os.getpid()}.partial")
    kept = path.with_name(f".{path.name}.0.partial")
    for old in (kept, *path.parent.glob(f".{path.name}.*.partial")):
        if old.exists() and (old == kept or time.time() - old.stat().st_mtime > ABANDONED):
            os.replace(old, part)  # of several processes only one gets it
            break
    try:
        yield part
    finally:
        if part.exists():
            os.replace(part, kept)


def _download(url: str, part: Path) -> None:
    present = part.stat().st_size if part.exists() else 0
    with _open(url, present) as response:
        if response.status != http.client.PARTIAL_CONTENT:
            present = 0  # the server sends all of it again
        length = int(response.headers.get("Content-Length") or 0)
        total = present + length if length else None
        bar = tqdm(total=total, initial=present, unit="B", unit_scale=True, desc=part.name[1:20])
        with open(part, "ab" if present else "wb") as file, bar:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
            if total is not None and file.tell() != total:
                raise OSError(f"{file.tell()} of {total} bytes arrived")


def _open(url: str, start: int) -> Any:
    """Return the answer of a server: from a byte on if it can, else from the beginning.

    Where the part is as long as the file or longer (the file has changed, or its check failed to
    run), there is nothing from there on, and servers refuse.
    """
    if start:
        request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"})
        try:
            return urllib.request.urlopen(request, timeout=TIMEOUT)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise
    return urllib.request.urlopen(url, timeout=TIMEOUT)


def _verify(part: Path, size: int | None, checksums: Mapping[str, str | None]) -> None:
    """Raise for a file that is not the right one, and remove it: going on would not mend it."""
    try:
        if size is not None and part.stat().st_size != size:
            raise OSError(f"{part.stat().st_size} bytes arrived, not {size}")
        for name, expected in checksums.items():
            with open(part, "rb") as file:
                found = hashlib.file_digest(file, name).hexdigest() if expected else ""
            if expected and not found.startswith(expected):
                raise OSError(f"the checksum is {found}, not {expected}")
    except OSError:
        part.unlink()
        raise
