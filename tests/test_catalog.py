import hashlib
import http.server
import os
import tempfile
import threading

import pytest

from mrcnn.weights import catalog, download

CONTENT = b"weights" * 1000
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()


@pytest.fixture
def published(tmp_path):
    """A file and its address."""
    path = tmp_path / "source" / "weights.h5"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    return path.as_uri()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "cache" / "weights.h5"


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves /whole, cuts /short off in the middle, and knows no other path.

    /ranges serves from the byte that is asked for, and cuts off what begins at the first.
    """

    def do_GET(self):
        if self.path == "/refusing" and "Range" in self.headers:
            self.send_error(416)
            return
        if self.path not in ("/whole", "/short", "/ranges", "/refusing"):
            self.send_error(404)
            return
        start = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-")
        start = int(start) if self.path == "/ranges" else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        is_cut = self.path == "/short" or (self.path == "/ranges" and not start)
        self.wfile.write(CONTENT[start : 1000 if is_cut else None])

    def log_message(self, *args):
        del args


@pytest.fixture
def address():
    """The address of a server on this machine."""
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_file_is_downloaded_once(published, target):
    assert download.fetch(published, target, size=len(CONTENT), md5=MD5) == target
    assert target.read_bytes() == CONTENT
    target.write_bytes(b"ours")
    download.fetch(published, target, md5=MD5)
    assert target.read_bytes() == b"ours"


def test_a_file_is_downloaded_from_a_server(address, target):
    download.fetch(f"{address}/whole", target, md5=MD5)
    assert target.read_bytes() == CONTENT
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("expected", [{"md5": "0" * 32}, {"size": 3}])
def test_a_file_that_is_not_what_it_should_be_is_not_kept(published, target, expected):
    with pytest.raises(OSError, match="could not be downloaded") as error:
        download.fetch(published, target, **expected)
    assert str(next(iter(expected.values()))) in str(error.value)
    assert list(target.parent.iterdir()) == []


def test_a_failed_download_leaves_nothing_and_names_address_and_place(address, target):
    with pytest.raises(OSError, match="Not Found") as error:
        download.fetch(f"{address}/nothing", target)
    error.value.__cause__.close()  # the server's answer, which urllib leaves open
    assert f"{address}/nothing" in str(error.value)
    assert f"download it in another way and save it as {target}" in str(error.value)
    assert list(target.parent.iterdir()) == []


def test_a_server_that_does_not_answer_is_an_os_error(target):
    with pytest.raises(OSError, match="could not be downloaded"):
        download.fetch("http://127.0.0.1:9/weights.h5", target)
    assert not target.exists()


def test_a_download_that_breaks_off_leaves_nothing_under_the_final_name(address, target):
    with pytest.raises(OSError, match="could not be downloaded"):
        download.fetch(f"{address}/short", target)
    assert [path.suffix for path in target.parent.iterdir()] == [".partial"]
    # This server sends all of it again.
    download.fetch(f"{address}/whole", target, md5=MD5)
    assert list(target.parent.iterdir()) == [target]


def test_a_download_goes_on_where_it_broke_off(address, target):
    with pytest.raises(OSError, match="could not be downloaded"):
        download.fetch(f"{address}/ranges", target)
    (part,) = target.parent.iterdir()
    assert part.read_bytes() == CONTENT[:1000]
    # Asked for the beginning, this server would break off again.
    download.fetch(f"{address}/ranges", target, md5=MD5)
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("length", [len(CONTENT), len(CONTENT) + 10])
def test_a_part_beyond_the_end_of_the_file_is_downloaded_anew(address, target, length):
    target.parent.mkdir(parents=True)
    target.with_name(f".{target.name}.0.partial").write_bytes(b"x" * length)
    download.fetch(f"{address}/refusing", target, md5=MD5)
    assert list(target.parent.iterdir()) == [target]


def test_a_cache_that_cannot_be_written_to_is_named_with_what_to_do(published, tmp_path):
    (tmp_path / "cache").touch()
    with pytest.raises(OSError, match=r"cache, which cannot be written to .* set HOME to"):
        download.fetch(published, tmp_path / "cache" / "weights.h5")


def test_the_part_of_a_killed_process_is_taken_over_once_it_is_still(address, target):
    target.parent.mkdir(parents=True)
    part = target.with_name(f".{target.name}.999999.partial")
    part.write_bytes(CONTENT[:3000])
    with pytest.raises(OSError, match="could not be downloaded"):
        download.fetch(f"{address}/ranges", target)  # it may be written to at this moment
    assert part.read_bytes() == CONTENT[:3000]
    target.with_name(f".{target.name}.0.partial").unlink()
    os.utime(part, (0, 0))
    download.fetch(f"{address}/ranges", target, md5=MD5)
    assert list(target.parent.iterdir()) == [target]


def test_a_file_of_another_size_is_downloaded_anew(published, target):
    target.parent.mkdir(parents=True)
    target.write_bytes(CONTENT[:5])
    download.fetch(published, target, size=len(CONTENT))
    assert target.read_bytes() == CONTENT


def test_published_names_are_downloaded_into_the_cache(monkeypatch, tmp_path, published):
    monkeypatch.setattr(catalog, "CACHE", tmp_path / "cache")
    monkeypatch.setitem(catalog.PUBLISHED, "coco", catalog.Published(published, md5=MD5))
    path = catalog.resolve("coco", tmp_path)
    assert path == tmp_path / "cache" / "weights.h5"
    assert path.read_bytes() == CONTENT


def test_published_files_can_be_checked():
    published = catalog.PUBLISHED.values()
    assert all(source.size or source.md5 or source.sha256 for source in published)


def test_bundled_names_stand_for_files_of_the_package(tmp_path):
    assert catalog.resolve("nuclei", tmp_path) == catalog.ASSETS / "mask_rcnn_nuclei.h5"


def test_paths_stand_for_themselves(tmp_path):
    path = tmp_path / "mine.h5"
    path.touch()
    assert catalog.resolve(path, tmp_path) == path
    assert catalog.resolve(str(path), tmp_path) == path


def test_an_unknown_word_is_answered_with_the_known_ones(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nuclei, coco, imagenet, .*last.*nothing\.h5"):
        catalog.resolve("nothing.h5", tmp_path)


def test_a_user_without_a_folder_downloads_to_that_of_temporary_files(monkeypatch):
    def fail():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(catalog.Path, "home", fail)
    assert str(catalog._home()) == tempfile.gettempdir()


def test_weights_for_coco_come_with_its_81_classes(tmp_path):
    settings = catalog.settings("coco", tmp_path / "unread.h5")
    names, ids = settings["CLASS_NAMES"], settings["CATEGORY_IDS"]
    assert settings["NUM_CLASSES"] == len(names) == len(ids) == 81
    assert (names[0], names[1], names[80]) == ("BG", "person", "toothbrush")
    assert (ids[0], ids[1], ids[80]) == (0, 1, 90)
