"""Steps compiled by XLA under TensorFlow, as on a single GPU, against those that are not."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from small import Rectangles, SmallConfig

from mrcnn import presets
from mrcnn.config import Config
from mrcnn.model import MaskRCNN
from mrcnn.network.ops import backend
from mrcnn.training import distribution, fitting

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
HAS_GPU = backend.has_gpu()


def compiled(config: Config, weights: Path, xla: str) -> MaskRCNN:
    """Return a model that is ready to train, from weights that are made where there are none."""
    model = MaskRCNN("training", config.replace(XLA=xla), weights.parent)
    if weights.exists():
        model.load_weights(weights, verbose=0)
    else:
        model.save_weights(weights)
    model.set_trainable(".*", verbose=0)
    model.compile(0.002, config.LEARNING_MOMENTUM)
    return model


def batches(config: Config) -> Iterator[dict[str, np.ndarray]]:
    return iter(fitting.training_stream(Rectangles(6), config, (), (), 0))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_steps_by_xla_have_the_same_losses(kind, tmp_path, assert_as_golden):
    preset, settings = KINDS[kind]
    config = preset.from_dict(settings)
    found = []
    for xla in ("off", "on"):
        model = compiled(config, tmp_path / "weights.h5", xla).training_model
        assert model.jit_compile == (xla == "on")
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
def test_datasets_of_programs_need_not_know_their_sizes(tmp_path):
    config = SmallConfig()
    model = compiled(config, tmp_path / "weights.h5", "on").training_model
    signature = {
        name: tf.TensorSpec([None] * array.ndim, array.dtype)
        for name, array in next(batches(config)).items()
    }
    dataset = tf.data.Dataset.from_generator(lambda: batches(config), output_signature=signature)
    history = model.fit(dataset, steps_per_epoch=STEPS, shuffle=False, verbose=0)
    assert np.isfinite(history.history["loss"]).all()


def test_the_setting_decides_and_on_a_processor_auto_is_off(tmp_path):
    models = [compiled(SmallConfig(), tmp_path / "weights.h5", xla) for xla in ("auto", "on")]
    assert [model.training_model.jit_compile for model in models] == [HAS_GPU, True]
    assert not backend.is_static()


@pytest.mark.skipif(HAS_GPU, reason="there is one")
def test_auto_is_on_where_one_gpu_has_the_weights(tmp_path, monkeypatch):
    model = compiled(SmallConfig(), tmp_path / "weights.h5", "auto")
    gpu = tf.config.PhysicalDevice("/physical_device:GPU:0", "GPU")
    for name in ("list_physical_devices", "list_logical_devices"):
        monkeypatch.setattr(tf.config, name, lambda *_: [gpu])
    model.compile(0.002, 0.9)
    assert not model.training_model.jit_compile  # the weights are the processor's
    weights = [SimpleNamespace(value=SimpleNamespace(device="/job:localhost/device:GPU:0"))]
    assert distribution.suits_xla(weights)
    monkeypatch.setattr(distribution, "suits_xla", lambda _: True)
    model.compile(0.002, 0.9)
    assert model.training_model.jit_compile
    # Detection has TensorFlow's own operations.
    assert not model.inference_model.jit_compile
