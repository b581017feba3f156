"""Downloads from a server that cuts, lies, drips and changes: never wrong content in the end."""

import errno
import hashlib
import http.server
import io
import json
import os
import re
import shutil
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from mrcnn.weights import download
from mrcnn.weights.download import Expected

CONTENT = bytes(range(256)) * 100
OTHER = CONTENT[::-1]
LENGTH = len(CONTENT)
MD5 = Expected(md5=hashlib.md5(CONTENT, usedforsecurity=False).hexdigest())
SHA256 = Expected(sha256=hashlib.sha256(CONTENT).hexdigest()[:8])
SIZE = Expected(size=LENGTH)
ALL = Expected(LENGTH, MD5.md5, SHA256.sha256)
TAGGED = {"ETag": '"one"'}
DATED = {"Last-Modified": "Fri, 27 Nov 2026 10:00:00 GMT"}
Handler = http.server.BaseHTTPRequestHandler
Behaviour = Callable[[Handler], None]


def answer(
    content: bytes = CONTENT,
    status: int = 200,
    *,
    cut: int | None = None,
    length: int | None = -1,
    drip: float = 0.0,
    **headers: str,
) -> Behaviour:
    """Return what a server answers: all of the content, whatever is asked for.

    Args:
        cut: So many bytes are sent. length: Content-Length, None for none; -1 is true.
        drip: Seconds between single bytes.
        headers: With underscores for dashes.
    """

    def behave(handler: Handler) -> None:
        handler.send_response(status)
        if length is not None:
            handler.send_header("Content-Length", str(len(content) if length < 0 else length))
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        sent = content[:cut]
        for part in [sent] if not drip else [bytes([byte]) for byte in sent]:
            handler.wfile.write(part)
            time.sleep(drip)

    return behave


def chunked(content: bytes = CONTENT, cut: int | None = None) -> Behaviour:
    def behave(handler: Handler) -> None:
        handler.protocol_version = "HTTP/1.1"
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        half = len(content) // 2
        for part in (content[:half], content[half:])[: 1 if cut else 2]:
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        if not cut:
            handler.wfile.write(b"0\r\n\r\n")

    return behave


def ranges(content: bytes = CONTENT, *, shift: int = 0, total: int | None = -1, **headers: str):
    """Return the behaviour of a server that goes on where it is asked to, for the same file.

    Args:
        shift: By which the answer begins elsewhere. total: In Content-Range; None leaves it out.
    """
    mark = headers.get("ETag") or headers.get("Last_Modified")

    def behave(handler: Handler) -> None:
        asked = handler.headers.get("Range", "")
        start = int(asked.removeprefix("bytes=").removesuffix("-") or 0)
        is_other = "If-Range" in handler.headers and handler.headers["If-Range"] != mark
        if not asked or is_other:
            answer(content, **headers)(handler)
        elif start >= len(content):
            length = len(content) if total == -1 else total
            answer(b"", 416, Content_Range=f"bytes */{length}")(handler)
        else:
            start += shift
            length = len(content) if total == -1 else total
            place = {"Content_Range": f"bytes {start}-{len(content) - 1}/{length}"}
            answer(content[start:], 206, **headers, **({} if total is None else place))(handler)

    return behave


def moved(place: str) -> Behaviour:
    return answer(b"", 302, Location=place)


class Case(NamedTuple):
    """Answers to one request after another (the last goes on), and what `fetch` says each time."""

    answers: list[Behaviour]
    expected: Expected
    calls: list[str | None]
    asked: list[str] | None = None  # the ranges


HALF = LENGTH // 2
REST = f"bytes={HALF}-"
CASES = {
    # Nothing wrong
    "whole": Case([answer()], download.NOTHING, [None], [""]),
    "whole, checked": Case([answer()], ALL, [None], [""]),
    "without a length": Case([answer(length=None)], MD5, [None]),
    "chunked": Case([chunked()], download.NOTHING, [None]),
    "moved": Case([moved("/there"), answer()], SIZE, [None]),
    "called twice": Case([answer(), answer(OTHER)], MD5, [None, None], [""]),
    # Cuts
    "no answer": Case([lambda handler: handler.connection.close()], SIZE, ["downloaded"]),
    "cut before the first byte": Case([answer(cut=0)], download.NOTHING, ["0 of 25600 bytes"]),
    "cut after one byte": Case(
        [answer(cut=1), answer()], MD5, ["1 of 25600", None], ["", "bytes=1-"]
    ),
    "cut, resumed by checksum": Case(
        [answer(cut=HALF), ranges()], MD5, ["of 25600", None], ["", REST]
    ),
    "cut, resumed by tag": Case(
        [answer(cut=HALF, **TAGGED), ranges(**TAGGED)], SIZE, ["of 25600", None], ["", REST]
    ),
    "cut, resumed by date": Case(
        [answer(cut=HALF, Last_Modified="Fri"), ranges(Last_Modified="Fri")],
        download.NOTHING,
        ["of 25600", None],
        ["", REST],
    ),
    "cut, no ranges": Case([answer(cut=HALF, **TAGGED), answer(**TAGGED)], SIZE, ["of", None]),
    "cut, nothing to tell the file by": Case(
        [answer(cut=HALF), ranges()], SIZE, ["of 25600", None], ["", ""]
    ),
    "cut, a weak tag tells nothing": Case(
        [answer(cut=HALF, ETag='W/"one"'), ranges()], SIZE, ["of 25600", None], ["", ""]
    ),
    "cut twice": Case(
        [
            answer(cut=HALF),
            answer(CONTENT[HALF:], 206, cut=9, Content_Range=f"bytes {HALF}-{LENGTH - 1}/{LENGTH}"),
        ]
        + [ranges()],
        MD5,
        ["of 25600", "of 25600", None],
    ),
    "cut before the last byte": Case(
        [answer(cut=LENGTH - 1), ranges()], SHA256, ["25599 of 25600", None], ["", "bytes=25599-"]
    ),
    "cut without a length": Case([answer(length=None, cut=HALF), ranges()], MD5, ["md5", None]),
    "cut without a length, by size": Case(
        [answer(length=None, cut=HALF), answer()], SIZE, ["of", None]
    ),
    "cut in chunks": Case([chunked(cut=1), chunked()], MD5, ["downloaded", None]),
    # Lies
    "a length too long": Case([answer(length=LENGTH + 5)], download.NOTHING, ["of 25605 bytes"]),
    "a length too long for the size": Case(
        [answer(length=LENGTH + 5)], SIZE, ["has 25605 bytes, not"]
    ),
    "a length too short": Case([answer(length=LENGTH - 5)], MD5, ["md5 checksum"]),
    "neither length nor checksum": Case([answer(length=None)], download.NOTHING, ["how long"]),
    "another file": Case([answer(OTHER)], MD5, ["md5 checksum is .* not"]),
    "another file, then the right one": Case([answer(OTHER), answer()], SHA256, ["sha256", None]),
    "another size": Case([answer(CONTENT[:-1])], SIZE, ["has 25599 bytes, not 25600"]),
    "more than the size, without a length": Case(
        [answer(CONTENT * 2, length=None)], SIZE, ["more arrived than the 25600"]
    ),
    "an empty file": Case([answer(b"")], MD5, ["checksum"]),
    "a page": Case(
        [answer(b"<html>log in", Content_Type="text/html")], download.NOTHING, ["a web page"]
    ),
    "a page as bytes": Case(
        [answer(b"\n<!DOCTYPE html>", Content_Type="application/octet-stream")],
        SIZE,
        ["downloaded"],
    ),
    "a page called so, with other content": Case(
        [answer(Content_Type="text/html; charset=utf-8")], MD5, ["a web page"]
    ),
    "an error as xml": Case(
        [answer(b'<?xml version="1.0"?><Error/>')], download.NOTHING, ["a web page"]
    ),
    "packed": Case([answer(Content_Encoding="gzip")], MD5, ["compresses the file with gzip"]),
    "a range from elsewhere": Case(
        [answer(cut=HALF), ranges(shift=7), answer()], MD5, ["of", None], ["", REST, ""]
    ),
    "a range of a longer file": Case(
        [answer(cut=HALF, **TAGGED), ranges(CONTENT + b"x", **TAGGED)],
        SIZE,
        ["of", "25601 bytes, not"],
    ),
    "a range that does not tell where": Case(
        [answer(cut=HALF), ranges(total=None), answer()], MD5, ["of", None], ["", REST, ""]
    ),
    "a range that nobody asked for": Case(
        [answer(CONTENT[5:], 206, Content_Range=f"bytes 5-{LENGTH - 1}/{LENGTH}")],
        MD5,
        ["downloaded"],
    ),
    "no range where there is one": Case(
        [answer(cut=HALF), answer(b"", 416), answer()], MD5, ["of", None], ["", REST, ""]
    ),
    "404": Case([answer(b"no", 404)], download.NOTHING, ["Not Found"]),
    "503, then all": Case([answer(b"later", 503), answer()], MD5, ["Service Unavailable", None]),
    "moved in circles": Case([moved("/again")], MD5, ["downloaded"]),
    "moved to a file": Case(
        [moved("file:///etc/passwd")], download.NOTHING, ["not (followed|allowed)"]
    ),
    "moved to ftp": Case(
        [moved("ftp://127.0.0.1/x")], download.NOTHING, ["not (followed|allowed)"]
    ),
    "moved to data": Case([moved("data:,x")], download.NOTHING, ["not (followed|allowed)"]),
    # Drips
    "silent": Case([answer(cut=2, drip=1.2)], download.NOTHING, ["timed out"]),
    "a byte at a time": Case([answer(drip=0.02)], MD5, ["arrived in 0.3 seconds|timed out"]),
    # Changes
    "changed meanwhile, by tag": Case(
        [answer(OTHER, cut=HALF, ETag='"old"'), ranges(**TAGGED)], SIZE, ["of 25600", None]
    ),
    "changed meanwhile, by date": Case(
        [answer(OTHER, cut=HALF, Last_Modified="Thu"), ranges(Last_Modified="Fri")],
        download.NOTHING,
        ["of 25600", None],
    ),
    "changed meanwhile, untold": Case(
        [answer(OTHER, cut=HALF), ranges(), answer()], MD5, ["of 25600", "md5", None]
    ),
    "shorter meanwhile": Case(
        [answer(CONTENT + OTHER, cut=LENGTH + 9), ranges()], MD5, ["of 51200", None]
    ),
}


class Server(http.server.ThreadingHTTPServer):
    answers: list[Behaviour]
    asked: list[str]


class Replay(Handler):
    def do_GET(self) -> None:  # noqa: N802
        server: Server = self.server
        number = min(len(server.asked), len(server.answers) - 1)
        server.asked.append(self.headers.get("Range", ""))
        server.answers[number](self)
        self.close_connection = True

    def log_message(self, *args) -> None:
        del args


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Replay) as server:
        server.daemon_threads = False  # their sockets are closed at the end
        server.asked, server.handle_error = [], lambda *_: None
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "cache" / "weights.h5"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.8)
    monkeypatch.setattr(download, "PATIENCE", 0.3)


def address(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_port}/weights.h5"


def fetch(server: Server, target: Path, expected: Expected = download.NOTHING) -> OSError | None:
    try:
        assert download.fetch(address(server), target, expected) == target
    except OSError as error:
        cause = error.__cause__
        if isinstance(cause, urllib.error.HTTPError):
            cause.close()
        return error
    return None


@pytest.mark.parametrize("name", CASES)
def test_what_a_server_may_do(server, target, name):
    case = CASES[name]
    server.answers = case.answers
    for message in case.calls:
        error = fetch(server, target, case.expected)
        if message is None:
            assert error is None
            assert target.read_bytes() == CONTENT
            assert list(target.parent.iterdir()) == [target]
        else:
            assert not target.exists()
            assert error is not None
            assert "\n" not in str(error)
            assert re.search(message, str(error)), str(error)
            assert f"{address(server)} could not be downloaded" in str(error)
            assert f"save it as {target}" in str(error)
    if case.asked is not None:
        assert server.asked == case.asked


# What lies in the cache already


@pytest.mark.parametrize("expected", [MD5, SHA256, ALL])
@pytest.mark.parametrize("place", [0, HALF, LENGTH - 1])
def test_a_changed_byte_in_the_cache_is_noticed_and_mended(server, target, caplog, expected, place):
    target.parent.mkdir()
    target.write_bytes(CONTENT[:place] + b"!" + CONTENT[place + 1 :])
    server.answers = [answer()]
    assert fetch(server, target, expected) is None
    assert target.read_bytes() == CONTENT
    assert "is not the file that was published" in caplog.text


def test_a_wrong_file_stays_where_nothing_better_is_to_be_had(server, target):
    target.parent.mkdir()
    target.write_bytes(OTHER)
    server.answers = [answer(b"no", 404)]
    assert "Not Found" in str(fetch(server, target, MD5))
    assert target.read_bytes() == OTHER


def test_a_file_in_the_cache_is_of_its_size(server, target):
    target.parent.mkdir()
    target.write_bytes(CONTENT[:5])
    server.answers = [answer()]
    assert fetch(server, target, SIZE) is None
    assert target.read_bytes() == CONTENT


def test_what_arrived_is_checked_before_it_has_its_name(server, target):
    seen = []

    def check(path: Path) -> None:
        seen.append(path)
        assert not target.exists()
        raise ValueError("conv1/kernel is missing")

    server.answers = [answer()]
    error = fetch(server, target, Expected(size=LENGTH, check=check))
    assert "(conv1/kernel is missing)" in str(error)
    assert len(seen) == 1
    assert list(target.parent.iterdir()) == []


# Parts that others left


def leave_part(target: Path, content: bytes, url: str = "", mark: str | None = None) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.with_name(f".{target.name}.0.partial").write_bytes(content)
    if url:
        note = json.dumps({"url": url, "mark": mark})
        target.with_name(f".{target.name}.0.note").write_text(note)


@pytest.mark.parametrize(("expected", "requests"), [(ALL, 0), (SIZE, 0), (MD5, 1)])
def test_a_whole_part_is_recognised(server, target, expected, requests):
    server.answers = [ranges(**TAGGED)]
    leave_part(target, CONTENT, address(server), '"one"')
    assert fetch(server, target, expected) is None
    assert target.read_bytes() == CONTENT
    assert server.asked == [f"bytes={LENGTH}-"] * requests
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("expected", [SIZE, ALL])
def test_a_part_longer_than_the_file_is_discarded(server, target, expected):
    server.answers = [ranges(**TAGGED)]
    leave_part(target, CONTENT + b"x", address(server), '"one"')
    assert fetch(server, target, expected) is None
    assert server.asked == [""]


@pytest.mark.parametrize("content", [CONTENT + b"x", OTHER])
def test_a_part_beyond_the_end_or_of_another_file_is_downloaded_anew(server, target, content):
    server.answers = [ranges()]
    leave_part(target, content)
    errors = [fetch(server, target, MD5) for _ in range(2)]
    assert errors[-1] is None
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("url", "mark"), [("http://other.example/weights.h5", '"one"'), ("", None), ("same", None)]
)
def test_a_part_of_unknown_origin_is_not_gone_on_from_without_a_checksum(server, target, url, mark):
    server.answers = [ranges(**TAGGED)]
    leave_part(target, OTHER[:HALF], address(server) if url == "same" else url, mark)
    assert fetch(server, target, SIZE) is None
    assert target.read_bytes() == CONTENT
    assert server.asked == [""]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"url": 3}', "\x00"])
def test_a_broken_note_is_no_note(server, target, text):
    server.answers = [ranges(**TAGGED)]
    leave_part(target, OTHER[:HALF])
    target.with_name(f".{target.name}.0.note").write_text(text)
    assert fetch(server, target, SIZE) is None
    assert target.read_bytes() == CONTENT


def test_the_part_of_a_killed_process_is_taken_over_once_it_is_still(server, target):
    target.parent.mkdir()
    part = target.with_name(f".{target.name}.999999.partial")
    part.write_bytes(CONTENT[:3000])
    server.answers = [answer(cut=10)]
    assert fetch(server, target, MD5) is not None  # it may be written to at this moment
    assert part.read_bytes() == CONTENT[:3000]
    for left in target.parent.glob("*.0.*"):
        left.unlink()
    for left in target.parent.glob(".*.0.*"):
        left.unlink()
    os.utime(part, (0, 0))
    server.answers, server.asked = [ranges()], []
    assert fetch(server, target, MD5) is None
    assert server.asked == ["bytes=3000-"]
    assert list(target.parent.iterdir()) == [target]


def test_processes_side_by_side_do_not_disturb_each_other(server, target, monkeypatch):
    """Each has a part of its own; here threads that take turns in being other processes."""
    server.answers = [answer()]
    numbers = iter(range(100, 200))
    monkeypatch.setattr(os, "getpid", lambda: next(numbers))
    errors: list = []
    threads = [
        threading.Thread(target=lambda: errors.append(fetch(server, target, MD5))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == [None] * 4
    assert target.read_bytes() == CONTENT


# Addresses, folders, disks


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://127.0.0.1/x", "data:,x", "weights"])
def test_other_addresses_than_those_of_the_web_are_refused(target, url):
    with pytest.raises(OSError, match="could not be downloaded"):
        download.fetch(url, target)
    assert list(target.parent.iterdir()) == []


def test_from_a_secure_address_nothing_insecure_is_followed():
    request = urllib.request.Request("https://example.org/a")
    follow = download._OnlyWeb().redirect_request
    with pytest.raises(urllib.error.URLError, match="not followed"):
        follow(request, io.BytesIO(), 302, "", {}, "http://example.org/b")
    assert follow(request, None, 302, "", {}, "https://example.org/b").full_url.endswith("/b")


def test_a_server_that_is_not_there_is_an_os_error(target):
    with pytest.raises(OSError, match="could not be downloaded"):
        download.fetch("http://127.0.0.1:9/weights.h5", target)
    assert not target.exists()


def test_a_folder_that_cannot_be_written_to_is_named_with_what_to_do(server, tmp_path):
    (tmp_path / "cache").touch()
    with pytest.raises(OSError, match=r"cache, which cannot be written to .* set MRCNN_HOME to"):
        download.fetch(address(server), tmp_path / "cache" / "weights.h5")
    assert server.asked == []


def test_a_disk_without_place_is_told_before_it_is_full(server, target, monkeypatch):
    server.answers = [answer()]
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
    error = fetch(server, target, MD5)
    assert "0 MB are missing, and 0 MB are free" in str(error)
    assert error.__cause__.errno == errno.ENOSPC
