import json
import logging
from pathlib import Path

import numpy as np
import pytest
from skimage import draw
from small import SmallConfig

from mrcnn.data import pipeline
from mrcnn.data.dataset import BadSample, Dataset
from mrcnn.data.formats.coco import load_coco
from mrcnn.geometry import images
from mrcnn.model import MaskRCNN
from mrcnn.training import run

pytestmark = pytest.mark.slow

STEPS = 10


class BalloonDataset(Dataset):
    """Balloons outlined in VIA 1, read as in the tutorial that people start from."""

    def load_balloon(self, folder: Path) -> None:
        self.add_class("balloon", 1, "balloon")
        for entry in json.loads((folder / "via_region_data.json").read_text()).values():
            path = folder / entry["filename"]
            height, width = images.read_image(path).shape[:2]
            outlines = [region["shape_attributes"] for region in entry["regions"].values()]
            self.add_image(
                "balloon", entry["filename"], path, height=height, width=width, outlines=outlines
            )

    def load_mask(self, image_id: int) -> tuple[np.ndarray, np.ndarray]:
        info = self.image_info[image_id]
        masks = np.zeros((info["height"], info["width"], len(info["outlines"])), bool)
        for index, outline in enumerate(info["outlines"]):
            rows = np.clip(outline["all_points_y"], 0, info["height"] - 1)
            columns = np.clip(outline["all_points_x"], 0, info["width"] - 1)
            masks[(*draw.polygon(rows, columns), index)] = True
        return masks, np.ones(len(info["outlines"]), np.int32)


def balloon(data: Path) -> Dataset:
    dataset = BalloonDataset()
    dataset.load_balloon(data / "balloon" / "val")
    dataset.prepare()
    return dataset


def pennfudan(data: Path) -> Dataset:
    folder = data / "pennfudan"
    return load_coco(folder / "annotations" / "instances.json", folder / "images")


def coco(data: Path) -> Dataset:
    folder = data / "coco"
    return load_coco(folder / "annotations" / "instances_train2017.json", folder / "train2017")


@pytest.mark.parametrize("load", [balloon, pennfudan, coco])
def test_ten_steps_and_a_detection_without_a_warning(load, shared_data, tmp_path, caplog):
    # Warnings of the warnings module are errors in this test suite.
    with caplog.at_level(logging.WARNING, "mrcnn"):
        dataset = load(shared_data)
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
    assert [record for record in caplog.records if record.name.startswith("mrcnn")] == []


def test_odd_images_are_loaded_or_refused_with_their_name(shared_data):
    dataset = Dataset()
    for path in sorted((shared_data / "malformed" / "images").iterdir()):
        dataset.add_image("odd", path.name, path)
    dataset.prepare()
    sample_format = run.sample_format(SmallConfig())
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
