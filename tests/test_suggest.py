import numpy as np
import pytest

from mrcnn.config import Config
from mrcnn.data.suggest import InputSize, object_sides, suggest
from mrcnn.data.survey import ImageSurvey


def image(size, sides, mean=None):
    boxes = np.array([[0, 0, side, side] for side in sides], float).reshape(-1, 4)
    ids = np.ones(len(boxes), np.int32)
    return ImageSurvey("a", size, ids, boxes, mean=mean)


def test_sides_are_in_pixels_of_the_input():
    surveys = [image((400, 500), [10, 40]), image((800, 1000), [10]), image(None, [7])]
    np.testing.assert_allclose(object_sides(surveys, InputSize(800, 1024)), [20, 80, 10])


def test_boxes_count_by_their_area():
    boxes = np.array([[0, 0, 10, 40]], float)
    survey = ImageSurvey("a", (800, 1000), np.ones(1, np.int32), boxes)
    np.testing.assert_allclose(object_sides([survey], InputSize(800, 1024)), [20])


@pytest.mark.parametrize(
    ("sides", "first"), [([40, 120, 480], 32), ([8, 30, 100], 8), ([16, 60, 250], 16)]
)
def test_anchors_reach_the_objects(sides, first):
    scales = suggest([image((900, 1000), sides)], InputSize(mode="none"))["RPN_ANCHOR_SCALES"]
    assert scales == [first * 2**level for level in range(5)]


def test_large_objects_keep_the_size_of_the_images():
    settings = suggest([image((480, 640), [100, 200])] * 20, InputSize())
    assert (settings["IMAGE_MIN_DIM"], settings["IMAGE_MAX_DIM"]) == (448, 640)


def test_small_objects_are_enlarged():
    settings = suggest([image((240, 256), [8, 9, 10])] * 20, InputSize())
    assert settings["IMAGE_MAX_DIM"] == 512
    assert settings["IMAGE_MIN_DIM"] == 448


def test_an_input_is_never_larger_than_memory_allows():
    settings = suggest([image((3000, 4000), [5, 9])], InputSize())
    assert settings["IMAGE_MAX_DIM"] == 1024
    assert settings["IMAGE_MIN_DIM"] <= 1024


def test_the_size_of_crops_is_left_to_people():
    assert "IMAGE_MIN_DIM" not in suggest([image((480, 640), [100])], InputSize(mode="crop"))


def test_room_for_the_most_objects():
    settings = suggest([image((480, 640), [9] * 3), image((480, 640), [9] * 113)], InputSize())
    assert settings["MAX_GT_INSTANCES"] == 120


def test_the_mean_pixel_is_that_of_the_images():
    means = [image((9, 9), [], np.array([1.0, 2, 3])), image((9, 9), [], np.array([3.0, 4, 5]))]
    assert suggest(means, InputSize())["MEAN_PIXEL"] == [2.0, 3.0, 4.0]


def test_nothing_is_suggested_where_no_image_can_be_read():
    assert suggest([image(None, [3])], InputSize()) == {}


def test_suggestions_are_settings_that_work():
    for size in ((100, 120), (480, 640), (5000, 300)):
        settings = suggest([image(size, [5, 50], np.ones(3))], InputSize())
        Config.from_dict({"NAME": "a", "NUM_CLASSES": 2, **settings}).check()
