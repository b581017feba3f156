import logging

import numpy as np
import pytest
from small import Rectangles, SmallConfig, make_find_objects

from mrcnn.evaluation import coco, detecting
from mrcnn.model import MaskRCNN


@pytest.fixture(scope="module")
def finder(tmp_path_factory) -> MaskRCNN:
    """A network that finds eight objects in every image, which is its limit."""
    model = MaskRCNN("inference", SmallConfig(), tmp_path_factory.mktemp("logs"))
    make_find_objects(model.network)
    return model


def test_as_many_objects_as_there_may_be_are_logged(finder, caplog):
    image = np.random.default_rng(0).integers(0, 256, (60, 64, 3), np.uint8)
    with caplog.at_level(logging.WARNING, "mrcnn"):
        assert len(finder.detect([image, image])[0]["scores"]) == 8
    said = [record.getMessage() for record in caplog.records if record.name == "mrcnn"]
    assert len(said) == 2
    assert said[0].startswith("8 objects, which is the limit DETECTION_MAX_INSTANCES")
    assert "DETECTION_MAX_INSTANCES=16" in said[0]


def test_scores_tell_of_the_limit_once(finder, caplog):
    with caplog.at_level(logging.WARNING, "mrcnn"):
        finder.evaluate(Rectangles(2), verbose=0)
    assert [line for line in caplog.messages if "limit" in line] == [
        "2 of 2 images have 8 detections, the limit DETECTION_MAX_INSTANCES: more objects than "
        "that cannot be scored as found"
    ]


def test_run_lengths_and_arrays_have_the_same_scores(finder):
    dataset = Rectangles(4)
    ids = dataset.image_ids.tolist()
    truth = coco.Truth(coco.ground_truth_of(dataset), ids, range(3))
    scores = [
        detecting.score_detector(
            lambda image, masks=masks: finder.detect([image], masks=masks)[0],
            dataset,
            truth,
            max_detections=8,
        )
        for masks in ("full", "rle")
    ]
    assert scores[0] == scores[1]
