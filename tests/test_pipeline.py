import importlib
import itertools
import logging
import threading

import numpy as np
import PIL.Image
import pytest

from mrcnn.data import augment, pipeline
from mrcnn.data.dataset import BadSample, Dataset
from mrcnn.data.formats.coco import load_coco
from mrcnn.geometry import images, masks
from mrcnn.training import tensorflow_devices

FORMAT = pipeline.SampleFormat(
    min_dim=64,
    max_dim=64,
    min_scale=0,
    mode="square",
    mini_mask_shape=(14, 14),
    max_instances=4,
    num_classes=3,
)


class Squares(Dataset):
    """Image i is 32 x 48, its i % 4 squares are bright; the images in `bad` cannot be loaded."""

    def __init__(self, count=12, bad=()):
        super().__init__()
        self.bad = bad
        self.add_class("squares", 1, "small")
        self.add_class("other", 1, "of another source")
        for number in range(count):
            self.add_image("squares", number, f"{number}.png")
        self.prepare()

    def load_image(self, image_id):
        if image_id in self.bad:
            raise OSError(f"{image_id}.png is broken")
        mask = self.load_mask(image_id)[0]
        image = np.full((32, 48, 3), image_id, np.uint8)
        image[mask.any(axis=-1)] = 200
        return image

    def load_mask(self, image_id):
        mask = np.zeros((32, 48, image_id % 4), bool)
        for index in range(image_id % 4):
            mask[4:20, 2 + 12 * index : 10 + 12 * index, index] = True
        return mask, np.ones(image_id % 4, np.int32)


def load(dataset, image_id, sample_format=FORMAT, augmentation=(), seed=0):
    rng = np.random.default_rng(seed)
    return pipeline.load_sample(dataset, image_id, sample_format, augmentation, rng=rng)


def changed(**changes):
    return pipeline.SampleFormat(**{**vars(FORMAT), **changes})


def stream(dataset, **settings):
    settings = {"batch_size": 3, "workers": 0, **settings}
    return pipeline.BatchStream(dataset, FORMAT, **settings)


def shown_ids(batch):
    return batch["input_image_meta"][:, 0].astype(int).tolist()


def data_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("mrcnn-data")]


def test_sample_is_in_input_pixels():
    sample = load(Squares(), 2)
    assert sample.image.shape == (64, 64, 3)
    assert sample.image.dtype == np.uint8
    # 48 -> 64 columns: the scale is 4 / 3, the rows 4..20 become 5.3..26.7 under 10 of padding.
    np.testing.assert_array_equal(sample.boxes, [[15, 3, 37, 13], [15, 19, 37, 29]])
    assert sample.boxes.dtype == np.float32
    np.testing.assert_array_equal(sample.class_ids, [1, 1])
    assert sample.masks.shape == (2, 14, 14)
    assert sample.masks.dtype == np.uint8
    assert sample.masks.all()


def test_meta_names_the_image_and_its_source_classes():
    sample = load(Squares(), 2)
    meta = images.parse_meta(sample.image_meta[None])
    assert meta["image_id"] == [2]
    np.testing.assert_array_equal(meta["original_image_shape"], [[32, 48, 3]])
    np.testing.assert_array_equal(meta["image_shape"], [[64, 64, 3]])
    np.testing.assert_array_equal(meta["window"], [[10, 0, 53, 64]])
    np.testing.assert_array_equal(meta["active_class_ids"], [[1, 1, 0]])


def test_full_masks_on_request():
    sample = load(Squares(), 2, changed(mini_mask_shape=None))
    assert sample.masks.shape == (2, 64, 64)
    np.testing.assert_array_equal(masks.bounds(np.moveaxis(sample.masks, 0, -1)), sample.boxes)


def test_image_without_objects_is_a_sample():
    sample = load(Squares(), 0)
    assert sample.boxes.shape == (0, 4)
    assert sample.masks.shape == (0, 14, 14)
    assert sample.class_ids.shape == (0,)


@pytest.mark.parametrize("shape", [(0, 0, 0), (32, 48, 0)])
def test_empty_masks_come_in_any_shape(monkeypatch, shape):
    dataset = Squares()
    monkeypatch.setattr(dataset, "load_mask", lambda _: (np.empty(shape), np.empty(0, np.int32)))
    dataset.load_image = lambda _: np.zeros((32, 48, 3), np.uint8)
    assert load(dataset, 3).boxes.shape == (0, 4)


def test_objects_that_vanish_are_dropped(monkeypatch):
    dataset = Squares()
    mask = np.zeros((256, 256, 3), bool)
    mask[8, 9, 0] = True
    mask[:128, :64, 2] = True
    monkeypatch.setattr(dataset, "load_image", lambda _: np.zeros((256, 256, 3), np.uint8))
    monkeypatch.setattr(dataset, "load_mask", lambda _: (mask, np.array([1, 1, -2])))
    sample = load(dataset, 0)
    np.testing.assert_array_equal(sample.class_ids, [-2])
    np.testing.assert_array_equal(sample.boxes, [[0, 0, 32, 16]])


def test_too_many_objects_are_a_random_choice():
    few = changed(max_instances=1)
    chosen = {tuple(load(Squares(), 3, few, seed=seed).boxes[0]) for seed in range(20)}
    assert len(chosen) == 3


def test_boxes_follow_augmentation():
    def flip(image, mask, rng):  # noqa: ARG001
        return image[:, ::-1], mask[:, ::-1]

    plain, flipped = load(Squares(), 1), load(Squares(), 1, augmentation=[flip])
    np.testing.assert_array_equal(flipped.boxes[0, [1, 3]], 64 - plain.boxes[0, [3, 1]])


@pytest.mark.parametrize("mini_mask_shape", [(28, 28), None])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_masks_of_any_type_from_an_augmentation_are_0_or_1(dtype, mini_mask_shape):
    def as_numbers(image, mask, rng):  # noqa: ARG001
        return image, mask.astype(dtype) * 255

    kinds = changed(mini_mask_shape=mini_mask_shape)
    plain, found = (load(Squares(), 2, kinds, augmentation=a) for a in ([], [as_numbers]))
    assert found.masks.dtype == np.uint8
    np.testing.assert_array_equal(found.masks, plain.masks)


@pytest.mark.parametrize(
    ("mask", "class_ids", "message"),
    [
        (np.ones((48, 32, 1), bool), [1], r"\(48, 32\), but the image has \(32, 48\)"),
        (np.ones((32, 48, 2), bool), [1], "1 class ids have masks"),
        (np.ones((32, 48, 1), bool), [3], r"must be in 1\.\.2"),
        (np.ones((32, 48, 1), bool), [0], r"must be in 1\.\.2"),
    ],
)
def test_masks_that_do_not_fit_are_a_bad_sample(monkeypatch, mask, class_ids, message):
    dataset = Squares()
    image = dataset.load_image(0)
    monkeypatch.setattr(dataset, "load_image", lambda _: image)
    monkeypatch.setattr(dataset, "load_mask", lambda _: (mask, class_ids))
    with pytest.raises(BadSample, match=message):
        load(dataset, 0)


def test_batch_is_padded_with_zeros():
    dataset = Squares()
    samples = [load(dataset, 2), load(dataset, 0)]
    batch = pipeline.collate(samples, 4)
    described = {name: (array.shape, array.dtype.name) for name, array in batch.items()}
    assert described == {
        "input_image": ((2, 64, 64, 3), "uint8"),
        "input_image_meta": ((2, 15), "float32"),
        "input_gt_class_ids": ((2, 4), "int32"),
        "input_gt_boxes": ((2, 4, 4), "float32"),
        "input_gt_masks": ((2, 4, 14, 14), "uint8"),
        "input_seed": ((2,), "int32"),
    }
    np.testing.assert_array_equal(batch["input_gt_class_ids"], [[1, 1, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(batch["input_gt_boxes"][0, :2], samples[0].boxes)
    assert not batch["input_gt_boxes"][0, 2:].any()
    assert (batch["input_seed"] >= 0).all()


def test_images_of_two_sizes_are_no_batch():
    samples = [load(Squares(), 0), load(Squares(), 0, changed(min_dim=128, max_dim=128))]
    with pytest.raises(ValueError, match="one size"):
        pipeline.collate(samples, 4)


def test_each_pass_shows_every_image_once_in_its_own_order():
    shown = [shown_ids(batch) for batch in stream(Squares(), count=8)]
    first, second = np.array(shown).reshape(2, 12).tolist()
    assert sorted(first) == sorted(second) == list(range(12))
    assert first != second


def test_order_is_the_datasets_without_shuffling():
    batches = stream(Squares(5), shuffle=False, count=2)
    assert [shown_ids(batch) for batch in batches] == [[0, 1, 2], [3, 4, 0]]


@pytest.mark.parametrize("workers", [1, 3])
def test_batches_do_not_depend_on_the_workers(workers):
    augmentation = [augment.flip_left_right, augment.jitter_colour]
    settings = {"augmentation": augmentation, "count": 5, "seed": 7}
    expected = stream(Squares(20, bad={4}), **settings)
    threaded = stream(Squares(20, bad={4}), workers=workers, **settings)
    for left, right in zip(expected, threaded, strict=True):
        for name, array in left.items():
            np.testing.assert_array_equal(array, right[name])


def test_another_seed_is_another_stream():
    batches = [next(iter(stream(Squares(), seed=seed))) for seed in (0, 1)]
    assert shown_ids(batches[0]) != shown_ids(batches[1])


@pytest.mark.parametrize("bad", [(), (2,)])
def test_resumed_stream_goes_on_where_the_first_would_be(bad):
    whole = list(stream(Squares(20, bad=bad), count=9))
    resumed = list(stream(Squares(20, bad=bad), start=6, count=3))
    for left, right in zip(whole[6:], resumed, strict=True):
        for name, array in left.items():
            np.testing.assert_array_equal(array, right[name])


def test_stream_is_endless_and_leaves_no_threads():
    batches = iter(stream(Squares(), workers=2))
    assert len(list(itertools.islice(batches, 20))) == 20
    assert data_threads()
    batches.close()
    assert not data_threads()


@pytest.mark.parametrize(("sources", "value"), [((), 99), (("squares",), 0)])
def test_sources_can_be_kept_from_augmentation(sources, value):
    def whiten(image, mask, rng):  # noqa: ARG001
        return np.full_like(image, 99), mask

    settings = {"augmentation": [whiten], "no_augmentation_sources": sources}
    batch = next(iter(stream(Squares(), shuffle=False, **settings)))
    assert batch["input_image"][0, 32, 32, 0] == value


def test_bad_image_is_replaced_and_warned_about_once(caplog):
    batches = stream(Squares(12, bad={5}), shuffle=False, count=8)
    with caplog.at_level(logging.WARNING, "mrcnn"):
        shown = list(itertools.chain.from_iterable(shown_ids(batch) for batch in batches))
    assert shown[:7] == [0, 1, 2, 3, 4, 6, 6]
    assert batches.bad_images == {5: "OSError: 5.png is broken"}
    assert caplog.messages == ["skipped image 5 (5.png): OSError: 5.png is broken"]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("bad", [(3, 7), range(12)])
def test_more_than_a_tenth_of_bad_images_is_an_error(workers, bad):
    batches = stream(Squares(12, bad=bad), workers=workers, count=8)
    with pytest.raises(RuntimeError, match=r"2 of 12 images .*OSError: .* is broken"):
        list(batches)
    assert not data_threads()


ERRORS = (KeyError("a"), IndexError("of 3"), TypeError("no"), AttributeError("x"), MemoryError())


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("method", ["load_image", "load_mask"])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_whatever_a_program_raises_skips_the_image(monkeypatch, caplog, method, error, workers):
    dataset = Squares(20)
    load = getattr(dataset, method)

    def fail(image_id):
        if image_id == 5:
            raise error
        return load(image_id)

    monkeypatch.setattr(dataset, method, fail)
    batches = stream(dataset, shuffle=False, count=7, workers=workers)
    shown = [number for batch in batches for number in shown_ids(batch)]
    assert shown[:7] == [0, 1, 2, 3, 4, 6, 6]
    reason = f"{type(error).__name__}: {error}".removesuffix(": ")
    assert batches.bad_images == {5: reason}
    assert caplog.messages == [f"skipped image 5 (5.png): {reason}"]


@pytest.mark.parametrize("workers", [0, 2])
def test_faults_of_the_program_stop_the_run_with_their_type(monkeypatch, workers):
    dataset = Squares()
    error = KeyError("polygons")

    def fail(image_id):  # noqa: ARG001
        raise error

    monkeypatch.setattr(dataset, "load_mask", fail)
    with pytest.raises(RuntimeError, match=r"cannot be used.*KeyError: 'polygons'") as raised:
        next(iter(stream(dataset, workers=workers)))
    assert raised.value.__cause__ is error
    assert not data_threads()


@pytest.mark.parametrize("workers", [0, 2])
def test_interruptions_pass_through(monkeypatch, workers):
    dataset = Squares()

    def fail(image_id):  # noqa: ARG001
        raise KeyboardInterrupt

    monkeypatch.setattr(dataset, "load_image", fail)
    with pytest.raises(KeyboardInterrupt):
        next(iter(stream(dataset, workers=workers)))
    assert not data_threads()


def test_an_image_that_loads_the_next_time_does_not_count_for_ever(monkeypatch, caplog):
    dataset = Squares(20)
    load, asked = dataset.load_image, []

    def fail_first(image_id):
        asked.append(image_id)
        if image_id in (3, 9, 15) and asked.count(image_id) == 1 + image_id // 5:
            raise OSError("the share is away")
        return load(image_id)

    monkeypatch.setattr(dataset, "load_image", fail_first)
    batches = pipeline.BatchStream(dataset, FORMAT, 4, shuffle=False, workers=0, count=25)
    assert sum(len(shown_ids(batch)) for batch in batches) == 100
    assert batches.bad_images == {}
    assert len(caplog.messages) == 3


class OfOtherDtypes(Squares):
    """Image 0 is uint8, image 1 float32 beyond 0..255, of two channels."""

    def load_image(self, image_id):
        values = np.zeros((32, 48, 2), np.uint8 if image_id == 0 else np.float32)
        values[:] = 7 if image_id == 0 else [300.5, -40]
        return values


def test_images_of_a_batch_have_one_dtype_that_holds_all():
    two = dict(vars(FORMAT), channels=2)
    batches = pipeline.BatchStream(
        OfOtherDtypes(2), pipeline.SampleFormat(**two), 2, shuffle=False, workers=0, count=1
    )
    (batch,) = batches
    assert batch["input_image"].dtype == np.float32
    np.testing.assert_array_equal(batch["input_image"][:, 32, 32], [[7, 7], [300.5, -40]])


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_images_of_other_dtypes_than_the_first_arrive_as_they_are(backend):
    devices = importlib.import_module(f"mrcnn.training.{backend}_devices")
    two = pipeline.SampleFormat(**dict(vars(FORMAT), channels=2))
    batches = pipeline.BatchStream(OfOtherDtypes(4), two, 1, shuffle=False, workers=0, count=4)
    fed = devices.Feed(batches, 4).dataset()
    found = [fed[place] for place in range(4)] if backend == "jax" else list(fed)
    values = [np.asarray(batch["input_image"])[0, 32, 32].tolist() for batch in found]
    assert values == [[7, 7], [300.5, -40], [300.5, -40], [300.5, -40]]


def test_a_feed_of_an_iterator_begins_with_its_first_batch():
    batches = stream(Squares(), shuffle=False, count=3)
    fed = tensorflow_devices.Feed(map(dict, iter(batches)), 3).dataset()
    assert [int(batch["input_image_meta"][0, 0]) for batch in fed] == [0, 3, 6]


def test_empty_dataset_is_refused():
    with pytest.raises(ValueError, match="no images"):
        stream(Squares(0))


def test_too_many_classes_are_refused():
    dataset = Squares()
    dataset.add_class("squares", 2, "large")
    dataset.prepare()
    with pytest.raises(
        ValueError, match="has 4 classes including background, but NUM_CLASSES is 3"
    ):
        stream(dataset)


def test_files_that_are_missing_or_broken_are_skipped(tmp_path):
    dataset = Dataset()
    for number in range(20):
        PIL.Image.fromarray(np.full((40, 40), number, np.uint8)).save(tmp_path / f"{number}.png")
        dataset.add_image("files", number, tmp_path / f"{number}.png")
    (tmp_path / "3.png").unlink()
    (tmp_path / "4.png").write_bytes(b"no image")
    dataset.prepare()
    batches = stream(dataset, count=10, workers=2)
    assert len(list(batches)) == 10
    assert sorted(batches.bad_images) == [3, 4]


def test_nuclei_become_batches(shared_data):
    folder = shared_data / "nuclei"
    dataset = load_coco(folder / "annotations" / "instances_val.json", folder / "val")
    large = changed(min_dim=256, max_dim=256, max_instances=200, num_classes=2)
    batches = pipeline.BatchStream(dataset, large, batch_size=4, count=3, workers=2)
    for batch in batches:
        assert batch["input_image"].shape == (4, 256, 256, 3)
        boxes, class_ids = batch["input_gt_boxes"], batch["input_gt_class_ids"]
        np.testing.assert_array_equal((boxes[..., 2] > boxes[..., 0]), class_ids == 1)
        np.testing.assert_array_equal(batch["input_gt_masks"].any(axis=(2, 3)), class_ids == 1)
    assert not batches.bad_images


@pytest.mark.parametrize(
    ("changes", "got"),
    [
        ({"mode": "pad64", "min_dim": 0, "max_dim": 0}, "64 x 64"),
        ({"mode": "pad64", "min_dim": 128, "max_dim": 0}, "128 x 192"),
        ({"min_dim": 128, "max_dim": 256}, "256 x 256"),
    ],
)
def test_an_image_of_another_size_than_the_training_is_bad_and_told_what_to_set(changes, got):
    sample_format = changed(**changes, input_shape=(128, 128))
    with pytest.raises(ValueError, match=f"becomes {got} pixels.*'square', 'short_side' or"):
        load(Squares(), 1, sample_format)
    assert load(Squares(), 1, changed(**changes)).image.shape[:2] != (128, 128)


def test_modes_in_which_sizes_may_differ_train_where_they_do_not():
    sample_format = changed(mode="pad64", min_dim=64, input_shape=(64, 128))
    assert load(Squares(), 1, sample_format).image.shape == (64, 128, 3)
