"""Downloads of weight files: beside the place, resumed where they broke off, checked, renamed.

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
# So many bytes must arrive in so many seconds: a server that drips would never time out.
LEAST, PATIENCE = 16 << 10, 60
# Nobody writes to a part that has been still for so long: its process was killed.
ABANDONED = 2 * TIMEOUT
MOST = 8 << 30  # bytes of a file whose size nobody says
SCHEMES = ("http", "https")


@dataclass(frozen=True)
class Expected:
    """What a file must be, as far as it is known.

    Attributes:
        size: in bytes. md5, sha256: hexadecimal checksums, or their beginnings.
        check: of what has just arrived, where no checksum is published: raises ValueError or
            OSError for a file that is not the right one.
    """

    size: int | None = None
    md5: str | None = None
    sha256: str | None = None
    check: Callable[[Path], Any] | None = None

    @property
    def is_exact(self) -> bool:
        """Whether a wrong byte would be noticed."""
        return bool(self.md5 or self.sha256)

    def fault(self, path: Path) -> str | None:
        """Return what is wrong with a file, None for nothing."""
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
    """Download a file unless it is there, with a progress bar; return its path.

    A download that breaks off leaves its part beside the place, and the next one goes on from
    there where the server still has the same file. A file that is there but is not what it should
    be is downloaded anew.

    Raises:
        OSError: When the download fails or the file is not what it should be; nothing new is left
            under the final name then.
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
    """What has arrived of a file, and beside it, of which state of which file it is.

    Attributes:
        path: of the part. note: of a text that tells its address and the server's mark of the file
            (ETag, or else the time of its last change).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.note = path.with_suffix(".note")

    @property
    def name(self) -> str:
        """Of the file: parts are called .NAME.PROCESS.partial."""
        return self.path.name[1:].rsplit(".", 2)[0]

    @property
    def size(self) -> int:
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def is_still(self, kept: Path) -> bool:
        """Tell whether nobody writes to it: it was put away, or its process was killed."""
        with suppress(FileNotFoundError):
            age = time.time() - self.path.stat().st_mtime
            return self.path == kept or age > ABANDONED
        return False

    def take(self, other: "_Part") -> None:
        """Become another part, which goes on here; one of several processes gets it."""
        os.replace(other.path, self.path)
        if other.note.exists():
            os.replace(other.note, self.note)

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def mark(self, url: str) -> str | None:
        """Return the server's mark of the file that this is a part of, None where it is unknown."""
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
                    return  # it was whole
                start = 0
            elif answer.status != http.client.PARTIAL_CONTENT or _range(answer)[0] != start:
                start = 0
            if answer.status == http.client.OK or start:
                self._write(url, answer, start, expected)
                return
        # The server has another file now, or answers what nobody asked: all of it again.
        with _answer(url, 0, None) as answer:
            self._write(url, answer, 0, expected)

    def verify(self, expected: Expected) -> None:
        """Raise for a file that is not the right one, and remove it: more cannot mend it."""
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
        """Return the number of bytes that are there to go on from."""
        is_longer = expected.size is not None and self.size > expected.size
        # Without the server's mark, only a checksum would tell two states of a file apart.
        if is_longer or not (expected.is_exact or self.mark(url)):
            self.discard()
        return self.size

    def _write(self, url: str, answer: Any, start: int, expected: Expected) -> None:
        total = _length(answer, start, expected)
        mark = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
        is_weak = mark is not None and mark.startswith("W/")  # equal in meaning, not in bytes
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
    """Yield the part that this process alone writes to, with what an earlier one left in it."""
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
    """Follows a server to other addresses of the web, and from a secure one to secure ones only."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        scheme = urllib.parse.urlsplit(newurl).scheme
        is_less = req.type == "https" and scheme != "https"
        if scheme not in SCHEMES or is_less:
            fp.close()
            raise urllib.error.URLError(f"the server sends us to {newurl}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """Return what opens addresses of the web, and none of files or of other protocols."""
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
    """Return the answer of a server, asked for the bytes from one on, if it has the same file.

    An answer of status 416 is returned too: there are no bytes from there on.
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
    """Yield what arrives, as it arrives.

    Raises:
        OSError: nearly nothing has come for a while.
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
    """Return how many bytes the whole file has, by what is published or the server says.

    Raises:
        OSError: the two differ, or nothing would tell whether the file is whole.
    """
    said = answer.headers.get("Content-Length", "")
    length = start + int(said) if said.isdigit() else _range(answer)[1]
    if expected.size is not None and length not in (None, expected.size):
        raise OSError(f"the server's file has {length} bytes, not {expected.size}")
    if (packing := answer.headers.get("Content-Encoding", "identity")) != "identity":
        raise OSError(f"the server packs the file by {packing}, which was not asked for")
    total = expected.size if length is None else length
    if total is None and not (expected.is_exact or expected.check or answer.chunked):
        raise OSError("the server does not say how long the file is")
    return total


def _range(answer: Any) -> tuple[int | None, int | None]:
    """Return first byte and length of the file by an answer's Content-Range, None where unknown."""
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
    """Raise OSError for a page, such as that of a login or of a proxy, in place of the file."""
    kind = answer.headers.get_content_type()
    if kind in ("text/html", "application/xhtml+xml") or beginning.lstrip()[:1] == b"<":
        raise OSError(f"the server sent a page of text ({kind}), not the file")
