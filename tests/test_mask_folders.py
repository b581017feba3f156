import numpy as np
import PIL.Image
import pytest

from mrcnn.data.formats.mask_folders import load_masks


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(array).save(path)


def single(*pixels):
    mask = np.zeros((5, 6), np.uint8)
    for y, x in pixels:
        mask[y, x] = 255
    return mask


def pixels(dataset, place=0):
    return np.argwhere(dataset.load_mask(0)[0][..., place]).tolist()


@pytest.fixture
def bowl(tmp_path):
    """Two images in the layout of the Data Science Bowl, with two objects and one."""
    root = tmp_path / "cells" / "stage1_train"
    for name, masks in (("one", [[(0, 0)], [(1, 2), (1, 3)]]), ("two", [[(4, 5)]])):
        save(root / name / "images" / f"{name}.png", np.zeros((5, 6, 4), np.uint8))
        for number, mask in enumerate(masks):
            save(root / name / "masks" / f"{number}.png", single(*mask))
    return root


def test_every_file_is_an_object(bowl):
    dataset = load_masks(bowl)
    assert (dataset.num_images, dataset.num_objects) == (2, 3)
    assert pixels(dataset, 0) == [[0, 0]]
    assert pixels(dataset, 1) == [[1, 2], [1, 3]]
    assert dataset.class_names == ["BG", "cells"]
    np.testing.assert_array_equal(dataset.load_mask(0)[1], [1, 1])
    assert dataset.load_image(0).shape == (5, 6, 3)


def test_the_class_may_be_named(bowl):
    assert load_masks(bowl, class_names=["nucleus"]).class_names == ["BG", "nucleus"]


def test_masks_in_colour_are_what_is_not_black(bowl):
    coloured = np.zeros((5, 6, 4), np.uint8)
    coloured[..., 3] = 255
    coloured[2, 2, 1] = 9
    save(bowl / "one" / "masks" / "0.png", coloured)
    assert pixels(load_masks(bowl)) == [[2, 2]]


def test_several_images_in_one_folder_are_refused(bowl):
    save(bowl / "one" / "images" / "more.png", np.zeros((5, 6), np.uint8))
    with pytest.raises(ValueError, match=r"image one: images/ has 2 images, one is expected"):
        load_masks(bowl)


def labelled(root, labels, name="a", end=""):
    save(root / "images" / f"{name}.png", np.zeros((5, 6), np.uint8))
    save(root / "masks" / f"{name}{end}.png", labels)
    return root


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("end", ["", "_mask", "_label"])
def test_every_value_of_a_label_image_is_an_object(tmp_path, dtype, end):
    labels = np.zeros((5, 6), dtype)
    labels[0, 0], labels[1, 2:4] = 200, 3
    dataset = load_masks(labelled(tmp_path, labels, end=end))
    assert dataset.num_objects == 2
    assert pixels(dataset, 0) == [[1, 2], [1, 3]]
    assert pixels(dataset, 1) == [[0, 0]]


def test_every_colour_of_a_label_image_is_an_object(tmp_path):
    labels = np.zeros((5, 6, 3), np.uint8)
    labels[0, 0], labels[1, 1] = (255, 0, 0), (0, 0, 255)
    assert load_masks(labelled(tmp_path, labels)).num_objects == 2


def test_a_label_image_of_zeros_has_no_objects(tmp_path):
    dataset = load_masks(labelled(tmp_path, np.zeros((5, 6), np.uint8)))
    assert dataset.num_objects == 0
    assert dataset.load_mask(0)[0].shape == (5, 6, 0)


def test_images_may_lie_elsewhere(tmp_path):
    labelled(tmp_path, single((0, 0)))
    dataset = load_masks(tmp_path / "masks", tmp_path / "images")
    assert dataset.num_objects == 1


def test_an_image_without_mask_is_refused(tmp_path):
    labelled(tmp_path, single((0, 0)))
    save(tmp_path / "images" / "b.png", single())
    with pytest.raises(ValueError, match=r"image b\.png: there is no mask of its name"):
        load_masks(tmp_path)


def test_a_mask_without_image_is_refused(tmp_path):
    labelled(tmp_path, single((0, 0)))
    save(tmp_path / "masks" / "b.png", single())
    with pytest.raises(ValueError, match="there is no image for the mask"):
        load_masks(tmp_path)


def test_a_folder_without_masks_is_refused(tmp_path):
    with pytest.raises(ValueError, match="neither images/ and masks/"):
        load_masks(tmp_path)


def test_nuclei_of_sixteen_bits(shared_data, tmp_path):
    for folder, kind in (("images", "img"), ("masks", "mask")):
        (tmp_path / folder).mkdir()
        source = shared_data / "uint16" / f"stardist_{kind}2d.tif"
        (tmp_path / folder / "a.tif").write_bytes(source.read_bytes())
    dataset = load_masks(tmp_path, channels=1)
    assert dataset.num_objects == 125
    assert dataset.load_image(0).shape == (512, 512, 1)
    assert dataset.load_mask(0)[0].shape == (512, 512, 125)
