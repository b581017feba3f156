import pytest
from small import SmallConfig

from mrcnn import memory


class ResourceExhaustedError(Exception):
    pass


@pytest.mark.parametrize(
    "error",
    [
        ResourceExhaustedError("OOM when allocating tensor"),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 7 bytes"),
    ],
)
def test_a_lack_of_memory_says_what_to_lower_and_by_how_much(error):
    config = SmallConfig().replace(IMAGES_PER_GPU=4, IMAGE_MAX_DIM=1024, IMAGE_MIN_DIM=800)
    with (
        pytest.raises(RuntimeError, match="out of memory") as caught,
        memory.explain_oom(config, training=True),
    ):
        raise error
    message = str(caught.value)
    assert "IMAGES_PER_GPU from 4 to 2 (half the images)" in message
    assert "IMAGE_MAX_DIM from 1024 to 704 and IMAGE_MIN_DIM from 800 to 512" in message
    assert "TRAIN_ROIS_PER_IMAGE from 12 to 6" in message
    assert "'mixed_bfloat16'" in message
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [ZeroDivisionError, MemoryError])
def test_other_errors_pass(error):
    with pytest.raises(error), memory.explain_oom(SmallConfig(), training=True):
        raise error


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("square", "IMAGE_MAX_DIM from 1024 to 704 and IMAGE_MIN_DIM from 832 to 576"),
        ("short_side", "IMAGE_MAX_DIM from 1024 to 704 and IMAGE_MIN_DIM from 832 to 576"),
        ("pad64", "IMAGE_MIN_DIM from 832 to 576"),
        ("crop", "IMAGE_MIN_DIM from 832 to 576"),
        ("none", None),
    ],
)
def test_only_sides_that_the_mode_reads_are_named(mode, expected):
    config = SmallConfig().replace(
        IMAGE_RESIZE_MODE=mode, IMAGE_MIN_DIM=832, IMAGE_MAX_DIM=1024, IMAGES_PER_GPU=1
    )
    sides = [line for line in memory.lower(config, training=True) if "IMAGE_M" in line]
    assert sides == ([f"{expected} (half the pixels)"] if expected else [])


def test_what_cannot_be_lowered_is_not_proposed():
    config = SmallConfig().replace(IMAGES_PER_GPU=1, PRECISION="mixed_bfloat16")
    assert memory.lower(config, training=False) == ["POST_NMS_ROIS_INFERENCE from 20 to 10"]
