import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("skimage")

PATH = Path(__file__).resolve().parents[1] / "samples" / "shapes" / "shapes.py"
SPEC = importlib.util.spec_from_file_location("shapes_sample", PATH)
shapes = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(shapes)


def dataset_of(count, height=96, width=128, seed=0):
    dataset = shapes.ShapesDataset()
    dataset.load_shapes(count, height, width, seed)
    dataset.prepare()
    return dataset


def scene_of(*scene, size=(64, 64)):
    dataset = dataset_of(1, *size)
    dataset.image_info[0]["background"] = (10, 20, 30)
    dataset.image_info[0]["shapes"] = list(scene)
    return dataset


def test_images_and_masks_have_the_asked_size():
    dataset = dataset_of(10)
    assert dataset.num_images == 10
    assert dataset.class_names == ["BG", "square", "circle", "triangle"]
    for image_id in dataset.image_ids:
        image, (masks, class_ids) = dataset.load_image(image_id), dataset.load_mask(image_id)
        assert (image.shape, image.dtype) == ((96, 128, 3), np.uint8)
        assert (masks.shape, masks.dtype) == ((96, 128, len(class_ids)), bool)
        assert class_ids.dtype == np.int32
        assert set(class_ids) <= {1, 2, 3}
        assert masks.any(axis=(0, 1)).all()


def test_masks_are_where_the_image_is_not_background():
    dataset = dataset_of(20)
    for image_id in dataset.image_ids:
        image, (masks, _) = dataset.load_image(image_id), dataset.load_mask(image_id)
        background = dataset.image_info[image_id]["background"]
        np.testing.assert_array_equal((image != background).any(axis=-1), masks.any(axis=-1))
        for mask in np.moveaxis(masks, -1, 0):
            assert (image[mask] == image[mask][0]).all()


def test_shapes_stand_out_from_the_background():
    for info in dataset_of(50).image_info:
        for shape in info["shapes"]:
            contrast = np.abs(np.subtract(shape.color, info["background"]))
            assert contrast.min() >= shapes.MIN_CONTRAST


def test_later_shapes_cover_earlier_ones():
    below = shapes.Shape("square", (200, 0, 0), y=30, x=30, size=10)
    above = shapes.Shape("circle", (0, 200, 0), y=30, x=40, size=10)
    dataset = scene_of(below, above)
    masks, class_ids = dataset.load_mask(0)
    assert class_ids.tolist() == [1, 2]
    assert not masks.all(axis=-1).any()
    assert masks[30, 40].tolist() == [False, True]
    assert dataset.load_image(0)[30, 40].tolist() == [0, 200, 0]


def test_hidden_shapes_are_left_out():
    below = shapes.Shape("circle", (200, 0, 0), y=30, x=30, size=5)
    above = shapes.Shape("square", (0, 200, 0), y=30, x=30, size=12)
    masks, class_ids = scene_of(below, above).load_mask(0)
    assert class_ids.tolist() == [1]
    assert masks.sum() == 25 * 25


def test_triangle_stands_on_its_base():
    masks, _ = scene_of(shapes.Shape("triangle", (200, 0, 0), y=30, x=30, size=10)).load_mask(0)
    widths = masks[..., 0].sum(axis=1)
    rows = np.flatnonzero(widths)
    assert (np.diff(widths[rows]) >= 0).all()
    assert widths.max() == 19  # the slanted sides pass between pixels


def test_shapes_that_overlap_much_are_suppressed():
    for info in dataset_of(100).image_info:
        scene = info["shapes"]
        assert 1 <= len(scene) <= shapes.MAX_SHAPES
        for place, shape in enumerate(scene):
            for upper in scene[place + 1 :]:
                assert shapes._box_iou(shape, upper) <= shapes.MAX_OVERLAP


def test_of_two_shapes_that_overlap_much_the_upper_one_stays():
    below = shapes.Shape("square", (200, 0, 0), y=30, x=30, size=10)
    above = below._replace(kind="circle", x=32)
    assert shapes._apart([below, above]) == [above]


def test_overlap_of_equal_squares_moved_by_half_is_a_third():
    one = shapes.Shape("square", (0, 0, 0), y=20, x=20, size=10)
    assert shapes._box_iou(one, one._replace(x=30)) == pytest.approx(1 / 3)
    assert shapes._box_iou(one, one._replace(x=50)) == 0


def test_images_depend_on_seed_and_number_only():
    few, many, other = dataset_of(3), dataset_of(6), dataset_of(3, seed=1)
    for image_id in range(3):
        np.testing.assert_array_equal(few.load_image(image_id), many.load_image(image_id))
    assert not np.array_equal(few.load_image(0), other.load_image(0))
    assert not np.array_equal(few.load_image(0), few.load_image(1))


def test_shapes_lie_within_the_smallest_images():
    for info in dataset_of(50, 32, 32).image_info:
        for shape in info["shapes"]:
            assert shape.size <= min(shape.y, shape.x)
            assert max(shape.y, shape.x) + shape.size < 32


def test_images_too_small_are_an_error():
    with pytest.raises(ValueError, match="at least 32, got 16 x 64"):
        dataset_of(1, 16, 64)


def test_reference_names_the_shapes():
    scene = scene_of(shapes.Shape("circle", (200, 0, 0), y=30, x=31, size=5))
    assert scene.image_reference(0) == "circle at (30, 31)"


def test_settings_of_the_sample_fit_together():
    shapes.ShapesConfig().check()


@pytest.mark.parametrize(
    "arguments",
    [[], ["train", "--epochs", "0"], ["detect", "--weights", "last"], ["evaluate"]],
    ids=["no command", "no epoch", "no output", "no weights"],
)
def test_wrong_use_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        shapes.main(arguments)
    assert stop.value.code == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train", "detect", "evaluate"])
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as stop:
        shapes.main([command, "--help"])
    assert stop.value.code == 0
    assert "--weights" in capsys.readouterr().out


def test_truth_is_drawn_beside_what_was_found():
    dataset = dataset_of(1, 64, 64)
    nothing = {
        "rois": np.zeros((0, 4), np.int32),
        "class_ids": np.zeros(0, np.int32),
        "scores": np.zeros(0, np.float32),
        "masks": np.zeros((64, 64, 0), bool),
    }
    picture = shapes.truth_and_found(dataset, 0, nothing)
    side = 64 * shapes.PICTURE_SCALE
    image = np.array(Image.fromarray(dataset.load_image(0)).resize((side, side), Image.BICUBIC))
    assert not np.array_equal(picture[:, :side], image)
    np.testing.assert_array_equal(picture[:, -side:], image)


@pytest.mark.slow
def test_trains_then_detects_and_scores_with_the_last_checkpoint(tmp_path, capsys):
    logs, output = tmp_path / "logs", tmp_path / "pictures"
    assert shapes.main(["train", "--logs", str(logs), "--epochs", "2", "--steps", "2"]) == 0
    checkpoints = sorted(path.name for path in logs.rglob("*.h5"))
    assert checkpoints == ["mask_rcnn_shapes_0001.h5", "mask_rcnn_shapes_0002.h5"]

    last = ["--weights", "last", "--logs", str(logs), "--count", "2"]
    assert shapes.main(["detect", *last, "--output", str(output)]) == 0
    assert sorted(path.name for path in output.iterdir()) == ["shapes_0000.png", "shapes_0001.png"]

    capsys.readouterr()
    assert shapes.main(["evaluate", *last]) == 0
    assert "segm" in capsys.readouterr().out


@pytest.mark.slow
def test_missing_weights_are_wrong_input(tmp_path, capsys):
    arguments = ["evaluate", "--weights", "last", "--logs", str(tmp_path)]
    assert shapes.main(arguments) == 2
    assert f"in {tmp_path.resolve()}; run this where you trained" in capsys.readouterr().err
