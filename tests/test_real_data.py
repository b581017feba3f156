import logging

import numpy as np
import pytest
import tifffile
from small import SmallConfig, make_find_objects

from mrcnn.data import pipeline
from mrcnn.data.dataset import BadSample, Dataset
from mrcnn.data.formats import load_dataset
from mrcnn.model import MaskRCNN
from mrcnn.training import fitting

pytestmark = pytest.mark.slow

STEPS = 10


# A file or folder of each way in which people have their annotations.
SETS = [
    "balloon/val",
    "pennfudan",
    "coco",
    "labelme_examples/instance_segmentation/data_annotated",
    "nuclei/stage1_train",
]


@pytest.mark.parametrize("path", SETS)
def test_ten_steps_and_a_detection_without_a_warning(path, shared_data, tmp_path, caplog):
    # Warnings of the warnings module are errors in this test suite.
    with caplog.at_level(logging.WARNING, "mrcnn"):
        dataset = load_dataset(shared_data / path)
        config = SmallConfig().replace(
            NUM_CLASSES=dataset.num_classes,
            CLASS_NAMES=tuple(dataset.class_names),
            IMAGE_MIN_DIM=128,
            IMAGE_MAX_DIM=128,
            MAX_GT_INSTANCES=20,
            STEPS_PER_EPOCH=STEPS,
            TRAIN_BN=None,
            WORKERS=2,
        )
        model = MaskRCNN("training", config, tmp_path)
        history = model.train(dataset, dataset, 0.01, 1, "all").history
        image = dataset.load_image(0)
        (found,) = model.detect([image])
    assert int(model.training_model.optimizer.iterations) == STEPS
    assert all(np.isfinite(values).all() for values in history.values())
    assert found["masks"].shape == (*image.shape[:2], len(found["scores"]))
    own = [each.getMessage() for each in caplog.records if each.name.startswith("mrcnn")]
    # So small a network takes few objects, of an image and at all, and says so.
    assert [line for line in own if "will not be learned" not in line and "limit" not in line] == []


CHANNELS = [
    ("uint16/spacenet_pan_uint16.coco.json", "uint16/spacenet_pan_uint16.tif", 1),
    ("uint16/landsat_3band_int16.coco.json", "uint16/landsat_3band_int16.tif", 3),
    (
        "naip_4band_labelme",
        "naip_4band_labelme/ok_m_3509603_nw_14_030_20230615_20230927_x3004_y11271_w499_h846.tif",
        4,
    ),
]


@pytest.mark.parametrize(("path", "file", "channels"), CHANNELS)
def test_other_channels_and_bits_begin_with_weights_of_rgb(
    path, file, channels, shared_data, tmp_path
):
    rgb = MaskRCNN("inference", SmallConfig(), "logs")
    make_find_objects(rgb.network)
    weights = tmp_path / "rgb.h5"
    rgb.save_weights(weights)
    config = SmallConfig().replace(IMAGE_CHANNEL_COUNT=channels, MEAN_PIXEL=[110.0] * channels)
    model = MaskRCNN("inference", config, "logs")
    report = model.load_weights(weights, verbose=0)
    assert report.adapted == ([] if channels == 3 else ["conv1/kernel"])
    assert report.missing == report.skipped == []
    dataset = load_dataset(shared_data / path, channels=channels)
    image = dataset.load_image(0)
    assert image.shape[-1] == channels
    assert len(np.unique(image)) > 50
    # The pixels as a program reads them, and as the dataset does.
    pixels = tifffile.imread(shared_data / file)
    found = [model.detect([each])[0] for each in (pixels, image)]  # in a batch they are rounded
    assert len(found[0]["scores"]) > 0
    assert found[0]["masks"].shape[:2] == image.shape[:2]
    for name, array in found[0].items():
        np.testing.assert_array_equal(array, found[1][name])


def test_odd_images_are_loaded_or_refused_with_their_name(shared_data):
    dataset = Dataset()
    for path in sorted((shared_data / "malformed" / "images").iterdir()):
        dataset.add_image("odd", path.name, path)
    dataset.prepare()
    sample_format = fitting.sample_format(SmallConfig())
    refused = {}
    for image_id in dataset.image_ids:
        name = dataset.image_info[image_id]["id"]
        try:
            sample = pipeline.load_sample(
                dataset, image_id, sample_format, rng=np.random.default_rng(0)
            )
        except BadSample as error:
            refused[name] = str(error)
        else:
            assert (sample.image.shape, sample.image.dtype) == ((64, 64, 3), np.uint8)
            assert len(sample.class_ids) == 0
    assert all(name in message for name, message in refused.items())
    assert {"truncated_jpeg.jpg", "broken.png", "zero_width.gif"} <= set(refused)
    assert {"hopper_gray.jpg", "pil_sample_cmyk.jpg", "p_trns_single.png"}.isdisjoint(refused)
    assert len(refused) < len(dataset.image_ids) / 2


def test_too_many_odd_images_stop_a_training(shared_data, tmp_path):
    dataset = Dataset()
    for name in ("hopper_gray.jpg", "truncated_jpeg.jpg", "broken.png", "zero_width.gif"):
        dataset.add_image("odd", name, shared_data / "malformed" / "images" / name)
    dataset.prepare()
    model = MaskRCNN("training", SmallConfig(), tmp_path)
    with pytest.raises(RuntimeError, match=r"of 4 images cannot be used, more than a tenth"):
        model.train(dataset, None, 0.01, 1, "all")
