import shutil
from pathlib import Path

import h5py
import numpy as np
import psutil
import pytest
import weight_files
from small import Rectangles, SmallConfig, make_find_objects

from mrcnn.data.formats.coco import load_coco
from mrcnn.evaluation import coco
from mrcnn.geometry import boxes, images
from mrcnn.geometry import masks as mask_math
from mrcnn.model import MaskRCNN
from mrcnn.weights import catalog, hdf5

NUCLEI = catalog.BUNDLED["nuclei"]


def picture(height, width, seed=0) -> np.ndarray:
    """Return noise with a bright rectangle in its middle: (H, W, 3) uint8."""
    image = np.random.default_rng(seed).integers(60, 120, (height, width, 3), np.uint8)
    image[height // 4 : -(-3 * height // 4), width // 4 : -(-3 * width // 4)] = 220
    return image


def grey(height, width) -> np.ndarray:
    return picture(height, width)[..., 0]


def alpha(height, width) -> np.ndarray:
    opaque = np.random.default_rng(1).integers(0, 256, (height, width, 1), np.uint8)
    return np.concatenate([picture(height, width), opaque], axis=-1)


def sixteen_bits(image) -> np.ndarray:
    """Return what docs/data.md says sixteen bits become: uint8."""
    return np.rint(255 / 12 * np.log2(1 + image / 16)).clip(max=255).astype(np.uint8)


DEEP = picture(50, 60).astype(np.uint16) * 257

KINDS = {
    "RGB": (picture(50, 60), picture(50, 60)),
    "grey": (grey(50, 60), np.repeat(grey(50, 60)[..., None], 3, -1)),
    "grey with axis": (grey(50, 60)[..., None], np.repeat(grey(50, 60)[..., None], 3, -1)),
    "RGBA": (alpha(50, 60), picture(50, 60)),
    "16 bits": (DEEP, sixteen_bits(DEEP)),
    "fractions": (picture(50, 60) / 255.0, picture(50, 60)),
}


def make_model(kind: type[MaskRCNN] = MaskRCNN, **settings) -> MaskRCNN:
    model = kind("inference", SmallConfig().replace(**settings), "logs")
    make_find_objects(model.network)
    return model


@pytest.fixture(scope="module")
def model() -> MaskRCNN:
    return make_model()


@pytest.fixture(scope="module")
def checkpoint(model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "mask_rcnn_small_0004.h5"
    model.save_weights(path)
    return path


def assert_in_frame(found, image, config) -> None:
    height, width = image.shape[:2]
    count = len(found["scores"])
    assert count <= config.DETECTION_MAX_INSTANCES
    dtypes = {name: array.dtype for name, array in found.items()}
    assert dtypes == {
        "rois": np.int32,
        "class_ids": np.int32,
        "scores": np.float32,
        "masks": bool,
        "boxes": np.float32,
    }
    np.testing.assert_array_equal(np.around(found["boxes"]), found["rois"])
    assert found["rois"].shape == (count, 4)
    assert found["class_ids"].shape == (count,)
    assert found["masks"].shape == (height, width, count)
    y1, x1, y2, x2 = found["rois"].T
    assert (y1 >= 0).all()
    assert (x1 >= 0).all()
    assert (y2 <= height).all()
    assert (x2 <= width).all()
    assert (boxes.area(found["rois"]) > 0).all()
    assert set(found["class_ids"]) <= set(range(1, config.NUM_CLASSES))
    assert (np.diff(found["scores"]) <= 0).all()
    assert ((found["scores"] > 0) & (found["scores"] <= 1)).all()


def assert_same(found, expected) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for name in ("rois", "class_ids", "masks"):
            np.testing.assert_array_equal(one[name], other[name])
        np.testing.assert_allclose(one["scores"], other["scores"], atol=1e-5)


@pytest.mark.parametrize("size", [(64, 64), (37, 91), (700, 500), (20, 300)])
def test_results_are_in_pixels_of_the_image(model, size):
    image = picture(*size)
    (found,) = model.detect([image])
    assert len(found["scores"]) > 0
    assert_in_frame(found, image, model.config)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (5, 300), (300, 5)])
def test_results_in_an_image_of_next_to_nothing_are_inside_it(model, size):
    image = picture(*size)
    (found,) = model.detect([image])
    assert_in_frame(found, image, model.config)


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_images_are_brought_to_rgb(model, kind):
    image, same = KINDS[kind]
    before = image.copy()
    found = model.detect([image])
    assert_in_frame(found[0], image, model.config)
    assert_same(found, model.detect([same]))
    np.testing.assert_array_equal(image, before)


def test_masks_lie_inside_their_rois(model):
    (found,) = model.detect([picture(90, 70)])
    some = 0
    for (y1, x1, y2, x2), mask in zip(
        found["rois"], np.moveaxis(found["masks"], -1, 0), strict=True
    ):
        some += mask[y1:y2, x1:x2].sum()
        outside = mask.copy()
        outside[y1:y2, x1:x2] = False
        assert not outside.any()
    assert some > 0


def test_more_images_than_a_batch_give_what_single_ones_give():
    """By trained weights: of others the scores are so near that rounding orders them anew."""
    model = MaskRCNN.from_checkpoint(
        "nuclei", IMAGES_PER_GPU=2, IMAGE_MIN_DIM=128, IMAGE_MAX_DIM=128
    )
    path = sorted(catalog.ASSETS.glob("nuclei_*.png"))[0]
    whole = images.read_image(path)
    sizes = [(128, 128), (100, 120), (60, 128), (128, 90), (81, 81)]
    pictures = [whole[:height, :width] for height, width in sizes]
    assert len(pictures) > model.config.BATCH_SIZE
    for found, image in zip(model.detect(pictures), pictures, strict=True):
        (alone,) = model.detect([image])
        assert len(alone["scores"]) > 2
        kept = [each["scores"] > 0.3 for each in (found, alone)]
        rois, others = (each["boxes"][k] for each, k in zip((found, alone), kept, strict=True))
        np.testing.assert_allclose(rois, others, atol=0.05)
        scores = [each["scores"][k] for each, k in zip((found, alone), kept, strict=True)]
        np.testing.assert_allclose(*scores, atol=1e-4)


def test_an_array_of_images_is_as_good_as_a_list(model):
    stack = np.stack([picture(40, 50, seed) for seed in range(3)])
    assert_same(model.detect(stack), model.detect(list(stack)))


def test_no_images_give_no_results(model):
    assert model.detect([]) == []


def test_a_progress_bar_is_shown_where_asked_for(model, capsys):
    found = model.detect([picture(40, 50)] * 3, verbose=1)
    assert len(found) == 3
    assert "3/3" in capsys.readouterr().out


@pytest.mark.parametrize("shape", [(3, 40, 50), (40, 50, 3, 1), (0, 5, 3), (40,)])
def test_what_is_no_image_is_refused_with_its_shape(model, shape):
    with pytest.raises(ValueError, match=r"an image must have shape .* got \(" + str(shape[0])):
        model.detect([np.zeros(shape, np.uint8)])


def test_images_of_other_sizes_are_not_traced_anew():
    model = make_model(IMAGE_RESIZE_MODE="pad64", IMAGE_MIN_DIM=64, IMAGE_MAX_DIM=256)
    sizes = [(60 + 30 * number, 70 + 40 * (number % 4)) for number in range(10)]
    shapes = set()
    for height, width in sizes:
        image = picture(height, width)
        shapes.add(model.predictor.mold(image)[0].shape)
        assert_in_frame(model.detect([image])[0], image, model.config)
    assert len(shapes) >= 7
    assert model.predictor.run.traced.experimental_get_tracing_count() == 1


@pytest.mark.slow
def test_two_hundred_sizes_take_one_trace_and_no_more_memory_each_round():
    model = make_model(IMAGE_RESIZE_MODE="pad64", IMAGE_MIN_DIM=64, IMAGE_MAX_DIM=256)
    sizes = [(64 + 5 * (number % 40), 64 + 37 * (number // 40)) for number in range(200)]
    assert len(set(sizes)) == 200
    used = []
    for _ in range(3):
        for height, width in sizes:
            model.detect([picture(height, width)])
        used.append(psutil.Process().memory_info().rss)
    assert model.predictor.run.traced.experimental_get_tracing_count() == 1
    assert used[2] - used[1] < 0.02 * used[1]


@pytest.mark.parametrize("own_steps", [False, True])
def test_masks_come_as_run_lengths_where_asked_for(model, own_steps):
    class WithOwnSteps(MaskRCNN):
        def mold_inputs(self, images):
            return super().mold_inputs(images)

    if own_steps:
        model = make_model(kind=WithOwnSteps)
    image = picture(40, 50)
    (full,), (short,) = model.detect([image]), model.detect([image], masks="rle")
    assert len(full["scores"]) > 0
    assert short["masks"] == mask_math.to_rle(full["masks"])
    assert {key for key in full if key != "masks"} == {key for key in short if key != "masks"}


def test_masks_of_an_unknown_kind_are_refused(model):
    with pytest.raises(ValueError, match=r"masks must be one of \['full', 'rle'\], got 'polygons'"):
        model.detect([picture(40, 50)], masks="polygons")


def test_a_detection_returns_to_where_it_is_in_the_image(model):
    # 32 x 64 lies in the rows 16..48 of 64 x 64.
    _, meta = model.predictor.mold(picture(32, 64))
    window = images.parse_meta(meta[None])["window"][0]
    np.testing.assert_array_equal(window, [16, 0, 48, 64])
    detections = np.zeros((3, 6), np.float32)
    # Rows 24..40 and columns 16..48 of the input; the last pixels are 39 and 47.
    detections[0] = [24 / 63, 16 / 63, 39 / 63, 47 / 63, 2, 0.75]
    masks = np.zeros((3, 28, 28, 3), np.float32)
    masks[0, :, :, 2] = 0.9
    found = model.predictor.unmold({"detections": detections, "masks": masks}, meta)
    np.testing.assert_array_equal(found["rois"], [[8, 16, 24, 48]])
    np.testing.assert_array_equal(found["class_ids"], [2])
    np.testing.assert_allclose(found["scores"], [0.75])
    expected = np.zeros((32, 64, 1), bool)
    expected[8:24, 16:48] = True
    np.testing.assert_array_equal(found["masks"], expected)


def test_a_detection_in_a_shrunk_image_returns_to_within_a_pixel(model):
    _, meta = model.predictor.mold(picture(100, 200))
    # Rows 24..40 of the input less 16 of padding, columns 16..48, both over the scale 0.32.
    detections = np.array([[24 / 63, 16 / 63, 39 / 63, 47 / 63, 1, 0.75]])
    found = model.predictor.unmold(
        {"detections": detections, "masks": np.ones((1, 28, 28, 3))}, meta
    )
    # Matterport's frames meet at the centres of the corner pixels, hence the one.
    np.testing.assert_allclose(found["rois"], [[25, 50, 75, 150]], atol=1)
    assert found["masks"].sum() == boxes.area(found["rois"])[0]


def test_padding_gives_no_results(model):
    _, meta = model.predictor.mold(picture(100, 200))
    found = model.predictor.unmold(
        {"detections": np.zeros((3, 6)), "masks": np.zeros((3, 28, 28, 3))}, meta
    )
    shapes = {name: array.shape for name, array in found.items()}
    assert shapes == {
        "rois": (0, 4),
        "class_ids": (0,),
        "scores": (0,),
        "boxes": (0, 4),
        "masks": (100, 200, 0),
    }


def test_boxes_without_area_are_left_out(model):
    _, meta = model.predictor.mold(picture(100, 200))
    detections = np.array([[30 / 63, 20 / 63, 24 / 63, 40 / 63, 1, 0.9]])
    found = model.predictor.unmold(
        {"detections": detections, "masks": np.ones((1, 28, 28, 3))}, meta
    )
    assert len(found["rois"]) == 0
    assert found["masks"].shape == (100, 200, 0)


def test_a_training_network_detects_with_the_same_weights(model, checkpoint):
    trained = MaskRCNN("training", model.config, "logs")
    trained.load_weights(checkpoint, verbose=0)
    assert_same(trained.detect([picture(64, 64)]), model.detect([picture(64, 64)]))


def test_a_checkpoint_needs_no_settings(model, checkpoint):
    restored = MaskRCNN.from_checkpoint(checkpoint)
    assert restored.config.to_dict() == model.config.to_dict()
    assert restored.mode == "inference"
    assert_same(restored.detect([picture(50, 60)]), model.detect([picture(50, 60)]))


@pytest.mark.usefixtures("detecting_eagerly")
def test_settings_of_a_checkpoint_can_be_changed(checkpoint, capsys):
    restored = MaskRCNN.from_checkpoint(checkpoint, DETECTION_MAX_INSTANCES=2)
    assert len(restored.detect([picture(50, 60)])[0]["scores"]) == 2
    assert capsys.readouterr().out == ""


def test_weights_that_a_checkpoint_lacks_are_reported(checkpoint, tmp_path, capsys):
    path = Path(shutil.copy(checkpoint, tmp_path))
    weight_files.unseal(path)
    with h5py.File(path, "r+") as file:
        del file["mrcnn_mask"]
    MaskRCNN.from_checkpoint(path)
    assert "initial values: ['mrcnn_mask']" in capsys.readouterr().out


def test_a_file_without_settings_asks_for_them(checkpoint, tmp_path):
    path = Path(shutil.copy(checkpoint, tmp_path))
    weight_files.unseal(path)
    with h5py.File(path, "r+") as file:
        del file.attrs[hdf5.SETTINGS]
    with pytest.raises(ValueError, match=r"carries no settings.*, so give at least NUM_CLASSES"):
        MaskRCNN.from_checkpoint(path)


def test_load_weights_prints_and_returns_what_was_loaded(model, checkpoint, capsys):
    report = make_model().load_weights(checkpoint, exclude=["mrcnn_mask"])
    count = len(hdf5.weights_by_name(model.network.inference))
    assert len(report.loaded) == count - 2
    assert report.skipped == ["mrcnn_mask/bias", "mrcnn_mask/kernel"]
    assert report.missing == []
    assert f"{count - 2} weights loaded, 2 skipped, 0 missing" in capsys.readouterr().out


def test_another_number_of_classes_names_the_layers_and_the_remedy(checkpoint):
    model = make_model_of_four_classes()
    with pytest.raises(ValueError, match=r"NUM_CLASSES: set it.*exclude=\['mrcnn_bbox_fc'"):
        model.load_weights(checkpoint)


def make_model_of_four_classes() -> MaskRCNN:
    config = SmallConfig().replace(NUM_CLASSES=4, CLASS_NAMES=())
    return MaskRCNN("inference", config, "logs")


def test_find_last_is_the_newest_checkpoint_of_the_name(model, checkpoint, tmp_path):
    for folder, number in [("small20260101T1200", 9), ("small20260102T1200", 4)]:
        (tmp_path / folder).mkdir()
        shutil.copy(checkpoint, tmp_path / folder / f"mask_rcnn_small_{number:04d}.h5")
    (tmp_path / "large20260103T1200").mkdir()
    other = MaskRCNN("training", model.config, tmp_path)
    last = str(tmp_path / "small20260102T1200" / "mask_rcnn_small_0004.h5")
    assert other.find_last() == last


def test_find_last_without_a_run_names_the_folder(model, tmp_path):
    other = MaskRCNN("training", model.config, tmp_path)
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        other.find_last()


def test_other_modes_are_refused():
    with pytest.raises(ValueError, match=r'mode must be "training" or "inference", got \'train\''):
        MaskRCNN("train", SmallConfig(), "logs")


def test_an_inference_network_does_not_train(model):
    with pytest.raises(ValueError, match=r'train needs MaskRCNN\(mode="training"\)'):
        model.train(Rectangles(), None, 0.01, 1, "all")


def test_evaluate_returns_coco_scores_of_masks_and_boxes(model, capsys):
    scores = model.evaluate(Rectangles(4))
    assert set(scores) == {"segm", "bbox"}
    for figures in scores.values():
        assert {"AP", "AP50", "AP75"} <= set(figures)
        assert 0 <= figures["AP"] <= figures["AP50"] <= 1
        assert set(figures["per_class"]) == {"dark", "bright"}
    assert "AP50" in capsys.readouterr().out


def test_evaluate_refuses_a_set_that_it_can_hardly_read(model):
    with pytest.raises(RuntimeError, match=r"3 images cannot be read, more than a tenth"):
        model.evaluate(BrokenRectangles())


class BrokenRectangles(Rectangles):
    """Ten images of which three cannot be read, though their masks can."""

    def __init__(self) -> None:
        super().__init__(10, bad=(1, 4, 6))


@pytest.mark.skipif(not NUCLEI.exists(), reason="the bundled weights are not there")
def test_bundled_weights_find_most_nuclei():
    model = MaskRCNN.from_checkpoint("nuclei")
    annotations = catalog.ASSETS / "nuclei_demo.json"
    dataset = load_coco(annotations, catalog.ASSETS)
    objects = coco.ground_truth(annotations)
    categories = coco.match_categories(model.config.CLASS_NAMES, objects)
    image_ids = [info["id"] for info in dataset.image_info]
    scores = model.score_against(coco.Truth(objects, image_ids, categories), dataset)
    assert scores["segm"]["AP50"] >= 0.5


def test_files_of_other_shapes_are_told_by_the_settings_that_differ(checkpoint):
    other = MaskRCNN("inference", SmallConfig().replace(BACKBONE_WIDTH=4, POOL_SIZE=5), "logs")
    with pytest.raises(ValueError, match="exclude=") as error:
        other.load_weights(checkpoint)
    text = str(error.value)
    assert "BACKBONE_WIDTH 8 (this network: 4), POOL_SIZE 7 (this network: 5)" in text
    assert "from_checkpoint" in text
    assert "NUM_CLASSES" not in text


def test_a_run_is_not_said_to_start_again_before_it_does(checkpoint, tmp_path, capsys):
    model = MaskRCNN("training", SmallConfig(), tmp_path)
    folder = tmp_path / "small20240101T0000"
    folder.mkdir()
    model.load_weights(shutil.copy(checkpoint, folder))
    assert model.epoch == 4
    assert "tarting" not in capsys.readouterr().out
