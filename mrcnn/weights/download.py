"""Downloads of weights files: to a partial file, resumable, verified, then renamed.

*(HTTP Semantics, RFC 9110: sections 13.1.5 If-Range, 14.4 Content-Range, 15.5.17 status 416)*
"""

import errno
import hashlib
import http.client
import json
import logging
import os
import re
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

logger = logging.getLogger("mrcnn")

CHUNK = 1 << 20
TIMEOUT = 30  # seconds without a byte
# LEAST bytes must arrive within PATIENCE seconds: a trickling server would never time out.
LEAST, PATIENCE = 16 << 10, 60
# A partial file unchanged for this many seconds is abandoned: its process was killed.
ABANDONED = 2 * TIMEOUT
MOST = 8 << 30  # bytes, limit for files of unknown size
SCHEMES = ("http", "https")


@dataclass(frozen=True)
class Expected:
    """Expected properties of a file, as far as known.

    Attributes:
        size: in bytes. md5, sha256: hexadecimal checksums, or their first digits.
        check: validates a new download if no checksum is published: raises ValueError or OSError
            if it is not the right file.
    """

    size: int | None = None
    md5: str | None = None
    sha256: str | None = None
    check: Callable[[Path], Any] | None = None

    @property
    def is_exact(self) -> bool:
        """Whether a single wrong byte would be detected."""
        return bool(self.md5 or self.sha256)

    def fault(self, path: Path) -> str | None:
        """Return what is wrong with a file, or None."""
        size = path.stat().st_size
        if self.size is not None and size != self.size:
            return f"it has {size} bytes, not {self.size}"
        for name, digest in (("md5", self.md5), ("sha256", self.sha256)):
            if digest:
                with open(path, "rb") as file:
                    found = hashlib.file_digest(file, name).hexdigest()
                if not found.startswith(digest):
                    return f"its {name} checksum is {found}, not {digest}"
        return None


NOTHING = Expected()


def fetch(url: str, path: Path, expected: Expected = NOTHING) -> Path:
    """Download a file with a progress bar unless it exists; return its path.

    An interrupted download leaves a partial file in the same folder, from which the next one
    resumes if the server's file is unchanged. An existing file that fails the checks is downloaded
    again.

    Raises:
        OSError: If the download fails or does not pass the checks; no new file is left under the
            final name then.
    """
    if path.exists():
        if (fault := expected.fault(path)) is None:
            return path
        logger.warning("%s is not the file that was published (%s); downloading it", path, fault)
    _make_folder(path.parent)
    try:
        with _own_part(path) as part:
            part.download(url, expected)
            part.verify(expected)
            os.replace(part.path, path)
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = str(getattr(error, "reason", None) or error) or type(error).__name__
        reason = " ".join(reason.split())
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
            "MRCNN_HOME to a folder of your own, or download the file and give its path instead"
        ) from error


class _Part:
    """A partial download, with a note of the URL and version of the file.

    Attributes:
        path: path of the partial file. note: path of a text file with its URL and the server's
            version mark (ETag, or else Last-Modified).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.note = path.with_suffix(".note")

    @property
    def name(self) -> str:
        """Name of the final file: partial files are called .NAME.PROCESS.partial."""
        return self.path.name[1:].rsplit(".", 2)[0]

    @property
    def size(self) -> int:
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def is_still(self, kept: Path) -> bool:
        """Return whether no process writes to it: it was set aside, or its process was killed."""
        with suppress(FileNotFoundError):
            age = time.time() - self.path.stat().st_mtime
            return self.path == kept or age > ABANDONED
        return False

    def take(self, other: "_Part") -> None:
        """Take over another partial file; only one of several processes succeeds."""
        os.replace(other.path, self.path)
        if other.note.exists():
            os.replace(other.note, self.note)

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def mark(self, url: str) -> str | None:
        """Return the version mark of the file that this is a part of; None if unknown."""
        try:
            known = json.loads(self.note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return known.get("mark") if isinstance(known, dict) and known.get("url") == url else None

    def download(self, url: str, expected: Expected) -> None:
        """Fetch what is missing."""
        start = self._start(url, expected)
        if start and expected.size == start:
            return
        with _answer(url, start, self.mark(url)) as answer:
            if answer.status == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                if _range(answer)[1] == start:
                    return  # it was complete
                start = 0
            elif answer.status != http.client.PARTIAL_CONTENT or _range(answer)[0] != start:
                start = 0
            if answer.status == http.client.OK or start:
                self._write(url, answer, start, expected)
                return
        # The file has changed on the server, or the answer is invalid: download all of it again.
        with _answer(url, 0, None) as answer:
            self._write(url, answer, 0, expected)

    def verify(self, expected: Expected) -> None:
        """Raise for a wrong file, and remove it: resuming cannot fix it."""
        try:
            if fault := expected.fault(self.path):
                raise OSError(fault)
            if expected.check:
                expected.check(self.path)
        except (OSError, ValueError):
            self.discard()
            raise
        self.note.unlink(missing_ok=True)

    def _start(self, url: str, expected: Expected) -> int:
        """Return the number of bytes from which the download can resume."""
        is_longer = expected.size is not None and self.size > expected.size
        # Without a version mark, only a checksum would distinguish two versions of a file.
        if is_longer or not (expected.is_exact or self.mark(url)):
            self.discard()
        return self.size

    def _write(self, url: str, answer: Any, start: int, expected: Expected) -> None:
        total = _length(answer, start, expected)
        mark = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
        is_weak = mark is not None and mark.startswith("W/")  # same meaning, not same bytes
        text = json.dumps({"url": url, "mark": None if is_weak else mark})
        if total is not None:
            _check_space(self.path.parent, total - start)
        bar = tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=self.name)
        with open(self.path, "ab" if start else "wb") as file, bar:
            self.note.write_text(text, encoding="utf-8")
            arrived = start
            for chunk in _chunks(answer):
                if not arrived:
                    _refuse_pages(answer, chunk)
                arrived += file.write(chunk)
                bar.update(len(chunk))
                if arrived > (MOST if total is None else total):
                    raise OSError(f"more arrived than the {total or MOST} bytes of the file")
        if total is not None and arrived < total:
            raise OSError(f"{arrived} of {total} bytes arrived")


@contextmanager
def _own_part(path: Path) -> Iterator[_Part]:
    """Yield a partial file exclusive to this process, starting from what an earlier one left."""
    part = _Part(path.with_name(f".{path.name}.{os.getpid()}.partial"))
    kept = _Part(path.with_name(f".{path.name}.0.partial"))
    left = [_Part(other) for other in path.parent.glob(f".{path.name}.*.partial")]
    left = sorted((old for old in left if old.is_still(kept.path)), key=lambda old: -old.size)
    for old in left:
        with suppress(FileNotFoundError):  # another process was quicker
            part.take(old)
            break
    try:
        yield part
    finally:
        if part.path.exists():
            kept.take(part)
        else:
            part.note.unlink(missing_ok=True)
    for old in left:
        old.discard()


class _OnlyWeb(urllib.request.HTTPRedirectHandler):
    """Follows redirects to HTTP(S) only, and from HTTPS to HTTPS only."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        scheme = urllib.parse.urlsplit(newurl).scheme
        is_less = req.type == "https" and scheme != "https"
        if scheme not in SCHEMES or is_less:
            fp.close()
            raise urllib.error.URLError(f"the server redirects to {newurl}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """Return an opener for HTTP(S) only: no local files or other protocols."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        _OnlyWeb,
        urllib.request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    return opener


def _answer(url: str, start: int, mark: str | None) -> Any:
    """Return the server's answer to a request for the bytes from `start`, if it is the same file.

    An answer with status 416 is returned too: there are no bytes from `start` on.
    """
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if mark:
            headers["If-Range"] = mark
    try:
        return _opener().open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if start and error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            return error
        error.close()
        raise


def _chunks(answer: Any) -> Iterator[bytes]:
    """Yield chunks of the answer as they arrive.

    Raises:
        OSError: If the download is nearly stalled.
    """
    since, arrived = time.monotonic(), 0
    while chunk := answer.read1(CHUNK):
        yield chunk
        arrived += len(chunk)
        if arrived >= LEAST:
            since, arrived = time.monotonic(), 0
        elif time.monotonic() - since > PATIENCE:
            raise OSError(f"only {arrived} bytes arrived in {PATIENCE} seconds")


def _length(answer: Any, start: int, expected: Expected) -> int | None:
    """Return the size of the complete file in bytes, as published or as the server says.

    Raises:
        OSError: If the two differ, or if the size is unknown.
    """
    said = answer.headers.get("Content-Length", "")
    length = start + int(said) if said.isdigit() else _range(answer)[1]
    if expected.size is not None and length not in (None, expected.size):
        raise OSError(f"the server's file has {length} bytes, not {expected.size}")
    if (packing := answer.headers.get("Content-Encoding", "identity")) != "identity":
        raise OSError(f"the server compresses the file with {packing}, which was not requested")
    total = expected.size if length is None else length
    if total is None and not (expected.is_exact or expected.check or answer.chunked):
        raise OSError("the server does not say how long the file is")
    return total


def _range(answer: Any) -> tuple[int | None, int | None]:
    """Return the first byte and file size from an answer's Content-Range; None if unknown."""
    found = re.fullmatch(
        r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", answer.headers.get("Content-Range", "").strip()
    )
    first, total = found.groups() if found else (None, None)
    return (int(first) if first else None, int(total) if total and total.isdigit() else None)


def _check_space(folder: Path, missing: int) -> None:
    free = shutil.disk_usage(folder).free
    if missing > free:
        raise OSError(
            errno.ENOSPC,
            f"{missing / 1e6:.0f} MB are missing, and {free / 1e6:.0f} MB are free in {folder}",
        )


def _refuse_pages(answer: Any, beginning: bytes) -> None:
    """Raise OSError for a web page, such as a login or proxy page, instead of the file."""
    kind = answer.headers.get_content_type()
    if kind in ("text/html", "application/xhtml+xml") or beginning.lstrip()[:1] == b"<":
        raise OSError(f"the server sent a web page ({kind}), not the file")
