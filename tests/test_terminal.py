"""Commands and the library where the terminal has few letters, and where nothing can be written."""

import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from mrcnn import terminal
from mrcnn.config import Config
from mrcnn.weights import runs

NAMES = ("Blüte", "細胞")
WAYS = {
    "cp1252": {"PYTHONIOENCODING": "cp1252"},
    "ascii": {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"},
    "C": {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"},
    "no home": {"HOME": None, "PYTHONIOENCODING": "ascii"},
    "no home to write to": {
        "HOME": "/dev/null/none",
        "XDG_CACHE_HOME": None,
        "XDG_CONFIG_HOME": None,
    },
}


@pytest.fixture
def flowers(tmp_path):
    """A set whose second class has no objects, which is a finding that names it."""
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "a.png")
    outline = [8, 8, 40, 8, 40, 40, 8, 40]
    annotation = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [outline]}
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 64, "height": 64}],
        "annotations": [annotation],
        "categories": [{"id": number, "name": name} for number, name in enumerate(NAMES, 1)],
    }
    (tmp_path / "a.json").write_text(json.dumps(content))
    return tmp_path


def run(way, *arguments):
    changes = {"TF_CPP_MIN_LOG_LEVEL": "3", **WAYS[way]}
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONUTF8", "LANG", "LC_CTYPE")}
    environment = {k: v for k, v in (kept | changes).items() if v is not None}
    command = [sys.executable, "-m", "mrcnn", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, check=False)


@pytest.mark.parametrize("way", WAYS)
def test_names_are_shown_wherever_the_command_writes_to(flowers, way):
    done = run(way, "check", flowers)
    assert done.returncode in (0, 1), done.stderr
    shown = done.stdout + done.stderr
    assert b"codec" not in shown
    assert b"Traceback" not in shown
    assert b"Bl" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_the_demo_runs_anywhere(tmp_path, way):
    done = run(way, "demo", "--output", tmp_path / "picture.png")
    assert done.returncode == 0, done.stderr[-500:]


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_the_library_shows_names_without_changing_the_stream(monkeypatch, encoding):
    stream = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    terminal.show("細胞 Blüte")
    Config.from_dict({"NUM_CLASSES": 3, "CLASS_NAMES": ("BG", *NAMES)}).display()
    stream.flush()
    text = stream.buffer.getvalue().decode(encoding)
    assert text.startswith({"utf-8": "細胞"}.get(encoding, "\\u7d30\\u80de"))
    assert stream.errors == "strict"


def test_streams_that_a_program_put_in_place_are_left(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    terminal.make_tolerant()
    terminal.show("細胞")
    assert stream.getvalue() == "細胞\n"


def test_a_log_folder_that_cannot_be_written_to_is_told_with_the_remedy(tmp_path, monkeypatch):
    (tmp_path / "logs").touch()
    with pytest.raises(OSError, match=r"logs/a \(Not a directory\); give one .* --logs") as error:
        runs.begin(tmp_path / "logs" / "a")
    assert "\n" not in str(error.value)
    with pytest.raises(OSError, match="a file is in its place"):
        runs.begin(tmp_path / "logs")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(OSError, match=r"new \(Permission denied\)"):
        runs.begin(tmp_path / "new")
