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
        MemoryError(),
    ],
)
def test_a_lack_of_memory_says_what_to_lower_and_by_how_much(error):
    config = SmallConfig().replace(IMAGES_PER_GPU=4, IMAGE_MAX_DIM=1024, IMAGE_MIN_DIM=800)
    with (
        pytest.raises(RuntimeError, match="out of memory") as caught,
        memory.told(config, training=True),
    ):
        raise error
    message = str(caught.value)
    assert "IMAGES_PER_GPU from 4 to 2 (half the images)" in message
    assert "IMAGE_MAX_DIM from 1024 to 704 and IMAGE_MIN_DIM from 800 to 704" in message
    assert "TRAIN_ROIS_PER_IMAGE from 12 to 6" in message
    assert "'mixed_bfloat16'" in message
    assert caught.value.__cause__ is error


def test_other_errors_pass():
    with pytest.raises(ZeroDivisionError), memory.told(SmallConfig(), training=True):
        raise ZeroDivisionError


def test_what_cannot_be_lowered_is_not_proposed():
    config = SmallConfig().replace(IMAGES_PER_GPU=1, PRECISION="mixed_bfloat16")
    assert memory.lower(config, training=False) == ["POST_NMS_ROIS_INFERENCE from 20 to 10"]
