import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mrcnn import files


def test_file_takes_its_place_when_written(tmp_path):
    target = tmp_path / "new folder" / "scores.json"
    with files.replacing(target) as partial:
        partial.write_text("whole")
        assert not target.exists()
        assert partial.suffix == ".json"
    assert [path.name for path in target.parent.iterdir()] == ["scores.json"]
    assert target.read_text() == "whole"


def test_failure_leaves_the_older_file_and_nothing_else(tmp_path):
    target = tmp_path / "scores.json"
    target.write_text("old")

    def write():
        with files.replacing(target) as partial:
            partial.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write()
    assert [path.name for path in tmp_path.iterdir()] == ["scores.json"]
    assert target.read_text() == "old"


def test_names_as_long_as_they_can_be(tmp_path):
    target = tmp_path / ("a" * 251 + ".txt")
    with files.replacing(target) as partial:
        partial.write_text("whole")
    assert target.read_text() == "whole"


@pytest.mark.parametrize("mode", [0o600, 0o664, 0o777])
def test_the_mode_of_the_older_file_is_kept(tmp_path, mode):
    target = tmp_path / "scores.json"
    target.write_text("old")
    target.chmod(mode)
    with files.replacing(target) as partial:
        partial.write_text("new")
    assert target.read_text() == "new"
    assert target.stat().st_mode & 0o777 == mode


def test_a_new_file_has_the_mode_that_the_user_wants(tmp_path):
    before = os.umask(0o027)
    try:
        with files.replacing(tmp_path / "scores.json") as partial:
            partial.write_text("new")
    finally:
        os.umask(before)
    assert (tmp_path / "scores.json").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("is_there", [True, False])
def test_the_file_that_a_link_leads_to_is_replaced(tmp_path, is_there):
    (tmp_path / "far").mkdir()
    if is_there:
        (tmp_path / "far" / "real.json").write_text("old")
    (tmp_path / "link.json").symlink_to(tmp_path / "far" / "real.json")
    with files.replacing(tmp_path / "link.json") as partial:
        partial.write_text("new")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "far" / "real.json").read_text() == "new"
    assert len(list((tmp_path / "far").iterdir())) == 1


def test_devices_and_pipes_are_written_to(tmp_path):
    with files.replacing("/dev/null") as partial:
        partial.write_text("nothing")
    assert Path("/dev/null").is_char_device()
    os.mkfifo(tmp_path / "pipe")
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_text()))
    reader.start()
    with files.replacing(tmp_path / "pipe") as partial:
        partial.write_text("through")
    reader.join(10)
    assert read == ["through"]
    assert (tmp_path / "pipe").is_fifo()


def test_a_folder_in_place_of_a_file(tmp_path):
    with (
        pytest.raises(IsADirectoryError, match="is a folder, the name of a file is wanted"),
        files.replacing(tmp_path),
    ):
        pass


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_a_folder_that_must_not_be_written_is_one_line(tmp_path, monkeypatch, code):
    def refuse(*_, **__):
        raise OSError(code, os.strerror(code), "name")

    monkeypatch.setattr(Path, "touch", refuse)
    with (
        pytest.raises(PermissionError, match=f"in the folder {tmp_path}: choose another"),
        files.replacing(tmp_path / "scores.json"),
    ):
        pass
    with pytest.raises(PermissionError, match=f"in the folder {tmp_path}: choose another"):
        files.make_folder(tmp_path)


def test_a_file_in_place_of_a_folder(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(NotADirectoryError, match="out is a file, a folder is wanted"):
        files.make_folder(tmp_path / "out")


def test_a_folder_behind_a_link_is_taken(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert files.make_folder(tmp_path / "link") == tmp_path / "link"
    assert list((tmp_path / "real").iterdir()) == []


def ended_process() -> int:
    """Return the number of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def partial(host: str, pid: int) -> str:
    return f".mrcnn-{host}-{pid}-{'0' * 16}.h5"


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path):
    here, dead = files._host(), ended_process()
    kept = [
        partial(here, os.getpid()),
        partial(here, os.getppid()),
        partial("f" * 16, dead),  # of another machine, whose processes cannot be looked for
        f".mrcnn-{here}-{dead}.h5",
        f"mrcnn-{here}-{dead}-{'0' * 16}.h5",
        "a.h5",
    ]
    for name in [*kept, partial(here, dead)]:
        (tmp_path / name).touch()
    files.remove_abandoned(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


def test_a_killed_writer_is_told_by_the_name_that_it_left(tmp_path):
    program = (
        "import os, sys; from mrcnn import files\n"
        "with files.replacing(sys.argv[1], durable=True) as partial:\n"
        "    partial.write_text('half'); os._exit(1)"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path / "a.h5"], check=False)
    (left,) = tmp_path.iterdir()
    assert left.read_text() == "half"
    with files.replacing(tmp_path / "a.h5", durable=True) as path:
        path.write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]


def test_a_durable_file_is_on_the_disk_before_it_takes_its_place(tmp_path, monkeypatch):
    order = []
    sync, replace = os.fsync, os.replace

    def noting_sync(handle):
        order.append(os.readlink(f"/proc/self/fd/{handle}"))
        sync(handle)

    def noting_replace(old, new):
        order.append("renamed")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", noting_sync)
    monkeypatch.setattr(os, "replace", noting_replace)
    with files.replacing(tmp_path / "a.h5", durable=True) as path:
        path.write_text("whole")
    assert order == [str(path), "renamed", str(tmp_path)]


def test_file_systems_that_cannot_sync_folders(tmp_path, monkeypatch):
    def refuse(handle):
        if os.path.isdir(f"/proc/self/fd/{handle}"):
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refuse)
    with files.replacing(tmp_path / "a.h5", durable=True) as path:
        path.write_text("whole")
    assert (tmp_path / "a.h5").read_text() == "whole"
