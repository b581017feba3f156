import argparse

import pytest

from mrcnn.cli import common
from mrcnn.config import Config


def options(run=None, settings=()):
    return argparse.Namespace(run=run, settings=list(settings))


@pytest.mark.parametrize(
    ("raised", "status"),
    [
        (ValueError("wrong"), 2),
        (FileNotFoundError("wrong"), 2),
        (NotADirectoryError("wrong"), 2),
        (RuntimeError("wrong"), 1),
        (PermissionError("wrong"), 1),
        (OSError("wrong"), 1),
    ],
)
def test_an_error_is_a_status_and_one_line(capsys, raised, status):
    def run(_):
        raise raised

    assert common.run_command(options(run), "shapes train") == status
    assert capsys.readouterr().err == "shapes train: wrong\n"


def test_an_interruption_is_a_failure(capsys):
    def run(_):
        raise KeyboardInterrupt

    assert common.run_command(options(run), "a") == 130
    assert capsys.readouterr().err == "Interrupted\n"


@pytest.mark.parametrize(("returned", "status"), [(None, 0), (0, 0), (1, 1)])
def test_status_is_what_is_returned(returned, status):
    assert common.run_command(options(lambda _: returned), "a") == status


def test_faults_of_the_program_are_not_hidden():
    def run(_):
        raise KeyError("fault")

    with pytest.raises(KeyError):
        common.run_command(options(run), "a")


def test_numbers_of_arguments():
    assert common.positive("3") == 3
    assert common.fraction("0.25") == 0.25
    for convert, text in (
        (common.positive, "0"),
        (common.fraction, "1.5"),
        (common.fraction, "-1"),
        (common.fraction, "nan"),
    ):
        with pytest.raises(argparse.ArgumentTypeError, match=text):
            convert(text)
    for convert in (common.positive, common.fraction):
        with pytest.raises(ValueError, match="many"):
            convert("many")


@pytest.mark.parametrize(
    ("settings", "before", "mean"),
    [
        (["IMAGE_CHANNEL_COUNT=4"], {}, [123.7, 116.8, 103.9, 114.8]),
        (["IMAGE_CHANNEL_COUNT=1"], {}, [114.8]),
        (["IMAGE_CHANNEL_COUNT=2"], {"MEAN_PIXEL": [1, 2, 3]}, [2.0, 2.0]),
        (["IMAGE_CHANNEL_COUNT=5"], {"MEAN_PIXEL": [1, 2, 3]}, [1, 2, 3, 2.0, 2.0]),
        (["IMAGE_CHANNEL_COUNT=4", "MEAN_PIXEL=[1,2,3,4]"], {}, [1, 2, 3, 4]),
        (["IMAGE_CHANNEL_COUNT=4"], {"MEAN_PIXEL": [1, 2, 3, 4]}, None),
        (["IMAGE_CHANNEL_COUNT=3"], {}, None),
        ([], {"MEAN_PIXEL": [1, 2, 3, 4]}, None),
    ],
)
def test_a_mean_pixel_is_filled_for_other_channels(settings, before, mean):
    chosen = common.chosen_settings(options(settings=settings), before)
    assert chosen.get("MEAN_PIXEL") == mean


def test_json_takes_its_place_when_whole(tmp_path):
    path = tmp_path / "new" / "a.json"
    common.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        common.write_json(path, {"a": object()})
    assert path.read_text() == '{\n "a": 1\n}'
    assert [each.name for each in path.parent.iterdir()] == ["a.json"]


def test_settings_of_the_command_come_over_those_of_the_program():
    class Small(Config):
        NAME, IMAGE_MAX_DIM = "small", 512

    chosen = options(settings=["STEPS_PER_EPOCH=3", "IMAGE_CHANNEL_COUNT=1"])
    config = common.changed(Small, chosen, STEPS_PER_EPOCH=7, VALIDATION_STEPS=2)
    assert (config.STEPS_PER_EPOCH, config.VALIDATION_STEPS, config.IMAGE_MAX_DIM) == (3, 2, 512)
    assert config.MEAN_PIXEL.tolist() == [114.8]
    with pytest.raises(ValueError, match="did you mean STEPS_PER_EPOCH"):
        common.changed(Small, options(settings=["STEPS_PER_EPOC=3"]))


def test_pixel_settings_follow_the_number_of_channels():
    before = {"MEAN_PIXEL": [3, 6, 9], "PIXEL_STD": [1, 2, 3]}
    one = common.chosen_settings(options(settings=["IMAGE_CHANNEL_COUNT=1"]), before)
    assert (one["MEAN_PIXEL"], one["PIXEL_STD"]) == ([6.0], [2.0])
    four = common.chosen_settings(options(settings=["IMAGE_CHANNEL_COUNT=4"]), before)
    assert (four["MEAN_PIXEL"], four["PIXEL_STD"]) == ([3, 6, 9, 6], [1, 2, 3, 2])
    matterports = common.chosen_settings(options(settings=["IMAGE_CHANNEL_COUNT=4"]), {})
    assert "PIXEL_STD" not in matterports
