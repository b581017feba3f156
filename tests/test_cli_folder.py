"""`mrcnn train`, `check` and `evaluate` on the folder of a dataset, with and without parts."""

import json
import shutil

import pytest
from test_cli import assert_refused, run, small_settings, write_set

from mrcnn import files
from mrcnn.weights import runs


@pytest.fixture
def divided(tmp_path):
    """A folder with the parts train, 4 images, and valid, 2 images."""
    write_set(tmp_path / "nuts" / "train")
    write_set(tmp_path / "nuts" / "valid", count=2)
    return tmp_path / "nuts"


def train(*arguments):
    return run("train", *arguments, *small_settings())


@pytest.mark.usefixtures("eagerly", "detecting_eagerly")
def test_the_parts_of_a_folder_are_trained_and_scored(divided, tmp_path, capsys):
    logs = ["--logs", tmp_path / "logs", "--epochs", 1, "--steps", 1]
    assert train(divided, *logs) == 0
    assert "val_loss" in capsys.readouterr().out
    weights = ["--weights", tmp_path / "logs"]
    assert run("evaluate", divided, *weights) == 0
    assert "\n2 images" in capsys.readouterr().out
    assert run("evaluate", divided, *weights, "--part", "train") == 0
    assert "\n4 images" in capsys.readouterr().out
    assert_refused(capsys, ["evaluate", divided, *weights, "--part", "test"], "only train, val")
    assert_refused(capsys, ["evaluate", divided / "valid", *weights, "--part", "val"], "no parts")

    # A run that split a dataset is scored on its own validation images.
    run_folder = runs.last_checkpoint(tmp_path / "logs").parent
    names = sorted(path.name for path in (divided / "train" / "images").iterdir())
    files.write_json(run_folder / "split.json", {"train": names[1:], "val": names[:1]})
    assert run("evaluate", divided / "train", *weights) == 0
    assert "1 of 4 images, as the run's split.json says" in capsys.readouterr().out
    assert run("evaluate", divided / "train", *weights, "--part", "train") == 0
    assert "\n3 images" in capsys.readouterr().out
    assert run("evaluate", divided, *weights) == 0
    assert "\n2 images" in capsys.readouterr().out
    files.write_json(run_folder / "split.json", {"train": [], "val": [names[0], "no.png"]})
    arguments = ["evaluate", divided / "train", *weights]
    assert_refused(capsys, arguments, "1 of 2 images of the split are not in the dataset")
    files.write_json(run_folder / "split.json", {"train": [], "val": ["no.png"]})
    assert run(*arguments) == 0
    shown = capsys.readouterr().out
    assert "The run was split on other images: all images" in shown
    assert "\n4 images" in shown


def test_a_dataset_without_parts_is_split(tmp_path, untrained, capsys):
    write_set(tmp_path / "nuts", count=10)
    assert train(tmp_path / "nuts", "--logs", tmp_path / "logs") == 0
    assert [each.num_images for each in untrained[0][1:3]] == [8, 2]
    assert (
        "2 of its 10 images are set aside for validation (--split 0.2)" in capsys.readouterr().out
    )
    assert train(tmp_path / "nuts", "--logs", tmp_path / "logs", "--split", 0) == 0
    assert (untrained[1][1].num_images, untrained[1][2]) == (10, None)


def test_a_train_part_without_a_validation_part_is_split(tmp_path, untrained):
    write_set(tmp_path / "nuts" / "train", count=10)
    write_set(tmp_path / "nuts" / "test", count=2)
    assert train(tmp_path / "nuts", "--logs", tmp_path / "logs") == 0
    assert [each.num_images for each in untrained[0][1:3]] == [8, 2]


def test_too_few_images_are_not_split(tmp_path, untrained, capsys):
    write_set(tmp_path / "nuts", count=4)
    assert train(tmp_path / "nuts", "--logs", tmp_path / "logs") == 0
    assert untrained[0][2] is None
    assert "Training without validation" in capsys.readouterr().out


def test_a_folder_without_a_training_part(tmp_path, capsys):
    write_set(tmp_path / "nuts" / "val")
    arguments = ["train", tmp_path / "nuts", "--logs", tmp_path / "logs"]
    assert_refused(capsys, arguments, "has no part train, only val")
    assert run("check", tmp_path / "nuts") == 0
    assert "4 images" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [["train", "--logs", "l"], ["train", "a", "--train", "b", "--logs", "l"]]
)
def test_exactly_one_form_is_wanted(capsys, arguments):
    with pytest.raises(SystemExit) as stop:
        run(*arguments)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert "DATASET" in error
    assert "--train" in error


def test_options_that_do_not_go_together(divided, tmp_path, capsys):
    logs = ["--logs", tmp_path / "logs"]
    assert_refused(capsys, ["train", divided, "--val", divided, *logs], "--val belongs to --train")
    shutil.rmtree(divided / "valid")
    write_set(tmp_path / "more", count=8)
    arguments = ["train", tmp_path / "more", *logs, "--split", 0.7]
    assert_refused(capsys, arguments, "from 0 to 0.5, got 0.7")
    arguments = ["evaluate", "--annotations", divided / "train", "--part", "val"]
    assert_refused(capsys, [*arguments, "--weights", "nuclei"], "--part belongs to DATASET")


def test_the_parts_of_a_folder_are_checked(divided, capsys):
    run("check", divided, "--json")
    sets = json.loads(capsys.readouterr().out)["sets"]
    assert {part: each["images"] for part, each in sets.items()} == {"training": 4, "validation": 2}
