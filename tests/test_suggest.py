import numpy as np
import pytest

from mrcnn.data.suggest import InputSize, adapted, object_sides, suggest
from mrcnn.data.survey import ImageSurvey
from mrcnn.presets import ModernConfig

SHORT_SIDE = InputSize(800, 1088, 0, "short_side")
MODES = [SHORT_SIDE, InputSize(), InputSize(256, 256, 0, "crop")]


def image(size, sides, mean=None):
    boxes = np.array([[0, 0, side, side] for side in sides], float).reshape(-1, 4)
    ids = np.ones(len(boxes), np.int32)
    return ImageSurvey("a", size, ids, boxes, mean=mean)


def values(surveys, recipe=SHORT_SIDE, *arguments, **options):
    found = suggest(surveys, recipe, *arguments, **options)
    return {name: advice.value for name, advice in found.items()}


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
    scales = values([image((900, 1000), sides)], InputSize(mode="none"))["RPN_ANCHOR_SCALES"]
    assert scales == [first * 2**level for level in range(5)]


def test_the_mode_of_the_recipe_is_kept():
    surveys = [image((480, 640), [100, 200])] * 20
    for recipe in MODES:
        assert values(surveys, recipe)["IMAGE_RESIZE_MODE"] == recipe.mode


def test_large_objects_keep_the_size_of_the_images():
    surveys = [image((480, 640), [100, 200])] * 20
    settings = values(surveys)
    assert (settings["IMAGE_MIN_DIM"], settings["IMAGE_MAX_DIM"]) == (480, 640)
    settings = values(surveys, InputSize())
    assert (settings["IMAGE_MIN_DIM"], settings["IMAGE_MAX_DIM"]) == (448, 640)
    assert "IMAGE_MIN_SCALE" not in settings


def test_small_objects_are_enlarged():
    settings = values([image((240, 256), [8, 9, 10])] * 20)
    assert (settings["IMAGE_MIN_DIM"], settings["IMAGE_MAX_DIM"]) == (480, 512)
    assert settings["MINI_MASK_SHAPE"] == [28, 28]


def test_small_objects_in_large_images_are_cropped():
    settings = values([image((1000, 1024), [8, 9, 60])] * 20)
    assert settings["IMAGE_RESIZE_MODE"] == "crop"
    assert settings["IMAGE_MIN_SCALE"] == 2
    assert settings["IMAGE_MIN_DIM"] == settings["IMAGE_MAX_DIM"] == 512  # four large objects


@pytest.mark.parametrize("side", [1500, 3000])
def test_images_that_cannot_be_enlarged_as_a_whole_are_cropped_less(side):
    settings = values([image((side, side), [5, 9])] * 20)
    if side == 1500:
        assert settings["IMAGE_MIN_SCALE"] == pytest.approx(2048 / 1500, abs=0.01)
    else:
        assert settings["IMAGE_RESIZE_MODE"] == "short_side"


def test_a_mode_that_is_decided_is_kept():
    surveys = [image((1000, 1024), [8, 9, 60])] * 20
    settings = values(surveys, SHORT_SIDE, {"IMAGE_RESIZE_MODE"})
    assert "IMAGE_RESIZE_MODE" not in settings
    assert (settings["IMAGE_MIN_DIM"], settings["IMAGE_MAX_DIM"]) == (1000, 1024)


@pytest.mark.parametrize("name", ["IMAGE_MIN_DIM", "IMAGE_MAX_DIM", "IMAGE_MIN_SCALE"])
def test_a_size_that_is_decided_leaves_the_others_to_the_recipe(name):
    surveys = [image((240, 256), [60, 70, 80])] * 20
    settings = values(surveys, SHORT_SIDE, {name})
    assert settings.keys() == {"RPN_ANCHOR_SCALES", "MAX_GT_INSTANCES", "MINI_MASK_SHAPE"}
    assert settings["RPN_ANCHOR_SCALES"][0] == 64  # the recipe enlarges images to 800 x 853
    assert values(surveys)["RPN_ANCHOR_SCALES"][0] == 16


@pytest.mark.parametrize("recipe", MODES)
@pytest.mark.parametrize("largest", [320, 1024])
def test_an_input_is_never_larger_than_it_may_be(recipe, largest):
    for size, sides in (((3000, 4000), [5, 9]), ((500, 600), [5]), ((700, 900), [300])):
        settings = values([image(size, sides)] * 5, recipe, largest=largest)
        config = ModernConfig.from_dict({"NAME": "a", "NUM_CLASSES": 2, **settings})
        assert max(config.IMAGE_SHAPE[:2]) <= largest


def test_room_for_the_most_objects():
    surveys = [image((480, 640), [9] * 3), image((480, 640), [9] * 113)]
    assert values(surveys)["MAX_GT_INSTANCES"] == 120
    assert values(surveys, most_objects=121)["MAX_GT_INSTANCES"] == 130


def test_the_mean_pixel_is_that_of_images_without_a_published_one():
    means = [image((9, 9), [], np.arange(4.0)), image((9, 9), [], np.arange(4.0) + 2)]
    assert values(means)["MEAN_PIXEL"] == [1.0, 2.0, 3.0, 4.0]
    assert "MEAN_PIXEL" not in values([image((9, 9), [], np.arange(3.0))])


def test_nothing_is_suggested_where_no_image_can_be_read():
    assert suggest([image(None, [3])], InputSize()) == {}


def test_an_input_size_follows_the_advice():
    advice = suggest([image((1000, 1024), [8, 9, 60])] * 20, SHORT_SIDE)
    assert adapted(SHORT_SIDE, advice) == InputSize(512, 512, 2, "crop")


@pytest.mark.parametrize("recipe", MODES)
def test_suggestions_are_settings_that_work(recipe):
    for size in ((100, 120), (480, 640), (5000, 300), (40, 30)):
        settings = values([image(size, [5, 50], np.ones(3))], recipe)
        ModernConfig.from_dict({"NAME": "a", "NUM_CLASSES": 2, **settings}).check()
