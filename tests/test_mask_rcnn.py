"""`mrcnn.mask_rcnn.MaskRCNN`: the object without Matterport's names."""

import numpy as np
import pytest
from small import Rectangles, SmallConfig, make_find_objects

from mrcnn.mask_rcnn import MaskRCNN
from mrcnn.model import MaskRCNN as MatterportsMaskRCNN
from mrcnn.training.options import Options


@pytest.fixture(scope="module")
def detector(tmp_path_factory) -> MaskRCNN:
    model = MaskRCNN(SmallConfig(), tmp_path_factory.mktemp("logs"))
    make_find_objects(model.network)
    return model


@pytest.fixture
def image() -> np.ndarray:
    return Rectangles().load_image(1)


def test_detections_are_those_of_matterports_class(detector, image, tmp_path):
    detector.save(tmp_path / "weights.h5")
    theirs = MatterportsMaskRCNN.from_checkpoint(tmp_path / "weights.h5", model_dir=tmp_path)
    (found,), (expected,) = detector.predict([image]), theirs.detect([image])
    assert len(found["scores"]) > 0
    assert found.keys() == expected.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name])


def test_images_are_taken_one_after_the_other(detector, image):
    taken = []

    def images():
        for number in range(2 * detector.config.BATCH_SIZE):
            taken.append(number)
            yield image

    next(detector.predict(images()))
    assert len(taken) <= detector.config.BATCH_SIZE + 1


def test_unknown_forms_of_masks_are_refused_by_name(detector, image):
    with pytest.raises(ValueError, match=r"one of \['full', 'rle'\], got 'polygons'"):
        detector.predict([image], masks="polygons")


def test_detection_and_scores_need_no_training_graph(detector, image):
    next(detector.predict([image]))
    assert detector.evaluate(Rectangles(2), verbose=0)["segm"].keys() >= {"AP", "AP50"}
    assert "trainer" not in vars(detector)
    assert "training" not in vars(detector.network)


def test_settings_and_weights_come_back_from_a_file(detector, image, tmp_path):
    detector.save(tmp_path / "weights.h5")
    model = MaskRCNN.from_checkpoint(tmp_path / "weights.h5", DETECTION_MAX_INSTANCES=3)
    assert not model.load_report.missing
    assert model.config.CLASS_NAMES == ("BG", "dark", "bright")
    (found,) = model.predict([image])
    assert len(found["scores"]) == 3


def test_files_without_settings_are_refused_with_the_remedy(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such weights file"):
        MaskRCNN.from_checkpoint(tmp_path / "none.h5")


@pytest.mark.usefixtures("eagerly")
def test_training_writes_checkpoints_and_goes_on_from_the_last(tmp_path, capsys, caplog):
    config = SmallConfig.from_dict({"STEPS_PER_EPOCH": 1, "VALIDATION_STEPS": 0})
    model = MaskRCNN(config, tmp_path)
    before = model.network.inference.get_weights()
    history = model.train(Rectangles(), None, Options(0.001, epochs=1))
    assert np.isfinite(history.history["loss"]).all()
    assert any(
        not np.array_equal(*pair)
        for pair in zip(before, model.network.inference.get_weights(), strict=True)
    )
    (checkpoint,) = model.run.folder.glob("*.h5")
    assert str(checkpoint) == model.run.checkpoint_path.format(epoch=1)

    resumed = MaskRCNN(config, tmp_path)
    resumed.load("last")
    assert (resumed.run.epoch, resumed.run.folder) == (1, model.run.folder)
    resumed.train(Rectangles(), None, Options(0.001, epochs=2, layers="heads"))
    assert "Optimizer resumed at step 1" in capsys.readouterr().out
    assert "random weights" not in caplog.text  # the trainer is made after the weights are loaded
    assert len(list(model.run.folder.glob("*.h5"))) == 2
