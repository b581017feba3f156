import errno
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import tifffile
from pycocotools.coco import COCO
from small import SmallConfig, make_find_objects

from mrcnn import cli
from mrcnn.cli import common, detect_images, results
from mrcnn.drawing import pictures
from mrcnn.geometry import masks
from mrcnn.model import MaskRCNN

SIZE = (48, 64)


def run(*arguments) -> int:
    return cli.main([str(argument) for argument in arguments])


def write_image(path: Path, size=SIZE, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    PIL.Image.fromarray(pixels).save(path)
    return path


def rows_of(output: Path) -> list[dict]:
    return json.loads((output / "detections.json").read_text())


@pytest.fixture(scope="module")
def finder(tmp_path_factory) -> Path:
    """A checkpoint that finds objects everywhere, eight in an image, which is its limit."""
    config = SmallConfig().replace(CATEGORY_IDS=(0, 3, 7))
    model = MaskRCNN("inference", config, tmp_path_factory.mktemp("logs"))
    make_find_objects(model.network)
    path = tmp_path_factory.mktemp("finder") / "finder.h5"
    model.save_weights(path)
    return path


@pytest.fixture(scope="module")
def loaded(finder):
    return MaskRCNN.from_checkpoint(finder)


@pytest.fixture
def detect(finder, loaded, monkeypatch, tmp_path):
    """Run `mrcnn detect`, with a network that is loaded once, into the folder out."""
    monkeypatch.setattr(common, "load_network", lambda _: loaded)

    def call(*arguments, output=tmp_path / "out", score=0) -> int:
        options = ["--weights", finder, "--output", output, "--min-score", score]
        return run("detect", *arguments, *options)

    return call


def assert_refused(detect, capsys, arguments, *parts, **options) -> None:
    assert detect(*arguments, **options) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("mrcnn detect: ")
    for part in parts:
        assert str(part) in line


# What is looked at


def test_folders_are_searched_with_all_that_is_inside(detect, tmp_path, capsys):
    for name in ("a.png", "b/a.jpg", "b/c/a.jfif", "b/7.png", ".hidden/a.png", "d/__MACOSX/a.png"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = PIL.Image.new("RGB", SIZE)
        image.save(path, format="JPEG" if path.suffix in (".jpg", ".jfif") else "PNG")
    (tmp_path / "in" / "notes.txt").write_text("no image")
    assert detect(tmp_path / "in") == 0
    out, err = capsys.readouterr()
    assert "in 4 images" in out
    assert "notes.txt" in err
    names = {row["file_name"]: row["image_id"] for row in rows_of(tmp_path / "out")}
    assert names == {"a.png": "a.png", "b/a.jpg": "a.jpg", "b/c/a.jfif": "a.jfif", "b/7.png": 7}
    written = {p.relative_to(tmp_path / "out").as_posix() for p in tmp_path.glob("out/**/*.png")}
    assert written == {"a.png", "b/a.png", "b/c/a.png", "b/7.png"}


def test_patterns_that_the_shell_did_not_take(detect, tmp_path, capsys):
    for name in ("a.png", "b/c.png", "b/d.png", "b/e/f.png"):
        write_image(tmp_path / "in" / name)
    (tmp_path / "in" / "b" / "text.txt").write_text("no image")
    assert detect(f"{tmp_path}/in/b/*") == 0
    assert {row["file_name"] for row in rows_of(tmp_path / "out")} == {"c.png", "d.png", "f.png"}
    assert detect(f"{tmp_path}/in/**/*.png", output=tmp_path / "all") == 0
    assert "in 4 images" in capsys.readouterr().out
    assert_refused(detect, capsys, [f"{tmp_path}/in/*.bmp"], "*.bmp: no image matches this pattern")


def test_a_name_with_brackets_is_a_name(detect, tmp_path):
    assert detect(write_image(tmp_path / "in" / "a [1].png")) == 0


def test_an_image_that_is_named_twice_is_taken_once(detect, tmp_path, capsys):
    path = write_image(tmp_path / "in" / "a.png")
    assert detect(path, tmp_path / "in", path) == 0
    assert "in 1 image;" in capsys.readouterr().out


def ids_of(*names: str, arguments=None, root: Path) -> list:
    for name in names:
        write_image(root / name)
    found, _ = detect_images.find([str(root / a) for a in arguments or ["."]], root / "out")
    return [each.id for each in found]


def test_ids_are_numbers_or_names_and_differ(tmp_path):
    assert ids_of("000139.png", "b.png", root=tmp_path / "1") == [139, "b.png"]
    clashing = ids_of("a/1.png", "b/1.png", "c/2.png", root=tmp_path / "2")
    assert clashing == ["a/1.png", "b/1.png", 2]
    assert ids_of("01.png", "1.png", root=tmp_path / "3") == ["01.png", "1.png"]
    root = tmp_path / "4"
    twice = ids_of("a/x.png", "b/x.png", arguments=["a", "b"], root=root)
    assert twice == [(root / "a/x.png").as_posix(), (root / "b/x.png").as_posix()]


def test_results_of_an_earlier_run_are_no_images(detect, tmp_path, capsys):
    write_image(tmp_path / "in" / "a.png")
    for _ in range(2):
        assert detect(tmp_path / "in", "--overwrite", output=tmp_path / "in" / "out") == 0
        assert "in 1 image;" in capsys.readouterr().out
        assert detect(tmp_path / "in", "--overwrite", output=tmp_path / "in") == 0
        assert "in 1 image;" in capsys.readouterr().out


# What is written


def test_results_are_those_of_coco(detect, tmp_path, capsys):
    write_image(tmp_path / "in" / "a.png")
    assert detect(tmp_path / "in") == 0
    rows = rows_of(tmp_path / "out")
    assert (
        f"{len(rows)} objects in 1 image; visualizations and detections.json"
        in capsys.readouterr().out
    )
    assert {(row["category_id"], row["category_name"]) for row in rows} <= {
        (3, "dark"),
        (7, "bright"),
    }
    for row in rows:
        assert masks.from_rle([row["segmentation"]], SIZE).shape == (*SIZE, 1)
    with PIL.Image.open(tmp_path / "out" / "a.png") as picture:
        assert picture.size == SIZE[::-1]


def write_annotations(path: Path, *names: str) -> Path:
    images = [
        {"id": 100 + place, "file_name": name, "height": SIZE[0], "width": SIZE[1]}
        for place, name in enumerate(names)
    ]
    categories = [{"id": 5, "name": "bright"}, {"id": 9, "name": "dark"}]
    path.write_text(json.dumps({"images": images, "annotations": [], "categories": categories}))
    return path


def test_ids_are_those_of_the_annotations(detect, tmp_path, capsys):
    for name in ("a/x.png", "b/x.png", "1.png", "other.png"):
        write_image(tmp_path / "in" / name)
    truth = write_annotations(tmp_path / "ann.json", "a/x.png", "b/x.png", "somewhere\\1.png")
    assert detect(tmp_path / "in", "--annotations", truth) == 0
    assert f"not in {truth}, so left out: other.png" in capsys.readouterr().err
    rows = rows_of(tmp_path / "out")
    assert {row["image_id"]: row["file_name"] for row in rows} == {
        100: "a/x.png",
        101: "b/x.png",
        102: "1.png",
    }
    assert {(row["category_id"], row["category_name"]) for row in rows} <= {
        (9, "dark"),
        (5, "bright"),
    }
    coco = COCO(str(truth))
    assert len(coco.loadRes(str(tmp_path / "out" / "detections.json")).anns) == len(rows)


def test_annotations_of_other_images_or_classes_are_refused(detect, tmp_path, capsys):
    image = write_image(tmp_path / "in" / "a.png")
    other = write_annotations(tmp_path / "ann.json", "b.png")
    assert_refused(detect, capsys, [image, "--annotations", other], "none of the 1 images", "a.png")
    truth = write_annotations(tmp_path / "ann.json", "a.png")
    truth.write_text(truth.read_text().replace("dark", "cat").replace("bright", "dog"))
    classes = "none of the network's classes ['dark', 'bright'], but ['dog', 'cat']"
    assert_refused(detect, capsys, [image, "--annotations", truth], classes)
    truth.write_text("[]")
    assert_refused(detect, capsys, [image, "--annotations", truth], "is no COCO file")


def test_as_many_objects_as_there_may_be_are_told(detect, tmp_path, caplog):
    path = write_image(tmp_path / "in" / "a.png")
    with caplog.at_level(logging.WARNING, "mrcnn"):
        assert detect(path, score=1) == 0
    (said,) = [record.getMessage() for record in caplog.records if record.name == "mrcnn"]
    assert said == (
        f"{path}: 8 objects, which is the limit DETECTION_MAX_INSTANCES: there may be more. Raise "
        "it (--set DETECTION_MAX_INSTANCES=16), or cut the image into tiles"
    )


def test_no_objects_tell_the_best_score(detect, tmp_path, capsys):
    write_image(tmp_path / "in" / "a.png")
    assert detect(tmp_path / "in", score=1) == 0
    shown = capsys.readouterr().out
    assert "0 objects in 1 image at a score of 1 or more; the best score was 0." in shown
    suggested = float(shown.rsplit("--min-score ", 1)[1])
    assert detect(tmp_path / "in", "--overwrite", score=suggested) == 0
    assert rows_of(tmp_path / "out")


@pytest.mark.parametrize(
    ("best", "said"),
    [
        (0.31, "was 0.31: try --min-score 0.2"),
        (0.9, "--min-score 0.6"),
        (0.1, "--min-score 0.06"),
        (0.012, "--min-score 0.008"),
        (0, "at any score: try --set DETECTION_MIN_CONFIDENCE"),
    ],
)
def test_the_score_that_is_suggested(best, said):
    assert said in cli.detect._hint(best)


def test_images_of_one_name_have_a_picture_each(detect, tmp_path):
    for folder in ("a", "b"):
        write_image(tmp_path / folder / "same.png")
    write_image(tmp_path / "a" / "same.jpg")
    assert detect(tmp_path / "a", tmp_path / "b") == 0
    assert len(list((tmp_path / "out").glob("same*.png"))) == 3


# Nothing is lost


def test_results_of_an_earlier_run_need_the_word(detect, tmp_path, capsys):
    path = write_image(tmp_path / "in" / "a.png")
    assert detect(path) == 0
    capsys.readouterr()
    before = (tmp_path / "out" / "detections.json").read_bytes()
    assert_refused(detect, capsys, [path], tmp_path / "out", "--overwrite", score=1)
    assert (tmp_path / "out" / "detections.json").read_bytes() == before
    assert detect(path, "--overwrite", score=1) == 0
    assert rows_of(tmp_path / "out") == []


def test_what_detect_did_not_write_stays(detect, tmp_path, capsys):
    path = write_image(tmp_path / "in" / "a.png")
    mine = write_image(tmp_path / "out" / "a.png", seed=7).read_bytes()
    for words in ([], ["--overwrite"], ["--overwrite"]):
        assert detect(path, *words) == 0
    assert (tmp_path / "out" / "a.png").read_bytes() == mine
    assert sorted(p.name for p in (tmp_path / "out").glob("*.png")) == ["a.png", "a_2.png"]
    (tmp_path / "out" / "detections.json").write_text('[{"mine": 1}]')
    capsys.readouterr()
    assert_refused(detect, capsys, [path, "--overwrite"], "not written by mrcnn detect: move it")
    assert (tmp_path / "out" / "detections.json").read_text() == '[{"mine": 1}]'


def test_images_in_the_folder_of_results_stay(detect, tmp_path):
    names = ("a.png", "a.jpg", "b.png")
    before = {name: write_image(tmp_path / "in" / name).read_bytes() for name in names}
    assert detect(tmp_path / "in", output=tmp_path / "in") == 0
    assert {name: (tmp_path / "in" / name).read_bytes() for name in names} == before
    assert len(list((tmp_path / "in").glob("*_*.png"))) == 3


def test_an_output_behind_a_link_is_followed(detect, tmp_path):
    path = write_image(tmp_path / "in" / "a.png")
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert detect(path, output=tmp_path / "link") == 0
    assert (tmp_path / "link").is_symlink()
    assert rows_of(tmp_path / "real")


def test_an_output_that_is_a_file_is_refused(detect, tmp_path, capsys):
    path = write_image(tmp_path / "in" / "a.png")
    (tmp_path / "out").write_text("mine")
    assert_refused(detect, capsys, [path], "out is a file, where a folder is needed")


def stop_at(monkeypatch, loaded, number: int, error: BaseException) -> None:
    """Let the detection of the image of a number end in an error."""
    count, predict = 0, loaded.predict

    def stopping(*arguments, **options):
        nonlocal count
        count += 1
        if count == number:
            raise error
        return predict(*arguments, **options)

    monkeypatch.setattr(loaded, "predict", stopping)


def write_images(folder: Path, count: int) -> Path:
    for number in range(count):
        write_image(folder / f"{number}.png", seed=number)
    return folder


def test_an_interruption_keeps_what_was_done(detect, loaded, tmp_path, capsys, monkeypatch):
    folder = write_images(tmp_path / "in", 4)
    stop_at(monkeypatch, loaded, 3, KeyboardInterrupt())
    assert detect(folder) == 130
    assert {row["image_id"] for row in rows_of(tmp_path / "out")} == {0, 1}
    out, err = capsys.readouterr()
    assert "in 2 images" in out
    assert "2 of 4 images were not processed" in err
    assert err.strip().endswith("Interrupted")


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("the device is out of memory")])
def test_an_image_that_is_too_much_is_named_and_the_others_done(
    detect, loaded, tmp_path, capsys, monkeypatch, caplog, error
):
    folder = write_images(tmp_path / "in", 4)
    stop_at(monkeypatch, loaded, 3, error)
    assert detect(folder) == 1
    assert {row["image_id"] for row in rows_of(tmp_path / "out")} == {0, 1, 3}
    assert "1 image failed: 2.png" in capsys.readouterr().err
    assert any(
        f"{folder / '2.png'}: " in r.getMessage() and "memory" in r.getMessage()
        for r in caplog.records
    )


def test_a_full_disk_keeps_what_was_done(detect, tmp_path, capsys, monkeypatch):
    folder, count, save = write_images(tmp_path / "in", 4), 0, pictures.save_image

    def save_some(*arguments, **options):
        nonlocal count
        count += 1
        if count == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(*arguments, **options)

    monkeypatch.setattr(pictures, "save_image", save_some)
    assert detect(folder) == 1
    assert {row["image_id"] for row in rows_of(tmp_path / "out")} == {0, 1}
    assert "No space left on device" in capsys.readouterr().err


ROW = {"image_id": 1, "file_name": "a", "category_id": 1, "bbox": [0, 0, 1, 1], "score": 0.5}


def test_the_results_file_is_json_after_every_image(tmp_path):
    path = tmp_path / "detections.json"
    with results.ResultsFile(path) as file:
        assert json.loads(path.read_text()) == []
        for count in range(1, 4):
            file.add([{**ROW, "image_id": count}] * count)
            file.add([])
            assert json.loads(path.read_text())[-1]["image_id"] == count
    assert len(json.loads(path.read_text())) == 6
    assert len(path.read_text().splitlines()) == 8
    assert results.is_ours(path)


def test_a_results_file_on_a_full_disk_stays_whole(tmp_path, monkeypatch):
    path, write, room = tmp_path / "detections.json", os.write, [4000]

    def write_some(number: int, text: bytes) -> int:
        if len(text) > room[0]:
            if room[0] == 0:
                room[0] = 4000  # that of what is taken back
                raise OSError(errno.ENOSPC, "No space left on device")
            text = text[: room[0]]
            room[0] = 0
        return write(number, text)

    with results.ResultsFile(path) as file:
        file.add([ROW])
        monkeypatch.setattr(results.os, "write", write_some)
        with pytest.raises(OSError, match="No space left"):
            file.add([ROW] * 1000)
    assert json.loads(path.read_text()) == [ROW]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[]", True),
        ("", True),
        ("[1]", False),
        ("{}", False),
        ('[{"bbox": 1}]', False),
        ("[", False),
    ],
)
def test_whose_results_they_are(tmp_path, text, expected):
    (tmp_path / "detections.json").write_text(text)
    assert results.is_ours(tmp_path / "detections.json") == expected


def test_progress_without_a_terminal_is_lines(monkeypatch, capsys):
    monkeypatch.setattr(common, "LINE_EVERY", 0)
    assert list(common.progress([1, 2, 3])) == [1, 2, 3]
    assert [line.split(",")[0] for line in capsys.readouterr().err.splitlines()] == [
        "0 of 3 images",
        "1 of 3 images",
        "2 of 3 images",
    ]


def test_pillow_has_nothing_to_say_below_the_limit(detect, tmp_path, monkeypatch):
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 2500)  # beyond it, a warning
    assert detect(write_image(tmp_path / "in" / "a.png"), tmp_path / "in") == 0
    assert detect(tmp_path / "in", "--overwrite") == 0


# Everything at once


def write_everything(folder: Path) -> tuple[set[str], set[str]]:
    """Write images of every kind; return the names of the good ones and of the bad ones."""
    good, bad = {"a.png", "sub/a.png", "long.png", "narrow.png", "gaps.tif", "16.png"}, set()
    for name in ("a.png", "sub/a.png", "sub/deeper/b.jpg"):
        write_image(folder / name)
    good.add("sub/deeper/b.jpg")
    write_image(folder / "narrow.png", (1000, 1))
    write_image(folder / "wide.png", (1, 1000))
    write_image(folder / "dot.png", (1, 1))
    good |= {"wide.png", "dot.png"}
    long = "é" * 120 + ".png"
    write_image(folder / "long.png").rename(folder / long)
    good = (good - {"long.png"}) | {long}
    floats = np.random.default_rng(0).random((*SIZE, 3)).astype(np.float32)
    floats[:5] = np.nan
    tifffile.imwrite(folder / "gaps.tif", floats, photometric="rgb")
    PIL.Image.fromarray(np.full(SIZE, 3000, np.uint16)).save(folder / "16.png")
    for suffix in ("jp2", "jfif", "webp", "gif", "bmp"):
        image = PIL.Image.new("RGB", SIZE[::-1], (90, 20, 7))
        image.save(folder / f"k{suffix}.{suffix}", format="JPEG" if suffix == "jfif" else None)
        good.add(f"k{suffix}.{suffix}")

    tifffile.imwrite(folder / "stack.tif", np.zeros((5, *SIZE), np.uint8), photometric=1)
    frames = [PIL.Image.new("L", SIZE, value) for value in (0, 90, 200)]
    frames[0].save(folder / "film.gif", save_all=True, append_images=frames[1:])
    tifffile.imwrite(folder / "nan.tif", np.full((*SIZE, 3), np.nan, np.float32), photometric="rgb")
    tifffile.imwrite(folder / "bomb.tif", np.zeros((16, 16), np.uint8), photometric=1)
    with tifffile.TiffFile(folder / "bomb.tif", mode="r+") as tiff:
        for tag in (256, 257, 278):
            tiff.pages.first.tags[tag].overwrite(100000)
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.jpg").write_text("no image")
    (folder / "script.png").write_text(
        "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"
    )
    whole = (folder / "a.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    bad = {"stack.tif", "film.gif", "nan.tif", "bomb.tif", "empty.png", "text.jpg", "script.png"}
    return good, bad | {"cut.png"}


def test_of_a_folder_with_everything_the_good_are_done_and_the_bad_named(
    detect, tmp_path, capsys, caplog
):
    good, bad = write_everything(tmp_path / "in")
    (tmp_path / "in" / "notes.txt").write_text("no image")
    (tmp_path / "in" / "folder.png").mkdir()
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    assert detect(tmp_path / "in") == 1
    out, err = capsys.readouterr()
    assert f"in {len(good)} images; visualizations and detections.json" in out
    assert f"{len(bad)} images failed" in err
    said = [record.getMessage() for record in caplog.records if "limit" not in record.getMessage()]
    said += [r.getMessage() for r in caplog.records if "more than the limit" in r.getMessage()]
    for name in bad:
        (line,) = [line for line in said if str(tmp_path / "in" / name) in line]
        assert "\n" not in line
    assert {row["file_name"] for row in rows_of(tmp_path / "out")} <= good
    assert len(list((tmp_path / "out").glob("**/*.png"))) == len(good)
    ids = {row["file_name"]: row["image_id"] for row in rows_of(tmp_path / "out")}
    assert len(set(ids.values())) == len(ids)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_stopped_leaves_what_was_done(finder, tmp_path, how):
    folder = write_images(tmp_path / "in", 2000)
    command = [sys.executable, "-m", "mrcnn", "detect", folder, "--weights", finder]
    command += ["--output", tmp_path / "out", "--min-score", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        until = time.monotonic() + 120
        while len(list(tmp_path.glob("out/*.png"))) < 5 and time.monotonic() < until:
            time.sleep(0.05)
        process.send_signal(how)
        out, err = process.communicate(timeout=60)
    done = {row["image_id"] for row in rows_of(tmp_path / "out")}
    assert done >= set(sorted(range(2000), key=str)[:4])
    assert all((tmp_path / "out" / f"{number}.png").exists() for number in done)
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert f"in {len(done)} images".encode() in out
        assert b"Traceback" not in err


@pytest.mark.slow
def test_the_command_itself(finder, tmp_path):
    good, bad = write_everything(tmp_path / "in")
    command = [sys.executable, "-m", "mrcnn", "detect", tmp_path / "in", "--weights", finder]
    command += ["--output", tmp_path / "out", "--min-score", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"in {len(good)} images" in done.stdout
    assert all(f"WARNING: {tmp_path / 'in' / name}: " in done.stderr for name in bad)
    assert "Traceback" not in done.stderr
    assert "Decompression" not in done.stderr
    shutil.rmtree(tmp_path / "out")


def test_folders_of_the_annotations_decide(detect, tmp_path, capsys):
    for name in ("train/a.png", "val/a.png"):
        write_image(tmp_path / "in" / name)
    truth = write_annotations(tmp_path / "ann.json", "train/a.png", "val/b.png")
    refused = [tmp_path / "in" / "val", "--annotations", truth]
    assert_refused(detect, capsys, refused, "none of the 1 images is in the annotations")
    assert detect(tmp_path / "in", "--annotations", truth) == 0
    assert {row["file_name"] for row in rows_of(tmp_path / "out")} == {"train/a.png"}


def test_an_image_that_the_annotations_list_twice_has_the_first_id(detect, tmp_path):
    path = write_image(tmp_path / "in" / "a.png")
    truth = write_annotations(tmp_path / "ann.json", "a.png", "a.png")
    assert detect(path, "--annotations", truth) == 0
    assert {row["image_id"] for row in rows_of(tmp_path / "out")} == {100}


def test_patterns_enter_no_system_folders_and_no_circles(detect, tmp_path, capsys):
    for name in ("a.png", "@eaDir/b.png", "__MACOSX/c.png"):
        write_image(tmp_path / "in" / name)
    (tmp_path / "in" / "again").symlink_to(tmp_path / "in")
    assert detect(f"{tmp_path}/in/**/*.png") == 0
    assert "in 1 image;" in capsys.readouterr().out
    assert detect(f"{tmp_path}/*n", output=tmp_path / "folders") == 0
    assert "in 1 image;" in capsys.readouterr().out


def test_a_pipe_is_no_image(detect, tmp_path, capsys):
    os.mkfifo(tmp_path / "a.png")
    assert_refused(detect, capsys, [tmp_path / "a.png"], "a.png is not a regular file")


def test_a_folder_called_like_a_picture_is_no_obstacle(detect, tmp_path):
    for name in ("scan.jpg", "scan.png/b.png"):
        write_image(tmp_path / "in" / name)
    assert detect(tmp_path / "in") == 0
    assert (tmp_path / "out" / "scan_2.png").is_file()
    assert (tmp_path / "out" / "scan.png" / "b.png").is_file()


def test_a_limit_of_pixels_that_is_no_number_is_wrong_use(detect, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MRCNN_MAX_PIXELS", "many")
    path = write_image(tmp_path / "in" / "a.png")
    assert_refused(detect, capsys, [path], "MRCNN_MAX_PIXELS", "many")
