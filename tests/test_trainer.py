import errno
import logging
import shutil
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import run_steps_eagerly
from small import Rectangles, SmallConfig

from mrcnn.model import MaskRCNN
from mrcnn.network import losses
from mrcnn.network import network as networks
from mrcnn.training import fitting, optimizer_state, optimizers, trainable, training_model
from mrcnn.training.callbacks import TrainingDiverged
from mrcnn.weights import hdf5, runs


def shallow(image, stage5, train_bn):
    """Return [C1..C5], each a convolution of stride 2: half the weights of the small ResNet."""
    del stage5, train_bn
    stages = [image]
    for stage in range(1, 6):
        layer = keras.layers.Conv2D(8, 3, 2, "same", activation="relu", name=f"shallow{stage}")
        stages.append(layer(stages[-1]))
    return stages[1:]


SETTINGS = {
    # Enough for all that is not about ResNets, which RESNET makes of it.
    "BACKBONE": shallow,
    # Weights from nothing learn with the statistics of the batch.
    "TRAIN_BN": None,
    "WARMUP_STEPS": 3,
    "LOSS_WEIGHTS": {"rpn_class_loss": 2.0, "mrcnn_mask_loss": 0.5},
}
RESNET = {"BACKBONE": SmallConfig.BACKBONE}


class Watch(keras.callbacks.Callback):
    """Notes epochs, losses, and the optimizer's state at the start."""

    def __init__(self):
        super().__init__()
        self.epochs, self.losses = [], []

    def on_train_begin(self, logs=None):
        del logs
        self.state = optimizer_state.optimizer_state(self.model)

    def on_epoch_begin(self, epoch, logs=None):
        del logs
        self.epochs.append(epoch)

    def on_train_batch_end(self, batch, logs=None):
        del batch
        self.losses.append(logs["loss"])


class RaiseInEpoch(Watch):
    """Raises after the first step of an epoch (0-based)."""

    def __init__(self, epoch, error):
        super().__init__()
        self.epoch, self.error = epoch, error

    def on_train_batch_end(self, batch, logs=None):
        del batch, logs
        if self.epochs[-1] == self.epoch:
            raise self.error


@pytest.fixture(scope="module")
def two_epochs(tmp_path_factory) -> Path:
    """The folder of a run of two epochs: checkpoints 1 and 2."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        run_steps_eagerly(monkeypatch)
        model = make_model(tmp_path_factory.mktemp("straight"))
        model.train(Rectangles(), None, 0.01, 2, "all")
    return Path(model.log_dir)


@pytest.fixture
def first_epoch(two_epochs, tmp_path) -> Path:
    """A folder of runs in which one was killed in its second epoch."""
    folder = tmp_path / two_epochs.name
    folder.mkdir()
    shutil.copy(two_epochs / "mask_rcnn_small_0001.h5", folder)
    return tmp_path


@pytest.fixture(scope="module")
def network() -> networks.Network:
    return networks.Network(SmallConfig())


@pytest.fixture(scope="module")
def batch() -> dict:
    return first_batch(SmallConfig())


def make_model(folder, **settings) -> MaskRCNN:
    return MaskRCNN("training", SmallConfig().replace(**{**SETTINGS, **settings}), folder)


def first_batch(config) -> dict:
    return next(iter(fitting.training_stream(Rectangles(), config, (), (), 0)))


def values(model) -> dict[str, np.ndarray]:
    return {k: np.array(v) for k, v in hdf5.weights_by_name(model.network.inference).items()}


def changed(before, after) -> set[str]:
    return {key for key in before if not np.array_equal(before[key], after[key])}


def layers_of(keys) -> set[str]:
    return {key.partition("/")[0] for key in keys}


def file_names(folder) -> list[str]:
    return sorted(path.name for path in Path(folder).glob("*.h5"))


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    """History, weights before and after, and calls of Keras's hooks, of a training as it is."""
    calls = []
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in ("_symbolic_build", "_maybe_symbolic_build"):
            hook = getattr(training_model.TrainingModel, name)

            def spy(self, *args, _hook=hook, _name=name, **kwargs):
                calls.append(_name)
                return _hook(self, *args, **kwargs)

            monkeypatch.setattr(training_model.TrainingModel, name, spy)
        model = make_model(tmp_path_factory.mktemp("traced"), WORKERS=1, **RESNET)
        before = values(model)
        history = model.train(Rectangles(), Rectangles(), 0.01, 1, "all").history
    return model, history, before, values(model), calls


def test_every_loss_is_in_the_history_also_of_the_validation(traced):
    _, history, *_ = traced
    names = {"loss", *SmallConfig().losses}
    assert set(history) == names | {f"val_{name}" for name in names}
    assert all(np.isfinite(value).all() for value in history.values())


@pytest.mark.parametrize("prefix", ["", "val_"])
def test_total_loss_is_the_weighted_sum(traced, prefix):
    _, history, *_ = traced
    losses = {name: history[prefix + name][0] for name in SmallConfig().losses}
    weights = {**dict.fromkeys(SmallConfig().losses, 1.0), **SETTINGS["LOSS_WEIGHTS"]}
    expected = sum(weights[name] * loss for name, loss in losses.items())
    assert history[f"{prefix}loss"][0] == pytest.approx(expected, rel=1e-5)


def test_every_weight_learns(traced):
    _, _, before, after, _ = traced
    assert changed(before, after) == set(before)


def test_a_run_leaves_a_checkpoint_and_a_log(traced):
    model, *_ = traced
    assert file_names(model.log_dir) == ["mask_rcnn_small_0001.h5"]
    assert list(Path(model.log_dir).rglob("events.out.tfevents.*"))


def test_keras_still_calls_the_hook_that_is_overridden(traced):
    *_, calls = traced
    assert calls, "Keras calls _symbolic_build and _maybe_symbolic_build no more"


def test_a_replicas_losses_are_its_share_of_the_global_batch(network, batch):
    outputs = keras.Model(*network.training)(batch)
    alone = losses.compute_losses(batch, outputs)
    halves = losses.compute_losses(batch, outputs, lambda count: 2 * count)
    for name in SmallConfig().losses:
        assert float(alone[name]) > 0
        assert float(halves[name]) == pytest.approx(float(alone[name]) / 2, rel=1e-6)


def test_images_travel_as_integers_and_count_as_numbers(network, batch):
    model = training_model.TrainingModel(network, SmallConfig())
    image = batch["input_image"]
    assert image.dtype == np.uint8
    outputs = model(batch)
    same = model({**batch, "input_image": image.astype("f")})
    shifted = keras.Model(*network.training)(
        {**batch, "input_image": image.astype("f") - SmallConfig.MEAN_PIXEL.astype("f")}
    )
    for name in ("rpn_class_logits", "rpn_bbox"):
        np.testing.assert_allclose(outputs[name], same[name], atol=1e-5)
        np.testing.assert_allclose(outputs[name], shifted[name], atol=1e-5)


def test_heads_are_all_but_the_backbone(network):
    chosen = trainable.set_trainable(network.inference, "heads")
    every = {layer.name for layer in hdf5.leaf_layers(network.inference)}
    assert set(chosen) == {name for name in every if name.startswith(("mrcnn_", "rpn_", "fpn_"))}
    assert {"rpn_conv_shared", "fpn_p2", "mrcnn_mask_conv1"} <= set(chosen)
    for layer in hdf5.leaf_layers(network.inference):
        assert bool(layer.trainable_weights) == (layer.name in chosen)


def test_words_from_heads_to_all_add_a_stage_each(network):
    words = ["heads", "5+", "4+", "3+", "all"]
    chosen = [set(trainable.set_trainable(network.inference, word)) for word in words]
    stages = [{"res5", "bn5"}, {"res4", "bn4"}, {"res3", "bn3"}, {"res2", "bn2", "conv1", "bn_c"}]
    for smaller, larger, names in zip(chosen, chosen[1:], stages, strict=False):
        assert smaller < larger
        added = larger - smaller
        assert all(name.startswith(tuple(names)) for name in added)
        assert all(any(name.startswith(start) for name in added) for start in names)
    assert chosen[-1] == {layer.name for layer in hdf5.leaf_layers(network.inference)}


def test_layers_are_chosen_by_their_whole_name(network):
    assert trainable.set_trainable(network.inference, "mrcnn_mask") == ["mrcnn_mask"]
    chosen = trainable.set_trainable(network.inference, r"bn_conv1|rpn_class.*")
    assert chosen == ["bn_conv1", "rpn_class_raw"]


@pytest.mark.parametrize(
    ("layers", "message"), [("head", "matches no layer; use one of heads"), ("(", "not a regular")]
)
def test_a_choice_of_no_layer_is_refused(network, layers, message):
    with pytest.raises(ValueError, match=message):
        trainable.set_trainable(network.inference, layers)


OPTIMIZERS = {
    "accumulated": lambda rate: keras.optimizers.Adam(rate, gradient_accumulation_steps=2),
    "averaged": lambda rate: keras.optimizers.AdamW(rate, use_ema=True),
}


class Own(MaskRCNN):
    """As programs choose another optimizer, after what was usual."""

    def compile(self, learning_rate, momentum):
        super().compile(learning_rate, momentum)
        self.training_model.compile(OPTIMIZERS[self.config.NAME](learning_rate))


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_programs_own_optimizer_goes_on_where_it_was(tmp_path, kind):
    config = SmallConfig.from_dict({"STEPS_PER_EPOCH": 2, "NAME": kind, "BACKBONE": shallow})
    model = Own("training", config, tmp_path)
    model.train(Rectangles(), None, 0.001, 1, "heads")
    resumed = Own("training", config, tmp_path)
    resumed.load_weights("last", verbose=0)
    expected, watch = optimizer_state.optimizer_state(model.training_model), Watch()
    resumed.train(Rectangles(), None, 0.001, 2, "heads", custom_callbacks=[watch])
    slots = [name for name in expected if ":" in name and not name.endswith(".average")]
    assert len(slots) > 50
    assert watch.state["iterations"] == 2
    for name in slots:
        np.testing.assert_array_equal(watch.state[name], expected[name], err_msg=name)


@pytest.mark.usefixtures("eagerly")
def test_a_training_that_fails_before_its_first_step_can_be_begun_again(tmp_path, monkeypatch):
    config = SmallConfig()
    model = make_model(tmp_path)
    model.train(Rectangles(), None, 0.001, 1, "heads")
    resumed = make_model(tmp_path)
    resumed.load_weights("last", verbose=0)
    with monkeypatch.context() as patched:
        patched.setattr(fitting, "fit", lambda *_: (_ for _ in ()).throw(MemoryError("none left")))
        with pytest.raises(MemoryError):
            resumed.train(Rectangles(), None, 0.001, 2, "heads")
    watch = Watch()
    resumed.train(Rectangles(), None, 0.001, 2, "heads", custom_callbacks=[watch])
    assert watch.state["iterations"] == config.steps_per_epoch
    assert any(np.any(array) for name, array in watch.state.items() if "momentum" in name)


C4 = {
    "FEATURE_MAPS": "c4",
    "BACKBONE_STRIDES": [16],
    "RPN_ANCHOR_SCALES": ((16, 32, 64),),
    "MASK_POOL_SIZE": 7,
    "MASK_SHAPE": [14, 14],
}


def test_without_a_pyramid_the_last_stage_is_a_head():
    network = networks.Network(SmallConfig.from_dict(C4))
    chosen = [
        set(trainable.set_trainable(network.inference, word)) for word in ("heads", "5+", "4+")
    ]
    stages = [{name[:4] for name in names if name.startswith("res")} for names in chosen]
    assert stages == [{"res5"}, {"res5"}, {"res4", "res5"}]
    assert {"bn5a_branch2a", "rpn_class_raw", "mrcnn_mask"} < chosen[0]


def plain_backbone(image, stage5, train_bn):
    """Return [C1..C5], each a convolution of stride 2; the last adds a loss of its weights."""
    del stage5, train_bn
    stages = [image]
    for stage in range(1, 6):
        regularizer = keras.regularizers.L2(0.5) if stage == 5 else None
        layer = keras.layers.Conv2D(
            4, 3, 2, "same", name=f"plain{stage}", kernel_regularizer=regularizer
        )
        stages.append(layer(stages[-1]))
    return stages[1:]


@pytest.mark.parametrize("word", ["3+", "4+", "5+"])
def test_stages_that_a_backbone_does_not_have_are_refused(word):
    network = networks.Network(SmallConfig.from_dict({"BACKBONE": plain_backbone}))
    with pytest.raises(ValueError, match=r"'\d\+' means the stages of a ResNet.*plain1, plain2"):
        trainable.set_trainable(network.inference, word)
    assert "plain5" not in trainable.set_trainable(network.inference, "heads")
    assert "plain5" in trainable.set_trainable(network.inference, "all")


@pytest.mark.usefixtures("eagerly")
def test_regularizers_of_a_backbone_enter_the_loss(tmp_path):
    model = make_model(tmp_path, BACKBONE=plain_backbone, LOSS_WEIGHTS={})
    kernel = model.inference_model.get_layer("plain5").kernel
    kernel.assign(np.full(kernel.shape, 0.1))
    model.compile(0.0, 0.9)
    batch = next(iter(fitting.validation_stream(Rectangles(), model.config)))
    found = model.training_model.train_on_batch(batch, return_dict=True)
    parts = sum(found[name] for name in model.config.losses)
    assert found["loss"] - parts == pytest.approx(0.5 * 0.01 * np.prod(kernel.shape), rel=1e-3)


@pytest.mark.usefixtures("eagerly")
def test_frozen_layers_stay_as_they_are_statistics_included(tmp_path):
    model = make_model(tmp_path, TRAIN_BN=None, **RESNET)
    before = values(model)
    model.train(Rectangles(), None, 0.01, 1, "heads")
    found = changed(before, values(model))
    heads = {key for key in before if key.startswith(("mrcnn_", "rpn_", "fpn_"))}
    assert found == heads


@pytest.mark.usefixtures("eagerly")
def test_statistics_stay_while_gamma_and_beta_learn_without_train_bn(tmp_path):
    model = make_model(tmp_path, TRAIN_BN=False, **RESNET)
    before = values(model)
    model.train(Rectangles(), None, 0.01, 1, "all")
    statistics = {key for key in before if "/moving_" in key}
    assert len(statistics) > 20
    assert changed(before, values(model)) == set(before) - statistics


def test_the_norm_of_an_update_is_clipped():
    variables = [keras.Variable(np.zeros((3, 2))), keras.Variable(np.zeros(4))]
    optimizer = optimizers.make_optimizer(SmallConfig(), 0.1, 0.9)
    optimizer.apply([tf.fill((3, 2), 1e6), tf.fill(4, -2e6)], variables)
    update = np.concatenate([np.ravel(variable) for variable in variables])
    norm = 0.1 * SmallConfig.GRADIENT_CLIP_NORM
    assert np.linalg.norm(update) == pytest.approx(norm, rel=1e-4)
    assert update[-1] / update[0] == pytest.approx(-2)


def test_a_gradient_within_the_norm_is_left_as_it_is():
    variable = keras.Variable(np.zeros(2))
    optimizer = optimizers.make_optimizer(SmallConfig(), 0.1, 0.9)
    optimizer.apply([tf.constant([3.0, -3.9])], [variable])
    np.testing.assert_allclose(variable, [-0.3, 0.39], rtol=1e-6)


def test_decay_pulls_kernels_only():
    model = keras.Sequential([keras.layers.Dense(2), keras.layers.BatchNormalization()])
    model.build((None, 3))
    for weight in model.weights:
        weight.assign(np.full(weight.shape, 4.0))
    config = SmallConfig().replace(WEIGHT_DECAY=0.1)
    optimizer = optimizers.make_optimizer(config, 0.5, 0.9)
    weights = model.trainable_variables
    optimizer.apply([tf.zeros(weight.shape) for weight in weights], weights)
    found = {weight.name: float(np.ravel(weight)[0]) for weight in weights}
    # Rate 0.5 times decay 0.1 over 1 - momentum is a half.
    assert found == pytest.approx({"kernel": 2.0, "bias": 4.0, "gamma": 4.0, "beta": 4.0})


@pytest.mark.usefixtures("eagerly")
def test_images_without_objects_train_as_background(tmp_path):
    model = make_model(tmp_path, STEPS_PER_EPOCH=1)
    history = model.train(Rectangles(has_objects=False), None, 0.01, 1, "all").history
    names = [name for name in SmallConfig().losses if "bbox" in name or "mask" in name]
    assert [history[name][0] for name in names] == [0, 0, 0]
    assert history["rpn_class_loss"][0] > 0
    assert history["mrcnn_class_loss"][0] > 0


@pytest.mark.usefixtures("eagerly")
def test_same_seed_gives_same_losses_whatever_the_workers(tmp_path):
    losses = []
    for workers in (0, 1, 2):
        watch = Watch()
        model = make_model(tmp_path / str(workers), WORKERS=workers)
        model.train(Rectangles(), None, 0.01, 1, "all", custom_callbacks=[watch])
        losses.append(watch.losses)
    assert len(losses[0]) == 2
    np.testing.assert_allclose(losses[1:], [losses[0]] * 2, rtol=1e-5)


@pytest.mark.usefixtures("eagerly")
def test_divergence_stops_with_its_cause_and_keeps_the_last_checkpoint(first_epoch):
    model = make_model(first_epoch, STEPS_PER_EPOCH=4, WARMUP_STEPS=0)
    model.load_weights("last", verbose=0)
    with pytest.raises(TrainingDiverged, match=r"not finite.*1\.5625e\+28.*Lower LEARNING_RATE"):
        model.train(Rectangles(), None, 1e30, 2, "all")
    assert file_names(model.log_dir) == ["mask_rcnn_small_0001.h5"]
    assert model.epoch == 1
    make_model(first_epoch).load_weights("last", verbose=0)


@pytest.mark.usefixtures("eagerly")
def test_weights_that_are_not_finite_are_not_written(tmp_path):
    class SpoilWeights(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            del epoch, logs
            self.model.get_layer("fpn_p2").bias.assign(np.full(16, np.nan))

    model = make_model(tmp_path, STEPS_PER_EPOCH=1)
    with pytest.raises(TrainingDiverged, match=r"fpn_p2/bias are not finite"):
        model.train(Rectangles(), None, 0.01, 1, "all", custom_callbacks=[SpoilWeights()])
    assert file_names(model.log_dir) == []


@pytest.mark.usefixtures("eagerly")
def test_a_full_disk_leaves_the_older_checkpoint_intact(first_epoch, monkeypatch):
    model = make_model(first_epoch)
    model.load_weights("last", verbose=0)
    before = Path(model.find_last()).read_bytes()

    def fail(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(h5py.Group, "create_dataset", fail)
    with pytest.raises(OSError, match=r"0002\.h5: the checkpoint could not .* No space left"):
        model.train(Rectangles(), None, 0.01, 2, "all")
    monkeypatch.undo()
    assert [path.name for path in Path(model.log_dir).glob("*.h5*")] == ["mask_rcnn_small_0001.h5"]
    assert not list(Path(model.log_dir).glob("*.partial"))
    assert Path(model.find_last()).read_bytes() == before


@pytest.mark.usefixtures("eagerly")
def test_an_interruption_writes_a_checkpoint_to_go_on_from(first_epoch):
    model = make_model(first_epoch)
    model.load_weights("last", verbose=0)
    interrupt = RaiseInEpoch(1, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        model.train(Rectangles(), None, 0.01, 2, "all", custom_callbacks=[interrupt])
    written = ["mask_rcnn_small_0001.h5", "mask_rcnn_small_0001_interrupted.h5"]
    assert file_names(model.log_dir) == written
    state = optimizer_state.optimizer_state(model.training_model)

    resumed = make_model(first_epoch)
    resumed.load_weights("last", verbose=0)
    assert (resumed.epoch, resumed.log_dir) == (1, model.log_dir)
    assert not changed(values(model), values(resumed))
    watch = Watch()
    resumed.train(Rectangles(), None, 0.01, 2, "all", custom_callbacks=[watch])
    assert watch.epochs == [1]
    assert int(watch.state["iterations"]) == 3
    assert not changed(state, watch.state)
    assert resumed.find_last().endswith("mask_rcnn_small_0002.h5")


@pytest.mark.usefixtures("eagerly")
def test_after_a_crash_training_goes_on_in_its_epoch_with_the_optimizers_state(first_epoch):
    model = make_model(first_epoch)
    model.load_weights("last", verbose=0)
    crash = RaiseInEpoch(1, OverflowError("crash"))
    with pytest.raises(OverflowError, match="crash"):
        model.train(Rectangles(), None, 0.01, 2, "all", custom_callbacks=[crash])
    assert file_names(model.log_dir) == ["mask_rcnn_small_0001.h5"]

    stored = hdf5.read_optimizer(Path(model.find_last()))
    resumed, watch = make_model(first_epoch), Watch()
    resumed.load_weights("last", verbose=0)
    resumed.train(Rectangles(), None, 0.01, 2, "all", custom_callbacks=[watch])
    assert watch.epochs == [1]
    assert int(stored["iterations"]) == SmallConfig.STEPS_PER_EPOCH
    assert stored.keys() == watch.state.keys()
    assert not changed(stored, watch.state)
    assert any(np.any(array) for name, array in stored.items() if name != "iterations")


@pytest.mark.usefixtures("eagerly")
def test_a_resumed_run_ends_where_the_straight_one_does(two_epochs, first_epoch):
    model = make_model(first_epoch)
    model.load_weights("last", verbose=0)
    model.train(Rectangles(), None, 0.01, 2, "all")
    assert model.epoch == 2
    straight = hdf5.read(two_epochs / "mask_rcnn_small_0002.h5")
    start = hdf5.read(two_epochs / "mask_rcnn_small_0001.h5")
    for key, array in values(model).items():
        np.testing.assert_allclose(array, straight[key], atol=1e-5, err_msg=key)
    assert max(np.abs(straight[key] - start[key]).max() for key in start) > 1e-3


def test_heads_over_random_weights_are_warned_about(tmp_path, caplog):
    model = make_model(tmp_path, **RESNET)
    first = model.inference_model.weights[0]
    initial = np.array(first)
    first.assign(initial + 1)
    model.save_weights(tmp_path / "learned.h5")
    first.assign(initial)
    model.set_trainable("all")
    model.trainer._warn_of_random_backbone("all")
    model.set_trainable("heads")
    model.load_weights(tmp_path / "learned.h5", verbose=0)
    model.trainer._warn_of_random_backbone("heads")
    assert caplog.messages == []
    again = make_model(tmp_path, **RESNET)
    again.set_trainable("heads")
    again.trainer._warn_of_random_backbone("heads")
    (message,) = caplog.messages
    assert "layers='heads' trains on top of a frozen backbone with random weights" in message
    assert "--weights coco" in message


@pytest.mark.usefixtures("eagerly")
def test_a_second_training_in_a_folder_is_refused(first_epoch):
    model = make_model(first_epoch)
    model.load_weights("last", verbose=0)
    with runs.locked(Path(model.log_dir)), pytest.raises(runs.RunInUse, match="another training"):
        model.train(Rectangles(), None, 0.01, 2, "all")
    assert file_names(model.log_dir) == ["mask_rcnn_small_0001.h5"]
    model.train(Rectangles(), None, 0.01, 2, "all")
    assert file_names(model.log_dir)[-1] == "mask_rcnn_small_0002.h5"


@pytest.mark.usefixtures("eagerly")
def test_a_training_that_goes_on_in_the_same_program_goes_on_with_its_step(first_epoch):
    model = make_model(first_epoch)
    model.load_weights("last", verbose=0)
    interrupt = RaiseInEpoch(1, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        model.train(Rectangles(), None, 0.01, 2, "all", custom_callbacks=[interrupt])
    state, watch = optimizer_state.optimizer_state(model.training_model), Watch()
    model.train(Rectangles(), None, 0.01, 2, "all", custom_callbacks=[watch])
    assert len(watch.losses) == 1
    assert not changed(state, watch.state)
    assert file_names(model.log_dir) == ["mask_rcnn_small_0001.h5", "mask_rcnn_small_0002.h5"]


@pytest.mark.usefixtures("eagerly")
def test_a_new_run_from_a_checkpoint_starts_at_its_own_beginning(first_epoch):
    model, watch = make_model(first_epoch, STEPS_PER_EPOCH=1), Watch()
    model.load_weights("last", verbose=0)
    model.set_log_dir()
    model.train(Rectangles(), None, 0.01, 1, "all", custom_callbacks=[watch])
    assert watch.epochs == [0]
    assert not any(np.any(array) for array in watch.state.values())


def test_training_to_an_epoch_that_is_finished_says_so_and_changes_nothing(first_epoch, caplog):
    model = make_model(first_epoch)
    model.load_weights("last", verbose=0)
    before = values(model)
    history = model.train(Rectangles(), None, 0.01, 1, "all").history
    assert history == {}
    assert "nothing to train: epochs=1" in caplog.text
    assert "the weights are of epoch 1" in caplog.text
    assert not changed(before, values(model))
    assert model.epoch == 1


@pytest.mark.usefixtures("eagerly")
def test_too_many_bad_images_in_the_middle_are_the_error_itself(tmp_path):
    dataset = Rectangles(12)
    model = make_model(tmp_path, STEPS_PER_EPOCH=8)

    class SpoilData(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            del batch, logs
            dataset.bad = range(12)

    with pytest.raises(RuntimeError, match=r"of 12 images cannot be used, more than a tenth"):
        model.train(dataset, None, 0.01, 1, "all", custom_callbacks=[SpoilData()])


@pytest.mark.parametrize("bad", [(2, 7), range(12)])
def test_too_many_bad_images_from_the_start_are_the_error_itself(tmp_path, bad):
    config = SmallConfig().replace(IMAGES_PER_GPU=12)
    model = MaskRCNN("training", config, tmp_path)
    with pytest.raises(RuntimeError, match=r"2 of 12 images cannot be used.*is broken"):
        model.train(Rectangles(12, bad), None, 0.01, 1, "all")


@pytest.mark.usefixtures("eagerly")
def test_a_single_bad_image_is_skipped_and_counted(tmp_path, capsys, caplog):
    model = make_model(tmp_path, IMAGES_PER_GPU=6)
    with caplog.at_level(logging.WARNING, "mrcnn"):
        model.train(Rectangles(12, bad=(3,)), None, 0.01, 1, "all")
    assert "1 bad images were skipped" in capsys.readouterr().out
    assert caplog.messages == ["skipped image 3 (3.png): OSError: 3.png is broken"]


def test_validation_is_one_pass_at_most():
    config = SmallConfig().replace(VALIDATION_STEPS=50)
    stream = fitting.validation_stream(Rectangles(5), config)
    shown = [int(number) for batch in stream for number in batch["input_image_meta"][:, 0]]
    assert shown == [0, 1, 2, 3, 4, 0]


def test_a_file_that_the_system_cuts_short_is_a_failure_to_write_it(network, tmp_path):
    resource = pytest.importorskip("resource")
    path = tmp_path / "mask_rcnn_small_0001.h5"
    hdf5.save(path, network.inference, {"epoch": 1})
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Unlike a full disk this can be had in a test; HDF5 fails in the same places.
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        with pytest.raises(OSError, match=r"0001\.h5: the checkpoint could not be written"):
            hdf5.save(path, network.inference, {"epoch": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == before


@pytest.mark.usefixtures("eagerly", "detecting_eagerly")
def test_names_of_classes_come_from_the_data_and_others_are_warned_about(tmp_path, caplog):
    class Unnamed(SmallConfig):
        CLASS_NAMES = ()
        STEPS_PER_EPOCH, VALIDATION_STEPS = 1, 0

    dataset = Rectangles()
    model = MaskRCNN("training", Unnamed(), tmp_path)
    model.train(dataset, None, 0.001, 1, "all")
    assert [record for record in caplog.records if record.name.startswith("mrcnn")] == []
    again = MaskRCNN.from_checkpoint("last", model_dir=tmp_path)
    assert again.config.CLASS_NAMES == ("BG", "dark", "bright")
    dataset.class_info[1]["name"] = "dog"
    dataset.prepare()
    again.evaluate(dataset, verbose=0, limit=1)
    assert "['BG', 'dog', 'bright']" in caplog.messages[0]


@pytest.mark.usefixtures("eagerly")
def test_classes_without_data_are_warned_about(tmp_path, caplog):
    config = SmallConfig().replace(
        NUM_CLASSES=4, CLASS_NAMES=(), STEPS_PER_EPOCH=1, VALIDATION_STEPS=0
    )
    MaskRCNN("training", config, tmp_path).train(Rectangles(), None, 0.001, 1, "all")
    assert "NUM_CLASSES is 4, but the dataset has 3" in caplog.messages[0]


@pytest.mark.parametrize(
    ("settings", "step", "text"),
    [
        ({}, 0, "0.01"),
        ({"WARMUP_STEPS": 10}, 0, "0.001 (of 0.01, by warm-up or drops)"),
        ({"WARMUP_STEPS": 10}, 10, "0.01"),
        ({"LEARNING_RATE_DROPS": (2, 3)}, 6, "0.0001 (of 0.01, by warm-up or drops)"),
    ],
)
def test_the_rate_that_is_shown_is_the_one_that_acts(settings, step, text):
    optimizer = optimizers.make_optimizer(SmallConfig().replace(**settings), 0.01, 0.9)
    optimizer.iterations.assign(step)
    assert optimizers.describe_rate(optimizer, 0.01) == text
