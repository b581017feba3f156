"""Downloads of weight files: beside the place, checked, then renamed."""

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

CHUNK = 1 << 20


def fetch(url: str, path: Path, *, size: int | None = None, md5: str | None = None) -> Path:
    """Download a file unless it is there, with a progress bar; return its path.

    Args:
        size: Bytes that the file must have; md5: its checksum, each where it is known.

    Raises:
        OSError: When the download fails or the file is not what it should be; nothing is left
            under the final name then.
    """
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        _download(url, partial)
        _verify(partial, size, md5)
        os.replace(partial, path)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise OSError(
            f"{url} could not be downloaded ({reason}); fetch it otherwise and put it at {path}"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return path


def _download(url: str, target: Path) -> None:
    with urllib.request.urlopen(url, timeout=30) as response, open(target, "wb") as file:
        total = int(response.headers.get("Content-Length") or 0) or None
        with tqdm(total=total, unit="B", unit_scale=True, desc=target.name.split(".")[0]) as bar:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
        if total is not None and file.tell() != total:
            raise OSError(f"{file.tell()} of {total} bytes arrived")


def _verify(path: Path, size: int | None, md5: str | None) -> None:
    if size is not None and path.stat().st_size != size:
        raise OSError(f"{path.stat().st_size} bytes arrived, not {size}")
    if md5 is not None:
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, "md5").hexdigest()
        if found != md5:
            raise OSError(f"the checksum is {found}, not {md5}")
