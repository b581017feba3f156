import json
import shutil

import numpy as np
import PIL.Image
import pytest
from sets import NUT, coco, picture
from test_cli import run
from via_set import rectangle, write_via

LEAF = rectangle(1, 1, 40, 40, kind="leaf")
CROSSING = [8, 8, 24, 24, 24, 8, 8, 24]


@pytest.fixture
def leaves(tmp_path):
    """Four images: of c.png an object is faulty, b.png is missing."""
    beyond = rectangle(30, 30, 90, 9, kind="leaf")
    entries = {"a.png": [LEAF], "b.png": [LEAF], "c.png": [LEAF, beyond], "d.png": []}
    path = write_via(tmp_path / "leaves", entries)
    (tmp_path / "leaves" / "b.png").unlink()
    return path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_worst_images_come_first(leaves, tmp_path, capsys):
    out = tmp_path / "out"
    assert run("check", leaves, "--pictures", out) == 1
    written = names(out)
    assert written[0] == "002_warning_c.png"
    assert {name[3:] for name in written[1:3]} == {"_sample_a.png", "_sample_d.png"}
    assert written[3:] == ["index.html"]
    assert f"3 pictures: see {out / 'index.html'}" in capsys.readouterr().err
    page = (out / "index.html").read_text()
    places = [page.index(name) for name in ("b.png</h2>", "c.png</h2>", *written[1:3])]
    assert places == sorted(places)
    assert "No picture: " in page
    assert '<li class="error">error: image b.png: there is no file' in page
    assert "its outline reaches x 30 to 120" in page


def test_objects_that_findings_name_are_red(leaves, tmp_path):
    run("check", leaves, "--pictures", tmp_path / "out")
    with PIL.Image.open(tmp_path / "out" / "002_warning_c.png") as drawn:
        assert drawn.size == (256, 256)  # four times the image
        pixels = np.asarray(drawn).astype(int)
    is_red = (pixels[..., 0] > 150) & (pixels[..., 1:].max(axis=-1) < 120)
    assert is_red[4 * 34 : 4 * 38, 4 * 50 :].mean() > 0.5  # of the object beyond the border
    assert not is_red[4 * 5 : 4 * 20, 4 * 5 : 4 * 20].any()


def test_no_more_pictures_than_asked_for_and_those_of_before_go(leaves, tmp_path, capsys):
    out = tmp_path / "out"
    run("check", leaves, "--pictures", out)
    (out / "003_sample_mine.png").write_bytes(b"of another program")
    run("check", leaves, "--pictures", out, "--most", 2)
    assert names(out) == ["002_warning_c.png", "003_sample_mine.png", "index.html"]
    assert "1 picture: see" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["index.html", "002_warning_c.png"])
def test_files_of_other_programs_are_not_overwritten(leaves, tmp_path, capsys, name):
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text("mine")
    assert run("check", leaves, "--pictures", out) == 2
    assert f"{name} is not of mrcnn check: give another folder" in capsys.readouterr().err
    assert (out / name).read_text() == "mine"
    assert names(out) == [name]


def test_images_of_both_parts_are_told_apart(tmp_path, capsys):
    for part, outline in (("train", NUT), ("val", CROSSING)):
        picture(tmp_path / part / "<a>.png")
        coco(tmp_path / part / "coco.json", ["<a>.png"], [outline])
    out = tmp_path / "out"
    assert run("check", tmp_path, "--pictures", out, "--json") == 0
    assert {name[4:] for name in names(out)} >= {"warning__a_.png"}
    page = (out / "index.html").read_text()
    assert "<h2>validation: &lt;a&gt;.png</h2>" in page
    validation = page[page.index("<h2>validation") :]
    assert "crosses itself" in validation.partition("<h2>training")[0]
    json.loads(capsys.readouterr().out)


def test_the_sample_is_the_same_every_time(tmp_path):
    many = [f"{n}.png" for n in range(30)]
    for n, name in enumerate(many):
        picture(tmp_path / "set" / name, level=n)
    path = coco(tmp_path / "set" / "coco.json", many)
    found = []
    for seed in (0, 0, 1):
        run("check", path, "--pictures", tmp_path / "out", "--most", 5, "--set", f"SEED={seed}")
        found.append(names(tmp_path / "out"))
        shutil.rmtree(tmp_path / "out")
    assert found[0] == found[1] != found[2]
    assert len(found[0]) == 6
