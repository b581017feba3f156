import json
import shutil

import pytest
from via_set import polygon, rectangle, write_via

from mrcnn import cli

LEAF = rectangle(1, 1, 40, 40, kind="leaf")


def run(capsys, *arguments):
    status = cli.main(["check", *map(str, arguments)])
    return status, capsys.readouterr()


def test_a_sound_set_ends_with_0_and_settings(tmp_path, capsys):
    path = write_via(tmp_path, {"a.png": [LEAF], "b.png": [LEAF]})
    status, shown = run(capsys, path)
    assert status == 0
    lines = shown.out.splitlines()
    assert lines[0] == "training: 2 images, 2 objects, 1 class (leaf), read as via"
    assert "  MAX_GT_INSTANCES   10                 an image has up to 1 objects" in lines
    assert lines[-1] == "0 errors, 0 warnings"
    assert shown.err == ""


def test_errors_end_with_1(tmp_path, capsys):
    path = write_via(tmp_path, {"a.png": [LEAF], "b.png": [LEAF]})
    (tmp_path / "a.png").unlink()
    status, shown = run(capsys, path)
    assert status == 1
    assert "ERRORS\n  missing-image\n    image a.png: there is no file" in shown.out
    assert "-> pass --images DIR" in shown.out
    assert shown.out.endswith("1 error, 0 warnings\n")


def test_warnings_alone_end_with_0_and_are_listed_in_part(tmp_path, capsys):
    beyond = [rectangle(1, 5 * n, 90, 4 + n, kind="leaf") for n in range(5)]
    status, shown = run(capsys, write_via(tmp_path, {"a.png": [LEAF, *beyond]}))
    assert status == 0
    assert "beyond-border (5)" in shown.out
    assert shown.out.count("its outline reaches") == 3
    assert "... and 2 more" in shown.out


def test_json_has_everything(tmp_path, capsys):
    train = write_via(tmp_path / "train", {"a.png": [LEAF]})
    val = write_via(tmp_path / "val" / "b", {"b.png": [rectangle(1, 1, 9, 9, kind="stem")]})
    status, shown = run(capsys, train, "--val", val, "--json")
    assert status == 1
    report = json.loads(shown.out)
    assert report["sets"]["validation"] == {
        "format": "via",
        "images": 1,
        "objects": 1,
        "classes": ["stem"],
    }
    (error,) = [each for each in report["findings"] if each["severity"] == "error"]
    assert error["code"] == "class-mismatch"
    assert (
        report["settings"]["RPN_ANCHOR_SCALES"][1] == 2 * report["settings"]["RPN_ANCHOR_SCALES"][0]
    )


def test_json_of_a_set_that_cannot_be_read(tmp_path, capsys):
    (tmp_path / "a.json").write_text("{")
    status, shown = run(capsys, tmp_path / "a.json", "--json")
    assert status == 1
    report = json.loads(shown.out)
    assert report["sets"] == {}
    assert report["findings"][0]["code"] == "unreadable-annotations"


def test_a_validation_set_that_cannot_be_read(tmp_path, capsys):
    train = write_via(tmp_path, {"a.png": [LEAF]})
    (tmp_path / "b.json").write_text("{")
    status, shown = run(capsys, train, "--val", tmp_path / "b.json")
    assert status == 1
    assert "training: 1 image" in shown.out
    assert "unreadable-annotations" in shown.out


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing"],
        ["{set}", "--val", "nothing"],
        ["{set}", "--val-images", "nothing"],
        ["{set}", "--set", "IMAGE_MIN_DIN=3"],
        ["{set}", "--set", "IMAGE_CHANNEL_COUNT=many"],
    ],
)
def test_wrong_input_ends_with_2(tmp_path, capsys, arguments):
    path = write_via(tmp_path, {"a.png": [LEAF]})
    status, shown = run(capsys, *(each.format(set=path) for each in arguments))
    assert status == 2
    assert shown.err.startswith("mrcnn check: ")
    assert shown.out == ""


def test_settings_change_what_is_too_much(tmp_path, capsys):
    regions = [rectangle(2 * n, 0, 2, 64, kind="leaf") for n in range(8)]
    path = write_via(tmp_path, {"a.png": regions})
    assert "too-many-objects" not in run(capsys, path)[1].out
    assert "too-many-objects" in run(capsys, path, "--set", "MAX_GT_INSTANCES=7")[1].out


def test_channels_are_those_of_the_settings(tmp_path, capsys):
    path = write_via(tmp_path, {"a.png": [LEAF]}, channels=4)
    report = json.loads(run(capsys, path, "--json", "--set", "IMAGE_CHANNEL_COUNT=4")[1].out)
    assert len(report["settings"]["MEAN_PIXEL"]) == 4


def test_attribute_and_format_may_be_given(tmp_path, capsys):
    outline = polygon((1, 1), (40, 1), (40, 40), kind="leaf", age="old")
    path = write_via(tmp_path, {"a.png": [outline]})
    assert run(capsys, path)[0] == 1
    status, shown = run(capsys, path, "--class-attribute", "age", "--format", "via")
    assert status == 0
    assert "(old)" in shown.out


def test_images_may_lie_elsewhere(tmp_path, capsys):
    path = write_via(tmp_path / "json", {"a.png": [LEAF]})
    (tmp_path / "far" / "away").mkdir(parents=True)
    shutil.move(tmp_path / "json" / "a.png", tmp_path / "far" / "away")
    assert run(capsys, path)[0] == 1
    assert run(capsys, path, "--images", tmp_path / "far" / "away")[0] == 0
