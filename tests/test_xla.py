"""Steps compiled by XLA under TensorFlow, as on a single GPU, against those that are not."""

from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from small import Rectangles, SmallConfig

from mrcnn import presets
from mrcnn.config import Config
from mrcnn.model import MaskRCNN
from mrcnn.network import backend_ops
from mrcnn.training import run

SMALL = {name: value for name, value in vars(SmallConfig).items() if name.isupper()}
MODERN = SMALL | {"IMAGE_RESIZE_MODE": "square"}
# What computes in its own way: features of boxes, masks, batch norm and precisions.
KINDS: dict[str, tuple[type[Config], dict]] = {
    "corners": (Config, SMALL | {"TRAIN_BN": True}),
    "aligned": (presets.ModernConfig, MODERN),
    "pooled": (presets.ModernConfig, MODERN | {"ROI_FEATURES": "pool", "MASK_LOSS": "softmax"}),
    "bfloat16": (presets.ModernConfig, MODERN | {"PRECISION": "mixed_bfloat16"}),
}
STEPS = 2


def compiled(config: Config, weights: Path, *, by_xla: bool) -> MaskRCNN:
    """Return a model that is ready to train, from weights that are made where there are none."""
    model = MaskRCNN("training", config, weights.parent)
    if weights.exists():
        model.load_weights(weights, verbose=0)
    else:
        model.save_weights(weights)
    model.set_trainable(".*", verbose=0)
    model.compile(0.002, config.LEARNING_MOMENTUM)
    if by_xla:
        model.training_model.compile(model.training_model.optimizer, jit_compile=True)
    assert model.training_model.jit_compile == by_xla
    return model


def batches(config: Config) -> Iterator[dict[str, np.ndarray]]:
    return iter(run.training_stream(Rectangles(6), config, (), (), 0))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_steps_by_xla_have_the_same_losses(kind, tmp_path, assert_as_golden):
    preset, settings = KINDS[kind]
    config = preset.from_dict(settings)
    found = []
    for by_xla in (False, True):
        model = compiled(config, tmp_path / "weights.h5", by_xla=by_xla).training_model
        stream = batches(config)
        steps = [model.train_on_batch(next(stream), return_dict=True) for _ in range(STEPS)]
        found.append(np.array([[step[name] for name in config.losses] for step in steps]))
    expected, by_xla_too = found
    assert (expected > 0).all()
    assert np.isfinite(by_xla_too).all()
    if kind == "bfloat16":
        # Proposals are rounded otherwise, so that other ones are drawn; the RPN learns the same.
        is_of_rpn = [name.startswith("rpn") for name in config.losses]
        expected, by_xla_too = expected[:, is_of_rpn], by_xla_too[:, is_of_rpn]
    tolerance = 2e-2 if kind == "bfloat16" else 1e-4
    assert_as_golden(f"XLA, {kind}", by_xla_too, expected, tolerance)


@pytest.mark.slow
def test_programs_of_their_own_may_feed_batches_of_any_number(tmp_path):
    # Often a dataset's number of images in a batch is unknown when the step is compiled.
    config = SmallConfig()
    model = compiled(config, tmp_path / "weights.h5", by_xla=True).training_model
    signature = {
        name: tf.TensorSpec((None, *array.shape[1:]), array.dtype)
        for name, array in next(batches(config)).items()
    }
    dataset = tf.data.Dataset.from_generator(lambda: batches(config), output_signature=signature)
    history = model.fit(dataset, steps_per_epoch=STEPS, shuffle=False, verbose=0)
    assert np.isfinite(history.history["loss"]).all()


def test_on_cpus_and_in_inference_xla_is_not_asked_for(tmp_path):
    model = compiled(SmallConfig(), tmp_path / "weights.h5", by_xla=False)
    assert not model.inference_model.jit_compile
    assert not backend_ops.is_static()


def test_keras_chooses_xla_for_training_on_a_single_gpu(tmp_path, monkeypatch):
    model = compiled(SmallConfig(), tmp_path / "weights.h5", by_xla=False)
    gpu = tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda *_: [gpu])
    model.training_model.compile(model.training_model.optimizer)
    assert model.training_model.jit_compile
    part = keras.Model(model.inference_model.input, model.inference_model.output)
    assert not part.jit_compile
