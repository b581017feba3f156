"""The training model as programs with a loop of their own use it."""

import numpy as np
import pytest
from small import Rectangles, SmallConfig

import mrcnn.model as modellib


@pytest.fixture(scope="module")
def dataset():
    return Rectangles()


@pytest.fixture
def compiled(tmp_path):
    model = modellib.MaskRCNN("training", SmallConfig(), tmp_path)
    model.compile(0.001, 0.9)
    return model


def batches_of(dataset, model):
    return modellib.data_generator(dataset, model.config, shuffle=False, batch_size=2)


@pytest.mark.usefixtures("eagerly")
def test_losses_of_generators_go_with_the_names_of_the_metrics(compiled, dataset):
    network = compiled.keras_model
    names = network.metrics_names
    assert names[0] == "loss"
    assert set(names[1:]) == set(compiled.config.losses)
    np.random.seed(1)
    losses = network.evaluate_generator(batches_of(dataset, compiled), 2, workers=2)
    by_name = dict(zip(names, losses, strict=True))
    np.testing.assert_allclose(by_name["loss"], sum(losses[1:]), rtol=1e-5)
    for steps in (2, 1.5, np.int64(2)):
        np.random.seed(1)
        again = network.evaluate(batches_of(dataset, compiled), steps=steps, verbose=0)
        np.testing.assert_allclose(again, losses, rtol=1e-5)
    with pytest.raises(ValueError, match="pass steps"):
        network.evaluate(batches_of(dataset, compiled))


@pytest.mark.usefixtures("eagerly")
def test_a_sequence_is_evaluated_from_its_beginning_to_its_end(compiled, dataset):
    sequence = modellib.DataGenerator(dataset, compiled.config, shuffle=False)
    ids = []

    class Listening(type(sequence)):
        def __getitem__(self, index):
            batch = super().__getitem__(index)
            ids.extend(batch[0][1][:, 0].tolist())
            return batch

    sequence.__class__ = Listening
    assert len(compiled.keras_model.evaluate(sequence, verbose=0)) == 6
    assert ids[: dataset.num_images] == list(range(dataset.num_images))


@pytest.mark.usefixtures("eagerly")
def test_steps_and_epochs_of_a_generator_may_be_given_by_place(compiled, dataset):
    history = compiled.keras_model.fit_generator(batches_of(dataset, compiled), 3 / 2, 2, 0)
    assert len(history.history["loss"]) == 2
    assert int(compiled.keras_model.optimizer.iterations) == 4
    with pytest.raises(TypeError, match="only steps may be given by place"):
        compiled.keras_model.evaluate_generator(batches_of(dataset, compiled), 2, 10)


@pytest.mark.slow
def test_single_batches_of_generators_are_trained_tested_and_predicted(compiled, dataset):
    network, generator = compiled.keras_model, batches_of(dataset, compiled)
    inputs, outputs = next(generator)
    assert np.isfinite(network.train_on_batch(inputs, outputs)).all()
    assert np.isfinite(network.test_on_batch(inputs, outputs)).all()
    found = network.predict_generator(generator, 1)
    assert found["rpn_bbox"].shape[0] == 2


def test_the_network_that_detects_predicts_from_generators(tmp_path):
    model = modellib.MaskRCNN("inference", SmallConfig(), tmp_path)
    molded, metas, _ = model.mold_inputs([np.zeros((64, 64, 3), np.uint8)])
    inputs = [molded, metas, model.get_anchors(molded.shape[1:])[None]]
    found = model.keras_model.predict_generator(iter([inputs, inputs]), 2)
    assert found[0].shape == (2, model.config.DETECTION_MAX_INSTANCES, 6)
